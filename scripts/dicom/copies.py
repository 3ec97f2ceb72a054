"""Files that are there twice: identical copies are left out, different images under one SOPInstanceUID are named."""

import filecmp
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..geometry.errors import Refusal, printable
from .headers import Frame
from .pixels import read_planes

Findings = dict[tuple[str, int | None], list[tuple[bool, str]]]
"""Of a plane (file, frame): whether a copy of it was left out (or contradicts it), and the files in words."""


def without_copies(frames: list[Frame]) -> tuple[list[Frame], Findings]:
    """Leave out every plane that another file holds identically.

    Args:
        frames: planes of any number of files.

    Returns:
        The planes that are left, and what was found out about those with copies. Copies have one SOPInstanceUID
        (files without one are copies where their bytes are the same); they are identical where their bytes are, or
        their headers as far as they are used and their voxels.
    """
    same: dict[tuple, list[Frame]] = defaultdict(list)
    for frame in frames:
        place = () if frame.sop_instance else (frame.position_mm, frame.instance_number, frame.study, frame.series)
        same[(frame.sop_instance, frame.index, *place)].append(frame)
    left_out, findings = set(), defaultdict(list)
    for copies in same.values():
        kept: list[Frame] = []
        for frame in copies:
            for other in kept:
                if _same_bytes(other.file, frame.file) or (frame.sop_instance and _same_image(other, frame)):
                    left_out.add((frame.file, frame.index))
                    findings[other.file, other.index].append((True, _named(other, frame, "hold the same image")))
                    break
            else:
                kept.append(frame)
        if len(kept) > 1 and kept[0].sop_instance:
            text = _named(kept[0], kept[1], "are different images under one SOPInstanceUID")
            for frame in kept:
                findings[frame.file, frame.index].append((False, text))
    return [frame for frame in frames if (frame.file, frame.index) not in left_out], dict(findings)


def _same_bytes(one: str, other: str) -> bool:
    try:
        return filecmp.cmp(one, other, shallow=False)  # remembers its result while size and time stay the same
    except OSError:
        return False


def _same_image(one: Frame, other: Frame) -> bool:
    if replace(one, file="") != replace(other, file=""):
        return False
    try:
        return bool(np.array_equal(read_planes([one]), read_planes([other])))
    except Refusal:
        return False


def _named(one: Frame, other: Frame, what: str) -> str:
    """Name two files; their folders are not named, as exported studies lie in folders named after patients."""
    first, second = (printable(Path(frame.file).name) for frame in (one, other))
    return f"two files {first} in different folders {what}" if first == second else f"{first} and {second} {what}"
