"""Which input a case is, told from others by its files and by where they lie; neither can be read from what is kept."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from ..data.discovery import file_stem

SAMPLE_BYTES = 4096  # of a file's beginning, middle and end


def fingerprint(case: Mapping) -> str | None:
    """Tells an input from another or from an edited one: names, sizes, times, samples of files; None: unreadable.

    Archives write many files of one size and one time; the samples hold a DICOM file's UIDs and a gzip file's checksum.
    """
    digest = hashlib.sha256(repr(case.get("frame")).encode())
    try:
        for file in files_of(case):
            with (file if file.exists() else _container(file)).open("rb") as content:
                status = os.fstat(content.fileno())
                digest.update(f"{file.name}|{status.st_size}|{status.st_mtime_ns}\n".encode())
                for start in (0, status.st_size // 2, max(0, status.st_size - SAMPLE_BYTES)):
                    content.seek(start)
                    digest.update(content.read(SAMPLE_BYTES))
    except OSError:
        return None
    return digest.hexdigest()


def location_hash(case: Mapping) -> str | None:
    """Tells where an input lies from where another one does, without saying it: folders bear patients' names.

    A NIfTI file's place is its path, a DICOM volume's its folder: files may join it.
    """
    files = image_files(case)
    if not files:
        return None
    where = min(files).resolve()
    return hashlib.sha256(str(where.parent if case.get("format") == "dicom" else where).encode()).hexdigest()


def image_files(case: Mapping) -> list[Path]:
    """The files of a case's image, one or many."""
    image = case.get("image", ())
    return [Path(file) for file in image] if isinstance(image, (list, tuple)) else [Path(image)]


def files_of(case: Mapping) -> list[Path]:
    """The files of a case, with the sidecar of a NIfTI file where there is one."""
    files = image_files(case)
    if case.get("format") == "nifti":
        sidecar = files[0].with_name(file_stem(files[0]) + ".json")
        files += [sidecar] if sidecar.is_file() else []
    return files


def _container(path: Path) -> Path:
    """The file in which a volume lies, for a path like scan.dcm#volume=2 (an enhanced DICOM file of several)."""
    return path.with_name(path.name.rpartition("#")[0] or path.name)
