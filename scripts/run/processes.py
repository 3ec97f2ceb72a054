"""Several processes started by torchrun: which cases each takes, and how processes that train together meet."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import ignite.distributed as idist
import torch
from monai.data import partition_dataset

from ..geometry.errors import Refusal
from .threads import NUMBERS, usable_cores

LOOPBACK = ("lo", "lo0")  # on Linux and macOS
INTERFACE_OF = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
TIMEOUT = timedelta(days=7)  # a process that has finished waits for the slowest one, whatever that takes


def partition(cases: list, rank: int | None = None, world_size: int | None = None) -> list:
    """Return this process's share of the cases, without padding, in order.

    Args:
        cases: all cases, the same list in every process.
        rank: number of this process; None: as torchrun (or whoever made the process group) numbered it.
        world_size: number of processes; None: likewise.

    >>> partition(["a", "b", "c"], rank=1, world_size=2)
    ['b']
    """
    if rank is None or world_size is None:
        rank, world_size = join_ranks()
    if len(cases) < world_size:  # partition_dataset raises here; some processes simply have nothing to do
        return cases[rank : rank + 1]
    return partition_dataset(cases, num_partitions=world_size, shuffle=False, even_divisible=False)[rank]


def join_ranks() -> tuple[int, int]:
    """Return rank and number of processes; joins the process group where torchrun started this process (gloo, CPU).

    Processes that run inference share only the list of cases and the last merge of the record.
    """
    if idist.get_world_size() == 1 and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        stay_on_loopback()
        idist.initialize("gloo", timeout=TIMEOUT)
        name_rank_in_log()
    return idist.get_rank(), idist.get_world_size()


def name_rank_in_log() -> None:
    """Write this process's rank into its lines on the console, which torchrun mixes with those of the others."""
    line = f"%(asctime)s rank {idist.get_rank()} %(levelname)s %(message)s"
    for handler in logging.getLogger().handlers:
        handler.setFormatter(logging.Formatter(line, datefmt="%H:%M:%S"))


def stay_on_loopback() -> None:
    """Let gloo and NCCL connect the processes by the loopback interface where all of them run on this machine.

    They would listen on the address of the host's name otherwise, without any access control. An interface that the
    user has set is kept, and so is what libraries choose for processes on several machines. torchrun's own two ports
    are open on all interfaces whatever is set here (SECURITY.md).
    """
    here = os.environ.get("LOCAL_WORLD_SIZE")
    loopback = next((name for _, name in socket.if_nameindex() if name in LOOPBACK), None)
    if loopback is not None and here is not None and here == os.environ.get("WORLD_SIZE"):
        for variable in INTERFACE_OF:
            os.environ.setdefault(variable, loopback)


def limit_threads() -> None:
    """Let torch use no more threads than this process may use cores, where the environment does not set their number.

    Torch itself respects the CPU affinity but not the limits of control groups, by which containers share a machine.
    """
    if NUMBERS[0] not in os.environ:
        torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))


def join_training() -> torch.device:
    """Join the processes that train together (NCCL with a GPU each, else gloo) and return this one's device.

    Raises:
        Refusal: if torchrun did not start this process.
    """
    if "LOCAL_RANK" not in os.environ:
        raise Refusal("configs/multi_gpu.yaml needs torchrun: torchrun --nproc_per_node=N -m monai.bundle run ...")
    if idist.backend() is None:
        stay_on_loopback()
        idist.initialize("nccl" if torch.cuda.is_available() else "gloo")
        name_rank_in_log()
    return torch.device("cuda", int(os.environ["LOCAL_RANK"])) if torch.cuda.is_available() else torch.device("cpu")


@contextmanager
def ends_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end this process as Ctrl-C does, so that files in hand are tidied up; then by the signal after all.

    A batch system or torchrun that ends a process this way is not a process killed over its case. Without effect
    outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    received = []

    def stop(number, _):
        received.append(number)
        signal.signal(number, signal.SIG_IGN)  # once is enough
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except SystemExit:
        if not received:
            raise
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
