"""Progress of long loops: a bar on a terminal, else a line in the log twice a minute."""

import io
import logging
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped]

SECONDS_BETWEEN_LINES = 30.0
logger = logging.getLogger(__name__)


class Progress(tqdm):
    """tqdm's bar where standard error is a terminal; elsewhere a log line at most every 30 seconds, and no bar.

    Work that ends within 30 seconds writes no line.

    Args:
        iterable: what is iterated over; None where `update` is called instead.
        show: False for neither bar nor lines.
        options: further arguments of tqdm, such as total, desc (what is done, "planes"), position.

    >>> [2 * case for case in Progress([1, 2, 3], desc="cases")]
    [2, 4, 6]
    """

    def __init__(self, iterable: Iterable | None = None, show: bool = True, **options: Any):
        self.in_log = not sys.stderr.isatty()
        if self.in_log:
            between = SECONDS_BETWEEN_LINES
            options |= {"file": io.StringIO(), "mininterval": between, "miniters": 1, "delay": between, "leave": False}
        super().__init__(iterable, disable=not show, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Draw the bar, or log how far the work is; tqdm calls it where enough time has passed."""
        if not self.in_log:
            return super().display(msg, pos)
        if msg is None:  # "" erases a bar
            logger.info("%s", self.line())
        return True

    def line(self) -> str:
        """Return what is done of how much, and the time that the rest will take at the rate so far."""
        known = self.format_dict
        done, total, rate = known["n"], known["total"], known["rate"]
        of_total = f" of {total}" if total else ""
        left = f", about {self.format_interval((total - done) / rate)} left" if total and rate else ""
        values = f" ({self.postfix})" if self.postfix else ""
        elapsed = self.format_interval(known["elapsed"])
        return f"{self.desc.removesuffix(': ')}: {done}{of_total} after {elapsed}{left}{values}"
