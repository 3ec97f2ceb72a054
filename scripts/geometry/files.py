"""Atomic writes: a file or folder is written completely or not at all."""

import ctypes
import json
import math
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PARTIAL = ".partial"  # suffix of temporary names
EARLIER = ".earlier"  # added to that where a folder waits for its successor
TEMPORARY = re.compile(rf"\.(?P<name>.+)\.[0-9a-f]{{8}}{re.escape(PARTIAL)}(?P<earlier>{re.escape(EARLIER)})?")
RENAME_EXCHANGE, AT_FDCWD = 2, -100  # of Linux (renameat2)
LONGEST_PREFIX = 150  # bytes of the final name in a temporary name; common file systems allow 255 for the whole


@contextmanager
def atomic_file(path: str | os.PathLike[str], mode: int | None = None) -> Iterator[Path]:
    """Provide a temporary path in the same folder; on success it replaces `path`, on an error it is removed.

    The temporary name is unique, so that two processes that write the same file do not mix their contents.

    Args:
        path: the file to write; its folder must exist.
        mode: permissions, set before anything is written; None: those of the umask.

    Raises:
        OSError: if it cannot be written; an earlier file of this name is kept.

    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_file(pathlib.Path(folder) / "a.txt") as temporary:
    ...         _ = temporary.write_text("done")
    ...     (pathlib.Path(folder) / "a.txt").read_text()
    'done'
    """
    path = Path(path)
    temporary = _temporary(path)
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode))
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Provide an empty temporary folder beside `path`; on success it replaces `path` as a whole.

    A process that is killed leaves either folder in place, never a mixture, and `remove_temporary` tidies up after it.

    Args:
        path: the folder to make; an earlier folder of this name is removed with its content.

    Raises:
        OSError: if it cannot be written, or a file is in the way; an earlier folder of this name is kept.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    temporary.mkdir()
    try:
        yield temporary
        _replace_folder(temporary, path)
    finally:
        _remove(temporary)


def temporary_names(folder: str | os.PathLike[str]) -> dict[Path, str]:
    """Return the temporary files and folders of this module in a folder, each with the final name that it was for.

    Raises:
        OSError: if the folder cannot be listed.

    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (pathlib.Path(folder) / ".knee.0a1b2c3d.partial").mkdir()
    ...     list(temporary_names(folder).values())
    ['knee']
    """
    with os.scandir(folder) as entries:
        found = {Path(entry.path): TEMPORARY.fullmatch(entry.name) for entry in entries if entry.name[0] == "."}
    return {path: match["name"] for path, match in found.items() if match}


def remove_temporary(path: Path) -> None:
    """Remove a temporary file or folder that a killed process left; an earlier folder without successor is put back.

    Only where no process is writing it: the caller holds the lock of what it was for.

    Args:
        path: one of `temporary_names`.
    """
    match = TEMPORARY.fullmatch(path.name)
    target = path.with_name(match["name"]) if match else path
    if match and match["earlier"] and path.exists() and not target.exists():
        path.rename(target)
    else:
        _remove(path)


def write_text(path: str | os.PathLike[str], text: str, mode: int | None = None) -> Path:
    """Write a UTF-8 text file through `atomic_file`; return its path."""
    with atomic_file(path, mode) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def write_json(path: str | os.PathLike[str], content: Mapping[str, Any], mode: int | None = None) -> Path:
    """Write `plain(content)` as an indented JSON file through `atomic_file`; return its path."""
    return write_text(path, json.dumps(plain(content), indent=1, allow_nan=False) + "\n", mode)


def plain(value: Any) -> Any:
    """Convert a value to what JSON can hold; numbers that are not finite become None, unknown types text.

    >>> import numpy as np
    >>> plain({"shape": np.array([2, 3]), "psnr": float("inf")})
    {'shape': [2, 3], 'psnr': None}
    """
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def _temporary(path: Path) -> Path:
    """Return a hidden path in the same folder that no other process uses, also for names of the maximum length."""
    name = os.fsencode(path.name)[:LONGEST_PREFIX].decode(sys.getfilesystemencoding(), errors="ignore")
    return path.with_name(f".{name}.{secrets.token_hex(4)}{PARTIAL}")


def _replace_folder(new: Path, path: Path) -> None:
    """Put the folder `new` in the place of `path`; what was there is under a temporary name then, or removed."""
    if not path.is_dir():
        new.rename(path)  # an error where a file is in the way
    elif not _exchange(new, path):
        earlier = new.with_name(new.name + EARLIER)
        path.rename(earlier)  # rename fails where the target is a folder that is not empty
        try:
            new.rename(path)
        except OSError:
            earlier.rename(path)
            raise
        _remove(earlier)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step, so that neither name is ever absent; False where the system cannot do it."""
    if sys.platform != "linux":
        return False
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    names = os.fsencode(one), os.fsencode(other)
    return renameat2 is not None and renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) == 0


def _remove(path: Path) -> None:
    """Remove a file, a link or a folder, as far as that is possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
