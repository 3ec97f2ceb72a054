"""The report of single scans, without or with a truth: what the inference did, what it added, how sharp it became."""

# ruff: noqa: RUF001, the page has typographic minus, dash and multiplication signs

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ..evaluation.measures import CaseVolumes, Closure, Fidelity, HighBandDetail, Pique, Result, Score
from ..geometry.errors import Refusal
from ..geometry.files import write_text
from ..geometry.grid import Grid
from ..geometry.views import VIEWS
from ..metrics.pique import shared_window
from ..run.record import RunRecord
from .evaluation_report import how_to_read, warning_box
from .explained import CONSISTENT, CUBIC, GLADE, explained, number, ordered, ordered_metrics
from .markup import Markup, definitions, details, element, identifier, joined, page, section, setting, table
from .scene import Scene, scene_charts, scene_figure
from .tiles import acquired_axis

MEASURES = (Fidelity(), HighBandDetail(), Pique(), Closure())  # as the evaluation measures them
LEFT_OUT = ("nrmse", "hfen")  # a page for one scan shows the main measures
SURE = 0.5  # confidence above which a voxel counts as confident
METHODS = (CUBIC, CONSISTENT, GLADE)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReportedCase:
    """One scan on a page.

    Attributes:
        row: of summary.json: case, input, output, protocol, warnings, residual, seconds, settings, weights_sha256.
        scene: its volumes.
        description: a sentence about the scan, or None.
    """

    row: Mapping
    scene: Scene
    description: str | None = None

    @cached_property
    def measured(self) -> tuple[dict[str, list[Score]], list[str]]:
        """As the function `measured`, once."""
        return measured(self.scene)

    @property
    def scores(self) -> dict[str, list[Score]]:
        """Method -> scores."""
        return self.measured[0]


class CaseReport:
    """Writes <case>_report.html into the folder of a case; called by `SaveImageCased` before the folder is in place.

    Args:
        record: of the run, for the row of the case.
        restore: transform that puts "image" (U b) and "slices" (b) of the data on the scan's own scale and axes.
    """

    def __init__(self, record: RunRecord, restore: Callable[[dict], dict]):
        self.record, self.restore = record, restore

    def __call__(self, data: Mapping, folder: Path) -> Path:
        """Writes the page.

        Args:
            data: of the postprocessing: case, pred, added_detail, confidence (on the scan's own scale and axes), image
                and slices (as the network saw them).
            folder: where the case's files are written.

        Returns:
            The path of the page.
        """
        case = data["case"].name
        restored = self.restore({key: data[key] for key in ("image", "slices")})
        pred, added = _array(data["pred"]), _array(data["added_detail"])
        row = asdict(self.record.snapshot(data["case"], data["pred"]))
        scene = Scene(
            case=case,
            grid=_grid(data["pred"]),
            through_plane_axis=int(row["protocol"]["through_plane_axis"]),
            slice_spacing_mm=float(row["protocol"]["slice_spacing_mm"]),
            slices=(_array(restored["slices"]), _grid(restored["slices"])),
            methods={CUBIC: _array(restored["image"]), CONSISTENT: pred - added, GLADE: pred},
            added_detail=added,
            confidence=_array(data["confidence"]),
        )
        return write_case_report(folder / f"{case}_report.html", [ReportedCase(row, scene)])


def write_case_report(
    path: str | Path, cases: Sequence[ReportedCase], title: str | None = None, refused: Sequence[Mapping] = ()
) -> Path:
    """Writes one page about one or several scans, whole or not at all.

    Args:
        path: of the page.
        cases: the scans.
        title: of the page; by default the case's name.
        refused: rows of the scans that have no result, with their reason.

    Returns:
        The path.
    """
    sections, metrics = {}, []
    if refused:
        rows = [(row["case"], row["status"], row["reason"]) for row in refused]
        name = "What went wrong"
        sections[name] = section(
            identifier(name), name, table("Without a result", ("scan", "status", "reason"), rows, kind="words")
        )
    for case in cases:
        metrics += [score.metric for values in case.scores.values() for score in values]
        name = case.scene.case
        sections[name] = section(identifier(name), name, *_case(case))
    reading = how_to_read([*metrics, "residual"])
    if cases:
        sections["How to read"] = reading
        sections["What was done"] = _done(cases[0].row)
    lead = warning_box()
    title = f"GLADE: {cases[0].scene.case}" if title is None else title
    return write_text(Path(path), page(title, lead, sections))


def measured(scene: Scene) -> tuple[dict[str, list[Score]], list[str]]:
    """The evaluation's measures of a scene's methods, and why others have no value.

    One mask and one intensity window for all methods, of the truth where there is one, else of the cubic input.
    """
    reference = scene.methods[CUBIC] if scene.truth is None else scene.truth
    undefined: dict[str, None] = {}
    try:
        window = shared_window(reference, scene.body)
    except Refusal as refusal:
        return {}, [str(refusal)]
    axis = scene.through_plane_axis
    volumes = CaseVolumes(
        name=scene.case,
        grid=scene.grid,
        axis=axis,
        factor=scene.slice_spacing_mm / float(scene.grid.spacing_mm[axis]),
        truth=scene.truth,
        interpolated=scene.methods[CUBIC],
        slices=None,
        acquisition=None,
        mask=scene.body,
        window=window,
    )
    scores: dict[str, list[Score]] = {}
    for method in ordered(scene.methods):
        scores[method] = []
        for measure in MEASURES:
            try:
                found = measure(volumes, Result(scene.methods[method]))
            except Refusal as refusal:
                undefined[str(refusal)] = None
            else:
                scores[method] += [score for score in found if score.metric not in LEFT_OUT]
    return scores, list(undefined)


def _case(case: ReportedCase) -> list:
    row, scene, (scores, undefined) = case.row, case.scene, case.measured
    warnings = [element("li", text) for text in row.get("warnings") or []]
    return [
        element("p", case.description) if case.description else None,
        element("div", element("strong", "Outside the trained range"), element("ul", warnings), class_="warning")
        if warnings
        else None,
        definitions(_facts(row, scene)),
        _score_table(scores, scene) if any(scores.values()) else None,
        [element("p", f"Not defined here: {reason}", class_="note") for reason in undefined],
        element("h3", "Three views"),
        scene_figure(scene),
        element("h3", "An edge, and the spectra"),
        scene_charts(scene),
    ]


def _facts(row: Mapping, scene: Scene) -> list[tuple[str, str | None]]:
    told = row.get("protocol") or {}
    sure = None
    if scene.confidence is not None:
        inside = scene.confidence[scene.body]
        share, mean = float((inside > SURE).mean()), float(inside.mean())
        sure = f"{share:.1%} of the body's voxels above {SURE:g}; mean {mean:.2f}"
    residual = row.get("residual")
    return [
        ("acquired", _geometry(row.get("input"))),
        ("made", _geometry(row.get("output"))),
        ("slice spacing", _mm(told.get("slice_spacing_mm"))),
        ("slice thickness", _with_source(_mm(told.get("slice_thickness_mm")), told.get("thickness_source"))),
        ("slice profile", _with_source(told.get("profile"), told.get("profile_source"))),
        ("through-plane axis", _with_source(told.get("through_plane_axis"), told.get("axis_source"))),
        ("residual", None if residual is None else f"{number(residual)} of the acquired slices"),
        ("confidence", sure),
        ("time", None if row.get("seconds") is None else f"{row['seconds']:.1f} s, without this page"),
    ]


def _geometry(told: Mapping | None) -> str | None:
    if not told or "shape" not in told:
        return None
    size, spacing = (" × ".join(f"{v:.3g}" for v in told[key]) for key in ("shape", "spacing_mm"))
    return f"{size} voxels of {spacing} mm"


def _mm(value: float | None) -> str | None:
    return None if value is None else f"{value:.4g} mm"


def _with_source(value, source: str | None) -> str | None:
    return None if value is None else f"{value} ({source})" if source else str(value)


def _score_table(scores: Mapping[str, Sequence[Score]], scene: Scene) -> Markup:
    """Methods x measures; PIQUE of either view across the slices beside its mean."""
    keys = dict.fromkeys((s.metric, s.axis) for values in scores.values() for s in values)
    place = {metric: index for index, metric in enumerate(ordered_metrics(metric for metric, _ in keys))}
    keys = sorted(keys, key=lambda key: (place[key[0]], key[1]))
    units = {(s.metric, s.axis): s.unit for values in scores.values() for s in values}
    head = []
    for metric, axis in keys:
        known, unit = explained(metric), units[metric, axis]
        where = f", {_plane(scene, int(axis))}" if axis else ""
        hint = " · ".join(part for part in (known.hint, unit if unit == "dB" else "") if part)
        head.append(joined(known.title + where, element("small", hint)))
    cells = {(method, s.metric, s.axis): s.value for method, values in scores.items() for s in values}
    rows = [(method, *(number(cells.get((method, *key)), key[0]) for key in keys)) for method in scores]
    caption = "Cubic interpolation is the input of the network; one intensity window for all methods."
    return table(caption, ("method", *head), rows, [GLADE])


def _plane(scene: Scene, axis: int) -> str:
    """The view whose planes are perpendicular to an array axis."""
    fixed = acquired_axis(scene.grid.affine, axis)
    return next(view for view, (own, *_rest) in VIEWS.items() if own == fixed)


def _done(row: Mapping) -> Markup:
    settings = row.get("settings") or {}
    pairs = [(name.replace("_", " "), setting(value)) for name, value in settings.items()]
    main = [
        ("version", settings.get("version")),
        ("weights, SHA-256", row.get("weights_sha256")),
        ("sharpness", setting(settings["sharpness"]) if "sharpness" in settings else None),
        ("detail", setting(settings["detail"]) if "detail" in settings else None),
    ]
    return section("what-was-done", "What was done", definitions(main), details("All settings", definitions(pairs)))


def _array(volume) -> np.ndarray:
    """A MetaTensor (1, X, Y, Z) as a float32 array (X, Y, Z)."""
    return volume.detach().cpu().numpy()[0].astype(np.float32)


def _grid(volume) -> Grid:
    return Grid(tuple(volume.shape[-3:]), np.asarray(volume.affine.cpu(), dtype=np.float64))
