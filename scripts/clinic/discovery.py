"""Any folder in, the MR volumes it holds out: found by their headers, never by names or the order of files.

One series may hold several volumes (echoes, magnitude and phase, time points, b-values, orientations); each becomes a
`Volume` of its own, usable or with the reason why not.
"""

import logging
import math
import os
import re
import stat
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .gate import MINIMUM_SLICES, SAME_POSITION_MM, Stack, directions, examine
from .headers import DamagedError, Frame, looks_like_dicom, read_frames

logger = logging.getLogger(__name__)

MAGNITUDE = ("magnitude",)
SAME_ORIENTATION = 1e-3
"""Slices whose direction cosines differ by less belong to one stack (the gate is stricter within it)."""
SAME_PIXEL_SPACING = 1e-4
"""Relative; below it two pixel spacings are one, rounded differently."""
MAX_NAME = 40
"""Longest series description within a case's name."""
VOLUME_MARK = "#volume="
"""Ends the path of an enhanced file that holds several volumes; the number (from 1) of the volume follows."""


@dataclass(frozen=True)
class Volume:
    """Slices of one volume, sorted along their normal where that is possible.

    Attributes:
        name: case name, safe for files, without patient attributes.
        frames: image planes in slice order.
        stack: geometry, reasons, notes; None where there are no positions to examine.
        reasons: every reason why the volume is not super-resolved; empty for a usable one.
        component: "magnitude", "phase", "real", "imaginary" or "map (...)".
        image: what a reader is given: the files in slice order; `VOLUME_MARK` and a number end the path of an enhanced
            file that holds several volumes.
    """

    name: str
    frames: tuple[Frame, ...]
    stack: Stack | None
    reasons: tuple[str, ...]
    component: str
    image: tuple[str, ...]

    @property
    def refusal(self) -> str | None:
        """All reasons in one line; None for a usable volume."""
        return "; ".join(self.reasons) or None

    @property
    def size(self) -> tuple[int, int, int]:
        """Columns, rows, slices; those inside a mosaic, where it is one."""
        first = self.frames[0]
        tiles = math.ceil(math.sqrt(first.mosaic_images)) or 1
        return first.columns // tiles, first.rows // tiles, self.slice_count

    @property
    def slice_count(self) -> int:
        """Number of slices; those inside a mosaic are counted."""
        return self.frames[0].mosaic_images or sum(f.frames_in_file if f.index is None else 1 for f in self.frames)

    def as_case(self) -> dict[str, Any]:
        """The volume as a case of the workflows."""
        return {
            "case": self.name,
            "image": list(self.image),
            "frame": None,
            "format": "dicom",
            "refusal": self.refusal,
        }


@dataclass(frozen=True)
class Survey:
    """What a folder holds.

    Attributes:
        volumes: every volume found, usable or not.
        ignored: number of files that are no DICOM.
        without_image: number of DICOM files without an image (reports, presentation states, directories).
        damaged: number of DICOM files that cannot be parsed, by what went wrong.
    """

    volumes: tuple[Volume, ...]
    ignored: int
    without_image: int
    damaged: dict[str, int]


def find_series(path: str | Path, components: Sequence[str] = MAGNITUDE) -> list[dict[str, Any]]:
    """All DICOM volumes at a path as cases: {"case", "image", "frame", "format", "refusal"}.

    Args:
        path: a folder of any depth, or a file.
        components: kinds of image that are used; the others are listed with a refusal.

    Returns:
        One case a volume, the list of its files in slice order as "image"; [] where nothing is DICOM. A volume that
        cannot be used carries its reasons as one line in "refusal".
    """
    found = survey(path, components)
    cases = [volume.as_case() for volume in found.volumes]
    if found.damaged:
        text = ", ".join(f"{count} {why}" for why, count in found.damaged.items())
        refusal = f"damaged files: {text}"
        cases.append(
            {"case": "damaged_dicom", "image": [str(path)], "frame": None, "format": "dicom", "refusal": refusal}
        )
    for volume in found.volumes:
        for note in volume.stack.notes if volume.stack and not volume.reasons else ():
            logger.log(logging.WARNING if "positions win" in note else logging.INFO, "%s: %s", volume.name, note)
    return cases


def survey(path: str | Path, components: Sequence[str] = MAGNITUDE, minimum_slices: int = MINIMUM_SLICES) -> Survey:
    """Finds every DICOM volume at a path.

    Args:
        path: a folder of any depth (symbolic links are followed, loops are not), or a file.
        components: kinds of image that are used; the others carry a reason.
        minimum_slices: volumes of fewer slices carry a reason.
    """
    return survey_files(_walk(Path(path)), components, minimum_slices)


@np.errstate(over="ignore", invalid="ignore")  # forged numbers; the gate refuses what comes of them
def survey_files(
    files: Iterable[str | Path], components: Sequence[str] = MAGNITUDE, minimum_slices: int = MINIMUM_SLICES
) -> Survey:
    """Finds every DICOM volume among the given files."""
    frames: list[Frame] = []
    ignored = without_image = 0
    damaged: Counter[str] = Counter()
    for file in files:
        file = Path(file)
        try:
            if not looks_like_dicom(file):
                ignored += 1
                continue
            found = read_frames(file)
        except DamagedError as error:
            damaged[str(error)] += 1
            continue
        frames += found
        without_image += not found
    groups = [stack for group in _group(frames) for stack in _split(group)]
    groups.sort(key=lambda g: (g[0].series_number is None, g[0].series_number or 0, g[0].series, g[0].echo_number or 0))
    return Survey(tuple(_volumes(groups, components, minimum_slices)), ignored, without_image, dict(damaged))


def resolve(
    image: str | Path | Sequence[str | Path],
    minimum_slices: int = MINIMUM_SLICES,
    components: Sequence[str] = MAGNITUDE,
) -> tuple[Volume, ...]:
    """The volumes that the "image" of a case, a file, a list of files or a folder stands for.

    Args:
        image: paths; one that ends with `VOLUME_MARK` and a number names one volume of an enhanced file.
        minimum_slices: volumes of fewer slices carry a reason.
        components: kinds of image that are used; the others carry a reason.
    """
    paths = [str(image)] if isinstance(image, str | Path) else [str(path) for path in image]
    marked = [VOLUME_MARK in Path(path).name and not Path(path).exists() for path in paths]
    if any(marked):
        file, _, number = paths[0].rpartition(VOLUME_MARK)
        volumes = survey_files([file], components, minimum_slices).volumes
        return tuple(volume for volume in volumes if volume.image == (f"{file}{VOLUME_MARK}{number}",))
    files = [file for path in paths for file in _walk(Path(path))]
    return survey_files(files, components, minimum_slices).volumes


def source_file(path: str) -> str:
    """The file of an entry of a case's "image", without the mark of a volume."""
    return path if Path(path).exists() else path.rpartition(VOLUME_MARK)[0] or path


def _walk(path: Path) -> Iterator[Path]:
    """Regular files below a path in a fixed order; every folder once, however many links lead to it."""
    if not path.is_dir():
        if path.exists():
            yield path
        return
    seen: set[tuple[int, int]] = set()
    for folder, names, files in os.walk(path, followlinks=True):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            names.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        names.sort()
        for name in sorted(files):
            file = Path(folder) / name
            try:
                regular = stat.S_ISREG(file.stat().st_mode)
            except OSError:  # a link that leads nowhere, or back to itself
                continue
            if regular:
                yield file


def _group(frames: list[Frame]) -> Iterator[list[Frame]]:
    """Planes that belong to one volume by everything that does not change from slice to slice."""
    groups: dict[tuple, list[Frame]] = defaultdict(list)
    for frame in frames:
        # Without a series UID, the study, the number and the description stand for it, within one folder.
        series = frame.series or f"{frame.study} {frame.series_number} {frame.description} {Path(frame.file).parent}"
        key = (
            *(
                frame.study,
                series,
                frame.frame_of_reference,
                frame.modality,
                frame.rows,
                frame.columns,
                frame.samples,
                frame.photometric,
            ),
            *(frame.image_type, frame.component, frame.echo_time_ms, frame.echo_number, frame.temporal_position),
            *(frame.b_value, frame.stack, frame.pixel_spacing_mm is None, frame.position_mm is None),
            frame.file if frame.mosaic_images or (frame.index is None and frame.frames_in_file > 1) else "",
        )
        groups[key].append(frame)
    for group in groups.values():
        yield from _cluster(group)


def _cluster(frames: list[Frame]) -> Iterator[list[Frame]]:
    """Splits by orientation and pixel spacing, where rounding must not count."""
    clusters: list[tuple[np.ndarray, list[Frame]]] = []
    for frame in frames:
        spacing = np.log(np.maximum(frame.pixel_spacing_mm or (1.0, 1.0), 1e-6))
        place = np.array([*(frame.orientation or (0.0,) * 6), *spacing])
        for centre, members in clusters:
            difference = np.abs(place - centre)
            if difference[:6].max() < SAME_ORIENTATION and difference[6:].max() < SAME_PIXEL_SPACING:
                members.append(frame)
                break
        else:
            clusters.append((place, [frame]))
    for _, members in clusters:
        yield members


def _split(frames: list[Frame]) -> list[list[Frame]]:
    """Takes apart the volumes that lie at the same positions and differ in none of the grouping attributes.

    An attribute separates them if it takes as many values as there are repeats and no position repeats within a value.
    Failing that, the instance numbers do, if they run through the volumes one after the other, or through the repeats
    slice by slice. What no rule separates stays together, and the gate refuses it.
    """
    places = _places(frames)
    if places is None:
        return [frames]
    repeats = max(Counter(places).values())
    # The same instance under two names is a duplicate, not another volume.
    distinct = len({(f.sop_instance, f.index) for f in frames}) == len(frames)
    if repeats == 1 or not distinct:
        return [frames]
    for attribute in range(len(frames[0].repeats)):
        parts = _part(frames, [frame.repeats[attribute] for frame in frames])
        if len(parts) == repeats and all(max(Counter(_places(part) or [0, 0]).values()) == 1 for part in parts):
            return parts
    numbers = [frame.instance_number for frame in frames]
    if None in numbers or len(set(numbers)) < len(frames) or set(Counter(places).values()) != {repeats}:
        return [frames]
    order = np.argsort(numbers)
    sequence = [places[i] for i in order]
    count = len(frames) // repeats
    blocks = [sequence[i * count : (i + 1) * count] for i in range(repeats)]
    runs = [sequence[i * repeats : (i + 1) * repeats] for i in range(count)]
    if all(block == blocks[0] for block in blocks):
        return [[frames[i] for i in order[k * count : (k + 1) * count]] for k in range(repeats)]
    if all(len(set(run)) == 1 for run in runs):
        return [[frames[i] for i in order[k::repeats]] for k in range(repeats)]
    return [frames]


def _part(frames: list[Frame], values: list[str]) -> list[list[Frame]]:
    parts: dict[str, list[Frame]] = {}
    for frame, value in zip(frames, values, strict=True):
        parts.setdefault(value, []).append(frame)
    return list(parts.values())


def _places(frames: list[Frame]) -> list[int] | None:
    """Number of each plane's position along the normal; None where positions are not known."""
    if any(frame.position_mm is None or frame.orientation is None for frame in frames):
        return None
    orientations = np.array([frame.orientation for frame in frames])
    if min(np.linalg.norm(orientations[:, part], axis=1).min() for part in (slice(0, 3), slice(3, 6))) < 0.5:
        return None  # no direction at all; the gate says so
    distances = np.array([frame.position_mm for frame in frames]) @ directions(orientations)[2]
    order = np.argsort(distances, kind="stable")
    steps = np.diff(distances[order], prepend=distances[order[0]]) >= SAME_POSITION_MM
    places = np.empty(len(frames), dtype=int)
    places[order] = np.cumsum(steps)
    return [int(place) for place in places]


def _volumes(groups: list[list[Frame]], components: Sequence[str], minimum_slices: int) -> Iterator[Volume]:
    orientations: dict[str, set[tuple[float, ...]]] = defaultdict(set)
    for group in groups:
        orientations[group[0].series].add(tuple(np.round(group[0].orientation or (), 2)))
    in_file = Counter(group[0].file for group in groups if group[0].index is not None)
    number: Counter[str] = Counter()
    for group, name in zip(groups, _names([group[0] for group in groups]), strict=True):
        first = group[0]
        stack = _examine(group, minimum_slices)
        frames = tuple(group[i] for i in stack.order) if stack else tuple(group)
        reasons = reasons_of(frames, stack, components)
        if len(orientations[first.series]) > 1 and len(frames) < minimum_slices:
            reasons.append(f"the series holds slices of {len(orientations[first.series])} orientations")
        image = tuple(dict.fromkeys(frame.file for frame in frames))
        if in_file[first.file] > 1:
            number[first.file] += 1
            image = tuple(f"{file}{VOLUME_MARK}{number[first.file]}" for file in image)
        yield Volume(name, frames, stack, tuple(reasons), first.component, image)


def _names(firsts: list[Frame]) -> Iterator[str]:
    """Case names, one for each volume by its first plane; no two alike, whatever the case of the letters."""
    bases = [_base_name(frame) for frame in firsts]
    used: set[str] = set()
    for frame, base in zip(firsts, bases, strict=True):
        pairs = zip(firsts, bases, strict=True)
        others = [other for other, name in pairs if name == base and other.series == frame.series]
        name = unique = base + _difference(frame, others)
        count = 1
        while unique.lower() in used:
            count += 1
            unique = f"{name}_{count}"
        used.add(unique.lower())
        yield unique


def _examine(frames: list[Frame], minimum_slices: int) -> Stack | None:
    first = frames[0]
    if first.mosaic_images or first.pixel_spacing_mm is None:
        return None
    if any(frame.position_mm is None or frame.orientation is None for frame in frames):
        return None
    thickness = {frame.slice_thickness_mm for frame in frames}
    return examine(
        np.array([frame.position_mm for frame in frames]),
        np.array([frame.orientation for frame in frames]),
        first.pixel_spacing_mm,
        slice_thickness_mm=first.slice_thickness_mm if len(thickness) == 1 else None,
        slice_spacing_tag_mm=first.slice_spacing_tag_mm,
        acquisition_type=first.acquisition_type,
        minimum_slices=minimum_slices,
    )


def reasons_of(frames: Sequence[Frame], stack: Stack | None, components: Sequence[str]) -> list[str]:
    """Every reason not to use a volume: kind of image first, then its geometry."""
    first, reasons = frames[0], []
    if first.modality != "MR":
        reasons.append(f"not MR (Modality {first.modality or 'absent'})")
    if first.samples != 1 or not first.photometric.startswith("MONOCHROME"):
        reasons.append(f"colour image ({first.photometric or 'no PhotometricInterpretation'})")
    if first.has_lookup_table:
        reasons.append("values go through a ModalityLUTSequence, which is not supported")
    if first.mosaic_images:
        reasons.append(f"Siemens mosaic of {first.mosaic_images} slices in one image: export it as single slices")
        return reasons
    if first.component not in components:
        reasons.append(f"{first.component} image; only {', '.join(components)} images are super-resolved")
    if first.made_by_glade:
        reasons.append("already a result of GLADE")
    if stack is None:
        absent = [
            name
            for name, value in (
                ("ImagePositionPatient", all(f.position_mm is not None for f in frames)),
                ("ImageOrientationPatient", all(f.orientation is not None for f in frames)),
                ("PixelSpacing", first.pixel_spacing_mm is not None),
            )
            if not value
        ]
        return [*reasons, f"no geometry: {', '.join(absent)} absent"]
    names = Counter((frame.sop_instance, frame.index) for frame in frames)
    if max(names.values()) > 1:
        copies = sum(count - 1 for count in names.values())
        reasons.append(f"{copies} file(s) are copies of another (same SOPInstanceUID)")
    return reasons + list(stack.reasons)


def _base_name(frame: Frame) -> str:
    """Series number and description, in letters that every file system takes."""
    plain = unicodedata.normalize("NFKD", frame.description).encode("ascii", "ignore").decode()
    words = re.sub(r"[^A-Za-z0-9]+", "_", plain).strip("_")[:MAX_NAME].strip("_")
    if frame.series_number is None:
        return words or "series"
    return f"{abs(frame.series_number):03d}_{words or 'series'}"


def _difference(frame: Frame, others: list[Frame]) -> str:
    """What tells a volume from the others of its name: echo, b-value, time, component."""
    parts = []
    if len({o.echo_time_ms for o in others}) > 1 and frame.echo_time_ms is not None:
        parts.append(f"te{frame.echo_time_ms:g}".replace(".", "p"))
    if len({o.b_value for o in others}) > 1 and frame.b_value is not None:
        parts.append(f"b{frame.b_value:g}")
    if len({o.temporal_position for o in others}) > 1 and frame.temporal_position is not None:
        parts.append(f"t{frame.temporal_position}")
    if len({o.component for o in others}) > 1:
        parts.append(re.sub(r"[^a-z0-9]+", "_", frame.component.lower()).strip("_"))
    return "".join(f"_{part}" for part in parts)
