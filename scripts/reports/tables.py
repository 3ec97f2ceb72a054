"""The tables of an evaluation's report: methods x measures, with intervals and paired differences."""

# ruff: noqa: RUF001, the page has typographic minus, dash and multiplication signs

from collections.abc import Iterable, Sequence

import numpy as np

from ..evaluation.scores import Row
from ..evaluation.statistics import FEWEST_FOR_P, POOLED, REAL, SIMULATED, Statistic
from .explained import CONSISTENT, GLADE, HEADLINE, explained, number, ordered, ordered_metrics, title_of
from .markup import Markup, details, element, joined, section, table

KINDS = {SIMULATED: "all simulated acquisitions", REAL: "all real scans", POOLED: "all protocols"}


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


def _headline(found: Sequence[Statistic]) -> list[str]:
    return [m for m in HEADLINE if any(s.metric == m and s.axis == "" for s in found)]


def means(found: Sequence[Statistic], scores: Sequence[Row]) -> Markup:
    """Mean of every main measure, with its interval."""
    if not scores:
        return section("means", "Means", element("p", "There are no scores: nothing was judged."))
    kept = [s for s in found if not s.against]
    return section("means", "Means", _tables(kept, "Mean and 95 % bootstrap interval"))


def _tables(found: Sequence[Statistic], caption: str, signed: bool = False) -> Markup:
    """The pooled tables, and folded under them one for each protocol."""
    pooled, single = _protocols(found)
    parts = [_table(found, g, f"{caption}, {_named(g)}; each scan counts once.", signed) for g in pooled]
    tables = [_table(found, group, f"{caption}, {_named(group)}.", signed) for group in single]
    if tables:
        parts += [details("Each protocol alone", *tables)] if pooled else tables
    return joined(parts)


def _table(found: Sequence[Statistic], group: tuple[str, str], caption: str, signed: bool = False) -> Markup:
    """Methods x main metrics, of one protocol; signed: differences."""
    here = [s for s in found if (s.factor, s.profile) == group and s.axis == ""]
    metrics = _headline(here)
    cells = {(s.method, s.metric): s for s in here}
    rows = [
        (method, *(_with_interval(cells.get((method, metric)), metric, signed) for metric in metrics))
        for method in ordered(s.method for s in here)
    ]
    head = []
    for metric in metrics:
        of_it = [s for s in here if s.metric == metric]
        head.append(_head(metric, of_it[0].unit, f"n {max(s.n for s in of_it)}"))
    return table(caption, ("method", *head), rows, _marked(s.method for s in here))


def _marked(methods: Iterable[str]) -> set[str]:
    return {method for method in methods if method.startswith(GLADE)}


def _head(metric: str, unit: str, count: str) -> Markup:
    known = explained(metric)
    hint = " · ".join(part for part in (known.hint, unit if unit not in ("", "1", "0-100") else "", count) if part)
    return joined(known.title, element("small", hint))


def _with_interval(statistic: Statistic | None, metric: str, signed: bool = False):
    if statistic is None:
        return number(None)
    mean = number(statistic.mean, metric, signed)
    if not (np.isfinite(statistic.low) and np.isfinite(statistic.high)):
        return mean
    interval = f"{number(statistic.low, metric, signed)} to {number(statistic.high, metric, signed)}"
    p = f", p {statistic.p:.2g}" if np.isfinite(statistic.p) else ""
    sure = signed and statistic.n >= FEWEST_FOR_P and (statistic.low > 0 or statistic.high < 0)
    return joined(element("b", mean) if sure else mean, element("small", interval + p))


def differences(found: Sequence[Statistic]) -> Markup | None:
    """The same of paired differences, for each method compared with."""
    bases = ordered(s.against for s in found if s.against)
    if not bases:
        return None
    words = "From six scans up: bold where the 95 % interval leaves out 0, and p of the Wilcoxon signed-rank test."
    parts = [element("p", words)]
    for base in sorted(bases, key=lambda base: base != CONSISTENT):
        paired = [s for s in found if s.against == base]
        parts.append(_tables(paired, f"Mean difference to {base}, pair by pair", signed=True))
    return section("differences", "Differences", *parts)


def case_table(rows: Sequence[Row]) -> Markup | None:
    """Scores of one case."""
    if not rows:
        return None
    plain = [row for row in rows if row.axis == ""]
    metrics = [m for m in HEADLINE if any(row.metric == m for row in plain)]
    cells = {(row.method, row.metric): row.value for row in plain}
    lines = [
        (method, *(number(cells.get((method, metric)), metric) for metric in metrics))
        for method in ordered(row.method for row in rows)
    ]
    head = [_head(m, next(row.unit for row in plain if row.metric == m), "") for m in metrics]
    return table("Scores of this case", ("method", *head), lines, _marked(row.method for row in rows))


def all_scores(found: Sequence[Statistic], scores: Sequence[Row]) -> Markup | None:
    """Every measure as a row, pooled; and every case as a row, for the main ones. Both folded."""
    if not scores:
        return None
    means = [s for s in found if not s.against]
    pooled, single = _protocols(means)
    every = [_every_measure([s for s in means if (s.factor, s.profile) == g], _named(g)) for g in pooled or single]
    plain = [row for row in scores if row.axis == ""]
    metrics = [m for m in HEADLINE if any(row.metric == m for row in plain)]
    values = {(row.case, row.method, row.metric): row.value for row in plain}
    pairs = dict.fromkeys((row.case, row.method) for row in scores)
    lines = [(case, method, *(number(values.get((case, method, m)), m) for m in metrics)) for case, method in pairs]
    head = ("case", "method", *(explained(m).title for m in metrics))
    cases = table("Every case and method", head, lines, kind="wide")
    return section("all-scores", "All scores", details("Every measure", *every), details("Every case", cases))


def _every_measure(means: Sequence[Statistic], named: str) -> Markup:
    methods = ordered(s.method for s in means)
    keys = dict.fromkeys((s.metric, s.axis, s.unit) for s in means)
    place = {metric: index for index, metric in enumerate(ordered_metrics(m for m, _, _ in keys))}
    cells = {(s.metric, s.axis, s.method): s.mean for s in means}
    rows = [
        (title_of(m, a, u), *(number(cells.get((m, a, method)), m) for method in methods))
        for m, a, u in sorted(keys, key=lambda key: (place[key[0]], key[1]))
    ]
    return table(f"Means, {named}; axes are those of the array", ("measure", *methods), rows, kind="wide")
