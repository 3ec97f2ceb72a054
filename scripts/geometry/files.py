"""Text files that are written whole or not at all."""

import os
from pathlib import Path


def write_whole(path: Path, text: str, mode: int = 0o666) -> Path:
    """Writes a file under another name, then renames it; whatever was there before stays until then.

    Args:
        path: of the file.
        text: its content.
        mode: its permissions from the first byte on, less what the umask forbids.

    Returns:
        The path.

    Raises:
        OSError: if it cannot be written; nothing half-written is left.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.unlink(missing_ok=True)  # of a process that was killed
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
            file.write(text)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path
