"""Readers: NIfTI of any numeric type with its BIDS sidecar, and the transform that reads a case of every format."""

import gzip
import json
import logging
import os
import zlib
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, Protocol

import nibabel
import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor, NibabelReader
from monai.transforms import EnsureChannelFirst, LoadImaged
from monai.utils import MetaKeys, SpaceKeys
from nibabel.spatialimages import SpatialImage

from ..geometry.checks import is_number
from ..geometry.errors import Refusal
from .case import DICOM, NIFTI, Case
from .discovery import SUFFIXES, file_stem

UNIT_MM = {"meter": 1000.0, "micron": 0.001}  # NIfTI-1, field xyzt_units; millimetres where nothing is said
SPACING_DISAGREEMENT = 0.01  # relative, between pixdim and the affine; NIfTI-1 lets the affine win
CHUNK_BYTES = 1 << 20

logger = logging.getLogger(__name__)


class NiftiScanReader(NibabelReader):
    """Read one volume of a NIfTI file as float32 (X, Y, Z), scl_slope applied, with its RAS affine in mm.

    A BIDS sidecar (same name, .json) beside the file gives `slice_thickness_mm`, `thickness_source`,
    `acquisition_type`, `acquisition_type_source` and `stated_slice_spacing_mm` to the meta where it has them.
    """

    def read_case(self, case: Case) -> SpatialImage:
        """Return the volume of a case as a nibabel image; see `read`."""
        return self.read(case.files[0], case.frame)

    def read(self, data: Any, frame: int | None = None, **kwargs: Any) -> SpatialImage:
        """Return one volume as a nibabel image.

        Args:
            data: path of the file.
            frame: index of the volume in a 4-D file.
            kwargs: for `nibabel.load`.

        Raises:
            Refusal: if the file is no NIfTI, corrupt, truncated, without an affine or not one real-valued volume.
        """
        path = Path(os.fspath(data[0] if isinstance(data, (list, tuple)) else data))
        self.filenames = (str(path),)
        try:
            _check_compression(path)
            image: Any = nibabel.load(path, **kwargs)
            _check_header(image, path.name)
            values = _volume(image, frame, path.name)
        except Refusal:
            raise
        except (nibabel.filebasedimages.ImageFileError, OSError, EOFError, ValueError, zlib.error) as error:
            raise Refusal(f"{path.name}: cannot be read, corrupt or truncated: copy the file again") from error
        affine = image.affine.copy()
        affine[:3] *= UNIT_MM.get(image.header.get_xyzt_units()[0], 1.0)
        return SpatialImage(values, affine)  # not a Nifti1Image: that one makes a qform, and fails on a singular affine

    def get_data(self, img: Any) -> tuple[np.ndarray, dict]:
        """Return the voxels, float32 (X, Y, Z), and MONAI's usual meta with the keys of the sidecar."""
        meta = {
            MetaKeys.AFFINE: img.affine.copy(),
            MetaKeys.ORIGINAL_AFFINE: img.affine.copy(),
            MetaKeys.SPATIAL_SHAPE: np.array(img.shape),
            MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan"),  # how MONAI marks that there is no channel axis
            MetaKeys.SPACE: SpaceKeys.RAS,
        }  # the rest of the header is left out: it may hold names and notes
        return np.asarray(img.dataobj), {**meta, **read_sidecar(self.filenames[0])}


class CaseReader(Protocol):
    """An image reader of one format that can also read a `Case`."""

    def read_case(self, case: Case) -> Any:
        """Return what `get_data` takes."""

    def read(self, data: Any) -> Any:
        """Return what `get_data` takes, from a path or a list of paths."""

    def get_data(self, img: Any) -> tuple[np.ndarray, dict]:
        """Return the voxels (X, Y, Z) and MONAI's meta."""


class LoadImageCased(LoadImaged):
    """Read the volume of each case, or of each path, by the reader of its format, channel first.

    Unlike LoadImaged it never tries another reader after a Refusal. It inherits from LoadImaged because MONAI Label
    and MONAI Deploy, which load images themselves, recognise and leave out transforms of that class.

    Args:
        keys: keys of a `Case`, or of a path (or list of paths), which is NIfTI or DICOM by its file name.
        readers: {"nifti": reader, "dicom": reader}, each with `read_case`.
        allow_missing_keys: as in MONAI.
    """

    def __init__(self, keys: KeysCollection, readers: Mapping[str, CaseReader], allow_missing_keys: bool = False):
        super().__init__(keys, allow_missing_keys=allow_missing_keys)
        self.readers = dict(readers)

    def __call__(self, data: Mapping[Hashable, Any], reader: Any = None) -> dict[Hashable, Any]:
        """The data with MetaTensors of shape (1, X, Y, Z), float32, in place of cases and paths.

        Raises:
            Refusal: if there is no reader for the format, or the reader declines.
        """
        d = dict(data)
        for key in self.key_iterator(d):
            source = d[key]
            chosen: CaseReader = reader or self._reader_of(source)
            if isinstance(source, Case):
                array, meta = chosen.get_data(chosen.read_case(source))
                first = source.files[0]
            else:
                array, meta = chosen.get_data(chosen.read(source))
                first = source[0] if isinstance(source, (list, tuple)) else source
            meta["filename_or_obj"] = str(first)
            array = np.ascontiguousarray(array, dtype=np.float32)
            d[key] = EnsureChannelFirst()(MetaTensor.ensure_torch_and_prune_meta(array, meta))
        return d

    def _reader_of(self, source: Any) -> CaseReader:
        if isinstance(source, Case):
            kind, name = source.format, source.label
        else:
            single = isinstance(source, (str, os.PathLike))
            name = Path(source).name if single else f"{len(source)} files"
            kind = NIFTI if single and name.lower().endswith(SUFFIXES) else DICOM
        if kind not in self.readers:
            raise Refusal(f"{name}: no reader for the format {kind}: have {sorted(self.readers)}")
        return self.readers[kind]


def read_sidecar(path: str | os.PathLike) -> dict:
    """Return what the BIDS sidecar beside a NIfTI file states about its slices, as meta keys; {} without a sidecar.

    Raises:
        Refusal: if the sidecar is there but no JSON object, or a value in it is of the wrong kind.
    """
    sidecar = Path(path).with_name(file_stem(path) + ".json")
    if not sidecar.is_file():
        return {}
    try:
        content = json.loads(sidecar.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise Refusal(f"{sidecar.name}: the sidecar is not valid JSON: correct or remove it") from error
    if not isinstance(content, dict):
        raise Refusal(f"{sidecar.name}: the sidecar is not a JSON object: correct or remove it")
    meta: dict[str, Any] = {}
    for field, key in (("SliceThickness", "slice_thickness_mm"), ("SpacingBetweenSlices", "stated_slice_spacing_mm")):
        value = content.get(field)
        if value is not None:
            if not is_number(value):
                raise Refusal(f"{sidecar.name}: {field} must be a number in mm, got {value!r}: correct or remove it")
            meta[key] = float(value)
    if "slice_thickness_mm" in meta:
        meta["thickness_source"] = "BIDS sidecar SliceThickness"
    kind = content.get("MRAcquisitionType")
    if kind is not None:
        if kind not in ("2D", "3D"):
            raise Refusal(f"{sidecar.name}: MRAcquisitionType must be 2D or 3D, got {kind!r}: correct or remove it")
        meta |= {"acquisition_type": kind, "acquisition_type_source": "BIDS sidecar MRAcquisitionType"}
    return meta


def _check_compression(path: Path) -> None:
    """Read a compressed file to its end, where its checksum is: nibabel stops at the last voxel, before it."""
    if path.name.lower().endswith(".gz"):
        with gzip.open(path) as file:
            while file.read(CHUNK_BYTES):
                pass


def _check_header(image: Any, name: str) -> None:
    header = image.header
    if not hasattr(header, "get_sform"):
        raise Refusal(f"{name}: not a NIfTI file: convert it")
    if int(header["qform_code"]) == 0 and int(header["sform_code"]) == 0:
        raise Refusal(f"{name}: missing affine (qform and sform codes are 0): set the scan's position in the header")
    spacing, pixdim = np.linalg.norm(image.affine[:3, :3], axis=0), np.array(header.get_zooms()[:3])
    if np.abs(spacing - pixdim).max() > SPACING_DISAGREEMENT * max(spacing.max(), np.finfo(float).tiny):
        logger.warning("%s: pixdim says %s mm, the affine %s mm; the affine is used", name, pixdim, spacing.round(4))
    if header.get_data_dtype().kind not in "iufb":
        raise Refusal(f"{name}: voxels are complex numbers or colours: give the magnitude as one number a voxel")


def _volume(image: Any, frame: int | None, name: str) -> np.ndarray:
    """One volume (X, Y, Z) as float32; only the part of the file that holds it is read."""
    extra = list(image.shape[3:])
    frames = extra.pop(0) if extra else 1
    if len(image.shape) < 3 or any(n != 1 for n in extra) or (frames > 1 and frame is None):
        raise Refusal(f"{name}: has the shape {image.shape}, not that of one 3-D volume: choose a frame or split it")
    if frame is not None and not 0 <= frame < frames:
        raise Refusal(f"{name}: has {frames} frames, no frame {frame}: correct frames")
    if image.ndim == 3:
        return image.get_fdata(dtype=np.float32, caching="unchanged")
    return np.asarray(image.dataobj[..., frame or 0, *(0 for _ in extra)], dtype=np.float32)
