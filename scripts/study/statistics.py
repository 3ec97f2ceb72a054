"""Statistics of a readers' study: means, paired tests between methods, agreement between and within readers."""

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import wilcoxon

from .agreement import icc_2_1, repeatability, weighted_kappa
from .answers import Rating
from .reader_study import LEVELS

FEWEST_FOR_P = 6  # pairs that differ; with fewer, the smallest p-value of a signed-rank test is above 0.06
UNITS = ("case", "image")  # pairs are means over a case's images, or single images; both over all readers
POINTS = "points"
ALL_PAIRS = "all pairs"  # of readers


class Statistic(NamedTuple):
    """One line of study_statistics.csv; entries that do not apply are empty.

    `measure`: mean, sd (over ratings, n), level_1 to level_5 (shares of the ratings), difference and p (method minus
    against, over n cases or images), kappa (two readers, or the mean over all pairs), icc_2_1 (all readers), and of
    each reader's duplicates same, within_one, again_kappa. `value`: empty where it is not defined.
    """

    measure: str
    question: str
    method: str
    against: str
    reader: str
    unit: str
    n: int
    value: float


def statistics(ratings: Sequence[Rating], methods: Sequence[str], questions: Sequence[str]) -> list[Statistic]:
    """Compute all statistics of a study; duplicates are used only for the repeatability of each reader.

    Args:
        ratings: of all readers.
        methods: in the order of the tables.
        questions: their ids, in the order of the tables.
    """
    found = []
    for question in questions:
        asked = [rating for rating in ratings if rating.question == question]
        first = [rating for rating in asked if not rating.duplicate_of]
        found += _means(first, question, methods)
        found += [s for pair in itertools.combinations(methods, 2) for s in _paired(first, question, *pair)]
        found += _between_readers(first, question)
        found += _within_readers(asked, question)
    return found


def _means(ratings: Sequence[Rating], question: str, methods: Sequence[str]) -> list[Statistic]:
    found = []
    for method in methods:
        own = [r for r in ratings if r.method == method]
        values = np.array([r.value for r in own], dtype=float)
        key, n = (question, method, ""), len(values)
        found.append(Statistic("mean", *key, "", POINTS, n, float(values.mean()) if n else math.nan))
        found.append(Statistic("sd", *key, "", POINTS, n, float(values.std(ddof=1)) if n > 1 else math.nan))
        for level, count in sorted(Counter(r.value for r in own).items()):
            found.append(Statistic(f"level_{level}", *key, "", "share", n, count / n))
        for reader in sorted({r.reader for r in own}):
            marks = [r.value for r in own if r.reader == reader]
            found.append(Statistic("mean", *key, reader, POINTS, len(marks), float(np.mean(marks))))
    return found


def _paired(ratings: Sequence[Rating], question: str, base: str, method: str) -> list[Statistic]:
    """Differences method - base, over cases and over images; planes of one case are not independent."""
    found = []
    for unit in UNITS:
        marks: dict = defaultdict(lambda: defaultdict(dict))
        for r in ratings:
            marks[r.case if unit == "case" else (r.case, r.plane)][r.reader, r.plane][r.method] = r.value
        pairs = []
        for shown in marks.values():
            both = [m[method] - m[base] for m in shown.values() if method in m and base in m]
            if both:
                pairs.append(float(np.mean(both)))
        difference = float(np.mean(pairs)) if pairs else math.nan
        key = (question, method, base, "", unit, len(pairs))
        found += [Statistic("difference", *key, difference), Statistic("p", *key, _p_value(pairs))]
    return found


def _p_value(differences: Sequence[float]) -> float:
    """Two-sided p of Wilcoxon's signed-rank test; NaN where fewer than 6 pairs differ."""
    differing = [d for d in differences if d]
    return math.nan if len(differing) < FEWEST_FOR_P else float(wilcoxon(differing).pvalue)


def _by_item(ratings: Iterable[Rating]) -> dict[str, dict[str, int]]:
    table: dict = defaultdict(dict)
    for r in ratings:
        table[r.reader][r.item] = r.value
    return dict(sorted(table.items()))


def _between_readers(ratings: Sequence[Rating], question: str) -> list[Statistic]:
    table, found, kappas = _by_item(ratings), [], []
    for one, two in itertools.combinations(table, 2):
        items = [item for item in table[one] if item in table[two]]
        kappa = weighted_kappa([table[one][i] for i in items], [table[two][i] for i in items], LEVELS)
        kappas.append(kappa)
        found.append(Statistic("kappa", question, "", "", f"{one}, {two}", "", len(items), kappa))
    if kappas:
        shared = set.intersection(*(set(marks) for marks in table.values()))
        items = [item for item in next(iter(table.values())) if item in shared]
        icc = icc_2_1(np.array([[marks[i] for marks in table.values()] for i in items]))
        defined = [kappa for kappa in kappas if not math.isnan(kappa)]
        mean = float(np.mean(defined)) if defined else math.nan
        found.append(Statistic("kappa", question, "", "", ALL_PAIRS, "", len(defined), mean))
        found.append(Statistic("icc_2_1", question, "", "", "all", "", len(items), icc))
    return found


def _within_readers(ratings: Sequence[Rating], question: str) -> list[Statistic]:
    found, table = [], _by_item(ratings)
    again = {r.item: r.duplicate_of for r in ratings if r.duplicate_of}
    for reader, marks in table.items():
        pairs = [(marks[one], marks[two]) for two, one in again.items() if one in marks and two in marks]
        if pairs:
            agreement = repeatability(*zip(*pairs, strict=True), LEVELS)
            for measure, name in (("same", "same"), ("within_one", "within_one"), ("again_kappa", "kappa")):
                unit = "" if name == "kappa" else "share"
                found.append(Statistic(measure, question, "", "", reader, unit, agreement["n"], agreement[name]))
    return found
