"""The folders that are searched for scans: which they are, and walking them whatever they hold."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .errors import Refusal, why_unavailable

Inputs = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""One path or several: what `dataset_dir` may be."""


def input_paths(inputs: Inputs) -> list[Path]:
    """Return the files and folders that are searched for scans: a single path as it is, several absolute and each once.

    Raises:
        Refusal: if this is no path and no list of paths.

    >>> input_paths("scans")
    [PosixPath('scans')]
    """
    if isinstance(inputs, (str, os.PathLike)):
        return [Path(inputs)]
    given = list(inputs) if isinstance(inputs, Sequence) else []
    if not given or not all(isinstance(path, (str, os.PathLike)) for path in given):
        raise Refusal(f"dataset_dir must be a path or a list of paths, got {inputs!r}: give a scan or a folder of them")
    return list(dict.fromkeys(map(absolute, given)))


def absolute(path: str | os.PathLike[str]) -> Path:
    """Return a path as an absolute one without "..", in which links stay as they are.

    >>> absolute("/data/../scans")
    PosixPath('/scans')
    """
    return Path(os.path.abspath(path))  # noqa: PTH100 - Path.absolute keeps "..", Path.resolve follows links


def existing_paths(inputs: Inputs) -> list[Path]:
    """Return `input_paths`, all of which exist.

    Raises:
        Refusal: if one of them does not, or nobody can say.
    """
    paths = input_paths(inputs)
    for path in paths:
        if not exists(path):
            raise Refusal(f"no such file or folder: {path}: give the path of a scan or of a folder of scans")
    return paths


def exists(path: Path) -> bool:
    """Return whether there is a file or folder.

    Raises:
        Refusal: if that cannot be seen: the name is too long, or a folder above must not be entered.
    """
    try:
        return path.exists()
    except OSError as error:
        raise Refusal(f"{path} cannot be looked up ({why_unavailable(error)}): give another path") from error


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
