"""Readers: NIfTI of any numeric type with its BIDS sidecar, and the transform that reads a case of every format."""

import gzip
import logging
import math
import os
import zlib
from collections.abc import Hashable, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor, NibabelReader
from monai.transforms import EnsureChannelFirst, LoadImaged
from monai.utils import MetaKeys, SpaceKeys
from nibabel.arrayproxy import ArrayProxy
from nibabel.spatialimages import SpatialImage

from ..geometry.errors import Refusal, printable, why_unavailable
from .case import DICOM, NIFTI, Case
from .formats import CHUNK_BYTES, WITH_PAIRS, files_of, length_problem, open_image
from .nifti import (
    SPACE_CODE,
    SPATIAL_UNIT,
    UNIT_MM,
    NiftiFile,
    nifti_of,
    open_content,
)
from .sidecar import read_sidecar
from .trained_range import WARNINGS

SPACING_DISAGREEMENT = 0.01  # relative, between pixdim and the affine; NIfTI-1 lets the affine win
LARGEST_INPUT_VOXELS = 2**29  # of one volume, as for DICOM; 2 GiB in float32
FEWEST_LEVELS = 1024  # with so many different values left, rounding does not show

logger = logging.getLogger(__name__)


class NiftiScanReader(NibabelReader):
    """Read one volume of a NIfTI, NRRD, MetaImage or MGH file as float32 (X, Y, Z) with its RAS affine in mm.

    The slope and intercept of NIfTI are applied.

    The BIDS sidecar beside the file, or inherited from a folder above, gives `slice_thickness_mm`, `thickness_source`,
    `acquisition_type`, `acquisition_type_source` and `stated_slice_spacing_mm` to the meta where it has them.
    """

    def read_case(self, case: Case) -> SpatialImage:
        """Return the volume of a case as a nibabel image; see `read`."""
        return self.read(case.files[0], case.frame, case.name if case.shares_file_name else None)

    def read(self, data: Any, frame: int | None = None, name: str | None = None, **kwargs: Any) -> SpatialImage:
        """Return one volume as a nibabel image.

        Args:
            data: path of the file, or an image of nibabel in memory.
            frame: index of the volume in a 4-D file.
            name: what messages call a file; None: its own name.
            kwargs: unused.

        Raises:
            Refusal: if the file is no NIfTI, corrupt, truncated, without an affine or not one real-valued volume.
        """
        in_memory = isinstance(data, SpatialImage)
        if in_memory:
            self.filenames = ()
            name = image_name(data)
        else:
            path = Path(os.fspath(data[0] if isinstance(data, (list, tuple)) else data))
            self.filenames, name = (str(path),), name or path.name
        try:
            if in_memory:
                return self._scan(nifti_of(data, name), frame, name)
            image = open_image(path)
            if isinstance(image.dataobj, ArrayProxy):  # of others the length was checked when they were opened
                _check_length(image, name, _content_length(files_of(path)[-1]))
            _check_size(image, name)
            return self._scan(image, frame, name)
        except Refusal:
            raise
        except (OSError, EOFError, ValueError, OverflowError, zlib.error) as error:
            if why := why_unavailable(error):
                raise Refusal(f"{name}: cannot be opened ({why}): make it available") from error
            raise Refusal(f"{name}: cannot be read, corrupt or truncated: copy the file again") from error

    def _scan(self, image: NiftiFile, frame: int | None, name: str) -> SpatialImage:
        _check_header(image, name)
        values = _volume(image, frame, name)
        self.note, self.space_code, self.header_warnings = image.note, image.space_code, _spacing_warnings(image)
        for line in filter(None, [*self.header_warnings, self.note]):
            logger.warning("%s: %s", printable(name), line)
        affine = image.affine.copy()
        affine[:3] *= UNIT_MM[int(image.header["xyzt_units"]) & SPATIAL_UNIT]
        return SpatialImage(values, affine)  # not a Nifti1Image: that one makes a qform, and fails on a singular affine

    def get_data(self, img: Any) -> tuple[np.ndarray, dict]:
        """Return the voxels, float32 (X, Y, Z), and MONAI's usual meta with the keys of the sidecar."""
        meta: dict[str, Any] = {
            MetaKeys.AFFINE: img.affine.copy(),
            MetaKeys.ORIGINAL_AFFINE: img.affine.copy(),
            MetaKeys.SPATIAL_SHAPE: np.array(img.shape),
            MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan"),  # how MONAI marks that there is no channel axis
            MetaKeys.SPACE: SpaceKeys.RAS,
            SPACE_CODE: self.space_code,
        }  # the rest of the header is left out: it may hold names and notes
        if self.note:
            meta["geometry_notes"] = self.note
        if self.header_warnings:
            meta[WARNINGS] = list(self.header_warnings)
        return np.asarray(img.dataobj), {**meta, **(read_sidecar(self.filenames[0]) if self.filenames else {})}


class CaseReader(Protocol):
    """An image reader of one format that can also read a `Case`."""

    def read_case(self, case: Case) -> Any:
        """Return what `get_data` takes."""

    def read(self, data: Any) -> Any:
        """Return what `get_data` takes, from a path or a list of paths."""

    def get_data(self, img: Any) -> tuple[np.ndarray, dict]:
        """Return the voxels (X, Y, Z) and MONAI's meta."""


class LoadImageCased(LoadImaged):
    """Read the volume of each case, path or nibabel image by the reader of its format, channel first.

    Unlike LoadImaged it never tries another reader after a Refusal. It inherits from LoadImaged because MONAI Label
    and MONAI Deploy, which load images themselves, recognise and leave out transforms of that class.

    Args:
        keys: keys of a `Case`, of an image of nibabel, or of a path (or list of paths), which is NIfTI or DICOM by its
            file name.
        readers: {"nifti": reader, "dicom": reader}, each with `read_case`.
        allow_missing_keys: as in MONAI.

    >>> import nibabel, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "knee.nii.gz"
    ...     nibabel.Nifti1Image(np.ones((4, 4, 2), np.uint8), np.diag([1, 1, 6, 1])).to_filename(path)
    ...     load = LoadImageCased("image", {"nifti": NiftiScanReader()})
    ...     load(Case("knee", (path,)).as_item())["image"].shape  # channel first
    torch.Size([1, 4, 4, 2])
    """

    def __init__(self, keys: KeysCollection, readers: Mapping[str, CaseReader], allow_missing_keys: bool = False):
        # Not LoadImaged's own: it would make every reader of MONAI, and log what is missing for those that nobody uses
        super(LoadImaged, self).__init__(keys, allow_missing_keys)
        self._loader: Any = SimpleNamespace(image_only=False)  # MONAI Label sets this attribute of every LoadImaged
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
            image = chosen.read_case(source) if isinstance(source, Case) else chosen.read(source)
            array, meta = chosen.get_data(image)
            meta["filename_or_obj"] = _first_file(source)
            array = np.ascontiguousarray(array, dtype=np.float32)
            d[key] = EnsureChannelFirst()(MetaTensor.ensure_torch_and_prune_meta(array, meta))
        return d

    def _reader_of(self, source: Any) -> CaseReader:
        if isinstance(source, Case):
            kind, name = source.format, source.label
        elif isinstance(source, SpatialImage):
            kind, name = NIFTI, image_name(source)
        else:
            single = isinstance(source, (str, os.PathLike))
            name = Path(source).name if single else f"{len(source)} files"
            kind = NIFTI if single and name.lower().endswith(WITH_PAIRS) else DICOM
        if kind not in self.readers:
            raise Refusal(f"{name}: no reader for the format {kind}: have {sorted(self.readers)}")
        return self.readers[kind]


def image_name(image: SpatialImage) -> str:
    """Return how messages name an image of nibabel: by its file, if it has one.

    >>> image_name(SpatialImage(np.zeros((2, 2, 2)), np.eye(4)))
    'image'
    """
    return Path(image.get_filename() or "image").name


def _first_file(source: Any) -> str:
    if isinstance(source, SpatialImage):
        return image_name(source)
    files = source.files if isinstance(source, Case) else source
    return str(files[0] if isinstance(files, (list, tuple)) else files)


def _content_length(path: Path) -> int:
    """Return the length of a file in bytes, uncompressed.

    A compressed file is read to its end, where its checksum is: nibabel stops at the last voxel, before it.
    """
    with open_content(path) as file:
        if isinstance(file, gzip.GzipFile):
            return sum(map(len, iter(partial(file.read, CHUNK_BYTES), b"")))
        return file.seek(0, os.SEEK_END)


def _check_length(image: NiftiFile, name: str, length: int) -> None:
    """Refuse a file with another number of bytes than its voxels need, or too many voxels, before memory is allocated.

    Args:
        image: the opened file.
        name: what messages call it.
        length: uncompressed bytes of the file of the voxels.
    """
    excess = length - image.needed_bytes
    if problem := length_problem(name, image.dataobj.shape, min(excess, 0) if image.trailer else excess):
        raise Refusal(problem)


def _check_size(image: NiftiFile, name: str) -> None:
    shape = image.dataobj.shape
    if math.prod(shape[:3]) > LARGEST_INPUT_VOXELS:
        sizes = " x ".join(map(str, shape))
        raise Refusal(f"{name}: {sizes} voxels exceed the limit of {LARGEST_INPUT_VOXELS} a volume: crop the scan")


def _check_header(image: NiftiFile, name: str) -> None:
    header = image.header
    unit = int(header["xyzt_units"]) & SPATIAL_UNIT
    if unit not in UNIT_MM:
        raise Refusal(
            f"{name}: the unit of length has the code {unit}, which NIfTI does not define: correct xyzt_units"
        )
    kinds = {header.get_data_dtype().kind, image.dataobj.dtype.kind}  # in memory they may differ
    if not kinds <= set("iufb"):
        raise Refusal(f"{name}: voxels are complex numbers or colours: give the magnitude as one number a voxel")


def _spacing_warnings(image: NiftiFile) -> list[str]:
    """A sentence where pixdim contradicts the affine."""
    spacing, pixdim = np.linalg.norm(image.affine[:3, :3], axis=0), np.array(image.header.get_zooms()[:3])
    if np.abs(spacing - pixdim).max() <= SPACING_DISAGREEMENT * max(spacing.max(), np.finfo(float).tiny):
        return []
    stated, used = (" x ".join(f"{length:.4g}" for length in lengths) for lengths in (pixdim, spacing))
    return [f"pixdim says voxels of {stated}, the affine {used}: the affine is used"]


def _volume(image: NiftiFile, frame: int | None, name: str) -> np.ndarray:
    """One volume (X, Y, Z) as float32; only the part of the file that holds it is read."""
    shape = image.dataobj.shape
    extra = list(shape[3:])
    frames = extra.pop(0) if extra else 1
    if len(shape) < 3 or any(n != 1 for n in extra) or (frames > 1 and frame is None):
        raise Refusal(f"{name}: has the shape {shape}, not that of one 3-D volume: choose a frame or split it")
    if frame is not None and not 0 <= frame < frames:
        raise Refusal(f"{name}: has {frames} frames, no frame {frame}: correct --frames")
    part = () if len(shape) == 3 else (..., frame or 0, *(0 for _ in extra))
    values = np.asarray(image.dataobj[part], dtype=np.float32) if part else np.asarray(image.dataobj, dtype=np.float32)
    _check_levels(image, part, values, name)
    return values


def _check_levels(image: NiftiFile, part: tuple, values: np.ndarray, name: str) -> None:
    """Refuse a volume whose grey levels single precision cannot tell apart, such as small differences at 2^30.

    That may be of integers, of real numbers in double precision, or of small integers with a large scl_inter.
    """
    largest = float(np.abs(values).max(initial=0))
    if not 0 < largest < np.inf:
        return
    upper = values if values.max() == largest else -values
    if np.ptp(upper[upper > largest / 2]) >= FEWEST_LEVELS * float(np.spacing(np.float32(largest))):
        return
    exact = np.asarray(image.dataobj[part] if part else image.dataobj)
    before, after = len(np.unique(exact)), len(np.unique(values))
    if after < min(before / 2, FEWEST_LEVELS):
        raise Refusal(
            f"{name}: intensities up to {largest:.4g} leave {after} of {before} grey levels in single precision: "
            f"subtract an offset from the voxels first"
        )
