"""The figures of one scan on a page: three views, a profile across an edge, power spectra."""

# ruff: noqa: RUF001, the page has typographic minus, dash and multiplication signs
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from ..evaluation.method_names import CONSISTENT, CUBIC, GLADE
from ..evaluation.volumes import sample
from ..geometry.errors import Refusal
from ..geometry.grid import AXES, Grid
from ..metrics.arrays import bounding_box
from ..metrics.mask import body_mask
from ..metrics.spectrum import NYQUIST, power_spectrum
from .curves import Chart, profile_chart, spectrum_chart
from .explained import ACQUIRED, ordered
from .planes import robust_window
from .tiles import SHARE, SIGNED, ColourBar, Tile, ViewPictures, anatomical_axis, colour_bar, view_pictures

LINEAR_ORDER = 1
HIDDEN = ("nearest", "linear")  # not drawn in figures and charts, which would be crowded
REACH_MM = 12.0  # length of a profile to each side of the edge
SAMPLES = 241  # points of a profile
EDGE_SIGMA_MM = 2.0  # smoothing before the search, so that an extended edge is found and not a speck
INSIDE_MM = 5.0  # distance from the body's surface: the edge between skin and air shows little
SPLINE_MARGIN_VOXELS = 12  # voxels farther away do not change a spline value
ADDED_SHARE = (
    4  # added detail and differences are shown from minus to plus a fourth of the window, the uncertainty from 0
)
LINES_AT_MOST = 120  # of a spectrum along each direction: more lines do not change the chart visibly
TOLERANCE_MM = 0.01  # of positions


@dataclass(frozen=True)
class Scene:
    """The volumes of one scan, float32 (X, Y, Z); all but the slices lie on one isotropic grid.

    Attributes:
        case: name of the case.
        grid: the isotropic grid.
        through_plane_axis: array axis across the slices.
        slice_spacing_mm: centre to centre.
        slices: the acquired slices and their grid, or None.
        methods: name -> volume; "cubic" must be among them.
        truth: the true volume, or None.
        added_detail: of GLADE, or None.
        uncertainty: of GLADE, half-widths in the scan's units, or None.
        window: intensities shown as black and white; None: percentiles of the cubic input.
        point_mm: point where the three planes meet, RAS mm; None: the body's centre of mass.
        first_stack: name of the stack of these slices, where the result was made from several; else empty.
        stacks: the other ones of these, name -> slices and their grid.
    """

    case: str
    grid: Grid
    through_plane_axis: int
    slice_spacing_mm: float
    slices: tuple[np.ndarray, Grid] | None
    methods: Mapping[str, np.ndarray]
    truth: np.ndarray | None = None
    added_detail: np.ndarray | None = None
    uncertainty: np.ndarray | None = None
    window: tuple[float, float] | None = None
    point_mm: Sequence[float] | None = None
    first_stack: str = ""
    stacks: Mapping[str, tuple[np.ndarray, Grid]] = field(default_factory=dict)

    @property
    def detail_span(self) -> float:
        """Added detail and differences are shown from minus to plus this value, the uncertainty from 0 to it."""
        return (self.shown[1] - self.shown[0]) / ADDED_SHARE

    @cached_property
    def body(self) -> np.ndarray:
        """The body mask, of the truth where there is one; all voxels if no body is found."""
        reference = self.methods[CUBIC] if self.truth is None else self.truth
        try:
            return body_mask(reference)
        except Refusal:
            return np.ones(self.grid.shape, bool)

    @cached_property
    def shown(self) -> tuple[float, float]:
        """The intensity window (low, high) of the pictures."""
        return robust_window(self.methods[CUBIC]) if self.window is None else tuple(map(float, self.window))

    @cached_property
    def centre_mm(self) -> np.ndarray:
        """The point where the three planes meet, RAS mm."""
        if self.point_mm is not None:
            return np.asarray(self.point_mm, float)
        parts = [self.body.sum(axis=tuple(b for b in range(AXES) if b != a)) for a in range(AXES)]
        index = [np.average(np.arange(part.size), weights=part) for part in parts]
        return self.grid.world_mm(np.rint(index))


class ViewsFigure(NamedTuple):
    """The pictures of a scan in three views, the bars of their colours, and a sentence about their scales."""

    views: Sequence[ViewPictures]
    bars: Sequence[ColourBar]
    scales: str


class CaptionedChart(NamedTuple):
    """A chart and its caption; None and the reason where the chart cannot be drawn."""

    chart: Chart | None
    caption: str


def scene_figure(scene: Scene) -> ViewsFigure:
    """Draw slices, methods, truth, differences from it, added detail and uncertainty in three views."""
    (low, high), span = scene.shown, scene.detail_span
    signed = (-span, span)

    def here(values: np.ndarray):
        return values, np.array(scene.grid.affine)

    ours = [name for name in (CUBIC, GLADE) if name in scene.methods]
    others = [name for name in ordered(scene.methods) if name not in (*HIDDEN, CONSISTENT, *ours)]
    tiles = [Tile(name, here(scene.methods[name]), scene.shown) for name in ours]
    if scene.slices is not None:
        thick = scene.slices[0], np.array(scene.slices[1].affine)
        tiles.insert(0, Tile(ACQUIRED, thick, scene.shown))
    if scene.truth is not None:
        tiles.append(Tile("truth", here(scene.truth), scene.shown))
        tiles += [Tile(f"{n} − truth", here(scene.methods[n] - scene.truth), signed, SIGNED) for n in ours]
    if scene.added_detail is not None:
        tiles.append(Tile("added detail", here(scene.added_detail), signed, SIGNED))
    if scene.uncertainty is not None:
        tiles.append(Tile("uncertainty", here(scene.uncertainty), (0, span), SHARE))
    for name in others:
        tiles.append(Tile(name, here(scene.methods[name]), scene.shown))
        if scene.truth is not None:
            tiles.append(Tile(f"{name} − truth", here(scene.methods[name] - scene.truth), signed, SIGNED))
    bars = [colour_bar("images", scene.shown, "gray")]
    if any(tile.colours == SIGNED for tile in tiles):
        bars.append(colour_bar("added detail and differences", signed, SIGNED))
    if scene.uncertainty is not None:
        bars.append(colour_bar("uncertainty", (0, span), SHARE))
    axis = anatomical_axis(scene.grid.affine, scene.through_plane_axis)
    point = ", ".join(f"{v:.0f}" for v in scene.centre_mm)
    scales = (
        f"One intensity window for all: {low:.4g} to {high:.4g} in the scan's own units. "
        f"True proportions; the planes meet at ({point}) mm (towards the patient's right, front, head). "
        "Voxels are not smoothed."
    )
    body = scene.body, np.array(scene.grid.affine)
    return ViewsFigure(view_pictures(tiles, scene.case, body, scene.centre_mm, axis), bars, scales)


def scene_charts(scene: Scene) -> list[CaptionedChart]:
    """Draw the profile and the spectra; a chart that cannot be drawn is replaced by the reason."""
    found = []
    for draw in (_profile, _spectra):
        try:
            found.append(draw(scene))
        except Refusal as refusal:
            found.append(CaptionedChart(None, str(refusal)))
    return found


def steepest_voxel(cubic: np.ndarray, grid: Grid, axis: int, inside: np.ndarray) -> np.ndarray:
    """Return the index of the voxel where the cubic input changes most along an axis.

    The edge is taken from the input so that the choice favours no method.

    Args:
        cubic: (X, Y, Z).
        grid: of the volume.
        axis: the through-plane axis.
        inside: body mask; voxels near its surface are used only if there are no others.

    Raises:
        Refusal: if the volume is too thin for a profile.
    """
    margin = int(np.ceil(REACH_MM / grid.spacing_mm[axis]))
    size = grid.shape[axis]
    if size <= 2 * margin:
        raise Refusal(
            f"No profile: {size * grid.spacing_mm[axis]:.0f} mm through-plane, {2 * REACH_MM:g} mm are needed."
        )
    smooth = ndimage.gaussian_filter(cubic, EDGE_SIGMA_MM / grid.spacing_mm)
    steep = np.abs(np.gradient(smooth, axis=axis))
    allowed = np.zeros(grid.shape, bool)
    allowed[tuple(slice(margin, size - margin) if a == axis else slice(None) for a in range(AXES))] = True
    deep = ndimage.distance_transform_edt(inside, sampling=grid.spacing_mm) > INSIDE_MM
    chosen = next(mask for mask in (allowed & deep, allowed & inside, allowed) if mask.any())
    return np.array(np.unravel_index(np.argmax(np.where(chosen, steep, -1)), grid.shape))


def along(values: np.ndarray, grid: Grid, positions_mm: np.ndarray, order: int) -> np.ndarray:
    """Interpolate a volume at world positions by a spline of the part of it around them.

    Args:
        values: (X, Y, Z).
        grid: of the volume.
        positions_mm: (S, 3), RAS mm.
        order: of the spline; 1 is linear.

    >>> import numpy as np
    >>> ramp = np.broadcast_to(np.arange(20.0), (5, 5, 20))
    >>> along(ramp, Grid((5, 5, 20), np.diag([1, 1, 2, 1.0])), np.array([[2, 2, 7.0]]), 1).tolist()
    [3.5]
    """
    index = (np.linalg.inv(grid.affine) @ np.c_[positions_mm, np.ones(len(positions_mm))].T)[:AXES]
    low = np.maximum(np.floor(index.min(axis=1)).astype(int) - SPLINE_MARGIN_VOXELS, 0)
    high = np.minimum(np.ceil(index.max(axis=1)).astype(int) + SPLINE_MARGIN_VOXELS + 1, grid.shape)
    part = values[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    part = part if order == LINEAR_ORDER else ndimage.spline_filter(part, order, output=np.float64, mode="nearest")
    return sample(part, index - low[:, None], order)


def _profile(scene: Scene) -> CaptionedChart:
    axis, grid = scene.through_plane_axis, scene.grid
    edge = grid.world_mm(steepest_voxel(scene.methods[CUBIC], grid, axis, scene.body))
    direction = grid.affine[:AXES, axis] / grid.spacing_mm[axis]
    offsets = np.linspace(-REACH_MM, REACH_MM, SAMPLES)
    line = edge + offsets[:, None] * direction
    names = [name for name in ordered(scene.methods) if name not in HIDDEN]
    curves = {name: along(scene.methods[name], grid, line, AXES) for name in names}
    if scene.truth is not None:
        curves["truth"] = along(scene.truth, grid, line, AXES)
    dots = _slices_along(scene, edge, direction)
    where = ", ".join(f"{v:.0f}" for v in edge)
    chart = profile_chart(offsets, curves, dots, f"{scene.case}: intensities across an edge, along the slices' axis")
    caption = (
        "Intensities along a line across the slices, through the edge where the cubic interpolation changes most, "
        f"at ({where}) mm. A steeper step is a sharper edge."
    )
    return CaptionedChart(chart, caption)


def _slices_along(scene: Scene, edge: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions along the line (mm from the edge) and values of the acquired slices, interpolated linearly in-plane."""
    if scene.slices is None:
        return np.empty(0), np.empty(0)
    values, thick = scene.slices
    axis, at = scene.through_plane_axis, np.linalg.inv(thick.affine) @ [*edge, 1]
    index = np.tile(at[:AXES], (thick.shape[axis], 1))
    index[:, axis] = np.arange(thick.shape[axis])
    offsets = (thick.world_mm(index) - edge) @ direction
    near = np.abs(offsets) <= REACH_MM + TOLERANCE_MM
    return offsets[near], along(values, thick, thick.world_mm(index[near]), LINEAR_ORDER) if near.any() else np.empty(0)


def _spectra(scene: Scene) -> CaptionedChart:
    axis, spacing = scene.through_plane_axis, scene.grid.spacing_mm
    box = bounding_box(scene.body)
    reference = scene.methods[CUBIC][box]
    names = [name for name in ordered(scene.methods) if name not in HIDDEN]
    volumes = {name: scene.methods[name][box] for name in names} | (
        {} if scene.truth is None else {"truth": scene.truth[box]}
    )
    curves = {}
    _, power = power_spectrum(_thinned(reference, axis), axis)
    total = float(power[1:].sum())
    if not total > 0:
        raise Refusal("No spectrum: the volume is constant along the slices' axis.")
    for name, volume in volumes.items():
        frequencies, power = power_spectrum(_thinned(volume, axis), axis)
        curves[name] = frequencies / spacing[axis], power / total
    if scene.truth is None:
        curves["in-plane"] = _in_plane(reference, axis, spacing, curves[CUBIC][0])
    aim = "that of the truth" if scene.truth is not None else "that of the acquired planes, in-plane (dotted)"
    caption = (
        "Power spectra across the slices, inside the body. Left: coarse structures; right of the vertical line (the "
        f"Nyquist frequency of the slices): detail that is too fine for the slices. The aim is {aim}."
    )
    chart = spectrum_chart(
        curves, NYQUIST / scene.slice_spacing_mm, f"{scene.case}: power spectra along the slices' axis"
    )
    return CaptionedChart(chart, caption)


def _in_plane(volume: np.ndarray, axis: int, spacing_mm: np.ndarray, frequencies: np.ndarray):
    """Mean of the two in-plane spectra, each relative to its own total, at the frequencies of the through-plane one."""
    parts = []
    for other in (a for a in range(AXES) if a != axis):
        own, power = power_spectrum(_thinned(volume, other), other)
        density = power / power[1:].sum() * (len(power) - 1) / (len(frequencies) - 1)
        parts.append(np.exp(np.interp(frequencies, own / spacing_mm[other], np.log(density + np.finfo(float).tiny))))
    return frequencies, np.mean(parts, axis=0)


def _thinned(volume: np.ndarray, axis: int) -> np.ndarray:
    """A regular subset of the lines along an axis, which gives nearly the same spectrum in less time."""
    steps = [1 if a == axis else max(n // LINES_AT_MOST, 1) for a, n in enumerate(volume.shape)]
    return volume[tuple(slice(None, None, step) for step in steps)]
