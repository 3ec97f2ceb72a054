"""Reorientation of volumes by permutations and flips, without interpolation, and its exact inverse."""

from dataclasses import dataclass

import nibabel.orientations as nio
import numpy as np
import torch

from .grid import AXES, Grid


@dataclass(frozen=True)
class Reorientation:
    """A permutation of axes with flips, from a source array (X, Y, Z) to a target array.

    Args:
        source_axes: for each target axis, its source axis.
        flips: for each target axis, whether its direction is opposite to that of its source axis.

    >>> axial = Grid((4, 5, 2), np.diag([-1.0, -1.0, 6.0, 1.0]))  # array axes to left, posterior, superior
    >>> to_ras = Reorientation.through_plane_last(axial, 2)
    >>> to_ras
    Reorientation(source_axes=(0, 1, 2), flips=(True, True, False))
    >>> volume = torch.rand(1, 4, 5, 2)
    >>> torch.equal(to_ras.inverse().apply(to_ras.apply(volume)), volume)
    True
    """

    source_axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    @classmethod
    def through_plane_last(cls, grid: Grid, through_plane_axis: int) -> "Reorientation":
        """Return the reorientation to (in-plane, in-plane, through-plane), each axis along its nearest of R, A, S.

        The in-plane axes follow the order R, A, S of their nearest world axes. All 48 orientations of a scan become the
        same array, so a network gives the same prediction for each of them.

        Args:
            grid: of the source array.
            through_plane_axis: of the source array.
        """
        world = nio.io_orientation(grid.affine)  # per source axis: nearest world axis, direction
        in_plane = sorted((a for a in range(AXES) if a != through_plane_axis), key=lambda a: world[a, 0])
        axes = (in_plane[0], in_plane[1], through_plane_axis)
        first, second, third = (bool(world[a, 1] < 0) for a in axes)
        return cls(axes, (first, second, third))

    def inverse(self) -> "Reorientation":
        """Return the inverse reorientation."""
        first, second, third = (int(a) for a in np.argsort(self.source_axes))
        return Reorientation((first, second, third), (self.flips[first], self.flips[second], self.flips[third]))

    def apply(self, volume: torch.Tensor) -> torch.Tensor:
        """Return the reoriented volume: (..., X, Y, Z) -> (..., X', Y', Z'), same voxels."""
        first = volume.ndim - AXES
        volume = volume.permute(*range(first), *(first + a for a in self.source_axes))
        return volume.flip([first + a for a, flip in enumerate(self.flips) if flip]).contiguous()

    def apply_grid(self, grid: Grid) -> Grid:
        """Return the grid of the reoriented volume, on which every voxel keeps its world position."""
        step = np.zeros((AXES + 1, AXES + 1))
        step[AXES, AXES] = 1
        for target, (source, flip) in enumerate(zip(self.source_axes, self.flips, strict=True)):
            step[source, target] = -1 if flip else 1
            step[source, AXES] = grid.shape[source] - 1 if flip else 0
        first, second, third = (grid.shape[a] for a in self.source_axes)
        return Grid((first, second, third), grid.affine @ step)
