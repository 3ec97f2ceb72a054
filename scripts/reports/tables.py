"""The tables of an evaluation's report: methods x measures, with intervals and paired differences."""

# ruff: noqa: RUF001, the page has typographic minus, dash and multiplication signs

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ..evaluation.method_names import CONSISTENT, GLADE
from ..evaluation.scores import Row
from ..evaluation.statistics import FEWEST_FOR_P, HEADLINE, POOLED, REAL, SIMULATED, Statistic
from .explained import explained, number, ordered, ordered_metrics, title_of
from .pages import Cell, Table

KINDS = {SIMULATED: "all simulated acquisitions", REAL: "all real scans", POOLED: "all protocols"}
UNITS_NOT_SHOWN = ("", "1", "0-100")  # in the head of a column


class Tables(NamedTuple):
    """The tables over all protocols, and those of single protocols, which are folded on the page."""

    shown: Sequence[Table]
    folded: Sequence[Table]


class AllScores(NamedTuple):
    """Every measure as a row, for each group of protocols; and every case and method as a row, main measures only."""

    measures: Sequence[Table]
    cases: Table


def means(found: Sequence[Statistic], scores: Sequence[Row]) -> Tables | None:
    """Tabulate the mean of every main measure, with its interval; None without scores."""
    if not scores:
        return None
    return _tables([s for s in found if not s.against], "Mean and 95 % t interval")


def differences(found: Sequence[Statistic]) -> list[Tables]:
    """Tabulate the paired differences, for each method that the others are compared with."""
    bases = ordered(s.against for s in found if s.against)
    return [
        _tables([s for s in found if s.against == base], f"Mean difference to {base}, pair by pair", signed=True)
        for base in sorted(bases, key=lambda base: base != CONSISTENT)
    ]


def case_table(rows: Sequence[Row]) -> Table | None:
    """Tabulate the scores of one case; None without scores."""
    if not rows:
        return None
    plain = [row for row in rows if row.axis == ""]
    metrics = [m for m in HEADLINE if any(row.metric == m for row in plain)]
    cells = {(row.method, row.metric): row.value for row in plain}
    lines = [
        (method, *(number(cells.get((method, metric)), metric) for metric in metrics))
        for method in ordered(row.method for row in rows)
    ]
    head = [head_cell(m, next(row.unit for row in plain if row.metric == m)) for m in metrics]
    return Table("Scores of this case", ("method", *head), lines, _marked(row.method for row in rows))


def all_scores(found: Sequence[Statistic], scores: Sequence[Row]) -> AllScores | None:
    """Tabulate every measure and every case; None without scores."""
    if not scores:
        return None
    own = [s for s in found if not s.against]
    pooled, single = _protocols(own)
    measures = [_every_measure([s for s in own if (s.factor, s.profile) == g], _named(g)) for g in pooled or single]
    plain = [row for row in scores if row.axis == ""]
    metrics = [m for m in HEADLINE if any(row.metric == m for row in plain)]
    values = {(row.case, row.method, row.metric): row.value for row in plain}
    pairs = dict.fromkeys((row.case, row.method) for row in scores)
    lines = [(case, method, *(number(values.get((case, method, m)), m) for m in metrics)) for case, method in pairs]
    head = ("case", "method", *(explained(m).title for m in metrics))
    return AllScores(measures, Table("Every case and method", head, lines, kind="wide"))


def head_cell(metric: str, unit: str = "", more: str = "") -> Cell:
    """Make the head of a metric's column: its title, which direction is good, its unit, and what else is given.

    >>> head_cell("psnr", "dB", "n 12")
    Cell(text='PSNR', small='higher is better · dB · n 12', bold=False)
    """
    known = explained(metric)
    parts = (known.hint, "" if unit in UNITS_NOT_SHOWN else unit, more)
    return Cell(known.title, " · ".join(part for part in parts if part))


def _protocols(found: Sequence[Statistic]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(factor, profile) of the pooled tables, simulated cases first, and of the single protocols."""
    groups = dict.fromkeys((s.factor, s.profile) for s in found)
    pooled = [group for group in groups if group[0] == POOLED]
    single = [group for group in groups if group[0] != POOLED]
    order = list(KINDS)
    pooled.sort(key=lambda group: order.index(group[1]) if group[1] in KINDS else len(order))
    return pooled, sorted(single, key=lambda group: (_as_number(group[0]), group[1]))


def _as_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _named(group: tuple[str, str]) -> str:
    factor, profile = group
    return KINDS.get(profile, profile) if factor == POOLED else f"{factor}× {profile}".strip(" ×")


def _tables(found: Sequence[Statistic], caption: str, signed: bool = False) -> Tables:
    """A table for each kind of cases, over all protocols; and one for each protocol."""
    pooled, single = _protocols(found)
    shown = [_table(found, g, f"{caption}, {_named(g)}; each scan counts once.", signed) for g in pooled]
    folded = [_table(found, group, f"{caption}, {_named(group)}.", signed) for group in single]
    if len(single) == 1:  # its own table would say the same again
        folded = []
    return Tables(shown, folded) if pooled else Tables(folded, [])


def _table(found: Sequence[Statistic], group: tuple[str, str], caption: str, signed: bool = False) -> Table:
    """Methods x main metrics of one protocol; signed: differences."""
    here = [s for s in found if (s.factor, s.profile) == group and s.axis == ""]
    metrics = [m for m in HEADLINE if any(s.metric == m for s in here)]
    cells = {(s.method, s.metric): s for s in here}
    most = {metric: max(s.n for s in here if s.metric == metric) for metric in metrics}
    rows = [
        (method, *(_with_interval(cells.get((method, metric)), metric, most[metric], signed) for metric in metrics))
        for method in ordered(s.method for s in here)
    ]
    units = {s.metric: s.unit for s in here}
    head = [head_cell(metric, units[metric], f"n {most[metric]}") for metric in metrics]
    return Table(caption, ("method", *head), rows, _marked(s.method for s in here))


def _marked(methods: Iterable[str]) -> set[str]:
    return {method for method in methods if method.startswith(GLADE)}


def _with_interval(statistic: Statistic | None, metric: str, most: int, signed: bool = False) -> str | Cell:
    """The mean with its interval, and the number of cases where it is below that of the column's head, `most`."""
    if statistic is None:
        return number(None)
    mean = number(statistic.mean, metric, signed)
    fewer = f"n {statistic.n}" if statistic.n < most else ""
    if not (np.isfinite(statistic.low) and np.isfinite(statistic.high)):
        return Cell(mean, fewer) if fewer else mean
    interval = f"{number(statistic.low, metric, signed)} to {number(statistic.high, metric, signed)}"
    p = f", p {statistic.p:.2g}" if np.isfinite(statistic.p) else ""
    sure = signed and statistic.n >= FEWEST_FOR_P and (statistic.low > 0 or statistic.high < 0)
    return Cell(mean, interval + p + (f", {fewer}" if fewer else ""), bold=sure)


def _every_measure(found: Sequence[Statistic], named: str) -> Table:
    methods = ordered(s.method for s in found)
    keys = dict.fromkeys((s.metric, s.axis, s.unit) for s in found)
    order = {metric: index for index, metric in enumerate(ordered_metrics(m for m, _, _ in keys))}
    cells = {(s.metric, s.axis, s.method): s.mean for s in found}
    rows = [
        (title_of(m, a, u), *(number(cells.get((m, a, method)), m) for method in methods))
        for m, a, u in sorted(keys, key=lambda key: (order[key[0]], key[1]))
    ]
    return Table(f"Means, {named}; axes are those of the array", ("measure", *methods), rows, kind="wide")
