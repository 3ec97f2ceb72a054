"""Measures of a method's result: small callables that configs/evaluate.yaml lists.

Each takes the volumes of a case and a result, and returns scores; none where it does not apply (no truth, no
uncertainty).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch

from ..geometry.errors import Refusal
from ..geometry.grid import Grid
from ..metrics.arrays import bounding_box
from ..metrics.closure import sharpness_closed, spectrum_closed
from ..metrics.fidelity import HFEN_RADIUS_VOXELS, hfen, nrmse, psnr, robust_range, ssim
from ..metrics.pique import pique_of_planes
from ..metrics.residual import relative_residual
from ..metrics.sharpness import axis_sharpness
from ..metrics.spectrum import high_band, slice_period_artefact
from ..metrics.uncertainty import coverage, error_per_decile, rank_correlation
from ..physics.acquisition import Acquisition

MARGIN_VOXELS = HFEN_RADIUS_VOXELS + 1  # how far the filter of a measure reaches beyond the mask

OF_TRUTH = "_of_truth"  # ends the name of a metric of the true volume, reported beside that of the result


class Score(NamedTuple):
    """One number: its metric, value, unit ("1" for none) and the array axis that it belongs to ("" for none).

    >>> Score("edge", 0.31, "1/mm", axis="2")._asdict()
    {'metric': 'edge', 'value': 0.31, 'unit': '1/mm', 'axis': '2'}
    """

    metric: str
    value: float
    unit: str = "1"
    axis: str = ""


@dataclass(frozen=True)
class CaseVolumes:
    """What all methods of a case share; volumes are float32 (X, Y, Z) on an isotropic grid, in the scan's own units.

    Attributes:
        name: of the case.
        grid: the isotropic grid on which results are compared.
        axis: array axis, through-plane.
        factor: slice spacing in voxels.
        truth: the true volume, or None.
        interpolated: U b, the cubic spline.
        slices: b as acquired, on square pixels.
        acquisition: A, with the true profile where it is known.
        mask: boolean: the body, as far as every method and the truth cover it.
        window: intensities shown as black and white.
        covered: boolean: what every method covers; None: all.
    """

    name: str
    grid: Grid
    axis: int
    factor: float
    truth: np.ndarray | None
    interpolated: np.ndarray
    slices: np.ndarray
    acquisition: Acquisition
    mask: np.ndarray
    window: tuple[float, float]
    covered: np.ndarray | None = None

    @property
    def spacing_mm(self) -> np.ndarray:
        """Voxel spacing of the three axes."""
        return self.grid.spacing_mm

    @cached_property
    def box(self) -> tuple[slice, ...]:
        """The bounding box of the mask with a margin for filters; measures ignore what lies outside."""
        return bounding_box(self.mask, MARGIN_VOXELS)

    @cached_property
    def data_range(self) -> float:
        """The robust range of the truth, for PSNR and SSIM."""
        return robust_range(self.truth)

    @cached_property
    def covered_slices(self) -> np.ndarray | None:
        """Which voxels of the slices average only what every method covers; None: all."""
        if self.covered is None:
            return None
        thin = np.moveaxis(self.covered, self.axis, -1).astype(np.float32)
        inside = self.acquisition.is_inside(torch.from_numpy(np.ascontiguousarray(thin))).numpy()
        return np.moveaxis(inside, -1, self.axis)

    def truth_in_box(self) -> tuple[np.ndarray, np.ndarray]:
        """Return truth and mask inside the box."""
        return self.truth[self.box], self.mask[self.box]


class Result(NamedTuple):
    """A method's volume on the grid of the case, and its uncertainty (half-widths, same units) where it has one."""

    values: np.ndarray
    uncertainty: np.ndarray | None = None


class Fidelity:
    """PSNR (dB), SSIM, NRMSE and HFEN against the truth, inside the mask.

    Args:
        per_axis: also SSIM in the planes perpendicular to each axis, and the part of HFEN along it; more than doubles
            the time. (PSNR and NRMSE have no direction.)

    >>> truth = np.random.default_rng(0).random((16, 16, 16), np.float32)
    >>> scan = {"interpolated": truth, "slices": truth, "acquisition": None, "mask": truth > 0.1, "window": (0, 1)}
    >>> case = CaseVolumes("knee", Grid(truth.shape, np.eye(4)), axis=2, factor=4.0, truth=truth, **scan)
    >>> {score.metric: round(score.value, 3) for score in Fidelity()(case, Result(truth))}
    {'psnr': inf, 'ssim': 1.0, 'nrmse': 0.0, 'hfen': 0.0}
    """

    def __init__(self, per_axis: bool = False):
        self.per_axis = per_axis

    def __call__(self, case: CaseVolumes, result: Result) -> list[Score]:
        """Return the scores; none without a truth."""
        if case.truth is None:
            return []
        (truth, mask), values = case.truth_in_box(), result.values[case.box]
        scores = [
            Score("psnr", psnr(values, truth, mask, case.data_range), "dB"),
            Score("ssim", ssim(values, truth, mask, case.data_range)),
            Score("nrmse", nrmse(values, truth, mask)),
            Score("hfen", hfen(values, truth, mask)),
        ]
        for axis in range(truth.ndim) if self.per_axis else ():
            scores.append(Score("ssim", ssim(values, truth, mask, case.data_range, axis), axis=str(axis)))
            scores.append(Score("hfen", hfen(values, truth, mask, axis), axis=str(axis)))
        return scores


class HighBandDetail:
    """Energy and error above the Nyquist frequency of the slices: detail that is recovered, and that is invented."""

    def __call__(self, case: CaseVolumes, result: Result) -> list[Score]:
        """Return the scores; none without a truth."""
        if case.truth is None:
            return []
        truth, mask = case.truth_in_box()
        band = high_band(result.values[case.box], truth, case.factor, case.axis, mask)
        return [Score("high_band_energy", band.energy), Score("high_band_error", band.error)]


class SlicePeriod:
    """Artefacts with the period of the slices: banding, steps, modulation and stripes, also of the truth if known."""

    def __call__(self, case: CaseVolumes, result: Result) -> list[Score]:
        """Return four scores; eight with a truth."""
        truth = None if case.truth is None else case.truth[case.box]
        found = slice_period_artefact(result.values[case.box], case.factor, case.axis, case.mask[case.box], truth)
        named = {f"slice_period_{name}": value for name, value in found._asdict().items()}
        return [Score(name, value) for name, value in named.items() if value is not None]


class Residual:
    """||A v - b|| / ||b||: how well the result v, acquired again, explains the slices b, where all methods are."""

    def __call__(self, case: CaseVolumes, result: Result) -> list[Score]:
        """Return one score."""
        scan = case.slices, case.acquisition, case.axis, case.covered_slices
        return [Score("residual", relative_residual(result.values, *scan))]


class Pique:
    """PIQUE of the planes across the slices, in one window for all methods: means over each view, and over both."""

    def __call__(self, case: CaseVolumes, result: Result) -> list[Score]:
        """Return three scores; the axis is the one that the planes are perpendicular to."""
        values, mask = result.values[case.box], case.mask[case.box]
        views = {
            axis: float(pique_of_planes(values, axis, case.window, mask).mean())
            for axis in range(values.ndim)
            if axis != case.axis
        }
        mean = Score("pique", float(np.mean(list(views.values()))), "0-100")
        return [mean, *(Score("pique", value, "0-100", str(axis)) for axis, value in views.items())]


class Edges:
    """Steepness of the edges along each axis (1/mm), relative to the window of the case."""

    def __call__(self, case: CaseVolumes, result: Result) -> list[Score]:
        """Return three scores, one for each axis."""
        values, mask = result.values[case.box], case.mask[case.box]
        axes = range(values.ndim)
        return [
            Score("edge", axis_sharpness(values, case.spacing_mm, axis, mask, case.window), "1/mm", str(axis))
            for axis in axes
        ]


class Closure:
    """Share of the difference between in-plane and through-plane sharpness that is closed: of edges, of the spectrum.

    Where the truth is known, its own share is reported as well.
    """

    def __call__(self, case: CaseVolumes, result: Result) -> list[Score]:
        """Return the scores that are defined; there are none for a scan that is no sharper in-plane.

        Raises:
            Refusal: if neither is defined.
        """
        interpolated, mask = case.interpolated[case.box], case.mask[case.box]
        volumes = {"": result.values} | ({} if case.truth is None else {OF_TRUTH: case.truth})
        scores, reasons = [], []
        for ending, volume in volumes.items():
            compared = (volume[case.box], interpolated)
            for name, closed, scale in (
                ("sharpness_closed", sharpness_closed, case.spacing_mm),
                ("spectrum_closed", spectrum_closed, case.factor),
            ):
                try:
                    scores.append(Score(name + ending, closed(*compared, scale, case.axis, mask)))
                except Refusal as refusal:
                    reasons.append(str(refusal))
        if not scores:
            raise Refusal(reasons[0])
        return scores


class Uncertainty:
    """Coverage of the uncertainty, its rank correlation with the absolute error, and the mean error in each tenth.

    >>> truth = np.zeros((8, 8, 8), np.float32)
    >>> scan = {"interpolated": truth, "slices": truth, "acquisition": None, "mask": truth == 0, "window": (0, 1)}
    >>> case = CaseVolumes("knee", Grid(truth.shape, np.eye(4)), axis=2, factor=4.0, truth=truth, **scan)
    >>> error = np.random.default_rng(0).random(truth.shape, np.float32)
    >>> covered, correlation, width, least, *_, most = Uncertainty()(case, Result(error, uncertainty=2 * error))
    >>> covered.value, round(correlation.value, 3), round(least.value, 2), round(most.value, 2)
    (1.0, 1.0, 0.05, 0.96)
    """

    def __call__(self, case: CaseVolumes, result: Result) -> list[Score]:
        """Return thirteen scores, the least uncertain tenth first; none without truth or uncertainty."""
        if case.truth is None or result.uncertainty is None:
            return []
        volumes = (result.uncertainty, result.values, case.truth, case.mask)
        tenths = enumerate(error_per_decile(*volumes), start=1)
        errors = [Score(f"error_decile_{number:02d}", float(e), "scan units") for number, e in tenths if np.isfinite(e)]
        return [
            Score("uncertainty_coverage", coverage(*volumes)),
            Score("uncertainty_rank_correlation", rank_correlation(*volumes)),
            Score("uncertainty_mean", float(result.uncertainty[case.mask].mean()), "scan units"),
            *errors,
        ]
