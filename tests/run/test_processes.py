import pytest
import torch

from scripts.run import processes
from scripts.run.processes import limit_threads, partition


def test_partition_is_complete_disjoint_in_order_and_unpadded():
    cases = [{"case": str(i)} for i in range(7)]
    shares = [partition(cases, rank, 3) for rank in range(3)]
    assert [len(share) for share in shares] == [3, 2, 2]
    assert sorted(c["case"] for share in shares for c in share) == [c["case"] for c in cases]
    assert all([int(c["case"]) for c in s] == sorted(int(c["case"]) for c in s) for s in shares)
    assert [partition(cases[:2], rank, 3) for rank in range(3)] == [cases[:1], cases[1:2], []]
    assert partition(cases) == cases


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
