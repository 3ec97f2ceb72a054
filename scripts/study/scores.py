"""The scores of a readers' study as CSV files and a page: means as in the paper's Table 2, paired tests, agreement."""

import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from ..evaluation.scores import read_table, write_table
from ..geometry.errors import Refusal
from ..geometry.files import write_json, write_text
from ..reports.pages import Cell, render
from .answers import Answers, Rating, read_answers, read_key
from .reader_study import LEVELS
from .statistics import ALL_PAIRS, FEWEST_FOR_P, Statistic, statistics

SCORES, STATISTICS, RECORD, PAGE = "study_scores.csv", "study_statistics.csv", "study_scores.json", "study_scores.html"
TITLE = "Scores of a readers' study"
PER_CENT = 100

logger = logging.getLogger(__name__)


class StudyScores:
    """Score a study: read the sealed key and the readers' files, write two CSV files and a page.

    Args:
        study_dir: STUDY, with key.json.
        answers: folder of the readers' files, or one of them.
        allow_incomplete: whether incomplete files are scored and unusable ones left out, as in `read_answers`.
    """

    def __init__(self, study_dir: str | Path, answers: str | Path, allow_incomplete: bool):
        self.study_dir, self.answers, self.allow_incomplete = Path(study_dir), Path(answers), allow_incomplete

    def write(self) -> Path:
        """Write STUDY/study_scores.csv, study_statistics.csv and study_scores.html; return the page's path.

        Raises:
            Refusal: if the key or the answers cannot be used.
        """
        key = read_key(self.study_dir)
        answers: Answers = read_answers(self.answers, key, self.allow_incomplete)
        found = statistics(answers.ratings, key["methods"], list(key["questions"]))
        write_table(Rating._fields, answers.ratings, self.study_dir / SCORES)
        write_table(Statistic._fields, found, self.study_dir / STATISTICS)
        record = {
            "study": key["study"],
            "view": key["view"],
            "readers": sorted({rating.reader for rating in answers.ratings}),
            "cases": sorted({item["case"] for item in key["items"]}),
            "images": sum(item["duplicate_of"] is None for item in key["items"]),
            "duplicates": sum(item["duplicate_of"] is not None for item in key["items"]),
            "methods": key["methods"],
            "questions": {name: question["title"] for name, question in key["questions"].items()},
            "left_out": list(answers.left_out),
        }
        write_json(self.study_dir / RECORD, record)
        write_text(
            self.study_dir / PAGE, render("study_scores.html", title=TITLE, study=scores_section(self.study_dir))
        )
        for name, title in record["questions"].items():
            for method in record["methods"]:
                mean, sd = (_value(found, m, question=name, method=method, reader="") for m in ("mean", "sd"))
                logger.info("%s: %s: %s", title, method, _mean_and_sd(mean, sd))
        logger.info("%d readers; see %s", len(record["readers"]), self.study_dir / PAGE)
        return self.study_dir / PAGE


class Bar(NamedTuple):
    """The share of one level among the ratings: left edge and width of its bar, in per cent."""

    level: int
    left: float
    width: float


class Mark(NamedTuple):
    """The ratings of one method for one question: mean and SD, and the share of each level."""

    mean_and_sd: str
    shares_in_words: str
    bars: Sequence[Bar]


class Pair(NamedTuple):
    """One line of the paired differences, as it is shown."""

    question: str
    method: str
    against: str
    difference: str
    number_of_pairs: str
    p: str


@dataclass(frozen=True)
class StudySection:
    """The scores of a study as the template study_section.html shows them.

    Attributes:
        extent: numbers of readers, cases and images.
        levels: of the scale.
        questions: their titles.
        marks: method and, for each question, its mark.
        pairs: paired differences.
        agreement: title and, for each question, a cell or None.
        left_out: files that were not scored, each with its reason.
    """

    extent: str
    levels: int
    questions: Sequence[str]
    marks: Sequence[tuple[str, Sequence[Mark]]]
    pairs: Sequence[Pair]
    agreement: Sequence[tuple[str, Sequence[Cell | None]]]
    left_out: Sequence[str]


def scores_section(study_dir: str | Path) -> StudySection:
    """Read the scores of a study for its own page or for a section of an evaluation's report.

    Args:
        study_dir: STUDY, after `run study_scores`.

    Raises:
        Refusal: if the study has no scores yet.
    """
    folder = Path(study_dir)
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        lines = read_table(Statistic._fields, folder / STATISTICS)
        rows = [Statistic(**{**line, "n": int(line["n"]), "value": float(line["value"] or "nan")}) for line in lines]
    except (Refusal, OSError, ValueError, KeyError, TypeError) as error:
        raise Refusal(f"{folder}: there are no scores of a readers' study: run study_scores first") from error
    questions = record["questions"]
    return StudySection(
        extent=f"{len(record['readers'])} readers, {len(record['cases'])} cases, {record['images']} {record['view']} "
        f"images, {record['duplicates']} of them shown twice",
        levels=LEVELS,
        questions=list(questions.values()),
        marks=[(method, [_mark(rows, name, method) for name in questions]) for method in record["methods"]],
        pairs=[_pair(rows, row, questions) for row in rows if row.measure == "difference"],
        agreement=_agreement(rows, questions, record["readers"]),
        left_out=record["left_out"],
    )


def _mark(rows: Sequence[Statistic], question: str, method: str) -> Mark:
    mean, sd = (_value(rows, m, question=question, method=method, reader="") for m in ("mean", "sd"))
    shares = [_value(rows, f"level_{level}", question=question, method=method) for level in range(1, LEVELS + 1)]
    given = [(level, PER_CENT * share) for level, share in enumerate(shares, start=1) if share > 0]
    lefts = accumulate((width for _, width in given), initial=0.0)
    bars = [Bar(level, left, width) for (level, width), left in zip(given, lefts, strict=False)]
    return Mark(_mean_and_sd(mean, sd), ", ".join(f"{bar.level}: {bar.width:.0f} %" for bar in bars), bars)


def _pair(rows: Sequence[Statistic], row: Statistic, questions: Mapping[str, str]) -> Pair:
    p = _value(rows, "p", question=row.question, method=row.method, against=row.against, unit=row.unit)
    shown = f"no p: fewer than {FEWEST_FOR_P} differ" if math.isnan(p) else f"{p:.2g}"
    difference, count = _number(row.value, "+.2f"), f"{row.n} {row.unit}s"
    return Pair(questions[row.question], row.method, row.against, difference, count, shown)


def _agreement(
    rows: Sequence[Statistic], questions: Mapping[str, str], readers: Sequence[str]
) -> list[tuple[str, list[Cell | None]]]:
    """Agreement between readers, then of each reader with his or her own ratings; lines without values are left out."""
    pairs_of = dict.fromkeys(row.reader for row in rows if row.measure == "kappa")
    wanted = [("kappa", r, f"Weighted kappa, {'mean of ' if r == ALL_PAIRS else ''}{r}") for r in pairs_of]
    wanted += [("icc_2_1", "all", "ICC(2,1), all readers")]
    for reader in readers:
        for measure, what in (("same", "same mark"), ("within_one", "within one"), ("again_kappa", "weighted kappa")):
            wanted.append((measure, reader, f"{reader}, images shown twice: {what}"))
    lines = []
    for measure, reader, title in wanted:
        found = [[r for r in rows if (r.measure, r.question, r.reader) == (measure, q, reader)] for q in questions]
        form = ".0%" if measure in ("same", "within_one") else ".2f"
        unit = " pairs" if reader == ALL_PAIRS else ""
        if any(found):
            cells = [Cell(_number(f[0].value, form), f"n {f[0].n}{unit}") if f else None for f in found]
            lines.append((title, cells))
    return lines


def _value(rows: Iterable[Statistic], measure: str, **where: str) -> float:
    for row in rows:
        if row.measure == measure and all(getattr(row, name) == value for name, value in where.items()):
            return row.value
    return math.nan


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def _mean_and_sd(mean: float, sd: float) -> str:
    return f"{_number(mean, '.2f')} \u00b1 {_number(sd, '.2f')}"
