"""MONAI image reader for one DICOM volume: sorted, checked, in RAS, with what the headers say of the acquisition."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import ImageReader
from monai.utils import MetaKeys, SpaceKeys

from ..geometry.errors import Refusal
from ..physics.protocol import FEWEST_SLICES
from .discovery import MAGNITUDE, Volume, resolve, source_file
from .files import DamagedError, looks_like_dicom, regular_files
from .pixels import read_planes

SLICE_AXIS = 2
DISCOVERY_ONLY = "already a result of GLADE"


class DicomSeriesReader(ImageReader):
    """Reads one volume from a list of DICOM files, from an enhanced file, or from a folder with one usable volume.

    `read` only decides whether the input is DICOM, so that `LoadImage` tries the next reader where it is not; whatever
    is wrong with a DICOM volume is raised by `get_data`, which `LoadImage` does not catch: no other reader then
    reads it in a laxer way.
    """

    def __init__(self, components: Sequence[str] = MAGNITUDE, minimum_slices: int = FEWEST_SLICES) -> None:
        """What is accepted.

        Args:
            components: kinds of image that are accepted: magnitude, phase, real, imaginary.
            minimum_slices: volumes of fewer slices are refused.
        """
        super().__init__()
        self.components = tuple(components)
        self.minimum_slices = minimum_slices

    def verify_suffix(self, filename: Sequence[str | Path] | str | Path) -> bool:
        """Whether every file named begins as DICOM, or the folder named holds a DICOM file; suffixes mean nothing."""
        paths = [filename] if isinstance(filename, str | Path) else list(filename)
        return bool(paths) and all(_holds_dicom(Path(source_file(str(path)))) for path in paths)

    def read(self, data: Sequence[str | Path] | str | Path, **kwargs: Any) -> list[str]:
        """Paths of the volume, once they are known to be DICOM.

        Raises:
            Refusal: something among them is not DICOM.
        """
        paths = [str(data)] if isinstance(data, str | Path) else [str(path) for path in data]
        if not self.verify_suffix(paths):
            raise Refusal("not a DICOM file, nor a folder that holds one")
        return paths

    def get_data(self, img: list[str]) -> tuple[np.ndarray, dict[str, Any]]:
        """Voxels and meta data of the volume.

        Args:
            img: what `read` returned.

        Returns:
            float32 (columns, rows, slices), and meta: affine (RAS, mm, float64), through_plane_axis, slice_spacing_mm,
            slice_thickness_mm and acquisition_type with their sources where the headers have them, source_files (JSON
            list of the files in slice order: a plain string survives collation of volumes of different length).

        Raises:
            Refusal: there is not exactly one usable volume, or its pixels cannot be trusted.
        """
        volume = self._volume(resolve(img, self.minimum_slices, self.components), folder=Path(img[0]).is_dir())
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
            "format": "dicom",
            "through_plane_axis": SLICE_AXIS,
            "slice_spacing_mm": volume.stack.slice_spacing_mm,
            "geometry_notes": "; ".join(volume.stack.notes),
            "source_files": json.dumps(list(volume.image)),
        }
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
        """The one volume meant; of a folder the one usable volume."""
        if folder and len(volumes) > 1:
            usable = [volume for volume in volumes if not volume.reasons]
            if len(usable) != 1:
                raise Refusal(f"{len(usable)} usable volumes of {len(volumes)} in one folder: {_listed(volumes)}")
            return usable[0]
        if len(volumes) != 1:
            raise Refusal(f"{len(volumes)} volumes in the files given, one is needed: {_listed(volumes)}")
        reasons = [reason for reason in volumes[0].reasons if folder or reason != DISCOVERY_ONLY]
        if reasons:
            raise Refusal(f"{volumes[0].name}: {'; '.join(reasons)}")
        return volumes[0]


def source_files(meta: dict[str, Any]) -> list[str]:
    """Files of the volume in slice order, from the meta data of an image read by `DicomSeriesReader`; else []."""
    value = meta.get("source_files", "[]")
    value = value[0] if isinstance(value, list | tuple) else value
    return json.loads(value)


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
