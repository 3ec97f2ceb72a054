import os
import sys
from pathlib import Path

import monai.bundle
import pytest

from scripts.run import threads
from scripts.run.threads import ComputingTime, thread_settings, usable_cores

from ..data.thick_scans import write_scan
from ..workflows.tiny_inference import write_config


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of four cores with two hardware threads each, of which this process may use what `allow` says."""

    def allow(cpus: set[int], **files: str) -> Path:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: cpus, raising=False)
        for cpu in range(8):
            write(f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", f"{cpu % 4},{cpu % 4 + 4}\n")
        for name, text in files.items():
            write(name, text)
        return tmp_path

    def write(name: str, text: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    return allow


def test_the_two_hardware_threads_of_a_core_count_once(machine):
    assert usable_cores(machine(set(range(8)))) == 4
    assert usable_cores(machine({0, 4})) == 1
    assert usable_cores(machine({0, 1, 4})) == 2


V1 = {"proc/self/cgroup": "3:cpuset:/\n1:cpu,cpuacct:/job/step\n"}
V2 = {"proc/self/cgroup": "0::/job/step\n"}


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({**V2, "sys/fs/cgroup/job/step/cpu.max": "200000 100000\n"}, 2),
        ({**V2, "sys/fs/cgroup/job/step/cpu.max": "max 100000\n", "sys/fs/cgroup/job/cpu.max": "150000 100000\n"}, 2),
        ({**V2, "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),  # a container sees its own group as the topmost
        ({**V2, "sys/fs/cgroup/job/step/cpu.max": "900000 100000\n"}, 4),
        ({**V2, "sys/fs/cgroup/job/step/cpu.max": "damaged\n"}, 4),
        (
            {
                **V1,
                "sys/fs/cgroup/cpu/job/step/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu/job/step/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        (
            {
                **V1,
                "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
        ({}, 4),
    ],
)
def test_control_groups_limit_the_cores(machine, files, cores):
    assert usable_cores(machine(set(range(8)), **files)) == cores


def test_a_system_without_affinity_counts_its_cpus(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert usable_cores(tmp_path) == 3


def test_settings_of_the_user_stay_unless_the_number_of_threads_is_given(monkeypatch):
    monkeypatch.setattr(threads, "usable_cores", lambda: 6)
    waiting = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "0"}
    assert thread_settings({}) == {**waiting, "OMP_NUM_THREADS": "6"}
    assert thread_settings({"GOMP_SPINCOUNT": "9"}) == {
        "OMP_WAIT_POLICY": "PASSIVE",
        "KMP_BLOCKTIME": "0",
        "OMP_NUM_THREADS": "6",
    }
    own = {"OMP_WAIT_POLICY": "active", "KMP_BLOCKTIME": "200", "OMP_NUM_THREADS": "3"}
    assert thread_settings(own) == {}
    assert {*thread_settings(own, threads=2).values()} == {"2"}


def test_a_hint_is_given_only_where_spinning_threads_shared_their_cores():
    computing = ComputingTime()
    computing.wall, computing.cpu = 60.0, 24.0
    assert "60 s for 24 s of computing" in computing.hint(2, {})
    assert computing.hint(1, {}) is None
    assert computing.hint(2, {"OMP_WAIT_POLICY": "passive"}) is None
    computing.cpu = 55.0
    assert computing.hint(2, {}) is None
    computing.wall, computing.cpu = 3.0, 1.0
    assert computing.hint(2, {}) is None


def test_a_run_ends_with_the_hint(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("sys.path", list(sys.path))
    monkeypatch.setattr(ComputingTime, "hint", lambda self, *_: f"busy for {self.wall > 0}")
    write_scan(tmp_path / "scan.nii.gz")
    settings = {"dataset_dir": str(tmp_path / "scan.nii.gz"), "output_dir": str(tmp_path / "out"), "sharpness": 0.0}
    monai.bundle.run("inference", config_file=write_config(tmp_path), logging_file=False, **settings)
    assert "busy for True" in caplog.text
