"""The prior of the joint solution: the mean of the stacks' volumes, each trusted where it is sharp."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..geometry.grid import AXES
from ..physics.profile import transfer

FLOOR = 0.2  # of the weight where a stack is sharp: what a prediction is worth where its slices measured nothing
NYQUIST = 0.5  # cycles per slice spacing
TABLE = 256  # frequencies at which the transfer is computed


@dataclass(frozen=True)
class Sampling:
    """How a scan samples a body along one direction.

    Attributes:
        direction: unit vector (3,), along the axes of the grid of the result.
        spacing_voxels: from sample to sample, in voxels of that grid.
        thickness_voxels: of the slice profile, likewise; None: the samples are no averages.
        profile: of the slices.
    """

    direction: np.ndarray
    spacing_voxels: float
    thickness_voxels: float | None = None
    profile: str = "rect"

    def passed(self, shape: Sequence[int]) -> np.ndarray:
        """Return the share of the power at each frequency that was measured, 0 to 1.

        Args:
            shape: (X, Y, Z) of the volume.

        Returns:
            At the frequencies of rfftn, (X, Y, Z // 2 + 1).
        """
        lines = [np.fft.fftfreq(n) for n in shape[:-1]] + [np.fft.rfftfreq(shape[-1])]
        axes = np.meshgrid(*lines, indexing="ij", sparse=True)
        along = sum(component * axis for component, axis in zip(self.direction, axes, strict=True))
        cycles = np.abs(along) * self.spacing_voxels
        table = np.linspace(0, NYQUIST, TABLE)
        # a cosine to 0 at the Nyquist frequency: an abrupt end would ring
        power = np.cos(np.pi * table / (2 * NYQUIST)) ** (2 / AXES)
        if self.thickness_voxels is not None:
            power *= np.clip(transfer(self.thickness_voxels / self.spacing_voxels, self.profile, table), 0, 1) ** 2
        return np.interp(cycles, table, power, right=0.0)


def directional_mean(
    volumes: Sequence[torch.Tensor],
    covered: Sequence[torch.Tensor],
    samplings: Sequence[Sequence[Sampling]],
    floor: float = FLOOR,
) -> torch.Tensor:
    """Return the mean of volumes of one body, weighed by frequency and direction.

    Detail of frequency f was measured by a stack if the part of f across its slices is passed by the slice profile
    and lies below the Nyquist frequency of the slices; all else is a prediction. The weight of a stack at f goes from
    floor, where it measured nothing, to 1, and the weights of all stacks sum to 1 at each frequency.

    Args:
        volumes: (X, Y, Z) each, registered, on one isotropic grid.
        covered: boolean, same shape: the field of view of each. Outside, a volume takes the mean of the others.
        samplings: of each stack, across its slices; of a near-isotropic scan, along all of its axes.
        floor: weight of what was not measured, against 1 for what was.

    Raises:
        ValueError: if the floor is not between 0 and 1.

    >>> flat = [torch.full((8, 8, 8), value) for value in (1.0, 3.0)]
    >>> everywhere = [torch.ones(8, 8, 8, dtype=torch.bool)] * 2
    >>> slices = [[Sampling(np.eye(3)[axis], spacing_voxels=4, thickness_voxels=4)] for axis in (2, 0)]
    >>> float(directional_mean(flat, everywhere, slices).mean())
    2.0
    """
    if not 0 < floor <= 1:
        raise ValueError(f"floor must be above 0 and at most 1, got {floor}")
    filled = _filled(volumes, covered)
    shape = volumes[0].shape
    measured = (np.prod([axis.passed(shape) for axis in stack], axis=0) for stack in samplings)
    weights = [torch.from_numpy(floor + (1 - floor) * power).to(filled[0]) for power in measured]
    total = torch.stack(weights).sum(dim=0)
    spectrum = sum(w / total * torch.fft.rfftn(v) for w, v in zip(weights, filled, strict=True))
    return torch.fft.irfftn(spectrum, s=shape)


def _filled(volumes: Sequence[torch.Tensor], covered: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The volumes with the mean of the others outside their own field of view; 0 where there is none."""
    total = sum(torch.where(inside, volume, 0.0) for volume, inside in zip(volumes, covered, strict=True))
    count = sum(inside.to(volumes[0].dtype) for inside in covered)
    mean = total / count.clamp(min=1)
    return [torch.where(inside, volume, mean) for volume, inside in zip(volumes, covered, strict=True)]
