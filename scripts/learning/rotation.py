"""Rotation of a volume in the plane of its slices, so that its thin planes cut the anatomy in further directions."""

import math
from collections.abc import Sequence

import torch
from monai.networks.layers import AffineTransform


class InPlaneRotation:
    """Rotation of volumes about the through-plane axis, and of predictions back; cubic convolution between voxels.

    The rotated grid holds the whole volume to half a pixel; voxels outside of the volume are 0, as air is. A rotation
    by 0 degrees changes nothing.

    Args:
        degrees: angle of the planes, from the first towards the second in-plane axis; the anatomy rotates back.
        shape: (X, Y, Z) of the volumes, with square pixels.

    Attributes:
        rotated_shape: (X', Y') of the rotated volumes.

    >>> rotation = InPlaneRotation(45, (40, 40, 6))
    >>> rotation.rotate(torch.ones(40, 40, 6)).shape
    torch.Size([57, 57, 6])
    """

    def __init__(self, degrees: float, shape: Sequence[int]):
        cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        self.is_identity = degrees == 0
        self.matrix = torch.tensor([[cosine, -sine], [sine, cosine]], dtype=torch.float64)
        self.shape = tuple(shape[:2])
        self.rotated_shape = tuple(round(float(side)) for side in self.matrix.abs() @ torch.tensor(self.shape).double())

    def rotate(self, volume: torch.Tensor) -> torch.Tensor:
        """Return the rotated volume (X', Y', Z) of a volume (X, Y, Z)."""
        return volume if self.is_identity else _resampled(volume, self.matrix, self.rotated_shape)

    def rotate_back(self, prediction: torch.Tensor, rotated: torch.Tensor, volume: torch.Tensor) -> torch.Tensor:
        """Return the prediction (X, Y, Z) for a volume from the prediction for its rotated copy.

        Only the difference from the input is rotated back, so that the volume itself is not resampled twice.

        Args:
            prediction: prediction (X', Y', Z) for the rotated volume; overwritten.
            rotated: the rotated volume (X', Y', Z).
            volume: the volume (X, Y, Z).
        """
        if self.is_identity:
            return prediction
        return _resampled(prediction.sub_(rotated), self.matrix.T, self.shape).add_(volume)


def _resampled(volume: torch.Tensor, matrix: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Rotate every plane (X, Y) of constant Z about its centre; the matrix leads from new to old pixels."""
    centre, old_centre = ((torch.tensor(sides).double() - 1) / 2 for sides in (size, volume.shape[:2]))
    theta = torch.eye(3, dtype=torch.float64)
    theta[:2, :2], theta[:2, 2] = matrix, old_centre - matrix @ centre
    layer = AffineTransform(size, mode="bicubic", padding_mode="zeros")
    return layer(volume.movedim(-1, 0)[None], theta.to(volume))[0].movedim(0, -1)
