"""Locks of cases: no two processes work on one case, and a note of each that was begun outlives a killed process."""

import errno
import json
import logging
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import ignite.distributed as idist
from filelock import FileLock, Timeout

from ..geometry.errors import Refusal

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)  # a file system without locks

logger = logging.getLogger(__name__)


class OutputLock:
    """An operating system's lock on a file, which ends with the process; on a file system without locks, a warning.

    Args:
        path: the file, which is made where it is missing.

    Attributes:
        held: whether this process has the lock.
    """

    warned = False  # once for each process

    def __init__(self, path: Path):
        self.path, self.held = path, False
        self._lock = FileLock(path, thread_local=False, fallback_to_soft=False)

    def acquire(self, wait: bool = True) -> bool:
        """Take the lock; return False where another process has it and `wait` is False.

        Raises:
            OSError: if the file cannot be made.
        """
        try:
            self._lock.acquire(blocking=wait)
        except Timeout:
            return False
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            if not OutputLock.warned:
                OutputLock.warned = True
                logger.warning(
                    "the file system of %s has no locks (%s): let no two runs write there at a time",
                    self.path.parent.parent.name,
                    error.strerror,
                )
        self.held = True
        return True

    def release(self) -> None:
        """Give the lock back; without effect where it is not held."""
        self._lock.release()
        self.held = False

    def end(self) -> None:
        """Give the lock back and remove its file."""
        with suppress(OSError):  # OUT may have been removed
            self.path.unlink()  # while it is held: who waits for it sees that and makes a new file
        self.release()

    def __enter__(self) -> "OutputLock":
        """Wait for the lock."""
        self.acquire()
        return self

    def __exit__(self, *_) -> None:
        """Give the lock back."""
        self.release()


class CaseLock(OutputLock):
    """The lock of a case. Its file says who began the case; it stays until `end`, so also if that process is killed.

    Args:
        folder: of the rows.
        name: of the case.
    """

    def __init__(self, folder: Path, name: str):
        super().__init__(lock_file(folder, name))

    def holder(self) -> str:
        """Return which process has the lock, for messages."""
        note = self._note()
        return f"process {note.get('process', '?')} on {note.get('host', '?')}"

    def tries(self, work: str) -> int:
        """Return how many processes were killed while they had the lock and did the same work.

        Args:
            work: hash of the input, settings and weights.
        """
        note = self._note()
        return int(note.get("tries", 1)) if note.get("work") == work else 0

    def begin(self, work: str, tries: int) -> None:
        """Note that this process begins the case, as the try of this number."""
        note = {"process": os.getpid(), "host": socket.gethostname(), "work": work, "tries": tries}
        self.path.write_text(json.dumps(note), encoding="utf-8")

    def _note(self) -> dict:
        try:
            note = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # killed before it was written
            return {}
        return note if isinstance(note, dict) else {}


def run_alone(folder: str, run: Callable[[], object]) -> None:
    """Run a training whose files are in a folder, with a lock on the folder; in processes but the first, without.

    Args:
        folder: its output_dir; made where it is missing.
        run: the call that trains.

    Raises:
        Refusal: if another process trains in this folder, or the folder cannot be written to.
    """
    if idist.get_rank() > 0:
        run()
        return
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        lock = OutputLock(Path(folder) / ".lock")
        is_alone = lock.acquire(wait=False)
    except OSError as error:
        raise Refusal(f"{folder} cannot be written to ({error.strerror}): give another --output_dir") from error
    if not is_alone:
        raise Refusal(f"{folder}: another process is training there: wait for its end, or give another --output_dir")
    try:
        run()
    finally:
        lock.end()


def lock_file(folder: Path, name: str) -> Path:
    """Return the file that is the lock of a case."""
    return folder / f"{name}.lock"
