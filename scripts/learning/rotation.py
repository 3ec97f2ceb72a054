"""A volume turned in the plane of its slices, so that its planes cut the anatomy in further directions."""

import math
from collections.abc import Sequence

import torch
from monai.networks.layers import AffineTransform


class InPlaneRotation:
    """Turns volumes about the through-plane axis, and answers to them back; cubic convolution between voxels.

    The turned grid holds the whole volume to half a pixel; what lies outside of the volume is 0, as air is. A turn of 0
    changes nothing.

    Args:
        degrees: of the planes, from the first towards the second in-plane axis; the anatomy in them turns back.
        shape: (X, Y, Z) of the volumes, square pixels.
    """

    def __init__(self, degrees: float, shape: Sequence[int]):
        cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        self.is_none = degrees == 0
        self.rotation = torch.tensor([[cosine, -sine], [sine, cosine]], dtype=torch.float64)
        self.shape = tuple(shape[:2])
        self.turned = tuple(round(float(side)) for side in self.rotation.abs() @ torch.tensor(self.shape).double())

    def there(self, volume: torch.Tensor) -> torch.Tensor:
        """(X, Y, Z) -> (X', Y', Z), the turned volume."""
        return volume if self.is_none else _resampled(volume, self.rotation, self.turned)

    def back(self, answer: torch.Tensor, shown: torch.Tensor, volume: torch.Tensor) -> torch.Tensor:
        """The answer (X', Y', Z) to the turned volume `shown` -> an answer (X, Y, Z) to the volume.

        Only what the answer adds is turned back, so that the volume itself is not resampled twice; `answer` is used up.
        """
        if self.is_none:
            return answer
        return _resampled(answer.sub_(shown), self.rotation.T, self.shape).add_(volume)


def _resampled(volume: torch.Tensor, rotation: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Every thin plane (X, Y) about its centre, the through-plane axis as channels; from new to old pixels."""
    centre, old_centre = ((torch.tensor(sides).double() - 1) / 2 for sides in (size, volume.shape[:2]))
    theta = torch.eye(3, dtype=torch.float64)
    theta[:2, :2], theta[:2, 2] = rotation, old_centre - rotation @ centre
    layer = AffineTransform(size, mode="bicubic", padding_mode="zeros")
    return layer(volume.movedim(-1, 0)[None], theta.to(volume))[0].movedim(0, -1)
