"""Values of DICOM elements, read so that a damaged one counts as absent; the gate then refuses what it needs."""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.tag import Tag

MAX_TEXT = 64
"""Longest text kept of one attribute (the limit of LO, PS3.5, 6.2)."""

PRIVATE = {
    "ge_type": ("GEMS_PARM_01", 0x0043, 0x102F),
    "ge_locations": ("GEMS_RELA_01", 0x0021, 0x104F),
    "ge_b_value": ("GEMS_PARM_01", 0x0043, 0x1039),
    "siemens_b_value": ("SIEMENS MR HEADER", 0x0019, 0x100C),
    "siemens_direction": ("SIEMENS MR HEADER", 0x0019, 0x100E),
    "siemens_mosaic_images": ("SIEMENS MR HEADER", 0x0019, 0x100A),
    "philips_b_value": ("PHILIPS IMAGING DD 001", 0x2001, 0x1003),
    "uih_b_value": ("IMAGE PRIVATE HEADER", 0x0065, 0x1009),
}
"""Vendors' own attributes that public ones do not replace: creator (upper case), group, element in block 10."""
BLOCKS = (0x10, 0x11, 0x12, 0x13)
"""Blocks that are searched for a creator; what passes a file on may reserve the first ones (PS3.5, 7.8.1)."""
PRIVATE_TAGS = [
    tag
    for _, group, element in PRIVATE.values()
    for block in BLOCKS
    for tag in (group << 16 | block, group << 16 | block << 8 | element & 0xFF)
]

_tag = lru_cache(maxsize=1024)(Tag)  # looking a keyword up costs more than looking its element up


def private_of(dataset: Dataset, name: str) -> Any:
    """Number or numbers of a vendor's attribute, None where absent; bytes of VR UN are tried as text."""
    creator, group, element = PRIVATE[name]
    blocks = [b for b in BLOCKS if (text_of(dataset, group << 16 | b) or "").upper() == creator]
    if not blocks:
        return None
    value = value_of(dataset, group << 16 | blocks[0] << 8 | element & 0xFF)
    if isinstance(value, bytes):
        try:
            numbers = [float(part) for part in value.decode("ascii").strip(" \0").split("\\")]
        except ValueError:
            return None
        return numbers if len(numbers) > 1 else numbers[0]
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [finite(part) for part in value if finite(part) is not None]
    return finite(value)


def value_of(dataset: Dataset, key: Any) -> Any:
    """Value of an attribute by keyword or tag; None where it is absent or cannot be read."""
    try:
        tag = _tag(key)
        return dataset[tag].value if tag in dataset else None
    except Exception:  # noqa: BLE001 - an attribute that cannot be read counts as absent
        return None


def items_of(dataset: Dataset, keyword: str) -> list[Dataset]:
    """Items of a sequence; [] where there are none."""
    value = value_of(dataset, keyword)
    return [item for item in value if isinstance(item, Dataset)] if isinstance(value, pydicom.Sequence) else []


def places_of(groups: list[Dataset], sequence: str, fallback: Dataset | None) -> list[Dataset]:
    """Where an attribute may stand: the frame's functional group, the shared one, the top of the file."""
    found = [item for group in groups for item in items_of(group, sequence)[:1]]
    return found if fallback is None else [*found, fallback]


def first_of(places: Sequence[Dataset], keyword: str, convert: Callable[[Dataset, str], Any]) -> Any:
    """What `convert(place, keyword)` makes of the first place that has something; None where none has."""
    for place in places:
        value = convert(place, keyword)
        if value is not None:
            return value
    return None


def text_of(dataset: Dataset, key: Any) -> str | None:
    """An attribute as text of at most `MAX_TEXT` characters; None where it is empty."""
    value = value_of(dataset, key)
    text = "" if value is None else str(value).strip(" \0\t\r\n")
    return text[:MAX_TEXT] or None


def texts_of(dataset: Dataset, keyword: str) -> list[str] | None:
    """The values of an attribute as text, sixteen at most; None where there are none."""
    value = value_of(dataset, keyword)
    if value is None or value == "":
        return None
    values = [value] if isinstance(value, str) else list(value)
    return [str(v).strip()[:MAX_TEXT] for v in values[:16]]


def finite(value: Any) -> float | None:
    """A value as a finite number; None where it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def number_of(dataset: Dataset, keyword: str) -> float | None:
    """An attribute's single finite number; None where it holds none."""
    return finite(value_of(dataset, keyword))


def positive_of(dataset: Dataset, keyword: str) -> float | None:
    """An attribute's single positive number; None where it holds none."""
    number = number_of(dataset, keyword)
    return number if number is not None and number > 0 else None


def integer_of(dataset: Dataset, keyword: str) -> int | None:
    """An attribute's single number, cut to a whole one; None where it holds none."""
    number = number_of(dataset, keyword)
    return None if number is None else int(number)


def numbers_of(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """An attribute's numbers where they are exactly `count` finite ones; else None."""
    value = value_of(dataset, keyword)
    if value is None or isinstance(value, str | bytes):
        return None
    try:
        numbers = tuple(finite(part) for part in value)
    except TypeError:
        return None
    return numbers if len(numbers) == count and None not in numbers else None
