"""Data consistency: the difference between the re-acquired result and the acquired slices; needs no truth."""

from typing import Protocol

import numpy as np
import torch

from ..geometry.errors import Refusal
from .arrays import Array, as_image, checked_axis


class Acquires(Protocol):
    """An object with a `forward` along the last axis, such as `Acquisition`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return A x: (..., thin) -> (..., slices)."""
        ...


def relative_residual(
    volume: Array, slices: Array, acquisition: Acquires, axis: int = -1, mask: Array | None = None
) -> float:
    """Return ||A v - b|| / ||b||, dimensionless; 0 where re-acquisition of the volume gives the slices.

    Args:
        volume: v, (X, Y, Z), with the thin voxels along `axis`.
        slices: b, (X, Y, Z), with the slices along `axis`, same units.
        acquisition: A, which acts along the last axis.
        axis: the through-plane axis.
        mask: boolean, as the slices: what is compared; None: all.

    Raises:
        Refusal: on bad arrays, slices that do not fit A v, or slices that are all zero where they are compared.

    >>> from scripts.physics.acquisition import Acquisition, SliceGeometry
    >>> A = Acquisition(SliceGeometry(thin_size=12, slice_count=3, slice_spacing_voxels=4, slice_thickness_voxels=4))
    >>> volume = np.random.default_rng(0).random((8, 8, 12))
    >>> slices = A(torch.from_numpy(volume)).numpy()
    >>> round(relative_residual(volume, slices, A), 6), round(relative_residual(1.1 * volume, slices, A), 6)
    (0.0, 0.1)
    """
    volume, slices = as_image(volume, "volume"), as_image(slices, "slices")
    thin, thick = (np.moveaxis(a, checked_axis(axis, a), -1) for a in (volume, slices))
    acquired = np.asarray(acquisition.forward(torch.from_numpy(np.ascontiguousarray(thin))))
    if acquired.shape != thick.shape:
        raise Refusal(f"A makes slices of shape {acquired.shape} of this volume, given are {thick.shape}: wrong scan?")
    inside = ... if mask is None else np.moveaxis(np.asarray(mask, dtype=bool), checked_axis(axis, slices), -1)
    norm = float(np.linalg.norm(thick[inside]))
    if not norm > 0:
        raise Refusal("slices are all zero: a relative residual is undefined")
    return float(np.linalg.norm((acquired - thick)[inside])) / norm
