"""Scoring: the results of all methods are measured on one grid, inside one mask, with one window for each case."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from ..geometry.errors import Refusal
from ..geometry.grid import Grid
from ..geometry.progress import Progress
from ..metrics.arrays import as_mask
from ..metrics.mask import body_mask
from ..metrics.pique import shared_window
from ..physics.acquisition import Acquisition
from ..physics.interpolation import resampling, sampling
from ..physics.protocol import Protocol
from .cases import EvaluatedCase
from .layout import method_file, uncertainty_file
from .measures import CaseVolumes, Result, Score
from .method_names import CUBIC, STACKS
from .record import EvaluationRecord
from .scores import Row, Scores
from .volumes import LEAST_COVERED, covered, on_grid, read_grid, read_volume

logger = logging.getLogger(__name__)


class Scoring:
    """Step that applies the measures to the result of every method for every case.

    The volume of cubic interpolation, U b, gives the grid, and where no truth is known also mask and window.

    Args:
        record: of the evaluation; its cases are described and completed by the steps before.
        methods: name -> folder, as `all_methods` returns them; "cubic" must be among them.
        measures: callables of a `CaseVolumes` and a `Result` that return scores.
        scores: to which the scores are added.

    Raises:
        Refusal: if "cubic" is not among the methods.
    """

    def __init__(
        self,
        record: EvaluationRecord,
        methods: Mapping[str, Path],
        measures: Sequence[Callable[[CaseVolumes, Result], list[Score]]],
        scores: Scores,
    ):
        if CUBIC not in methods:
            raise Refusal(f"methods: {CUBIC} must be among them: it is the input that all are compared with")
        self.record, self.methods, self.measures, self.scores = record, dict(methods), list(measures), scores

    def run(self) -> None:
        """Score all open cases; one that cannot be scored is recorded as failed."""
        self.scores.remove_earlier()
        for case in self.record.open_cases():
            begun = time.monotonic()
            try:
                rows = self._score(case)
            except Exception as error:  # noqa: BLE001 - one faulty case must not stop the others
                self.record.failed(case.name, error)
                continue
            self.record.done(case.name)
            self.scores.add(rows)
            logger.info("%s: scored in %.1f s", case.name, time.monotonic() - begun)

    def _score(self, case: EvaluatedCase) -> list[Row]:
        files = self._files(case)
        volumes = self._volumes(case, files)
        case.window = [float(v) for v in volumes.window]
        rows = []
        progress = Progress(total=len(files) * len(self.measures), desc=f"scoring {case.name}", leave=False)
        for method, path in files.items():
            try:
                result = read_result(path, volumes.grid)
                scores = []
                for measure in self.measures:
                    scores += self._measured(measure, volumes, method, result)
                    progress.update()
            except Exception as error:  # noqa: BLE001 - one faulty result must not stop the others
                self.record.method_failed(case.name, method, error)
                continue
            self.record.method_done(case.name, method)
            shared = {"case": case.name, "method": method, "factor": case.factor, "profile": case.protocol}
            rows += [Row(**shared, **score._asdict()) for score in scores]
        return rows

    def _measured(self, measure, volumes: CaseVolumes, method: str, result: Result) -> list[Score]:
        try:
            return measure(volumes, result)
        except Refusal as refusal:
            name = type(measure).__name__
            if getattr(measure, "requested", False):
                self.record.problem(f"{volumes.name}: {method}: {name}", refusal)
            else:
                self.record.undefined(volumes.name, method, name, refusal)
            return []

    def _files(self, case: EvaluatedCase) -> dict[str, Path]:
        """The file of each method; one that is missing or shows another field of view is recorded as failed."""
        names = list(self.record.cases)
        target = read_grid(method_file(self.methods[CUBIC], CUBIC, case.name, names))
        found = {}
        for method, folder in self.methods.items():
            if case.has_failed(method):  # recorded where it should have been made
                continue
            if method == STACKS and case.stacks is None:
                continue
            try:
                path = method_file(folder, method, case.name, names)
                share = float(covered(read_grid(path), target).mean())
                if share < LEAST_COVERED:
                    raise Refusal(
                        f"{path.name}: covers {share:.0%} of the case's field of view: wrong scan, or wrong affine?"
                    )
                found[method] = path
            except Refusal as refusal:
                self.record.method_failed(case.name, method, refusal)
        return found

    def _volumes(self, case: EvaluatedCase, files: Mapping[str, Path]) -> CaseVolumes:
        folder = self.record.folder
        interpolated, grid = read_volume(files[CUBIC])
        truth, inside = None, np.ones(grid.shape, bool)
        if case.truth:
            values, own = read_volume(folder.truth_file(case.name))
            truth, inside = on_grid(values, own, grid), covered(own, grid)
        slices, acquisition = acquired(folder.scan_file(case.name), grid, case)
        reference = interpolated if truth is None else truth
        every = covered_by_all(files.values(), grid)
        mask = as_mask(body_mask(reference) & inside & every, grid.shape)
        factor = float(case.slice_spacing_mm) / float(grid.spacing_mm[case.through_plane_axis])
        return CaseVolumes(
            name=case.name,
            grid=grid,
            axis=case.through_plane_axis,
            factor=factor,
            truth=truth,
            interpolated=interpolated,
            slices=slices,
            acquisition=acquisition,
            mask=mask,
            window=shared_window(reference, mask),
            covered=None if every.all() else every,
        )


def covered_by_all(paths: Iterable[Path], grid: Grid) -> np.ndarray:
    """Return which voxels of a grid, as a boolean array, every one of some volumes covers."""
    every = np.ones(grid.shape, bool)
    for path in paths:
        own = read_grid(path)
        if own.shape != grid.shape or not np.allclose(own.affine, grid.affine):
            every &= covered(own, grid)
    return every


def read_result(path: Path, grid: Grid) -> Result:
    """Read a method's volume onto a grid, with the uncertainty where one lies beside it."""
    beside = uncertainty_file(path)
    uncertainty = None if beside is None else on_grid(*read_volume(beside), grid)
    return Result(on_grid(*read_volume(path), grid), uncertainty)


def acquired(path: Path, grid: Grid, case: EvaluatedCase) -> tuple[np.ndarray, Acquisition]:
    """Return the slices b on square pixels, and the operator A that acquires them from a volume on the isotropic grid.

    Args:
        path: of the thick scan.
        grid: isotropic, with its axes in the order of the scan's.
        case: completed from the scan's header.

    Returns:
        The slices (X, Y, Z) as the inference used them, stacked along the case's through-plane axis, and A.

    Raises:
        Refusal: if the scan does not fit the grid.

    >>> import nibabel, tempfile
    >>> case = EvaluatedCase("knee", profile="rect", through_plane_axis=2, slice_spacing_mm=4, slice_thickness_mm=4)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "knee.nii.gz"
    ...     nibabel.Nifti1Image(np.zeros((6, 6, 3), np.uint8), np.diag([2, 2, 4, 1])).to_filename(path)
    ...     slices, A = acquired(path, Grid((12, 12, 12), np.eye(4)), case)
    >>> slices.shape, A  # pixels of 1 mm; one slice averages 4 voxels of the isotropic grid
    ((12, 12, 3), <3 x 12> Acquisition)
    """
    values, thick = read_volume(path)
    axis = case.through_plane_axis
    slices = torch.from_numpy(values)
    for other in range(values.ndim):
        if other != axis:
            make = sampling if case.sampled and grid.shape[other] < thick.shape[other] else resampling
            step = make(thick.shape[other], thick.spacing_mm[other], grid.shape[other], grid.spacing_mm[other])
            slices = slices if step is None else step(slices.movedim(other, -1).contiguous()).movedim(-1, other)
    protocol = Protocol(float(case.slice_spacing_mm), float(case.slice_thickness_mm), str(case.profile))
    geometry = protocol.geometry(grid.shape[axis], thick.shape[axis], float(grid.spacing_mm[axis]))
    return slices.numpy(), Acquisition(geometry)
