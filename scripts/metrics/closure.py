"""How much of the difference between in-plane and through-plane sharpness is closed; needs no truth.

0 is interpolation, 1 as sharp as the scan's own acquired planes. Those are averages over a slice's thickness, which
takes detail from them too: thin truths of simulated scans close 1 to 3 times the difference, about 2 in the mean, the
more the thicker the slices (docs/README.md). Anatomy is not the same along all axes either, so these are indications:
they stand beside the residual, never alone.
"""

from collections.abc import Sequence

import numpy as np

from ..geometry.errors import Refusal
from .arrays import as_mask, as_pair, checked_axis
from .sharpness import axis_sharpness, scale_window
from .spectrum import high_band_share


def share_closed(result: float, interpolated: float, in_plane: float) -> float:
    """(result - interpolated) / (in-plane - interpolated), dimensionless.

    Args:
        result: any sharpness of the result along the through-plane axis; larger is sharper.
        interpolated: the same of `U b`.
        in_plane: the same along the acquired planes.

    Raises:
        Refusal: if the scan is not sharper in-plane: there is no difference to close.
    """
    if not in_plane > interpolated:
        raise Refusal(
            f"in-plane sharpness {in_plane:.4g} does not exceed the through-plane one {interpolated:.4g}: "
            "there is no difference to close; is the through-plane axis right?"
        )
    return (result - interpolated) / (in_plane - interpolated)


def sharpness_closed(result, interpolated, spacing_mm: Sequence[float], axis: int = -1, mask=None) -> float:
    """Share of the difference in `axis_sharpness` that the result closes; both are scaled by the input's window.

    Args:
        result: (X, Y, Z) on the isotropic grid.
        interpolated: `U b` on the same grid: 0 by definition, and its acquired axes are 1.
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


def spectrum_closed(result, interpolated, factor: float, axis: int = -1, mask=None) -> float:
    """Share of the difference in `high_band_share` that the result closes.

    Args:
        result: (X, Y, Z) on the isotropic grid.
        interpolated: `U b` on the same grid: 0 by definition, and its acquired axes are 1.
        factor: slice spacing in voxels, above 1.
        axis: the through-plane axis.
        mask: (X, Y, Z) or None for everywhere; its bounding box counts.

    Raises:
        Refusal: on bad arrays or a scan without more detail in-plane.
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
