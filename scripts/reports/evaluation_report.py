"""The report of an evaluation: one HTML page, and one for each viewer. It computes no score of its own."""

# ruff: noqa: RUF001, the page has typographic minus, dash and multiplication signs
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import numpy as np

from ..data.saving import ADDED_DETAIL, UNCERTAINTY
from ..evaluation.cases import EvaluatedCase
from ..evaluation.layout import EvaluationFolder, all_methods, method_file, parse_others
from ..evaluation.method_names import CONSISTENT, CUBIC, GLADE
from ..evaluation.record import SavedRecord, read_record
from ..evaluation.scores import Row, read_scores
from ..evaluation.statistics import HEADLINE, POOLED, REAL, SIMULATED, Origin, Statistic, read_statistics, statistics
from ..evaluation.volumes import on_grid, read_grid, read_volume
from ..geometry.errors import Refusal
from ..geometry.files import write_text
from ..run.record import DONE
from .curves import colour_variable
from .explained import SHOWN, explained, ordered, ordered_metrics, title_of, what_is_shown
from .libraries import CHARTJS, embedded
from .pages import Cell, Table, render, setting, settings
from .scene import HIDDEN, CaptionedChart, Scene, ViewsFigure, scene_charts, scene_figure
from .tables import KINDS, all_scores, case_table, differences, means
from .viewer import viewer_of, write_viewer

FIDELITY, SHARPNESS = "psnr", "high_band_energy"  # the two axes of the scatter chart
UNREADABLE = (Refusal, OSError, ValueError)

logger = logging.getLogger(__name__)


class CasePart(NamedTuple):
    """One case on the page.

    Attributes:
        name: of the case.
        place: id of its part of the page.
        title: name and protocol.
        facts: names and values.
        scores: of the case, or None.
        views: its pictures, or None.
        charts: drawn with the pictures.
        viewer: address of the page with its viewer, relative to the report; None without pictures.
        notes: what is missing and why.
    """

    name: str
    place: str
    title: Cell
    facts: Sequence[tuple[str, str | None]]
    scores: Table | None
    views: ViewsFigure | None
    charts: Sequence[CaptionedChart]
    viewer: str | None
    notes: Sequence[str]


class Point(NamedTuple):
    """A case of a method in the scatter chart, or its mean: name, sharpness (x), fidelity (y), id of the case."""

    case: str
    x: float
    y: float
    place: str = ""


class Series(NamedTuple):
    """A method in the scatter chart: its name, the page's colour variable, its cases, and its mean as in the tables."""

    method: str
    colour: str
    points: Sequence[Point]
    mean: Point | None


class Bar(NamedTuple):
    """A method's mean in the bar chart: its name, colour variable, mean, and the ends of its interval or None."""

    method: str
    colour: str
    mean: float
    interval: tuple[float, float] | None


class Bars(NamedTuple):
    """One bar chart: what was measured, of which cases, and the means of the methods."""

    title: str
    bars: Sequence[Bar]


class Charts(NamedTuple):
    """What templates/charts.js draws: titles of the scatter chart's axes, its methods, and the bar charts."""

    x: str
    y: str
    series: Sequence[Series]
    bars: Sequence[Bars]

    @property
    def content(self) -> dict:
        """Plain values for the page's script."""
        series = [
            {**s._asdict(), "points": [p._asdict() for p in s.points], "mean": s.mean and s.mean._asdict()}
            for s in self.series
        ]
        bars = [{**chart._asdict(), "bars": [bar._asdict() for bar in chart.bars]} for chart in self.bars]
        return {"x": self.x, "y": self.y, "series": series, "bars": bars}


def write_evaluation_report(output_dir: str | Path, figures_per_source: int = 3, readers_study=None) -> Path:
    """Write OUT/report.html, and OUT/viewers, from the files of an evaluation; the page says which of them are missing.

    Args:
        output_dir: OUT, with cases.json, and as far as they exist scores.csv, statistics.csv, scans, truth, methods.
        figures_per_source: acquisitions of one scan that are shown with pictures and a viewer, which are large.
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
    library = embedded(CHARTJS)
    text = render(
        "evaluation.html",
        ["unpack.js", "charts.js", "tables.js"],
        libraries=[library],
        library=library,
        title="GLADE: evaluation",
        facts=_counts(record.cases, scores),
        failures=_failures(record.cases),
        problems=record.problems,
        means=means(found, scores),
        differences=differences(found),
        hovered=charts_of(scores, found, _places(record)),
        study=readers_study,
        cases=_case_parts(folder, record, scores, figures_per_source),
        all_scores=all_scores(found, scores),
        explanations=[
            *what_is_shown(SHOWN if scores else []),
            *explanations(row.metric for row in scores),
        ],
        command=record.command,
        made_with=_made_with(record),
        settings=settings(record.settings),
    )
    write_text(folder.report, text)
    logger.info("report in %s", folder.report)
    return folder.report


def explanations(metrics: Iterable[str]) -> list[tuple[str, str]]:
    """Return title and explanation of each known metric.

    >>> [title for title, _ in explanations(["residual", "my_metric", "psnr"])]
    ['PSNR', 'Residual']
    """
    return [(explained(m).title, explained(m).text) for m in ordered_metrics(metrics) if explained(m).text]


def _scores(folder: EvaluationFolder, record: SavedRecord) -> tuple[list[Row], list[Statistic]]:
    """The scores and their statistics, which are computed from the scores if their file is missing."""
    if not folder.scores.is_file():
        return [], []
    scores = read_scores(folder.scores)
    if folder.statistics.is_file():
        return scores, read_statistics(folder.statistics)
    origins = {case.name: Origin(case.source, SIMULATED if case.truth else REAL) for case in record.cases}
    return scores, statistics(scores, [CONSISTENT], origins)


def _counts(cases: Sequence[EvaluatedCase], scores: Sequence[Row]) -> list[str]:
    return [
        f"{_count(len(cases), 'case')} of {_count(len({case.source for case in cases}), 'scan')}",
        f"{sum(bool(case.truth) for case in cases)} with a truth",
        _count(len(ordered(row.method for row in scores)), "method"),
        f"{sum(case.status != DONE for case in cases)} failed",
    ]


def _count(number_of: int, thing: str) -> str:
    return f"{number_of} {thing}" + ("" if number_of == 1 else "s")


def _failures(cases: Sequence[EvaluatedCase]) -> Table | None:
    """Cases and methods without a result, each with its reason."""
    rows = []
    for case in cases:
        if case.status != DONE:
            rows.append((case.name, "all", case.reason or "not reached before the evaluation stopped"))
        for method, outcome in case.methods.items():
            if case.has_failed(method):
                rows.append((case.name, method, outcome.reason or "no reason given"))
    return Table("Not part of any number below", ("case", "method", "reason"), rows, kind="words") if rows else None


def _places(record: SavedRecord) -> dict[str, str]:
    """The id of each case's part of the page; made of its number, since names may differ in signs alone."""
    return {case.name: f"case-{number}" for number, case in enumerate(record.cases)}


def charts_of(scores: Sequence[Row], found: Sequence[Statistic], places: Mapping[str, str]) -> Charts | None:
    """Return fidelity against sharpness, and the means of the main measures; None without scores.

    Args:
        scores: of all cases.
        found: statistics of these scores.
        places: case -> id of its part of the page.
    """
    if not scores:
        return None
    values = defaultdict(dict)
    for row in scores:
        if row.metric in (FIDELITY, SHARPNESS) and row.axis == "" and np.isfinite(row.value):
            values[row.method, row.case][row.metric] = row.value
    methods = ordered(row.method for row in scores)
    kind = (POOLED, SIMULATED, "", "")  # each scan counts once, as in the tables
    means = {(s.method, s.metric): s.mean for s in found if (s.factor, s.profile, s.axis, s.against) == kind}
    series = []
    for method in methods:
        own = {case: v for (m, case), v in values.items() if m == method and len(v) == 2}
        points = [Point(case, v[SHARPNESS], v[FIDELITY], places.get(case, "")) for case, v in own.items()]
        x, y = (means.get((method, metric)) for metric in (SHARPNESS, FIDELITY))
        if points:
            mean = None if x is None or y is None else Point("mean", x, y)
            series.append(Series(method, colour_variable(method, methods), points, mean))
    names = f"{title_of(SHARPNESS)} (result / truth)", title_of(FIDELITY, unit="dB")
    return Charts(*names, series, _bars(found, methods))


def _bars(found: Sequence[Statistic], methods: Sequence[str]) -> list[Bars]:
    """The pooled means of each main measure, for each kind of cases."""
    groups = defaultdict(list)
    for s in found:
        if s.profile in KINDS and s.metric in HEADLINE and not s.axis and not s.against and np.isfinite(s.mean):
            ends = (s.low, s.high) if np.isfinite([s.low, s.high]).all() else None
            groups[s.metric, s.profile].append(Bar(s.method, colour_variable(s.method, methods), s.mean, ends))
    order = sorted(groups, key=lambda group: (HEADLINE.index(group[0]), list(KINDS).index(group[1])))
    titles = {(m, kind): f"{explained(m).title}, {KINDS[kind]} ({explained(m).hint})" for m, kind in order}
    return [Bars(titles[group], groups[group]) for group in order]


def _case_parts(
    folder: EvaluationFolder, record: SavedRecord, scores: Sequence[Row], figures_per_source: int
) -> list[CasePart]:
    """The cases that are done. Volumes are read one case after the other, so that one case is in memory at a time."""
    drawn: dict[str, int] = defaultdict(int)
    by_case = defaultdict(list)
    for row in scores:
        by_case[row.case].append(row)
    parts, places = [], _places(record)
    for case in record.cases:
        if case.status != DONE:
            continue
        if drawn[case.source] < figures_per_source:
            drawn[case.source] += 1
            views, charts, viewer, notes = _figures(folder, record, case)
        else:
            views, charts, viewer = None, [], None
            notes = [f"No figure: {figures_per_source} of {case.source} are shown above."]
        title, table = Cell(case.name, _protocol(case)), case_table(by_case[case.name])
        facts, place = _facts(case), places[case.name]
        parts.append(CasePart(case.name, place, title, facts, table, views, charts, viewer, notes + _undefined(case)))
    return parts


def _protocol(case: EvaluatedCase) -> str:
    factor = "" if case.factor is None else f"{case.factor:.3g}× "
    return f"{factor}{case.profile or ''}, {'with truth' if case.truth else 'no truth'}".strip(" ,")


def _facts(case: EvaluatedCase) -> list[tuple[str, str | None]]:
    spacing, ratio = case.spacing_mm, case.thickness_over_spacing
    return [
        ("scan", case.source),
        ("slice spacing", _mm(case.slice_spacing_mm)),
        ("thickness / spacing", None if ratio is None else f"{ratio:.3g}"),
        ("profile", case.profile),
        ("profile assumed", case.assumed_profile if case.assumed_profile != case.profile else None),
        ("noise", f"{case.noise:.3g} of the intensity scale" if case.noise else None),
        ("evaluation grid", None if not spacing else " × ".join(f"{s:.3g}" for s in spacing) + " mm"),
    ]


def _mm(value: float | None) -> str | None:
    return None if value is None else f"{value:.3g} mm"


def _undefined(case: EvaluatedCase) -> list[str]:
    """Measures that have no value here: one line for each reason."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for note in case.undefined:
        reasons[f"{note.measure}: {note.reason}"].append(note.method)
    return [f"Not defined here ({', '.join(dict.fromkeys(methods))}): {reason}" for reason, methods in reasons.items()]


def _figures(
    folder: EvaluationFolder, record: SavedRecord, case: EvaluatedCase
) -> tuple[ViewsFigure | None, list[CaptionedChart], str | None, list[str]]:
    """Pictures, charts, the address of the viewer, which is written here, and notes on what is missing."""
    page = folder.viewer_file(case.name)
    try:
        scene, missing = _scene(folder, record, case)
        page.parent.mkdir(exist_ok=True)
        write_viewer(page, viewer_of(scene), f"../{folder.report.name}")
        return scene_figure(scene), scene_charts(scene), quote(f"{page.parent.name}/{page.name}"), missing
    except UNREADABLE as error:  # a volume was moved or is damaged: the page keeps the numbers
        logger.warning("%s: no figure: %s", case.name, error)
        page.unlink(missing_ok=True)
        return None, [], None, [f"No figure: {error}"]


def _scene(folder: EvaluationFolder, record: SavedRecord, case: EvaluatedCase) -> tuple[Scene, list[str]]:
    """The volumes of a case that can be read, and notes on those that cannot."""
    name, names = case.name, record.names
    own = [path.name for path in sorted(folder.methods.glob("*")) if path.is_dir()]
    missing, methods = [], {}
    try:
        others = parse_others(record.settings.get("others"))
    except Refusal as refusal:
        others = {}
        missing.append(str(refusal))
    sources = all_methods(folder.root, own, others)
    cubic, grid = read_volume(method_file(sources.get(CUBIC, folder.method_folder(CUBIC)), CUBIC, name, names))
    for method, path in sources.items():
        if method in (CUBIC, *HIDDEN) or not case.has_done(method):  # of an earlier call, or failed
            continue
        try:
            methods[method] = on_grid(*read_volume(method_file(path, method, name, names)), grid)
        except Refusal as refusal:
            missing.append(f"{method} is not shown: {refusal}")
    beside = {kind: folder.inference_file(GLADE, name, kind) for kind in (ADDED_DETAIL, UNCERTAINTY)}
    truth, thick = folder.truth_file(name), folder.scan_file(name)
    scan = read_volume(thick) if thick.is_file() else None
    axis = case.through_plane_axis
    axis = int(axis) if axis is not None else (scan[1] if scan else grid).through_plane_axis()
    spacing_mm = case.slice_spacing_mm or float(read_grid(thick).spacing_mm[axis])
    scene = Scene(
        case=name,
        grid=grid,
        through_plane_axis=axis,
        slice_spacing_mm=float(spacing_mm),
        slices=scan,
        methods={CUBIC: cubic, **methods},
        truth=on_grid(*read_volume(truth), grid) if case.truth and truth.is_file() else None,
        window=tuple(case.window) if case.window else None,
        **{kind: on_grid(*read_volume(path), grid) for kind, path in beside.items() if path.is_file()},
    )
    return scene, missing


def _made_with(record: SavedRecord) -> list[tuple[str, str | None]]:
    """Versions, weights and sharpness that the numbers were made with."""
    versions = " · ".join(f"{name} {version}" for name, version in record.versions.items())
    return [
        ("versions", versions or None),
        ("weights, SHA-256", record.weights_sha256),
        ("sharpness", setting(record.sharpness) if record.sharpness else None),
    ]
