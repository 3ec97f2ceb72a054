"""MONAI image reader of one DICOM volume: slices sorted and checked, in RAS, with the acquisition from the headers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import ImageReader
from monai.utils import MetaKeys, SpaceKeys

from ..data.case import Case
from ..geometry.errors import Refusal
from ..physics.protocol import FEWEST_SLICES
from .discovery import MAGNITUDE, Volume, volumes_of
from .files import DamagedError, looks_like_dicom, regular_files
from .pixels import read_planes

SLICE_AXIS = 2


class DicomSeriesReader(ImageReader):
    """Read one DICOM volume: of a case, of a list of files, of an enhanced file, or of a folder with one usable volume.

    `read` only decides whether paths are DICOM, so that MONAI's `LoadImage` tries its next reader where they are not.
    What is wrong with a DICOM volume is raised by `get_data`, which `LoadImage` does not catch, so that no other reader
    reads the volume less strictly.
    """

    def __init__(self, components: Sequence[str] = MAGNITUDE, minimum_slices: int = FEWEST_SLICES) -> None:
        """Set what is accepted.

        Args:
            components: kinds of image that are accepted: magnitude, phase, real, imaginary.
            minimum_slices: volumes of fewer slices are refused.
        """
        super().__init__()
        self.components = tuple(components)
        self.minimum_slices = minimum_slices

    def verify_suffix(self, filename: Sequence[str | Path] | str | Path) -> bool:
        """Whether every file is DICOM by its first bytes, or the folder holds a DICOM file; suffixes are ignored."""
        paths = [filename] if isinstance(filename, str | Path) else list(filename)
        return bool(paths) and all(_holds_dicom(Path(path)) for path in paths)

    def read_case(self, case: Case) -> Volume:
        """Return the volume that discovery found for a case."""
        return case.volume

    def read(self, data: Sequence[str | Path] | str | Path, **kwargs: Any) -> list[str]:
        """Return the paths, if all of them are DICOM.

        Raises:
            Refusal: something among them is not DICOM.
        """
        paths = [str(data)] if isinstance(data, str | Path) else [str(path) for path in data]
        if not self.verify_suffix(paths):
            raise Refusal("not a DICOM file, nor a folder that holds one")
        return paths

    def get_data(self, img: Volume | list[str]) -> tuple[np.ndarray, dict[str, Any]]:
        """Return voxels and meta data of the volume.

        Args:
            img: what `read` or `read_case` returned.

        Returns:
            float32 (columns, rows, slices), and meta: affine (RAS, mm, float64), through_plane_axis, slice_spacing_mm,
            slice_thickness_mm and acquisition_type with their sources where the headers have them.

        Raises:
            Refusal: there is not exactly one usable volume, or its pixels cannot be trusted.
        """
        if isinstance(img, Volume):
            volume = self._volume([img], folder=False)
        else:
            volume = self._volume(
                volumes_of(img, self.minimum_slices, self.components), folder=any(Path(path).is_dir() for path in img)
            )
        try:
            array = read_planes(volume.frames)
        except Refusal as error:
            raise Refusal(f"{volume.name}: {error}") from None
        first, affine = volume.frames[0], volume.stack.affine
        meta: dict[str, Any] = {
            MetaKeys.AFFINE: affine.copy(),
            MetaKeys.ORIGINAL_AFFINE: affine.copy(),
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.SPATIAL_SHAPE: np.array(array.shape),
            MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan"),
            "through_plane_axis": SLICE_AXIS,
            "slice_spacing_mm": volume.stack.slice_spacing_mm,
            "geometry_notes": volume.stack.noted,
        }
        meta["stated_fraction"] = stated_fraction(first.acquisition_matrix, volume.size[:2])
        if volume.stack.slice_thickness_mm is not None:
            meta["slice_thickness_mm"] = volume.stack.slice_thickness_mm
            meta["thickness_source"] = volume.stack.stated_by
        if first.acquisition_type in ("2D", "3D"):
            meta |= {
                "acquisition_type": first.acquisition_type,
                "acquisition_type_source": "DICOM MRAcquisitionType",
            }
        return array, meta

    def _volume(self, volumes: Sequence[Volume], folder: bool) -> Volume:
        """The only volume; of a folder the only usable volume."""
        if folder and len(volumes) > 1:
            usable = [volume for volume in volumes if not volume.reasons]
            if len(usable) != 1:
                raise Refusal(f"{len(usable)} usable volumes of {len(volumes)} in one folder: {_listed(volumes)}")
            return usable[0]
        if len(volumes) != 1:
            raise Refusal(f"{len(volumes)} volumes in the files given, one is needed: {_listed(volumes)}")
        reasons = volumes[0].reasons if folder else volumes[0].reasons_if_named
        if reasons:
            raise Refusal(f"{volumes[0].name}: {'; '.join(reasons)}")
        return volumes[0]


def _holds_dicom(path: Path) -> bool:
    files = regular_files(path) if path.is_dir() else [path]
    for file in files:
        try:
            if looks_like_dicom(file):
                return True
        except DamagedError:
            continue  # the survey names it
    return False


def _listed(volumes: Sequence[Volume], most: int = 8) -> str:
    names = [f"{v.name} ({'refused' if v.reasons else 'usable'})" for v in volumes[:most]]
    return ", ".join(names) + (f" and {len(volumes) - most} more" if len(volumes) > most else "") or "none"


def stated_fraction(matrix: tuple[float, ...] | None, size: tuple[int, int]) -> dict[int, float]:
    """Return acquired over stored pixels by array axis (0 columns, 1 rows), as far as AcquisitionMatrix states them.

    Args:
        matrix: AcquisitionMatrix (PS3.3, C.8.3.1): frequency rows, frequency columns, phase rows, phase columns, of
            which two are 0; None where it is absent.
        size: stored columns and rows, within a mosaic those of one of its images.

    >>> stated_fraction((0, 256, 230, 0), (512, 460))
    {0: 0.5, 1: 0.5}
    """
    if matrix is None:
        return {}
    frequency_rows, frequency_columns, phase_rows, phase_columns = matrix
    acquired = (frequency_columns or phase_columns, frequency_rows or phase_rows)
    return {axis: n / stored for axis, (n, stored) in enumerate(zip(acquired, size, strict=True)) if 0 < n <= stored}
