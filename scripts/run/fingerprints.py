"""Fingerprint and location of an input; only hashes are stored, so file names and paths cannot be recovered."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from ..data.case import DICOM, NIFTI, Case
from ..data.sidecar import sidecars_of

SAMPLE_BYTES = 4096  # of the beginning, middle and end of a file


def fingerprint(case: Case) -> str | None:
    """Return a hash that changes when the input does: names, sizes, times, samples of its files; None if unreadable.

    Archives write many files of one size and one time; the samples hold a DICOM file's UIDs and a gzip file's checksum.
    """
    parts = [(part.frame, getattr(part.volume, "planes_in_files", None)) for part in case.stacks or [case]]
    return fingerprint_of_files(input_files(case), repr(parts if case.stacks else parts[0]))


def fingerprint_of_files(files: list[Path], part: str = "") -> str | None:
    """Return the hash of files and of which part of them is meant; None if a file cannot be read."""
    digest = hashlib.sha256(part.encode())
    try:
        for file in files:
            with file.open("rb") as content:
                status = os.fstat(content.fileno())
                digest.update(os.fsencode(f"{file.name}|{status.st_size}|{status.st_mtime_ns}\n"))
                for start in (0, status.st_size // 2, max(0, status.st_size - SAMPLE_BYTES)):
                    content.seek(start)
                    digest.update(content.read(SAMPLE_BYTES))
    except OSError:
        return None
    return digest.hexdigest()


def location_hash(case: Case) -> str | None:
    """Return a hash of where the input lies; it is hashed because folders bear patients' names.

    The location of a NIfTI scan is its path, that of a DICOM volume its folder, since files may be added to it, and its
    SeriesInstanceUID, since the folder may hold another patient later; that of several stacks, the locations of all of
    them in their order.
    """
    if len(case.stacks) > 1:
        hashes = [location_hash(stack) for stack in case.stacks]
        return hashlib.sha256("".join(hashes).encode()).hexdigest() if all(hashes) else None
    if not case.files:
        return None
    try:
        first = min(case.files).resolve()
    except (OSError, RuntimeError):  # a loop of symbolic links, a folder that may not be entered
        return None
    place = os.fsencode(first.parent if case.format == DICOM else first)
    series = getattr(case.volume, "series", None)
    return hashlib.sha256(place if series is None else place + b"|" + series.encode()).hexdigest()


def input_files(case: Case) -> list[Path]:
    """Return the files of a case, with the sidecars of a NIfTI file, inherited ones too."""
    if case.stacks:
        return list(dict.fromkeys(file for stack in case.stacks for file in input_files(stack)))
    files = list(case.files)
    if case.format == NIFTI and files:
        with suppress(OSError):  # a folder that may not be entered
            files += sidecars_of(files[0])
    return files
