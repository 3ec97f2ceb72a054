"""Opening of a scan of any format but DICOM: NIfTI, NRRD and MetaImage (by ITK), MGH (by nibabel)."""

import io
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from monai.data import ITKReader
from monai.utils import optional_import
from nibabel.arrayproxy import ArrayProxy

from ..geometry.errors import Refusal
from .case import SUFFIXES as NIFTI_SUFFIXES
from .nifti import PAIR_SUFFIXES, NiftiFile, image_of_pair, open_content, open_nifti, source_of

NRRD_SUFFIXES = (".nrrd", ".nhdr")
META_SUFFIXES = (".mha", ".mhd")
MGH_SUFFIXES = (".mgh", ".mgz", ".mgh.gz")
ITK_SUFFIXES = (*NRRD_SUFFIXES, *META_SUFFIXES)
SUFFIXES = (*NIFTI_SUFFIXES, *ITK_SUFFIXES, *MGH_SUFFIXES)
WITH_PAIRS = (*SUFFIXES, *PAIR_SUFFIXES)  # whether a .hdr file is the header of a scan, its first bytes decide

MGH_VERSION = b"\0\0\0\1"  # the first bytes of an MGH file
GOOD_RAS = 28  # byte of an MGH file at which goodRASFlag stands
LONGEST_HEADER = 1 << 20  # bytes of text
LONGEST_LINE = 4096  # bytes; ITK reads longer ones only in part
CHUNK_BYTES = 1 << 20
LARGEST_PADDING = 15  # bytes after the last voxel; one row of the smallest scan is longer
MM = {"mm": 1.0, "millimeter": 1.0, "um": 0.001, "µm": 0.001, "cm": 10.0, "m": 1000.0, "": 1.0, "?": 1.0}
SPACES = {
    *("right-anterior-superior", "left-anterior-superior", "left-posterior-superior"),
    *("ras", "las", "lps"),
}
"""Names of spaces whose axes are those of a patient, in lower case; others do not say how the patient lies."""


def open_image(path: Path) -> NiftiFile:
    """Open a file of any format but DICOM, by its name, without reading the voxels.

    Args:
        path: of a NIfTI file, the header of a pair, or an NRRD, MetaImage or MGH file.

    Raises:
        Refusal: if its header does not give a position and an orientation, or contradicts the format.
        OSError, EOFError, ValueError, zlib.error: as the libraries raise them for a damaged file.
    """
    name = path.name.lower()
    if name.endswith(ITK_SUFFIXES):
        return _open_by_itk(path)
    return _open_mgh(path) if name.endswith(MGH_SUFFIXES) else open_nifti(path)


def files_of(path: Path) -> tuple[Path, ...]:
    """Return the file, and the file of its voxels where that is another one."""
    name = path.name.lower()
    if name.endswith(PAIR_SUFFIXES):
        return path, image_of_pair(path)
    if name.endswith(ITK_SUFFIXES):
        voxels = _text_header(path).voxels
        return (path,) if voxels == path else (path, voxels)
    return (path,)


@dataclass(frozen=True)
class _TextHeader:
    """What the text of an NRRD or MetaImage header says.

    Attributes:
        directions_known: whether position and orientation are in it.
        to_mm: factor from its unit of length.
        voxels: the file of the voxels.
        offset: byte at which they begin there.
        compressed: whether they are deflated, with a header of gzip or zlib.
    """

    directions_known: bool
    to_mm: float
    voxels: Path
    offset: int
    compressed: bool


def _open_by_itk(path: Path) -> NiftiFile:
    itk, found = optional_import("itk", allow_namespace_pkg=True)
    if not found:
        raise Refusal(f"{path.name}: NRRD and MetaImage files need ITK: pip install 'glade-mri[formats]'")
    text = _text_header(path)
    if not text.directions_known:
        raise Refusal(
            f"{path.name}: missing affine (position and orientation of the axes in the patient are not in the "
            f"header): set the scan's position in the header"
        )
    try:
        file = itk.ImageIOFactory.CreateImageIO(str(path), itk.CommonEnums.IOFileMode_ReadMode)
        if file is None:
            raise Refusal(f"{path.name}: its header is not one that ITK knows: copy the file again")
        file.SetFileName(str(path))
        file.ReadImageInformation()
    except RuntimeError as error:  # of ITK, in several lines
        raise Refusal(f"{path.name}: ITK cannot read the header: write the file again") from error
    shape = tuple(int(file.GetDimensions(axis)) for axis in range(file.GetNumberOfDimensions()))
    if file.GetNumberOfComponents() != 1:
        raise Refusal(
            f"{path.name}: {file.GetNumberOfComponents()} numbers a voxel (colours, vectors, complex numbers or a list "
            f"of volumes): write each volume to a file of its own"
        )
    kind = _kind(file.GetComponentTypeAsString(file.GetComponentType()), int(file.GetComponentSize()))
    _check_length(path, text, shape, kind.itemsize)
    axes = min(3, len(shape))
    affine = np.eye(4)
    for axis in range(axes):
        affine[:axes, axis] = np.array(file.GetDirection(axis)[:axes]) * file.GetSpacing(axis)
        affine[axis, 3] = file.GetOrigin(axis)
    affine[:2] *= -1  # ITK counts towards the left and the back of the patient
    affine[:3] *= text.to_mm
    header = _header(shape, affine, kind, [float(file.GetSpacing(axis)) for axis in range(3, len(shape))])
    return NiftiFile(header, affine, _ItkVoxels(path, shape, kind))


class _ItkVoxels:
    """Voxels that MONAI's ITKReader reads when they are indexed, of the shape and type that the header states."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.path, self.shape, self.dtype = path, shape, dtype

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        itk, _ = optional_import("itk", allow_namespace_pkg=True)
        warns = itk.Object.GetGlobalWarningDisplay()
        itk.Object.SetGlobalWarningDisplay(False)  # its lines do not name the file; what is serious raises an error
        try:
            reader = ITKReader(pixel_type=itk.D, fallback_only=True)
            values, _ = reader.get_data(reader.read(str(self.path)))
        except (RuntimeError, TypeError, KeyError) as error:
            raise Refusal(f"{self.path.name}: ITK cannot read the voxels: write the file again") from error
        finally:
            itk.Object.SetGlobalWarningDisplay(warns)
        if values.shape != self.shape:
            raise Refusal(f"{self.path.name}: other voxels than the header states: write the file again")
        return np.array(values, dtype=dtype)

    def __getitem__(self, part: Any) -> np.ndarray:
        return np.asarray(self)[part]


def _kind(name: str, size: int) -> np.dtype:
    """The type of numpy for a component type of ITK."""
    letter = "f" if name in ("float", "double") else "u" if name.startswith("unsigned") else "i"
    return np.dtype(f"{letter}{size}")


def _header(
    shape: tuple[int, ...], affine: np.ndarray, kind: np.dtype, times: list[float], time_unit: str | None = None
) -> nibabel.Nifti1Header:
    """What a NIfTI header would say of the grid, in mm; the unit of time is that of NIfTI, None where it is unknown."""
    header = nibabel.Nifti2Header()  # its sizes may be of more than 16 bits
    header.set_data_dtype(kind)
    header.set_data_shape(shape)
    header.set_zooms([*np.linalg.norm(affine[:3, : min(3, len(shape))], axis=0), *map(abs, times)])
    header.set_xyzt_units("mm", time_unit if times else None)
    return header


def _text_header(path: Path) -> _TextHeader:
    with path.open("rb") as file:
        start = file.read(LONGEST_HEADER)
    return _nrrd(path, start) if path.name.lower().endswith(NRRD_SUFFIXES) else _meta(path, start)


def _lines(start: bytes) -> Iterator[tuple[str, int]]:
    """The lines of a header without the spaces around them, and the byte at which the next one begins."""
    file = io.BytesIO(start)
    for line in file:
        yield line.strip().decode("utf-8", "replace"), file.tell()


def _nrrd(path: Path, start: bytes) -> _TextHeader:
    if not start.startswith(b"NRRD000"):
        raise Refusal(f"{path.name}: does not begin with an NRRD header: copy the file again")
    lines, end = [], 0
    for line, following in _lines(start):
        end = following
        if not line:
            break
        lines.append(line)
    fields = {
        key.strip().lower(): value.strip()
        for key, colon, value in (line.partition(":") for line in lines[1:])
        if colon and not key.startswith("#") and not value.startswith("=")
    }
    encoding = fields.get("encoding", "").lower()
    if encoding not in ("raw", "gzip", "gz"):
        raise Refusal(f"{path.name}: the encoding of the voxels is neither raw nor gzip: write the file again")
    if any(fields.get(key, fields.get(key.replace(" ", ""), "0")) != "0" for key in ("line skip", "byte skip")):
        raise Refusal(f"{path.name}: line skip and byte skip are not supported: write the file again")
    sizes = fields.get("sizes", "").split()
    if len(sizes) > 3 and "1" not in (sizes[0], sizes[-1]):
        raise Refusal(
            f"{path.name}: {len(sizes)} axes (several volumes, colours or vectors), of which NRRD files are not read: "
            f"write each volume to a file of its own, or all to a 4-D NIfTI file"
        )
    directions = fields.get("space directions", "")
    units = {unit.strip('"').lower() for unit in fields.get("space units", "").split()}
    place = fields.get("data file", fields.get("datafile"))
    known = fields.get("space", "").lower() in SPACES
    return _TextHeader(
        known and directions.count("(") >= 3 and "space origin" in fields,
        _to_mm(path, units),
        path if place is None else _beside(path, place),
        end if place is None else 0,
        encoding != "raw",
    )


def _meta(path: Path, start: bytes) -> _TextHeader:
    fields: dict[str, str] = {}
    end = 0
    for line, following in _lines(start):
        end = following
        key, _, value = line.partition("=")
        fields[key.strip().lower()] = value.strip()
        if "elementdatafile" in fields:
            break
    place = fields.get("elementdatafile")
    if place is None:
        raise Refusal(f"{path.name}: has no MetaImage header: copy the file again")
    if fields.get("headersize", "0") != "0":
        raise Refusal(f"{path.name}: HeaderSize is not supported: write the file again")
    if fields.get("binarydata", "true").lower() != "true":
        raise Refusal(f"{path.name}: voxels written as text are not supported: write the file again")
    sizes = fields.get("dimsize", "").split()
    if (
        not all(size.isdecimal() and int(size) > 0 for size in sizes)
        or [str(len(sizes))] != fields.get("ndims", "").split()
    ):
        raise Refusal(f"{path.name}: DimSize does not hold a size for each of NDims axes: write the file again")
    if "elementtype" not in fields:
        raise Refusal(f"{path.name}: ElementType is missing: write the file again")
    if max(map(len, start[:end].split(b"\n"))) > LONGEST_LINE:
        raise Refusal(f"{path.name}: a line of its header is longer than {LONGEST_LINE} bytes: write the file again")
    matrix = next((fields[key] for key in ("transformmatrix", "rotation", "orientation") if key in fields), None)
    origin = any(key in fields for key in ("offset", "position", "origin"))
    if matrix is not None:
        values = np.array(matrix.split(), dtype=float)
        side = round(values.size**0.5)
        if side**2 != values.size or not (np.abs(np.linalg.norm(values.reshape(side, side), axis=1) - 1) < 0.01).all():
            raise Refusal(f"{path.name}: TransformMatrix does not hold directions of length 1: correct the header")
    local = place.upper() == "LOCAL"
    return _TextHeader(
        matrix is not None and origin and ("elementspacing" in fields or "elementsize" in fields),
        _to_mm(path, {fields.get("distanceunits", "").lower()}),
        path if local else _beside(path, place),
        end if local else 0,
        fields.get("compresseddata", "false").lower() == "true",
    )


def _to_mm(path: Path, units: set[str]) -> float:
    factors = {MM.get(unit) for unit in units} or {1.0}
    factor = factors.pop()
    if factors or factor is None:
        raise Refusal(f"{path.name}: the unit of length is not known, or differs between the axes: correct the header")
    return factor


def _beside(path: Path, name: str) -> Path:
    """The file of the voxels; a header must not make another file of this machine an image."""
    if Path(name).name != name or name.upper().startswith("LIST") or "%" in name:
        raise Refusal(f"{path.name}: its voxels must be in one file beside it: write the scan to a single file")
    file = path.with_name(name)
    if not file.is_file():
        raise Refusal(f"{path.name}: the file of its voxels ({name}) is missing: put it beside the header")
    return file


def length_problem(name: str, shape: tuple[int, ...], excess: int) -> str | None:
    """Return why a file has the wrong length for its voxels; None where it has the right one.

    Args:
        name: what the message calls the file.
        shape: of the voxels.
        excess: bytes that it has more than it needs, or negative that it has fewer.

    >>> length_problem("a.nii", (4, 4, 2), -8)
    'a.nii: 8 bytes short of 4 x 4 x 2 voxels: copy the file again'
    """
    sizes = " x ".join(map(str, shape))
    if excess < 0:
        return f"{name}: {-excess} bytes short of {sizes} voxels: copy the file again"
    if excess > LARGEST_PADDING:
        return (
            f"{name}: at least {excess} bytes more than {sizes} voxels, so these sizes or the voxels' type may be "
            f"wrong: correct the header"
        )
    return None


def _check_length(path: Path, text: _TextHeader, shape: tuple[int, ...], size: int) -> None:
    """Refuse a file with another number of bytes than its voxels need; ITK would fill up what is missing."""
    wanted = math.prod(shape) * size
    with text.voxels.open("rb") as file:
        file.seek(text.offset)
        if text.compressed:
            unpacker, found = zlib.decompressobj(zlib.MAX_WBITS | 32), 0  # 32: with the header of gzip or of zlib
            for block in iter(partial(file.read, CHUNK_BYTES), b""):
                while block and not unpacker.eof and found <= wanted + LARGEST_PADDING:
                    found += len(unpacker.decompress(block, CHUNK_BYTES))
                    block = unpacker.unconsumed_tail
        else:
            found = file.seek(0, 2) - text.offset
    if problem := length_problem(path.name, shape, found - wanted):
        raise Refusal(problem)


def _open_mgh(path: Path) -> NiftiFile:
    with open_content(path) as file:
        start = file.read(GOOD_RAS + 2)
        if start[:4] != MGH_VERSION:
            raise Refusal(f"{path.name}: does not begin with an MGH header of version 1: copy the file again")
        has_position = start[GOOD_RAS:] == b"\0\1"  # nibabel puts a default where it is 0
        file.seek(0)
        try:
            header = nibabel.freesurfer.MGHImage.header_class.from_fileobj(file)
        except TypeError as error:  # of numpy, for fewer bytes than a header has
            raise Refusal(f"{path.name}: ends within its header: copy the file again") from error
    if not has_position:
        raise Refusal(f"{path.name}: missing affine (goodRASFlag is 0): set the scan's position in the header")
    affine = header.get_affine()
    shape = tuple(map(int, header.get_data_shape()))
    times_ms = [float(zoom) for zoom in header.get_zooms()[3:]]
    own = _header(shape, affine, header.get_data_dtype(), times_ms, "msec")
    return NiftiFile(own, affine, ArrayProxy(source_of(path), header), trailer=True)
