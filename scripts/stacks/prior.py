"""The prior of the joint solution: the mean of the stacks' volumes, each trusted where it is sharp."""

from collections.abc import Sequence

import numpy as np
import torch

from ..geometry.grid import AXES
from ..physics.acquisition import SliceGeometry
from ..physics.profile import transfer

FLOOR = 0.2  # of the weight where a stack is sharp: what a prediction is worth where its slices measured nothing
NYQUIST = 0.5  # cycles per slice spacing
TABLE = 256  # frequencies at which the transfer is computed


def directional_mean(
    volumes: Sequence[torch.Tensor],
    covered: Sequence[torch.Tensor],
    directions: Sequence[np.ndarray],
    geometries: Sequence[SliceGeometry],
    floor: float = FLOOR,
) -> torch.Tensor:
    """Return the mean of volumes of one body, weighed by frequency and direction.

    Detail of frequency f was measured by a stack if the part of f across its slices is passed by the slice profile
    and lies below the Nyquist frequency of the slices; all else is a prediction. The weight of a stack at f is
    floor + the squared modulation transfer at that part, and the weights of all stacks sum to 1 at each frequency.

    Args:
        volumes: (X, Y, Z) each, registered, on one isotropic grid.
        covered: boolean, same shape: the field of view of each. Outside, a volume takes the mean of the others.
        directions: unit vectors (3,) across the slices of each stack, along the axes of the grid.
        geometries: of each stack, spacing and thickness in voxels of the grid.
        floor: weight of what was not measured, against 1 for what was.

    Raises:
        ValueError: if the floor is not between 0 and 1.

    >>> flat = [torch.full((8, 8, 8), value) for value in (1.0, 3.0)]
    >>> everywhere = [torch.ones(8, 8, 8, dtype=torch.bool)] * 2
    >>> slices = [SliceGeometry(8, 2, 4, 4)] * 2
    >>> float(directional_mean(flat, everywhere, [np.eye(3)[2], np.eye(3)[0]], slices).mean())
    2.0
    """
    if not 0 < floor <= 1:
        raise ValueError(f"floor must be above 0 and at most 1, got {floor}")
    filled = _filled(volumes, covered)
    shape = volumes[0].shape
    weights = [_weight(shape, *stack, floor).to(filled[0]) for stack in zip(directions, geometries, strict=True)]
    total = torch.stack(weights).sum(dim=0)
    spectrum = sum(w / total * torch.fft.rfftn(v) for w, v in zip(weights, filled, strict=True))
    return torch.fft.irfftn(spectrum, s=shape)


def _filled(volumes: Sequence[torch.Tensor], covered: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The volumes with the mean of the others outside their own field of view; 0 where there is none."""
    total = sum(torch.where(inside, volume, 0.0) for volume, inside in zip(volumes, covered, strict=True))
    count = sum(inside.to(volumes[0].dtype) for inside in covered)
    mean = total / count.clamp(min=1)
    return [torch.where(inside, volume, mean) for volume, inside in zip(volumes, covered, strict=True)]


def _weight(shape: Sequence[int], direction: np.ndarray, geometry: SliceGeometry, floor: float) -> torch.Tensor:
    """The weight at the frequencies of rfftn, (X, Y, Z // 2 + 1)."""
    lines = [np.fft.fftfreq(n) for n in shape[:-1]] + [np.fft.rfftfreq(shape[-1])]
    axes = np.meshgrid(*lines, indexing="ij", sparse=True)
    across = np.abs(sum(component * axis for component, axis in zip(direction, axes, strict=True)))
    cycles = np.linspace(0, NYQUIST, TABLE)
    spacing = geometry.slice_spacing_voxels
    passed = np.clip(transfer(geometry.slice_thickness_voxels / spacing, geometry.profile, cycles), 0, 1) ** 2
    # a cosine to 0 at the Nyquist frequency: an abrupt end would ring
    passed = passed * np.cos(np.pi * cycles / (2 * NYQUIST)) ** (2 / AXES)
    return torch.from_numpy(floor + (1 - floor) * np.interp(across * spacing, cycles, passed, right=0.0))
