"""Volumes of the methods that are judged: interpolations, and GLADE by the shipped inference workflow."""

import json
import logging
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..data.saving import write_nifti
from ..data.transforms import grid_of
from ..geometry.errors import Refusal
from ..run.record import DONE
from .baselines import Baselines
from .record import EvaluationRecord
from .scans import SCANS

METHODS = "methods"  # folder of OUT
GLADE = "GLADE"

logger = logging.getLogger(__name__)


class InterpolatedMethods:
    """Writes OUT/methods/<method>/<case>.nii.gz by the inference's own reading, protocol and operators.

    It also fills in the cases' rows what the workflow made of their headers: axis, spacings, assumed profile.

    Args:
        methods: of "nearest", "linear", "cubic" and "consistent cubic".
        record: of the evaluation.
        output_dir: OUT.
        config: configs/inference.yaml, or a list of it and its overlays.
        overrides: of that configuration.
        bundle_root: folder of this bundle.
    """

    def __init__(
        self,
        methods: Sequence[str],
        record: EvaluationRecord,
        output_dir: str | Path,
        config: str | Sequence[str],
        overrides: Mapping,
        bundle_root: str | Path = ".",
    ):
        self.methods, self.record, self.output_dir = list(methods), record, Path(output_dir)
        self.config, self.overrides = config, {"bundle_root": str(bundle_root), **overrides}

    def write(self) -> None:
        """Writes the volumes of all open cases; a case that the inference would refuse is listed as failed."""
        if not self.record.open_rows():
            return
        baselines = Baselines(self.config, self.output_dir / SCANS, self.overrides)
        for row in self.record.open_rows():
            try:
                self._write(row, baselines)
            except Exception as error:  # noqa: BLE001 - one faulty case must not stop the others
                self.record.failed(row["case"], error)
        self.record.write()

    def _write(self, row: dict, baselines: Baselines) -> None:
        begun = time.monotonic()
        volumes = baselines(row["case"], self.methods)
        first = next(iter(volumes.values()))
        assumed, spacing_mm = first.meta["protocol"], [float(s) for s in grid_of(first).spacing_mm]
        axis = assumed.through_plane_axis
        thick_mm = assumed.slice_spacing_mm
        known = {
            "through_plane_axis": axis,
            "spacing_mm": spacing_mm,
            "slice_spacing_mm": thick_mm,
            "assumed_profile": assumed.profile,
        }
        if row["profile"] is None:  # a real scan: what is assumed is all that is known
            thickness_mm = assumed.slice_thickness_mm
            known |= {"profile": assumed.profile, "protocol": assumed.profile, "slice_thickness_mm": thickness_mm}
            known |= {"factor": thick_mm / spacing_mm[axis], "thickness_over_spacing": thickness_mm / thick_mm}
        row |= known
        for method, volume in volumes.items():
            folder = self.output_dir / METHODS / method
            folder.mkdir(parents=True, exist_ok=True)
            write_nifti(volume, folder / f"{row['case']}.nii.gz")
        logger.info("%s: interpolated in %.1f s", row["case"], time.monotonic() - begun)


class InferenceRun:
    """GLADE: `monai.bundle run inference` on OUT/scans, in a process of its own, into OUT/methods/GLADE.

    The same code and settings as anyone's; cases that an earlier call has done are kept. Further sharpness values are
    methods of their own, "GLADE 0.5" for sharpness 0.5.

    Args:
        record: of the evaluation.
        output_dir: OUT.
        config: configs/inference.yaml, or a list of it and its overlays.
        overrides: of that configuration, such as {"detail": 0.5}.
        bundle_root: folder of this bundle, where the process runs.
        sharpness_values: further values of `sharpness`, 0 to 1.

    Raises:
        Refusal: if it is no list of such numbers, each once.
    """

    def __init__(
        self,
        record: EvaluationRecord,
        output_dir: str | Path,
        config: str | Sequence[str],
        overrides: Mapping,
        bundle_root: str | Path = ".",
        sharpness_values: Sequence[float] = (),
    ):
        self.record, self.output_dir = record, Path(output_dir).resolve()
        self.config, self.overrides, self.bundle_root = config, dict(overrides), Path(bundle_root).resolve()
        if isinstance(sharpness_values, str | float | int) or not all(
            isinstance(p, float | int) and 0 <= p <= 1 for p in sharpness_values
        ):
            raise Refusal(
                f"sharpness_values must be a list of numbers from 0 to 1, as [0, 1], got {sharpness_values!r}"
            )
        if len({f"{place:g}" for place in sharpness_values}) < len(sharpness_values):
            raise Refusal(f"sharpness_values names a place twice: {list(sharpness_values)}")
        self.settings = {GLADE: {}} | {f"{GLADE} {place:g}": {"sharpness": place} for place in sharpness_values}

    @property
    def names(self) -> list[str]:
        """The methods that it makes."""
        return list(self.settings)

    def command(self, method: str = GLADE) -> list[str]:
        """The command of a method, from the interpreter on."""
        files = self.config if isinstance(self.config, str) else json.dumps(list(self.config))
        command = [sys.executable, "-m", "monai.bundle", "run", "inference", "--config_file", files]
        given = {
            "bundle_root": self.bundle_root,
            **self.overrides,
            **self.settings[method],
            "dataset_dir": self.output_dir / SCANS,
            "output_dir": self.output_dir / METHODS / method,
        }
        return command + [part for key, value in given.items() for part in (f"--{key}", str(value))]

    def run(self) -> None:
        """Runs the inference of each method and notes how each case ended."""
        for method in self.names if self.record.open_rows() else ():
            self._summary(method).unlink(missing_ok=True)  # what an earlier call said is not what this one did
            code = subprocess.run(self.command(method), cwd=self.bundle_root, check=False).returncode
            try:
                rows = self._rows(method)
            except Refusal as refusal:
                self.record.problem(f"the inference of {method} ended with exit code {code}", refusal)
                rows = {}
            for case in self.record.open_rows():
                self._note(case, method, rows.get(case["case"]))
        self.record.write()

    def _note(self, case: dict, method: str, row: Mapping | None) -> None:
        if row is None:
            self.record.method_failed(case["case"], method, "the inference left no row of this case")
        elif row["status"] != DONE:
            self.record.method_failed(case["case"], method, f"{row['status']}: {row['reason']}")
        else:
            case["methods"][method] = {"seconds": row["seconds"]}
            self.record.weights_sha256 = row["weights_sha256"]
            self.record.sharpness[method] = row["settings"]["sharpness"]

    def _summary(self, method: str) -> Path:
        return self.output_dir / METHODS / method / "summary.json"

    def _rows(self, method: str) -> dict[str, dict]:
        summary = self._summary(method)
        if not summary.is_file():
            raise Refusal("it wrote no summary.json: its lines above say why")
        return {row["case"]: row for row in json.loads(summary.read_text(encoding="utf-8"))["cases"]}
