"""The report of single scans, with or without a truth: acquisition, result, added detail and measures."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

import numpy as np

from ..data.acceptance import ScanProtocol
from ..data.saving import REPORT, VIEWER
from ..evaluation.measures import OF_TRUTH, CaseVolumes, Closure, Fidelity, HighBandDetail, Pique, Result, Score
from ..evaluation.method_names import CONSISTENT, CUBIC, GLADE
from ..geometry.errors import Refusal
from ..geometry.files import write_text
from ..geometry.grid import Grid
from ..geometry.views import VIEWS
from ..metrics.pique import shared_window
from ..run.record import Row, RunRecord
from .evaluation_report import explanations
from .explained import ACQUIRED, MINUS, explained, number, ordered, ordered_metrics, what_is_shown
from .overview import Glance, size_and_spacing
from .pages import Table, percent, render, setting, settings
from .scene import Scene, scene_charts, scene_figure
from .tables import head_cell
from .tiles import anatomical_axis, thumbnail
from .viewer import PAGE_BYTES, SCRIPTS, STYLES, viewer_of, write_viewer

MEASURES = (Fidelity(), HighBandDetail(), Pique(), Closure())  # the same as in an evaluation
MEGABYTE = 1_000_000
LEFT_OUT = ("nrmse", "hfen")  # not shown: the page of one scan has the main measures only
INPUT_OF_SCAN = "Cubic interpolation is what the network gets"
INPUT_OF_STACKS = "Cubic: the stacks put together in the same way from cubic interpolations, without the network"
TRUTH = "truth"
FINE_DETAIL, SHORT_SCALE = "spectrum_closed", 4.0  # true thin slices have 1 to 3; far beyond, its scale is too short

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReportedCase:
    """One scan on a page.

    Attributes:
        row: of the run record.
        scene: its volumes.
        description: a sentence about the scan, or None.
        tables: shown beside the facts about the scan.
    """

    row: Row
    scene: Scene
    description: str | None = None
    tables: Sequence[Table] = ()

    @cached_property
    def measured(self) -> tuple[dict[str, list[Score]], list[str]]:
        """The result of the function `measured`, computed once."""
        return measured(self.scene)

    @property
    def scores(self) -> dict[str, list[Score]]:
        """Method -> scores."""
        return self.measured[0]


class CaseReport:
    """Write <case>_report.html into the folder of a case, for `SaveImageCased`, which calls it with the other files.

    A viewer that makes the page too large is written beside it, <case>_viewer.html.

    Args:
        record: of the run, for the row of the case.
        restore: transform that brings "image" (U b) and "slices" (b) of the data to the scan's own scale and axes.
    """

    def __init__(self, record: RunRecord, restore: Callable[[dict], dict]):
        self.record, self.restore = record, restore

    def __call__(self, data: Mapping, folder: Path) -> Path:
        """Write the page.

        Args:
            data: of the postprocessing: case, pred, added_detail, uncertainty (on the scan's own scale and axes), image
                and slices (on the scale and axes of the network).
            folder: folder of the case's files.

        Returns:
            The path of the page.
        """
        case = data["case"].name
        restored = self.restore({key: data[key] for key in ("image", "slices")})
        pred, added = _array(data["pred"]), _array(data["added_detail"])
        row = self.record.snapshot(data["case"], data["pred"])
        scene = Scene(
            case=case,
            grid=_grid(data["pred"]),
            through_plane_axis=row.protocol.through_plane_axis,
            slice_spacing_mm=row.protocol.slice_spacing_mm,
            slices=(_array(restored["slices"]), _grid(restored["slices"])),
            methods={CUBIC: _array(restored["image"]), CONSISTENT: pred - added, GLADE: pred},
            added_detail=added,
            uncertainty=_array(data["uncertainty"]),
        )
        return write_case_report(folder, ReportedCase(row, scene))


def write_case_report(folder: str | Path, case: ReportedCase) -> Path:
    """Write the page about one scan, <case>_report.html, with its viewer, completely or not at all.

    A page of more than `PAGE_BYTES` gets its viewer in a file beside it, <case>_viewer.html.

    Args:
        folder: of the page.
        case: the scan.

    Returns:
        The path of the page.
    """
    scene, (scores, undefined) = case.scene, case.measured
    shown, notes = meaningful(scores)
    metrics = [s.metric for found in shown.values() for s in found if not s.metric.endswith(OF_TRUTH)]
    page, beside = (Path(folder) / f"{scene.case}{ending}" for ending in (REPORT, VIEWER))
    content = {
        "title": f"GLADE: {scene.case}",
        "glance": glance(scene).content,
        "description": case.description,
        "warnings": case.row.warnings,
        "facts": _facts(case.row, scene),
        "tables": case.tables,
        "scores": _score_table(shown, scene) if any(shown.values()) else None,
        "undefined": [*undefined, *notes],
        "views": scene_figure(scene),
        "charts_of_scan": scene_charts(scene),
        "explanations": [*_pictures(scene), *explanations([*metrics, "residual"])],
        "made_with": _made_with(case.row),
        "settings": settings(case.row.settings),
    }
    viewer = viewer_of(scene)
    text = render("case.html", (*SCRIPTS, "tables.js"), STYLES, [viewer.library], viewer=viewer, beside=None, **content)
    if len(text.encode()) > PAGE_BYTES:
        size = f"{write_viewer(beside, viewer, quote(page.name)).stat().st_size / MEGABYTE:.0f} MB"
        logger.info("%s: its viewer of %s is in %s, which keeps the report small", scene.case, size, beside.name)
        text = render("case.html", ["tables.js"], viewer=None, beside=(beside.name, size), **content)
    else:
        beside.unlink(missing_ok=True)  # of an earlier report
    return write_text(page, text)


def glance(scene: Scene) -> Glance:
    """Return what an overview of several scans shows of this one."""
    acquired = anatomical_axis(scene.grid.affine, scene.through_plane_axis)
    picture = thumbnail(scene.methods[GLADE], scene.grid.affine, scene.shown, scene.centre_mm, acquired, scene.case)
    return Glance(picture, *(_uncertainty(scene) or (None, None)))


def _uncertainty(scene: Scene) -> tuple[float, float] | None:
    """The mean uncertainty of the body, in the scan's units and as a share of the intensity window."""
    if scene.uncertainty is None:
        return None
    mean = float(scene.uncertainty[scene.body].mean())
    return mean, mean / (scene.shown[1] - scene.shown[0])


def meaningful(scores: Mapping[str, Sequence[Score]]) -> tuple[dict[str, list[Score]], list[str]]:
    """Leave out the relative fine detail where its scale is too short; return the scores and the reason.

    >>> found = {"GLADE": [Score("spectrum_closed", 9.1, "1"), Score("pique", 30.0, "0-100")]}
    >>> meaningful(found)[0]["GLADE"]
    [Score(metric='pique', value=30.0, unit='0-100', axis='')]
    """
    title = explained(FINE_DETAIL).title
    largest = max((abs(s.value) for found in scores.values() for s in found if s.metric == FINE_DETAIL), default=0.0)
    if largest <= SHORT_SCALE:
        return {method: list(found) for method, found in scores.items()}, []
    kept = {method: [s for s in found if not s.metric.startswith(FINE_DETAIL)] for method, found in scores.items()}
    return kept, [f"{title}: the acquired planes hold hardly more fine detail than the cubic interpolation"]


def measured(scene: Scene) -> tuple[dict[str, list[Score]], list[str]]:
    """Compute the evaluation's measures for each method of a scene, with one mask and one intensity window for all.

    Mask and window are those of the truth if there is one, else of the cubic input.

    Returns:
        Method -> scores, and the reasons why other measures have no value.
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


def _facts(row: Row, scene: Scene) -> list[tuple[str, str | None]]:
    residual, uncertainty = row.residual, None
    found = _uncertainty(scene)
    if found is not None:
        mean, share = found
        uncertainty = f"mean ± {number(mean)} in the body ({share:.1%} of the window); made to hold 90 % of the errors"
    ratio = row.residual_over_noise
    largest = ", of the stack with the largest" if len(row.input.get("stacks", [])) > 1 else ""
    of_noise = "" if ratio is None else f"; {ratio:.2f} of their noise (below 1: they agree to within the noise)"
    return [
        ("acquired", size_and_spacing(row.input)),
        ("made", size_and_spacing(row.output)),
        ("intensities", _intensities(row)),
        *_slices(row.protocol),
        ("residual", None if residual is None else f"{percent(residual)} of the acquired slices{of_noise}{largest}"),
        ("uncertainty", uncertainty),
        ("time", None if row.seconds is None else f"{row.seconds:.1f} s, without this page"),
    ]


def _slices(protocol: ScanProtocol | None) -> list[tuple[str, str]]:
    if protocol is None:
        return [("slices", "near-isotropic: kept as they are")]
    return [
        ("slice spacing", f"{protocol.slice_spacing_mm:.4g} mm"),
        ("slice thickness", f"{protocol.slice_thickness_mm:.4g} mm ({protocol.thickness_source})"),
        ("slice profile", f"{protocol.profile} ({protocol.profile_source})"),
        ("through-plane axis", f"array axis {protocol.through_plane_axis} ({protocol.axis_source})"),
    ]


def _intensities(row: Row) -> str | None:
    """The ranges of the acquired slices and of the result, which is not cut to them."""
    acquired, made = (None if part is None else part.get("intensities") for part in (row.input, row.output))
    if acquired is None or made is None:
        return None
    return f"{_ends(acquired)} acquired, {_ends(made)} made; values beyond those of the slices are not clipped"


def _ends(values: Sequence[float]) -> str:
    return " to ".join(f"{value:.6g}".replace("-", MINUS) for value in values)


def _score_table(scores: Mapping[str, Sequence[Score]], scene: Scene) -> Table:
    """Methods and the truth x measures; PIQUE of either view across the slices beside its mean."""
    own = {method: [s for s in values if not s.metric.endswith(OF_TRUTH)] for method, values in scores.items()}
    of_truth = [s for s in next(iter(scores.values())) if s.metric.endswith(OF_TRUTH)]  # the same for each method
    if of_truth:
        own[TRUTH] = [s._replace(metric=s.metric.removesuffix(OF_TRUTH)) for s in of_truth]
    keys = dict.fromkeys((s.metric, s.axis) for values in own.values() for s in values)
    order = {metric: index for index, metric in enumerate(ordered_metrics(metric for metric, _ in keys))}
    keys = sorted(keys, key=lambda key: (order[key[0]], key[1]))
    units = {(s.metric, s.axis): s.unit for values in own.values() for s in values}
    head = []
    for metric, axis in keys:
        title = head_cell(metric, units[metric, axis])
        head.append(title._replace(text=f"{title.text}, {_plane(scene, int(axis))}") if axis else title)
    cells = {(method, s.metric, s.axis): s.value for method, values in own.items() for s in values}
    rows = [(method, *(number(cells.get((method, *key)), key[0]) for key in keys)) for method in own]
    caption = f"{INPUT_OF_STACKS if scene.first_stack else INPUT_OF_SCAN}; one intensity window for all methods."
    return Table(caption, ("method", *head), rows, [GLADE])


def _pictures(scene: Scene) -> list[tuple[str, str]]:
    names = [ACQUIRED, *scene.methods, "added detail", "uncertainty", *([] if scene.truth is None else [TRUTH])]
    return what_is_shown(names, **({CUBIC: f"{INPUT_OF_STACKS}."} if scene.first_stack else {}))


def _plane(scene: Scene, axis: int) -> str:
    """The view whose planes are perpendicular to an array axis."""
    fixed = anatomical_axis(scene.grid.affine, axis)
    return next(view for view, shown in VIEWS.items() if shown.fixed == fixed)


def _made_with(row: Row) -> list[tuple[str, str | None]]:
    own = row.settings
    return [
        ("version", own.get("version")),
        ("weights", row.weights_origin),
        ("weights, SHA-256", row.weights_sha256),
        *((name, setting(own[name])) for name in ("sharpness", "detail") if name in own),
    ]


def _array(volume) -> np.ndarray:
    """A MetaTensor (1, X, Y, Z) as a float32 array (X, Y, Z)."""
    return volume.detach().cpu().numpy()[0].astype(np.float32)


def _grid(volume) -> Grid:
    return Grid(tuple(volume.shape[-3:]), np.asarray(volume.affine.cpu(), dtype=np.float64))
