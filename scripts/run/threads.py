"""Threads of the processor: how many a run may use, settings that must be made before torch is loaded, a hint.

Threads of OpenMP that wait for each other spin for a while, in the hope that it is not long. On a machine with other
work it is: one thread of a step has no core, the others spin in its place, and a scan takes many times as long.
"""

import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

POLICY, SPIN = "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"
NUMBERS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# GNU's OpenMP, that of torch on Linux, puts SPIN above POLICY. Seconds of a phantom of 40 x 40 x 30 / 96 x 96 x 60
# voxels, two threads on two cores, alone and with the other core busy:
#     turns of spinning   alone         other core busy
#     none (PASSIVE)      0.86 / 3.81   0.75 /  5.0
#     1,000               0.52 / 3.1    1.03 /  5.83
#     10,000              0.46 / 3.06   2.25 / 11.3
#     100,000             0.42 / 2.86   3.14 / 30.9
#     one thread          0.64 / 4.84   0.69 /  4.82
# 1,000 keep most of the speed on an idle machine; on a busy one they cost 1.2 to 1.7 times the time of one thread.
WAITING = {POLICY: "PASSIVE", SPIN: "1000", "KMP_BLOCKTIME": "0"}  # the last: LLVM's and Intel's OpenMP, in ms
SHORTEST_SECONDS = 10.0  # of computing; below it a hint is not worth a line
SMALLEST_SHARE = 0.7  # of the wall time that a computing thread has a core on a machine without much other work


def waiting_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return environment variables that let threads that wait soon sleep.

    They act only where they are set before torch is loaded.

    Args:
        environment: that of the process; what is set in it stays, and so does a policy of waiting without a spin count.

    >>> waiting_settings({"OMP_WAIT_POLICY": "ACTIVE"})
    {'KMP_BLOCKTIME': '0'}
    """
    settings = {name: value for name, value in WAITING.items() if name not in environment}
    if POLICY in environment:
        settings.pop(SPIN, None)
    return settings


def thread_settings(environment: Mapping[str, str], threads: int | None = None) -> dict[str, str]:
    """Return environment variables that give a process the right number of threads, which soon sleep when they wait.

    They act only where they are set before torch is loaded.

    Args:
        environment: that of the process; what is set in it stays, as by `waiting_settings`.
        threads: how many; None: as it says, else `usable_cores`.

    >>> sorted(thread_settings({"OMP_NUM_THREADS": "3", "KMP_BLOCKTIME": "200"}).items())
    [('GOMP_SPINCOUNT', '1000'), ('OMP_WAIT_POLICY', 'PASSIVE')]
    >>> thread_settings({"OMP_NUM_THREADS": "3"}, threads=2)["OMP_NUM_THREADS"]
    '2'
    """
    settings = waiting_settings(environment)
    if threads is not None:
        return settings | dict.fromkeys(NUMBERS, str(threads))
    return settings if NUMBERS[0] in environment else {**settings, NUMBERS[0]: str(usable_cores())}


def usable_cores(root: Path = Path("/")) -> int:
    """Return how many cores this process may use: of its CPU affinity, and no more than its control groups allow.

    The two hardware threads of a core count once, as torch counts them: convolutions gain nothing from the second.

    Args:
        root: where /proc and /sys lie.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len({_siblings(cpu, root) for cpu in os.sched_getaffinity(0)})
    else:  # macOS and Windows
        cores = os.cpu_count() or 1
    return max(1, math.ceil(min([cores, *_quotas(root)])))


def _siblings(cpu: int, root: Path) -> str:
    """The hardware threads of a CPU's core, as the kernel lists them."""
    try:
        return (root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text(encoding="ascii")
    except OSError:
        return str(cpu)


def _quotas(root: Path) -> Iterator[float]:
    """CPUs that each control group of this process allows: its own and those above it, version 2 or 1."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number != "0" and "cpu" not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" / ("" if number == "0" else "cpu")
        for folder in {base, *(base / part for part in (Path(path.lstrip("/")), *Path(path.lstrip("/")).parents))}:
            files = ("cpu.max",) if number == "0" else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            try:
                quota, period = " ".join((folder / file).read_text(encoding="ascii") for file in files).split()
            except (OSError, ValueError):  # not there: a group above it may be, as in a container
                continue
            if quota.lstrip("-").isdigit() and int(quota) > 0 and int(period) > 0:  # "max" and -1: no limit
                yield int(quota) / int(period)


class ComputingTime:
    """Measure what share of the wall time the calling thread had a core while it computed.

    Used as a context, as often as there is something to compute.

    >>> computing = ComputingTime()
    >>> with computing:
    ...     _ = sum(range(1000))
    >>> computing.hint(threads=2, environment={}) is None  # it was too short
    True
    """

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def __enter__(self) -> "ComputingTime":
        """Start the clocks."""
        self._began = time.perf_counter(), time.thread_time()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the clocks."""
        self.wall += time.perf_counter() - self._began[0]
        self.cpu += time.thread_time() - self._began[1]

    def hint(self, threads: int, environment: Mapping[str, str]) -> str | None:
        """Return one line where several spinning threads shared their cores with other programs, else None.

        Args:
            threads: of torch.
            environment: of this process.
        """
        busy = self.wall > SHORTEST_SECONDS and self.cpu < SMALLEST_SHARE * self.wall
        if not busy or threads == 1 or environment.get(POLICY, "").lower() == "passive":
            return None
        return (
            f"other programs kept the processor busy ({self.wall:.0f} s for {self.cpu:.0f} s of computing), and "
            f"{threads} threads that wait for each other lose most by it: set {POLICY}=PASSIVE and "
            f"{SPIN}={WAITING[SPIN]} in the environment; the command glade does, and import glade before import torch"
        )
