"""The report of an evaluation: one HTML page without other files. It computes no score of its own."""

# ruff: noqa: RUF001, the page has typographic minus, dash and multiplication signs
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..evaluation.layout import EvaluationFolder, all_methods, method_file, parse_others
from ..evaluation.method_names import CONSISTENT, CUBIC, GLADE
from ..evaluation.record import read_record
from ..evaluation.scores import Row, read_scores
from ..evaluation.statistics import REAL, SIMULATED, Origin, Statistic, read_statistics, statistics
from ..evaluation.volumes import on_grid, read_grid, read_volume
from ..geometry.errors import Refusal
from ..geometry.files import write_text
from .curves import Chart, scatter_chart
from .explained import explained, ordered, ordered_metrics, title_of
from .pages import Cell, Table, render, setting, settings
from .scene import HIDDEN, CaptionedChart, Scene, ViewsFigure, scene_charts, scene_figure
from .tables import all_scores, case_table, differences, means

DONE, FAILED = "done", "failed"
FIDELITY, SHARPNESS = "psnr", "high_band_energy"  # the two axes of the scatter chart
UNREADABLE = (Refusal, OSError, ValueError)

logger = logging.getLogger(__name__)


class CasePart(NamedTuple):
    """One case on the page.

    Attributes:
        name: of the case.
        title: name and protocol.
        facts: names and values.
        scores: of the case, or None.
        views: its pictures, or None.
        charts: drawn with the pictures.
        notes: what is missing and why.
    """

    name: str
    title: Cell
    facts: Sequence[tuple[str, str | None]]
    scores: Table | None
    views: ViewsFigure | None
    charts: Sequence[CaptionedChart]
    notes: Sequence[str]


def write_evaluation_report(output_dir: str | Path, figures_per_source: int = 3, readers_study=None) -> Path:
    """Write OUT/report.html from the files of an evaluation; the page says which of them are missing.

    Args:
        output_dir: OUT, with cases.json, and as far as they exist scores.csv, statistics.csv, scans, truth, methods.
        figures_per_source: acquisitions of one scan that are shown with pictures, which make the page large.
        readers_study: scores of a readers' study for a section of the page, as `scripts.study.scores.scores_section`
            prepares them; None leaves the section out.

    Returns:
        The path of the page.

    Raises:
        Refusal: if OUT has no readable cases.json.
    """
    folder = EvaluationFolder(output_dir)
    record = read_record(folder.root)
    scores, found = _scores(folder, record)
    text = render(
        "evaluation.html",
        title="GLADE: evaluation",
        facts=_counts(record["cases"], scores),
        failures=_failures(record["cases"]),
        problems=record.get("problems") or [],
        means=means(found, scores),
        differences=differences(found),
        scatter=_scatter(scores),
        study=readers_study,
        cases=_case_parts(folder, record, scores, figures_per_source),
        all_scores=all_scores(found, scores),
        explanations=explanations(row.metric for row in scores),
        command=record.get("command"),
        made_with=_made_with(record),
        settings=settings(record.get("settings") or {}),
    )
    return write_text(folder.report, text)


def explanations(metrics: Iterable[str]) -> list[tuple[str, str]]:
    """Return title and explanation of each known metric.

    >>> [title for title, _ in explanations(["residual", "my_metric", "psnr"])]
    ['PSNR', 'Residual']
    """
    return [(explained(m).title, explained(m).text) for m in ordered_metrics(metrics) if explained(m).text]


def _scores(folder: EvaluationFolder, record: Mapping) -> tuple[list[Row], list[Statistic]]:
    """The scores and their statistics, which are computed from the scores if their file is missing."""
    if not folder.scores.is_file():
        return [], []
    scores = read_scores(folder.scores)
    if folder.statistics.is_file():
        return scores, read_statistics(folder.statistics)
    origins = {
        case["case"]: Origin(case.get("source") or case["case"], SIMULATED if case.get("truth") else REAL)
        for case in record["cases"]
    }
    return scores, statistics(scores, [CONSISTENT], origins)


def _counts(cases: Sequence[Mapping], scores: Sequence[Row]) -> list[str]:
    sources = {case.get("source") or case["case"] for case in cases}
    return [
        f"{_count(len(cases), 'case')} of {_count(len(sources), 'scan')}",
        f"{sum(bool(case.get('truth')) for case in cases)} with a truth",
        _count(len(ordered(row.method for row in scores)), "method"),
        f"{sum(case.get('status') != DONE for case in cases)} failed",
    ]


def _count(number_of: int, thing: str) -> str:
    return f"{number_of} {thing}" + ("" if number_of == 1 else "s")


def _failures(cases: Sequence[Mapping]) -> Table | None:
    """Cases and methods without a result, each with its reason."""
    rows = []
    for case in cases:
        if case.get("status") != DONE:
            rows.append((case["case"], "all", case.get("reason") or "not reached before the evaluation stopped"))
        for method, outcome in (case.get("methods") or {}).items():
            if outcome.get("status") == FAILED:
                rows.append((case["case"], method, outcome.get("reason") or "no reason given"))
    return Table("Not part of any number below", ("case", "method", "reason"), rows, kind="words") if rows else None


def _scatter(scores: Sequence[Row]) -> Chart | None:
    """Fidelity against sharpness; None without cases that have both."""
    values = defaultdict(dict)
    for row in scores:
        if row.metric in (FIDELITY, SHARPNESS) and row.axis == "" and np.isfinite(row.value):
            values[row.method, row.case][row.metric] = row.value
    points: dict[str, tuple[list, list]] = {}
    for method in ordered(method for method, _ in values):
        both = [v for (m, _), v in values.items() if m == method and len(v) == 2]
        if both:
            points[method] = [v[SHARPNESS] for v in both], [v[FIDELITY] for v in both]
    if not points:
        return None
    names = f"{title_of(SHARPNESS)} (result / truth)", title_of(FIDELITY, unit="dB")
    return scatter_chart(points, names, "Fidelity against sharpness: a point for each case and the mean of each method")


def _case_parts(
    folder: EvaluationFolder, record: Mapping, scores: Sequence[Row], figures_per_source: int
) -> list[CasePart]:
    """The cases that are done. Volumes are read one case after the other, so that one case is in memory at a time."""
    drawn: dict[str, int] = defaultdict(int)
    by_case = defaultdict(list)
    for row in scores:
        by_case[row.case].append(row)
    parts = []
    for case in record["cases"]:
        name, source = case["case"], case.get("source") or case["case"]
        if case.get("status") != DONE:
            continue
        if drawn[source] < figures_per_source:
            drawn[source] += 1
            views, charts, notes = _figures(folder, record, case)
        else:
            views, charts, notes = None, [], [f"No figure: {figures_per_source} of {source} are shown above."]
        title = Cell(name, _protocol(case))
        parts.append(
            CasePart(name, title, _facts(case), case_table(by_case[name]), views, charts, notes + _undefined(case))
        )
    return parts


def _protocol(case: Mapping) -> str:
    factor = "" if case.get("factor") is None else f"{case['factor']:.3g}× "
    return f"{factor}{case.get('profile') or ''}, {'with truth' if case.get('truth') else 'no truth'}".strip(" ,")


def _facts(case: Mapping) -> list[tuple[str, str | None]]:
    spacing = case.get("spacing_mm")
    assumed, noise = case.get("assumed_profile"), case.get("noise")
    ratio = case.get("thickness_over_spacing")
    return [
        ("scan", case.get("source")),
        ("slice spacing", _mm(case.get("slice_spacing_mm"))),
        ("thickness / spacing", None if ratio is None else f"{ratio:.3g}"),
        ("profile", case.get("profile")),
        ("profile assumed", assumed if assumed != case.get("profile") else None),
        ("noise", f"{noise:.3g} of the intensity scale" if noise else None),
        ("evaluation grid", None if not spacing else " × ".join(f"{s:.3g}" for s in spacing) + " mm"),
    ]


def _mm(value: float | None) -> str | None:
    return None if value is None else f"{value:.3g} mm"


def _undefined(case: Mapping) -> list[str]:
    """Measures that have no value here: one line for each reason."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for note in case.get("undefined") or []:
        reasons[f"{note.get('measure')}: {note.get('reason')}"].append(str(note.get("method")))
    return [f"Not defined here ({', '.join(dict.fromkeys(methods))}): {reason}" for reason, methods in reasons.items()]


def _figures(
    folder: EvaluationFolder, record: Mapping, case: Mapping
) -> tuple[ViewsFigure | None, list[CaptionedChart], list[str]]:
    """Pictures, charts, and notes on what is missing."""
    try:
        scene, missing = _scene(folder, record, case)
        return scene_figure(scene), scene_charts(scene), missing
    except UNREADABLE as error:  # a volume was moved or is damaged: the page keeps the numbers
        logger.warning("%s: no figure: %s", case["case"], error)
        return None, [], [f"No figure: {error}"]


def _scene(folder: EvaluationFolder, record: Mapping, case: Mapping) -> tuple[Scene, list[str]]:
    """The volumes of a case that can be read, and notes on those that cannot."""
    name, names = case["case"], [other["case"] for other in record["cases"]]
    own = [path.name for path in sorted(folder.methods.glob("*")) if path.is_dir()]
    missing, methods = [], {}
    try:
        others = parse_others((record.get("settings") or {}).get("others"))
    except Refusal as refusal:
        others = {}
        missing.append(str(refusal))
    sources = all_methods(folder.root, own, others)
    cubic, grid = read_volume(method_file(sources.get(CUBIC, folder.method_folder(CUBIC)), CUBIC, name, names))
    for method, path in sources.items():
        status = (case.get("methods") or {}).get(method, {}).get("status")
        if method in (CUBIC, *HIDDEN) or status == FAILED:
            continue
        try:
            methods[method] = on_grid(*read_volume(method_file(path, method, name, names)), grid)
        except Refusal as refusal:
            missing.append(f"{method} is not shown: {refusal}")
    beside = {kind: folder.inference_file(GLADE, name, kind) for kind in ("added_detail", "confidence")}
    truth, thick = folder.truth_file(name), folder.scan_file(name)
    scan = read_volume(thick) if thick.is_file() else None
    axis = case.get("through_plane_axis")
    axis = int(axis) if axis is not None else (scan[1] if scan else grid).through_plane_axis()
    spacing_mm = case.get("slice_spacing_mm") or float(read_grid(thick).spacing_mm[axis])
    scene = Scene(
        case=name,
        grid=grid,
        through_plane_axis=axis,
        slice_spacing_mm=float(spacing_mm),
        slices=scan,
        methods={CUBIC: cubic, **methods},
        truth=on_grid(*read_volume(truth), grid) if case.get("truth") and truth.is_file() else None,
        window=tuple(case["window"]) if case.get("window") else None,
        **{kind: on_grid(*read_volume(path), grid) for kind, path in beside.items() if path.is_file()},
    )
    return scene, missing


def _made_with(record: Mapping) -> list[tuple[str, str | None]]:
    """Versions, weights and sharpness that the numbers were made with."""
    versions = " · ".join(f"{name} {version}" for name, version in (record.get("versions") or {}).items())
    return [
        ("versions", versions or None),
        ("weights, SHA-256", record.get("weights_sha256")),
        ("sharpness", setting(record["sharpness"]) if record.get("sharpness") else None),
    ]
