"""How work ends before it is done: a deadline for each request, and SIGTERM or Ctrl-C for the server.

Python cannot stop a thread from outside, so the request in hand asks `Deadline.check` before each step and each call of
the network. What does not ask in time is ended with the process.
"""

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType

import torch

from .glue import RequestError

STOP_WITHIN_S = 5.0  # after SIGTERM
STOPPED = threading.Event()  # set by SIGTERM or Ctrl-C


class Deadline:
    """The time by which a request has to be done.

    Args:
        seconds: from now on.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.end = time.monotonic() + seconds

    def check(self, data: object = None) -> object:
        """Return the data unchanged, so that this is also a step of a pipeline.

        Raises:
            RequestError: 503, if the time is over or the server is being stopped.
        """
        if STOPPED.is_set():
            raise RequestError(503, "the server is being stopped: send the request again later")
        if time.monotonic() > self.end:
            raise RequestError(
                503,
                f"not done within {self.seconds:g} s: ask for larger voxels (isotropic_spacing_mm), one view or one "
                f"rotation, or start the server with a larger --deadline",
            )
        return data

    def between(self, steps: Iterable[Callable]) -> list[Callable]:
        """Return the steps with a check before each."""
        return [part for step in steps for part in (self.check, step)]


class Checked(torch.nn.Module):
    """A network that checks a deadline whenever it is called.

    Args:
        network: the network.
        deadline: the deadline.
    """

    def __init__(self, network: torch.nn.Module, deadline: Deadline):
        super().__init__()
        self.network, self.deadline = network, deadline
        self.spatial_dims = getattr(network, "spatial_dims", 2)

    def folded(self) -> "Checked":
        """Return the same of the network as `OrthogonalInferer` folds it."""
        return Checked(self.network.folded(), self.deadline)

    def forward(self, *args: torch.Tensor, **kwargs: torch.Tensor) -> torch.Tensor:
        """As the network."""
        self.deadline.check()
        return self.network(*args, **kwargs)


def heed_signals() -> None:
    """Let SIGTERM and Ctrl-C set `STOPPED` too, beside what the server does then: it waits for the request in hand."""
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)

        def stop(received: int, frame: FrameType | None, before=before) -> None:
            STOPPED.set()
            before(received, frame)

        signal.signal(number, stop)


def end_with(work: Path) -> None:
    """Start a thread that ends this process `STOP_WITHIN_S` after `STOPPED`, and removes the private folder first."""

    def end() -> None:
        STOPPED.wait()
        time.sleep(STOP_WITHIN_S)
        shutil.rmtree(work, ignore_errors=True)
        os._exit(0)

    threading.Thread(target=end, daemon=True).start()
