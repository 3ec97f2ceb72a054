"""Grouping of image planes into volumes: by series, echo, component, time, b-value, orientation; then position."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .gate import SAME_POSITION_MM, directions
from .headers import Frame

SAME_ORIENTATION = 1e-3
"""Direction cosines of one stack differ by less; within a stack `gate.ORIENTATION_TOLERANCE` is stricter."""
SAME_PIXEL_SPACING = 1e-4
"""Relative difference below which two pixel spacings are the same one, rounded differently."""


def group_planes(frames: list[Frame]) -> Iterator[list[Frame]]:
    """Yield the planes of each volume, in no particular order; planes that no rule separates stay together."""
    for group in _group(frames):
        yield from _split(group)


def _group(frames: list[Frame]) -> Iterator[list[Frame]]:
    """Yield the planes that agree in everything that is the same for all slices of a volume."""
    groups: dict[tuple, list[Frame]] = defaultdict(list)
    for frame in frames:
        # Without SeriesInstanceUID, study, number and description identify a series within one folder.
        series = frame.series or f"{frame.study} {frame.series_number} {frame.description} {Path(frame.file).parent}"
        # A mosaic, or a file of frames without functional groups, is a volume of its own.
        alone = frame.mosaic_images or (frame.index is None and frame.frames_in_file > 1)
        key = (
            frame.study,
            series,
            frame.frame_of_reference,
            frame.modality,
            frame.rows,
            frame.columns,
            frame.samples,
            frame.photometric,
            frame.image_type,
            frame.component,
            frame.echo_time_ms,
            frame.echo_number,
            frame.temporal_position,
            frame.b_value,
            frame.stack,
            frame.pixel_spacing_mm is None,
            frame.position_mm is None,
            frame.file if alone else "",
        )
        groups[key].append(frame)
    for group in groups.values():
        yield from _cluster(group)


def _cluster(frames: list[Frame]) -> Iterator[list[Frame]]:
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
    for _, members in clusters:
        yield members


def _split(frames: list[Frame]) -> list[list[Frame]]:
    """Separate volumes that have the same positions and agree in all grouping attributes.

    They are separated by the first repeat attribute that has one value per volume, where no position repeats among the
    planes of one value; otherwise by instance numbers, which may count volume by volume or position by position. Planes
    that neither separates stay together, and are refused because of their repeated positions.
    """
    positions = _positions(frames)
    if positions is None:
        return [frames]
    repeats = max(Counter(positions).values())
    # Two files of one SOP instance are copies, not two volumes.
    distinct = len({(f.sop_instance, f.index) for f in frames}) == len(frames)
    if repeats == 1 or not distinct:
        return [frames]
    for attribute in range(len(frames[0].repeats)):
        parts = _part(frames, [frame.repeats[attribute] for frame in frames])
        if len(parts) == repeats and all(max(Counter(_positions(part) or [0, 0]).values()) == 1 for part in parts):
            return parts
    numbers = [frame.instance_number for frame in frames]
    if None in numbers or len(set(numbers)) < len(frames) or set(Counter(positions).values()) != {repeats}:
        return [frames]
    order = np.argsort(numbers)
    sequence = [positions[i] for i in order]
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


def _positions(frames: list[Frame]) -> list[int] | None:
    """Return the number of each plane's position along the normal; None where positions are unknown."""
    if any(frame.position_mm is None or frame.orientation is None for frame in frames):
        return None
    orientations = np.array([frame.orientation for frame in frames])
    if min(np.linalg.norm(orientations[:, part], axis=1).min() for part in (slice(0, 3), slice(3, 6))) < 0.5:
        return None  # not a direction: the stack is refused later
    return position_numbers(np.array([frame.position_mm for frame in frames]) @ directions(orientations)[2])


def position_numbers(distances_mm: np.ndarray) -> list[int]:
    """Number the positions of planes along their normal, from 0; planes at one position have one number.

    >>> position_numbers(np.array([8.0, 0.0, 4.0, 4.001]))
    [2, 0, 1, 1]
    """
    order = np.argsort(distances_mm, kind="stable")
    steps = np.diff(distances_mm[order], prepend=distances_mm[order[0]]) >= SAME_POSITION_MM
    numbers = np.empty(len(order), dtype=int)
    numbers[order] = np.cumsum(steps)
    return [int(number) for number in numbers]
