"""Opening of NIfTI-1 and NIfTI-2 files: single files and pairs, compressed or not, whatever their names say."""

import gzip
import io
import itertools
import logging
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.spatialimages import SpatialImage

from ..geometry.errors import Refusal
from ..geometry.grid import Grid

GZIP = b"\x1f\x8b"  # the first two bytes of a gzip file
LONGEST_QUATERNION = 1.01  # its length is 1 but for rounding; a longer one is damaged
FIELDS = ("quatern_b", "quatern_c", "quatern_d")
HEADERS = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}  # by sizeof_hdr
SINGLE, PAIR = (b"n+1", b"n+2"), (b"ni1", b"ni2")
PAIR_SUFFIXES = (".hdr", ".hdr.gz")
SCANNER = 1  # code of the scanner's coordinates, NIFTI_XFORM_SCANNER_ANAT
SPACE_CODE = "space_code"  # meta key: code of the space in which the affine places a volume; SCANNER where absent
UNIT_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # NIfTI-1, lowest bits of xyzt_units; mm where nothing is said
SPATIAL_UNIT = 0b111  # those bits

UNHEARD = logging.Logger("nibabel")  # for lines of nibabel that do not name the file; what is serious raises an error
UNHEARD.disabled = True


@dataclass(frozen=True)
class NiftiFile:
    """Header, affine and still unread voxels of a file.

    Attributes:
        header: nibabel's.
        affine: 4 x 4, RAS, in the file's own unit.
        dataobj: the voxels; read when they are indexed.
        note: where sform and qform contradict each other, which of the two was taken; else None.
        space_code: NIfTI-1 code of the space in which the affine places the scan: 1 scanner, 2 aligned, 4 MNI ...
        trailer: whether more may follow after the voxels, as in MGH files.
    """

    header: Any
    affine: np.ndarray
    dataobj: Any
    note: str | None = None
    space_code: int = SCANNER
    trailer: bool = False

    @property
    def needed_bytes(self) -> int:
        """Length that the file of the voxels must have, uncompressed."""
        return int(self.dataobj.offset) + math.prod(self.dataobj.shape) * self.dataobj.dtype.itemsize


def is_pair_header(path: Path) -> bool:
    """Return whether a file is the header of a NIfTI or Analyze pair, by its name and its first bytes."""
    if not path.name.lower().endswith(PAIR_SUFFIXES):
        return False
    try:
        with open_content(path) as file:
            start = file.read(4)
    except (OSError, EOFError, zlib.error):
        return False
    return len(start) == 4 and any(struct.unpack(f"{order}i", start)[0] in HEADERS for order in "<>")


def image_of_pair(header: Path) -> Path:
    """Return the file of voxels that belongs to a .hdr file.

    Raises:
        Refusal: if there is none, or more than one.
    """
    if not header.name.lower().endswith(PAIR_SUFFIXES):
        raise Refusal(f"{header.name}: its header says that the voxels are in an .img file: call the header .hdr")
    stem = header.name[: header.name.lower().rindex(".hdr")]
    names = {f"{stem}.img".casefold(), f"{stem}.img.gz".casefold()}
    found = sorted(file for file in header.parent.iterdir() if file.name.casefold() in names)
    if not found:
        raise Refusal(f"{header.name}: the file of its voxels ({stem}.img) is missing: put it beside the header")
    if len(found) > 1:
        raise Refusal(f"{header.name}: {' and '.join(file.name for file in found)} may hold its voxels: keep one")
    return found[0]


def open_content(path: Path) -> BinaryIO:
    """Open a file for its uncompressed content; its first two bytes decide, not its name."""
    return cast(BinaryIO, gzip.open(path)) if _is_compressed(path) else path.open("rb")


def _is_compressed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(GZIP)) == GZIP


def open_nifti(path: Path) -> NiftiFile:
    """Open a NIfTI file, or the header of a pair, without reading the voxels.

    Raises:
        Refusal: if it is no NIfTI file, has no affine, or its header contradicts the format.
        OSError, EOFError, ValueError, zlib.error: as `gzip` and `nibabel` raise them for a damaged file.
    """
    with open_content(path) as file:
        start = file.read(max(HEADERS))
    sizes = [struct.unpack_from(f"{order}i", start)[0] for order in "<>"] if len(start) >= 4 else []
    size = next((size for size in sizes if size in HEADERS), None)
    if size is None or len(start) < size:
        raise ValueError("no NIfTI header")
    order = "<" if sizes[0] == size else ">"
    magic = start[344:347] if size == 348 else start[4:7]
    if magic not in (*SINGLE, *PAIR):
        raise Refusal(f"{path.name}: not a NIfTI file (perhaps Analyze 7.5, which has no affine): convert it")
    offset = (
        struct.unpack_from(f"{order}f", start, 108)[0]
        if size == 348
        else struct.unpack_from(f"{order}q", start, 168)[0]
    )
    least = size + 4 if magic in SINGLE else 0
    if not np.isfinite(offset) or offset < least or offset != int(offset):
        raise Refusal(
            f"{path.name}: vox_offset says that the voxels begin at byte {offset:g}, not a whole number of at least "
            f"{least}, where the header ends: write the file again with a correct header"
        )
    try:
        header = HEADERS[size](start[:size], order, check=False)
        spacing = np.array(header["pixdim"][1:4], np.float64)
        header.check_fix(logger=UNHEARD)  # makes 1 of a spacing of 0
        header["pixdim"][1:4] = np.abs(spacing)
    except nibabel.spatialimages.HeaderDataError as error:
        raise Refusal(f"{path.name}: the header is not valid ({error}): write the file again") from error
    affine, code, note = _affine(header, path.name)
    source = source_of(path if magic in SINGLE else image_of_pair(path))
    try:
        voxels = ArrayProxy(source, header)
    except nibabel.spatialimages.HeaderDataError as error:  # of scl_slope and scl_inter
        raise Refusal(f"{path.name}: the header is not valid ({error}): write the file again") from error
    return NiftiFile(header, affine, voxels, note, code)


def nifti_of(image: SpatialImage, name: str) -> NiftiFile:
    """Return header, affine and voxels of an image in memory, as `open_nifti` does of a file.

    Args:
        image: of nibabel; one that is not NIfTI counts as NIfTI with its affine in mm. Where `image.affine` was changed
            and the header not yet, the affine holds, as when nibabel writes the image.
        name: for messages.

    Raises:
        Refusal: if it has no affine, fewer than three axes, or voxels that are no numbers.
    """
    if len(image.shape) < 3:
        raise Refusal(
            f"{name}: has the shape {image.shape}, not that of one 3-D volume: give the whole volume of slices"
        )
    if isinstance(image, nibabel.Nifti1Pair):  # the class of NIfTI-1 and NIfTI-2 images
        affine, code, note = _affine(image.header, name)
        if not np.allclose(image.affine, image.header.get_best_affine()):
            affine, note = np.array(image.affine, dtype=np.float64), None
        return NiftiFile(image.header, affine, image.dataobj, note, code)
    if _lacks_affine(image):
        raise Refusal(f"{name}: missing affine (its format's default stands there): set the scan's position")
    voxels = np.asarray(image.dataobj)
    if voxels.dtype.kind not in "biufc":
        raise Refusal(f"{name}: voxels are no numbers but {voxels.dtype}: give one number a voxel")
    voxels = voxels.astype(np.float32) if voxels.dtype in (bool, np.float16) else voxels  # not in the format
    affine = np.asarray(image.affine, dtype=np.float64)
    header = nibabel.Nifti1Header()
    header.set_data_dtype(voxels.dtype)
    header.set_data_shape(voxels.shape)
    header.set_zooms([*np.linalg.norm(affine[:3, :3], axis=0), *[1.0] * (voxels.ndim - 3)])
    return NiftiFile(header, affine, voxels)


def _lacks_affine(image: SpatialImage) -> bool:
    """Whether an Analyze or MGH image has only the affine that nibabel makes up where the file has none."""
    if image.affine is None:
        return True
    if isinstance(image, nibabel.AnalyzeImage):
        return np.allclose(image.affine, image.header.get_best_affine())
    if isinstance(image, nibabel.MGHImage):  # nibabel forgets that goodRASFlag was 0, and takes voxels of 1 mm
        without = type(image.header)()
        without.set_data_shape(image.shape)
        return not image.header["goodRASFlag"] or np.allclose(image.affine, without.get_affine())
    return False


def source_of(path: Path) -> Any:
    """What nibabel reads the voxels from: the path, or the content where name and compression disagree."""
    if _is_compressed(path) == path.name.lower().endswith(".gz"):
        return str(path)
    with open_content(path) as content:
        return io.BytesIO(content.read())


def _affine(header: Any, name: str) -> tuple[np.ndarray, int, str | None]:
    """The sform where it is a rigid transform or there is no other; else the qform; its code; a sentence about both."""
    codes = int(header["sform_code"]), int(header["qform_code"])
    has_sform, has_qform = (code > 0 for code in codes)
    if not has_sform and not has_qform:
        raise Refusal(f"{name}: missing affine (qform and sform codes are 0): set the scan's position in the header")
    sform = header.get_sform() if has_sform else None
    qform = _qform(header) if has_qform else None
    if sform is None:
        if qform is None:
            raise Refusal(
                f"{name}: the qform is damaged (a quaternion longer than 1, or a spacing of 0): correct the header"
            )
        return qform, codes[1], None
    if qform is None or not _is_usable(qform):
        return sform, codes[0], None
    if not _is_usable(sform):
        return qform, codes[1], "the sform is not usable (zero, not finite or sheared); the qform is used"
    apart = _distance(sform, qform, header.get_data_shape()[:3])
    if apart > np.linalg.norm(sform[:3, :3], axis=0).max():
        return (
            sform,
            codes[0],
            f"sform and qform differ, at a corner by {apart:.3g} units of the file; "
            f"the sform (code {codes[0]}) is used",
        )
    return sform, codes[0], None


def _distance(one: np.ndarray, other: np.ndarray, shape: tuple[int, ...]) -> float:
    """The largest distance between the positions that two affines give to a corner of the volume."""
    corners = np.array([[*corner, 1] for corner in itertools.product(*((0, n - 1) for n in shape))])
    return float(np.linalg.norm(corners @ (one - other).T, axis=1).max()) if len(shape) == 3 else 0.0


def _qform(header: Any) -> np.ndarray | None:
    """The qform; a quaternion that rounding made longer than 1 is scaled to 1. None for a longer one, or no spacing."""
    if not (np.abs(header["pixdim"][1:4]) > 0).all():
        return None
    header = header.copy()
    vector = np.array([float(header[field]) for field in FIELDS])
    length = np.linalg.norm(vector)
    if not length <= LONGEST_QUATERNION:
        return None
    if length > 1:
        for field, value in zip(FIELDS, vector / length, strict=True):
            header[field] = value
    return header.get_qform()


def _is_usable(affine: np.ndarray) -> bool:
    try:
        with np.errstate(all="ignore"):
            Grid((1, 1, 1), affine)
    except Refusal:
        return False
    return True
