"""What the fuzzing of DICOM and NIfTI share: mutations of bytes, and a worker process that may die.

Required of each mutated file: no crash, at most 5 s of processor time and 2 GiB of memory, and a refusal of one line or
a whole volume.
"""

import multiprocessing
import multiprocessing.connection
import os
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .memory import peak_bytes

HANG_S = 5.0
"""Longest processor time of one file; wall time would count other work of a busy machine."""
PATIENCE_S = 120.0
"""Wall time after which the worker is taken to hang."""
MEMORY_BYTES = 2 * 2**30
READ, SHORT = "read", "SHORT"
"""Outcomes: a whole volume; a volume that lacks a slice without a word."""

Mutation = Callable[[bytes, random.Random], bytes]


def truncated(data: bytes, chance: random.Random) -> bytes:
    """Cut the file off anywhere."""
    return data[: chance.randrange(len(data))]


def flipped(data: bytes, chance: random.Random) -> bytes:
    """Replace 1 to 64 bytes, in half of the cases within the header."""
    damaged = bytearray(data)
    end = len(data) if chance.random() < 0.5 else min(len(data), 3000)
    for _ in range(2 ** chance.randrange(7)):
        damaged[chance.randrange(end)] = chance.randrange(256)
    return bytes(damaged)


def cut(data: bytes, chance: random.Random) -> bytes:
    """Remove a piece of the file."""
    start = chance.randrange(min(132, len(data) - 1), len(data))
    return data[:start] + data[start + chance.randrange(1, 200) :]


def repeated(data: bytes, chance: random.Random) -> bytes:
    """Repeat a piece of the file."""
    start = chance.randrange(min(132, len(data) - 1), len(data))
    end = start + chance.randrange(1, 400)
    return data[:end] + data[start:]


BYTE_MUTATIONS: list[Mutation] = [truncated, flipped, flipped, cut, repeated]


def mutate(
    data: bytes, chance: random.Random, usual: list[Mutation], rare: list[Mutation] | None = None
) -> tuple[str, bytes]:
    """Return the name and the result of a random mutation; `flipped` where the chosen one does not apply."""
    mutation = chance.choice(rare) if rare and chance.random() < 0.05 else chance.choice(usual)
    try:
        return mutation.__name__, mutation(data, chance)
    except Exception:  # noqa: BLE001 - not every mutation applies to every file; flipped bytes always do
        return flipped.__name__, flipped(data, chance)


def worker(pipe: multiprocessing.connection.Connection, examine: Callable[[str], str]) -> None:
    """Examine the paths received from a pipe; send back the outcome, peak memory and processor seconds."""
    resource.setrlimit(resource.RLIMIT_AS, (4 * MEMORY_BYTES, 4 * MEMORY_BYTES))
    while path := pipe.recv():
        start = time.process_time()
        try:
            outcome = examine(path)
        except Exception as error:  # noqa: BLE001 - whatever a mutated file causes is an outcome to count
            outcome = f"UNEXPECTED {type(error).__name__}: {error}"
        seconds = time.process_time() - start
        pipe.send((outcome, peak_bytes(), seconds))


class Examiner:
    """A worker process that is replaced when it dies or hangs.

    Args:
        examine: takes a path; returns `READ`, `SHORT` or the refusal.
        sound: an undamaged file, with which each process starts, so that imports are not counted.
    """

    def __init__(self, examine: Callable[[str], str], sound: str) -> None:
        self.examine, self.sound = examine, sound
        self.start()

    def start(self) -> None:
        """Start a new process."""
        self.pipe, other = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(target=worker, args=(other, self.examine), daemon=True)
        self.process.start()
        other.close()
        self.pipe.send(self.sound)
        self.pipe.recv()

    def __call__(self, path: str) -> tuple[str, int, float]:
        """Return outcome, peak memory in bytes and processor seconds for one file."""
        self.pipe.send(path)
        try:
            if self.pipe.poll(PATIENCE_S):
                return self.pipe.recv()
            outcome = f"HANG over {PATIENCE_S} s"
        except EOFError:
            outcome = f"CRASH {self.process.exitcode}"
        self.process.kill()
        self.process.join()
        self.start()
        return outcome, 0, PATIENCE_S

    def stop(self) -> None:
        """End the process."""
        self.pipe.send("")
        self.process.join()


@dataclass
class Tally:
    """What became of the mutated files.

    Attributes:
        read: number of those read as whole volumes.
        kinds: number of files of each mutation.
        bad: a line for each file that broke a requirement.
    """

    read: int = 0
    count: int = 0
    slowest: float = 0.0
    peak: int = 0
    base: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)

    def add(self, kind: str, data: bytes, found: tuple[str, int, float]) -> None:
        """Count a file; one that broke a requirement is kept in the folder for temporary files."""
        outcome, memory, seconds = found
        if seconds > HANG_S and not outcome.startswith("CRASH"):
            outcome = f"HANG: {outcome}"
        self.base = self.base or memory
        self.kinds[kind] += 1
        self.read += outcome == READ
        self.slowest, self.peak = max(self.slowest, seconds), max(self.peak, memory)
        if outcome.startswith(("UNEXPECTED", "HANG", "CRASH", SHORT)) or memory > MEMORY_BYTES:
            self.bad.append(f"{self.count} {kind}: {outcome} ({memory >> 20} MiB, {seconds:.2f} s)")
            (Path(tempfile.gettempdir()) / f"fuzz_{os.getpid()}_{self.count}").write_bytes(data)
        self.count += 1

    def report(self, seeds: int) -> int:
        """Print the counts; return the exit code: 1 where a file broke a requirement."""
        refused = self.count - self.read - len(self.bad)
        sys.stdout.write(
            f"{self.count} files from {seeds} seeds: {self.read} read, {refused} refused, {len(self.bad)} bad; "
            f"slowest {self.slowest:.2f} s, peak memory {self.peak >> 20} MiB (at start {self.base >> 20} MiB)\n"
            f"mutations: {dict(sorted(self.kinds.items()))}\n" + "".join(f"BAD {line}\n" for line in self.bad)
        )
        return int(bool(self.bad))
