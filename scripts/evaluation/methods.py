"""The volumes of our own methods: interpolations, and GLADE by the shipped workflows for one scan and for a study."""

import json
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..data.saving import write_nifti
from ..data.transforms import grid_of
from ..geometry.checks import is_number
from ..geometry.errors import Refusal
from ..run.child import run_child
from ..run.record import CHANGED, DONE, Row, read_summary
from ..run.threads import thread_settings
from .baselines import Baselines, check_interpolations
from .cases import EvaluatedCase
from .method_names import GLADE, STACKS, glade_at
from .record import EvaluationRecord
from .simulation import SimulatedProtocol

logger = logging.getLogger(__name__)


class InterpolatedMethods:
    """Step that writes OUT/methods/<method>/<case>.nii.gz with the inference's own reading, protocol and operators.

    It also completes the cases by what this reading found in their headers: axis, spacings, assumed profile.

    Args:
        methods: of "nearest", "linear", "cubic" and "consistent cubic".
        record: of the evaluation.
        config: configs/inference.yaml, or a list of it and its overlays.
        overrides: of that configuration.
        bundle_root: folder of this bundle.

    Raises:
        Refusal: if a method has another name.
    """

    def __init__(
        self,
        methods: Sequence[str],
        record: EvaluationRecord,
        config: str | Sequence[str],
        overrides: Mapping,
        bundle_root: str | Path = ".",
    ):
        check_interpolations(methods)
        self.methods, self.record = list(methods), record
        self.config, self.overrides = config, {"bundle_root": str(bundle_root), **overrides}

    def run(self) -> None:
        """Write the volumes of all open cases; a case that the inference would refuse is recorded as failed."""
        if not self.record.open_cases():
            return
        baselines = Baselines(self.config, self.record.folder.scans, self.overrides)
        for case in self.record.open_cases():
            try:
                self._write(case, baselines)
            except Exception as error:  # noqa: BLE001 - one faulty scan must not stop the others
                self.record.failed(case.name, error)
        self.record.write()

    def _write(self, case: EvaluatedCase, baselines: Baselines) -> None:
        begun = time.monotonic()
        volumes = baselines(case.name, self.methods)
        first = next(iter(volumes.values()))
        case.complete_from_header(first.meta["protocol"], grid_of(first).spacing_mm, first.meta["sampled"])
        for method, volume in volumes.items():
            path = self.record.folder.interpolated_file(method, case.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_nifti(volume, path)
        logger.info("%s: interpolated in %.1f s", case.name, time.monotonic() - begun)


class InferenceRun:
    """Step that makes GLADE: `monai.bundle run inference` on OUT/scans in a process of its own, into OUT/methods/GLADE.

    Code and settings are those of any user; cases that an earlier call has done are kept. Further sharpness values are
    methods of their own, for example "GLADE 0.5" for sharpness 0.5.

    Args:
        record: of the evaluation.
        config: configs/inference.yaml, or a list of it and its overlays.
        overrides: of that configuration, such as {"detail": 0.5}.
        bundle_root: folder of this bundle, where the process runs.
        sharpness_values: further values of `sharpness`, 0 to 1.

    Raises:
        Refusal: if `sharpness_values` is not a list of such numbers, or holds one twice.
    """

    def __init__(
        self,
        record: EvaluationRecord,
        config: str | Sequence[str],
        overrides: Mapping,
        bundle_root: str | Path = ".",
        sharpness_values: Sequence[float] = (),
    ):
        values = sharpness_values
        if not isinstance(values, list | tuple) or not all(is_number(value) and 0 <= value <= 1 for value in values):
            raise Refusal(f"sharpness_values must be a list of numbers from 0 to 1, as [0, 1], got {values!r}")
        if len({glade_at(value) for value in values}) < len(values):
            raise Refusal(f"sharpness_values holds a value twice: {list(values)}")
        self.record, self.config, self.overrides = record, config, dict(overrides)
        self.bundle_root = Path(bundle_root).resolve()
        self.settings = {GLADE: {}} | {glade_at(value): {"sharpness": value} for value in values}

    @property
    def names(self) -> list[str]:
        """The methods that it makes."""
        return list(self.settings)

    def command(self, method: str = GLADE) -> list[str]:
        """Return the command of a method, beginning with the Python interpreter."""
        settings = {
            "bundle_root": self.bundle_root,
            **self.overrides,
            **self.settings[method],
            "dataset_dir": self.record.folder.scans.resolve(),  # the process runs in another folder
            "output_dir": self.record.folder.method_folder(method).resolve(),
            "redo": CHANGED,  # this folder holds what this evaluation makes, and nothing of the user's
        }
        return _command("inference", self.config, settings)

    def run(self) -> None:
        """Run the inference of each method and record how each case ended."""
        for method in self.names if self.record.open_cases() else ():
            self.record.folder.inference_summary(method).unlink(missing_ok=True)  # of an earlier call
            code = _run(self.command(method), self.bundle_root)
            _note_all(self.record, method, self.record.open_cases(), code)
        self.record.write()


class StacksRun:
    """Step that makes GLADE of several stacks: `monai.bundle run stacks` on each OUT/stacks/<case>, in its own process.

    Args:
        record: of the evaluation.
        config: configs/stacks.yaml, or a list of it and its overlays.
        overrides: of that configuration, such as {"expected_error": 0.03}.
        protocols: of the simulated cases; without one of several stacks it makes no method.
        bundle_root: folder of this bundle, where the processes run.
    """

    def __init__(
        self,
        record: EvaluationRecord,
        config: str | Sequence[str],
        overrides: Mapping,
        protocols: Sequence[Mapping],
        bundle_root: str | Path = ".",
    ):
        self.record, self.config, self.overrides = record, config, dict(overrides)
        self.bundle_root = Path(bundle_root).resolve()
        self.names = [STACKS] if any(SimulatedProtocol.of(settings).stacks for settings in protocols) else []

    def command(self, case: str) -> list[str]:
        """Return the command for a case, beginning with the Python interpreter."""
        folder = self.record.folder
        settings = {
            "bundle_root": self.bundle_root,
            **self.overrides,
            "dataset_dir": folder.stack_folder(case).resolve(),
            "output_dir": folder.method_folder(STACKS).resolve(),
            "redo": CHANGED,
        }
        return _command("stacks", self.config, settings)

    def run(self) -> None:
        """Fuse the stacks of each case that has several, and record how it ended."""
        cases = [case for case in self.record.open_cases() if case.stacks is not None]
        code = 0
        self.record.folder.inference_summary(STACKS).unlink(missing_ok=True)  # of an earlier call
        for case in cases:
            code = max(code, _run(self.command(case.name), self.bundle_root))
        if cases:
            _note_all(self.record, STACKS, cases, code)
            self.record.write()


def _command(workflow: str, config: str | Sequence[str], settings: Mapping) -> list[str]:
    files = config if isinstance(config, str) else json.dumps(list(config))
    command = [sys.executable, "-m", "monai.bundle", "run", workflow, "--config_file", files]
    return command + [part for key, value in settings.items() for part in (f"--{key}", str(value))]


def _run(command: list[str], bundle_root: Path) -> int:
    return run_child(command, cwd=bundle_root, env=os.environ | thread_settings(os.environ))


def _note_all(record: EvaluationRecord, method: str, cases: Sequence[EvaluatedCase], code: int) -> None:
    """Record how the cases of a method ended, by the summary that its workflow wrote."""
    summary = record.folder.inference_summary(method)
    rows: dict[str, Row] = {}
    try:
        if not summary.is_file():
            raise Refusal(f"it wrote no {summary.name}: see what it logged above")
        rows = {row.case: row for row in read_summary(summary.parent)}
    except Refusal as refusal:
        record.problem(f"the inference of {method} ended with exit code {code}", refusal)
    for case in cases:
        row = rows.get(case.name)
        if row is None:
            record.method_failed(case.name, method, "the inference left no row of this case")
        elif row.status != DONE:
            record.method_failed(case.name, method, f"{row.status}: {row.reason}")
        else:
            record.inferred(case.name, method, row)
