"""Walking folders that nobody vouches for: any depth, links in circles, folders that cannot be listed."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path


def every_folder(
    root: str | os.PathLike, hidden: bool = True, complain: Callable[[OSError], object] | None = None
) -> Iterator[tuple[Path, list[str]]]:
    """A folder and all below it, each once however many links lead to it, in a fixed order.

    `os.walk` recurses (before Python 3.12) and so fails on a thousand folders within each other.

    Args:
        root: the folder; symbolic links below it are followed.
        hidden: whether files and folders whose name begins with a dot count.
        complain: is given the error of a folder that cannot be listed; such a folder is left out.

    Yields:
        A folder and the sorted names of what in it is no folder.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [Path(root)]
    while waiting:
        folder = waiting.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                found = sorted((entry.name, _is_folder(entry)) for entry in entries if hidden or entry.name[0] != ".")
        except OSError as error:
            if complain is not None:
                complain(error)
            continue
        yield folder, [name for name, is_folder in found if not is_folder]
        waiting += [folder / name for name, is_folder in reversed(found) if is_folder]


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads back to itself
        return False
