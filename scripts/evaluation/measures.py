"""What is measured of each result: small callables that configs/evaluate.yaml lists, all on one `JudgedCase`.

Each takes a case and a result and returns scores; none where it does not apply (no truth, no confidence).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ..geometry.errors import Refusal
from ..geometry.grid import Grid
from ..metrics.arrays import bounding_box
from ..metrics.closure import sharpness_closed, spectrum_closed
from ..metrics.confidence import error_per_decile, rank_correlation
from ..metrics.fidelity import HFEN_RADIUS_VOXELS, hfen, nrmse, psnr, robust_range, ssim
from ..metrics.pique import pique_of_planes
from ..metrics.residual import Acquires, relative_residual
from ..metrics.sharpness import axis_sharpness
from ..metrics.spectrum import high_band, slice_period_artefact

MARGIN_VOXELS = HFEN_RADIUS_VOXELS + 1  # what a measure's filter sees beyond the mask

OF_TRUTH = "_of_truth"  # ends the name of a measure that is not of a result but of the truth beside it


class Score(NamedTuple):
    """One number: which metric, of which array axis ("" for none), its value and unit ("1": dimensionless)."""

    metric: str
    value: float
    unit: str = "1"
    axis: str = ""


@dataclass(frozen=True)
class JudgedCase:
    """What all methods of a case share; volumes are float32 (X, Y, Z) on the judged grid, in the scan's own units.

    Attributes:
        case: its name.
        grid: the judged one, isotropic.
        axis: the through-plane one.
        factor: slice spacing in voxels.
        truth: None where there is none.
        interpolated: U b, the cubic spline.
        slices: b, as acquired, on square pixels.
        acquisition: A, with the true profile where it is known.
        mask: the body, where every method has a value.
        window: intensities shown as black and white.
    """

    case: str
    grid: Grid
    axis: int
    factor: float
    truth: np.ndarray | None
    interpolated: np.ndarray
    slices: np.ndarray
    acquisition: Acquires
    mask: np.ndarray
    window: tuple[float, float]

    @property
    def spacing_mm(self) -> np.ndarray:
        """Of the three axes."""
        return self.grid.spacing_mm

    @cached_property
    def box(self) -> tuple[slice, ...]:
        """The mask's bounding box with room for filters: what lies outside is not looked at."""
        return bounding_box(self.mask, MARGIN_VOXELS)

    @cached_property
    def data_range(self) -> float:
        """Of PSNR and SSIM: robust, of the truth."""
        return robust_range(self.truth)

    def true_part(self) -> tuple[np.ndarray, np.ndarray]:
        """Truth and mask inside the box."""
        return self.truth[self.box], self.mask[self.box]


class Result(NamedTuple):
    """A method's volume on the judged grid, and its confidence where it has one."""

    values: np.ndarray
    confidence: np.ndarray | None = None


class Fidelity:
    """PSNR (dB), SSIM, NRMSE and HFEN against the truth, inside the mask.

    Args:
        per_axis: SSIM in the planes perpendicular to each axis, and the part of HFEN along it, as well; more than
            doubles the time. (PSNR and NRMSE know no direction.)
    """

    def __init__(self, per_axis: bool = False):
        self.per_axis = per_axis

    def __call__(self, case: JudgedCase, result: Result) -> list[Score]:
        """The scores, none without a truth."""
        if case.truth is None:
            return []
        (truth, mask), values = case.true_part(), result.values[case.box]
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
    """Energy and error above the slices' Nyquist frequency, against the truth: recovered detail and invented one."""

    def __call__(self, case: JudgedCase, result: Result) -> list[Score]:
        """The scores, none without a truth."""
        if case.truth is None:
            return []
        truth, mask = case.true_part()
        band = high_band(result.values[case.box], truth, case.factor, case.axis, mask)
        return [Score("high_band_energy", band.energy), Score("high_band_error", band.error)]


class SlicePeriod:
    """Slice-period artefact: banding and steps, modulation and stripes, and the truth's own where there is one."""

    def __call__(self, case: JudgedCase, result: Result) -> list[Score]:
        """Four scores, or eight."""
        truth = None if case.truth is None else case.truth[case.box]
        found = slice_period_artefact(result.values[case.box], case.factor, case.axis, case.mask[case.box], truth)
        named = {f"slice_period_{name}": value for name, value in found._asdict().items()}
        return [Score(name, value) for name, value in named.items() if value is not None]


class Residual:
    """||A v - b|| / ||b||: does the result explain the slices? A has the true profile where that is known."""

    def __call__(self, case: JudgedCase, result: Result) -> list[Score]:
        """One score."""
        return [Score("residual", relative_residual(result.values, case.slices, case.acquisition, case.axis))]


class Pique:
    """PIQUE of the blurred planes: their mean over each of the two views, and over both; one window for all methods."""

    def __call__(self, case: JudgedCase, result: Result) -> list[Score]:
        """Three scores; `axis` is the one that the planes are perpendicular to."""
        values, mask = result.values[case.box], case.mask[case.box]
        views = {
            axis: float(pique_of_planes(values, axis, case.window, mask).mean())
            for axis in range(values.ndim)
            if axis != case.axis
        }
        mean = Score("pique", float(np.mean(list(views.values()))), "0-100")
        return [mean, *(Score("pique", value, "0-100", str(axis)) for axis, value in views.items())]


class Edges:
    """Steepness of the edges along each axis (1/mm), all scaled by the case's window."""

    def __call__(self, case: JudgedCase, result: Result) -> list[Score]:
        """Three scores."""
        values, mask = result.values[case.box], case.mask[case.box]
        axes = range(values.ndim)
        return [
            Score("edge", axis_sharpness(values, case.spacing_mm, axis, mask, case.window), "1/mm", str(axis))
            for axis in axes
        ]


class Closure:
    """Share of the difference between in-plane and through-plane that is closed, in edges and in the spectrum.

    Where there is a truth, what it closes itself stands beside it.
    """

    def __call__(self, case: JudgedCase, result: Result) -> list[Score]:
        """The scores that are defined; a scan that is no sharper in-plane has none.

        Raises:
            Refusal: if neither is defined.
        """
        interpolated, mask = case.interpolated[case.box], case.mask[case.box]
        judged = {"": result.values} | ({} if case.truth is None else {OF_TRUTH: case.truth})
        scores, reasons = [], []
        for whose, volume in judged.items():
            given = (volume[case.box], interpolated)
            for name, judge, scale in (
                ("sharpness_closed", sharpness_closed, case.spacing_mm),
                ("spectrum_closed", spectrum_closed, case.factor),
            ):
                try:
                    scores.append(Score(name + whose, judge(*given, scale, case.axis, mask)))
                except Refusal as refusal:
                    reasons.append(str(refusal))
        if not scores:
            raise Refusal(reasons[0])
        return scores


class Confidence:
    """Rank correlation of the confidence with the absolute error, and the error in each tenth of the voxels."""

    def __call__(self, case: JudgedCase, result: Result) -> list[Score]:
        """Eleven scores (least confident tenth first), none without truth or confidence."""
        if case.truth is None or result.confidence is None:
            return []
        given = (result.confidence, result.values, case.truth, case.mask)
        tenths = enumerate(error_per_decile(*given), start=1)
        errors = [Score(f"error_decile_{number:02d}", float(e), "scan units") for number, e in tenths if np.isfinite(e)]
        return [Score("confidence_rank_correlation", rank_correlation(*given)), *errors]
