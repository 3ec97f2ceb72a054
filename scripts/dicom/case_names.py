"""Names of cases: series number and description, and what tells the volumes of one series apart."""

import re
import unicodedata
from collections.abc import Iterator

from pydicom.tag import Tag

from .elements import text_of
from .files import DamagedError, quiet, read_dataset
from .headers import Frame

MAX_NAME = 40
"""Longest series description, and longest patient name, within a case's name."""


def case_names(firsts: list[Frame], keep_names: bool = False) -> Iterator[str]:
    """Case names, one for each volume by its first plane; no two alike, whatever the case of the letters.

    Args:
        firsts: the first plane of each volume.
        keep_names: the patient's name, or number where there is no name, goes before.
    """
    bases = [_patient(frame) + _base_name(frame) if keep_names else _base_name(frame) for frame in firsts]
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


def _base_name(frame: Frame) -> str:
    words = _plain(frame.description) or "series"
    return words if frame.series_number is None else f"{abs(frame.series_number):03d}_{words}"


def _patient(frame: Frame) -> str:
    """What a frame does not hold on purpose: read here, where somebody asked for it."""
    try:
        header = read_dataset(frame.file, [Tag(name) for name in ("SpecificCharacterSet", "PatientName", "PatientID")])
    except DamagedError:
        return ""
    with quiet():
        name = _plain(text_of(header, "PatientName") or "") or _plain(text_of(header, "PatientID") or "")
    return f"{name}_" if name else ""


def _plain(text: str) -> str:
    """A text in letters that every file system takes."""
    ascii_only = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9]+", "_", ascii_only).strip("_")[:MAX_NAME].strip("_")


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
