"""Volumes on disk, as the judges take them: finite, and on the judged grid wherever they lie in the world."""

from pathlib import Path

import nibabel
import numpy as np
from scipy import ndimage

from ..geometry.errors import Refusal
from ..geometry.grid import AXES, Grid

ON_GRID_VOXELS = 0.01  # positions nearer than this are the same; NIfTI rounds its affine to float32
CUBIC = 3
SLAB_VOXELS = 2**21  # resampled at once: coordinates take 24 bytes a voxel
LEAST_COVERED = 0.5  # of the judged grid; a result that covers less lies elsewhere
UNREADABLE = (nibabel.filebasedimages.ImageFileError, OSError, EOFError, ValueError)


def read_volume(path: str | Path) -> tuple[np.ndarray, Grid]:
    """A NIfTI volume (X, Y, Z), float32, with its grid.

    Raises:
        Refusal: if it cannot be read, is no 3-D volume, or holds values that are not finite.
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
    """The grid of a NIfTI volume, from its header alone.

    Raises:
        Refusal: if there is no such file, it is no NIfTI file, or no 3-D volume.
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
    """4 x 4: voxel index of the target -> (fractional) voxel index of the source."""
    return np.linalg.inv(source.affine) @ target.affine


def covered(source: Grid, target: Grid) -> np.ndarray:
    """The voxels of the target whose centres lie between the voxel centres of the source, a boolean array."""
    step = index_map(source, target)
    inside = np.ones(target.shape, bool)
    for row, size in zip(step[:AXES], source.shape, strict=True):
        parts = [row[a] * np.arange(n, dtype=np.float32) for a, n in enumerate(target.shape)]
        place = parts[0][:, None, None] + parts[1][None, :, None] + parts[2][None, None, :] + row[AXES]
        inside &= (place >= -ON_GRID_VOXELS) & (place <= size - 1 + ON_GRID_VOXELS)
    return inside


def on_grid(values: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """The volume on another grid in the same world, float32; beyond its edge the edge voxel is repeated.

    Where the two grids share their voxels (axes in another order or direction, cropped), voxels are only picked;
    otherwise a cubic spline resamples them.

    Args:
        values: (X, Y, Z) on the source grid.
        source: where the values lie.
        target: where they are wanted.

    Raises:
        Refusal: if less than half of the target is covered.
    """
    if source.shape == target.shape and np.abs(index_map(source, target) - np.eye(AXES + 1)).max() < _tolerance(target):
        return values
    share = float(covered(source, target).mean())
    if share < LEAST_COVERED:
        raise Refusal(f"covers {share:.0%} of the judged field of view: another scan, or a wrong affine?")
    picked = _picked(values, source, target)
    return _resampled(values, source, target) if picked is None else picked


def sample(coefficients: np.ndarray, places: np.ndarray, order: int = CUBIC) -> np.ndarray:
    """Values at fractional indices, constant beyond the edge.

    Args:
        coefficients: of the spline (`scipy.ndimage.spline_filter`), or the values for order 1.
        places: (3, ...) indices.
        order: 1 or 3.
    """
    return ndimage.map_coordinates(coefficients, places, order=order, mode="nearest", prefilter=False)


def _tolerance(grid: Grid) -> float:
    return ON_GRID_VOXELS / max(grid.shape)


def _picked(values: np.ndarray, source: Grid, target: Grid) -> np.ndarray | None:
    step = index_map(source, target)
    axes, signs = np.abs(step[:AXES, :AXES]).argmax(axis=1), np.rint(step[:AXES, :AXES])
    offset = np.rint(step[:AXES, AXES])
    exact = np.eye(AXES + 1)
    exact[:AXES, :AXES], exact[:AXES, AXES] = signs, offset
    far = np.array([*target.shape, 1])
    if len(set(axes)) < AXES or (np.abs(step - exact) @ far).max() > ON_GRID_VOXELS:
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
    coefficients = ndimage.spline_filter(values, CUBIC, output=np.float32, mode="nearest")
    step = index_map(source, target)
    result = np.empty(target.shape, np.float32)
    thickness = max(1, SLAB_VOXELS // (target.shape[1] * target.shape[2]))
    for start in range(0, target.shape[0], thickness):
        stop = min(start + thickness, target.shape[0])
        grid = np.meshgrid(np.arange(start, stop), *map(np.arange, target.shape[1:]), indexing="ij")
        index = np.stack([*grid, np.ones_like(grid[0])]).reshape(AXES + 1, -1)
        result[start:stop] = sample(coefficients, step[:AXES] @ index).reshape(stop - start, *target.shape[1:])
    return result
