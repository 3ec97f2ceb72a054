"""Checks of settings and header values: is it a number, positive, a whole number, true or false."""

import math

from .errors import Refusal


def is_number(value) -> bool:
    """Whether the value is a finite int or float; booleans are not numbers here.

    >>> is_number(1.5), is_number(True), is_number("2"), is_number(float("nan"))
    (True, False, False, False)
    """
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_positive(value) -> bool:
    """Whether the value is a finite number above 0."""
    return is_number(value) and value > 0


def is_whole(value, least: int = 0) -> bool:
    """Whether the value is an int (no boolean) of at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_axis(value) -> bool:
    """Whether the value is 0, 1 or 2, an axis of a volume."""
    return is_whole(value) and value <= 2


def flag(value: bool | str, name: str) -> bool:
    """Read a setting that is true or false; `--adapt true` on the command line arrives as text.

    Args:
        value: True, False, "true" or "false".
        name: of the setting, for the message.

    Raises:
        Refusal: if it is neither.

    >>> flag("true", "adapt")
    True
    """
    if str(value).lower() not in ("true", "false"):
        raise Refusal(f"{name} must be true or false, got {value!r}: on the command line give true or false")
    return str(value).lower() == "true"
