"""Case names: series number, protocol words, and what distinguishes the volumes of one series."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pydicom.tag import Tag

from ..data.case import UniqueNames
from .elements import text_of
from .files import DamagedError, quiet, read_dataset
from .headers import Frame
from .repeats import Labels

MAX_NAME = 40
"""Most characters of the protocol words, and of the patient's name, in a case name."""


DIFFERENCES: dict[str, Callable[[Any], str]] = {
    "echo_time_ms": lambda value: f"TE{_short(value)}",
    "b_value": lambda value: f"b{value:g}",
    "temporal_position": lambda value: f"t{value:02d}",
    "component": lambda value: re.sub(r"[^a-z0-9]+", "_", value.lower()).strip("_"),
}
"""Attributes that distinguish volumes of one series, and how a case name writes them."""


def case_names(volumes: Sequence[tuple[Frame, Labels]], keep_names: bool = False) -> Iterator[str]:
    """Yield a case name for each volume; no two are equal, even where upper and lower case do not count.

    Args:
        volumes: the first plane of each volume, and what distinguishes it from others of the same positions.
        keep_names: whether case names begin with the patient's name, or number where there is no name.
    """
    unique = UniqueNames()
    for (frame, _), ends in zip(volumes, differences(volumes), strict=True):
        base = _patient(frame) + _base_name(frame) if keep_names else _base_name(frame)
        yield unique("_".join([base, *ends]))


def differences(volumes: Sequence[tuple[Frame, Labels]]) -> Iterator[tuple[str, ...]]:
    """Yield what tells each volume apart from the others of its series, such as ("TE20", "b1000"); see `case_names`."""
    alike: dict[tuple[str, str], list[Frame]] = defaultdict(list)
    for frame, _ in volumes:
        alike[_base_name(frame), frame.series].append(frame)
    varying = {key: _varying(frames) for key, frames in alike.items()}
    for frame, labels in volumes:
        ends = _differences(frame, varying[_base_name(frame), frame.series])
        yield *ends, *(label + _short(value) for label, value in labels)


def _base_name(frame: Frame) -> str:
    words = frame.words[:MAX_NAME].strip("_") or "series"
    return words if frame.series_number is None else f"{abs(frame.series_number):03d}_{words}"


def _patient(frame: Frame) -> str:
    """Return the patient's name or number; it is read here because a `Frame` must not hold it."""
    try:
        header = read_dataset(frame.file, [Tag(name) for name in ("SpecificCharacterSet", "PatientName", "PatientID")])
    except DamagedError:
        return ""
    with quiet():
        names = (file_name_words(text_of(header, keyword) or "") for keyword in ("PatientName", "PatientID"))
        name = next(filter(None, names), "")
    return f"{name}_" if name else ""


def file_name_words(text: str) -> str:
    """Return the words of a text in ASCII letters and digits, which every file system accepts.

    >>> file_name_words("T2 TSE (Müller) 3.5mm")
    'T2_TSE_Muller_3_5mm'
    """
    ascii_only = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9]+", "_", ascii_only).strip("_")[:MAX_NAME].strip("_")


def _short(value: float | str) -> str:
    """Return a number or a running number as a case name has it, with p for the decimal point."""
    text = value if isinstance(value, str) else f"{value:g}"
    return text.replace(".", "p").replace("-", "minus").replace("+", "")


def _varying(frames: list[Frame]) -> set[str]:
    """Return which attributes differ among volumes of one series: echo time, b-value, time, component."""
    return {name for name in DIFFERENCES if len({getattr(frame, name) for frame in frames}) > 1}


def _differences(frame: Frame, varying: set[str]) -> Iterator[str]:
    """Yield what a case name says of the attributes in which a volume differs from others of its series."""
    for name, text in DIFFERENCES.items():
        value = getattr(frame, name)
        if name in varying and value is not None:
            yield text(value)
