"""Case names: series number, series description, and what distinguishes the volumes of one series."""

import re
import unicodedata
from collections.abc import Iterator, Sequence

from pydicom.tag import Tag

from .elements import text_of
from .files import DamagedError, quiet, read_dataset
from .headers import Frame
from .repeats import Labels

MAX_NAME = 40
"""Most characters of the series description, and of the patient's name, in a case name."""


def case_names(volumes: Sequence[tuple[Frame, Labels]], keep_names: bool = False) -> Iterator[str]:
    """Yield a case name for each volume; no two are equal, even where upper and lower case do not count.

    Args:
        volumes: the first plane of each volume, and what distinguishes it from others of the same positions.
        keep_names: whether case names begin with the patient's name, or number where there is no name.
    """
    firsts = [frame for frame, _ in volumes]
    bases = [_patient(frame) + _base_name(frame) if keep_names else _base_name(frame) for frame in firsts]
    used: set[str] = set()
    for (frame, labels), base in zip(volumes, bases, strict=True):
        pairs = zip(firsts, bases, strict=True)
        others = [other for other, name in pairs if name == base and other.series == frame.series]
        name = unique = (
            base + _difference(frame, others) + "".join(f"_{label}{_short(value)}" for label, value in labels)
        )
        count = 1
        while unique.lower() in used:
            count += 1
            unique = f"{name}_{count}"
        used.add(unique.lower())
        yield unique


def _base_name(frame: Frame) -> str:
    words = file_name_words(frame.description) or "series"
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


def _difference(frame: Frame, others: list[Frame]) -> str:
    """Return the attributes in which a volume differs from the others of its name: echo, b-value, time, component."""
    parts = []
    if len({o.echo_time_ms for o in others}) > 1 and frame.echo_time_ms is not None:
        parts.append(f"TE{_short(frame.echo_time_ms)}")
    if len({o.b_value for o in others}) > 1 and frame.b_value is not None:
        parts.append(f"b{frame.b_value:g}")
    if len({o.temporal_position for o in others}) > 1 and frame.temporal_position is not None:
        parts.append(f"t{frame.temporal_position:02d}")
    if len({o.component for o in others}) > 1:
        parts.append(re.sub(r"[^a-z0-9]+", "_", frame.component.lower()).strip("_"))
    return "".join(f"_{part}" for part in parts)
