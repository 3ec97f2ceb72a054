"""The record of an evaluation: which cases and methods there are, how each ended, and cases.json."""

import importlib.metadata
import json
import logging
import platform
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from ..geometry.errors import one_line, reason_of
from ..geometry.files import plain, write_json
from ..run.record import DONE, FAILED
from ..run.version import bundle_version

PACKAGES = ("torch", "monai", "numpy", "scipy", "scikit-image", "nibabel")
CASES_FILE = "cases.json"

logger = logging.getLogger(__name__)


class EvaluationRecord:
    """Knows every case and method of an evaluation, writes OUT/cases.json after each, and gives the exit code.

    A case's row: case, source (the scan it comes from), truth, factor, profile, assumed_profile, protocol (the profile
    and what sets it apart: the scores' "profile"), thickness_over_spacing, noise, through_plane_axis (of the array),
    spacing_mm (of the judged grid), slice_spacing_mm, slice_thickness_mm, window, status, reason, "methods" (status,
    reason, seconds of each) and "undefined" (measures that have no value there, and why).

    Args:
        output_dir: OUT.
        settings: what the results depend on, as plain values.
    """

    def __init__(self, output_dir: str | Path, settings: Mapping):
        self.output_dir = Path(output_dir)
        self.settings = json.loads(json.dumps(plain(settings), sort_keys=True))
        self.weights_sha256: str | None = None
        self.sharpness: dict[str, float] = {}  # method -> sharpness
        self.rows: dict[str, dict] = {}
        self.problems: list[str] = []  # of the evaluation as a whole

    def begin(self, case: str, **values) -> dict:
        """A new row; status None until it is done or failed."""
        self.rows[case] = {
            "case": case,
            "source": case,
            "truth": False,
            "factor": None,
            "profile": None,
            "assumed_profile": None,
            "protocol": None,
            "thickness_over_spacing": None,
            "noise": None,
            "through_plane_axis": None,
            "spacing_mm": None,
            "slice_spacing_mm": None,
            "slice_thickness_mm": None,
            "window": None,
            "status": None,
            "reason": None,
            "methods": {},
            "undefined": [],
            **values,
        }
        return self.rows[case]

    def open_rows(self) -> list[dict]:
        """The rows of the cases that nothing has stopped so far."""
        return [row for row in self.rows.values() if row["status"] != FAILED]

    def done(self, case: str) -> None:
        """Ends a case well."""
        self.rows[case]["status"] = DONE
        self.write()

    def failed(self, case: str, error: Exception | str) -> None:
        """Ends a case that cannot be judged; the others go on."""
        if case not in self.rows:
            self.begin(case)
        self.rows[case] |= {"status": FAILED, "reason": _reason(error, case)}
        logger.error("%s: failed: %s", case, self.rows[case]["reason"])
        self.write()

    def method_done(self, case: str, method: str, seconds: float | None = None) -> None:
        """Notes that a method's file was judged; what was noted before of its making stays."""
        self.rows[case]["methods"].setdefault(method, {})
        self.rows[case]["methods"][method] |= {"status": DONE, "reason": None}
        if seconds is not None:
            self.rows[case]["methods"][method]["seconds"] = round(seconds, 3)

    def method_failed(self, case: str, method: str, error: Exception | str) -> None:
        """Notes that a method has no result, or none that can be judged, on a case; the other methods go on."""
        reason = _reason(error, case)
        self.rows[case]["methods"].setdefault(method, {})
        self.rows[case]["methods"][method] |= {"status": FAILED, "reason": reason}
        logger.error("%s: %s: failed: %s", case, method, reason)
        self.write()

    def undefined(self, case: str, method: str, measure: str, error: Exception) -> None:
        """Notes that a measure has no value here (too few slices for a spectrum, say): not a failure."""
        note = {"method": method, "measure": measure, "reason": _reason(error, case)}
        self.rows[case]["undefined"].append(note)
        logger.warning("%s: %s: no %s: %s", case, method, measure, note["reason"])

    def problem(self, text: str, error: Exception | None = None) -> None:
        """Notes what went wrong beside the cases: the inference as a whole, a border, a pair of scans."""
        line = one_line(text if error is None else f"{text}: {_reason(error, '')}")
        self.problems.append(line)
        logger.error("%s", line)
        self.write()

    def write(self) -> Path:
        """Writes OUT/cases.json, whole or not at all; returns its path."""
        self.output_dir.mkdir(parents=True, exist_ok=True)
        path = self.output_dir / CASES_FILE
        content = {
            "command": command_line(),
            "versions": versions(),
            "weights_sha256": self.weights_sha256,
            "sharpness": self.sharpness,
            "settings": self.settings,
            "problems": self.problems,
            "cases": list(self.rows.values()),
        }
        write_json(path, content)
        return path

    def conclude(self) -> None:
        """Writes cases.json and ends the run.

        Raises:
            SystemExit: with code 1, if a case or a method failed or anything else went wrong.
        """
        self.write()
        rows = list(self.rows.values())
        lost = [row["case"] for row in rows if row["status"] != DONE]
        methods = [f"{r['case']}: {m}" for r in rows for m, end in r["methods"].items() if end["status"] == FAILED]
        logger.info(
            "%d cases: %d done, %d failed; %d results of methods failed; %d other problems; see %s",
            len(rows),
            len(rows) - len(lost),
            len(lost),
            len(methods),
            len(self.problems),
            self.output_dir / CASES_FILE,
        )
        if lost or methods or self.problems or not rows:
            raise SystemExit(1)


def command_line() -> str:
    """The command of this process, as one would type it."""
    program = Path(sys.argv[0])
    first = ["python", "-m", ".".join(program.parts[-3:-1])] if program.name == "__main__.py" else [program.name]
    return shlex.join([*first, *sys.argv[1:]])


def versions() -> dict[str, str]:
    """Version of this bundle, of Python and of the packages that numbers depend on."""
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"glade": bundle_version(), "python": platform.python_version(), **packages}


def _reason(error: Exception | str, case: str) -> str:
    return one_line(error if isinstance(error, str) else reason_of(error)[1]).removeprefix(f"{case}: ")
