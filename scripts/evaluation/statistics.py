"""Statistics of the scores: means with t intervals, and paired differences against chosen methods."""

import logging
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import ttest_1samp, wilcoxon

from ..geometry.errors import Refusal
from .record import EvaluationRecord
from .scores import Row, Scores, number, read_table, write_table

CONFIDENCE_LEVEL = 0.95
FEWEST_FOR_P = 6  # cases: with fewer, the smallest p-value of a signed-rank test is above 0.05
POOLED = "all"  # the factor of what is pooled over protocols; its profile is then the kind of the cases
AGAINST = " against "  # between the two scans in the name of a cross-plane case
SIMULATED, REAL = "simulated", "real"  # kinds of cases: with a true volume, and without
HEADLINE = (  # the main metrics: of the printed summary and the columns of the report, in this order
    "psnr",
    "ssim",
    "high_band_energy",
    "high_band_error",
    "pique",
    "sharpness_closed",
    "spectrum_closed",
    "residual",
    "cross_plane_correlation",
    "cross_plane_coherence",
)

logger = logging.getLogger(__name__)


class Origin(NamedTuple):
    """The scan that a case comes from, and its kind: "simulated", "real" or "all"."""

    source: str
    kind: str


class Statistic(NamedTuple):
    """One line of statistics.csv: a mean (`against` empty), or a mean paired difference, method minus `against`.

    Attributes:
        metric: what was measured.
        axis: array axis that the values belong to; "" for none.
        unit: of the values; "1" for none.
        factor: of the protocol; "all" where protocols are pooled.
        profile: of the protocol; the kind of the cases, "simulated" or "real", where protocols are pooled.
        method: whose results were measured.
        against: the method that it is compared with; "" for a mean.
        n: number of cases; where protocols are pooled, of scans, each with the mean over its protocols.
        mean: of the values or of the differences.
        low: lower end of the 95 % t interval of the mean; NaN for a single case.
        high: upper end of it.
        p: of the two-sided Wilcoxon signed-rank test; NaN for a mean, and for fewer than 6 cases.
    """

    metric: str
    axis: str
    unit: str
    factor: str
    profile: str
    method: str
    against: str
    n: int
    mean: float
    low: float
    high: float
    p: float


def read_statistics(path: str | Path) -> list[Statistic]:
    """Read statistics from the CSV file that `Statistics` writes; an empty cell is NaN.

    Raises:
        Refusal: if there is no such file, or its columns or numbers are not those of statistics.
    """
    numbers = ("mean", "low", "high", "p")
    return [
        Statistic(
            **{**line, "n": int(number(line["n"], path))}
            | {key: number(line[key], path) if line[key] else math.nan for key in numbers}
        )
        for line in read_table(Statistic._fields, path)
    ]


def statistics(
    rows: Sequence[Row], against: Sequence[str] = (), origins: Mapping[str, Origin] | None = None
) -> list[Statistic]:
    """Return means and paired differences, for each factor and profile and pooled over them.

    Several acquisitions of one scan are not independent: where they are pooled, each scan counts once, with its mean.
    Differences are taken case by case, before they are pooled: only cases that both methods have count.
    Real scans differ in factor, so they are pooled only. Values that are not finite (the PSNR of an identical volume)
    are left out.

    Args:
        rows: scores.
        against: methods that every other method is compared with, case by case.
        origins: case -> where it comes from; by default every case is a scan of its own, all of one kind.

    >>> rows = [Row(case, "GLADE", 4.0, "rect", "psnr", "", psnr, "dB") for case, psnr in (("a", 30.0), ("b", 32.0))]
    >>> [(found.factor, found.n, found.mean) for found in statistics(rows)]
    [('all', 2, 31.0), ('4', 2, 31.0)]
    """
    groups: dict[tuple, dict[str, dict[str, list]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    sources = {}
    for row in rows:
        if not math.isfinite(row.value):
            continue
        what = (row.metric, row.axis, row.unit)
        origin = (origins or {}).get(row.case, Origin(row.case, POOLED if origins is None else REAL))
        sources[row.case] = origin.source
        groups[*what, POOLED, origin.kind][row.method][row.case].append(row.value)
        if origin.kind != REAL:
            factor = "" if row.factor is None else f"{row.factor:.4g}"
            groups[*what, factor, row.profile or ""][row.method][row.case].append(row.value)
    made = []
    for key, methods in groups.items():
        scan_of = sources if key[-2] == POOLED else {}  # of one protocol each case is a scan
        means = {m: {case: float(np.mean(v)) for case, v in cases.items()} for m, cases in methods.items()}
        made += [_statistic(key, method, "", _by_scan(cases, scan_of)) for method, cases in means.items()]
        for base in against:
            for method, cases in means.items():
                both = {case: cases[case] - means[base][case] for case in cases if case in means.get(base, {})}
                if method != base and both:
                    made.append(_statistic(key, method, base, _by_scan(both, scan_of)))
    return made


def _by_scan(cases: Mapping[str, float], scan_of: Mapping[str, str]) -> list[float]:
    """The mean over the cases of each scan; a case that is not in `scan_of` is a scan of its own."""
    values: dict[str, list[float]] = defaultdict(list)
    for case, value in cases.items():
        values[scan_of.get(case, case)].append(value)
    return [float(np.mean(own)) for own in values.values()]


class Statistics:
    """Step that writes OUT/statistics.csv and logs a summary of it.

    Args:
        record: of the evaluation, for the scans that the cases come from.
        scores: all scores of the evaluation.
        against: methods to compare every other method with, or one.

    Raises:
        Refusal: if `against` is not a list of names.
    """

    def __init__(self, record: EvaluationRecord, scores: Scores, against: Sequence[str] | str):
        against = [against] if isinstance(against, str) else against
        if not isinstance(against, Sequence) or not all(isinstance(name, str) for name in against):
            raise Refusal(f"against must be a list of names of methods, got {against!r}")
        self.record, self.scores, self.against = record, scores, list(against)

    def run(self) -> None:
        """Write the file and log the table, where there are scores."""
        rows = self.scores.rows
        if not rows:
            self.record.folder.statistics.unlink(missing_ok=True)  # of an earlier call
            return
        origins = {
            case.name: Origin(case.source, SIMULATED if case.truth else REAL) for case in self.record.cases.values()
        }
        for name in {row.case for row in rows} - set(origins):  # pairs of scans: each evaluated scan counts once
            origins[name] = Origin(name.partition(AGAINST)[0], REAL)
        unknown = set(self.against) - {row.method for row in rows}
        if unknown:
            self.record.problem(f"against: there are no scores of {', '.join(sorted(unknown))}")
        found = statistics(rows, self.against, origins)
        write_table(Statistic._fields, found, self.record.folder.statistics)
        logger.info("\n%s", summary_table(found))


def summary_table(found: Sequence[Statistic]) -> str:
    """Return the means of the main metrics as text: a block for each factor and profile, a line for each method.

    A mean over fewer cases than the block's largest number has its own n beside it.
    """
    lines = []
    means = [s for s in found if not s.against and s.metric in HEADLINE and s.axis == ""]
    groups = {(s.factor, s.profile) for s in means}
    if sum(factor != POOLED for factor, _ in groups) == 1:  # pooled, it would be the same numbers again
        groups -= {(POOLED, SIMULATED), (POOLED, POOLED)}
    for factor, profile in sorted(groups, key=lambda group: (group[0] == POOLED, group)):
        block = [s for s in means if (s.factor, s.profile) == (factor, profile)]
        metrics = [m for m in HEADLINE if any(s.metric == m for s in block)]
        table = {(s.method, s.metric): s for s in block}
        count = max(s.n for s in block)
        title = f"{profile}, pooled" if factor == POOLED else f"{factor}x {profile}".strip()
        lines.append(f"{title + f' (n {count})':<34}" + "".join(f"{_short(metric):>19}" for metric in metrics))
        for method in dict.fromkeys(s.method for s in block):
            cells = [table.get((method, metric)) for metric in metrics]
            texts = ["-" if c is None else f"{c.mean:.4g}" + (f" (n {c.n})" if c.n < count else "") for c in cells]
            lines.append(f"  {method:<32}" + "".join(f"{text:>19}" for text in texts))
    return "\n".join(lines)


def _short(metric: str) -> str:
    return metric.replace("cross_plane", "cross").replace("_", " ")


def _statistic(key: tuple, method: str, against: str, values: Sequence[float]) -> Statistic:
    values = np.asarray(values, dtype=float)
    low, high = _interval(values)
    p = _p_value(values) if against else math.nan
    return Statistic(*key, method, against, len(values), float(values.mean()), low, high, p)


def _interval(values: np.ndarray) -> tuple[float, float]:
    """Student's t interval of the mean: for few cases a bootstrap interval is far too narrow."""
    if len(values) < 2:
        return math.nan, math.nan
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    found = ttest_1samp(values, 0).confidence_interval(CONFIDENCE_LEVEL)
    return float(found.low), float(found.high)


def _p_value(differences: np.ndarray) -> float:
    if len(differences) < FEWEST_FOR_P or not differences.any():
        return math.nan
    return float(wilcoxon(differences).pvalue)
