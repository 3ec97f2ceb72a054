"""Checks of settings and header values: numbers, positive numbers, whole numbers, axes, true or false."""

import math
from typing import Any, TypeGuard

from .errors import Refusal


def is_number(value: Any) -> TypeGuard[float]:
    """Return whether the value is a finite int or float and not a boolean.

    >>> is_number(1.5), is_number(True), is_number("2"), is_number(float("nan"))
    (True, False, False, False)
    """
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_positive(value: Any) -> TypeGuard[float]:
    """Return whether the value is a finite number above 0.

    >>> is_positive(0.5), is_positive(0), is_positive(None)
    (True, False, False)
    """
    return is_number(value) and value > 0


def is_whole(value: Any, least: int = 0) -> TypeGuard[int]:
    """Return whether the value is an int, not a boolean, of at least `least`.

    >>> is_whole(3), is_whole(3.0), is_whole(3, least=5)
    (True, False, False)
    """
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_axis(value: Any) -> TypeGuard[int]:
    """Return whether the value is 0, 1 or 2, an axis of a volume."""
    return is_whole(value) and value <= 2


def flag(value: bool | str, name: str) -> bool:
    """Return a boolean setting; on the command line `--adapt true` arrives as text.

    Args:
        value: True, False, "true" or "false".
        name: of the setting, for the message.

    Raises:
        Refusal: if the value is none of these.

    >>> flag("true", "adapt")
    True
    """
    if str(value).lower() not in ("true", "false"):
        raise Refusal(f"{name} must be true or false, got {value!r}: on the command line give true or false")
    return str(value).lower() == "true"
