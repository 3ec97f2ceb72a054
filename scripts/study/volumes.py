"""The cases of a readers' study: the volumes to compare, on one grid, in one window, cut into planes."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from ..data.saving import volume_file, volume_name
from ..evaluation.layout import SIDE_VOLUMES, SUFFIX, EvaluationFolder, method_file, parse_others
from ..evaluation.record import read_record
from ..evaluation.volumes import covered, on_grid, read_grid, read_volume
from ..geometry.errors import Refusal
from ..geometry.grid import AXES
from ..geometry.orientation import Reorientation
from ..geometry.views import VIEWS
from ..metrics.mask import body_mask
from ..run.record import DONE

TRUTH = "truth"  # the method name of the true volumes
DARKEST_MEDIAN = 0.25  # of the window's width: the gray of the body's median is at least this
OFF_AXIS = 0.8  # cosine of the angle to the world axis; below it a view is too oblique to be named

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StudyCase:
    """A case of the study.

    Attributes:
        name: of the case.
        files: of each method.
        window: intensities shown as black and white, if they are known.
        source: the scan that it was made from, if it is known; two acquisitions of one scan show one person.
    """

    name: str
    files: Mapping[str, Path]
    window: tuple[float, float] | None = None
    source: str | None = None


@dataclass(frozen=True)
class StudyVolumes:
    """All methods of a case as stacks of planes of one view.

    Attributes:
        planes: method -> (planes, rows, columns), float32, rows from the top, columns from the left of the image.
        body: (planes, rows, columns), boolean, the same for all methods.
        pixel_mm: height and width of a pixel, mm.
        window: (low, high) in the scan's own units, the same for all methods.
        letters: directions at the left, right, top and bottom of the image.
    """

    planes: Mapping[str, np.ndarray]
    body: np.ndarray
    pixel_mm: tuple[float, float]
    window: tuple[float, float]
    letters: str


def evaluation_cases(folder: str | Path, methods: Sequence[str], patterns: str | Sequence[str]) -> list[StudyCase]:
    """Find the finished cases of an evaluation and the files of the methods to compare.

    Args:
        folder: output folder of the evaluation; its cases.json, methods/ and truth/ are read.
        methods: their names; "truth" is one if the cases have a truth.
        patterns: one or several patterns of case names, such as `pelvis*`.

    Raises:
        Refusal: if this is no such folder, no case fits, or a method has no result of a case.
    """
    try:
        record = read_record(folder)
    except Refusal as refusal:
        raise Refusal(
            f"{folder}: no readable cases.json: give the output folder of an evaluation, or --volumes"
        ) from refusal
    found = {case.name: case for case in record.cases}
    layout = EvaluationFolder(folder)
    others = parse_others(record.settings.get("others"))
    cases = []
    for name in _fitting(found, patterns, folder):
        case = found[name]
        if case.status != DONE:
            logger.warning("%s: left out: %s", name, case.reason or "the evaluation did not finish it")
            continue
        files = {}
        for method in methods:
            if method != TRUTH and not case.has_done(method):
                reason = case.outcome(method).reason or "the evaluation did not make or score one"
                raise Refusal(f"{name}: there is no result of {method}: {reason}: leave the case or the method out")
            where = layout.truth if method == TRUTH else others.get(method, layout.method_folder(method))
            files[method] = method_file(where, method, name, record.names)
        cases.append(StudyCase(name, files, tuple(map(float, case.window)) if case.window else None, case.source))
    if not cases:
        raise Refusal(f"{folder}: none of the cases that fit {patterns} is done: see its cases.json")
    warn_of_one_person(cases)
    return cases


def folder_cases(volumes: Mapping[str, str] | str, patterns: str | Sequence[str]) -> list[StudyCase]:
    """Find the cases of plain folders, one folder for each method, with files <case>.nii.gz or <case>*.nii.gz.

    A folder may also be one that `run inference` wrote. A case has the shortest name that a folder has for it:
    scan.nii.gz in one and scan_glade.nii.gz in another are the case "scan".

    Args:
        volumes: {"name": "folder"}, or "name=folder,name2=folder2".
        patterns: as in `evaluation_cases`.

    Raises:
        Refusal: if a folder does not exist, no case fits, or a method has no volume of a case.
    """
    folders = parse_others(volumes)
    stems = {method: _stems(folder) for method, folder in folders.items()}
    names = sorted({stem for own in stems.values() for stem in own if not _is_longer(stem, own, stems.values())})
    chosen = _fitting(names, patterns, ", ".join(str(folder) for folder in folders.values()))
    return [StudyCase(n, {m: method_file(f, m, n, names) for m, f in folders.items()}) for n in chosen]


def load(case: StudyCase, view: str, window_percentiles: Sequence[float] | None) -> StudyVolumes:
    """Read a case: all methods on the finest of their grids, cut along one view, black where one has no data.

    All methods share grid, field of view and window, so that none can be recognised by the size or frame of its images.

    Args:
        case: the case to read.
        view: "sagittal", "coronal" or "axial".
        window_percentiles: of the body over all methods; None: the window of the case in its evaluation.

    Raises:
        Refusal: if a file cannot be read or covers another region, the view is oblique to the grid, or there is no
            window.
    """
    grids = {method: read_grid(path) for method, path in case.files.items()}
    grid = min(grids.values(), key=lambda g: float(np.prod(g.spacing_mm)))
    fixed, _, _, letters = VIEWS[view]
    axis = int(np.argmax(np.abs(grid.affine[fixed, :AXES] / grid.spacing_mm)))
    if abs(grid.affine[fixed, axis]) < OFF_AXIS * grid.spacing_mm[axis]:
        raise Refusal(f"{case.name}: its {view} planes are oblique to the voxels: choose another view")
    shared = np.logical_and.reduce([covered(own, grid) for own in grids.values()])
    reorientation = Reorientation.through_plane_last(grid, axis)
    stacks = {m: _stack(on_grid(*read_volume(path), grid), reorientation) for m, path in case.files.items()}
    inside = _stack(shared, reorientation)
    try:
        body = body_mask(np.mean(list(stacks.values()), axis=0)) & inside  # of the mean: no method is favoured
    except Refusal as refusal:
        raise Refusal(f"{case.name}: {refusal}") from refusal
    window = case.window if window_percentiles is None else _window(stacks, body, window_percentiles, case.name)
    if window is None:
        raise Refusal(f"{case.name}: no evaluation has a window for it: give --window_percentiles")
    planes = {method: np.where(inside, stack, np.float32(window[0])) for method, stack in stacks.items()}
    spacing = reorientation.apply_grid(grid).spacing_mm
    return StudyVolumes(planes, body, (float(spacing[1]), float(spacing[0])), window, letters)


def warn_of_one_person(cases: Sequence[StudyCase]) -> None:
    """Log a warning for each scan of which several cases are shown: readers would see one person more than once."""
    by_source: dict[str, list[str]] = {}
    for case in cases:
        if case.source is not None:
            by_source.setdefault(case.source, []).append(case.name)
    for source, names in by_source.items():
        if len(names) > 1:
            logger.warning(
                "%s are acquisitions of one scan, %s: readers see that person %d times and the cases are not "
                "independent; choose one of them with `cases`",
                ", ".join(names),
                source,
                len(names),
            )


def _fitting(names, patterns: str | Sequence[str], where) -> list[str]:
    asked = [patterns] if isinstance(patterns, str) else list(patterns)
    chosen = [name for name in names if any(fnmatchcase(name, str(pattern)) for pattern in asked)]
    if not chosen:
        there = ", ".join(sorted(names)) or "none"
        raise Refusal(f"no case fits {patterns}; there are in {where}: {there}: correct `cases` or the folder")
    return chosen


def _stems(folder: Path) -> set[str]:
    """What a folder has: names of its volumes, and cases of our inference, <case>/<case>_glade.nii.gz."""
    stems = {path.name.removesuffix(SUFFIX) for path in folder.glob(f"*{SUFFIX}")}
    cases = {path.parent.name for path in folder.glob(f"*/{volume_name('*')}")}
    return {stem for stem in stems if not stem.endswith(SIDE_VOLUMES)} | {
        case for case in cases if volume_file(folder, case).is_file()
    }


def _is_longer(stem: str, own: set[str], all_stems) -> bool:
    """Whether another folder has a shorter name for this case, which is not the name of another case of this folder."""
    others = set().union(*all_stems) - own
    return any(stem.startswith(name) and not stem[len(name)].isalnum() for name in others)


def _stack(volume: np.ndarray, reorientation: Reorientation) -> np.ndarray:
    """(planes, rows from the top, columns from the left), as radiologists display the view (`VIEWS`)."""
    reordered = reorientation.apply(torch.from_numpy(np.ascontiguousarray(volume))).numpy()
    return np.ascontiguousarray(reordered[::-1, ::-1].transpose(2, 1, 0))


def _window(stacks: Mapping, body: np.ndarray, percentiles: Sequence[float], name: str) -> tuple[float, float]:
    """The window from percentiles of the body, narrowed from above where half of the body would be nearly black."""
    values = np.concatenate([stack[body] for stack in stacks.values()])
    low, middle, high = (
        (float(v) for v in np.percentile(values, (percentiles[0], 50, percentiles[1]))) if values.size else (0.0,) * 3
    )
    if not high > low:
        raise Refusal(f"{name}: no window: its body is empty or of one value; check the volumes")
    return low, min(high, low + (middle - low) / DARKEST_MEDIAN) if middle > low else high


def spread_planes(areas: np.ndarray, count: int, share: float, rng: np.random.Generator) -> list[int]:
    """Draw planes inside the body: one from each of `count` equal bands of the planes with enough of the body.

    Args:
        areas: (planes,) voxels of the body in each plane.
        count: number of planes to draw.
        share: smallest area of a plane, as a share of the largest.
        rng: random generator.

    Raises:
        Refusal: if there are fewer such planes than asked for.

    >>> spread_planes(np.array([0, 9, 9, 1, 9]), 3, 0.5, np.random.default_rng(0))
    [1, 2, 4]
    """
    inside = np.flatnonzero(areas >= max(share * areas.max(), 1))
    if len(inside) < count:
        raise Refusal(f"{len(inside)} planes lie inside the body, {count} are asked for: fewer planes or a lower share")
    edges = np.rint(np.linspace(0, len(inside), count + 1)).astype(int)
    return [int(inside[rng.integers(first, last)]) for first, last in pairwise(edges)]
