"""DICOM files on a disk: which there are, which begin as DICOM, and their data sets, safely parsed."""

import re
import stat
import time
import warnings
import zlib
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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

from ..geometry.folders import every_folder

MAX_INFLATED_BYTES = 2**27
"""A deflated file may grow to this size in memory, no further (decompression bombs)."""
MAX_ELEMENTS = 2**15
"""Elements at the top of one file; scanners write a few hundred."""
MAX_ITEMS = 2**16
"""Sequence items of one file: an empty one takes 8 bytes there, a kilobyte in memory and 45 us to parse. An enhanced
file has about 15 a frame."""
ITEM_BYTES = 8
ITEMS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
"""Tag of an item (PS3.5, 7.5), little and big endian."""
PIXELS = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))
"""Tags of float, double and integer pixel data."""
CHUNK_BYTES = 2**20
PREAMBLE_BYTES = 128


PROBED = 8
"""As many files are read one after the other, to see whether the disk or the processor is the slower one ..."""
WAIT_S = 1e-3
"""... and where each of them waits longer than this, `READERS` are read at once. Elsewhere threads cost time: they
hold each other up at Python's lock, and a thousand headers then take 2.9 instead of 1.1 s of a processor."""
READERS = 4


class DamagedError(ValueError):
    """A file that begins as DICOM and cannot be read on: one line, without any attribute's value."""


def regular_files(path: Path) -> Iterator[Path]:
    """Regular files below a path in a fixed order; every folder once, however many links lead to it."""
    if not path.is_dir():
        if path.exists():
            yield path
        return
    for folder, names in every_folder(path):
        for name in names:
            file = folder / name
            try:
                regular = stat.S_ISREG(file.stat().st_mode)
            except OSError:  # a link that leads nowhere, or back to itself
                continue
            if regular:
                yield file


def each(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    """`map`, with several items in work where each waits for its file, never more than `READERS` ahead."""
    items = iter(items)
    waits = []
    for item in islice(items, PROBED):
        start, start_processor = time.perf_counter(), time.thread_time()
        result = function(item)
        waits.append(time.perf_counter() - start - (time.thread_time() - start_processor))
        yield result
    if not waits or min(waits) < WAIT_S:  # the least: on a busy machine some always wait, though not for the disk
        yield from map(function, items)
        return
    # The outer `quiet` keeps pydicom quiet while the threads enter and leave theirs in any order.
    with quiet(), ThreadPoolExecutor(READERS) as pool:
        ahead = deque(pool.submit(function, item) for item in islice(items, READERS))
        while ahead:
            yield ahead.popleft().result()
            ahead.extend(pool.submit(function, item) for item in islice(items, 1))


def looks_like_dicom(path: Path) -> bool:
    """Whether a regular file begins as DICOM: the prefix DICM (PS3.10, 7.1), or a first element of group 2 or 8.

    Raises:
        DamagedError: the file cannot be opened, so nobody knows.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with path.open("rb") as file:
            head = file.read(PREAMBLE_BYTES + 4)
    except FileNotFoundError:
        return False
    except OSError:
        raise DamagedError("the file cannot be opened") from None
    if head[PREAMBLE_BYTES:] == b"DICM":
        return True
    # Files without preamble, as old archives hold them: element (0002,00xx) or (0008,00xx), a VR or a short length.
    if len(head) < 12 or head[:2] not in (b"\x08\x00", b"\x02\x00", b"\x00\x08"):
        return False
    big = head[:2] == b"\x00\x08"
    element = int.from_bytes(head[2:4], "big" if big else "little")
    return element <= 0x0018 and (re.match(rb"[A-Z]{2}", head[4:6]) is not None or head[6:8] == b"\x00\x00")


def read_dataset(path: str | Path, tags: Collection[int] | None = None, pixels: bool = False) -> Dataset:
    """Data set of a DICOM file.

    Args:
        path: a file that `looks_like_dicom`.
        tags: only these attributes are kept in memory; all when None.
        pixels: whether to read on where the pixels begin.

    Raises:
        DamagedError: pydicom cannot parse the file, it inflates beyond `MAX_INFLATED_BYTES`, or it holds more than
            `MAX_ELEMENTS` elements or `MAX_ITEMS` items.
    """
    try:
        with quiet(), Path(path).open("rb") as file:
            _bound(file)
            # plain numbers: pydicom compares every tag with all of these
            wanted = None if tags is None else [int(tag) for tag in tags]
            dataset = read_partial(file, _stop(pixels), force=True, specific_tags=wanted)
            if "TransferSyntaxUID" not in dataset.file_meta:  # a file without meta header: it was read as one of three
                implicit, little = dataset.original_encoding
                explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
                dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
            return dataset
    except DamagedError:
        raise
    # Damaged bytes raise whatever the spot that meets them raises (KeyError, struct.error, RecursionError ...); its
    # text may quote the bytes, hence the patient, and is not passed on.
    except Exception as error:  # noqa: BLE001 - damaged bytes can raise anything
        raise DamagedError(f"not readable as DICOM ({type(error).__name__})") from None


@contextmanager
def quiet() -> Iterator[None]:
    """Context in which pydicom neither judges values nor warns: its warnings quote them, names included."""
    disabled = pydicom.config.logger.disabled
    pydicom.config.logger.disabled = True
    try:
        with pydicom.config.disable_value_validation(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        pydicom.config.logger.disabled = disabled


def _stop(pixels: bool) -> Callable[[int, str | None, int], bool]:
    """Tells pydicom, which asks at every element of the top, where to stop."""
    count = 0

    def stop(tag: int, vr: str | None, length: int) -> bool:  # noqa: ARG001 (pydicom's signature)
        nonlocal count
        count += 1
        if count > MAX_ELEMENTS:
            raise DamagedError(f"more than {MAX_ELEMENTS} elements")
        return not pixels and int(tag) in PIXELS

    return stop


def _bound(file: BinaryIO) -> None:
    """Refuses what would grow in memory, before anything is parsed; the file is at its start again."""
    size = file.seek(0, 2)
    file.seek(0)
    deflated = _is_deflated(file)
    if not deflated:
        file.seek(0)
    if deflated or size >= MAX_ITEMS * ITEM_BYTES:
        total = items = 0
        for chunk in _inflated(file) if deflated else iter(lambda: file.read(CHUNK_BYTES), b""):
            total += len(chunk)
            items += sum(chunk.count(item) for item in ITEMS)
            if deflated and total > MAX_INFLATED_BYTES:
                raise DamagedError(f"deflated file grows beyond {MAX_INFLATED_BYTES >> 20} MiB")
            if items > MAX_ITEMS:
                raise DamagedError(f"more than {MAX_ITEMS} sequence items")
    file.seek(0)


def _is_deflated(file: BinaryIO) -> bool:
    """Whether the data set is deflated (PS3.5, A.5); the file, read from its start, then stands where it begins."""
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
