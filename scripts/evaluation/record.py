"""The record of an evaluation: which cases and methods there are, how each ended, and cases.json."""

import importlib.metadata
import json
import logging
import platform
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from ..geometry.errors import Refusal, one_line, reason_of
from ..geometry.files import plain, write_json
from ..run.bundle import bundle_version
from ..run.record import DONE, FAILED, Row
from .cases import EvaluatedCase, UndefinedMeasure
from .layout import EvaluationFolder

PACKAGES = ("torch", "monai", "numpy", "scipy", "scikit-image", "nibabel")

logger = logging.getLogger(__name__)


class EvaluationRecord:
    """The cases of an evaluation and how each and its methods ended; it also decides the exit code of the run.

    OUT/cases.json is written whenever something ended, so that an interrupted evaluation leaves what it knew.

    Args:
        output_dir: OUT.
        settings: what the results depend on, as plain values.
    """

    def __init__(self, output_dir: str | Path, settings: Mapping):
        self.folder = EvaluationFolder(output_dir)
        self.settings = json.loads(json.dumps(plain(settings), sort_keys=True))
        self.weights_sha256: str | None = None
        self.sharpness: dict[str, float] = {}  # of each method that our inference makes
        self.cases: dict[str, EvaluatedCase] = {}
        self.problems: list[str] = []  # of the evaluation as a whole

    def begin(self, case: EvaluatedCase) -> EvaluatedCase:
        """Add a case; return it."""
        self.cases[case.name] = case
        return case

    def open_cases(self) -> list[EvaluatedCase]:
        """Return the cases that have not failed."""
        return [case for case in self.cases.values() if case.status != FAILED]

    def done(self, name: str) -> None:
        """Note that a case was scored."""
        self.cases[name].status = DONE
        self.write()

    def failed(self, name: str, error: Exception | str) -> None:
        """Note that a case cannot be evaluated; one that is not known yet is added."""
        case = self.cases.get(name) or self.begin(EvaluatedCase(name))
        case.status, case.reason = FAILED, _reason(error, name)
        logger.error("%s: failed: %s", name, case.reason)
        self.write()

    def inferred(self, name: str, method: str, row: Row) -> None:
        """Note that our inference made a result.

        Args:
            name: of the case.
            method: that the inference makes.
            row: of the case in its summary.json.
        """
        self.cases[name].outcome(method).seconds = row.seconds
        self.weights_sha256 = row.weights_sha256
        single = row.settings.get("inference", row.settings)  # of several stacks: that of each of them alone
        self.sharpness[method] = single["sharpness"]

    def method_done(self, name: str, method: str) -> None:
        """Note that a method's result was scored."""
        outcome = self.cases[name].outcome(method)
        outcome.status, outcome.reason = DONE, None

    def method_failed(self, name: str, method: str, error: Exception | str) -> None:
        """Note that a method has no result for a case, or none that can be scored."""
        outcome = self.cases[name].outcome(method)
        outcome.status, outcome.reason = FAILED, _reason(error, name)
        logger.error("%s: %s: failed: %s", name, method, outcome.reason)
        self.write()

    def undefined(self, name: str, method: str, measure: str, error: Exception) -> None:
        """Note that a measure has no value here, which is not a failure."""
        note = UndefinedMeasure(method, measure, _reason(error, name))
        self.cases[name].undefined.append(note)
        logger.warning("%s: %s: no %s: %s", name, method, measure, note.reason)

    def problem(self, text: str, error: Exception | None = None) -> None:
        """Note what went wrong outside a single case: an inference as a whole, a border, a pair of scans."""
        line = one_line(text if error is None else f"{text}: {_reason(error, '')}")
        self.problems.append(line)
        logger.error("%s", line)
        self.write()

    def write(self) -> Path:
        """Write OUT/cases.json, whole or not at all; return its path."""
        self.folder.root.mkdir(parents=True, exist_ok=True)
        content = {
            "command": command_line(),
            "versions": versions(),
            "weights_sha256": self.weights_sha256,
            "sharpness": self.sharpness,
            "settings": self.settings,
            "problems": self.problems,
            "cases": [case.as_row() for case in self.cases.values()],
        }
        return write_json(self.folder.cases, content)

    def conclude(self) -> None:
        """Write cases.json and end the run.

        Raises:
            SystemExit: with code 1, if a case or a method failed, anything else went wrong, or there is no case.
        """
        self.write()
        cases = list(self.cases.values())
        lost = [case.name for case in cases if case.status != DONE]
        methods = sum(case.has_failed(method) for case in cases for method in case.methods)
        logger.info(
            "%d cases: %d done, %d failed; %d results of methods failed; %d other problems; see %s",
            len(cases),
            len(cases) - len(lost),
            len(lost),
            methods,
            len(self.problems),
            self.folder.cases,
        )
        if lost or methods or self.problems or not cases:
            raise SystemExit(1)


@dataclass(frozen=True)
class SavedRecord:
    """What cases.json says of an evaluation.

    Attributes:
        cases: in the order in which they were evaluated.
        command: that the evaluation was started with.
        versions: of this bundle, Python and packages, by name.
        weights_sha256: checksum of the weights of our inference.
        sharpness: of each method that our inference made.
        settings: what the results depend on.
        problems: of the evaluation as a whole.
    """

    cases: list[EvaluatedCase]
    command: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    weights_sha256: str | None = None
    sharpness: dict[str, float] = field(default_factory=dict)
    settings: dict = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """Names of the cases."""
        return [case.name for case in self.cases]


def read_record(output_dir: str | Path) -> SavedRecord:
    """Read OUT/cases.json as `EvaluationRecord` wrote it.

    Raises:
        Refusal: if there is no such file, or it is not the record of an evaluation.
    """
    path = EvaluationFolder(output_dir).cases
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        known = {own.name: content[own.name] for own in fields(SavedRecord) if own.name in content}
        return SavedRecord(**{**known, "cases": [EvaluatedCase.of(row) for row in content["cases"]]})
    except OSError as error:
        folder = Path(output_dir).name
        raise Refusal(f"{folder}: there is no {path.name} ({error.strerror}): run the evaluation first") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refusal(f"{path.name}: is not the record of an evaluation: run the evaluation again") from error


def command_line() -> str:
    """Return the command of this process as it would be typed."""
    program = Path(sys.argv[0])
    first = ["python", "-m", ".".join(program.parts[-3:-1])] if program.name == "__main__.py" else [program.name]
    return shlex.join([*first, *sys.argv[1:]])


def versions() -> dict[str, str]:
    """Return the versions of this bundle, of Python and of the packages that the numbers depend on."""
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"glade": bundle_version(), "python": platform.python_version(), **packages}


def _reason(error: Exception | str, case: str) -> str:
    return one_line(error if isinstance(error, str) else reason_of(error)[1]).removeprefix(f"{case}: ")
