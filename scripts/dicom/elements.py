"""Reading and writing single DICOM elements; an element that cannot be read counts as absent.

A volume is refused later where it lacks an attribute that it needs (`discovery.reasons_of`).
"""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pydicom.valuerep import DS

MAX_TEXT = 64
"""Longest text that is kept of one attribute, in characters (the limit of value representation LO, PS3.5, 6.2)."""
MAX_VALUES = 16
"""Most values that `texts_of` keeps of one attribute."""

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
"""Private attributes without a public equivalent: creator in upper case, group, element as numbered in block 0x10."""
BLOCKS = (0x10, 0x11, 0x12, 0x13)
"""Blocks that are searched for a creator: an archive may have reserved the first ones for itself (PS3.5, 7.8.1)."""
PRIVATE_TAGS = [
    tag
    for _, group, element in PRIVATE.values()
    for block in BLOCKS
    for tag in (group << 16 | block, group << 16 | block << 8 | element & 0xFF)
]

_tag = lru_cache(maxsize=1024)(Tag)  # converting a keyword to a tag takes longer than finding the element


def value_of(dataset: Dataset, key: Any) -> Any:
    """Return the value of an attribute by keyword or tag; None where it is absent or cannot be read."""
    try:
        tag = _tag(key)
        return dataset[tag].value if tag in dataset else None
    except Exception:  # noqa: BLE001 - pydicom converts here, and damaged bytes may raise anything
        return None


def text_of(dataset: Dataset, key: Any) -> str | None:
    """Return an attribute as text of at most `MAX_TEXT` characters; None where it is empty."""
    value = value_of(dataset, key)
    text = "" if value is None else str(value).strip(" \0\t\r\n")
    return text[:MAX_TEXT] or None


def texts_of(dataset: Dataset, keyword: str) -> list[str] | None:
    """Return the values of an attribute as texts, at most `MAX_VALUES`; None where there are none."""
    value = value_of(dataset, keyword)
    if value is None or value == "":
        return None
    values = value if isinstance(value, MultiValue | list) else [value]
    return [str(v).strip()[:MAX_TEXT] for v in values[:MAX_VALUES]]


def finite(value: Any) -> float | None:
    """Return a value as a finite number; None where it is none.

    >>> finite("2.5"), finite("nan"), finite(None)
    (2.5, None, None)
    """
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def number_of(dataset: Dataset, keyword: str) -> float | None:
    """Return an attribute's single finite number; None where it holds none."""
    return finite(value_of(dataset, keyword))


def positive_of(dataset: Dataset, keyword: str) -> float | None:
    """Return an attribute's single positive number; None where it holds none."""
    number = number_of(dataset, keyword)
    return number if number is not None and number > 0 else None


def integer_of(dataset: Dataset, keyword: str) -> int | None:
    """Return an attribute's single number without its fraction; None where it holds none."""
    number = number_of(dataset, keyword)
    return None if number is None else int(number)


def numbers_of(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Return an attribute's numbers where they are exactly `count` finite ones; else None.

    >>> dataset = Dataset()
    >>> dataset.PixelSpacing = ["0.9", "0.7"]
    >>> numbers_of(dataset, "PixelSpacing", 2), numbers_of(dataset, "PixelSpacing", 3)
    ((0.9, 0.7), None)
    """
    value = value_of(dataset, keyword)
    if value is None or isinstance(value, str | bytes):
        return None
    try:
        numbers = tuple(finite(part) for part in value)
    except TypeError:
        return None
    return numbers if len(numbers) == count and None not in numbers else None


def is_unreadable(dataset: Dataset, keyword: str) -> bool:
    """Return whether an attribute has a value that pydicom cannot convert, such as 0,9 with a decimal comma.

    >>> dataset = Dataset()
    >>> dataset[0x00180050] = pydicom.dataelem.RawDataElement(Tag(0x00180050), "DS", 4, b"0,9 ", 0, False, True)
    >>> is_unreadable(dataset, "SliceThickness"), is_unreadable(dataset, "EchoTime")
    (True, False)
    """
    element = dataset.get_item(_tag(keyword))
    value = None if element is None else element.value
    if isinstance(value, bytes):  # not converted yet, or not to be converted
        return bool(value.strip(b" \0\\"))
    return any(map(str, value)) if isinstance(value, MultiValue) else value not in (None, "")


def first_number_of(dataset: Dataset, keyword: str) -> float | None:
    """Return the first of an attribute's numbers, such as of several windows; None where it is no finite number."""
    value = value_of(dataset, keyword)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        value = value[0] if value else None
    return finite(value)


def private_of(dataset: Dataset, name: str) -> Any:
    """Return the number or the list of numbers of a private attribute; None where it is absent.

    Args:
        dataset: a data set; where its private elements have lost their value representation (UN), their bytes are read
            as text.
        name: a key of `PRIVATE`.
    """
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


def first_private_of(dataset: Dataset, name: str) -> float | None:
    """Return the first number of a private attribute; None where there is no finite one."""
    value = private_of(dataset, name)
    return finite(value[0] if isinstance(value, list) and value else value)


def items_of(dataset: Dataset, keyword: str) -> list[Dataset]:
    """Return the items of a sequence; [] where there are none."""
    value = value_of(dataset, keyword)
    return [item for item in value if isinstance(item, Dataset)] if isinstance(value, pydicom.Sequence) else []


def functional_groups(dataset: Dataset, index: int | None) -> list[Dataset]:
    """Return the functional groups of one frame of an enhanced image (PS3.3, C.7.6.16): its own, then the shared ones.

    Args:
        dataset: an enhanced image; of any other the list is empty.
        index: frame from 0; None: the shared groups alone.
    """
    own = [] if index is None else items_of(dataset, "PerFrameFunctionalGroupsSequence")[index : index + 1]
    return [*own, *items_of(dataset, "SharedFunctionalGroupsSequence")[:1]]


def macro_items(groups: Sequence[Dataset], sequence: str, top: Dataset | None = None) -> list[Dataset]:
    """Return the items that may hold an attribute of a frame, in the order in which they take precedence.

    Args:
        groups: functional groups of the frame, its own first.
        sequence: keyword of a functional group macro, for example PlanePositionSequence.
        top: data set of the file, where a classic image holds the attribute; None to leave it out.
    """
    found = [item for group in groups for item in items_of(group, sequence)[:1]]
    return found if top is None else [*found, top]


def first_of(items: Sequence[Dataset], keyword: str, convert: Callable[[Dataset, str], Any]) -> Any:
    """Return `convert(item, keyword)` of the first item for which it is not None; None where there is none.

    >>> frame, top = Dataset(), Dataset()
    >>> top.SliceThickness = "5"
    >>> first_of([frame, top], "SliceThickness", positive_of)
    5.0
    """
    for item in items:
        value = convert(item, keyword)
        if value is not None:
            return value
    return None


def decimal_string(value: float) -> DS:
    """Return a number as a decimal string, rounded to the 16 characters that it may have (PS3.5, 6.2).

    >>> str(decimal_string(1 / 3))
    '0.33333333333333'
    """
    return DS(float(value), auto_format=True)
