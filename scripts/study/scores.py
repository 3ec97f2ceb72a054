"""The scores of a readers' study: means as in the paper's Table 2, paired tests, agreement; CSV files and a page."""

import csv
import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from ..geometry.errors import Refusal
from ..geometry.files import write_text
from .answers import Answers, Rating, read_answers, read_key
from .reader_study import LEVELS
from .statistics import FEWEST_FOR_P, Statistic, statistics

SCORES, STATISTICS, RECORD, PAGE = "study_scores.csv", "study_statistics.csv", "study_scores.json", "study_scores.html"

logger = logging.getLogger(__name__)


class StudyScores:
    """Scores a study: reads the sealed key and the readers' files, writes two CSV files and a page.

    Args:
        study_dir: STUDY, with key.json.
        answers: folder of the readers' files, or one of them.
        allow_incomplete: as in `read_answers`.
    """

    def __init__(self, study_dir: str | Path, answers: str | Path, allow_incomplete: bool):
        self.study_dir, self.answers, self.allow_incomplete = Path(study_dir), Path(answers), allow_incomplete

    def write(self) -> Path:
        """Writes STUDY/study_scores.csv, study_statistics.csv and study_scores.html; returns the page's path.

        Raises:
            Refusal: if the key or the answers cannot be used.
        """
        key = read_key(self.study_dir)
        answers: Answers = read_answers(self.answers, key, self.allow_incomplete)
        found = statistics(answers.ratings, key["methods"], list(key["questions"]))
        _write_csv(self.study_dir / SCORES, Rating._fields, answers.ratings)
        _write_csv(self.study_dir / STATISTICS, Statistic._fields, found)
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
        write_text(self.study_dir / RECORD, json.dumps(record, indent=1) + "\n")
        write_text(self.study_dir / PAGE, SHELL.format(section=scores_section(self.study_dir)))
        for name, title in record["questions"].items():
            for method in record["methods"]:
                mean, sd = (_value(found, m, question=name, method=method, reader="") for m in ("mean", "sd"))
                logger.info("%s: %s: %s", title, method, _mean_and_sd(mean, sd))
        logger.info("%d readers; see %s", len(record["readers"]), self.study_dir / PAGE)
        return self.study_dir / PAGE


def _write_csv(path: Path, fields: Sequence[str], rows: Iterable[Sequence]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(fields)
        writer.writerows([_cell(value) for value in row] for row in rows)


def _cell(value):
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return repr(value) if isinstance(value, float) else value


def scores_section(study_dir: str | Path) -> str:
    """The scores of a study as a fragment of HTML, with its own style: for a report, or a page of its own.

    Args:
        study_dir: STUDY, after `run study_scores`.

    Raises:
        Refusal: if the study is not scored yet.
    """
    folder = Path(study_dir)
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        with (folder / STATISTICS).open(newline="", encoding="utf-8") as file:
            rows = [
                Statistic(**{**r, "n": int(r["n"]), "value": float(r["value"] or "nan")}) for r in csv.DictReader(file)
            ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refusal(f"{folder}: the study is not scored: run study_scores first") from error
    return _section(record, rows)


def _section(record: Mapping, rows: Sequence[Statistic]) -> str:
    questions, methods = record["questions"], record["methods"]
    ends = [
        f"{len(record['readers'])} readers, {len(record['cases'])} cases, {record['images']} {record['view']} images",
        f"{record['duplicates']} of them twice; blinded, in an order made by chance.",
    ]
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in questions.values())
    body = "".join(
        f'<tr><th scope="row">{escape(method)}</th>'
        + "".join(f"<td>{_mark(rows, name, method)}</td>" for name in questions)
        + "</tr>"
        for method in methods
    )
    parts = [
        f"<p>{', '.join(ends)} Marks from 1 (poor) to {LEVELS} (excellent): mean &plusmn; SD over all ratings.</p>",
        f'<table><thead><tr><th scope="col"></th>{head}</tr></thead><tbody>{body}</tbody></table>',
        _pairs_table(rows, questions),
        _agreement_table(rows, questions, record["readers"]),
    ]
    if record["left_out"]:
        lines = "".join(f"<li>{escape(line)}</li>" for line in record["left_out"])
        parts.append(f"<p>Left out:</p><ul>{lines}</ul>")
    return f'<section class="study">{STYLE}<h2>Readers&rsquo; study</h2>{"".join(parts)}</section>'


def _mark(rows: Sequence[Statistic], question: str, method: str) -> str:
    """Mean and SD, and a bar of the shares of the five levels, the worst on the left."""
    mean, sd = (_value(rows, m, question=question, method=method, reader="") for m in ("mean", "sd"))
    shares = [_value(rows, f"level_{level}", question=question, method=method) for level in range(1, LEVELS + 1)]
    bars, left = [], 0.0
    for level, share in enumerate(shares, start=1):
        width = 0.0 if math.isnan(share) else 100 * share
        if width:
            box = f'<rect class="study-{level}" x="{left:.2f}" width="{width:.2f}" height="10">'
            bars.append(f"{box}<title>{level}: {width:.0f} %</title></rect>")
        left += width
    said = ", ".join(f"{level}: {100 * s:.0f} %" for level, s in enumerate(shares, start=1) if not math.isnan(s))
    chart = f'<svg viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label="{said}">{"".join(bars)}</svg>'
    return f"{_mean_and_sd(mean, sd)}{chart}"


def _pairs_table(rows: Sequence[Statistic], questions: Mapping[str, str]) -> str:
    lines = []
    for row in rows:
        if row.measure == "difference":
            place = {"question": row.question, "method": row.method, "against": row.against, "unit": row.unit}
            p = _value(rows, "p", **place)
            shown = f"{p:.2g}" if not math.isnan(p) else f"no p: fewer than {FEWEST_FOR_P} differ"
            lines.append(
                f"<tr><td>{escape(questions[row.question])}</td>"
                f'<th scope="row">{escape(row.method)} &minus; {escape(row.against)}</th>'
                f"<td>{_number(row.value, '+.2f')}</td><td>{row.n} {row.unit}s</td><td>{shown}</td></tr>"
            )
    head = "".join(f'<th scope="col">{title}</th>' for title in ("", "pair", "difference", "pairs", "p"))
    note = (
        "<p>p: Wilcoxon&rsquo;s signed-rank test, two-sided, not corrected. Images of one case are not independent: "
        "the line over cases is the one to quote.</p>"
    )
    return (
        f"<h3>Paired differences</h3><table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>{note}"
    )


def _agreement_table(rows: Sequence[Statistic], questions: Mapping[str, str], readers: Sequence[str]) -> str:
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in questions.values())
    pairs_of = dict.fromkeys(row.reader for row in rows if row.measure == "kappa")
    wanted = [("kappa", r, f"Weighted kappa, {'mean of ' if r == 'all pairs' else ''}{r}") for r in pairs_of]
    wanted += [("icc_2_1", "all", "ICC(2,1), all readers")]
    for reader in readers:
        for measure, what in (("same", "same mark"), ("within_one", "within one"), ("again_kappa", "weighted kappa")):
            wanted.append((measure, reader, f"{reader} with oneself: {what}"))
    lines = []
    for measure, reader, title in wanted:
        found = [[r for r in rows if (r.measure, r.question, r.reader) == (measure, q, reader)] for q in questions]
        if any(found):
            percent, pairs = measure in ("same", "within_one"), " pairs" if reader == "all pairs" else ""
            cells = "".join(
                f"<td>{_number(f[0].value, '.0%' if percent else '.2f')} <small>n {f[0].n}{pairs}</small></td>"
                if f
                else "<td></td>"
                for f in found
            )
            lines.append(f'<tr><th scope="row">{escape(title)}</th>{cells}</tr>')
    if not lines:
        return ""
    columns = f'<tr><th scope="col"></th>{head}</tr>'
    return f"<h3>Agreement</h3><table><thead>{columns}</thead><tbody>{''.join(lines)}</tbody></table>"


def _value(rows: Iterable[Statistic], measure: str, **place: str) -> float:
    for row in rows:
        if row.measure == measure and all(getattr(row, name) == value for name, value in place.items()):
            return row.value
    return math.nan


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def _mean_and_sd(mean: float, sd: float) -> str:
    return f"{_number(mean, '.2f')} \u00b1 {_number(sd, '.2f')}"


STYLE = """<style>
.study { overflow-x: auto }
.study table { border-collapse: collapse; margin: 0.6em 0 1em }
.study th, .study td { text-align: left; padding: 0.3em 0.7em 0.3em 0; font-weight: 400 }
.study th, .study td { border-bottom: 1px solid #8884 }
.study thead th { font-weight: 600 }
.study svg { display: block; width: min(11em, 30vw); height: 0.6em; margin-top: 0.3em; border-radius: 2px }
.study small { opacity: 0.7 }
.study-1 { fill: #b2182b } .study-2 { fill: #ef8a62 } .study-3 { fill: #b8b8b8 }
.study-4 { fill: #67a9cf } .study-5 { fill: #2166ac }
</style>"""
SHELL = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<title>Scores of a readers' study</title>
<style>body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }}</style></head>
<body>{section}</body></html>
"""
