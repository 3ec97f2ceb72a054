"""The report of an evaluation: one HTML page that needs nothing beside it. It computes no score of its own."""

# ruff: noqa: RUF001, the page has typographic minus, dash and multiplication signs
import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..evaluation.layout import SUFFIX, all_methods, method_file, parse_others
from ..evaluation.scores import Row, read_scores
from ..evaluation.statistics import REAL, SIMULATED, Origin, Statistic, read_statistics, statistics
from ..evaluation.volumes import on_grid, read_grid, read_volume
from ..geometry.errors import Refusal
from ..geometry.files import write_text
from ..study.scores import scores_section
from .curves import scatter_chart
from .explained import CONSISTENT, CUBIC, GLADE, explained, ordered, ordered_metrics, title_of
from .markup import Markup, definitions, details, element, identifier, joined, page, section, setting, table
from .scene import Scene, scene_charts, scene_figure
from .tables import all_scores, case_table, differences, means

REPORT_FILE = "report.html"
DONE, FAILED = "done", "failed"
READERS = "Readers' study"
FIDELITY, SHARPNESS = "psnr", "high_band_energy"  # the two axes of the scatter
UNREADABLE = (Refusal, OSError, ValueError)
WARNING = (
    "Detail along the through-plane axis is synthesised by a network: it is plausible, not measured. "
    "Research software, no medical device: not for diagnosis."
)

logger = logging.getLogger(__name__)


def write_evaluation_report(
    output_dir: str | Path, figures_per_source: int = 3, study_dir: str | Path | None = None
) -> Path:
    """Writes OUT/report.html from the files of an evaluation; what is missing of them is said on the page.

    Args:
        output_dir: OUT, with cases.json, and as far as there are any scores.csv, statistics.csv, scans, truth, methods.
        figures_per_source: figures of how many acquisitions of one scan; pictures make the page large.
        study_dir: STUDY of a readers' study that `run study_scores` has scored, which becomes a section; or None.

    Returns:
        The path of the page.

    Raises:
        Refusal: if OUT holds no cases.json that can be read, or the study is not scored.
    """
    folder = Path(output_dir)
    told = _cases(folder)
    cases = told["cases"]
    scores, found = _scores(folder, told)
    sections = {
        "What went wrong": _failures(told),
        "Means": means(found, scores),
        "Differences": differences(found),
        "Fidelity against sharpness": _scatter(scores),
        READERS: _readers(study_dir),
        "Cases": _case_parts(folder, told, scores, figures_per_source),
        "All scores": all_scores(found, scores),
        "How to read": how_to_read(row.metric for row in scores),
        "What was done": _done(told),
    }
    sources = len({case.get("source") or case["case"] for case in cases})
    failed = sum(case.get("status") != DONE for case in cases)
    methods = ordered(row.method for row in scores)
    facts = [
        f"{_count(len(cases), 'case')} of {_count(sources, 'scan')}",
        f"{sum(bool(case.get('truth')) for case in cases)} with a truth",
        _count(len(methods), "method"),
        f"{failed} failed",
    ]
    lead = joined(element("p", " · ".join(facts)), warning_box())
    text = page("GLADE: evaluation", lead, {name: part for name, part in sections.items() if part})
    return write_text(folder / REPORT_FILE, text)


def _readers(study_dir: str | Path | None) -> Markup | None:
    if study_dir is None:
        return None
    return element("div", Markup(scores_section(study_dir)), id=identifier(READERS))


def _count(number_of: int, thing: str) -> str:
    return f"{number_of} {thing}" + ("" if number_of == 1 else "s")


def warning_box() -> Markup:
    """What stands on top of every page."""
    return element("p", element("strong", "Read with care. "), WARNING, class_="warning")


def how_to_read(metrics: Iterable[str]) -> Markup | None:
    """One line for each known measure that the page shows."""
    lines = [(explained(m).title, explained(m).text) for m in ordered_metrics(metrics) if explained(m).text]
    if not lines:
        return None
    words = "Fidelity and sharpness stand side by side: a result can be smooth and right, or sharp and invented."
    return section("how-to-read", "How to read", element("p", words), element("div", _read(lines)))


def _read(lines) -> Markup:
    return Markup(definitions(lines).replace("<dl>", '<dl class="read">', 1))


def _cases(folder: Path) -> dict:
    path = folder / "cases.json"
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        _ = [case["case"] for case in told["cases"]]
    except OSError as error:
        raise Refusal(f"{folder.name}: there is no cases.json ({error.strerror}): run the evaluation first") from error
    except (ValueError, KeyError, TypeError) as error:
        raise Refusal(f"{path.name}: is not the record of an evaluation: run the evaluation again") from error
    return told


def _scores(folder: Path, told: Mapping) -> tuple[list[Row], list[Statistic]]:
    """The scores and their statistics; the latter are made of the former where their file is missing."""
    if not (folder / "scores.csv").is_file():
        return [], []
    scores = read_scores(folder / "scores.csv")
    if (folder / "statistics.csv").is_file():
        return scores, read_statistics(folder / "statistics.csv")
    origins = {
        case["case"]: Origin(case.get("source") or case["case"], SIMULATED if case.get("truth") else REAL)
        for case in told["cases"]
    }
    return scores, statistics(scores, [CONSISTENT], origins)


def _failures(told: Mapping) -> Markup | None:
    """Cases and methods without a result, and what else went wrong, each with its reason."""
    rows = []
    for case in told["cases"]:
        if case.get("status") != DONE:
            rows.append((case["case"], "all", case.get("reason") or "it was not reached"))
        for method, end in (case.get("methods") or {}).items():
            if end.get("status") == FAILED:
                rows.append((case["case"], method, end.get("reason") or "no reason given"))
    problems = told.get("problems") or []
    if not rows and not problems:
        return None
    parts = [table("Left out of every number below", ("case", "method", "reason"), rows, kind="words")] if rows else []
    parts += [element("ul", [element("li", problem) for problem in problems])] if problems else []
    return section("what-went-wrong", "What went wrong", *parts)


def _scatter(scores: Sequence[Row]) -> Markup | None:
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
    chart = scatter_chart(points, names, "Fidelity against sharpness: a point a case, and the mean of each method")
    words = (
        "Small: a case; large: the mean of the method. Up is more faithful, the dotted line as much fine detail as the "
        "truth has. A perfectly realistic answer costs fidelity, so neither number alone is enough."
    )
    figure = element("figure", chart, element("figcaption", words))
    name = "Fidelity against sharpness"
    return section(identifier(name), name, element("div", figure, class_="charts single"))


def _case_parts(folder: Path, told: Mapping, scores: Sequence[Row], figures_per_source: int) -> Markup:
    """A part a case; the pictures are made one case after the other, so that one case is in memory at a time."""
    drawn: dict[str, int] = defaultdict(int)
    by_case = defaultdict(list)
    for row in scores:
        by_case[row.case].append(row)
    parts = []
    for case in told["cases"]:
        name, source = case["case"], case.get("source") or case["case"]
        if case.get("status") != DONE:
            continue
        inner = [definitions(_facts(case)), case_table(by_case[name])]
        if drawn[source] < figures_per_source:
            drawn[source] += 1
            inner.append(_pictures(folder, told, case))
        else:
            inner.append(element("p", f"No figure: {figures_per_source} of {source} are shown above.", class_="note"))
        inner += _undefined(case)
        title = joined(name, " ", element("small", _short(case)))
        parts.append(details(title, *inner, opened=not parts, id=f"case-{identifier(name)}"))
    if not parts:
        parts = [element("p", "No case was judged.")]
    return section("cases", "Cases", *parts)


def _short(case: Mapping) -> str:
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
        ("judged grid", None if not spacing else " × ".join(f"{s:.3g}" for s in spacing) + " mm"),
    ]


def _mm(value: float | None) -> str | None:
    return None if value is None else f"{value:.3g} mm"


def _undefined(case: Mapping) -> list[Markup]:
    """Measures that have no value here: one line for each reason."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for note in case.get("undefined") or []:
        reasons[f"{note.get('measure')}: {note.get('reason')}"].append(str(note.get("method")))
    return [
        element("p", f"Not defined here ({', '.join(dict.fromkeys(methods))}): {reason}", class_="note")
        for reason, methods in reasons.items()
    ]


def _pictures(folder: Path, told: Mapping, case: Mapping) -> Markup:
    try:
        scene, missing = _scene(folder, told, case)
        return joined(scene_figure(scene), scene_charts(scene), [element("p", m, class_="note") for m in missing])
    except UNREADABLE as error:  # a volume moved away, or damaged: the numbers stay
        logger.warning("%s: no figure: %s", case["case"], error)
        return element("p", f"No figure: {error}", class_="note")


def _scene(folder: Path, told: Mapping, case: Mapping) -> tuple[Scene, list[str]]:
    """The volumes of a case, as far as they are there, and what is missing."""
    name, names = case["case"], [other["case"] for other in told["cases"]]
    own = [path.name for path in sorted((folder / "methods").glob("*")) if path.is_dir()]
    missing, methods = [], {}
    try:
        others = parse_others((told.get("settings") or {}).get("others"))
    except Refusal as refusal:
        others = {}
        missing.append(str(refusal))
    places = all_methods(folder, own, others)
    cubic, grid = read_volume(method_file(places.get(CUBIC, folder / "methods" / CUBIC), CUBIC, name, names))
    for method, place in places.items():
        ended = (case.get("methods") or {}).get(method, {}).get("status")
        if method == CUBIC or method in ("nearest", "linear") or ended == FAILED:
            continue
        try:
            methods[method] = on_grid(*read_volume(method_file(place, method, name, names)), grid)
        except Refusal as refusal:
            missing.append(f"{method} is not shown: {refusal}")
    beside = {
        kind: folder / "methods" / GLADE / name / f"{name}_{kind}{SUFFIX}" for kind in ("added_detail", "confidence")
    }
    truth, thick = folder / "truth" / f"{name}{SUFFIX}", folder / "scans" / f"{name}{SUFFIX}"
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


def _done(told: Mapping) -> Markup:
    """The command, versions, weights and settings that made the numbers."""
    versions = " · ".join(f"{name} {version}" for name, version in (told.get("versions") or {}).items())
    pairs = [("versions", versions or None), ("weights, SHA-256", told.get("weights_sha256"))]
    pairs.append(("sharpness", setting(told["sharpness"]) if told.get("sharpness") else None))
    settings = [(name.replace("_", " "), setting(value)) for name, value in (told.get("settings") or {}).items()]
    command = element("pre", element("code", told["command"])) if told.get("command") else None
    return section(
        "what-was-done", "What was done", command, definitions(pairs), element("h3", "Settings"), definitions(settings)
    )
