"""`U`: cubic-spline interpolation of slices onto the thin grid, and in-plane resampling by the same matrices."""

import numpy as np
from scipy.interpolate import make_interp_spline

from .acquisition import Acquisition, SliceGeometry
from .operator import LinearOperator

CUBIC = 3
SAME_SPACING = 1e-6  # relative; two spacings nearer than this are one, written by different programs


class CubicInterpolation(LinearOperator):
    """`U`: acquired slices -> thin grid, a cubic spline through the slice centres, constant beyond the outer ones.

    Args:
        geometry: where the slices lie; at least 4 slices.
    """

    def __init__(self, geometry: SliceGeometry):
        if geometry.slice_count <= CUBIC:
            raise ValueError(f"a cubic spline needs more than {CUBIC} slices, got {geometry.slice_count}")
        centres = geometry.slice_centres_voxels
        spline = make_interp_spline(centres, np.eye(geometry.slice_count), k=CUBIC)
        super().__init__(spline(np.clip(np.arange(geometry.thin_size), centres[0], centres[-1])))
        self.geometry = geometry


def simple_interpolation(geometry: SliceGeometry, order: int) -> LinearOperator:
    """What a viewer does with acquired slices -> thin grid: the nearest slice (order 0) or linearly between two (1).

    Constant beyond the outer slice centres, as `CubicInterpolation`; a voxel midway between two takes the earlier.

    Args:
        geometry: where the slices lie.
        order: 0 or 1.
    """
    if order not in (0, 1):
        raise ValueError(f"order must be 0 (nearest) or 1 (linear), got {order}: CubicInterpolation is the next")
    centres = geometry.slice_centres_voxels
    places = np.arange(geometry.thin_size)
    if order == 0:
        nearest = np.abs(places[:, None] - centres).argmin(axis=1)
        return LinearOperator(np.eye(geometry.slice_count)[nearest])
    return LinearOperator(np.stack([np.interp(places, centres, unit) for unit in np.eye(geometry.slice_count)], axis=1))


def resampling(old_size: int, old_spacing_mm: float, new_size: int, new_spacing_mm: float) -> LinearOperator | None:
    """The operator from samples of one spacing to another about a common centre, or None where nothing changes.

    Finer: cubic spline. Coarser: the mean over the new voxel (`A` with a box), so that nothing is aliased.
    """
    if old_size == new_size and np.isclose(old_spacing_mm, new_spacing_mm, rtol=SAME_SPACING):
        return None
    ratio = old_spacing_mm / new_spacing_mm
    if ratio >= 1:
        return CubicInterpolation(SliceGeometry(new_size, old_size, ratio, ratio))
    return Acquisition(SliceGeometry(old_size, new_size, 1 / ratio, 1 / ratio))
