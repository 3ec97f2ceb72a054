"""Share of the difference between in-plane and through-plane sharpness that a result closes; needs no truth.

0 is interpolation, 1 as sharp as the acquired planes of the scan. Acquired planes are averages over the slice
thickness and therefore not fully sharp: the truths of simulated scans close 1 to 3 times the difference, 2 on average,
and more for thicker slices (docs/README.md). Anatomy differs along the axes too. Read these measures beside the
residual, never alone.
"""

from collections.abc import Sequence

import numpy as np

from ..geometry.errors import Refusal
from .arrays import Array, as_mask, as_pair, checked_axis
from .sharpness import axis_sharpness, scale_window
from .spectrum import high_band_share


def share_closed(result: float, interpolated: float, in_plane: float) -> float:
    """Return (result - interpolated) / (in-plane - interpolated), dimensionless.

    Args:
        result: sharpness of the result along the through-plane axis, by any measure; larger is sharper.
        interpolated: the same of `U b`.
        in_plane: the same along the in-plane axes.

    Raises:
        Refusal: if the scan is not sharper in-plane, so that there is no difference to close.

    >>> share_closed(result=0.75, interpolated=0.5, in_plane=1.0)
    0.5
    """
    if not in_plane > interpolated:
        raise Refusal(
            f"in-plane sharpness {in_plane:.4g} does not exceed the through-plane one {interpolated:.4g}: "
            "there is no difference to close; is the through-plane axis right?"
        )
    return (result - interpolated) / (in_plane - interpolated)


def sharpness_closed(
    result: Array, interpolated: Array, spacing_mm: Sequence[float], axis: int = -1, mask: Array | None = None
) -> float:
    """Return the share of the difference in `axis_sharpness` that the result closes; needs no truth.

    Both volumes are scaled by the intensity window of the interpolated input.

    Args:
        result: (X, Y, Z) on the isotropic grid.
        interpolated: `U b` on the same grid; it scores 0, and its in-plane axes define 1.
        spacing_mm: of the three axes.
        axis: the through-plane axis.
        mask: (X, Y, Z) or None for everywhere.

    Raises:
        Refusal: on bad arrays or a scan that is not sharper in-plane.
    """
    result, interpolated = as_pair(result, interpolated)
    inside = as_mask(mask, result.shape)
    axis = checked_axis(axis, result)
    window = scale_window(interpolated, inside)
    own, *of_input = (
        axis_sharpness(v, spacing_mm, a, inside, window)
        for v, a in ((result, axis), (interpolated, axis), *_in_plane(interpolated, axis))
    )
    return share_closed(own, of_input[0], float(np.mean(of_input[1:])))


def spectrum_closed(
    result: Array, interpolated: Array, factor: float, axis: int = -1, mask: Array | None = None
) -> float:
    """Return the share of the difference in `high_band_share` that the result closes; needs no truth.

    Args:
        result: (X, Y, Z) on the isotropic grid.
        interpolated: `U b` on the same grid; it scores 0, and its in-plane axes define 1.
        factor: slice spacing in voxels, above 1.
        axis: the through-plane axis.
        mask: (X, Y, Z) or None for everywhere; only its bounding box is used.

    Raises:
        Refusal: on bad arrays or a scan without more detail in-plane.

    >>> sharp = np.random.default_rng(0).normal(size=(32, 32, 32))
    >>> blurred = sharp.reshape(32, 32, 8, 4).mean(axis=-1).repeat(4, axis=-1)
    >>> shares = [spectrum_closed(result, blurred, factor=4) for result in (blurred, (blurred + sharp) / 2)]
    >>> shares[0], 0 < shares[1] < 1
    (0.0, True)
    """
    result, interpolated = as_pair(result, interpolated)
    axis = checked_axis(axis, result)
    own, *of_input = (
        high_band_share(v, factor, a, mask)
        for v, a in ((result, axis), (interpolated, axis), *_in_plane(interpolated, axis))
    )
    return share_closed(own, of_input[0], float(np.mean(of_input[1:])))


def _in_plane(volume: np.ndarray, axis: int) -> list[tuple[np.ndarray, int]]:
    return [(volume, a) for a in range(volume.ndim) if a != axis]
