"""Which scans there are: the NIfTI files of a folder as case dicts, their names, and the share of each process."""

import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import nibabel

from ..geometry.checks import is_whole
from ..geometry.errors import Refusal, one_line
from ..geometry.folders import every_folder

SUFFIXES = (".nii.gz", ".nii")
OUTPUT_POSTFIXES = ("_glade", "_added_detail", "_confidence")  # what SaveImageCased writes
LONGEST_NAME = 120  # bytes; leaves room for the postfixes within the 255 of common file systems

logger = logging.getLogger(__name__)


def find_nifti(path: str | os.PathLike, frames: str | int | Sequence[int] = "all") -> list[dict]:
    """The NIfTI scans at a path, one case dict for each volume, in a fixed order.

    A folder is walked; hidden files and folders, symbolic links that lead back, and GLADE's own results are skipped.
    A 4-D file gives a case for each chosen frame. What is found but cannot be used is a case with its reason in
    "refusal".

    Args:
        path: a *.nii or *.nii.gz file, or a folder. Any other file gives no case.
        frames: "all", or the index (from 0) or indices of the frames of 4-D files.

    Raises:
        Refusal: if there is no such path or `frames` is no such value.
    """
    wanted = _check_frames(frames)
    root = Path(path)
    if not root.exists():
        raise Refusal(f"no such file or folder: {path}: check dataset_dir")
    files = sorted(_walk(root)) if root.is_dir() else [root]
    files = [file for file in files if file.name.lower().endswith(SUFFIXES) and not _is_own_result(file)]
    names = _names(files, root if root.is_dir() else root.parent)
    return unique_names([case for file in files for case in _cases_of(file, names[file], wanted)])


def require_cases(cases: list[dict], path: str | os.PathLike) -> list[dict]:
    """The cases of a path, given that there are any, under unique names.

    Raises:
        Refusal: if the list is empty.
    """
    if not cases:
        raise Refusal(f"no NIfTI file (*.nii, *.nii.gz) and no DICOM series in {path}: give a scan or a folder of them")
    return unique_names(cases)


def unique_names(cases: list[dict]) -> list[dict]:
    """The cases with safe names that stay different where capitals do not count; the first of a kind keeps its own."""
    taken: set[str] = set()
    named = []
    for case in cases:
        name = safe = safe_name(case["case"])
        count = 1
        while name.casefold() in taken:
            count += 1
            name = f"{safe}_{count}"
        taken.add(name.casefold())
        named.append({**case, "case": name})
    return named


def safe_name(text: str) -> str:
    """The text as a name for a file: letters, digits, dot, dash, plus, underscore; not hidden, not too long."""
    name = re.sub(r"[^\w.+-]+", "_", text).strip("._") or "scan"
    return name.encode()[:LONGEST_NAME].decode(errors="ignore")


def file_stem(path: str | os.PathLike) -> str:
    """The name of a NIfTI file without .nii or .nii.gz."""
    return re.sub(r"\.nii(\.gz)?$", "", Path(path).name, flags=re.IGNORECASE)


def _check_frames(frames: str | int | Sequence[int]) -> list[int] | None:
    if frames == "all":
        return None
    wanted = [frames] if isinstance(frames, int) else frames
    whole = isinstance(wanted, Sequence) and all(map(is_whole, wanted))
    if isinstance(wanted, str) or not whole or not wanted:
        raise Refusal(f"frames must be all, an index from 0 or a list of them, got {frames!r}")
    return sorted(set(wanted))


def _walk(root: Path) -> Iterator[Path]:
    def complain(error: OSError) -> None:
        logger.warning("%s: cannot be listed (%s), its scans are left out", Path(error.filename).name, error.strerror)

    for folder, names in every_folder(root, hidden=False, complain=complain):
        yield from (folder / name for name in names)


def _is_own_result(file: Path) -> bool:
    return any(file.name == f"{file.parent.name}{postfix}.nii.gz" for postfix in OUTPUT_POSTFIXES)


def _names(files: list[Path], root: Path) -> dict[Path, str]:
    """A name for each file: its stem, with as many of its folders in front as tell it from the others."""
    parts = {file: (*file.relative_to(root).parts[:-1], file_stem(file)) for file in files}
    same_stem = defaultdict(list)
    for file in files:
        same_stem[parts[file][-1].casefold()].append(file)
    names = {}
    for group in same_stem.values():
        deepest = max(len(parts[file]) for file in group)
        for depth in range(1, deepest + 1):
            trial = {file: "_".join(parts[file][-depth:]) for file in group}
            if len({name.casefold() for name in trial.values()}) == len(group):
                break
        names.update(trial)
    return names


def _cases_of(file: Path, name: str, wanted: list[int] | None) -> list[dict]:
    """The case dicts of one file, from its header alone."""
    plain = {"case": name, "image": str(file), "frame": None, "format": "nifti", "refusal": None}
    try:
        shape = nibabel.load(file).shape
    except Exception as error:  # nibabel, gzip, zlib and the system each have their own; all mean the same here
        why = error.strerror if isinstance(error, OSError) and error.strerror else "corrupt, truncated or no NIfTI"
        return [{**plain, "refusal": one_line(f"{file.name}: the header cannot be read ({why}): copy the file again")}]
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    sizes = " x ".join(str(n) for n in shape)
    if len(shape) < 3 or min(shape[:3]) == 1:
        return [{**plain, "refusal": f"{file.name}: a 2-D image ({sizes}): give the whole volume of slices"}]
    if len(shape) > 4 or min(shape) < 1:
        return [{**plain, "refusal": f"{file.name}: not a 3-D scan or a series of them ({sizes}): split it first"}]
    if len(shape) == 3:
        return [plain]
    chosen = range(shape[3]) if wanted is None else [f for f in wanted if f < shape[3]]
    if not chosen:
        return [{**plain, "refusal": f"{file.name}: has {shape[3]} frames, none of them {wanted}: correct frames"}]
    digits = max(2, len(str(shape[3] - 1)))
    return [{**plain, "case": f"{name}_f{f:0{digits}d}", "frame": f} for f in chosen]
