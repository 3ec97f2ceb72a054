"""Atomic writes: a file or folder is written completely or not at all."""

import json
import math
import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PARTIAL = ".partial"  # suffix of temporary names
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

    Args:
        path: the folder to make; an earlier folder of this name is removed with its content.

    Raises:
        OSError: if it cannot be written; an earlier folder of this name is kept.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    temporary.mkdir()
    try:
        yield temporary
        earlier = temporary.with_name(f"{temporary.name}.earlier")
        if path.exists():  # rename fails where the target is a folder that is not empty
            path.rename(earlier)
        try:
            temporary.rename(path)
        except OSError:
            if earlier.exists():
                earlier.rename(path)
            raise
        shutil.rmtree(earlier, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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
