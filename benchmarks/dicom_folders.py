"""Table of the volumes in each folder of a DICOM collection: geometry, and whether they are accepted.

`python -m benchmarks.dicom_folders SCANS`: each folder is read by itself; equal volumes of a folder share a row.
"""

import sys
from collections import Counter
from pathlib import Path

from scripts.dicom.description import pixel_size_mm, plane_of
from scripts.dicom.discovery import Volume, survey

NO_VOLUME = "failing"
"""Folder below which every volume must be refused."""


def row(volume: Volume) -> str:
    """Return the geometry of a volume, and whether it is accepted, as one line."""
    stack = volume.stack
    pixel = " x ".join(f"{value:.4g}" for value in pixel_size_mm(volume))
    spacing = f" x {stack.slice_spacing_mm:.4g} mm" if stack and stack.slice_spacing_mm else ""
    geometry = f"{' x '.join(map(str, volume.size))}, {pixel or '-'}{spacing}, {plane_of(volume)}"
    return f"{geometry}, {volume.component}: {'refused: ' + volume.refusal if volume.reasons else 'accepted'}"


def main(arguments: list[str]) -> int:
    """Print the table; the exit code is 1 where a volume below `NO_VOLUME` was accepted."""
    if len(arguments) != 1:
        sys.stdout.write(f"{__doc__}\n")
        return 2
    root, accepted, wrong = Path(arguments[0]), 0, 0
    for folder in sorted(p for p in root.rglob("*") if p.is_dir() and any(f.is_file() for f in p.iterdir())):
        found = survey(folder)
        name = folder.relative_to(root).as_posix()
        usable = sum(not volume.reasons for volume in found.volumes)
        accepted += usable
        wrong += usable if name.startswith(NO_VOLUME) else 0
        sys.stdout.write(f"{name}\n")
        for line, count in Counter(row(volume) for volume in found.volumes).items():
            sys.stdout.write(f"    {count} x {line}\n")
        others = (found.ignored, found.without_image, len(found.damaged))
        if any(others):
            sys.stdout.write(f"    {others[0]} no DICOM, {others[1]} without image, {others[2]} damaged\n")
    sys.stdout.write(f"{accepted} volumes accepted, {wrong} of them below {NO_VOLUME}/\n")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
