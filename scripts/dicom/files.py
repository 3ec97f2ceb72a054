"""Finding DICOM files in folders, and parsing them with bounded memory and time."""

import logging
import re
import stat
import time
import warnings
import zlib
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import read_partial
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from ..geometry.errors import why_unavailable
from ..geometry.folders import every_folder
from .elements import number_of

MAX_INFLATED_BYTES = 2**27
"""Largest size of a deflated file after decompression; a small file could otherwise fill the memory."""
MAX_ELEMENTS = 2**15
"""Most elements at the top level of one file; scanners write a few hundred."""
MAX_ITEMS = 2**16
"""Most sequence items of one file; an enhanced file has about 15 per frame.

An empty item takes 8 bytes in the file, but about 1 KiB in memory and 45 us to parse.
"""
ITEM_BYTES = 8
ITEM_TAGS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
"""Encoded tag of an item (PS3.5, 7.5), little and big endian."""
PIXEL_TAGS = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))
"""Tags of float, double and integer pixel data."""
UNDEFINED_LENGTH = 0xFFFFFFFF
"""Length of an element that ends with a delimiter (PS3.5, 7.1.1)."""
FRAGMENT, END_OF_FRAGMENTS = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
"""Encoded tags of fragments (PS3.5, A.4), which are always little endian."""
CHUNK_BYTES = 2**20
LOGGERS = ("pydicom", "openjpeg", "pylibjpeg")
"""Loggers of the libraries that parse and decode."""
PREAMBLE_BYTES = 128
SUFFIXES = (".dcm", ".dicom", ".dic", ".ima")
"""Ends of names that programs give to DICOM files alone; many give none."""
META_BYTES = PREAMBLE_BYTES + 4 + 12
"""Bytes of a file before those that FileMetaInformationGroupLength counts (PS3.10, 7.1)."""

PROBED = 8
"""Number of files that are read one after the other first, to measure how long a file is waited for."""
WAIT_S = 1e-3
"""Shortest wait for a file from which on files are read in parallel.

Where files come faster, threads only contend for Python's interpreter lock: a thousand headers then took 2.9 instead of
1.1 s of processor time.
"""
READERS = 4
"""Number of files that are read in parallel."""


class DamagedError(ValueError):
    """A file that begins as DICOM but cannot be used; the message is one line and quotes no attribute's value.

    Attributes:
        series: SeriesInstanceUID of the file; "" where it could not be read.
    """

    series = ""


class UnavailableError(DamagedError):
    """A file that cannot be opened, such as one that was removed since it was found.

    Args:
        error: of the operating system.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot be opened ({why_unavailable(error) or type(error).__name__})")


@dataclass(frozen=True)
class PixelElement:
    """The element of a file that holds its pixels, as far as it is known without reading it.

    Attributes:
        tag: (7FE0,0010), or the tag of float or double pixels.
        length: bytes that the element states; `UNDEFINED_LENGTH` where fragments follow.
        available: bytes from its value to the end of the file; None in a deflated file.
        fragments: number of its fragments; None where it is not fragmented, -1 where their end is missing.
    """

    tag: int
    length: int
    available: int | None
    fragments: int | None = None


@dataclass
class Extent:
    """How far a file could be parsed.

    Attributes:
        pixels: its pixel element; None where the file ends before one.
        truncated: whether an element before the pixels ends beyond the end of the file.
    """

    pixels: PixelElement | None = None
    truncated: bool = False


def regular_files(path: Path) -> Iterator[Path]:
    """Yield the regular files below a path in a fixed order, each folder once even where several links lead to it."""
    if not path.is_dir():
        if path.exists():
            yield path
        return
    for folder, names in every_folder(path):
        for name in names:
            file = folder / name
            try:
                regular = stat.S_ISREG(file.stat().st_mode)
            except OSError:  # a symbolic link without a target, or in a circle
                continue
            if regular:
                yield file


def each(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    """Apply a function to items in order, in parallel where reading waits for the disk.

    Args:
        function: reads the file of an item; what it raises is raised at the item's position in the order.
        items: consumed at most `READERS` ahead of the results.

    >>> list(each(str.upper, ["a", "b"]))
    ['A', 'B']
    """
    items = iter(items)
    waits = []
    for item in islice(items, PROBED):
        start, start_processor = time.perf_counter(), time.thread_time()
        result = function(item)
        waits.append(time.perf_counter() - start - (time.thread_time() - start_processor))
        yield result
    if not waits or min(waits) < WAIT_S:  # the shortest: on a busy machine some items wait for a processor
        yield from map(function, items)
        return
    # `quiet` changes global state: held open here, it stays in effect while threads enter and leave it in any order.
    with quiet(), ThreadPoolExecutor(READERS) as pool:
        ahead = deque(pool.submit(function, item) for item in islice(items, READERS))
        while ahead:
            yield ahead.popleft().result()
            ahead.extend(pool.submit(function, item) for item in islice(items, 1))


def looks_like_dicom(path: Path) -> bool:
    """Return whether a regular file begins as DICOM: with the prefix DICM, or with an element of group 2 or 8.

    The prefix follows PS3.10, 7.1; files of old archives have neither preamble nor prefix.

    Raises:
        UnavailableError: the file cannot be opened, or is gone.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with path.open("rb") as file:
            head = file.read(PREAMBLE_BYTES + 4)
    except OSError as error:
        raise UnavailableError(error) from None
    if head[PREAMBLE_BYTES:] == b"DICM":
        return True
    # Without preamble: element (0002,00xx) or (0008,00xx), then a value representation or a length below 64 KiB.
    if len(head) < 12 or head[:2] not in (b"\x08\x00", b"\x02\x00", b"\x00\x08"):
        return False
    big = head[:2] == b"\x00\x08"
    element = int.from_bytes(head[2:4], "big" if big else "little")
    return element <= 0x0018 and (re.match(rb"[A-Z]{2}", head[4:6]) is not None or head[6:8] == b"\x00\x00")


def seems_damaged(path: Path) -> bool:
    """Return whether a file that does not look like DICOM may be a damaged image.

    It may where its name ends as those of DICOM files do, or where it is empty or begins with a preamble of zeros only,
    as after a copy that broke off or a fault of a disk.
    """
    try:
        with path.open("rb") as file:
            return path.suffix.lower() in SUFFIXES or not any(file.read(PREAMBLE_BYTES))
    except OSError:
        return False


def read_dataset(path: str | Path, tags: Collection[int] | None = None, pixels: bool = False) -> Dataset:
    """Return the data set of a DICOM file; see `read_header`."""
    return read_header(path, tags, pixels)[0]


def read_header(path: str | Path, tags: Collection[int] | None = None, pixels: bool = False) -> tuple[Dataset, Extent]:
    """Parse a DICOM file.

    Args:
        path: a file that `looks_like_dicom`.
        tags: attributes that are kept in memory; None: all.
        pixels: whether to read the pixel data too.

    Returns:
        The data set, and how far it reaches.

    Raises:
        UnavailableError: the file cannot be opened, or is gone.
        DamagedError: pydicom cannot parse the file, it inflates beyond `MAX_INFLATED_BYTES`, or it holds more than
            `MAX_ELEMENTS` elements or `MAX_ITEMS` items.
    """
    try:
        with quiet(), Path(path).open("rb") as file:
            deflated = _bound(file)
            extent = Extent()
            # as int, because pydicom compares every tag of the file with them, which is slow between Tag objects
            wanted = None if tags is None else [int(tag) for tag in tags]
            dataset = read_partial(
                file, _stop(pixels, None if deflated else file, extent), force=True, specific_tags=wanted
            )
            if "TransferSyntaxUID" not in dataset.file_meta:  # no meta header: pydicom found the encoding
                implicit, little = dataset.original_encoding
                explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
                dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
            meta_bytes = number_of(dataset.file_meta, "FileMetaInformationGroupLength") or 0
            extent.truncated |= META_BYTES + meta_bytes > Path(path).stat().st_size
            return dataset, extent
    except DamagedError:
        raise
    # Damaged bytes raise errors of any kind (KeyError, struct.error, RecursionError ...). Their messages may quote the
    # bytes, and so the patient's name, and are left out.
    except Exception as error:  # noqa: BLE001 - see above
        if isinstance(error, OSError) and why_unavailable(error):
            raise UnavailableError(error) from None
        raise DamagedError(f"not readable as DICOM ({type(error).__name__})") from None


@contextmanager
def quiet() -> Iterator[None]:
    """Switch off pydicom's validation and warnings: they quote values, among them patients' names.

    The lines of its decoders and of openjpeg too, which name no file; what is serious raises an error.
    """
    before = [(logger, logger.level) for logger in map(logging.getLogger, LOGGERS)]
    for logger, _ in before:
        logger.setLevel(logging.CRITICAL + 1)  # unlike `disabled`, it also holds for the loggers below this one
    try:
        with pydicom.config.disable_value_validation(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in before:
            logger.setLevel(level)


def _stop(pixels: bool, file: BinaryIO | None, extent: Extent) -> Callable[[int, str | None, int], bool]:
    """Return the callback with which pydicom asks at each top-level element whether to stop reading.

    Args:
        pixels: whether to read on at the pixels.
        file: the file that pydicom reads; None where it reads an inflated copy.
        extent: receives what was found.
    """
    count = 0
    size = 0 if file is None else file.seek(0, 2)
    if file is not None:
        file.seek(0)

    def stop(tag: int, vr: str | None, length: int) -> bool:  # noqa: ARG001 (signature given by pydicom)
        nonlocal count
        count += 1
        if count > MAX_ELEMENTS:
            raise DamagedError(f"more than {MAX_ELEMENTS} elements")
        if int(tag) in PIXEL_TAGS:
            extent.pixels = extent.pixels or _pixel_element(file, int(tag), length)
            return not pixels
        if file is not None and length != UNDEFINED_LENGTH and extent.pixels is None:
            extent.truncated = file.tell() + length > size
        return extent.truncated

    return stop


def _pixel_element(file: BinaryIO | None, tag: int, length: int) -> PixelElement:
    """Describe the pixel element whose value the file has reached; leaves the file where it was."""
    if file is None:
        return PixelElement(tag, length, None)
    start = file.tell()
    size = file.seek(0, 2)
    fragments = None
    if length == UNDEFINED_LENGTH:
        fragments, at = -1, start  # the first item is the table of offsets, no fragment
        for number in range(-1, MAX_ITEMS):
            file.seek(at)
            head = file.read(8)
            if head[:4] == END_OF_FRAGMENTS:
                fragments = number
                break
            at += 8 + int.from_bytes(head[4:], "little")
            if head[:4] != FRAGMENT or at > size:
                break
    file.seek(start)
    return PixelElement(tag, length, size - start, fragments)


def _bound(file: BinaryIO) -> bool:
    """Refuse a file that would take too much memory, before it is parsed; leaves the file at its start.

    Returns:
        Whether the file is deflated.
    """
    size = file.seek(0, 2)
    file.seek(0)
    deflated = _is_deflated(file)
    if not deflated:
        file.seek(0)
    if deflated or size >= MAX_ITEMS * ITEM_BYTES:
        total = items = 0
        for chunk in _inflated(file) if deflated else iter(lambda: file.read(CHUNK_BYTES), b""):
            total += len(chunk)
            items += sum(chunk.count(item) for item in ITEM_TAGS)
            if deflated and total > MAX_INFLATED_BYTES:
                raise DamagedError(f"deflated file grows beyond {MAX_INFLATED_BYTES >> 20} MiB")
            if items > MAX_ITEMS:
                raise DamagedError(f"more than {MAX_ITEMS} sequence items")
    file.seek(0)
    return deflated


def _is_deflated(file: BinaryIO) -> bool:
    """Return whether the data set is deflated (PS3.5, A.5); if so, leaves the file where the data set begins."""
    meta = Dataset()
    if file.read(PREAMBLE_BYTES + 4)[PREAMBLE_BYTES:] == b"DICM":
        try:
            meta = pydicom.filereader._read_file_meta_info(file)
        except Exception:  # noqa: BLE001 - the parser reports what is wrong
            return False
    return meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian


def _inflated(file: BinaryIO) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    while chunk := file.read(CHUNK_BYTES):
        while chunk:
            yield inflater.decompress(chunk, CHUNK_BYTES)
            chunk = inflater.unconsumed_tail
