"""The rows of a run's record: a file for each case, and summary.json made of all of them."""

import json
import logging
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..data.case import SUMMARY
from ..geometry.errors import Refusal
from ..geometry.files import atomic_file, remove_temporary, temporary_names, write_json
from .locks import CaseLock, OutputLock, lock_file

ROWS = ".glade"
DONE, REFUSED, FAILED = "done", "refused", "failed"
FEW = 100  # rows of which summary.json is made anew whenever a case ends
SHARE = 0.02  # of the time of a run that may be spent on it where there are more

logger = logging.getLogger(__name__)


class Rows:
    """The rows in an output folder, OUT/.glade/<case>.json, and OUT/summary.json.

    Reading all rows takes a time that grows with their number. So summary.json is made at the end of a run, and in
    between when a case ends, as long as there are few rows or little of the run's time goes into it.

    Args:
        output_dir: OUT.
    """

    def __init__(self, output_dir: Path):
        self.output_dir, self.folder, self.summary = output_dir, output_dir / ROWS, output_dir / SUMMARY
        self._written: set[str] = set()
        self._next_merge = 0.0  # time from which summary.json may be made again

    def open(self) -> None:
        """Make the folder, and tidy up what killed processes left in OUT.

        Raises:
            Refusal: if it cannot be made or written to.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder) as probe:
                probe.write(b"\n")
            self._tidy()
        except OSError as error:
            raise Refusal(
                f"the output folder {self.output_dir} cannot be written to ({error.strerror}): give another one"
            ) from error

    def is_begun(self, case: str) -> bool:
        """Whether a process has the case in hand, or was killed over it."""
        return lock_file(self.folder, case).exists()

    def lock(self, case: str) -> CaseLock:
        """Return the lock of a case, not taken."""
        return CaseLock(self.folder, case)

    def read(self, case: str) -> dict | None:
        """Return the row of a case; None where there is none that is whole."""
        return _parsed(_text(self._file(case)))

    def write(self, case: str, row: Mapping) -> None:
        """Write the row of a case.

        Raises:
            OSError: if it cannot be written.
        """
        write_json(self._file(case), row)
        self._written.add(case)

    def missing(self) -> int:
        """Return how many of the rows that were written here are not there any more."""
        return sum(not self._file(case).is_file() for case in self._written)

    def replacing(self, case: str, row: Mapping) -> None:
        """Write a row that says that the files of a done case are being replaced; nothing says "done" until they are.

        Raises:
            OSError: if it cannot be written; then the files must not be replaced.
        """
        self.write(case, row)
        with self._lock():
            if self._is_due():
                self._merge()
            else:
                self.summary.unlink(missing_ok=True)  # it says "done", and to make it anew takes too long

    def merge(self, always: bool = True) -> bool:
        """Make summary.json of all rows in OUT; processes that do so at the same time wait for one another.

        Args:
            always: False: only if it is due.

        Returns:
            False if it could not be written.
        """
        try:
            if always or self._is_due():
                with self._lock():
                    self._merge()
        except OSError as error:
            logger.error("%s cannot be written: %s", SUMMARY, error.strerror)
            return False
        return True

    def _merge(self) -> None:
        begun, counts = time.monotonic(), Counter()
        with (
            atomic_file(self.summary) as temporary,
            temporary.open("w", encoding="utf-8") as file,
            tempfile.TemporaryFile("w+", encoding="utf-8") as cases,  # whose number is known when all are read
        ):
            for text, status in self.all():
                cases.write(",\n" if counts else "\n")
                cases.write("  " + text.rstrip().replace("\n", "\n  "))  # each row has been indented already
                counts[status] += 1
            file.write(json.dumps({"counts": dict(sorted(counts.items())), "cases": []}, indent=1)[: -len("]\n}")])
            cases.seek(0)
            shutil.copyfileobj(cases, file)
            file.write("\n ]\n}\n" if counts else "]\n}\n")
        now = time.monotonic()
        self._next_merge = now + (now - begun) / SHARE if counts.total() > FEW else 0.0

    def _is_due(self) -> bool:
        return time.monotonic() >= self._next_merge

    def all(self) -> Iterator[tuple[str, str]]:
        """Yield the text and the status of each row, by name of the case."""
        for path in sorted(self.folder.glob("*.json")):
            text = _text(path)
            row = _parsed(text)
            if row is not None:
                yield text, row["status"]

    def _tidy(self) -> None:
        """Remove what killed processes left of the writing of results, rows and summary.json."""
        for path, name in temporary_names(self.output_dir).items():
            if name != SUMMARY:
                self._tidy_case(path, name)
        for path, name in temporary_names(self.folder).items():
            self._tidy_case(path, name.removesuffix(".json"))
        with self._lock():
            for path, name in temporary_names(self.output_dir).items():
                if name == SUMMARY:
                    remove_temporary(path)

    def _tidy_case(self, path: Path, case: str) -> None:
        was_begun, lock = self.is_begun(case), self.lock(case)
        if lock.acquire(wait=False):  # else a process is writing it at this moment
            remove_temporary(path)
            lock.release() if was_begun else lock.end()

    def _lock(self) -> OutputLock:
        return OutputLock(self.folder / ".lock")

    def _file(self, case: str) -> Path:
        return self.folder / f"{case}.json"


def _text(path: str | os.PathLike) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError):  # no row, or no text
        return ""


def _parsed(text: str) -> dict | None:
    """The row, or None where it is not one of ours: the case counts as not done."""
    try:
        row = json.loads(text)
    except ValueError:
        return None
    return row if isinstance(row, dict) and row.get("status") in (DONE, REFUSED, FAILED) else None
