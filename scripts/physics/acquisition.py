"""The acquisition operator `A`, thin grid -> thick slices, and `SliceGeometry`, the position of the slices."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from .operator import LinearOperator
from .profile import check_profile, profile_weights, transfer

MIN_ROW_MASS = 1e-6  # sensitivity within the thin grid, in thin voxels, below which a slice lies outside it
INSIDE = 0.99  # share of a slice's sensitivity that must lie in the voxels that a volume covers
CONDITIONING_CYCLES = (0.25, 0.5, 0.75)  # per slice spacing: frequencies at which the conditioning gives the transfer


@dataclass(frozen=True)
class SliceGeometry:
    """Positions and profile of the slices of a scan on a thin grid, along the through-plane axis, in thin voxels.

    Args:
        thin_size: number n of thin voxels; their centres are 0 ... n - 1.
        slice_count: number N of acquired slices.
        slice_spacing_voxels: centre to centre; the anisotropy factor where the thin grid is isotropic.
        slice_thickness_voxels: FWHM of the slice profile.
        profile: "rect", "slr", "gauss" or "fourier".
        first_slice_voxels: centre of slice 0; None: the two fields of view share their centre.

    Raises:
        ValueError: if a size, spacing or thickness is not positive, or the profile is unknown.

    >>> geometry = SliceGeometry(thin_size=12, slice_count=3, slice_spacing_voxels=4, slice_thickness_voxels=4)
    >>> geometry.slice_centres_voxels
    array([1.5, 5.5, 9.5])
    """

    thin_size: int
    slice_count: int
    slice_spacing_voxels: float
    slice_thickness_voxels: float
    profile: str = "rect"
    first_slice_voxels: float = None  # type: ignore[assignment]  # a number after __post_init__

    def __post_init__(self) -> None:
        check_profile(self.profile)
        if min(self.thin_size, self.slice_count) < 1:
            raise ValueError(f"sizes must be positive, got {self.thin_size} voxels and {self.slice_count} slices")
        for name in ("slice_spacing_voxels", "slice_thickness_voxels"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.first_slice_voxels is None:
            middle = (self.thin_size - 1) / 2
            object.__setattr__(
                self, "first_slice_voxels", middle - (self.slice_count - 1) / 2 * self.slice_spacing_voxels
            )

    @property
    def slice_centres_voxels(self) -> np.ndarray:
        """Centres of the slices, shape (slice_count,), in thin voxels."""
        return self.first_slice_voxels + self.slice_spacing_voxels * np.arange(self.slice_count)

    def mirrored(self) -> "SliceGeometry":
        """Return the same slices on the reversed axis, where voxel 0 is voxel n - 1."""
        return replace(self, first_slice_voxels=self.thin_size - 1 - float(self.slice_centres_voxels[-1]))

    def conditioning(self) -> np.ndarray:
        """Return the conditioning of a generator: channels that describe the acquisition to it.

        Rows: cosine and sine of the slice phase (0 at a slice centre), log2 of the anisotropy factor, and the
        modulation transfer of the profile at 1/4, 1/2 and 3/4 cycle per slice spacing. The transfer says how much
        detail the slices hide, so that one generator adapts to each thickness and profile (docs/physics.md).

        Returns:
            Shape (6, thin_size), dimensionless.

        >>> SliceGeometry(8, 2, 4, 4).conditioning()[2:, 0].round(2)
        array([2.  , 0.9 , 0.64, 0.3 ])
        """
        spacing = self.slice_spacing_voxels
        phase = 2 * np.pi * (np.arange(self.thin_size) - self.first_slice_voxels) / spacing
        passed = transfer(self.slice_thickness_voxels / spacing, self.profile, CONDITIONING_CYCLES)
        constants = np.array([np.log2(spacing), *passed])[:, None] * np.ones(self.thin_size)
        return np.stack([np.cos(phase), np.sin(phase), *constants])


class Acquisition(LinearOperator):
    """`A`: thin grid -> acquired slices, along the last axis.

    A[i, j] = profile(j - c_i), with c_i the centre of slice i. Each row is scaled to sum 1, so constants are
    preserved; a slice that reaches beyond the field of view averages the part inside.

    Args:
        geometry: positions and profile of the slices.

    Raises:
        ValueError: if a slice lies outside the thin grid.

    >>> A = Acquisition(SliceGeometry(thin_size=6, slice_count=2, slice_spacing_voxels=3, slice_thickness_voxels=3))
    >>> A
    <2 x 6> Acquisition
    >>> A(torch.tensor([0.0, 0.0, 3.0, 3.0, 3.0, 3.0]))
    tensor([1., 3.])
    """

    def __init__(self, geometry: SliceGeometry) -> None:
        distance = np.arange(geometry.thin_size)[None, :] - geometry.slice_centres_voxels[:, None]
        weights = profile_weights(distance, geometry.slice_thickness_voxels, geometry.profile)
        mass = weights.sum(axis=1, keepdims=True)
        if mass.min() < MIN_ROW_MASS:
            raise ValueError(f"slice {int(mass.argmin())} lies outside the thin grid of {geometry}")
        super().__init__(weights / mass)
        self.geometry = geometry

    def is_inside(self, covered: torch.Tensor) -> torch.Tensor:
        """Return which voxels of the slices average only what a volume covers.

        The absolute sensitivity counts: where it is negative outside, that inside sums to 1 or more (fourier).

        Args:
            covered: (..., thin_size), 1 where the volume covers a voxel, 0 where not.

        Returns:
            Boolean, (..., slice_count).

        >>> A = Acquisition(SliceGeometry(thin_size=6, slice_count=2, slice_spacing_voxels=3, slice_thickness_voxels=3))
        >>> A.is_inside(torch.tensor([0.0, 1.0, 1.0, 1.0, 1.0, 1.0]))
        tensor([False,  True])
        """
        sensitivity = np.abs(self.matrix)
        share = LinearOperator(sensitivity / sensitivity.sum(axis=1, keepdims=True))
        return share(covered) > INSIDE
