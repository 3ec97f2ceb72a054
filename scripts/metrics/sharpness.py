"""Sharpness of edges across a border (Steeden et al. 2011) and along an axis, in 1/mm after robust scaling."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import least_squares
from scipy.special import ndtr

from ..geometry.errors import Refusal
from .arrays import Array, as_image, as_mask, checked_axis
from .profiles import MIN_PROFILES, Profiles

SCALE_PERCENTILES = (1.0, 99.0)  # mapped to 0 and 1
POLYNOMIAL_DEGREE = 7  # odd, like an edge; higher degrees fit the noise
RISE = (0.1, 0.9)  # of the step between the two plateaus
MIN_STEP = 0.02  # between the plateaus, after scaling; below it there is no edge
PLATEAU_PART = 4  # the plateau is the outer 1/4 of each half of a profile
SLOPE_OF_SIGMOID = 1 / np.sqrt(2 * np.pi)  # of the normal distribution function at 0
ROUNDING = 1e-9  # relative rounding error of the spline; contrast below it is noise
STEEPEST_PERCENTILE = 99.0  # of the gradients in the body, taken as those of its edges


class Spread(NamedTuple):
    """Median and quartiles over the profiles."""

    median: float
    lower: float
    upper: float


class EdgeSharpness(NamedTuple):
    """Sharpness of a border; larger gradients and shorter rises are sharper.

    Attributes:
        raw: largest gradient of the profiles, 1/mm.
        polynomial: largest gradient of polynomials of degree 7 fitted to them, 1/mm.
        sigmoid: largest gradient of normal distribution functions fitted to them, 1/mm.
        rise_mm: distance from 10 to 90 % of the step.
        overshoot: largest excess over the plateaus, relative to the step; 0 without ringing.
        profile_count: number of profiles.
    """

    raw: Spread
    polynomial: Spread
    sigmoid: Spread
    rise_mm: Spread
    overshoot: Spread
    profile_count: int


def edge_sharpness(profiles: Profiles) -> EdgeSharpness:
    """Return the edge sharpness of profiles across a border, from `border_profiles` or `line_profiles`.

    For a step blurred by a Gaussian of sigma: 1 / (sigma sqrt(2 pi)) in 1/mm, rise 2.563 sigma.

    Args:
        profiles: at least 6, with the border in the middle; gradients are taken from the inner half.

    Raises:
        Refusal: on fewer profiles, or if they have no contrast.

    >>> position_mm = np.linspace(-8, 8, 161)
    >>> blurred_step = 100 + 500 * ndtr(position_mm / 1.5)  # sigma 1.5 mm
    >>> sharpness = edge_sharpness(Profiles(np.tile(blurred_step, (6, 1)), step_mm=0.1))
    >>> round(sharpness.sigmoid.median, 3), round(sharpness.rise_mm.median, 1)
    (0.266, 3.8)
    """
    values, step_mm = profiles
    if len(values) < MIN_PROFILES:
        raise Refusal(f"{len(values)} profiles: a median and its spread need {MIN_PROFILES}")
    low, high = np.percentile(values, SCALE_PERCENTILES)
    if not high - low > ROUNDING * max(abs(low), abs(high)):
        raise Refusal("the region about the border is constant: there is no edge to measure")
    scaled = (values - low) / (high - low)
    positions = (np.arange(scaled.shape[1]) - (scaled.shape[1] - 1) / 2) * step_mm
    inner = np.abs(positions) <= positions[-1] / 2
    shapes = [_shape(profile, positions) for profile in scaled]
    return EdgeSharpness(
        raw=_spread(np.abs(np.gradient(scaled, step_mm, axis=1))[:, inner].max(axis=1)),
        polynomial=_spread([_polynomial_gradient(profile[inner], positions[inner]) for profile in scaled]),
        sigmoid=_spread([_sigmoid_gradient(profile, positions) for profile in scaled]),
        rise_mm=_spread([rise for rise, _ in shapes]),
        overshoot=_spread([overshoot for _, overshoot in shapes]),
        profile_count=len(scaled),
    )


def axis_sharpness(
    volume: Array,
    spacing_mm: Sequence[float],
    axis: int,
    mask: Array | None = None,
    window: tuple[float, float] | None = None,
) -> float:
    """Return the steepness of the edges along one axis: the 99th percentile of |difference| / spacing, in 1/mm.

    Differences are those of neighbouring voxels, both inside the mask, after scaling by the window. No label is needed.

    Args:
        volume: (X, Y, Z), any intensity scale.
        spacing_mm: of the three axes.
        axis: along which.
        mask: (X, Y, Z) or None for everywhere.
        window: (low, high), scaled to 0 and 1; None: the 1st and 99th percentile of the volume inside the mask. Methods
            that are compared must share it.

    Raises:
        Refusal: on bad arrays, an empty window, or a mask without two neighbours along the axis.

    >>> ramp = np.broadcast_to(np.arange(10.0), (4, 4, 10))
    >>> axis_sharpness(ramp, spacing_mm=(1, 1, 2), axis=2, window=(0, 10))  # 1/10 in 2 mm
    0.05
    """
    volume = as_image(volume, "volume")
    inside = as_mask(mask, volume.shape)
    axis = checked_axis(axis, volume)
    low, high = scale_window(volume, inside) if window is None else window
    if not high > low:
        raise Refusal(f"window ({low:g}, {high:g}) is empty: the volume is constant inside the mask")
    lines, kept = np.moveaxis(volume, axis, -1), np.moveaxis(inside, axis, -1)
    both = kept[..., 1:] & kept[..., :-1]
    if not both.any():
        raise Refusal(f"the mask holds no two neighbours along axis {axis}")
    steps = np.abs(np.diff(lines, axis=-1)[both])
    return float(np.percentile(steps, STEEPEST_PERCENTILE)) / (high - low) / float(spacing_mm[axis])


def scale_window(volume: Array, mask: Array | None = None) -> tuple[float, float]:
    """Return the 1st and 99th percentile of the volume inside the mask, in its own units."""
    volume = as_image(volume, "volume")
    low, high = np.percentile(volume[as_mask(mask, volume.shape)], SCALE_PERCENTILES)
    return float(low), float(high)


def _spread(values: ArrayLike) -> Spread:
    finite = np.asarray(values, float)
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        return Spread(float("nan"), float("nan"), float("nan"))
    lower, median, upper = np.percentile(finite, (25, 50, 75))
    return Spread(float(median), float(lower), float(upper))


def _polynomial_gradient(profile: np.ndarray, positions: np.ndarray) -> float:
    fit = np.polynomial.Polynomial.fit(positions, profile, POLYNOMIAL_DEGREE)
    return float(np.abs(fit.deriv()(positions)).max())


def _sigmoid_gradient(profile: np.ndarray, positions: np.ndarray) -> float:
    """Return the largest gradient of a fitted a + b Phi((x - c) / w), |b| / (w sqrt(2 pi)); exact for Gaussian blur."""
    before, after = _plateaus(profile)
    step_mm, reach_mm = positions[1] - positions[0], positions[-1]
    fit = least_squares(
        lambda p: p[0] + p[1] * ndtr((positions - p[2]) / p[3]) - profile,
        (before, after - before, 0.0, reach_mm / PLATEAU_PART),
        jac=lambda p: _sigmoid_jacobian(p, positions),
        bounds=((-np.inf, -np.inf, -reach_mm / 2, step_mm), (np.inf, np.inf, reach_mm / 2, reach_mm)),
    )
    return float(abs(fit.x[1]) / fit.x[3] * SLOPE_OF_SIGMOID)


def _sigmoid_jacobian(parameters: np.ndarray, positions: np.ndarray) -> np.ndarray:
    _, height, centre, width = parameters
    z = (positions - centre) / width
    slope = height / width * SLOPE_OF_SIGMOID * np.exp(-z * z / 2)
    return np.stack([np.ones_like(z), ndtr(z), -slope, -slope * z], axis=1)


def _plateaus(profile: np.ndarray) -> tuple[float, float]:
    outer = profile.size // (2 * PLATEAU_PART)
    return float(profile[:outer].mean()), float(profile[-outer:].mean())


def _shape(profile: np.ndarray, positions: np.ndarray) -> tuple[float, float]:
    """Return the rise from 10 to 90 % in mm and the overshoot relative to the step; NaN where there is no step."""
    before, after = _plateaus(profile)
    if abs(after - before) < MIN_STEP:
        return float("nan"), float("nan")
    part = (profile - before) / (after - before)
    overshoot = max(float(part.max()) - 1, -float(part.min()), 0.0)
    crossings = np.flatnonzero((part[:-1] < 1 / 2) & (part[1:] >= 1 / 2))
    middle = crossings[np.abs(positions[crossings]).argmin()]
    below = np.flatnonzero(part[: middle + 1] <= RISE[0])
    above = np.flatnonzero(part[middle:] >= RISE[1])
    if not (below.size and above.size):
        return float("nan"), overshoot
    start = _crossing(part, positions, below[-1], RISE[0])
    end = _crossing(part, positions, middle + above[0] - 1, RISE[1])
    return end - start, overshoot


def _crossing(part: np.ndarray, positions: np.ndarray, index: int, level: float) -> float:
    """Return the position between sample `index` and the next at which the part reaches the level."""
    share = (level - part[index]) / (part[index + 1] - part[index])
    return float(positions[index] + share * (positions[index + 1] - positions[index]))
