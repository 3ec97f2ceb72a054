"""A batch of planes as measured: the blurred image, what is told of its acquisition, and what its slices determine."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from .acquisition import Acquisition, SliceGeometry
from .interpolation import CubicInterpolation
from .noise import add_rician_noise
from .projection import DataConsistency


@dataclass(frozen=True)
class Measurement:
    """Planes (B, 1, H, W), through-plane axis last, and the slices behind them in a form that batches.

    Slices of different protocols differ in number; on the thin grid they all say the same kind of thing: with
    C = S A* (A S A* + lambda I)^-1, the part C A v of a row v is determined to be C b.

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
        """From what `RandBlurredPatchd` adds to a batch."""
        names = ("blurred", "blurred_conditioning", "blurred_projector", "blurred_determined")
        image, conditioning, projector, determined = (batch[name].to(device) for name in names)
        return cls(image, conditioning, projector[:, None], determined)

    @classmethod
    def simulate(
        cls, sharp: torch.Tensor, geometry: SliceGeometry, noise: float = 0.0, generator: torch.Generator | None = None
    ) -> "Measurement":
        """The measurement of sharp planes (B, 1, H, W) by thick slices along their last axis, with Rician noise."""
        A = Acquisition(geometry)
        slices = A(sharp)
        if noise > 0:
            slices = add_rician_noise(slices, noise, generator)
        C = DataConsistency(A).correction
        conditioning = torch.as_tensor(geometry.conditioning(), dtype=sharp.dtype, device=sharp.device)
        projector = torch.as_tensor(C.matrix @ A.matrix, dtype=sharp.dtype, device=sharp.device)
        return cls(
            CubicInterpolation(geometry)(slices),
            conditioning.expand(len(sharp), -1, -1),
            projector[None, None],
            C(slices),
        )

    def with_conditioning(self, image: torch.Tensor) -> torch.Tensor:
        """A generator's input: an image (B, 1, H, W) with the told channels behind it, (B, 1 + told, H, W)."""
        conditioning = self.conditioning[:, :, None, :].expand(-1, -1, image.shape[2], -1)
        return torch.cat([image, conditioning.to(image)], dim=1)

    def correction(self, v: torch.Tensor) -> torch.Tensor:
        """C (b - A v): what P adds to planes v of shape (B, 1, H, W)."""
        return self.determined - self._determined_part(v)

    def open_part(self, v: torch.Tensor) -> torch.Tensor:
        """What the slices leave open, v - C A v, of planes v of shape (B, 1, H, W)."""
        return v.to(self.projector) - self._determined_part(v)

    def _determined_part(self, v: torch.Tensor) -> torch.Tensor:
        with torch.autocast(v.device.type, enabled=False):  # physics is never computed in half precision
            return v.to(self.projector) @ self.projector.mT

    def project(self, v: torch.Tensor) -> torch.Tensor:
        """P(v): the planes v, made consistent with the slices."""
        return v + self.correction(v)
