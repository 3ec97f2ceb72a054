"""Every method's files judged identically: one grid, one mask, one window a case, the same measures in order."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol as Interface

import numpy as np
import torch

from ..geometry.errors import Refusal
from ..geometry.grid import Grid
from ..metrics.arrays import as_mask
from ..metrics.mask import body_mask
from ..metrics.pique import shared_window
from ..physics.acquisition import Acquisition
from ..physics.interpolation import resampling
from ..physics.protocol import Protocol
from .layout import confidence_file, method_file
from .measures import JudgedCase, Result, Score
from .statistics import Row, write_scores
from .volumes import LEAST_COVERED, covered, on_grid, read_grid, read_volume

INTERPOLATED = "cubic"  # the method whose volume is U b: it gives grid, mask and window where there is no truth
SCANS, TRUTH = "scans", "truth"  # folders of OUT

logger = logging.getLogger(__name__)


class Record(Interface):
    """The record of the evaluation, as the judges use it."""

    output_dir: Path

    def open_rows(self) -> list[dict]:
        """The rows of the cases that nothing has stopped so far."""

    def done(self, case: str) -> None:
        """Ends a case well."""

    def failed(self, case: str, error: Exception | str) -> None:
        """Ends a case that cannot be judged."""

    def method_done(self, case: str, method: str) -> None:
        """Notes that a method's file was judged."""

    def method_failed(self, case: str, method: str, error: Exception | str) -> None:
        """Notes that a method has no result that can be judged."""

    def undefined(self, case: str, method: str, measure: str, error: Exception) -> None:
        """Notes that a measure has no value here."""

    def problem(self, text: str, error: Exception | None = None) -> None:
        """Notes what went wrong beside the cases."""


class Judge:
    """Applies the measures to every method's volume of every case; writes OUT/scores.csv.

    Args:
        record: of the evaluation; its rows say axis, spacing, thickness and profile.
        methods: name -> folder, as `all_methods` gives them; "cubic" must be among them.
        measures: callables of a `JudgedCase` and a `Result` that give scores.
    """

    def __init__(
        self,
        record: Record,
        methods: Mapping[str, Path],
        measures: Sequence[Callable[[JudgedCase, Result], list[Score]]],
    ):
        if INTERPOLATED not in methods:
            raise Refusal(f"methods: {INTERPOLATED} must be among them: it is the input that all are compared with")
        self.record, self.methods, self.measures = record, dict(methods), list(measures)
        self.scores: list[Row] = []

    def run(self) -> None:
        """Judges all open cases."""
        for row in self.record.open_rows():
            begun = time.monotonic()
            try:
                self._judge(row)
            except Exception as error:  # noqa: BLE001 - one faulty case must not stop the others
                self.record.failed(row["case"], error)
                continue
            self.record.done(row["case"])
            self.write()
            logger.info("%s: judged in %.1f s", row["case"], time.monotonic() - begun)

    def write(self) -> Path:
        """Writes OUT/scores.csv; returns its path."""
        return write_scores(self.scores, Path(self.record.output_dir) / "scores.csv")

    def _judge(self, row: dict) -> None:
        files = self._files(row)
        case = self._case(row, files)
        row["window"] = [float(v) for v in case.window]
        for method, path in files.items():
            try:
                result = read_result(path, case.grid)
                scores = [score for measure in self.measures for score in self._measured(measure, case, method, result)]
            except Exception as error:  # noqa: BLE001 - one faulty case must not stop the others
                self.record.method_failed(row["case"], method, error)
                continue
            self.record.method_done(row["case"], method)
            own = {"case": row["case"], "method": method, "factor": row["factor"], "profile": row["protocol"]}
            self.scores += [Row(**own, **score._asdict()) for score in scores]

    def _measured(self, measure, case: JudgedCase, method: str, result: Result) -> list[Score]:
        try:
            return measure(case, result)
        except Refusal as refusal:
            if getattr(measure, "asked_for", False):
                self.record.problem(f"{case.case}: {method}: {type(measure).__name__}", refusal)
            else:
                self.record.undefined(case.case, method, type(measure).__name__, refusal)
            return []

    def _files(self, row: Mapping) -> dict[str, Path]:
        """The methods' files; what has none, or lies elsewhere, is listed as failed."""
        cases = [other["case"] for other in self.record.open_rows()]
        target = read_grid(method_file(self.methods[INTERPOLATED], INTERPOLATED, row["case"], cases))
        found = {}
        for method, folder in self.methods.items():
            if row["methods"].get(method, {}).get("status") == "failed":  # said already where it was made
                continue
            try:
                path = method_file(folder, method, row["case"], cases)
                share = float(covered(read_grid(path), target).mean())
                if share < LEAST_COVERED:
                    raise Refusal(f"{path.name}: covers {share:.0%} of the judged field of view: wrong scan or affine?")
                found[method] = path
            except Refusal as refusal:
                self.record.method_failed(row["case"], method, refusal)
        return found

    def _case(self, row: Mapping, files: Mapping[str, Path]) -> JudgedCase:
        folder, name = Path(self.record.output_dir), f"{row['case']}.nii.gz"
        interpolated, grid = read_volume(files[INTERPOLATED])
        truth = on_grid(*read_volume(folder / TRUTH / name), grid) if row["truth"] else None
        slices, acquisition = acquired(folder / SCANS / name, grid, row)
        reference = interpolated if truth is None else truth
        mask = body_mask(reference)
        for path in files.values():
            where = read_grid(path)
            if where.shape != grid.shape or not np.allclose(where.affine, grid.affine):
                mask = mask & covered(where, grid)
        mask = as_mask(mask, grid.shape)
        axis = int(row["through_plane_axis"])
        factor = float(row["slice_spacing_mm"]) / float(grid.spacing_mm[axis])
        window = shared_window(reference, mask)
        return JudgedCase(row["case"], grid, axis, factor, truth, interpolated, slices, acquisition, mask, window)


def read_result(path: Path, grid: Grid) -> Result:
    """A method's volume on the judged grid, with its confidence where one lies beside it."""
    beside = confidence_file(path)
    confidence = None if beside is None else on_grid(*read_volume(beside), grid)
    return Result(on_grid(*read_volume(path), grid), confidence)


def acquired(path: Path, grid: Grid, row: Mapping) -> tuple[np.ndarray, Acquisition]:
    """The slices b on square pixels, (X, Y, Z) with slices along the through-plane axis, and A for the judged grid.

    Args:
        path: of the thick scan.
        grid: the judged one, isotropic, axes as the scan's.
        row: of the case: through_plane_axis, slice_spacing_mm, slice_thickness_mm and profile.

    Raises:
        Refusal: if the scan does not fit the grid.
    """
    values, thick = read_volume(path)
    axis = int(row["through_plane_axis"])
    slices = torch.from_numpy(values)
    for other in range(values.ndim):
        if other != axis:
            step = resampling(thick.shape[other], thick.spacing_mm[other], grid.shape[other], grid.spacing_mm[other])
            slices = slices if step is None else step(slices.movedim(other, -1).contiguous()).movedim(-1, other)
    protocol = Protocol(float(row["slice_spacing_mm"]), float(row["slice_thickness_mm"]), str(row["profile"]))
    geometry = protocol.geometry(grid.shape[axis], thick.shape[axis], float(grid.spacing_mm[axis]))
    return slices.numpy(), Acquisition(geometry)
