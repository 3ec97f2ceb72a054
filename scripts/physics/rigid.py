"""Rigid resampling `T` of a volume into the frame of a stack, and means over larger voxels, with exact adjoints."""

from collections.abc import Iterator, Sequence
from itertools import permutations

import numpy as np
import torch

from ..geometry.grid import AXES, Grid

TAPS = 4  # voxels that a cubic B-spline covers
ZEROS = TAPS  # beyond the coefficients at either end of a line, so that taps outside a volume find 0
MARGIN = ZEROS + 1  # coefficients before that of the first voxel: one is mirrored at the end of the line
REACH = 14  # voxels beyond those that are needed, on which a spline still depends: 0.27^14 is 1e-8
OUTSIDE = 8  # voxels outside of the source, from which on the result is 0
POINT = 1.05  # source voxels: target voxels up to this size are taken as points
SAME_PLACE = 1e-9  # voxels and voxels a voxel: differences that rounding makes
CPU_BLOCK = 1 << 17  # voxels resampled at once; the temporaries then stay in the processor's cache
GPU_BLOCK = 1 << 25


class _FromGridToGrid:
    """What is common to the linear operators from the volumes on one grid to those on another."""

    source: Grid
    target: Grid

    def __repr__(self) -> str:
        sizes = ("x".join(map(str, grid.shape)) for grid in (self.target, self.source))
        return f"<{' from '.join(sizes)}> {type(self).__name__}"

    def __call__(self, volume: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def covered(self, device: torch.device | None = None) -> torch.Tensor:
        """Return what becomes of ones, (X', Y', Z'), float32: 1 inside the source's field of view, 0 outside."""
        return self(torch.ones(self.source.shape, device=device)).clamp(0, 1)


class RigidResampling(_FromGridToGrid):
    """`T`: a volume on one grid -> the same volume on another grid that is moved rigidly, by cubic splines.

    The map of voxel indices is affine. It is carried out as three passes, each along one axis (Catmull and Smith 1980,
    Computer Graphics 14:279), so that an output voxel takes 3 x 4 and not 4 x 4 x 4 values. Each pass is linear, and
    its adjoint is written as a sum over neighbours as well, so it is exact. On a CPU it is the same in every run; on a
    GPU the sum has no fixed order, so that runs may differ by rounding.

    The accuracy falls with the angle between the two grids, since a pass compresses lines by its cosine; axes are
    first exchanged and reversed so that this angle is the smallest possible.

    Outside the field of view of the source the result falls to 0 within a few voxels; `covered` says what is inside.
    Only the box of the target that the source reaches is computed, and only of the voxels that it depends on.

    Args:
        source: grid of the volume.
        target: grid of the result.
        motion: 4 x 4, RAS mm of the target -> RAS mm of the source; None: no motion.

    Raises:
        ValueError: if motion is not 4 x 4.

    >>> thin = Grid((4, 3, 5), np.eye(4))
    >>> moved = np.eye(4)
    >>> moved[2, 3] = 2.0  # mm along z
    >>> T = RigidResampling(thin, thin, moved)
    >>> T(torch.arange(5.0).expand(4, 3, 5))[0, 0, :3].round(decimals=3)
    tensor([2., 3., 4.])
    """

    def __init__(self, source: Grid, target: Grid, motion: np.ndarray | None = None) -> None:
        motion = np.eye(AXES + 1) if motion is None else np.asarray(motion, dtype=np.float64)
        if motion.shape != (AXES + 1, AXES + 1):
            raise ValueError(f"motion must be a 4 x 4 matrix, got shape {motion.shape}")
        self.source, self.target = source, target
        index = np.linalg.inv(source.affine) @ motion @ target.affine
        self.reached = _box(np.linalg.inv(index), [slice(0, n) for n in source.shape], target.shape, OUTSIDE)
        self.needed = _box(index, self.reached, source.shape, REACH)
        index[:, AXES] = index @ [*(part.start for part in self.reached), 1.0]
        index[:AXES, AXES] -= [part.start for part in self.needed]
        self.order = _nearest_axes(index[:AXES, :AXES])
        rows = index[list(self.order)]
        self.flips = tuple(bool(rows[axis, axis] < 0) for axis in range(AXES))
        sizes = [_size(self.needed[axis]) for axis in self.order]
        for axis in range(AXES):
            if self.flips[axis]:
                rows[axis] *= -1
                rows[axis, AXES] += sizes[axis] - 1
        target_sizes = [_size(part) for part in self.reached]
        passes = [_Pass(_position(rows, axis), sizes, target_sizes, axis) for axis in range(AXES)]
        self.passes = [] if all(step.nothing_to_do for step in passes) else passes  # three of these do nothing

    def __call__(self, volume: torch.Tensor) -> torch.Tensor:
        """Return T v: (X, Y, Z) of the source -> (X', Y', Z') of the target, same units, type and device."""
        self._check(volume, self.source)
        moved = volume[self.needed].permute(self.order).flip([axis for axis in range(AXES) if self.flips[axis]])
        for step in self.passes:
            moved = step.forward(moved)
        return _padded(moved, self.reached, self.target)

    def adjoint(self, volume: torch.Tensor) -> torch.Tensor:
        """Return T* w: (X', Y', Z') of the target -> (X, Y, Z) of the source, same type and device."""
        self._check(volume, self.target)
        volume = volume[self.reached]
        for step in reversed(self.passes):
            volume = step.adjoint(volume)
        back = volume.flip([axis for axis in range(AXES) if self.flips[axis]])
        back = back.permute([self.order.index(axis) for axis in range(AXES)])
        return _padded(back, self.needed, self.source)

    def _check(self, volume: torch.Tensor, grid: Grid) -> None:
        if tuple(volume.shape) != grid.shape:
            raise ValueError(f"{self!r} needs a volume of shape {grid.shape}, got {tuple(volume.shape)}")


class VoxelMeans(_FromGridToGrid):
    """`M T`: a volume -> its means over the voxels of a grid that is moved rigidly.

    `RigidResampling` samples a volume at points. A voxel that is larger than those of the source has measured a mean:
    it is divided along each axis into parts of at most `POINT` source voxels, and is the mean of the samples at their
    centres. Where no voxel is larger this is `RigidResampling`.

    Args:
        source: grid of the volume.
        target: grid of the means.
        motion: 4 x 4, RAS mm of the target -> RAS mm of the source; None: no motion.

    Raises:
        ValueError: if motion is not 4 x 4.

    >>> thin = Grid((2, 2, 4), np.eye(4))
    >>> means = VoxelMeans(thin, thin.resampled((1, 1, 2)))
    >>> means(torch.tensor([1.0, 2.0, 3.0, 4.0]).expand(2, 2, 4))[0, 0].round(decimals=3)
    tensor([1.5000, 3.5000])
    """

    def __init__(self, source: Grid, target: Grid, motion: np.ndarray | None = None) -> None:
        sizes = target.spacing_mm / source.spacing_mm.max()
        self.parts = tuple(int(n) for n in np.maximum(1, np.ceil(sizes / POINT)))
        self.source, self.target = source, target
        self.samples = RigidResampling(source, target.resampled(target.spacing_mm / self.parts), motion)

    def __call__(self, volume: torch.Tensor) -> torch.Tensor:
        """Return M T v: (X, Y, Z) of the source -> (X', Y', Z') of the target, same units, type and device."""
        (x, y, z), (i, j, k) = self.target.shape, self.parts
        return self.samples(volume).view(x, i, y, j, z, k).mean(dim=(1, 3, 5))

    def adjoint(self, volume: torch.Tensor) -> torch.Tensor:
        """Return T* M* w: (X', Y', Z') of the target -> (X, Y, Z) of the source, same type and device."""
        (x, y, z), (i, j, k) = self.target.shape, self.parts
        shares = (volume / (i * j * k))[:, None, :, None, :, None].expand(x, i, y, j, z, k)
        return self.samples.adjoint(shares.reshape(self.samples.target.shape))


class _Pass:
    """Cubic spline interpolation along the first axis of a volume, at positions that are affine in the voxel index.

    The result has the resampled axis last, so that three passes bring the axes back into their order.

    Args:
        position: coefficients of the position along the axis: of the output index along it, of the indices along the
            two other axes in the order in which the volume has them, and a constant, voxels.
        sizes: of the source, (X, Y, Z).
        target_sizes: of the target.
        axis: which of the three axes this pass resamples.
    """

    def __init__(
        self, position: tuple[float, float, float, float], sizes: list[int], target_sizes: list[int], axis: int
    ) -> None:
        self.size, self.new_size = sizes[axis], target_sizes[axis]
        self.lines = [sizes[other] for other in range(axis + 1, AXES)] + list(target_sizes[:axis])
        self.step, *self.slopes, self.offset = position
        still = abs(self.step - 1) + np.abs([*self.slopes, self.offset]).sum() < SAME_PLACE
        self.nothing_to_do = still and self.size == self.new_size
        self._spline = _spline_coefficients(self.size)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """(n, P, Q) -> (P, Q, m)."""
        if self.nothing_to_do:
            return volume.movedim(0, -1).contiguous()
        lines = volume.reshape(self.size, -1).t() @ self._spline.to(volume).t()
        out = []
        for some, shift in self._blocks(lines):
            total = lines.new_zeros(len(some), self.new_size)
            for first, weight, tap in self._taps(shift, lines):
                total.addcmul_(weight, some[:, tap:].gather(1, first))
            out.append(total)
        return torch.cat(out).view(*self.lines, self.new_size)

    def adjoint(self, volume: torch.Tensor) -> torch.Tensor:
        """(P, Q, m) -> (n, P, Q)."""
        if self.nothing_to_do:
            return volume.movedim(-1, 0).contiguous()
        spline, out = self._spline.to(volume), []
        for some, shift in self._blocks(volume.reshape(-1, self.new_size)):
            spread = some.new_zeros(len(some), len(spline))
            for first, weight, tap in self._taps(shift, spread):
                spread[:, tap:].scatter_add_(1, first, weight * some)
            out.append(spread)
        return (spline.t() @ torch.cat(out).t()).view(self.size, *self.lines)

    def _blocks(self, lines: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Blocks of lines, and the constant parts of their positions."""
        block = max(1, (GPU_BLOCK if lines.is_cuda else CPU_BLOCK) // self.new_size)
        return zip(lines.split(block), self._shift(lines).split(block), strict=True)

    def _taps(self, shift: torch.Tensor, lines: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor, int]]:
        """For each of the four taps: index of the first, (L, m), the weight of this one, (L, m), and its number.

        Args:
            shift: constant part of the position, (L,), voxels.
            lines: coefficients (any number, n), for their length, type and device.
        """
        along = self.step * torch.arange(self.new_size, dtype=torch.float64, device=lines.device)
        # whole voxels and what is left of both parts of the position: no large array is of double precision
        (whole, rest), (whole_along, rest_along) = ((x.floor(), x - x.floor()) for x in (shift[:, None], along))
        after = rest.to(lines.dtype) + rest_along.to(lines.dtype)
        beyond = after >= 1
        after -= beyond.to(after.dtype)
        first = (whole.long() + MARGIN - 1) + whole_along.long()
        first += beyond
        first.clamp_(0, lines.shape[1] - TAPS)  # outside, all taps are in the zeros
        for tap, weight in enumerate(_b_spline(after)):
            yield first, weight, tap

    def _shift(self, like: torch.Tensor) -> torch.Tensor:
        """Constant part of the position on each line, (lines,), voxels; float64, as large numbers cancel in it."""
        first, second = (torch.arange(n, dtype=torch.float64, device=like.device) for n in self.lines)
        return (self.slopes[0] * first[:, None] + self.slopes[1] * second + self.offset).flatten()


def _box(
    index: np.ndarray, box: Sequence[slice], shape: tuple[int, int, int], margin: int
) -> tuple[slice, slice, slice]:
    """The voxels of a grid in which a box of another grid lies, with a margin; at least one, if only at the border.

    Args:
        index: 4 x 4, voxel indices of the other grid -> those of this one.
        box: of the other grid.
        shape: of this grid.
        margin: voxels.
    """
    sides = [(part.start, part.stop - 1) for part in box]
    corners = index[:AXES, :AXES] @ np.stack(np.meshgrid(*sides)).reshape(AXES, -1) + index[:AXES, AXES:]
    low, high = np.floor(corners.min(axis=1)) - margin, np.ceil(corners.max(axis=1)) + margin
    first, second, third = (
        slice(int(np.clip(a, 0, n - 1)), int(np.clip(b, 0, n - 1)) + 1)
        for a, b, n in zip(low, high, shape, strict=True)
    )
    return first, second, third


def _size(part: slice) -> int:
    return int(part.stop - part.start)


def _padded(values: torch.Tensor, box: tuple[slice, slice, slice], grid: Grid) -> torch.Tensor:
    """A volume on a grid that has the values in a box, and 0 elsewhere."""
    if tuple(values.shape) == grid.shape:
        return values.contiguous()
    volume = values.new_zeros(grid.shape)
    volume[box] = values
    return volume


def _b_spline(after: torch.Tensor) -> Iterator[torch.Tensor]:
    """Weights of the four voxels around a position, the second of which lies `after` voxels before it."""
    before = 1 - after
    near, far = after.square(), before.square()
    yield far * before / 6
    yield torch.addcmul(torch.full_like(after, 2 / 3), near, 0.5 * after - 1)
    yield torch.addcmul(torch.full_like(after, 2 / 3), far, 0.5 * before - 1)
    yield near * after / 6


def _spline_coefficients(size: int) -> torch.Tensor:
    """Values -> coefficients of the interpolating cubic spline, mirrored at the ends, with zeros beyond; float64."""
    if size == 1:
        values = np.ones((3, 1))  # constant across the one voxel
    else:
        inverse = np.linalg.inv(_b_spline_matrix(size))
        values = np.concatenate([inverse[1:2], inverse, inverse[-2:-1]])
    return torch.from_numpy(np.pad(values, ((ZEROS, ZEROS), (0, 0))))


def _b_spline_matrix(size: int) -> np.ndarray:
    matrix = (4 * np.eye(size) + np.eye(size, k=1) + np.eye(size, k=-1)) / 6
    matrix[0, 1] = matrix[-1, -2] = 2 / 6
    return matrix


def _nearest_axes(matrix: np.ndarray) -> tuple[int, int, int]:
    """For each axis of the target the source axis nearest to it, each source axis once."""
    cosines = np.abs(matrix / np.linalg.norm(matrix, axis=0))
    orders = [(first, second, third) for first, second, third in permutations(range(AXES))]
    return max(orders, key=lambda order: float(cosines[list(order), range(AXES)].prod()))


def _position(rows: np.ndarray, axis: int) -> tuple[float, float, float, float]:
    """Position along a source axis: before this pass the axes behind it are the source's, those before it the target's.

    Args:
        rows: (3, 4) or (4, 4): target index -> source index.
        axis: of the pass.

    Returns:
        Coefficients as `_Pass` takes them.
    """
    before, behind = slice(0, axis), slice(axis + 1, AXES)
    # s_behind = K t_before + k t_axis + B t_behind + d, solved for t_behind
    inverse = np.linalg.inv(rows[behind, behind])
    along = rows[axis, behind] @ inverse
    step = rows[axis, axis] - along @ rows[behind, axis]
    of_before = rows[axis, before] - along @ rows[behind, before]
    constant = rows[axis, AXES] - along @ rows[behind, AXES]
    first, second = np.concatenate([along, of_before])
    return float(step), float(first), float(second), float(constant)
