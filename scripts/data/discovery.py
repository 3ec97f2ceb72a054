"""Discovery of NIfTI, NRRD, MetaImage and MGH scans: the files at some paths as `Case` objects with unique names."""

import gzip
import logging
import os
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nibabel.arrayproxy import ArrayProxy

from ..geometry.checks import is_whole
from ..geometry.errors import Refusal, counted, one_line, printable, why_unavailable
from ..geometry.folders import Inputs, every_folder, existing_paths, input_paths
from .case import Case, unique_names
from .formats import SUFFIXES, files_of, length_problem, open_image
from .nifti import NiftiFile, is_pair_header, open_content
from .saving import COVERAGE, POSTFIXES, RESIDUAL, volume_name
from .sidecar import file_stem

logger = logging.getLogger(__name__)


def find_nifti(path: Inputs, frames: str | int | Sequence[int] = "all") -> list[Case]:
    """Find the scans that are not DICOM at one or several paths: one case for each volume, in a fixed order.

    A folder is searched at any depth; hidden files and folders, symbolic links that lead back, and GLADE's own results
    are skipped. A 4-D file gives a case for each chosen frame; a file that cannot be used, a case with a refusal.

    Args:
        path: a NIfTI, NRRD, MetaImage or MGH file, or a folder, or several of them. Any other file gives no case.
        frames: "all", or the index (from 0) or indices of the frames of 4-D files.

    Raises:
        Refusal: if there is no such path or `frames` is not valid.
    """
    wanted = _check_frames(frames)
    roots = existing_paths(path)
    found = [file for root in roots for file in (sorted(_walk(root)) if root.is_dir() else [_header_of(root)])]
    files = [file for file in dict.fromkeys(found) if _is_nifti(file) and not _is_own_result(file)]
    folders = [root if root.is_dir() else root.parent for root in roots]
    names = _names(files, folders[0] if len(folders) == 1 else Path(os.path.commonpath(folders)))
    return unique_names(case for file in files for case in _cases_of(file, names[file], wanted))


def require_cases(cases: Sequence[Case], path: Inputs) -> list[Case]:
    """Return the cases found at one or several paths under unique names.

    Raises:
        Refusal: if there are none.
    """
    if not cases:
        where = " or ".join(map(str, input_paths(path)))
        raise Refusal(
            f"no NIfTI file (*.nii, *.nii.gz), NRRD, MetaImage or MGH file and no DICOM series in {where}: "
            f"give a scan or a folder of them"
        )
    return unique_names(cases)


def _check_frames(frames: str | int | Sequence[int]) -> list[int] | None:
    if frames == "all":
        return None
    wanted: Any = [frames] if isinstance(frames, int) else frames
    if isinstance(wanted, str) or not isinstance(wanted, Sequence) or not wanted or not all(map(is_whole, wanted)):
        raise Refusal(f"frames must be all, an index from 0 or a list of them, got {frames!r}")
    return sorted(set(wanted))


def _walk(root: Path) -> Iterator[Path]:
    def warn(error: OSError) -> None:
        logger.warning(
            "%s: cannot be listed (%s), its scans are left out", printable(Path(error.filename).name), error.strerror
        )

    for folder, names in every_folder(root, hidden=False, complain=warn):
        yield from (folder / name for name in names)


def _is_nifti(file: Path) -> bool:
    return file.name.lower().endswith(SUFFIXES) or is_pair_header(file)


def _header_of(file: Path) -> Path:
    """The header that belongs to an .img file, where there is one; else the file itself."""
    if not file.name.lower().endswith((".img", ".img.gz")):
        return file
    headers = (other for other in file.parent.iterdir() if file_stem(other) == file_stem(file))
    return next((other for other in headers if is_pair_header(other)), file)


def _is_own_result(file: Path) -> bool:
    folder = file.parent
    is_volume = any(file.name == volume_name(folder.name, postfix) for postfix in (*POSTFIXES, COVERAGE))
    return is_volume or folder.name == f"{folder.parent.name}_{RESIDUAL}"


def _names(files: list[Path], root: Path) -> dict[Path, str]:
    """A name for each file: its stem, preceded by as many of its folders as distinguish it from the others."""
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


def _cases_of(file: Path, name: str, wanted: list[int] | None) -> list[Case]:
    """The cases of one file, from its header alone."""
    case = Case(name, (file,))
    try:
        case = Case(name, files_of(file))
        image = open_image(file)
    except Refusal as refusal:
        return [replace(case, refusal=one_line(str(refusal)))]
    except Exception as error:  # noqa: BLE001 - nibabel, gzip and zlib each raise their own errors for a damaged file
        if why := why_unavailable(error):
            line = f"{file.name}: the header cannot be read ({why}): make the file available"
        else:
            line = (
                f"{file.name}: the header cannot be read (corrupt, truncated or of another format): copy the file again"
            )
        return [replace(case, refusal=one_line(line))]
    shape = image.dataobj.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    sizes = " x ".join(str(n) for n in shape)
    if len(shape) < 3 or min(shape[:3]) == 1:
        return [replace(case, refusal=f"{file.name}: a 2-D image ({sizes}): give the whole volume of slices")]
    if len(shape) > 4 or min(shape) < 1:
        return [replace(case, refusal=f"{file.name}: not a 3-D scan or a series of them ({sizes}): split it first")]
    if wanted and (absent := [f for f in wanted if f >= (shape[3] if len(shape) == 4 else 1)]):
        logger.warning("%s: has %s, none of number %s: see --frames", printable(file.name), _frames_of(shape), absent)
    if len(shape) == 3:
        return [case]
    chosen = range(shape[3]) if wanted is None else [f for f in wanted if f < shape[3]]
    if not chosen:
        return [replace(case, refusal=f"{file.name}: has {shape[3]} frames, none of them {wanted}: correct --frames")]
    missing = _missing_bytes(case.files[-1], image) if isinstance(image.dataobj, ArrayProxy) else 0
    if problem := length_problem(file.name, shape, -missing):
        return [replace(case, refusal=problem)]
    digits = max(2, len(str(shape[3] - 1)))
    return [replace(case, name=f"{name}_f{f:0{digits}d}", frame=f) for f in chosen]


def _frames_of(shape: tuple[int, ...]) -> str:
    return counted(shape[3], "frame") if len(shape) == 4 else "one volume, which is processed"


def _missing_bytes(file: Path, image: NiftiFile) -> int:
    """How many bytes a file has fewer than its header claims; one refusal then stands for all its frames."""
    wanted = image.needed_bytes
    try:
        with open_content(file) as content:
            found = content.seek(wanted) if isinstance(content, gzip.GzipFile) else content.seek(0, os.SEEK_END)
    except (OSError, EOFError, zlib.error):  # damaged: the reader says so
        found = 0
    return max(0, wanted - found)
