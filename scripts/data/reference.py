"""The setting `like`: NIfTI results on the grid of another image."""

import logging
import math
import os
import zlib
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from nibabel.processing import resample_from_to
from scipy import ndimage

from ..geometry.errors import Refusal, printable, why_unavailable
from ..geometry.grid import Grid
from .case import scan_name
from .formats import open_image
from .nifti import SCANNER, SPACE_CODE, SPATIAL_UNIT, UNIT_MM
from .trained_range import add_warnings
from .transforms import grid_of

FWHM_OVER_SIGMA = 8**0.5 * np.log(2) ** 0.5
SAME = 1e-4  # voxels by which grids may differ and still count as one
# Share of the grid's voxels and share of the scan: where both are smaller, the images hardly touch, as those of two
# bodies or of two coordinate systems. A grid of a small part has all its voxels in the scan, and a grid
# of more than the scan has all of the scan in it, so that one of the two shares is 1.
LEAST_SHARED = 0.1
TEMPLATES = {3: "Talairach's atlas", 4: "the MNI 152 template", 5: "another template"}  # NIfTI-1 codes of spaces
# Meta key of a result: shape and affine of the other grid, and smallest and largest value of its file where it has one
WRITTEN = "written"

logger = logging.getLogger(__name__)


class ReferenceGrid:
    """Resample results to the grid of another image, by cubic splines; where it is coarser, after a Gaussian filter.

    Voxels outside of the field of view of the result become 0.

    Args:
        path: of a NIfTI, NRRD, MetaImage or MGH file; None: results stay on their own grid.

    Raises:
        Refusal: if there is no such file, or it has no grid of three axes.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None):
        self.grid: Grid | None = None
        self.space_code, self.note = SCANNER, None
        if path is not None:
            self.grid, self.space_code, self.note = _grid_of_file(Path(path))
        self.name = "" if path is None else printable(Path(path).name)

    def as_setting(self) -> dict[str, Any] | None:
        """Return grid and NIfTI code of its space as plain values; None where there is no reference."""
        if self.grid is None:
            return None
        return {"shape": list(self.grid.shape), "affine": self.grid.affine.tolist(), "space_code": self.space_code}

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
        meta = {key: value for key, value in volume.meta.items() if key != "affine"} | {SPACE_CODE: self.space_code}
        return MetaTensor(torch.from_numpy(values)[None], affine=torch.from_numpy(self.grid.affine.copy()), meta=meta)


class ReferenceOverlapd(MapTransform):
    """Refuse a scan that hardly shares a place with the reference grid; warn where a part of the grid lies outside.

    The warning is in the log and in meta["warnings"]. Without a reference nothing happens.

    Args:
        keys: scans (1, X, Y, Z), RAS affine in mm.
        reference: the grid on which the results will be written.

    >>> scan = MetaTensor(torch.ones(1, 10, 10, 10), affine=torch.eye(4))
    >>> reference = ReferenceGrid()
    >>> reference.grid, reference.name = Grid((20, 10, 10), np.eye(4)), "t1.nii.gz"
    >>> ReferenceOverlapd("image", reference)({"image": scan})["image"].meta["warnings"]
    ['50 % of the grid of --like t1.nii.gz lies outside of the scan: the written volumes are 0 there']
    """

    def __init__(self, keys: KeysCollection, reference: ReferenceGrid):
        super().__init__(keys)
        self.reference = reference

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The data, with the warning in meta of every key.

        Raises:
            Refusal: if both have less than `LEAST_SHARED` in common, no voxel of the grid lies in the scan, or one of
                them alone is in the coordinates of a template.
        """
        out, given = dict(data), self.reference.grid
        if given is None:
            return out
        for key in self.key_iterator(out):
            own = grid_of(out[key])
            of_grid, of_scan = share_inside(given, own), share_inside(own, given)
            scan, like = scan_name(out, key), f"--like {self.reference.name}"
            code = int(out[key].meta.get(SPACE_CODE, SCANNER))
            if code != self.reference.space_code and {code, self.reference.space_code} & TEMPLATES.keys():
                raise Refusal(
                    f"{scan}: {like}: its header places it in {_space(self.reference.space_code)}, that of the scan in "
                    f"{_space(code)}: give an image in the coordinates of the scan, or correct sform_code or qform_code"
                )
            if self.reference.note:
                add_warnings(out, key, [f"{like}: {self.reference.note}"], logger)
            if of_grid == 0 or max(of_grid, of_scan) < LEAST_SHARED:
                both = f"only {_percent(of_grid)} of its grid and {_percent(of_scan)} of the scan are common to both"
                none = "no voxel of its grid lies in the field of view of the scan"
                raise Refusal(
                    f"{scan}: {like}: {both if of_grid else none}: give an image of the same place, in the same "
                    f"coordinates, or leave --like out"
                )
            if of_grid < 1:
                warning = (
                    f"{_percent(1 - of_grid)} of the grid of {like} lies outside of the scan: "
                    f"the written volumes are 0 there"
                )
                add_warnings(out, key, [warning], logger)
        return out


def share_inside(grid: Grid, other: Grid) -> float:
    """Return the share of the voxels of a grid whose centres lie in the field of view of another one, 0 to 1.

    >>> share_inside(Grid((4, 4, 4), np.eye(4)), Grid((3, 4, 4), np.eye(4)))
    0.75
    """
    step, plane, inside = np.linalg.inv(other.affine) @ grid.affine, (1, *grid.shape[1:]), 0
    for _ in range(grid.shape[0]):  # a plane at a time: positions of all voxels would take much memory
        inside += int(np.count_nonzero(_inside(step, plane, other.shape)))
        step[:, 3] += step[:, 0]
    return inside / math.prod(grid.shape)


def _percent(share: float) -> str:
    """A share in percent; a share below 1 is never 100 %."""
    return f"{100 * share if share == 1 else min(100 * share, 99.9):.3g} %"


def _space(code: int) -> str:
    return f"the coordinates of {TEMPLATES.get(code, 'a scanner or of another image')} (code {code})"


def _grid_of_file(path: Path) -> tuple[Grid, int, str | None]:
    """The grid of a file, the NIfTI code of its space, and which of sform and qform was taken where they differ."""
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
    try:
        return Grid((shape[0], shape[1], shape[2]), affine), image.space_code, image.note
    except Refusal as refusal:
        raise Refusal(f"--like {path.name}: {refusal}") from None


def _inside(step: np.ndarray, shape: tuple[int, ...], own: tuple[int, ...]) -> np.ndarray:
    """Whether the centre of each voxel of the reference lies in the field of view of the volume."""
    inside = np.ones(shape, bool)
    axes = np.ogrid[tuple(slice(n) for n in shape)]
    for row, size in zip(step[:3], own, strict=True):
        place = sum(row[axis] * axes[axis] for axis in range(3)) + row[3]
        inside &= (place >= -0.5) & (place <= size - 0.5)
    return inside
