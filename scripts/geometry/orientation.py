"""Through-plane axis last, in-plane axes in a fixed anatomical order, and the exact way back.

Only permutations and flips: no voxel is interpolated. All 48 orientations of one scan become the same array, so the
network gives the same answer for each of them.
"""

from dataclasses import dataclass

import nibabel.orientations as nio
import numpy as np

from .grid import AXES, Grid


@dataclass(frozen=True)
class Reorientation:
    """A permutation with flips from a source array (X, Y, Z) to a target array.

    Attributes:
        source_axes: for each target axis the source axis it comes from.
        flips: for each target axis whether it runs against its source axis.
    """

    source_axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    @classmethod
    def through_plane_last(cls, grid: Grid, through_plane_axis: int) -> "Reorientation":
        """The one to (in-plane, in-plane, through-plane), every axis towards its nearest of R, A, S.

        The in-plane axes follow the order R, A, S of the world axes they are nearest to.
        """
        world = nio.io_orientation(grid.affine)  # per source axis: nearest world axis, direction
        in_plane = sorted((a for a in range(AXES) if a != through_plane_axis), key=lambda a: world[a, 0])
        axes = (*in_plane, through_plane_axis)
        return cls(axes, tuple(bool(world[a, 1] < 0) for a in axes))

    def inverse(self) -> "Reorientation":
        """The way back, exactly."""
        back = np.argsort(self.source_axes)
        return Reorientation(tuple(int(a) for a in back), tuple(self.flips[a] for a in back))

    def apply(self, volume):
        """The volume, a torch tensor of shape (..., X, Y, Z), reoriented: (..., X', Y', Z'), same voxels."""
        first = volume.ndim - AXES
        volume = volume.permute(*range(first), *(first + a for a in self.source_axes))
        return volume.flip([first + a for a, flip in enumerate(self.flips) if flip]).contiguous()

    def apply_grid(self, grid: Grid) -> Grid:
        """The grid of the reoriented volume: every voxel keeps its world position."""
        step = np.zeros((AXES + 1, AXES + 1))
        step[AXES, AXES] = 1
        for target, (source, flip) in enumerate(zip(self.source_axes, self.flips, strict=True)):
            step[source, target] = -1 if flip else 1
            step[source, AXES] = grid.shape[source] - 1 if flip else 0
        return Grid(tuple(grid.shape[a] for a in self.source_axes), grid.affine @ step)
