"""Interpolation of slices onto the thin grid (`U`, nearest, linear), and in-plane resampling by the same matrices."""

import numpy as np
from scipy.interpolate import make_interp_spline

from .acquisition import Acquisition, SliceGeometry
from .operator import LinearOperator

CUBIC = 3
SAME_SPACING = 1e-6  # relative; programs round spacings differently when they write the same one


class CubicInterpolation(LinearOperator):
    """`U`: acquired slices -> thin grid, a cubic spline through the slice centres, constant beyond the outer ones.

    Args:
        geometry: positions of the slices.

    Raises:
        ValueError: if there are fewer than 4 slices.

    >>> import torch
    >>> U = CubicInterpolation(SliceGeometry(12, 4, 3, 3))  # slice centres 1, 4, 7, 10
    >>> U(torch.tensor([1.0, 4.0, 7.0, 10.0], dtype=torch.float64)).numpy().round(6)
    array([ 1.,  1.,  2.,  3.,  4.,  5.,  6.,  7.,  8.,  9., 10., 10.])
    """

    def __init__(self, geometry: SliceGeometry) -> None:
        if geometry.slice_count <= CUBIC:
            raise ValueError(f"a cubic spline needs more than {CUBIC} slices, got {geometry.slice_count}")
        centres = geometry.slice_centres_voxels
        spline = make_interp_spline(centres, np.eye(geometry.slice_count), k=CUBIC)
        super().__init__(spline(np.clip(np.arange(geometry.thin_size), centres[0], centres[-1])))
        self.geometry = geometry


def simple_interpolation(geometry: SliceGeometry, order: int) -> LinearOperator:
    """Return nearest-neighbour or linear interpolation, acquired slices -> thin grid, as image viewers do.

    Constant beyond the outer slice centres, as `CubicInterpolation`; a voxel midway between two takes the earlier.

    Args:
        geometry: positions of the slices.
        order: 0 (nearest) or 1 (linear).

    Raises:
        ValueError: on another order.

    >>> import torch
    >>> simple_interpolation(SliceGeometry(6, 2, 3, 3), 0)(torch.tensor([1.0, 2.0]))
    tensor([1., 1., 1., 2., 2., 2.])
    """
    if order not in (0, 1):
        raise ValueError(f"order must be 0 (nearest) or 1 (linear), got {order}: use CubicInterpolation for order 3")
    centres = geometry.slice_centres_voxels
    voxels = np.arange(geometry.thin_size)
    if order == 0:
        nearest = np.abs(voxels[:, None] - centres).argmin(axis=1)
        return LinearOperator(np.eye(geometry.slice_count)[nearest])
    return LinearOperator(np.stack([np.interp(voxels, centres, unit) for unit in np.eye(geometry.slice_count)], axis=1))


def resampling(old_size: int, old_spacing_mm: float, new_size: int, new_spacing_mm: float) -> LinearOperator | None:
    """Return the operator from one spacing to another about a common centre, or None where nothing changes.

    To a finer spacing: a cubic spline. To a coarser one: the mean over the new voxel, which avoids aliasing.

    Args:
        old_size: number of samples before.
        old_spacing_mm: distance of samples before.
        new_size: number of samples after.
        new_spacing_mm: distance of samples after.

    >>> import torch
    >>> resampling(6, 1.0, 2, 3.0)(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
    tensor([2., 5.])
    """
    if old_size == new_size and np.isclose(old_spacing_mm, new_spacing_mm, rtol=SAME_SPACING):
        return None
    ratio = old_spacing_mm / new_spacing_mm
    if ratio >= 1:
        return CubicInterpolation(SliceGeometry(new_size, old_size, ratio, ratio))
    return Acquisition(SliceGeometry(old_size, new_size, 1 / ratio, 1 / ratio))


def sampling(old_size: int, old_spacing_mm: float, new_size: int, new_spacing_mm: float) -> LinearOperator:
    """Return the operator that samples a smooth signal at another spacing about a common centre, by a cubic spline.

    Unlike `resampling` it takes no means, which would blur: for signals that hold nothing finer than the new spacing,
    such as zero-filled ones.

    Args:
        old_size: number of samples before.
        old_spacing_mm: distance of samples before.
        new_size: number of samples after.
        new_spacing_mm: distance of samples after.

    >>> import torch
    >>> sampling(5, 1.0, 3, 2.0)(torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0])).round(decimals=3)
    tensor([0., 2., 4.])
    """
    step = new_spacing_mm / old_spacing_mm
    places = (old_size - 1) / 2 + (np.arange(new_size) - (new_size - 1) / 2) * step
    spline = make_interp_spline(np.arange(old_size), np.eye(old_size), k=CUBIC)
    return LinearOperator(spline(np.clip(places, 0, old_size - 1)))
