"""Pixels of image planes, in units of the scan; every size is checked before memory is allocated for it."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array
from pydicom.tag import Tag

from ..geometry.errors import Refusal, printable
from .codestreams import decode, encoded_frame
from .elements import first_of, functional_groups, is_unreadable, macro_items, number_of
from .files import DamagedError, each, quiet, read_dataset
from .headers import Frame, length_problem

MAX_VOXELS = 2**29
"""Most voxels of a volume (2 GiB as float32); more than any MR scan has, so a header that states more is wrong."""
MAX_PLANE_VOXELS = 2**23
"""Most pixels of a plane, twice 2048 x 2048; decoders allocate a multiple of it."""
BLOCK = 16
"""Number of slices that are transposed to (column, row, slice) together, so that whole cache lines are written."""
LEVELS_KEPT = 0.9
"""Least share of the grey levels of a plane that must remain distinct in float32."""
BITS_ALLOCATED = (8, 16, 32)
KEYWORDS = (
    "Rows Columns NumberOfFrames SamplesPerPixel PhotometricInterpretation BitsAllocated BitsStored HighBit "
    "PixelRepresentation PixelData PlanarConfiguration ExtendedOffsetTable ExtendedOffsetTableLengths RescaleSlope "
    "RescaleIntercept SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence SOPClassUID"
)
OVERLAY_GROUPS = range(0x6000, 0x6020, 2)
OVERLAY_BIT_POSITION = 0x0102
TAGS = [
    *(Tag(keyword) for keyword in KEYWORDS.split()),
    *(Tag(group, OVERLAY_BIT_POSITION) for group in OVERLAY_GROUPS),
]
"""Attributes that determine pixel values; OverlayBitPosition is present where an overlay lies in unused bits."""


def read_planes(frames: Sequence[Frame]) -> np.ndarray:
    """Read the pixels of the planes of one volume.

    Args:
        frames: planes of equal size, in the order of the result.

    Returns:
        float32 (columns, rows, planes), rescaled (PS3.3, C.11.1); MONOCHROME1 is inverted, so that signal is bright.

    Raises:
        Refusal: pixels are absent, truncated, damaged, too many, or of another size than the header states.
    """
    first = frames[0]
    plane = first.rows * first.columns
    if plane > MAX_PLANE_VOXELS or plane * len(frames) > MAX_VOXELS:
        limits = f"{MAX_PLANE_VOXELS} a slice, {MAX_VOXELS} in all"
        raise Refusal(
            f"{first.columns} x {first.rows} x {len(frames)} voxels exceed the limit of {limits}; crop the series"
        )
    volume = np.empty((first.columns, first.rows, len(frames)), dtype=np.float32)
    block = np.empty((min(BLOCK, len(frames)), first.rows, first.columns), dtype=np.float32)
    planes = _planes(frames)
    for start in range(0, len(frames), BLOCK):
        count = min(BLOCK, len(frames) - start)
        with np.errstate(over="ignore"):  # infinite values are refused below
            for offset in range(count):
                block[offset] = next(planes)
        if not np.isfinite(block[:count]).all():
            raise Refusal("voxels are not finite after rescaling; RescaleSlope or RescaleIntercept is out of range")
        volume[:, :, start : start + count] = block[:count].transpose(2, 1, 0)
    return volume


def _planes(frames: Sequence[Frame]) -> Iterator[np.ndarray]:
    files = (file for file, _ in groupby(frame.file for frame in frames))
    datasets = each(lambda file: read_dataset(file, TAGS, pixels=True), files)
    file, dataset = None, None
    for number, frame in enumerate(frames, start=1):
        where = f"{printable(Path(frame.file).name)} (slice {number} of {len(frames)})"
        try:
            with quiet():
                if frame.file != file:
                    file, dataset = frame.file, None  # frees the previous file before the next is read
                    dataset = next(datasets)
                plane = _plane(dataset, frame)
        except DamagedError as error:
            raise Refusal(f"{where}: {error}") from None
        except MemoryError:
            raise Refusal(f"{where}: not enough memory for its pixels") from None
        # Damaged pixels raise errors of any kind, and their messages may quote the bytes.
        except Exception as error:  # noqa: BLE001 - see above
            raise Refusal(f"{where}: pixels cannot be decoded ({type(error).__name__})") from None
        yield plane


def _plane(dataset: Dataset, frame: Frame) -> np.ndarray:
    """Return one plane (rows, columns) in units of the scan."""
    if "PixelData" not in dataset:
        raise DamagedError("no PixelData")
    for keyword in ("BitsAllocated", "BitsStored", "PixelRepresentation"):
        if dataset.get(keyword) is None:
            raise DamagedError(f"{keyword} is absent: correct the headers")
    allocated, stored = int(dataset.BitsAllocated), int(dataset.BitsStored)
    high, signed = int(dataset.get("HighBit", stored - 1)), bool(dataset.PixelRepresentation)
    if allocated not in BITS_ALLOCATED or not 0 < stored <= allocated or not stored - 1 <= high < allocated:
        raise DamagedError(f"BitsAllocated {allocated}, BitsStored {stored}, HighBit {high} are not supported together")
    index = frame.index or 0
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        plane, own_bits = decode(dataset, index, encoded_frame(dataset, index, frame.frames_in_file))
    else:
        if problem := length_problem(dataset, len(dataset.PixelData)):
            raise DamagedError(problem)
        plane, own_bits = pixel_array(dataset, index=index, raw=True, correct_unused_bits=False), True
    if plane.shape != (frame.rows, frame.columns):
        raise DamagedError(f"pixels of {plane.shape} where the header says {(frame.rows, frame.columns)}")
    if own_bits and stored < allocated:
        plane = _unused_bits_removed(plane, dataset, (allocated, stored, high), signed)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        low = -(2 ** (stored - 1)) if signed else 0
        plane = (2 * low + 2**stored - 1) - plane.astype(np.int64)
    slope, intercept = rescale_of(dataset, frame)
    values = plane if (slope, intercept) == (1.0, 0.0) else plane * slope + intercept
    with np.errstate(over="ignore", invalid="ignore"):
        step = np.spacing(np.float32(abs(slope) * 2.0**stored + abs(intercept)))
    if step > abs(slope) / 2:
        _check_levels(values)
    return values


def _check_levels(values: np.ndarray) -> None:
    """Refuse a plane of which float32 cannot keep the grey levels, such as integers from 2^30 to 2^30 + 1000.

    Raises:
        DamagedError: more than one in ten grey levels would coincide with another.
    """
    with np.errstate(over="ignore"):
        levels, kept = len(np.unique(values)), len(np.unique(values.astype(np.float32)))
    if kept < LEVELS_KEPT * levels:
        raise DamagedError(
            f"values around {float(np.abs(values).max()):.4g}: only {kept} of {levels} grey levels remain in 32-bit "
            "floating point; subtract an offset from the stored values, or correct RescaleIntercept"
        )


def rescale_of(dataset: Dataset, frame: Frame) -> tuple[float, float]:
    """Return RescaleSlope and RescaleIntercept of one plane; 1 and 0 where there are none.

    Raises:
        DamagedError: the slope is 0, or one of them cannot be read.
    """
    groups = functional_groups(dataset, frame.index or 0)
    items = macro_items(groups, "PixelValueTransformationSequence", dataset)
    slope = first_of(items, "RescaleSlope", number_of)
    intercept = first_of(items, "RescaleIntercept", number_of)
    for name, value in (("RescaleSlope", slope), ("RescaleIntercept", intercept)):
        if value is None and any(is_unreadable(item, name) for item in items):
            raise DamagedError(f"{name} cannot be read as a number (a decimal comma?): correct it in all files")
    if slope == 0:
        raise DamagedError("RescaleSlope is 0")
    return (1.0 if slope is None else slope), (intercept or 0.0)


def _unused_bits_removed(plane: np.ndarray, dataset: Dataset, bits: tuple[int, int, int], signed: bool) -> np.ndarray:
    """Return the BitsStored bits that end at HighBit; the others hold an overlay or repeat the sign."""
    allocated, stored, high = bits
    unsigned = plane.view(f"u{allocated // 8}")
    value = (unsigned >> (high + 1 - stored)) & np.array((1 << stored) - 1, unsigned.dtype)
    above = unsigned >> (high + 1) if high + 1 < allocated else np.zeros_like(unsigned)
    extended = signed & (above == (1 << (allocated - high - 1)) - 1)
    if (above.astype(bool) & ~extended).any() and not any(tag.group in OVERLAY_GROUPS for tag in dataset.keys()):  # noqa: SIM118
        raise DamagedError(f"stored values exceed BitsStored {stored}")
    if not signed:
        return value
    sign = 1 << (stored - 1)
    return (value.astype(np.int64) ^ sign) - sign
