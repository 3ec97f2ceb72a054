"""What a page shows of one scan: the figure in three views, a profile across an edge, spectra."""

# ruff: noqa: RUF001, the page has typographic minus, dash and multiplication signs
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

from ..evaluation.volumes import sample
from ..geometry.errors import Refusal
from ..geometry.grid import AXES, Grid
from ..metrics.arrays import bounding_box
from ..metrics.mask import body_mask
from ..metrics.spectrum import NYQUIST, power_spectrum
from .curves import profile_chart, spectrum_chart
from .explained import CONSISTENT, CUBIC, GLADE, ordered
from .figures import robust_window
from .markup import Markup, element, joined
from .tiles import SHARE, SIGNED, Tile, acquired_axis, views_figure

LINEAR_ORDER = 1
HIDDEN = ("nearest", "linear")  # of figures and curves: they crowd out what matters
REACH_MM = 12.0  # of a profile, to each side of the edge
SAMPLES = 241  # of a profile
EDGE_SIGMA_MM = 2.0  # an edge is sought that runs on, not a speck
INSIDE_MM = 5.0  # from the body's surface: skin against air is the easiest edge of all
SPLINE_MARGIN_VOXELS = 12  # the spline's prefilter forgets that far away
ADDED_SHARE = 4  # added detail and differences are shown in a fourth of the window, to both sides
COLUMNS, COLUMNS_WITH_TRUTH = 3, 4  # pictures beside one another: input, cubic, GLADE, and the truth
LINES_AT_MOST = 120  # along each direction, of a spectrum: more change nothing that is seen
POSITIONS = 0.01  # mm


@dataclass(frozen=True)
class Scene:
    """The volumes of one scan, all float32 (X, Y, Z) and but for the slices on one isotropic grid.

    Attributes:
        case: its name.
        grid: the isotropic one.
        through_plane_axis: of the array.
        slice_spacing_mm: centre to centre.
        slices: as acquired, and their grid.
        methods: name -> volume; "cubic" must be among them.
        truth: None where there is none.
        added_detail: of GLADE, or None.
        confidence: of GLADE, or None.
        window: intensities shown as black and white; None: percentiles of the cubic input.
        point_mm: where the three planes meet, RAS mm; None: the body's centre of mass.
    """

    case: str
    grid: Grid
    through_plane_axis: int
    slice_spacing_mm: float
    slices: tuple[np.ndarray, Grid] | None
    methods: Mapping[str, np.ndarray]
    truth: np.ndarray | None = None
    added_detail: np.ndarray | None = None
    confidence: np.ndarray | None = None
    window: tuple[float, float] | None = None
    point_mm: Sequence[float] | None = None

    @cached_property
    def body(self) -> np.ndarray:
        """The body mask, of the truth where there is one; everywhere where none can be told."""
        reference = self.methods[CUBIC] if self.truth is None else self.truth
        try:
            return body_mask(reference)
        except Refusal:
            return np.ones(self.grid.shape, bool)

    @cached_property
    def shown(self) -> tuple[float, float]:
        """The window."""
        return robust_window(self.methods[CUBIC]) if self.window is None else tuple(map(float, self.window))

    @cached_property
    def centre_mm(self) -> np.ndarray:
        """Where the three planes meet."""
        if self.point_mm is not None:
            return np.asarray(self.point_mm, float)
        parts = [self.body.sum(axis=tuple(b for b in range(AXES) if b != a)) for a in range(AXES)]
        index = [np.average(np.arange(part.size), weights=part) for part in parts]
        return self.grid.world_mm(np.rint(index))


def scene_figure(scene: Scene) -> Markup:
    """Input, methods, truth, differences to it, added detail and confidence, in three views."""
    low, high = scene.shown
    span = (high - low) / ADDED_SHARE
    signed = (-span, span)

    def here(values: np.ndarray):
        return values, np.array(scene.grid.affine)

    ours = [name for name in (CUBIC, GLADE) if name in scene.methods]
    others = [name for name in ordered(scene.methods) if name not in (*HIDDEN, CONSISTENT, *ours)]
    tiles = [Tile(name, here(scene.methods[name]), scene.shown) for name in ours]
    if scene.slices is not None:
        thick = scene.slices[0], np.array(scene.slices[1].affine)
        tiles.insert(0, Tile("input", thick, scene.shown))
    if scene.truth is not None:
        tiles.append(Tile("truth", here(scene.truth), scene.shown))
        tiles += [Tile(f"{n} − truth", here(scene.methods[n] - scene.truth), signed, SIGNED) for n in ours]
    if scene.added_detail is not None:
        tiles.append(Tile("added detail", here(scene.added_detail), signed, SIGNED))
    if scene.confidence is not None:
        tiles.append(Tile("confidence", here(scene.confidence), (0, 1), SHARE))
    for name in others:
        tiles.append(Tile(name, here(scene.methods[name]), scene.shown))
        if scene.truth is not None:
            tiles.append(Tile(f"{name} − truth", here(scene.methods[name] - scene.truth), signed, SIGNED))
    scales = ""
    if any(tile.colours == SIGNED for tile in tiles):
        scales = f"; differences and added detail blue to red in ±{span:.4g}"
    if scene.confidence is not None:
        scales += "; confidence dark 0 to bright 1"
    columns = COLUMNS if scene.truth is None else COLUMNS_WITH_TRUTH
    axis = acquired_axis(scene.grid.affine, scene.through_plane_axis)
    place = ", ".join(f"{v:.0f}" for v in scene.centre_mm)
    words = (
        f"One intensity window for all: {low:.4g} to {high:.4g} in the scan's own units{scales}. "
        f"Physical aspect; the planes meet at ({place}) mm RAS. Voxels as they are, not smoothed."
    )
    body = scene.body, np.array(scene.grid.affine)
    figure = views_figure(tiles, scene.case, body, scene.centre_mm, axis, columns)
    return joined(figure, element("p", words, class_="note"))


def scene_charts(scene: Scene) -> Markup:
    """The profile and the spectra, side by side; what cannot be drawn says why."""
    parts = []
    for chart in (_profile, _spectra):
        try:
            svg, words = chart(scene)
        except Refusal as refusal:
            parts.append(element("p", str(refusal), class_="note"))
        else:
            parts.append(element("figure", svg, element("figcaption", words)))
    return element("div", parts, class_="charts")


def steepest_place(cubic: np.ndarray, grid: Grid, axis: int, inside: np.ndarray) -> np.ndarray:
    """Index of the voxel where the cubic input changes most along an axis: the edge does not depend on any method.

    Args:
        cubic: (X, Y, Z).
        grid: where it lies.
        axis: the through-plane one.
        inside: body mask; places near its surface are left out where there are others.

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


def along(values: np.ndarray, grid: Grid, places_mm: np.ndarray, order: int) -> np.ndarray:
    """Values at world positions (S, 3), RAS mm, by a spline of the part of the volume about them."""
    index = (np.linalg.inv(grid.affine) @ np.c_[places_mm, np.ones(len(places_mm))].T)[:AXES]
    low = np.maximum(np.floor(index.min(axis=1)).astype(int) - SPLINE_MARGIN_VOXELS, 0)
    high = np.minimum(np.ceil(index.max(axis=1)).astype(int) + SPLINE_MARGIN_VOXELS + 1, grid.shape)
    part = values[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    part = part if order == LINEAR_ORDER else ndimage.spline_filter(part, order, output=np.float64, mode="nearest")
    return sample(part, index - low[:, None], order)


def _profile(scene: Scene) -> tuple[Markup, str]:
    axis, grid = scene.through_plane_axis, scene.grid
    place = grid.world_mm(steepest_place(scene.methods[CUBIC], grid, axis, scene.body))
    direction = grid.affine[:AXES, axis] / grid.spacing_mm[axis]
    offsets = np.linspace(-REACH_MM, REACH_MM, SAMPLES)
    line = place + offsets[:, None] * direction
    names = [name for name in ordered(scene.methods) if name not in HIDDEN]
    curves = {name: along(scene.methods[name], grid, line, AXES) for name in names}
    if scene.truth is not None:
        curves["truth"] = along(scene.truth, grid, line, AXES)
    dots = _slices_along(scene, place, direction)
    where = ", ".join(f"{v:.0f}" for v in place)
    chart = profile_chart(offsets, curves, dots, f"{scene.case}: intensities across an edge, along the slices' axis")
    return chart, f"Profile across the edge where the cubic input changes most through-plane, at ({where}) mm RAS."


def _slices_along(scene: Scene, place: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places in mm along the line and values of the acquired slices, read in-plane by linear interpolation."""
    if scene.slices is None:
        return np.empty(0), np.empty(0)
    values, thick = scene.slices
    axis, at = scene.through_plane_axis, np.linalg.inv(thick.affine) @ [*place, 1]
    index = np.tile(at[:AXES], (thick.shape[axis], 1))
    index[:, axis] = np.arange(thick.shape[axis])
    offsets = (thick.world_mm(index) - place) @ direction
    near = np.abs(offsets) <= REACH_MM + POSITIONS
    return offsets[near], along(values, thick, thick.world_mm(index[near]), LINEAR_ORDER) if near.any() else np.empty(0)


def _spectra(scene: Scene) -> tuple[Markup, str]:
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
    what = "the truth's" if scene.truth is not None else "the input's own in-plane spectrum (dotted)"
    words = f"Power spectra through-plane inside the body, over the cubic input's total power; the aim is {what}."
    chart = spectrum_chart(
        curves, NYQUIST / scene.slice_spacing_mm, f"{scene.case}: power spectra along the slices' axis"
    )
    return chart, words


def _in_plane(volume: np.ndarray, axis: int, spacing_mm: np.ndarray, frequencies: np.ndarray):
    """The mean of the two in-plane spectra, each over its own total, on the frequencies of the through-plane one."""
    parts = []
    for other in (a for a in range(AXES) if a != axis):
        own, power = power_spectrum(_thinned(volume, other), other)
        density = power / power[1:].sum() * (len(power) - 1) / (len(frequencies) - 1)
        parts.append(np.exp(np.interp(frequencies, own / spacing_mm[other], np.log(density + np.finfo(float).tiny))))
    return frequencies, np.mean(parts, axis=0)


def _thinned(volume: np.ndarray, axis: int) -> np.ndarray:
    """Every so many lines along an axis."""
    steps = [1 if a == axis else max(n // LINES_AT_MOST, 1) for a, n in enumerate(volume.shape)]
    return volume[tuple(slice(None, None, step) for step in steps)]
