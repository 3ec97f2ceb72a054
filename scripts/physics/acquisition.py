"""`A`: how thick slices come from a thin grid, and `SliceGeometry`, where they lie on it."""

from dataclasses import dataclass, replace

import numpy as np

from .operator import LinearOperator
from .profile import check_profile, profile_weights, transfer

MIN_ROW_MASS = 1e-6  # a slice that sees less than this of the grid was not acquired from it
CONDITIONING_CYCLES = (0.25, 0.5, 0.75)  # per slice spacing: where a generator is told what the profile passes


@dataclass(frozen=True)
class SliceGeometry:
    """Where the slices of a scan lie along the through-plane axis of a thin grid, in thin voxels.

    Attributes:
        thin_size: number of thin voxels n; their centres are 0 ... n - 1.
        slice_count: number of acquired slices N.
        slice_spacing_voxels: centre to centre; the anisotropy factor when the thin grid is isotropic.
        slice_thickness_voxels: FWHM of the slice profile.
        profile: "rect", "gauss" or "fourier".
        first_slice_voxels: centre of slice 0; by default the two fields of view share their centre.
    """

    thin_size: int
    slice_count: int
    slice_spacing_voxels: float
    slice_thickness_voxels: float
    profile: str = "rect"
    first_slice_voxels: float | None = None

    def __post_init__(self):
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
        """The same slices seen from the other end of the axis: voxel 0 becomes voxel n - 1."""
        return replace(self, first_slice_voxels=self.thin_size - 1 - float(self.slice_centres_voxels[-1]))

    def conditioning(self) -> np.ndarray:
        """What a generator is told of the acquisition, shape (6, thin_size), dimensionless.

        Rows: cosine and sine of the slice phase (0 at a slice centre), log2 of the anisotropy factor, and what the
        profile passes of waves of 1/4, 1/2 and 3/4 cycle per slice spacing: thickness and profile in numbers that say
        how much lies hidden in the slices, so that one generator is as bold as each profile allows (docs/physics.md).
        """
        spacing = self.slice_spacing_voxels
        phase = 2 * np.pi * (np.arange(self.thin_size) - self.first_slice_voxels) / spacing
        passed = transfer(self.slice_thickness_voxels / spacing, self.profile, CONDITIONING_CYCLES)
        constants = np.array([np.log2(spacing), *passed])[:, None] * np.ones(self.thin_size)
        return np.stack([np.cos(phase), np.sin(phase), *constants])


CONDITIONING_CHANNELS = 3 + len(CONDITIONING_CYCLES)  # rows of `SliceGeometry.conditioning`


class Acquisition(LinearOperator):
    """`A`: thin grid -> acquired slices, along the last axis.

    A[i, j] = profile(j - c_i), every row scaled to sum 1, so that a constant stays that constant; a slice that
    reaches over the edge of the field of view averages what lies inside.

    Args:
        geometry: where the slices lie and their profile.

    Raises:
        ValueError: if a slice lies outside the thin grid.
    """

    def __init__(self, geometry: SliceGeometry):
        distance = np.arange(geometry.thin_size)[None, :] - geometry.slice_centres_voxels[:, None]
        weights = profile_weights(distance, geometry.slice_thickness_voxels, geometry.profile)
        mass = weights.sum(axis=1, keepdims=True)
        if mass.min() < MIN_ROW_MASS:
            raise ValueError(f"slice {int(mass.argmin())} lies outside the thin grid of {geometry}")
        super().__init__(weights / mass)
        self.geometry = geometry


def geometry_of(volume) -> SliceGeometry:
    """Return the `SliceGeometry` that `InterpolateSlicesd` left in meta["slices"] of a MONAI MetaTensor."""
    return volume.meta["slices"]
