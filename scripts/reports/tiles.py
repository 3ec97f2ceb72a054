"""The figure of a case on a page: small pictures in three views, captions as text, one window, physical aspect."""

# ruff: noqa: RUF001, the page has typographic minus, dash and multiplication signs
import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from skimage.transform import resize

matplotlib.use("Agg")
from matplotlib import image as pictures  # after the choice of a backend that needs no display

from ..geometry.views import VIEWS
from .figures import plane
from .markup import Markup, element, joined

Volume = tuple[np.ndarray, np.ndarray]  # array (X, Y, Z), affine voxel index -> RAS mm
MARGIN_MM = 6.0  # of air about the body
LONGEST_PIXELS = 400  # of a picture's side; what is larger is averaged down
TALLEST = 1.25  # of a picture, over the width of a column: narrow views are drawn smaller
QUALITY = {"gray": 82, "RdBu_r": 72, "viridis": 72}  # WebP; differences are mostly noise, which costs most
HANGING = {
    "sagittal": "front on the left, head up",
    "coronal": "the patient's right on the left, head up",
    "axial": "the patient's right on the left, front up",
}
SIGNED, SHARE = "RdBu_r", "viridis"


class Tile(NamedTuple):
    """One row of pictures: a volume, its window (low, high) in its own units, and its colours."""

    name: str
    volume: Volume
    window: tuple[float, float]
    colours: str = "gray"


class Frame(NamedTuple):
    """What of a view is shown: pixels of the whole picture, the part of them that is kept, and mm a pixel."""

    shape: tuple[int, int]
    kept: tuple[slice, slice]
    pixel_mm: float

    @property
    def size_mm(self) -> tuple[float, float]:
        """Height and width of what is kept."""
        return tuple((part.stop - part.start) * self.pixel_mm for part in self.kept)


def views_figure(
    tiles: Sequence[Tile], case: str, body: Volume, point_mm: Sequence[float], acquired: int, columns: int
) -> Markup:
    """The three planes through a world point, for every tile; within a view all pictures have one scale.

    Args:
        tiles: in the order shown; all of one field of view.
        case: for the alternative texts.
        body: a mask and its affine; what lies far outside is cut off.
        point_mm: RAS mm.
        acquired: the anatomical axis across the slices: 0 where they are sagittal, 1 coronal, 2 axial.
        columns: of pictures beside one another on a wide screen; more where a view is narrow.
    """
    finest = min(tiles, key=lambda tile: np.prod(np.linalg.norm(tile.volume[1][:3, :3], axis=0))).volume
    frames = {view: _frame(finest, body, view, point_mm) for view in VIEWS}
    parts = []
    for view in sorted(VIEWS, key=lambda view: VIEWS[view][0] == acquired):  # across the slices first
        frame = frames[view]
        kind = "acquired plane" if VIEWS[view][0] == acquired else "across the slices"
        figures = [_figure(tile, case, view, point_mm, frame) for tile in tiles]
        field = f"{frame.size_mm[1]:.0f} × {frame.size_mm[0]:.0f} mm"
        title = element("h4", view.capitalize(), " ", element("small", f"{kind} · {field} · {HANGING[view]}"))
        share = min(TALLEST * frame.size_mm[1] / frame.size_mm[0], 1)
        row = element("div", figures, class_="tiles", style=f"--columns:{columns};--share:{share:.3f}")
        parts.append(element("div", title, row, class_="view"))
    return joined(parts)


def acquired_axis(affine: np.ndarray, through_plane_axis: int) -> int:
    """The anatomical axis (0 right, 1 anterior, 2 superior) nearest to an array axis."""
    return int(np.abs(np.asarray(affine)[:3, through_plane_axis]).argmax())


def _frame(volume: Volume, body: Volume, view: str, point_mm: Sequence[float]) -> Frame:
    """Square pixels over the whole field of view, and the part of it that holds the body and a margin."""
    picture, size_mm = plane(volume, view, point_mm)
    field = picture.shape[0] * size_mm[0], picture.shape[1] * size_mm[1]
    mask, affine = body
    fixed = acquired_axis(np.asarray(affine).T, VIEWS[view][0])  # the array axis nearest to the view's normal
    shadow = np.broadcast_to(mask.any(axis=fixed, keepdims=True), mask.shape)
    shadow = plane((shadow, affine), view, point_mm)[0] > 0
    parts = []
    for axis, extent in enumerate(field):
        inside = np.flatnonzero(shadow.any(axis=1 - axis))
        inside = inside if inside.size else np.array([0, shadow.shape[axis] - 1])
        step = extent / shadow.shape[axis]
        parts.append((max(inside[0] * step - MARGIN_MM, 0), min((inside[-1] + 1) * step + MARGIN_MM, extent)))
    pixel = max(*(stop - start for start, stop in parts)) / LONGEST_PIXELS
    pixel = max(min(size_mm), pixel)
    shape = tuple(max(round(extent / pixel), 1) for extent in field)
    kept = tuple(
        slice(min(int(start / pixel), size - 1), max(min(round(stop / pixel), size), 1))
        for (start, stop), size in zip(parts, shape, strict=True)
    )
    return Frame(shape, kept, pixel)


def _figure(tile: Tile, case: str, view: str, point_mm: Sequence[float], frame: Frame) -> Markup:
    picture = fitted(plane(tile.volume, view, point_mm)[0], frame.shape)[frame.kept]
    image = element(
        "img",
        src=data_uri(picture, tile.window, tile.colours),
        alt=f"{case}: {tile.name}, {view} plane",
        width=picture.shape[1],
        height=picture.shape[0],
    )
    return element("figure", element("figcaption", tile.name), image)


def fitted(picture: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A plane at another size: finer by repeating pixels, so that a thick slice looks thick; coarser by averaging."""
    picture = np.asarray(picture, float)
    for axis, wanted in enumerate(shape):
        size = picture.shape[axis]
        if wanted >= size:
            picture = np.take(picture, ((np.arange(wanted) + 0.5) * size / wanted).astype(int), axis=axis)
    return picture if picture.shape == tuple(shape) else resize(picture, shape, order=1, anti_aliasing=True)


def data_uri(picture: np.ndarray, window: tuple[float, float], colours: str = "gray") -> str:
    """The picture as WebP in a data URI."""
    file = io.BytesIO()
    low, high = window
    given = {"quality": QUALITY[colours], "method": 4}
    pictures.imsave(file, picture, cmap=colours, vmin=low, vmax=high, format="webp", pil_kwargs=given)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
