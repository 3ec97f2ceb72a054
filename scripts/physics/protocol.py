"""The acquisition protocol of a scan, and the range of protocols that training draws from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..geometry.checks import is_number
from ..geometry.errors import Refusal
from .acquisition import SliceGeometry
from .interpolation import CUBIC
from .profile import PROFILES, check_profile

FEWEST_SLICES = 5  # of a scan: from fewer, what lies between them cannot be inferred


@dataclass(frozen=True)
class Protocol:
    """Slice spacing, thickness and profile of a scan.

    Attributes:
        slice_spacing_mm: centre to centre.
        slice_thickness_mm: FWHM of the slice profile.
        profile: "rect", "slr", "gauss" or "fourier".

    Raises:
        ValueError: if the spacing or thickness is not positive, or the profile is unknown.

    >>> Protocol(6.0, 5.2, "rect").geometry(thin_size=24, slice_count=5, thin_spacing_mm=1.3).slice_thickness_voxels
    4.0
    """

    slice_spacing_mm: float
    slice_thickness_mm: float
    profile: str

    def __post_init__(self) -> None:
        check_profile(self.profile)
        for name in ("slice_spacing_mm", "slice_thickness_mm"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f"{name} must be positive, got {getattr(self, name)} mm")

    def geometry(self, thin_size: int, slice_count: int, thin_spacing_mm: float) -> SliceGeometry:
        """Return the positions of the slices on a thin grid with the same centre of the field of view.

        Args:
            thin_size: thin voxels along the through-plane axis.
            slice_count: acquired slices.
            thin_spacing_mm: of the thin voxels.
        """
        return SliceGeometry(
            thin_size,
            slice_count,
            self.slice_spacing_mm / thin_spacing_mm,
            self.slice_thickness_mm / thin_spacing_mm,
            self.profile,
        )


@dataclass(frozen=True)
class ProtocolRange:
    """Range of protocols to train on, in thin voxels; `draw` draws one of them with a random slice phase.

    Attributes:
        factor: lowest and highest anisotropy factor; drawn log-uniformly, real-valued.
        thickness_over_spacing: lowest and highest; under 1 a gap, over 1 an overlap.
        profiles: drawn with equal probability.
        noise: lowest and highest standard deviation of the slices' noise, on the intensity scale.
        noisy_share: share of the draws that have noise; the others have none.

    Raises:
        Refusal: if a range is reversed or reaches below its minimum, noisy_share is no share, or a profile is unknown.

    >>> protocols = ProtocolRange(factor=(2, 6), thickness_over_spacing=(0.8, 1.2), profiles=["rect", "gauss"])
    >>> geometry, noise = protocols.draw(64, np.random.default_rng(0))
    >>> 2 <= geometry.slice_spacing_voxels <= 6
    True
    """

    factor: tuple[float, float]
    thickness_over_spacing: tuple[float, float]
    profiles: Sequence[str]
    noise: tuple[float, float] = (0.0, 0.0)
    noisy_share: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.profiles, str) or not self.profiles or not set(self.profiles) <= set(PROFILES):
            raise Refusal(f"profiles must be a list of {', '.join(PROFILES)}, got {self.profiles!r}")
        for name, least in (("factor", 1), ("thickness_over_spacing", 0), ("noise", 0)):
            ends = getattr(self, name)
            numbers = isinstance(ends, Sequence) and len(ends) == 2 and all(map(is_number, ends))
            if not numbers or not least <= ends[0] <= ends[1]:
                raise Refusal(f"{name} must be a range [low, high] from {least} up, got {ends}")
        if not is_number(self.noisy_share) or not 0 <= self.noisy_share <= 1:
            raise Refusal(f"noisy_share must be a share, from 0 to 1, got {self.noisy_share!r}")

    def require_room(self, thin_size: int) -> None:
        """Refuse an axis that is too short for a cubic spline through slices of the largest factor.

        Args:
            thin_size: thin voxels along the through-plane axis.

        Raises:
            Refusal: if it is too short.
        """
        if thin_size < (CUBIC + 1) * self.factor[1]:
            raise Refusal(
                f"patches of {thin_size} pixels hold too few slices {self.factor[1]:g} pixels apart: "
                f"give a larger --patch_size or a smaller factor"
            )

    def draw(self, thin_size: int, rng: np.random.Generator) -> tuple[SliceGeometry, float]:
        """Draw a slice geometry and a noise level.

        All slice centres that lie on the thin axis are taken, and the position of the first one is random within a
        slice spacing. At either end up to half a spacing may lie in no slice.

        Args:
            thin_size: thin voxels along the through-plane axis.
            rng: of the draw.

        Returns:
            The geometry, and the standard deviation of the noise on the intensity scale.

        Raises:
            Refusal: if the axis is too short, see `require_room`.
        """
        self.require_room(thin_size)
        spacing = float(np.exp(rng.uniform(*np.log(self.factor))))
        thickness = spacing * float(rng.uniform(*self.thickness_over_spacing))
        profile = str(rng.choice(list(self.profiles)))
        first = float(rng.uniform(-0.5, spacing - 0.5))
        count = int(np.floor((thin_size - 0.5 - first) / spacing)) + 1
        noise = float(rng.uniform(*self.noise))
        if self.noisy_share < 1 and rng.random() >= self.noisy_share:
            noise = 0.0
        return SliceGeometry(thin_size, count, spacing, thickness, profile, first), noise
