"""The page about several scans, the doubtful ones first, each with its picture and a link to its own page."""

# ruff: noqa: RUF001, the page has typographic minus, dash and multiplication signs

import heapq
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from ..data.case import OVERVIEW, SUMMARY
from ..data.saving import REPORT
from ..geometry.errors import printable
from ..geometry.files import write_text
from ..run.record import DONE, Row, RunRecord
from .explained import number
from .pages import Table, render
from .tiles import Picture

MOST = 500  # scans on a page, of each kind; a browser shows more pictures slowly
HEAD_CHARACTERS = 40_000  # of a page, among which its glance is found
GLANCE = re.compile(r'<script type="application/json" id="glance">(.*?)</script>', re.DOTALL)  # in case.html


class Glance(NamedTuple):
    """What the page of a scan holds at its beginning for an overview.

    Attributes:
        picture: of the result, small.
        uncertainty: mean inside the body, in the scan's units; None where there is none.
        uncertainty_share: the same over the intensity window.
    """

    picture: Picture
    uncertainty: float | None
    uncertainty_share: float | None

    @property
    def content(self) -> dict:
        """Plain values for the page."""
        return {**self._asdict(), "picture": self.picture._asdict()}

    @classmethod
    def of_page(cls, page: Path) -> "Glance | None":
        """Read that of a page; None if there is no such page, or it is another one."""
        try:
            with page.open(encoding="utf-8") as file:
                found = GLANCE.search(file.read(HEAD_CHARACTERS))
        except (OSError, ValueError):
            return None
        if found is None:
            return None
        content = json.loads(found.group(1))
        if set(content) != set(cls._fields):  # a page of another version
            return None
        return cls(**{**content, "picture": Picture(**content["picture"])})


class OverviewRow(NamedTuple):
    """One scan in the table of several.

    Attributes:
        row: of the run record.
        page: address of its page, relative to the overview; None if it has none.
        glance: at that page; None if it has none.
        description: a sentence about the scan, or None.
    """

    row: Row
    page: str | None
    glance: Glance | None
    description: str | None = None

    @classmethod
    def of(cls, row: Row, page: Path | None, folder: Path, description: str | None = None) -> "OverviewRow":
        """Return the row of a scan.

        Args:
            row: of the run record.
            page: of the scan, or None.
            folder: of the overview; the page is in it, or in a folder inside.
            description: a sentence about the scan, or None.
        """
        glance = None if page is None else Glance.of_page(page)
        address = None if page is None or glance is None else quote(page.relative_to(folder).as_posix())
        return cls(row, address, glance, description)

    @property
    def acquired(self) -> str | None:
        """Size of the scan."""
        return size_and_spacing(self.row.input)

    @property
    def made(self) -> str | None:
        """Size of the result."""
        return size_and_spacing(self.row.output)

    @property
    def uncertainty(self) -> str:
        """Mean uncertainty inside the body, in the scan's units; a dash where there is none."""
        return number(None if self.glance is None else self.glance.uncertainty)

    @property
    def doubt(self) -> tuple[int, float, float]:
        """Larger for a scan that should be looked at earlier: warnings, then residual, then uncertainty."""
        row, share = self.row, None if self.glance is None else self.glance.uncertainty_share
        residual = row.residual if row.residual_over_noise is None else row.residual_over_noise
        return len(row.warnings), residual or 0.0, share or 0.0


class RunOverview:
    """Write OUT/overview.html about all scans of OUT, for `RunRecord.conclude`."""

    def __call__(self, record: RunRecord) -> Path:
        """Write the page; return its path."""
        out = record.output_dir
        rows = (OverviewRow.of(row, _page(row, out), out) for row in record.all_rows())
        return write_overview(out / OVERVIEW, rows, f"GLADE: {printable(out.resolve().name)}")


def write_overview(path: Path, rows: Iterable[OverviewRow], title: str) -> Path:
    """Write one page about several scans, completely or not at all.

    First come scans with the most warnings, among these those with the largest residual (over the noise where that is
    known) and with the largest uncertainty over the intensity window. Of very many the page has the `MOST` first ones.

    Args:
        path: of the page.
        rows: of the scans, in any order; those without a result are listed with the reason.
        title: of the page.

    Returns:
        The path.
    """
    counts: Counter[bool] = Counter()
    first: list[tuple[tuple, int, OverviewRow]] = []  # a heap, so that very many rows need no memory
    failed: list[Row] = []
    for index, row in enumerate(rows):
        is_done = row.row.status == DONE
        counts[is_done] += 1
        if is_done:
            entry = (row.doubt, -index, row)
            heapq.heappush(first, entry) if len(first) < MOST else heapq.heappushpop(first, entry)
        elif len(failed) < MOST:
            failed.append(row.row)
    shown = [row for _, _, row in sorted(first, reverse=True)]
    content = {"failures": _failures(failed), "not_shown": counts.total() - len(shown) - len(failed)}
    return write_text(
        path, render("overview.html", ["tables.js"], title=title, rows=shown, summary=SUMMARY, counts=counts, **content)
    )


def size_and_spacing(grid: Mapping | None) -> str | None:
    """Write the size of a volume as the run record has it; None where that is not known.

    >>> size_and_spacing({"shape": [320, 320, 19], "spacing_mm": [1.25, 1.25, 7.2]})
    '320 × 320 × 19 voxels of 1.25 × 1.25 × 7.2 mm'
    """
    if not grid or "shape" not in grid:
        return None
    size, spacing = (" × ".join(f"{v:.4g}" for v in grid[key]) for key in ("shape", "spacing_mm"))
    return f"{size} voxels of {spacing} mm"


def _page(row: Row, out: Path) -> Path | None:
    return next((out / file for file in row.files if file.endswith(REPORT)), None)


def _failures(rows: Sequence[Row]) -> Table | None:
    found = [(row.case, row.status, row.reason) for row in rows]
    return Table("Scans without a result, and why", ("scan", "status", "reason"), found, kind="words") if rows else None
