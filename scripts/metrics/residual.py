"""Does the result explain what was measured? Needs no truth, only the acquired slices and the operator A."""

from typing import Protocol

import numpy as np
import torch

from ..geometry.errors import Refusal
from .arrays import as_image, checked_axis


class Acquires(Protocol):
    """Anything with a `forward` along the last axis, such as `Acquisition`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A x: (..., thin) -> (..., slices)."""


def relative_residual(volume, slices, acquisition: Acquires, axis: int = -1) -> float:
    """||A v - b|| / ||b||, dimensionless; 0 when re-acquiring the volume gives the slices back.

    Args:
        volume: v, (X, Y, Z), through-plane direction along `axis`.
        slices: b, the same with the slices along `axis`, same units.
        acquisition: A, acting along the last axis.
        axis: the through-plane axis.

    Raises:
        Refusal: on bad arrays, slices that do not fit A v, or slices that are all zero.
    """
    volume, slices = as_image(volume, "volume"), as_image(slices, "slices")
    thin, thick = (np.moveaxis(a, checked_axis(axis, a), -1) for a in (volume, slices))
    acquired = np.asarray(acquisition.forward(torch.from_numpy(np.ascontiguousarray(thin))))
    if acquired.shape != thick.shape:
        raise Refusal(f"A makes slices of shape {acquired.shape} of this volume, given are {thick.shape}: wrong scan?")
    norm = float(np.linalg.norm(thick))
    if not norm > 0:
        raise Refusal("slices are all zero: a relative residual has no meaning")
    return float(np.linalg.norm(acquired - thick)) / norm
