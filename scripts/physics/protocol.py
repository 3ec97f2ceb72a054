"""How slices were acquired: the protocol of a scan, and the range that protocols are drawn from in training."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .acquisition import SliceGeometry
from .interpolation import CUBIC
from .profile import check_profile

FEWEST_SLICES = 5  # of a scan: fewer say too little about what lies between them


@dataclass(frozen=True)
class Protocol:
    """Slice spacing, thickness and profile of a scan.

    Attributes:
        slice_spacing_mm: centre to centre.
        slice_thickness_mm: FWHM of the slice profile.
        profile: "rect", "gauss" or "fourier".
    """

    slice_spacing_mm: float
    slice_thickness_mm: float
    profile: str

    def __post_init__(self):
        check_profile(self.profile)
        for name in ("slice_spacing_mm", "slice_thickness_mm"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f"{name} must be positive, got {getattr(self, name)} mm")

    @property
    def slice_gap_mm(self) -> float:
        """Spacing minus thickness; negative where slices overlap."""
        return self.slice_spacing_mm - self.slice_thickness_mm

    def geometry(self, thin_size: int, slice_count: int, thin_spacing_mm: float) -> SliceGeometry:
        """Where this protocol's slices lie on a thin grid that shares the centre of their field of view."""
        return SliceGeometry(
            thin_size,
            slice_count,
            self.slice_spacing_mm / thin_spacing_mm,
            self.slice_thickness_mm / thin_spacing_mm,
            self.profile,
        )


@dataclass(frozen=True)
class ProtocolRange:
    """Protocols to train on, in units of the thin voxel; `draw` picks one and a random slice phase.

    Attributes:
        factor: lowest and highest anisotropy factor; drawn log-uniformly, real-valued.
        thickness_over_spacing: lowest and highest; under 1 a gap, over 1 an overlap.
        profiles: drawn with equal chance.
        noise: lowest and highest standard deviation of the slices' noise, on the intensity scale.
    """

    factor: tuple[float, float]
    thickness_over_spacing: tuple[float, float]
    profiles: Sequence[str]
    noise: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self):
        for profile in self.profiles:
            check_profile(profile)
        for name, least in (("factor", 1), ("thickness_over_spacing", 0), ("noise", 0)):
            low, high = getattr(self, name)
            if not least <= low <= high:
                raise ValueError(f"{name} must be a range [low, high] from {least} up, got {getattr(self, name)}")

    def draw(self, thin_size: int, rng: np.random.Generator) -> tuple[SliceGeometry, float]:
        """A slice geometry on a thin axis of `thin_size` voxels, and a noise level.

        The slices cover the axis from edge to edge; the first centre lies at a random phase within half a spacing
        of where a scan of this field of view would have it.

        Raises:
            ValueError: if the axis is too short for a cubic spline through slices of the largest factor.
        """
        if thin_size < (CUBIC + 1) * self.factor[1]:
            raise ValueError(
                f"patches of {thin_size} pixels hold too few slices {self.factor[1]} pixels apart: "
                f"give a larger patch_size or a smaller factor"
            )
        spacing = float(np.exp(rng.uniform(*np.log(self.factor))))
        thickness = spacing * float(rng.uniform(*self.thickness_over_spacing))
        profile = str(rng.choice(list(self.profiles)))
        first = float(rng.uniform(-0.5, spacing - 0.5))
        count = int(np.floor((thin_size - 0.5 - first) / spacing)) + 1
        return SliceGeometry(thin_size, count, spacing, thickness, profile, first), float(rng.uniform(*self.noise))
