"""Edge sharpness: the largest gradient across a border (Steeden et al. 2011), in 1/mm after robust scaling."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares
from scipy.special import ndtr

from ..geometry.errors import Refusal
from .arrays import as_image, as_mask, checked_axis
from .profiles import MIN_PROFILES, Profiles, border_profiles

SCALE_PERCENTILES = (1.0, 99.0)  # of the profiles' region, mapped to 0 and 1
POLYNOMIAL_DEGREE = 7  # odd, as an edge is; higher ones follow the noise
RISE = (0.1, 0.9)  # of the way between the two plateaus
MIN_STEP = 0.02  # between the plateaus, after scaling; under it there is no edge to time
PLATEAU_PART = 4  # the outer 1/4 of a profile's half on each side is its plateau
SLOPE_OF_SIGMOID = 1 / np.sqrt(2 * np.pi)  # of the normal distribution function at 0
ROUNDING = 1e-9  # of the values, by the spline; contrast below it is none
REACH_MM = 8.0
COUNT = 64
MAX_ANGLE_DEG = 30.0
STEEPEST_PERCENTILE = 99.0  # of the gradients in the body: its edges


class Spread(NamedTuple):
    """Median and quartiles over the profiles."""

    median: float
    lower: float
    upper: float


class EdgeSharpness(NamedTuple):
    """What a border looks like. Larger gradients are sharper, shorter rises too; overshoot 0 is none.

    `raw`, `polynomial`, `sigmoid`: largest gradient of the profile itself, of a polynomial of degree 7 and of a
    normal distribution function fitted to it, in 1/mm. `rise_mm`: distance from 10 to 90 % of the step. `overshoot`:
    how far the profile goes beyond its plateaus, over the step. `count`: of the profiles.
    """

    raw: Spread
    polynomial: Spread
    sigmoid: Spread
    rise_mm: Spread
    overshoot: Spread
    count: int


def edge_sharpness(
    volume,
    label,
    spacing_mm: Sequence[float],
    *,
    reach_mm: float = REACH_MM,
    count: int = COUNT,
    axis: int | None = None,
    max_angle_deg: float = MAX_ANGLE_DEG,
) -> EdgeSharpness:
    """Edge sharpness across the border of a label, from at least 6 profiles perpendicular to it.

    For a step blurred by a Gaussian of sigma: 1 / (sigma sqrt(2 pi)) in 1/mm, rise 2.563 sigma.

    Args:
        volume: (X, Y, Z), any intensity scale.
        label: (X, Y, Z), not zero inside the organ; the same for all methods.
        spacing_mm: of the three axes.
        reach_mm: how far a profile goes to each side; the edge is sought in its inner half.
        count: how many profiles at most.
        axis: only where the normal is near this axis (the through-plane one, say); None takes the whole border.
        max_angle_deg: largest angle between normal and axis.

    Raises:
        Refusal: on bad arrays, a border too short for 6 profiles, or a region without contrast.
    """
    return measured(
        border_profiles(
            volume, label, spacing_mm, reach_mm=reach_mm, count=count, axis=axis, max_angle_deg=max_angle_deg
        )
    )


def measured(profiles: Profiles) -> EdgeSharpness:
    """Edge sharpness of given profiles (from a label or from two clicked points).

    Args:
        profiles: at least 6, the border in their middle.

    Raises:
        Refusal: on fewer profiles, or if they hold no contrast.
    """
    values, step_mm = profiles
    if len(values) < MIN_PROFILES:
        raise Refusal(f"{len(values)} profiles: a median and its spread need {MIN_PROFILES}")
    low, high = np.percentile(values, SCALE_PERCENTILES)
    if not high - low > ROUNDING * max(abs(low), abs(high)):
        raise Refusal("the region about the border is constant: there is no edge to measure")
    scaled = (values - low) / (high - low)
    places = (np.arange(scaled.shape[1]) - (scaled.shape[1] - 1) / 2) * step_mm
    inner = np.abs(places) <= places[-1] / 2
    shapes = [_shape(profile, places) for profile in scaled]
    return EdgeSharpness(
        raw=_spread(np.abs(np.gradient(scaled, step_mm, axis=1))[:, inner].max(axis=1)),
        polynomial=_spread([_polynomial_gradient(profile[inner], places[inner]) for profile in scaled]),
        sigmoid=_spread([_sigmoid_gradient(profile, places) for profile in scaled]),
        rise_mm=_spread([rise for rise, _ in shapes]),
        overshoot=_spread([overshoot for _, overshoot in shapes]),
        count=len(scaled),
    )


def axis_sharpness(
    volume, spacing_mm: Sequence[float], axis: int, mask=None, window: tuple[float, float] | None = None
) -> float:
    """Steepness of the edges along one axis without a label: 99th percentile of |difference| / spacing, in 1/mm.

    Differences of neighbouring voxels, both inside the mask, of values scaled by their 1st and 99th percentile.

    Args:
        volume: (X, Y, Z), any intensity scale.
        spacing_mm: of the three axes.
        axis: along which.
        mask: (X, Y, Z) or None for everywhere.
        window: (low, high) that become 0 and 1; by default the volume's own percentiles. Methods that are compared
            must share it.

    Raises:
        Refusal: on bad arrays, an empty window, or a mask without two neighbours along the axis.
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


def scale_window(volume, mask=None) -> tuple[float, float]:
    """1st and 99th percentile of the volume inside the mask, in its own units."""
    volume = as_image(volume, "volume")
    low, high = np.percentile(volume[as_mask(mask, volume.shape)], SCALE_PERCENTILES)
    return float(low), float(high)


def _spread(values) -> Spread:
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    if not values.size:
        return Spread(float("nan"), float("nan"), float("nan"))
    lower, median, upper = np.percentile(values, (25, 50, 75))
    return Spread(float(median), float(lower), float(upper))


def _polynomial_gradient(profile: np.ndarray, places: np.ndarray) -> float:
    fit = np.polynomial.Polynomial.fit(places, profile, POLYNOMIAL_DEGREE)
    return float(np.abs(fit.deriv()(places)).max())


def _sigmoid_gradient(profile: np.ndarray, places: np.ndarray) -> float:
    """Largest gradient of a + b Phi((x - c) / w): |b| / (w sqrt(2 pi)); exact where blur is Gaussian."""
    before, after = _plateaus(profile)
    step_mm, reach_mm = places[1] - places[0], places[-1]
    fit = least_squares(
        lambda p: p[0] + p[1] * ndtr((places - p[2]) / p[3]) - profile,
        (before, after - before, 0.0, reach_mm / PLATEAU_PART),
        jac=lambda p: _sigmoid_jacobian(p, places),
        bounds=((-np.inf, -np.inf, -reach_mm / 2, step_mm), (np.inf, np.inf, reach_mm / 2, reach_mm)),
    )
    return float(abs(fit.x[1]) / fit.x[3] * SLOPE_OF_SIGMOID)


def _sigmoid_jacobian(parameters: np.ndarray, places: np.ndarray) -> np.ndarray:
    _, height, centre, width = parameters
    z = (places - centre) / width
    slope = height / width * SLOPE_OF_SIGMOID * np.exp(-z * z / 2)
    return np.stack([np.ones_like(z), ndtr(z), -slope, -slope * z], axis=1)


def _plateaus(profile: np.ndarray) -> tuple[float, float]:
    outer = profile.size // (2 * PLATEAU_PART)
    return float(profile[:outer].mean()), float(profile[-outer:].mean())


def _shape(profile: np.ndarray, places: np.ndarray) -> tuple[float, float]:
    """Rise from 10 to 90 % in mm and overshoot over the step; NaN where there is no step."""
    before, after = _plateaus(profile)
    if abs(after - before) < MIN_STEP:
        return float("nan"), float("nan")
    part = (profile - before) / (after - before)
    overshoot = max(float(part.max()) - 1, -float(part.min()), 0.0)
    crossings = np.flatnonzero((part[:-1] < 1 / 2) & (part[1:] >= 1 / 2))
    middle = crossings[np.abs(places[crossings]).argmin()]
    below = np.flatnonzero(part[: middle + 1] <= RISE[0])
    above = np.flatnonzero(part[middle:] >= RISE[1])
    if not (below.size and above.size):
        return float("nan"), overshoot
    start = _crossing(part, places, below[-1], RISE[0])
    end = _crossing(part, places, middle + above[0] - 1, RISE[1])
    return end - start, overshoot


def _crossing(part: np.ndarray, places: np.ndarray, index: int, level: float) -> float:
    """Where the part reaches the level between sample `index` and the next."""
    share = (level - part[index]) / (part[index + 1] - part[index])
    return float(places[index] + share * (places[index + 1] - places[index]))
