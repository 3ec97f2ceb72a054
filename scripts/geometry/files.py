"""Files and folders that are written completely or not at all."""

import json
import math
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".partial"  # ends the temporary name of what is being written
LONGEST_PREFIX = 150  # bytes of the name that a temporary name begins with; 255 is the limit of common file systems


@contextmanager
def atomic_file(path: str | os.PathLike, mode: int | None = None) -> Iterator[Path]:
    """Give a temporary path in the same folder; on success it replaces `path`, on an error it is removed.

    The temporary name is unique, so two processes that write the same file cannot mix their content.

    Args:
        path: the file to write; its folder must exist.
        mode: permissions from the first byte on; None: what the umask gives.

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
def atomic_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Give an empty temporary folder beside `path`; on success it takes the place of `path`, with all that it holds.

    Args:
        path: the folder to make; what lies there is replaced as a whole.

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
        if path.exists():  # a folder cannot be renamed onto one that is not empty
            path.rename(earlier)
        temporary.rename(path)
        shutil.rmtree(earlier, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: str | os.PathLike, text: str, mode: int | None = None) -> Path:
    """Write a UTF-8 text file through `atomic_file`; return its path."""
    with atomic_file(path, mode) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def write_json(path: str | os.PathLike, content: Mapping, mode: int | None = None) -> Path:
    """Write `plain(content)` as an indented JSON file through `atomic_file`; return its path."""
    return write_text(path, json.dumps(plain(content), indent=1, allow_nan=False) + "\n", mode)


def plain(value):
    """Convert to what JSON can hold: numbers, text, lists and dicts; numbers that are not finite become None.

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
    """A hidden name in the same folder that no other process uses, also where the name itself is as long as allowed."""
    name = path.name.encode()[:LONGEST_PREFIX].decode(errors="ignore")
    return path.with_name(f".{name}.{secrets.token_hex(4)}{PARTIAL}")
