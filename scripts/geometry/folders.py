"""Walking folders of unknown content: any depth, circular links, folders that cannot be listed."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path


def every_folder(
    root: str | os.PathLike[str], hidden: bool = True, complain: Callable[[OSError], object] | None = None
) -> Iterator[tuple[Path, list[str]]]:
    """Walk a folder and all folders below it in a fixed order, each once even where several links lead to it.

    `os.walk` is recursive before Python 3.12 and fails on a thousand nested folders.

    Args:
        root: the folder; symbolic links below it are followed.
        hidden: whether to include files and folders whose name begins with a dot.
        complain: called with the error of each folder that cannot be listed; such folders are skipped.

    Yields:
        A folder and the sorted names of the files in it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     (Path(root) / "study").mkdir()
    ...     _ = (Path(root) / "study" / "scan.nii").write_bytes(b"")
    ...     [(folder.name, names) for folder, names in every_folder(root)][1:]
    [('study', ['scan.nii'])]
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


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
