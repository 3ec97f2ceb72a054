"""The table of `glade list`: the scans in folders, where they lie, what they are, and which of them inference uses."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from glade.scripts.data.acceptance import THICKNESS_UNKNOWN
from glade.scripts.data.case import DICOM, Case
from glade.scripts.data.formats import open_image
from glade.scripts.data.slice_profile import SOURCE as ESTIMATED
from glade.scripts.data.trained_range import WARNINGS
from glade.scripts.dicom.description import described, pixel_size_mm, plane_across, plane_of
from glade.scripts.geometry.errors import counted, printable
from glade.scripts.geometry.folders import absolute

from .workflow import bundle_parser, input_of


@dataclass(frozen=True)
class Listed:
    """A scan in the table; a cell is "-" where a value is not known.

    Attributes:
        folder: where it lies, relative to the folder that was given.
        file: NIfTI file, or number of the DICOM series and of its files.
        case: its name in results.
        description: of the acquisition.
        size: voxels.
        spacing_mm: of pixels and slices.
        thickness_mm: of the slices, from the header or a sidecar; what is estimated is marked.
        plane: of the slices.
        usable: "yes", with warnings, or "no" and why.
    """

    folder: str
    file: str
    case: str
    description: str = "-"
    size: str = "-"
    spacing_mm: str = "-"
    thickness_mm: str = "-"
    plane: str = "-"
    usable: str = "yes"

    @property
    def is_usable(self) -> bool:
        """Whether inference would process it."""
        return self.usable.startswith("yes")


def listed(paths: Sequence[Path]) -> Iterator[Listed]:
    """Yield every scan at the paths, each read and prepared as inference would do it, without its network.

    Args:
        paths: files and folders.

    Raises:
        Refusal: if one of them does not exist, or they hold no scan.
    """
    inference = bundle_parser({"dataset_dir": [str(path.absolute()) for path in paths]})
    with _quiet(logging.WARNING):
        cases, preprocessing = (inference.get_parsed_content(key) for key in ("cases", "preprocessing"))
    with _quiet(logging.CRITICAL):  # the table says the same
        roots = [path if path.is_dir() else path.parent for path in paths]
        for case in cases:
            yield _listed(case, roots, preprocessing)


def table(rows: Sequence[Listed]) -> str:
    """Return the rows as text in columns, and how many are usable."""
    names = list(Listed.__dataclass_fields__)
    cells = [names, *([printable(getattr(row, name)) for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join([*lines, f"{counted(len(rows), 'scan')}, {sum(row.is_usable for row in rows)} usable"])


def _listed(case: Case, roots: Sequence[Path], preprocessing: Callable) -> Listed:
    cells: dict[str, str] = dict(_from_header(case))
    image, reason = input_of(case, preprocessing)
    verdict = f"no: {reason}"
    if image is not None:
        cells |= _from_scan(image.meta)
        geometry = case.volume.stack.noted if case.volume is not None else image.meta["protocol"].notes
        notes = [*filter(None, [geometry]), *map(str, image.meta.get(WARNINGS, []))]
        verdict = "yes" + (f" ({'; '.join(notes)})" if notes else "")
    return Listed(folder=_folder(case, roots), file=_file(case), case=case.name, usable=verdict, **cells)


def _from_header(case: Case) -> Iterator[tuple[str, str]]:
    """What the header says, also of a scan that is refused."""
    if case.volume is not None:
        volume = case.volume
        yield "description", described(volume)
        yield "size", "x".join(map(str, volume.size))
        yield "plane", plane_of(volume)
        spacing = volume.stack.slice_spacing_mm if volume.stack else None
        thickness = (volume.stack.slice_thickness_mm if volume.stack else None) or volume.frames[0].slice_thickness_mm
        if pixel_size_mm(volume):
            yield (
                "spacing_mm",
                "x".join([*(f"{mm:.4g}" for mm in pixel_size_mm(volume)), f"{spacing:.4g}" if spacing else "-"]),
            )
        if thickness:
            yield "thickness_mm", f"{thickness:.4g}"
    elif case.format != DICOM:
        try:
            image = open_image(case.files[0])
        except Exception:  # noqa: BLE001 - nibabel, gzip and zlib each raise their own errors; the verdict says why
            return
        yield "size", "x".join(map(str, image.dataobj.shape))
        yield "spacing_mm", _numbers(np.linalg.norm(image.affine[:3, :3], axis=0))


def _from_scan(meta: Any) -> Iterator[tuple[str, str]]:
    """What inference takes an accepted scan to be."""
    protocol, affine = meta["protocol"], np.asarray(meta["original_affine"])
    if protocol.thickness_source.startswith(ESTIMATED):
        yield "thickness_mm", f"{protocol.slice_thickness_mm:.3g} estimated"
    elif protocol.thickness_source != THICKNESS_UNKNOWN:
        yield "thickness_mm", f"{protocol.slice_thickness_mm:.4g}"
    yield "plane", plane_across(affine[:3, protocol.through_plane_axis])


def _numbers(values: np.ndarray) -> str:
    return "x".join(f"{value:.4g}" for value in values)


def _folder(case: Case, roots: Sequence[Path]) -> str:
    """Where the files lie, relative to the path that was given, which stands before it where several were given."""
    parents = {str(absolute(file if file.is_dir() else file.parent)) for file in case.files}
    if not parents:
        return "-"
    common = Path(os.path.commonpath(parents))
    for root in roots:
        top = absolute(root)
        if common.is_relative_to(top):
            inner = common.relative_to(top)
            return str(inner if len(roots) == 1 else root / inner)
    return str(common)


def _file(case: Case) -> str:
    if case.volume is None:
        return case.file_and_frame if case.format != DICOM else "-"
    number, count = case.volume.frames[0].series_number, len(case.files)
    return f"series {'-' if number is None else number}, {count} file{'s' * (count > 1)}"


@contextmanager
def _quiet(level: int) -> Iterator[None]:
    """Keep what inference logs below a level out of the table."""
    logger = logging.getLogger("glade")
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
