"""The volumes of the interactive viewer of a case, compact enough for a page; templates/viewer.js shows them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..data.coding import coding_of_range
from ..evaluation.method_names import CONSISTENT, CUBIC, GLADE
from ..geometry.files import write_text
from ..geometry.grid import AXES, Grid
from ..metrics.arrays import bounding_box
from ..physics.acquisition import SliceGeometry
from ..physics.interpolation import CubicInterpolation
from .explained import ACQUIRED, ordered
from .libraries import NIIVUE, Embedded, embedded
from .packing import Packed, packed
from .pages import render
from .planes import canonical
from .scene import HIDDEN, Scene
from .tiles import anatomical_axis

PAGE_BYTES = 15_000_000  # of a page; one with a larger viewer has it in a file beside it
VOLUMES_BYTES = 13_000_000  # of the page's volumes; the rest is the library and the pictures
FINE_LEVELS, COARSE_LEVELS = 4096, 256  # of an image: 12 bits where they fit, else 8
OVERLAY_LEVELS = 64  # of the colour map: finer ones look alike and take much space; even, so that 0 is between two
MARGIN_MM = 10.0  # about the body; what lies farther away is cut off
RANGE_PERCENTILES = (0.01, 99.99)  # of all images: values beyond, which are few, are stored as the nearest one
SAME_VALUE = 1e-3  # of the range: an interpolation computed anew is the same if it differs by less
SMALLEST_WEIGHT = 1e-6  # of an interpolation; smaller ones are left out
SCRIPTS, STYLES = ("unpack.js", "viewer.js"), ("viewer.css",)  # of a viewer; a page with tables adds theirs


class Volume(NamedTuple):
    """A stored volume: value = low + step * number.

    Attributes:
        packed: the numbers, (Z, Y, X).
        affine: voxel index (x, y, z) -> RAS mm, 16 numbers, row by row.
        low: value of the number 0, in the scan's units.
        step: difference of two numbers that follow each other.
        last: the largest number.
        cut: whether some values lie below and above what the numbers can say; they are stored as the nearest.
    """

    packed: Packed
    affine: Sequence[float]
    low: float
    step: float
    last: int
    cut: tuple[bool, bool]


class Image(NamedTuple):
    """An image that can be chosen.

    Attributes:
        name: shown.
        volume: index of its stored volume.
        axis: the axis (0 x, 1 y, 2 z) across the slices if the image is interpolated from them; None: for each voxel of
            the viewer the nearest stored one.
        weights: (voxels, slices) of the interpolation.
    """

    name: str
    volume: int
    axis: int | None = None
    weights: Sequence[Sequence[float]] | None = None


class Overlay(NamedTuple):
    """A volume that is laid over the images in colour.

    Attributes:
        name: shown.
        values: (X, Y, Z) on the grid of the scene.
        low: value at the lower end of the colour map.
        high: value at the upper end.
        unit: of the values; empty for the scan's.
    """

    name: str
    values: np.ndarray
    low: float
    high: float
    unit: str = ""


class OverlayOf(NamedTuple):
    """An overlay as the page has it: the index of its stored volume, the ends of its colour map, its unit."""

    name: str
    volume: int
    low: float
    high: float
    unit: str


class Viewer(NamedTuple):
    """What the templates viewer.html and viewer.js need.

    Attributes:
        case: name.
        shape: (X, Y, Z), the voxels that are shown, in RAS order.
        affine: voxel index -> RAS mm, 16 numbers, row by row.
        point: the voxel where the three planes meet at first.
        window: intensities shown as black and white at first.
        images: that can be chosen.
        overlays: that can be chosen.
        volumes: stored.
        bits: of the images.
        library: NiiVue.
    """

    case: str
    shape: Sequence[int]
    affine: Sequence[float]
    point: Sequence[int]
    window: tuple[float, float]
    images: Sequence[Image]
    overlays: Sequence[OverlayOf]
    volumes: Sequence[Volume]
    bits: int
    library: Embedded

    @property
    def bytes(self) -> int:
        """Size of its volumes in a page."""
        return sum(len(volume.packed.data) for volume in self.volumes)

    @property
    def content(self) -> dict:
        """Plain values for the page's script; the volumes' data stand beside them."""
        plain = {name: getattr(self, name) for name in ("case", "shape", "affine", "point", "window", "bits")}
        return plain | {
            "images": [image._asdict() for image in self.images],
            "overlays": [overlay._asdict() for overlay in self.overlays],
            "volumes": [
                {**volume._asdict(), "packed": volume.packed._replace(data="")._asdict()} for volume in self.volumes
            ],
        }


def overlays_of(scene: Scene) -> list[Overlay]:
    """List what can be laid over the images of a scene."""
    found = []
    if scene.added_detail is not None:
        found.append(Overlay("added detail", scene.added_detail, -scene.detail_span, scene.detail_span))
    if scene.uncertainty is not None:
        found.append(Overlay("uncertainty", scene.uncertainty, 0.0, scene.detail_span))
    return found


def viewer_of(scene: Scene) -> Viewer:
    """Make the viewer of a scene, cut to the body, with 12 bits a voxel where the page stays small enough, else 8."""
    coarse = _Store(scene, COARSE_LEVELS).viewer()
    finer = sum(np.prod(v.packed.shape) for v in coarse.volumes if v.packed.bytes == 1 and v.last == COARSE_LEVELS - 1)
    more = finer * np.log2(FINE_LEVELS / COARSE_LEVELS) / 6  # bits that do not compress, in base 64
    return coarse if coarse.bytes + more > VOLUMES_BYTES else _Store(scene, FINE_LEVELS).viewer()


def write_viewer(path: Path, viewer: Viewer, report: str) -> Path:
    """Write a page with the viewer alone.

    Args:
        path: of the page.
        viewer: its content.
        report: address of the report that the page belongs to, relative to it.

    Returns:
        The path.
    """
    title = f"GLADE: {viewer.case}"
    text = render("viewer_page.html", SCRIPTS, STYLES, [viewer.library], title=title, viewer=viewer, report=report)
    return write_text(path, text)


class _Store:
    """Collects the volumes of one viewer."""

    def __init__(self, scene: Scene, levels: int):
        self.scene, self.levels = scene, levels
        self.volumes: list[Volume] = []
        body, affine = canonical(scene.body, scene.grid.affine)
        self.axis = anatomical_axis(scene.grid.affine, scene.through_plane_axis)
        margin = np.ceil(MARGIN_MM / np.linalg.norm(affine[:AXES, :AXES], axis=0)).astype(int)
        self.box = tuple(
            slice(max(part.start - m, 0), min(part.stop + m, size))
            for part, m, size in zip(bounding_box(body > 0), margin, body.shape, strict=True)
        )
        self.whole = Grid(body.shape, affine)
        self.grid = _cut(self.whole, self.box)
        shown = [name for name in ordered(scene.methods) if name not in (*HIDDEN, CONSISTENT)]
        self.shown = {name: self._array(scene.methods[name]) for name in shown}
        if scene.truth is not None:
            self.shown["truth"] = self._array(scene.truth)
        ends = [np.percentile(values[self.box], RANGE_PERCENTILES) for values in self.shown.values()]
        self.low = min(scene.shown[0], *(float(low) for low, _ in ends))
        self.high = max(scene.shown[1], *(float(high) for _, high in ends))

    def viewer(self) -> Viewer:
        """The viewer, after everything is stored."""
        acquired, images = self._acquired_and_cubic()
        for name, values in self.shown.items():
            if name != CUBIC or not images:
                images.append(Image(name, self._store(values[self.box], self.grid, self.levels, self.low, self.high)))
        overlays = [self._overlay(overlay) for overlay in overlays_of(self.scene)]
        at = np.linalg.inv(self.grid.affine) @ [*self.scene.centre_mm, 1]
        point = np.clip(np.rint(at[:AXES]), 0, np.array(self.grid.shape) - 1).astype(int)
        order = [CUBIC, GLADE, "truth"]
        images.sort(key=lambda image: order.index(image.name) if image.name in order else len(order))
        return Viewer(
            case=self.scene.case,
            shape=[int(n) for n in self.grid.shape],
            affine=_numbers(self.grid.affine),
            point=[int(i) for i in point],
            window=self.scene.shown,
            images=[*acquired, *images],
            overlays=overlays,
            volumes=self.volumes,
            bits=int(np.log2(self.levels)),
            library=embedded(NIIVUE),
        )

    def _array(self, values: np.ndarray) -> np.ndarray:
        return canonical(values, self.scene.grid.affine)[0]

    def _overlay(self, overlay: Overlay) -> OverlayOf:
        values = self._array(overlay.values)[self.box]
        index = self._store(values, self.grid, OVERLAY_LEVELS, overlay.low, overlay.high)
        return OverlayOf(overlay.name, index, overlay.low, overlay.high, overlay.unit)

    def _acquired_and_cubic(self) -> tuple[list[Image], list[Image]]:
        """The slices of each stack, and the cubic interpolation by its weights where that gives the same volume."""
        if self.scene.slices is None:
            return [], []
        values, affine = canonical(self.scene.slices[0], self.scene.slices[1].affine)
        thick = Grid(values.shape, affine)
        weights = self._weights(values, thick)
        if weights is not None:
            part = tuple(slice(0, thick.shape[a]) if a == self.axis else self.box[a] for a in range(AXES))
            values, thick = values[part], _cut(thick, part)
        in_plane = [a for a in range(AXES) if a != self.axis]
        volume = self._store(values, thick, FINE_LEVELS, self.low, self.high, in_plane)
        images = [Image(f"{self.scene.first_stack} {ACQUIRED}".strip(), volume)]
        for name, (stack, grid) in self.scene.stacks.items():
            other, affine = canonical(stack, grid.affine)
            kept = self._store(other, Grid(other.shape, affine), FINE_LEVELS, self.low, self.high, in_plane)
            images.append(Image(f"{name} {ACQUIRED}", kept))
        if weights is None:
            return images, []
        rounded = np.where(np.abs(weights) < SMALLEST_WEIGHT, 0, weights)[self.box[self.axis]]
        return images, [Image(CUBIC, volume, self.axis, np.round(rounded, 6).tolist())]

    def _weights(self, slices: np.ndarray, thick: Grid) -> np.ndarray | None:
        """The matrix of `U`, if it makes the scene's cubic volume from the slices; None if not."""
        count, size = thick.shape[self.axis], self.whole.shape[self.axis]
        factor = float(thick.spacing_mm[self.axis] / self.whole.spacing_mm[self.axis])
        first = float((np.linalg.inv(self.whole.affine) @ [*thick.world_mm((0, 0, 0)), 1])[self.axis])
        same = all(thick.shape[a] == self.whole.shape[a] for a in range(AXES) if a != self.axis)
        if not same or CUBIC not in self.shown:
            return None
        try:
            weights = CubicInterpolation(SliceGeometry(size, count, factor, factor, first_slice_voxels=first)).matrix
        except ValueError:  # too few slices for a spline
            return None
        anew = np.moveaxis(np.tensordot(weights, slices, axes=(1, self.axis)), 0, self.axis)
        error = np.abs(anew - self.shown[CUBIC])[self.box].max()
        return weights if error < SAME_VALUE * (self.high - self.low) else None

    def _store(
        self, values: np.ndarray, grid: Grid, levels: int, low: float, high: float, axes: Sequence[int] | None = None
    ) -> int:
        """Keep a volume (X, Y, Z); return its index. `axes` are those to subtract neighbours along."""
        if axes is None:  # across the slices, and along one axis of the slices
            axes = [self.axis, next(a for a in range(AXES) if a != self.axis)]
        coding, values = coding_of_range(low, high, levels), np.nan_to_num(values)
        cut = bool(values.min() < low - coding.precision), bool(values.max() > high + coding.precision)
        numbers = coding.encode(np.clip(values, low, high)).transpose(2, 1, 0)
        kept = packed(numbers, [AXES - 1 - a for a in axes])
        self.volumes.append(Volume(kept, _numbers(grid.affine), coding.intercept, coding.slope, levels - 1, cut))
        return len(self.volumes) - 1


def _cut(grid: Grid, box: Sequence[slice]) -> Grid:
    affine = np.array(grid.affine)
    affine[:AXES, AXES] = grid.world_mm([part.start for part in box])
    return Grid(tuple(part.stop - part.start for part in box), affine)


def _numbers(affine: np.ndarray) -> list[float]:
    return [round(float(value), 6) for value in np.asarray(affine).ravel()]
