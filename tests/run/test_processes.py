import os

import pytest
import torch

from scripts.run import processes
from scripts.run.processes import INTERFACE_OF, LOOPBACK, limit_threads, partition, stay_on_loopback


def test_partition_is_complete_disjoint_in_order_and_unpadded():
    cases = [{"case": str(i)} for i in range(7)]
    shares = [partition(cases, rank, 3) for rank in range(3)]
    assert [len(share) for share in shares] == [3, 2, 2]
    assert sorted(c["case"] for share in shares for c in share) == [c["case"] for c in cases]
    assert all([int(c["case"]) for c in s] == sorted(int(c["case"]) for c in s) for s in shares)
    assert [partition(cases[:2], rank, 3) for rank in range(3)] == [cases[:1], cases[1:2], []]
    assert partition(cases) == cases


@pytest.mark.parametrize(
    ("started", "expected"),
    [
        ({"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}, LOOPBACK),
        ({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}, (None,)),  # on two machines
        ({"WORLD_SIZE": "2"}, (None,)),  # not by torchrun: where they are is unknown
        ({"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", **dict.fromkeys(INTERFACE_OF, "eth7")}, ("eth7",)),
    ],
)
def test_processes_on_one_machine_connect_by_loopback(monkeypatch, started, expected):
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", *INTERFACE_OF):
        monkeypatch.delenv(name, raising=False)
    for name, value in started.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "environ", dict(os.environ))  # what is set must not outlive this test
    stay_on_loopback()
    assert all(os.environ.get(name) in expected for name in INTERFACE_OF)


@pytest.mark.parametrize(
    ("environment", "cores", "before", "after"),
    [({}, 2, 8, 2), ({}, 16, 8, 8), ({"OMP_NUM_THREADS": "8"}, 2, 8, 8)],
)
def test_torch_gets_no_more_threads_than_cores_unless_the_environment_says_so(
    monkeypatch, environment, cores, before, after
):
    number = [before]
    monkeypatch.setattr(processes.os, "environ", environment)
    monkeypatch.setattr(processes, "usable_cores", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: number[-1])
    monkeypatch.setattr(torch, "set_num_threads", number.append)
    limit_threads()
    assert number[-1] == after
