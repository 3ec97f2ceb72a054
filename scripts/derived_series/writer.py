"""Derived MR series from an isotropic volume: patient, study and place of the source, provenance of the result.

A classic MR Image Storage series (PS3.3, A.4), as every archive and viewer takes it; for enhanced sources too.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import torch
from monai.data import ImageWriter
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from ..data.coding import IntegerCoding
from ..dicom.discovery import Volume
from ..dicom.elements import decimal_string
from ..dicom.files import DamagedError, quiet
from ..dicom.gate import RAS_TO_LPS, directions
from ..dicom.headers import is_made_by_glade
from ..dicom.uids import uid_from
from ..geometry.errors import Refusal
from ..geometry.files import atomic_folder
from .coding import SIGNED, coding_of
from .header import derived_header
from .provenance import Provenance
from .references import MAX_REFERENCES, references
from .slice_files import SliceFiles

PLANES = {
    "axial": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "coronal": ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0)),
    "sagittal": ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0), (-1.0, 0.0, 0.0)),
}
"""LPS directions of a row, of a column and from slice to slice, as radiologists hang the planes."""
SKEW_TOLERANCE = 1e-3
"""Largest cosine between two axes of a volume that slices can still describe."""
FILE_NAME = "IM{:05d}.dcm"


@dataclass(frozen=True)
class DerivedSeries:
    """A series that was written.

    Attributes:
        files: its files in slice order.
        series_uid: its SeriesInstanceUID.
        coding: how its values are stored.
    """

    files: tuple[str, ...]
    series_uid: str
    coding: IntegerCoding


class DicomSeriesWriter(ImageWriter):
    """MONAI image writer of a derived series; `write` takes the folder that the series becomes.

    An `ImageWriter`, so that YAML treats it as it treats the NIfTI writer; the work is in `write_derived_series`.
    """

    def __init__(self, provenance: Provenance | None = None, plane: str = "source") -> None:
        """Set what every series of this writer states about its making.

        Args:
            provenance: bundle and weights that made the volumes.
            plane: "source" for slices as acquired, or "axial", "coronal", "sagittal".

        Raises:
            Refusal: for any other plane.
        """
        super().__init__()
        if plane not in ("source", *PLANES):
            raise Refusal(f"dicom_plane must be source, {', '.join(PLANES)}, got {plane!r}")
        self.provenance, self.plane = provenance or Provenance(), plane
        self.affine: np.ndarray | None = None
        self.source: Volume | None = None
        self.more_sources: tuple[Volume, ...] = ()

    def set_data_array(self, data_array: Any, channel_dim: int | None = 0, **kwargs: Any) -> None:
        """Take the volume: (1, X, Y, Z) with its channel first, or (X, Y, Z) with `channel_dim` None."""
        array = data_array.detach().cpu().numpy() if isinstance(data_array, torch.Tensor) else np.asarray(data_array)
        if channel_dim is not None and array.ndim == 4:
            if array.shape[channel_dim] != 1:
                raise Refusal(f"DicomSeriesWriter: {array.shape[channel_dim]} channels; a series holds one")
            array = array.squeeze(channel_dim)
        self.data_obj = array

    def set_metadata(self, meta_dict: Mapping | None, resample: bool = False, **options: Any) -> None:
        """Take the RAS affine ("affine"), the source volume ("source", a `Volume`) and further ones ("more_sources").

        Raises:
            Refusal: resampling is asked for.
        """
        if resample:
            raise Refusal("DicomSeriesWriter does not resample: give resample: false")
        meta = dict(meta_dict or {})
        self.affine = np.asarray(meta.get("affine"), dtype=np.float64)
        self.source, self.more_sources = meta.get("source"), tuple(meta.get("more_sources", ()))

    def write(self, filename: str | Path, verbose: bool = False, **kwargs: Any) -> DerivedSeries:
        """Write the series into the folder `filename`; see `write_derived_series`."""
        return write_derived_series(
            filename,
            self.data_obj,
            self.affine,
            self.source,
            more_sources=self.more_sources,
            provenance=self.provenance,
            plane=self.plane,
        )


@quiet()  # pydicom would warn of UIDs and other values of the source, and quote them
def write_derived_series(
    folder: str | Path,
    volume: np.ndarray,
    affine: np.ndarray,
    source: Volume | None,
    *,
    provenance: Provenance,
    plane: str = "source",
    created: datetime | None = None,
    more_sources: Sequence[Volume] = (),
) -> DerivedSeries:
    """Write an isotropic volume as a derived series of its source, complete or not at all.

    Axes are permuted and flipped, never interpolated, so that slices, rows and columns run as in the source (or in the
    chosen plane); the voxels stay where the affine puts them.

    Args:
        folder: becomes the series; an earlier series of this writer there is replaced, anything else is refused.
        volume: (X, Y, Z), in the scan's units.
        affine: 4 x 4, voxel index to RAS position in mm.
        source: the volume that the result was made of.
        provenance: bundle and weights that made the volume.
        plane: "source", "axial", "coronal" or "sagittal".
        created: time of the result, now when None; equal input and time give equal files.
        more_sources: further volumes that it was made of; patient, study and header are those of `source`.

    Raises:
        Refusal: there is no source with geometry, the volume has values that are not finite or axes that are not
            perpendicular, or the folder is in use.
    """
    folder = Path(folder)
    volume, affine = np.asarray(volume), np.asarray(affine, dtype=np.float64)
    if volume.ndim != 3 or affine.shape != (4, 4):
        raise Refusal(f"derived series: volume {volume.shape}, affine {affine.shape}; (X, Y, Z) and (4, 4) are needed")
    if not np.isfinite(volume).all():
        raise Refusal("derived series: the volume holds values that are not finite")
    if source is None or source.stack is None:
        raise Refusal("derived series: no DICOM volume with geometry is given as source: give the one that was read")
    volume, lps = in_plane_order(volume, RAS_TO_LPS @ affine, _directions(source, plane))
    created = created or datetime.now()  # local, as DICOM times are
    try:
        header, identity = derived_header(source, volume, provenance, created)
        SliceFiles(header)  # encodes what is copied from the source
    except DamagedError as error:
        raise Refusal(f"derived series: header of the source: {error}") from None
    # A value of the wrong kind raises errors of any kind, and their messages may quote it.
    except Exception as error:  # noqa: BLE001 - see above
        raise Refusal(f"derived series: header of the source cannot be copied ({type(error).__name__})") from None
    coding = coding_of(float(volume.min()), float(volume.max()), identity)
    digest = hashlib.sha256(np.ascontiguousarray(volume).tobytes()).hexdigest()
    series_uid = uid_from(
        *("series", header.get("StudyInstanceUID"), source.frames[0].series, source.frames[0].sop_instance, digest),
        *(lps.tobytes().hex(), provenance.version, provenance.weights, created.isoformat()),
    )
    header.SeriesInstanceUID = series_uid
    sources = [source, *more_sources]
    few = sum(len(volume.frames) for volume in sources) <= MAX_REFERENCES
    if few:
        header.update(references(sources, lps[:3, 3]))
    _add_geometry(header, lps)
    _add_coding(header, coding, volume.shape)
    _check_target(folder, [file for volume in sources for file in volume.files])
    with atomic_folder(folder) as partial:
        files = SliceFiles(header)
        for index in range(volume.shape[2]):
            own = _own_elements(header, [] if few else sources, lps, index)
            files.write(partial / FILE_NAME.format(index + 1), own, coding.encode(volume[:, :, index].T).tobytes())
    names = tuple(str(folder / FILE_NAME.format(index + 1)) for index in range(volume.shape[2]))
    return DerivedSeries(names, series_uid, coding)


def in_plane_order(
    volume: np.ndarray, affine: np.ndarray, wanted: Sequence[Sequence[float]]
) -> tuple[np.ndarray, np.ndarray]:
    """Permute and flip axes so that they run along three wanted directions as nearly as they can.

    Args:
        volume: (X, Y, Z).
        affine: 4 x 4, to positions in mm, in the coordinates of `wanted`.
        wanted: directions of the first, second and third axis.

    Returns:
        The volume as a view, and its affine.

    Raises:
        Refusal: the axes are not perpendicular.
    """
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    skew = np.abs(axes.T @ axes - np.eye(3)).max()
    if not skew < SKEW_TOLERANCE:
        raise Refusal(f"derived series: axes of the volume are not perpendicular (cosine {skew:.4f})")
    cosines = np.asarray(wanted) @ axes
    order = max(permutations(range(3)), key=lambda p: sum(abs(cosines[i, p[i]]) for i in range(3)))
    volume, affine = volume.transpose(order), affine[:, [*order, 3]].copy()
    for axis in range(3):
        if cosines[axis, order[axis]] < 0:
            affine[:3, 3] += (volume.shape[axis] - 1) * affine[:3, axis]
            affine[:3, axis] *= -1
            volume = np.flip(volume, axis)
    return volume, affine


def _directions(source: Volume, plane: str) -> Sequence[Sequence[float]]:
    if plane == "source":
        return directions(np.array([frame.orientation for frame in source.frames]))
    if plane not in PLANES:
        raise Refusal(f"derived series: plane {plane!r}; use source, {', '.join(PLANES)}")
    return PLANES[plane]


def _check_target(folder: Path, sources: Sequence[str]) -> None:
    """Refuse to replace anything but an earlier series of this writer."""
    if not folder.exists():
        return
    expected = folder.is_dir() and all(
        path.is_file() and path.name[:2] == "IM" and path.suffix == ".dcm" and _is_derived(path)
        for path in folder.iterdir()
    )
    if not expected or any(Path(source).resolve().is_relative_to(folder.resolve()) for source in sources):
        raise Refusal(f"derived series: {folder.name} exists and holds other files; choose another output folder")


def _is_derived(path: Path) -> bool:
    """Whether GLADE made a DICOM file; False for one that cannot be read."""
    try:
        dataset = pydicom.dcmread(path, specific_tags=["ContributingEquipmentSequence"], stop_before_pixels=True)
    except (OSError, InvalidDicomError):
        return False
    return is_made_by_glade(dataset)


def _add_geometry(header: Dataset, lps: np.ndarray) -> None:
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    header.PixelSpacing = [decimal_string(spacing[1]), decimal_string(spacing[0])]
    header.ImageOrientationPatient = [
        decimal_string(x) for x in (*(lps[:3, 0] / spacing[0]), *(lps[:3, 1] / spacing[1]))
    ]
    header.SliceThickness = header.SpacingBetweenSlices = decimal_string(spacing[2])


def _add_coding(header: Dataset, coding: IntegerCoding, shape: Sequence[int]) -> None:
    header.Columns, header.Rows = shape[0], shape[1]
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
    header.PixelRepresentation = int(coding.dtype == SIGNED)
    if not coding.is_identity:
        header.RescaleSlope, header.RescaleIntercept, header.RescaleType = (
            decimal_string(coding.slope),
            decimal_string(coding.intercept),
            "US",
        )


def _own_elements(header: Dataset, sources: Sequence[Volume], lps: np.ndarray, index: int) -> Dataset:
    """What one slice has for itself, with references to the sources where not all slices share them."""
    position = lps[:3, 3] + index * lps[:3, 2]
    own = references(sources, position) if sources else Dataset()
    own.SOPInstanceUID = uid_from(header.SeriesInstanceUID, index)
    own.InstanceNumber = str(index + 1)
    own.ImagePositionPatient = [decimal_string(x) for x in position]
    return own
