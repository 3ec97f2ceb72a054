"""Tidy scores, their means with bootstrap intervals, and paired differences against a named method."""

import csv
import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import bootstrap, wilcoxon

from ..geometry.errors import Refusal

CONFIDENCE_LEVEL = 0.95
RESAMPLES = 2000
FEWEST_FOR_P = 6  # cases: under that the smallest p-value of a signed-rank test is above 0.05
POOLED = "all"  # factor of what is pooled over protocols; its profile is the kind of the cases
AGAINST = " against "  # between the two scans in the name of a cross-plane case
SIMULATED, REAL = "simulated", "real"  # kinds of cases: with a truth, and without
HEADLINE = (  # of the printed summary, where they are not of one axis
    "psnr",
    "ssim",
    "high_band_energy",
    "high_band_error",
    "pique",
    "sharpness_closed",
    "residual",
    "cross_plane_correlation",
    "cross_plane_coherence",
)

logger = logging.getLogger(__name__)


class Row(NamedTuple):
    """One line of scores.csv."""

    case: str
    method: str
    factor: float | None
    profile: str | None
    metric: str
    axis: str
    value: float
    unit: str


class Origin(NamedTuple):
    """The scan that a case was made of, and its kind: "simulated", "real" or "all"."""

    source: str
    kind: str


class Statistic(NamedTuple):
    """One line of statistics.csv: a mean (`against` empty) or a mean paired difference method - against.

    `factor`, `profile`: of the protocol; "all" and the kind of the cases ("simulated", "real") where pooled.

    `low`, `high`: 95 % bootstrap interval of the mean, NaN for a single case. `p`: Wilcoxon signed-rank, two-sided,
    NaN under 6 cases. `n`: cases; where protocols are pooled, scans, each with the mean over its protocols.
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


def write_scores(rows: Iterable[Row], path: str | Path) -> Path:
    """Writes scores as tidy CSV; returns the path."""
    return _write(Row._fields, rows, path)


def read_scores(path: str | Path) -> list[Row]:
    """Scores from a tidy CSV.

    Raises:
        Refusal: if there is no such file, or its columns or numbers are others.
    """
    return [
        Row(
            **{
                **line,
                "value": _number(line["value"], path),
                "factor": _number(line["factor"], path) if line["factor"] else None,
            }
        )
        for line in _read(Row._fields, path)
    ]


def read_statistics(path: str | Path) -> list[Statistic]:
    """Statistics from the CSV that `Statistics` writes; an empty cell is NaN.

    Raises:
        Refusal: as `read_scores`.
    """
    numbers = ("mean", "low", "high", "p")
    return [
        Statistic(
            **{**line, "n": int(_number(line["n"], path))}
            | {key: _number(line[key], path) if line[key] else math.nan for key in numbers}
        )
        for line in _read(Statistic._fields, path)
    ]


def statistics(
    rows: Sequence[Row], against: Sequence[str] = (), origins: Mapping[str, Origin] | None = None
) -> list[Statistic]:
    """Means and paired differences, for each factor and profile and pooled over them.

    Several acquisitions of one scan are not independent: where they are pooled, each scan counts once, with its mean.
    Real scans each have a factor of their own and are pooled only. Values that are not finite (an identical volume's
    PSNR) are left out.

    Args:
        rows: scores.
        against: methods that every other is compared with, pair by pair.
        origins: case -> where it comes from; by default every case is a scan of its own, all of one kind.
    """
    groups: dict[tuple, dict[str, dict[str, list]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in rows:
        if not math.isfinite(row.value):
            continue
        what = (row.metric, row.axis, row.unit)
        origin = (origins or {}).get(row.case, Origin(row.case, POOLED if origins is None else REAL))
        groups[*what, POOLED, origin.kind][row.method][origin.source].append(row.value)
        if origin.kind != REAL:
            factor = "" if row.factor is None else f"{row.factor:.4g}"
            groups[*what, factor, row.profile or ""][row.method][row.case].append(row.value)
    made = []
    for key, methods in groups.items():
        means = {m: {case: float(np.mean(v)) for case, v in cases.items()} for m, cases in methods.items()}
        made += [_statistic(key, method, "", list(cases.values())) for method, cases in means.items()]
        for base in against:
            for method, cases in means.items():
                both = [case for case in cases if case in means.get(base, {})]
                if method != base and both:
                    made.append(_statistic(key, method, base, [cases[c] - means[base][c] for c in both]))
    return made


class Statistics:
    """Reads OUT/scores.csv, writes OUT/statistics.csv and logs a summary.

    Args:
        record: of the evaluation, for its folder and the scans that cases come from.
        against: methods to compare every other with.
    """

    def __init__(self, record, against: Sequence[str]):
        self.record, self.against = record, [against] if isinstance(against, str) else list(against)

    def run(self) -> None:
        """Writes the file and logs the table, where there are scores."""
        folder = Path(self.record.output_dir)
        if not (folder / "scores.csv").is_file():
            return
        rows = read_scores(folder / "scores.csv")
        origins = {
            case: Origin(row["source"], SIMULATED if row["truth"] else REAL) for case, row in self.record.rows.items()
        }
        for case in {row.case for row in rows} - set(origins):  # pairs of scans count once for each judged scan
            origins[case] = Origin(case.partition(AGAINST)[0], REAL)
        unknown = set(self.against) - {row.method for row in rows}
        if unknown and rows:
            self.record.problem(f"against: there are no scores of {', '.join(sorted(unknown))}")
        found = statistics(rows, self.against, origins)
        _write(Statistic._fields, found, folder / "statistics.csv")
        logger.info("\n%s", summary_table(found))


def summary_table(found: Sequence[Statistic]) -> str:
    """Means of the main metrics as lines of text: a block for each factor and profile, a line a method."""
    lines = []
    means = [s for s in found if not s.against and s.metric in HEADLINE and s.axis == ""]
    groups = dict.fromkeys((s.factor, s.profile) for s in means)
    for factor, profile in sorted(groups, key=lambda group: (group[0] == POOLED, group)):
        block = [s for s in means if (s.factor, s.profile) == (factor, profile)]
        metrics = [m for m in HEADLINE if any(s.metric == m for s in block)]
        table = {(s.method, s.metric): s for s in block}
        count = max(s.n for s in block)
        title = f"{profile}, pooled" if factor == POOLED else f"{factor}x {profile}".strip()
        lines.append(f"{title + f' (n {count})':<34}" + "".join(f"{_short(metric):>19}" for metric in metrics))
        for method in dict.fromkeys(s.method for s in block):
            cells = [table.get((method, metric)) for metric in metrics]
            lines.append(f"  {method:<32}" + "".join(f"{'-' if c is None else f'{c.mean:.4g}':>19}" for c in cells))
    return "\n".join(lines)


def _short(metric: str) -> str:
    return metric.replace("cross_plane", "cross").replace("_", " ")


def _statistic(key: tuple, method: str, against: str, values: Sequence[float]) -> Statistic:
    values = np.asarray(values, dtype=float)
    low, high = _interval(values)
    p = _p_value(values) if against else math.nan
    return Statistic(*key, method, against, len(values), float(values.mean()), low, high, p)


def _interval(values: np.ndarray) -> tuple[float, float]:
    """Percentile bootstrap: defined for any values, unlike the bias-corrected one, and as good for so few."""
    if len(values) < 2:
        return math.nan, math.nan
    found = bootstrap(
        (values,),
        np.mean,
        confidence_level=CONFIDENCE_LEVEL,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def _p_value(differences: np.ndarray) -> float:
    if len(differences) < FEWEST_FOR_P or not differences.any():
        return math.nan
    return float(wilcoxon(differences).pvalue)


def _read(fields: Sequence[str], path: str | Path) -> list[dict[str, str]]:
    path = Path(path)
    if not path.is_file():
        raise Refusal(f"{path.name}: there is no such file: run the evaluation first")
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != tuple(fields):
            raise Refusal(f"{path.name}: the columns must be {', '.join(fields)}")
        lines = list(reader)
    if any(None in line or None in line.values() for line in lines):
        raise Refusal(f"{path.name}: a line has more or fewer cells than columns: write it anew")
    return lines


def _number(text: str, path: str | Path) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise Refusal(f"{Path(path).name}: {text!r} stands where a number belongs") from error


def _write(fields: Sequence[str], rows: Iterable[NamedTuple], path: str | Path) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(fields)
        writer.writerows([_cell(value) for value in row] for row in rows)
    return path


def _cell(value):
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return repr(value) if isinstance(value, float) else value
