"""Which image planes make one volume: series, echo, kind of image, time, b-value, orientation; then position."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .gate import SAME_POSITION_MM, directions
from .headers import Frame

SAME_ORIENTATION = 1e-3
"""Slices whose direction cosines differ by less belong to one stack (the gate is stricter within it)."""
SAME_PIXEL_SPACING = 1e-4
"""Relative; below it two pixel spacings are one, rounded differently."""


def group_planes(frames: list[Frame]) -> Iterator[list[Frame]]:
    """Planes sorted into volumes, in no order within them; what no rule separates stays together for the gate."""
    for group in _group(frames):
        yield from _split(group)


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
