"""DICOM files on a disk: which there are, which begin as DICOM, and their data sets, safely parsed."""

import os
import re
import stat
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

MAX_INFLATED_BYTES = 2**27
"""A deflated file may grow to this size in memory, no further (decompression bombs)."""
CHUNK_BYTES = 2**20
PREAMBLE_BYTES = 128


class DamagedError(ValueError):
    """A file that begins as DICOM and cannot be read on: one line, without any attribute's value."""


def regular_files(path: Path) -> Iterator[Path]:
    """Regular files below a path in a fixed order; every folder once, however many links lead to it."""
    if not path.is_dir():
        if path.exists():
            yield path
        return
    seen: set[tuple[int, int]] = set()
    for folder, names, files in os.walk(path, followlinks=True):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            names.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        names.sort()
        for name in sorted(files):
            file = Path(folder) / name
            try:
                regular = stat.S_ISREG(file.stat().st_mode)
            except OSError:  # a link that leads nowhere, or back to itself
                continue
            if regular:
                yield file


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


def read_dataset(path: str | Path, tags: list | None = None) -> Dataset:
    """Header of a DICOM file, read without its pixels.

    Args:
        path: a file that `looks_like_dicom`.
        tags: only these attributes are kept in memory; all when None.

    Raises:
        DamagedError: pydicom cannot parse the file, or it inflates beyond `MAX_INFLATED_BYTES`.
    """
    try:
        with quiet():
            _bound_deflated(path)
            return pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=tags)
    except DamagedError:
        raise
    # Damaged bytes raise whatever the spot that meets them raises (KeyError, struct.error, RecursionError ...); its
    # text may quote the bytes, hence the patient, and is not passed on.
    except Exception as error:
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


def _bound_deflated(path: str | Path) -> None:
    """Refuses a deflated file that grows beyond the bound, before pydicom inflates it whole."""
    with Path(path).open("rb") as file:
        head = file.read(PREAMBLE_BYTES + 4)
        if head[PREAMBLE_BYTES:] != b"DICM":
            return
        try:
            meta = pydicom.filereader._read_file_meta_info(file)
        except Exception:  # dcmread will say what is wrong
            return
        if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            return
        inflater, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while chunk := file.read(CHUNK_BYTES):
            while chunk:
                total += len(inflater.decompress(chunk, CHUNK_BYTES))
                chunk = inflater.unconsumed_tail
                if total > MAX_INFLATED_BYTES:
                    raise DamagedError(f"deflated file grows beyond {MAX_INFLATED_BYTES >> 20} MiB")
