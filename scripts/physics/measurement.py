"""Simulated and drawn measurements: thick slices of planes, and what is known of the planes from their slices."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from .acquisition import Acquisition, SliceGeometry
from .interpolation import CubicInterpolation
from .noise import add_rician_noise
from .projection import DataConsistency


def simulate_slices(
    acquisition: Acquisition, volume: torch.Tensor, noise_sigma: float = 0.0, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Return the thick slices of a volume, with Rician noise: the only simulation of an acquisition in GLADE.

    Args:
        acquisition: `A`.
        volume: (..., thin_size), through-plane axis last.
        noise_sigma: standard deviation of the noise in each channel, in the units of the volume; 0 for none.
        generator: of the noise; None: torch's default one.

    Returns:
        Slices (..., slice_count), same units.

    >>> A = Acquisition(SliceGeometry(6, 2, 3, 3))
    >>> simulate_slices(A, torch.tensor([0.0, 0.0, 3.0, 3.0, 3.0, 3.0]))
    tensor([1., 3.])
    """
    slices = acquisition(volume)
    return add_rician_noise(slices, noise_sigma, generator) if noise_sigma > 0 else slices


@dataclass(frozen=True)
class Measurement:
    """Blurred planes (B, 1, H, W), through-plane axis last, with what their slices determine.

    Simulated ones can be volumes (B, 1, P, H, W) as well; wherever (B, 1, H, W) stands below, they are meant too.

    Slices of different protocols differ in number and could not be stacked into a batch. On the thin grid they can:
    with C = S A* (A S A* + lambda I)^-1, the slices b determine the part C A v of a row v to be C b.

    Attributes:
        image: U b, (B, 1, H, W), intensity scale.
        conditioning: `SliceGeometry.conditioning`, (B, 6, W).
        projector: C A, (B, 1, W, W).
        determined: C b, (B, 1, H, W), intensity scale.
    """

    image: torch.Tensor
    conditioning: torch.Tensor
    projector: torch.Tensor
    determined: torch.Tensor

    @classmethod
    def from_batch(cls, batch: Mapping[str, torch.Tensor], device: torch.device) -> "Measurement":
        """Collect what `RandBlurredPatchd` added to a batch, on a device."""
        names = ("blurred", "blurred_conditioning", "blurred_projector", "blurred_determined")
        image, conditioning, projector, determined = (batch[name].to(device) for name in names)
        return cls(image, conditioning, projector[:, None], determined)

    @classmethod
    def simulate(
        cls, sharp: torch.Tensor, geometry: SliceGeometry, noise: float = 0.0, generator: torch.Generator | None = None
    ) -> "Measurement":
        """Measure sharp planes by thick slices along their last axis, with Rician noise; P is weighted for this noise.

        Args:
            sharp: (B, 1, H, W), intensity scale.
            geometry: of the slices.
            noise: standard deviation of the noise, intensity scale.
            generator: of the noise; None: torch's default one.

        >>> measured = Measurement.simulate(torch.rand(2, 1, 8, 16), SliceGeometry(16, 4, 4, 4))
        >>> measured.with_conditioning(measured.image).shape  # the input of a generator
        torch.Size([2, 7, 8, 16])
        """
        A = Acquisition(geometry)
        P = DataConsistency.for_noise(A, noise)
        slices = simulate_slices(A, sharp, noise, generator)
        conditioning = torch.as_tensor(geometry.conditioning(), dtype=sharp.dtype, device=sharp.device)
        projector = torch.as_tensor(P.projector.matrix, dtype=sharp.dtype, device=sharp.device)
        return cls(
            CubicInterpolation(geometry)(slices),
            conditioning.expand(len(sharp), -1, -1),
            projector[None, None],
            P.correction(slices),
        )

    def with_conditioning(self, image: torch.Tensor) -> torch.Tensor:
        """Return the input of a generator: an image (B, 1, H, W) with the conditioning as channels, (B, 7, H, W)."""
        between = image.shape[2:-1]  # axes that the conditioning lacks
        one_row = self.conditioning.reshape(*self.conditioning.shape[:2], *(1 for _ in between), image.shape[-1])
        return torch.cat([image, one_row.expand(-1, -1, *between, -1).to(image)], dim=1)

    def correction(self, v: torch.Tensor) -> torch.Tensor:
        """Return C (b - A v), which P adds to planes v of shape (B, 1, H, W)."""
        return self.determined - self._determined_part(v)

    def open_part(self, v: torch.Tensor) -> torch.Tensor:
        """Return v - C A v, the part of planes v of shape (B, 1, H, W) that the slices do not determine."""
        return v.to(self.projector) - self._determined_part(v)

    def _determined_part(self, v: torch.Tensor) -> torch.Tensor:
        with torch.autocast(v.device.type, enabled=False):  # half precision would spoil the data consistency
            return v.to(self.projector) @ self.projector.mT

    def project(self, v: torch.Tensor) -> torch.Tensor:
        """Return P(v), the planes v of shape (B, 1, H, W) made consistent with the slices."""
        return v + self.correction(v)
