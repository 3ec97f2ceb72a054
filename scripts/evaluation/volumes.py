"""Volumes read from disk: finite, and brought onto the grid on which the methods of a case are compared."""

from pathlib import Path

import nibabel
import numpy as np
from scipy import ndimage

from ..geometry.errors import Refusal
from ..geometry.grid import AXES, Grid

ON_GRID_VOXELS = 0.01  # nearer positions count as the same; NIfTI rounds its affine to float32
CUBIC_ORDER = 3
SLAB_VOXELS = 2**21  # resampled at once: coordinates take 24 bytes a voxel
LEAST_COVERED = 0.5  # of the target grid; a volume that covers less shows another part of the body
UNREADABLE = (nibabel.filebasedimages.ImageFileError, OSError, EOFError, ValueError)


def read_volume(path: str | Path) -> tuple[np.ndarray, Grid]:
    """Read a NIfTI volume (X, Y, Z), float32, with its grid.

    Raises:
        Refusal: if it cannot be read, is not one 3-D volume, or holds values that are not finite.
    """
    path = Path(path)
    grid = read_grid(path)
    try:
        values = np.asarray(nibabel.load(path).dataobj, dtype=np.float32).reshape(grid.shape)
    except UNREADABLE as error:
        raise Refusal(f"{path.name}: cannot be read, corrupt or truncated: copy the file again") from error
    unusable = int((~np.isfinite(values)).sum())
    if unusable:
        raise Refusal(f"{path.name}: {unusable} voxels are NaN or infinite: repair the volume")
    return values, grid


def read_grid(path: str | Path) -> Grid:
    """Read the grid of a NIfTI volume, from its header alone.

    Raises:
        Refusal: if there is no such file, or it is not a NIfTI file of one 3-D volume.
    """
    path = Path(path)
    if not path.is_file():
        raise Refusal(f"{path.name}: there is no such file in {path.parent.name}")
    try:
        image = nibabel.load(path)
    except UNREADABLE as error:
        raise Refusal(f"{path.name}: cannot be read, corrupt or no NIfTI file: copy the file again") from error
    if len(image.shape) < AXES or any(n != 1 for n in image.shape[AXES:]):
        raise Refusal(f"{path.name}: has the shape {image.shape}, not that of one 3-D volume")
    return Grid(image.shape[:AXES], image.affine)


def index_map(source: Grid, target: Grid) -> np.ndarray:
    """Return the 4 x 4 matrix: voxel index of the target -> (fractional) voxel index of the source.

    >>> coarse, fine = (Grid((4, 4, 4), np.diag([mm, mm, mm, 1.0])) for mm in (2, 1))
    >>> index_map(coarse, fine)[0].tolist()
    [0.5, 0.0, 0.0, 0.0]
    """
    return np.linalg.inv(source.affine) @ target.affine


def covered(source: Grid, target: Grid) -> np.ndarray:
    """Return which voxels of the target, as a boolean array, have their centres between voxel centres of the source.

    >>> whole, part = (Grid((n, 4, 4), np.eye(4)) for n in (4, 2))
    >>> float(covered(part, whole).mean())
    0.5
    """
    step = index_map(source, target)
    inside = np.ones(target.shape, bool)
    for row, size in zip(step[:AXES], source.shape, strict=True):
        parts = [row[a] * np.arange(n, dtype=np.float32) for a, n in enumerate(target.shape)]
        position = parts[0][:, None, None] + parts[1][None, :, None] + parts[2][None, None, :] + row[AXES]
        inside &= (position >= -ON_GRID_VOXELS) & (position <= size - 1 + ON_GRID_VOXELS)
    return inside


def on_grid(values: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """Return a volume on another grid in the same world, float32; beyond its edge the edge voxel is repeated.

    Where the two grids share their voxels (axes in another order or direction, cropped), voxels are only rearranged;
    otherwise a cubic spline resamples them.

    Args:
        values: (X, Y, Z) on the source grid.
        source: grid of the values.
        target: grid of the volume that is returned.

    Raises:
        Refusal: if less than half of the target is covered.
    """
    if source.shape == target.shape and np.abs(index_map(source, target) - np.eye(AXES + 1)).max() < _tolerance(target):
        return values
    share = float(covered(source, target).mean())
    if share < LEAST_COVERED:
        raise Refusal(f"covers {share:.0%} of the case's field of view: another scan, or a wrong affine?")
    rearranged = _rearranged(values, source, target)
    return _resampled(values, source, target) if rearranged is None else rearranged


def sample(coefficients: np.ndarray, positions: np.ndarray, order: int = CUBIC_ORDER) -> np.ndarray:
    """Return values at fractional voxel indices; beyond the edge those of the edge.

    Args:
        coefficients: of the spline (`scipy.ndimage.spline_filter`), or the values for order 1.
        positions: indices, (3, ...).
        order: of the interpolating polynomial, 1 or 3.

    >>> sample(np.arange(8.0).reshape(2, 2, 2), np.array([[0.5], [0], [0]]), order=1).tolist()
    [2.0]
    """
    return ndimage.map_coordinates(coefficients, positions, order=order, mode="nearest", prefilter=False)


def _tolerance(grid: Grid) -> float:
    return ON_GRID_VOXELS / max(grid.shape)


def _rearranged(values: np.ndarray, source: Grid, target: Grid) -> np.ndarray | None:
    """The voxels in their new order; None where the target needs values between them."""
    step = index_map(source, target)
    axes, signs = np.abs(step[:AXES, :AXES]).argmax(axis=1), np.rint(step[:AXES, :AXES])
    offset = np.rint(step[:AXES, AXES])
    exact = np.eye(AXES + 1)
    exact[:AXES, :AXES], exact[:AXES, AXES] = signs, offset
    corner = np.array([*target.shape, 1])
    if len(set(axes)) < AXES or (np.abs(step - exact) @ corner).max() > ON_GRID_VOXELS:
        return None
    if not (np.abs(signs).sum(axis=0) == 1).all():
        return None
    picks = []
    for row, size in enumerate(source.shape):
        along = axes[row]
        index = np.clip(signs[row, along] * np.arange(target.shape[along]) + offset[row], 0, size - 1).astype(int)
        picks.append(index)
    return np.ascontiguousarray(values[np.ix_(*picks)].transpose(np.argsort(axes)))


def _resampled(values: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    coefficients = ndimage.spline_filter(values, CUBIC_ORDER, output=np.float32, mode="nearest")
    step = index_map(source, target)
    result = np.empty(target.shape, np.float32)
    thickness = max(1, SLAB_VOXELS // (target.shape[1] * target.shape[2]))
    for start in range(0, target.shape[0], thickness):
        stop = min(start + thickness, target.shape[0])
        grid = np.meshgrid(np.arange(start, stop), *map(np.arange, target.shape[1:]), indexing="ij")
        index = np.stack([*grid, np.ones_like(grid[0])]).reshape(AXES + 1, -1)
        result[start:stop] = sample(coefficients, step[:AXES] @ index).reshape(stop - start, *target.shape[1:])
    return result
