"""Grouping of image planes into volumes: by series, echo, component, time, b-value, orientation; then position."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from ..physics.protocol import FEWEST_SLICES
from .copies import Findings, without_copies
from .gate import SPACING_TAG_TOLERANCE, Note, Stack, examine, spacing_notes
from .headers import Frame
from .repeats import Labels, distances_of, most, positions_of, separate

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

    @cached_property
    def stack(self) -> Stack | None:
        """Geometry by positions and orientations alone, for any number of slices; None where they are unknown."""
        first = self.frames[0]
        if first.pixel_spacing_mm is None or positions_of(self.frames) is None:
            return None
        return examine(
            np.array([frame.position_mm for frame in self.frames]),
            np.array([frame.orientation for frame in self.frames]),
            first.pixel_spacing_mm,
            minimum_slices=1,
        )

    def is_even(self, fewest: int = FEWEST_IN_PART) -> bool:
        """Whether the planes are an even stack of at least so many slices."""
        return not self.reasons and len(self.frames) >= fewest and self.stack is not None and not self.stack.reasons


@dataclass(frozen=True)
class Planes:
    """Planes that agree in all grouping attributes; they may hold several volumes.

    Attributes:
        frames: the planes.
        reason: why they cannot be used; None where they can.
        note: what was unusual; None for nothing.
    """

    frames: list[Frame]
    reason: str | None = None
    note: Note | None = None

    @cached_property
    def volumes(self) -> list[Group]:
        """The volumes of these planes."""
        if self.reason:
            return [Group(self.frames, reasons=(self.reason,))]
        notes = (self.note,) if self.note else ()
        return [replace(group, notes=(*notes, *group.notes)) for group in _volumes(self.frames)]

    @property
    def are_whole(self) -> bool:
        """Whether they are volumes by themselves, which SpacingBetweenSlices does not contradict."""
        first = self.frames[0]
        if first.position_mm is None or first.mosaic_images or first.pixel_spacing_mm is None:
            return True
        return all(
            group.is_even(FEWEST_SLICES) and not spacing_notes(group.stack.slice_spacing_mm, first.slice_spacing_tag_mm)
            for group in self.volumes
        )


def group_planes(frames: list[Frame]) -> Iterator[Group]:
    """Yield the planes of each volume; planes that no rule separates stay together, with the reason."""
    frames, copies = without_copies(frames)
    for planes in _merge_crumbs(_agreeing(_with_common_echo_times(frames))):
        for group in planes.volumes:
            yield _with_copies(group, copies)


def _with_copies(group: Group, copies: Findings) -> Group:
    """Add what was found out about files that are there twice."""
    found = [finding for frame in group.frames for finding in copies.get((frame.file, frame.index), ())]
    contrary = list(dict.fromkeys(text for left_out, text in found if not left_out))
    identical = list(dict.fromkeys(text for left_out, text in found if left_out))
    notes = group.notes
    if identical:
        count = f"{len(identical)} identical copies left out" if len(identical) > 1 else "left out"
        notes = (*notes, Note(f"{count}: {identical[0]}", warns=True))
    return replace(group, reasons=(*contrary[:1], *group.reasons), notes=notes)


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


def _agreeing(frames: list[Frame]) -> list[Planes]:
    """Return the planes that agree in everything that is the same for all slices of a volume."""
    parts = _by(frames, lambda frame: (*_fixed(frame), *(value(frame) for value in RELAXED.values())))
    return [Planes(cluster) for part in parts for cluster in _clusters(part)]


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


def _merge_crumbs(found: list[Planes]) -> Iterator[Planes]:
    """Yield planes that are volumes by themselves, and crumbs of one volume merged, or with the reason why not."""
    related: dict[tuple, list[Planes]] = defaultdict(list)
    for planes in found:
        first = planes.frames[0]
        related[(*_fixed(first), first.series_number, first.description)].append(planes)
    for bucket in related.values():
        crumbs = [planes for planes in bucket if len(bucket) > 1 and not planes.are_whole]
        kept = {id(planes) for planes in crumbs}
        yield from (planes for planes in bucket if id(planes) not in kept)
        of = {id(planes.frames[0]): planes for planes in crumbs}
        for cluster in _clusters([planes.frames[0] for planes in crumbs]):  # of one orientation and pixel spacing
            yield from _merged([of[id(first)] for first in cluster])


def _merged(crumbs: list[Planes]) -> Iterator[Planes]:
    """Merge crumbs that differ in one attribute and are even stacks together; what is left may differ in several."""
    for name in RELAXED:
        parts: dict[tuple, list[Planes]] = defaultdict(list)
        for crumb in crumbs:
            parts[tuple(value(crumb.frames[0]) for other, value in RELAXED.items() if other != name)].append(crumb)
        crumbs = []
        for part in parts.values():
            differs = f"{name} differs from slice to slice"
            union = Planes(
                _frames_of(part), note=Note(f"{differs}: merged, as the positions form one stack", warns=True)
            )
            if len(part) == 1 or not all(group.is_even() for group in union.volumes):
                crumbs += part
            else:
                yield union if name in MERGED else Planes(union.frames, reason=differs)
    frames = _frames_of(crumbs)
    if len(crumbs) > 1 and len(frames) >= FEWEST_SLICES and 2 * len(crumbs) >= len(frames):
        names = [name for name, value in RELAXED.items() if len(set(map(value, frames))) > 1]
        yield Planes(frames, reason=f"{', '.join(names)} differs from slice to slice")
    else:
        yield from crumbs


def _frames_of(parts: list[Planes]) -> list[Frame]:
    return [frame for planes in parts for frame in planes.frames]


def _volumes(frames: list[Frame]) -> list[Group]:
    """Return the volumes of planes that agree in all grouping attributes, one series after the other."""
    series = _by(frames, lambda frame: (frame.series_number, frame.description))
    if len(series) == 1:
        return _of_folders(frames)
    parts = [group for part in series for group in _of_folders(part)]
    if all(group.is_even() for group in parts):
        return parts
    whole = _stacks(frames)
    if len(whole) == 1 and whole[0].is_even():
        return whole
    stated = {"SeriesNumber": {f.series_number for f in frames}, "SeriesDescription": {f.description for f in frames}}
    names = [name for name, values in stated.items() if len(values) > 1]
    return [Group(frames, reasons=(_several(frames, " and ".join(names)),))]


def _of_folders(frames: list[Frame]) -> list[Group]:
    """Return the volumes of one series; two series under one UID may lie in two folders, each with its own numbers."""
    whole = _stacks(frames)
    folders = _by(frames, lambda frame: str(Path(frame.file).parent))
    if len(folders) == 1 or len(whole) > 1 or any(frame.index is not None for frame in frames):
        return whole
    parts = [group for part in folders for group in _stacks(part)]
    numbers = [frame.instance_number for frame in frames]
    own = all(len({frame.instance_number for frame in part}) == len(part) for part in folders)
    numbered_apart = own and None not in numbers and len(set(numbers)) < len(numbers)
    if all(group.is_even() for group in parts) and (numbered_apart or not whole[0].is_even()):
        return parts
    repeated = not whole[0].reasons and most(positions_of(frames) or [0]) > 1
    if numbered_apart and repeated and not whole[0].is_even():
        return [Group(frames, reasons=(_several(frames, "the folder"),))]
    return whole


def _several(frames: list[Frame], names: str) -> str:
    uid = frames[0].series
    end = f" (it ends in {uid[-UID_TAIL:]})" if re.fullmatch(r"[0-9.]+", uid) else ""  # other text might be a name
    which = f"several series under one SeriesInstanceUID{end}"
    return f"{which}: {names} differs, and the parts are no even stacks"


def _by(frames: list[Frame], value: Callable[[Frame], object]) -> list[list[Frame]]:
    parts: dict[object, list[Frame]] = defaultdict(list)
    for frame in frames:
        parts[value(frame)].append(frame)
    return list(parts.values())


def _stacks(frames: list[Frame]) -> list[Group]:
    """Return the volumes of planes; packages of slices (StackID) are one volume if they are even together."""
    whole = _repeats(frames)
    packages = _by(frames, lambda frame: frame.stack)
    if len(packages) == 1 or all(_is_one_stack(group) for group in whole):
        return whole
    return [group for package in packages for group in _repeats(package)]


def _repeats(frames: list[Frame]) -> list[Group]:
    parts, reason = separate(frames)
    return [Group(part, labels, (reason,) if reason else ()) for part, labels in parts]


def _is_one_stack(group: Group) -> bool:
    """Whether packages are one volume: even, or with gaps where SpacingBetweenSlices shows that slices are missing."""
    stack, tag = group.stack, group.frames[0].slice_spacing_tag_mm
    if group.reasons or stack is None:
        return False
    if not stack.reasons:
        return True
    if tag is None or not all(" missing " in reason for reason in stack.reasons):
        return False
    # That of a package alone would be larger: the first two slices of the whole are neighbours in most packages.
    steps = np.diff(np.sort(distances_of(group.frames)))
    return bool(abs(np.median(steps) / tag - 1) <= SPACING_TAG_TOLERANCE)
