"""Table of the DICOM volumes at a path: `python -m scripts.dicom.list PATH`."""

import sys
from collections import Counter

import numpy as np

from ..geometry.views import VIEWS
from .discovery import Survey, Volume, survey

COLUMNS = [
    "series",
    "case",
    "size",
    "pixel_mm",
    "spacing_mm",
    "thickness_mm",
    "gap_mm",
    "plane",
    "kind",
    "files",
    "usable",
]
OBLIQUE_COSINE = 0.999


def table(found: Survey) -> str:
    """Plain-text table, one row a volume, with the reason where a volume is not usable; no patient attributes."""
    rows = [COLUMNS, *(_row(volume) for volume in found.volumes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.append(
        f"{len(found.volumes)} volume(s), {sum(not v.reasons for v in found.volumes)} usable; {found.ignored} other "
        f"file(s), {found.without_image} DICOM file(s) without image, {len(found.damaged)} damaged"
    )
    reasons = Counter(file.reason for file in found.damaged)
    return "\n".join([*lines, *(f"damaged: {count} x {why}" for why, count in reasons.items())])


def _row(volume: Volume) -> list[str]:
    first, stack = volume.frames[0], volume.stack
    spacing = stack.slice_spacing_mm if stack else None
    thickness = (stack.slice_thickness_mm if stack else None) or first.slice_thickness_mm
    notes = stack.noted if stack else ""
    return [
        "-" if first.series_number is None else str(first.series_number),
        volume.name,
        "x".join(map(str, volume.size)),
        "x".join(f"{value:.3g}" for value in pixel_size_mm(volume)) or "-",
        f"{spacing:.4g}" if spacing else "-",
        f"{thickness:.4g}" if thickness else "-",
        f"{round(spacing - thickness, 2) + 0.0:g}" if spacing and thickness else "-",
        plane_of(volume),
        "enhanced" if first.enhanced else "mosaic" if first.mosaic_images else first.component,
        str(len({frame.file for frame in volume.frames})),
        f"no: {volume.refusal}" if volume.reasons else f"yes ({notes})" if notes else "yes",
    ]


def pixel_size_mm(volume: Volume) -> tuple[float, ...]:
    """Distance of columns, then of rows, as a size counts them; PixelSpacing has it the other way round."""
    return (volume.frames[0].pixel_spacing_mm or ())[::-1]


def plane_of(volume: Volume) -> str:
    """Name of the acquired plane: axial, coronal or sagittal, with "oblique" where it is tilted; "-" when unknown."""
    if volume.stack is None or volume.stack.affine is None:
        return "-"
    normal = volume.stack.affine[:3, 2] / np.linalg.norm(volume.stack.affine[:3, 2])
    axis = int(np.abs(normal).argmax())
    return list(VIEWS)[axis] + ("" if abs(normal[axis]) > OBLIQUE_COSINE else " oblique")


def main(arguments: list[str]) -> int:
    """Writes the table of each path; the exit code is 1 where no usable volume was found."""
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(f"{__doc__}\n")
        return 2
    usable = 0
    for path in arguments:
        found = survey(path)
        usable += sum(not volume.reasons for volume in found.volumes)
        sys.stdout.write(f"{table(found)}\n")
    return 0 if usable else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
