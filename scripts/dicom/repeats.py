"""Separating the volumes whose images share their positions: inversion times, time points, directions.

Attributes decide in the order of their weight: parameters of the acquisition, counters, times, and the instance numbers
only where nothing contradicts them. A volume whose slices belong to several repeats would look right and be wrong, so
whatever cannot be decided is refused.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from .gate import SAME_POSITION_MM, directions
from .headers import Frame

PARAMETERS = {
    "InversionTime": "TI",
    "InversionTimes": "TI",
    "FlipAngle": "FA",
    "NominalCardiacTriggerDelayTime": "TD",
    "NominalPercentageOfCardiacPhase": "phase",
    "NominalRespiratoryTriggerDelayTime": "TD",
    "MagnetizationTransfer": "MT",
    "T2Preparation": "T2prep",
    "DiffusionGradientOrientation": "dir",
    "siemens_direction": "dir",
    "ge_b_value": "dir",
    "DiffusionDirectionality": "dir",
    "VelocityEncodingDirection": "venc",
    "ASLContext": "asl",
    "ReceiveCoilName": "coil",
    "SequenceName": "seq",
    "RepetitionTime": "TR",
}
"""Parameters of the acquisition, and what a case name calls them."""
MEASURED = ("RepetitionTime",)
"""Parameters that gated scans measure anew for each image, so that their order proves nothing."""
COUNTERS = ("TemporalPosition", "AcquisitionNumber", "FrameAcquisitionNumber", "FileInstanceNumber", "EnhancedFile")
TIMES = (
    "TriggerTime",
    "TemporalPositionTimeOffset",
    "FrameAcquisitionDateTime",
    "FrameReferenceDateTime",
    "AcquisitionDateTime",
    "AcquisitionTime",
    "ContentTime",
)
CLEAR = 0.25
"""Largest distance of a value from the range of its repeat, relative to the gap between the ranges of two repeats."""

Labels = tuple[tuple[str, float | str], ...]
Parts = list[tuple[list[Frame], Labels]]


def separate(frames: list[Frame]) -> tuple[Parts, str | None]:
    """Separate planes that share their positions into volumes.

    Args:
        frames: planes of one orientation and pixel spacing.

    Returns:
        The planes of each volume with what distinguishes it, for its name; and None, or why the planes are still
        together.
    """
    positions = positions_of(frames)
    if positions is None or most(positions) == 1:
        return [(frames, ())], None
    if len({(frame.sop_instance, frame.index) for frame in frames}) < len(frames):
        return [(frames, ())], None  # different images under one SOPInstanceUID are refused as such
    return _by_attributes(frames, positions)


def _by_attributes(frames: list[Frame], positions: list[int]) -> tuple[Parts, str | None]:
    values = _values(frames)
    varying = [keyword for keyword, column in values.items() if _varies(column, positions)]
    parameters = [keyword for keyword in PARAMETERS if keyword in varying]
    exact = [keyword for keyword in parameters if _vertical(values[keyword], positions)]
    if exact:
        parts, reason = _recursive(frames, values[exact[0]], PARAMETERS[exact[0]])
        for keyword in exact[1:]:
            if (
                reason is None
                and keyword not in MEASURED
                and any(len({dict(f.repeats).get(keyword) for f in part}) > 1 for part, _ in parts)
            ):
                return [(frames, ())], f"{exact[0]} and {keyword} separate the images at one position differently"
        return ([(frames, ())], reason) if reason else (parts, None)
    for keyword in parameters:
        ranks = _ranges(values[keyword], positions)
        if ranks is not None:
            return _recursive(frames, ranks, "t" if keyword in MEASURED else PARAMETERS[keyword], numbered=True)
    checked = [keyword for keyword in parameters if keyword not in MEASURED]
    dimensions = [keyword for keyword in varying if keyword.startswith("DimensionIndexValues")]
    for keyword in (*COUNTERS, *dimensions, *TIMES):
        if (
            keyword in varying
            and _vertical(values[keyword], positions)
            and _agree(values, checked, values[keyword], positions)
        ):
            return _recursive(frames, values[keyword], "t", numbered=True)
    return _by_order(frames, positions, values, varying, checked)


def _by_order(
    frames: list[Frame], positions: list[int], values: dict[str, list], varying: list[str], checked: list[str]
) -> tuple[Parts, str | None]:
    """Separate by the order of times, by folders, or by instance numbers.

    Args:
        frames: the planes.
        positions: number of the position of each plane.
        values: each attribute, one value a plane.
        varying: attributes that differ within a position.
        checked: parameters whose order at each position must agree with that of the volumes.
    """
    times = [keyword for keyword in TIMES if keyword in varying]
    for keyword in times:
        ranks = _ranges(values[keyword], positions)
        if ranks is not None and _agree(values, checked, ranks, positions):
            return _recursive(frames, ranks, "t", numbered=True)
    numbers = [frame.instance_number for frame in frames]
    for keyword in times:
        ranks = _ranks(values[keyword], positions)
        if ranks is not None and _agree(values, checked, ranks, positions):
            if _agree({"InstanceNumber": numbers}, ["InstanceNumber"], ranks, positions):
                return _recursive(frames, ranks, "t", numbered=True)
            return [(frames, ())], f"{_count(positions, frames)}: {keyword} and InstanceNumber order them differently"
    folders = [str(Path(frame.file).parent) for frame in frames]
    if len(set(folders)) > 1 and _vertical(folders, positions) and _agree(values, checked, folders, positions):
        return _recursive(frames, folders, "")
    counted = [k for k in varying if k in COUNTERS or k.startswith("DimensionIndexValues")]
    ranks = _numbered(numbers, positions)
    contrary = [k for k in (*checked, *times, *counted) if ranks is None or not _agree(values, [k], ranks, positions)]
    if ranks is not None and not contrary:
        return _recursive(frames, ranks, "t", numbered=True)
    why = (
        f"{contrary[0]} contradicts the order of InstanceNumber"
        if ranks and contrary
        else "no attribute separates them"
    )
    return [(frames, ())], f"{_count(positions, frames)}: {why}"


def _values(frames: list[Frame]) -> dict[str, list]:
    """Return the values of each attribute, one a plane; None where a plane lacks it."""
    rows = [dict(frame.repeats) for frame in frames]
    for row, frame in zip(rows, frames, strict=True):
        row["TemporalPosition"] = frame.temporal_position
        row["EnhancedFile"] = frame.file if frame.index is not None else None
    keywords = dict.fromkeys(keyword for row in rows for keyword in row)
    return {keyword: [row.get(keyword) for row in rows] for keyword in keywords}


def _recursive(frames: list[Frame], values: Sequence, label: str, numbered: bool = False) -> tuple[Parts, str | None]:
    """Split by the values of an attribute, and each part again while its positions repeat."""
    found: Parts = []
    for number, value in enumerate(sorted(set(values), key=_order), start=1):
        part = [frame for frame, own in zip(frames, values, strict=True) if own == value]
        named = value if isinstance(value, float) and not numbered else f"{number:02d}"
        parts, reason = separate(part)
        if reason:
            return [(frames, ())], reason
        found += [(inner, (*([(label, named)] if label else []), *labels)) for inner, labels in parts]
    return found, None


def _order(value: object) -> tuple[int, float, str]:
    if value is None:
        return 0, 0.0, ""
    return (1, float(value), "") if isinstance(value, int | float) else (2, 0.0, str(value))


def most(positions: Iterable[int]) -> int:
    """Return the largest number of planes at one position."""
    return max(Counter(positions).values())


def _varies(values: Sequence, positions: Sequence[int]) -> bool:
    first: dict[int, object] = {}
    return any(first.setdefault(position, value) != value for position, value in zip(positions, values, strict=True))


def _vertical(values: Sequence, positions: Sequence[int]) -> bool:
    """Whether each value stands for whole volumes: their repeats add up to those of all planes."""
    if len(set(values)) > most(positions):
        return False
    counts: dict[object, Counter] = defaultdict(Counter)
    for value, position in zip(values, positions, strict=True):
        counts[value][position] += 1
    return len(counts) > 1 and sum(max(count.values()) for count in counts.values()) == most(positions)


def _at_positions(values: Sequence, positions: Sequence[int]) -> dict[int, list[int]] | None:
    """Return the planes of each position in the order of their values; None if they are not distinct numbers."""
    if not all(isinstance(value, int | float) for value in values):
        return None
    planes: dict[int, list[int]] = defaultdict(list)
    for plane in np.argsort(np.array(values, dtype=float), kind="stable"):
        planes[positions[plane]].append(int(plane))
    for own in planes.values():
        if len({values[plane] for plane in own}) < len(own):
            return None
    return planes


def _ranges(values: Sequence, positions: Sequence[int]) -> list[int] | None:
    """Number the repeats whose values lie in ranges that do not overlap; None where there are no such ranges.

    Where images are missing at a position, its others belong to the range in which they clearly lie.
    """
    planes, repeats = _at_positions(values, positions), most(positions)
    if planes is None:
        return None
    complete = np.array([[values[plane] for plane in own] for own in planes.values() if len(own) == repeats])
    if 2 * len(complete) < len(planes) or len(complete) < min(2, len(planes)):
        return None
    low, high = complete.min(axis=0), complete.max(axis=0)
    gaps = low[1:] - high[:-1]
    if (gaps <= 0).any():
        return None
    ranks = np.searchsorted(high[:-1] + gaps / 2, values)
    around = np.concatenate([gaps[:1], gaps]), np.concatenate([gaps, gaps[-1:]])
    below, above = low[ranks] - np.array(values), np.array(values) - high[ranks]
    if (below > CLEAR * around[0][ranks]).any() or (above > CLEAR * around[1][ranks]).any():
        return None
    return [int(rank) for rank in ranks] if len(set(zip(ranks, positions, strict=True))) == len(values) else None


def _ranks(values: Sequence, positions: Sequence[int]) -> list[int] | None:
    """Number the images at each position by their values; None where values are equal or images are missing."""
    planes, repeats = _at_positions(values, positions), most(positions)
    if planes is None or any(len(own) != repeats for own in planes.values()):
        return None
    ranks = [0] * len(values)
    for own in planes.values():
        for rank, plane in enumerate(own):
            ranks[plane] = rank
    return ranks


def _agree(values: dict[str, list], keywords: Sequence[str], parts: Sequence, positions: Sequence[int]) -> bool:
    """Whether two parts that differ in an attribute differ in the same sense at every position."""
    for keyword in keywords:
        seen: dict[tuple, bool] = {}
        planes: dict[int, list[int]] = defaultdict(list)
        for plane, position in enumerate(positions):
            if values[keyword][plane] is not None:
                planes[position].append(plane)
        for own in planes.values():
            own.sort(key=lambda plane: _order(parts[plane]))
            for one, other in pairwise(own):
                first, second = _order(values[keyword][one]), _order(values[keyword][other])
                if first != second and seen.setdefault((parts[one], parts[other]), first < second) != (first < second):
                    return False
    return True


def _numbered(numbers: Sequence[int | None], positions: Sequence[int]) -> list[int] | None:
    """Number the repeats by instance numbers that count volume by volume, or position by position.

    Where images are missing, the numbers must leave a single way to count; otherwise only their order matters.
    """
    if None in numbers:
        return None
    repeats, count = most(positions), len(set(positions))
    if len(set(numbers)) < len(numbers):  # frames of one enhanced file a position; or each volume's own number
        return list(numbers) if _vertical(numbers, positions) and len(set(numbers)) == repeats else None
    total = repeats * count
    counted = np.argsort(np.argsort(numbers)) if len(numbers) == total else np.array(numbers)
    if counted.max() - counted.min() >= total:
        return None
    found = []
    for start in range(int(counted.max()) - total + 1, int(counted.min()) + 1):
        offset = counted - start
        for part, slot in ((offset // count, offset % count), (offset % repeats, offset // repeats)):
            pairs = set(zip(slot.tolist(), positions, strict=True))
            if len(pairs) == count and len({s for s, _ in pairs}) == len({p for _, p in pairs}) == count:
                ranks = part.tolist()
                if ranks not in found:
                    found.append(ranks)
    return found[0] if len(found) == 1 else None


def _count(positions: Sequence[int], frames: list[Frame]) -> str:
    """Return how many images there are at each position, and at which one some are missing."""
    repeats, counts = most(positions), Counter(positions)
    text = f"{repeats} images at each of {len(counts)} positions"
    lacking = [position for position, count in counts.items() if count < repeats]
    if not lacking:
        return text
    if 2 * len(lacking) > len(counts):
        return f"up to {text}"
    distances = distances_of(frames)
    places = ", ".join(f"{distances[positions.index(p)] - min(distances):.1f}" for p in sorted(lacking)[:5])
    return f"{text}, {sum(repeats - counts[p] for p in lacking)} missing at {places} mm from the first"


def positions_of(frames: list[Frame]) -> list[int] | None:
    """Return the number of each plane's position along the normal; None where positions are unknown."""
    distances = distances_of(frames)
    return None if distances is None else position_numbers(distances)


def distances_of(frames: list[Frame]) -> np.ndarray | None:
    """Return each plane's position along the normal in mm; None where positions or directions are unknown."""
    if any(frame.position_mm is None or frame.orientation is None for frame in frames):
        return None
    orientations = np.array([frame.orientation for frame in frames])
    if min(np.linalg.norm(orientations[:, part], axis=1).min() for part in (slice(0, 3), slice(3, 6))) < 0.5:
        return None  # not a direction: the stack is refused later
    return np.array([frame.position_mm for frame in frames]) @ directions(orientations)[2]


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
