"""The setting `like`: NIfTI results on the grid of another image."""

import os
import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.data import MetaTensor
from nibabel.processing import resample_from_to
from scipy import ndimage

from ..geometry.errors import Refusal, why_unavailable
from ..geometry.grid import Grid
from .formats import open_image
from .nifti import SPATIAL_UNIT, UNIT_MM

FWHM_OVER_SIGMA = 8**0.5 * np.log(2) ** 0.5
SAME = 1e-4  # voxels by which grids may differ and still count as one


class ReferenceGrid:
    """Resample results to the grid of another image, by cubic splines; where it is coarser, after a Gaussian filter.

    Voxels outside of the field of view of the result become 0.

    Args:
        path: of a NIfTI, NRRD, MetaImage or MGH file; None: results stay on their own grid.

    Raises:
        Refusal: if there is no such file, or it has no grid of three axes.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None):
        self.grid = None if path is None else _grid_of_file(Path(path))

    def as_setting(self) -> dict[str, Any] | None:
        """Return the grid as plain values; None where there is no reference."""
        return None if self.grid is None else {"shape": list(self.grid.shape), "affine": self.grid.affine.tolist()}

    def __call__(self, volume: MetaTensor, order: int = 3) -> MetaTensor:
        """Return a volume (1, X, Y, Z) on the reference's grid, or as it is without a reference.

        Args:
            volume: with a RAS affine in mm.
            order: of the splines; 1 is linear, which stays within the range of the values.

        >>> volume = MetaTensor(torch.ones(1, 8, 8, 8), affine=torch.eye(4))
        >>> reference = ReferenceGrid()
        >>> reference.grid = Grid((4, 4, 6), np.diag([2.0, 2, 2, 1]))
        >>> reference(volume).shape
        torch.Size([1, 4, 4, 6])
        """
        if self.grid is None:
            return volume
        affine = np.asarray(volume.affine.cpu(), dtype=np.float64)
        step = np.linalg.inv(affine) @ self.grid.affine  # from voxels of the reference to voxels of the volume
        values = volume.detach().cpu().numpy()[0]
        if values.shape != self.grid.shape or np.abs(step - np.eye(4)).max() > SAME:
            extent = np.abs(step[:3, :3]).max(axis=1)  # of a voxel of the reference, in voxels of the volume
            sigma = np.sqrt(np.maximum(extent**2 - 1, 0)) / FWHM_OVER_SIGMA
            smooth = ndimage.gaussian_filter(values, sigma, mode="nearest") if sigma.any() else values
            image = nibabel.Nifti1Image(smooth, affine)
            values = np.asarray(resample_from_to(image, (self.grid.shape, self.grid.affine), order, "nearest").dataobj)
            values = np.where(_inside(step, self.grid.shape, smooth.shape), values, 0).astype(np.float32)
        meta = {key: value for key, value in volume.meta.items() if key != "affine"}
        return MetaTensor(torch.from_numpy(values)[None], affine=torch.from_numpy(self.grid.affine.copy()), meta=meta)


def _grid_of_file(path: Path) -> Grid:
    try:
        image = open_image(path)
    except Refusal as refusal:
        raise Refusal(f"--like {refusal}") from None
    except (OSError, EOFError, ValueError, zlib.error) as error:
        why = why_unavailable(error) or "no image that can be read"
        raise Refusal(f"--like {path.name}: {why}: give the image whose grid is wanted") from error
    shape = image.dataobj.shape
    if len(shape) < 3:
        raise Refusal(f"--like {path.name}: has the shape {shape}, not three axes: give a 3-D image")
    affine = image.affine.copy()
    affine[:3] *= UNIT_MM.get(int(image.header["xyzt_units"]) & SPATIAL_UNIT, 1.0)
    return Grid((shape[0], shape[1], shape[2]), affine)


def _inside(step: np.ndarray, shape: tuple[int, ...], own: tuple[int, ...]) -> np.ndarray:
    """Whether the centre of each voxel of the reference lies in the field of view of the volume."""
    inside = np.ones(shape, bool)
    axes = np.ogrid[tuple(slice(n) for n in shape)]
    for row, size in zip(step[:3], own, strict=True):
        place = sum(row[axis] * axes[axis] for axis in range(3)) + row[3]
        inside &= (place >= -0.5) & (place <= size - 0.5)
    return inside
