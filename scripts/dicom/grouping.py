"""Grouping of image planes into volumes: by series, echo, component, time, b-value, orientation; then position."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..physics.protocol import FEWEST_SLICES
from .copies import without_copies
from .gate import SPACING_TAG_TOLERANCE, Note, Stack, examine
from .headers import Frame
from .repeats import Labels, most, positions_of, separate

SAME_ORIENTATION = 1e-3
"""Direction cosines of one stack differ by less; within a stack `gate.ORIENTATION_TOLERANCE` is stricter."""
SAME_PIXEL_SPACING = 1e-4
"""Relative difference below which two pixel spacings are the same one, rounded differently."""
SAME_ECHO_TIME = 1e-3
"""The same for echo times; echoes of one series are farther apart."""
SAME_ECHO_TIME_MS = 5e-3
"""The same in ms, for short echo times that are rounded to two decimals."""
FEWEST_IN_PART = 3
"""Fewest slices from whose distances it can be seen that a stack is even."""
UID_TAIL = 8
"""Number of characters of a UID that a message quotes, enough to find it and too few to name the study."""


@dataclass(frozen=True)
class Group:
    """The planes of one volume, in no particular order.

    Attributes:
        frames: its planes.
        labels: what distinguishes the volume from others of the same positions: short name and value.
        reasons: why the planes cannot be used; empty where they can.
        notes: what was unusual about the grouping.
    """

    frames: list[Frame]
    labels: Labels = ()
    reasons: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()


def group_planes(frames: list[Frame]) -> Iterator[Group]:
    """Yield the planes of each volume; planes that no rule separates stay together, with the reason."""
    frames, copies = without_copies(frames)
    for group in _crumbs_merged(_strict(_with_common_echo_times(frames))):
        for found in [group] if group.reasons else _volumes(group.frames):
            here = [(copy, note) for frame in found.frames for copy, note in copies.get((frame.file, frame.index), ())]
            reasons = dict.fromkeys(note for copied, note in here if not copied)
            dropped = dict.fromkeys(note for copied, note in here if copied)
            notes = [*group.notes, *found.notes]
            if dropped:
                first = next(iter(dropped))
                several = f"{len(dropped)} identical copies " if len(dropped) > 1 else ""
                notes.append(Note(f"{several}left out: {first}", warns=True))
            yield replace(found, reasons=(*list(reasons)[:1], *found.reasons), notes=tuple(dict.fromkeys(notes)))


def _with_common_echo_times(frames: list[Frame]) -> list[Frame]:
    """Give echo times that differ only by rounding one value, the lowest of them."""
    times = sorted({frame.echo_time_ms for frame in frames if frame.echo_time_ms is not None})
    common: dict[float | None, float | None] = {None: None}
    lowest = -np.inf
    for time in times:
        if time - lowest > max(SAME_ECHO_TIME_MS, SAME_ECHO_TIME * abs(time)):
            lowest = time
        common[time] = lowest
    return [
        f if f.echo_time_ms == common[f.echo_time_ms] else replace(f, echo_time_ms=common[f.echo_time_ms])
        for f in frames
    ]


def _series(frame: Frame) -> str:
    # Without SeriesInstanceUID, study, number and description identify a series within one folder.
    return frame.series or f"{frame.study} {frame.series_number} {frame.description} {Path(frame.file).parent}"


RELAXED: dict[str, Callable[[Frame], object]] = {
    "TemporalPositionIdentifier": lambda frame: frame.temporal_position,
    "SeriesInstanceUID": _series,
    "FrameOfReferenceUID": lambda frame: frame.frame_of_reference,
    "ImageType": lambda frame: frame.image_type,
    "EchoTime": lambda frame: frame.echo_time_ms,
}
"""Attributes that are the same throughout a volume, but differ from slice to slice in faulty headers."""
MERGED = ("TemporalPositionIdentifier", "SeriesInstanceUID", "FrameOfReferenceUID")
"""Those that do not change what a voxel means; if another differs from slice to slice, the volume is refused."""


def _fixed(frame: Frame) -> tuple:
    """Return what must agree within a volume, apart from `RELAXED`."""
    # A mosaic, or a file of frames without functional groups, is a volume of its own.
    alone = frame.mosaic_images or (frame.index is None and frame.frames_in_file > 1)
    return (
        frame.study,
        frame.modality,
        frame.rows,
        frame.columns,
        frame.samples,
        frame.photometric,
        frame.component,
        frame.echo_number,
        frame.b_value,
        frame.pixel_spacing_mm is None,
        frame.position_mm is None,
        frame.file if alone else "",
    )


def _strict(frames: list[Frame]) -> list[list[Frame]]:
    """Return the planes that agree in everything that is the same for all slices of a volume."""
    groups: dict[tuple, list[Frame]] = defaultdict(list)
    for frame in frames:
        groups[(*_fixed(frame), *(value(frame) for value in RELAXED.values()))].append(frame)
    return [cluster for group in groups.values() for cluster in _clusters(group)]


def _clusters(frames: list[Frame]) -> list[list[Frame]]:
    """Split by orientation and pixel spacing, with tolerances, as rounded values differ from slice to slice."""
    clusters: list[tuple[np.ndarray, list[Frame]]] = []
    for frame in frames:
        spacing = np.log(np.maximum(frame.pixel_spacing_mm or (1.0, 1.0), 1e-6))
        plane = np.array([*(frame.orientation or (0.0,) * 6), *spacing])
        for first, members in clusters:
            difference = np.abs(plane - first)
            if difference[:6].max() < SAME_ORIENTATION and difference[6:].max() < SAME_PIXEL_SPACING:
                members.append(frame)
                break
        else:
            clusters.append((plane, [frame]))
    return [members for _, members in clusters]


def _crumbs_merged(groups: list[list[Frame]]) -> Iterator[Group]:
    """Merge groups that are no volumes by themselves but form even stacks together.

    Yields:
        A group for each volume, or for the crumbs of one: where they cannot be merged, the reason names the attributes
        that differ from slice to slice.
    """
    related: dict[tuple, list[list[Frame]]] = defaultdict(list)
    for group in groups:
        first = group[0]
        related[(*_fixed(first), first.series_number, first.description)].append(group)
    for bucket in related.values():
        crumbs = [group for group in bucket if len(bucket) > 1 and not _whole(group)]
        yield from (Group(group) for group in bucket if all(group is not crumb for crumb in crumbs))
        for cluster in _alike(crumbs):
            yield from _merged(cluster)


def _alike(crumbs: list[list[Frame]]) -> list[list[list[Frame]]]:
    """Return the crumbs of each orientation and pixel spacing."""
    of = {id(crumb[0]): crumb for crumb in crumbs}
    return [[of[id(first)] for first in cluster] for cluster in _clusters([crumb[0] for crumb in crumbs])]


def _merged(crumbs: list[list[Frame]]) -> Iterator[Group]:
    for name in RELAXED:
        parts: dict[tuple, list[list[Frame]]] = defaultdict(list)
        for crumb in crumbs:
            parts[tuple(value(crumb[0]) for other, value in RELAXED.items() if other != name)].append(crumb)
        crumbs = []
        for part in parts.values():
            union = [frame for crumb in part for frame in crumb]
            if len(part) == 1 or not all(map(_sound, _volumes(union))):
                crumbs += part
            elif name in MERGED:
                merged = f"{name} differs from slice to slice: merged, as the positions form one stack"
                yield Group(union, notes=(Note(merged, warns=True),))
            else:
                yield Group(union, reasons=(f"{name} differs from slice to slice",))
    union = [frame for crumb in crumbs for frame in crumb]
    if len(crumbs) > 1 and len(union) >= FEWEST_SLICES and 2 * len(crumbs) >= len(union):
        names = [name for name, value in RELAXED.items() if len({value(frame) for frame in union}) > 1]
        yield Group(union, reasons=(f"{', '.join(names)} differs from slice to slice",))
    else:
        yield from map(Group, crumbs)


def _volumes(frames: list[Frame]) -> list[Group]:
    """Return the volumes of planes that agree in all grouping attributes, one series after the other."""
    series = _by(frames, lambda frame: (frame.series_number, frame.description))
    whole = _stacks(frames)
    if len(series) > 1:
        parts = [group for part in series for group in _volumes(part)]
        if all(map(_sound, parts)):
            return parts
        if len(whole) == 1 and _sound(whole[0]):
            return whole
        names = [
            n for n, v in (("SeriesNumber", _number), ("SeriesDescription", _text)) if len(set(map(v, frames))) > 1
        ]
        return [Group(frames, reasons=(_several(frames, " and ".join(names)),))]
    folders = _by(frames, lambda frame: str(Path(frame.file).parent))
    if len(folders) > 1 and len(whole) == 1 and not any(frame.index is not None for frame in frames):
        parts = [group for part in folders for group in _stacks(part)]
        numbers = [frame.instance_number for frame in frames]
        twice = None not in numbers and len(set(numbers)) < len(numbers)
        own = all(len({f.instance_number for f in part}) == len(part) for part in folders)
        if all(map(_sound, parts)) and (not _sound(whole[0]) or (twice and own)):
            return parts
        if twice and own and not _sound(whole[0]) and not whole[0].reasons and most(positions_of(frames) or [0]) > 1:
            return [Group(frames, reasons=(_several(frames, "the folder"),))]
    return whole


def _number(frame: Frame) -> int | None:
    return frame.series_number


def _text(frame: Frame) -> str:
    return frame.description


def _several(frames: list[Frame], names: str) -> str:
    uid = frames[0].series
    end = (
        f" (it ends in {uid[-UID_TAIL:]})" if re.fullmatch(r"[0-9.]+", uid) else ""
    )  # another text might name the patient
    which = f"several series under one SeriesInstanceUID{end}"
    return f"{which}: {names} differs, and the parts are no even stacks"


def _by(frames: list[Frame], value: Callable[[Frame], object]) -> list[list[Frame]]:
    parts: dict[object, list[Frame]] = defaultdict(list)
    for frame in frames:
        parts[value(frame)].append(frame)
    return list(parts.values())


def _stacks(frames: list[Frame]) -> list[Group]:
    """Return the volumes of one series; its packages of slices (StackID) are one volume if they are even together."""
    whole = _repeats(frames)
    packages = _by(frames, lambda frame: frame.stack)
    if len(packages) == 1 or all(_one_stack(group) for group in whole):
        return whole
    return [group for package in packages for group in _repeats(package)]


def _repeats(frames: list[Frame]) -> list[Group]:
    parts, reason = separate(frames)
    return [Group(part, labels, (reason,) if reason else ()) for part, labels in parts]


def _one_stack(group: Group) -> bool:
    """Whether packages are one volume: even, or with gaps where SpacingBetweenSlices shows that slices are missing."""
    stack = _examined(group.frames)
    if group.reasons or stack is None:
        return False
    if not stack.reasons:
        return True
    positions, tag = positions_of(group.frames), group.frames[0].slice_spacing_tag_mm
    if tag is None or positions is None or most(positions) > 1 or not all(" missing " in r for r in stack.reasons):
        return False
    # That of a package alone would be larger: the first two slices of the whole are neighbours in most packages.
    steps = np.diff(np.sort([float(np.dot(f.position_mm, _normal(group.frames))) for f in group.frames]))
    return bool(abs(np.median(steps) / tag - 1) <= SPACING_TAG_TOLERANCE)


def _normal(frames: list[Frame]) -> np.ndarray:
    row_column = np.array(frames[0].orientation)
    return np.cross(row_column[:3], row_column[3:])


def _examined(frames: list[Frame], minimum_slices: int = 1) -> Stack | None:
    first = frames[0]
    if first.pixel_spacing_mm is None or positions_of(frames) is None:
        return None
    return examine(
        np.array([frame.position_mm for frame in frames]),
        np.array([frame.orientation for frame in frames]),
        first.pixel_spacing_mm,
        minimum_slices=minimum_slices,
    )


def _sound(group: Group, minimum_slices: int = FEWEST_IN_PART) -> bool:
    """Whether the planes form an even stack."""
    stack = None if group.reasons else _examined(group.frames, minimum_slices)
    return stack is not None and not stack.reasons


def _whole(frames: list[Frame]) -> bool:
    """Whether planes form volumes by themselves, which SpacingBetweenSlices does not contradict."""
    if frames[0].position_mm is None or frames[0].mosaic_images or frames[0].pixel_spacing_mm is None:
        return True
    for group in _volumes(frames):
        if not _sound(group, FEWEST_SLICES):
            return False
        tag, stack = frames[0].slice_spacing_tag_mm, _examined(group.frames)
        if tag and stack and abs(stack.slice_spacing_mm / tag - 1) > SPACING_TAG_TOLERANCE:
            return False
    return True
