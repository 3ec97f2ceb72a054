"""The pictures of a scan on a page: three views, one window, physical aspect, captions as text."""

# ruff: noqa: RUF001, the page has typographic minus, dash and multiplication signs
import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import nibabel
import numpy as np
from skimage.transform import resize

matplotlib.use("Agg")
from matplotlib import image as pictures  # after the choice of a backend that needs no display

from ..geometry.views import VIEWS
from .planes import Volume, plane

MARGIN_MM = 6.0  # of air about the body
LONGEST_PIXELS = 400  # of a picture's side; larger ones are averaged down
TALLEST = 1.25  # height of a picture over the width of a column: narrow views are drawn smaller
QUALITY = {"gray": 82, "RdBu_r": 72, "viridis": 72}  # WebP; differences are mostly noise, which compresses badly
HANGING = {
    "sagittal": "front on the left, head up",
    "coronal": "the patient's right on the left, head up",
    "axial": "the patient's right on the left, front up",
}
SIGNED, SHARE = "RdBu_r", "viridis"  # colour maps of differences, and of what is 0 or more
SMALL_PIXELS = 112  # of a thumbnail's longer side
BAR_PIXELS = 128  # of a colour bar


class Tile(NamedTuple):
    """One volume to be shown.

    Attributes:
        name: its caption.
        volume: array and affine.
        window: intensities (low, high) at the lower and upper limit of the colour map, in the volume's own units.
        colours: a matplotlib colour map.
    """

    name: str
    volume: Volume
    window: tuple[float, float]
    colours: str = "gray"


class Frame(NamedTuple):
    """The part of a view that is shown.

    Attributes:
        shape: pixels of the whole picture, rows and columns.
        kept: rows and columns of the part that is shown.
        pixel_mm: side of a pixel, mm.
    """

    shape: tuple[int, int]
    kept: tuple[slice, slice]
    pixel_mm: float

    @property
    def size_mm(self) -> tuple[float, float]:
        """Height and width of the part that is shown, mm."""
        return tuple((part.stop - part.start) * self.pixel_mm for part in self.kept)


class Picture(NamedTuple):
    """One picture of a page: caption, description for those who cannot see it, data URI, size in pixels."""

    caption: str
    description: str
    uri: str
    width: int
    height: int


class ColourBar(NamedTuple):
    """The colours of some pictures: what is shown in them, the values at both ends, the bar as a data URI."""

    shown: str
    low: float
    high: float
    uri: str


class ViewPictures(NamedTuple):
    """The pictures of one view, side by side on a wide screen.

    Attributes:
        name: of the view.
        description: acquired plane or not, size of the field in mm, orientation.
        share: width of a picture over that of a column.
        pictures: all on one physical scale.
    """

    name: str
    description: str
    share: float
    pictures: Sequence[Picture]


def view_pictures(
    tiles: Sequence[Tile], case: str, body: Volume, point_mm: Sequence[float], acquired: int
) -> list[ViewPictures]:
    """Draw the three planes through a world point for every tile; within a view all pictures have one scale.

    Args:
        tiles: in the order shown; all of one field of view.
        case: name of the case, for the descriptions.
        body: a mask and its affine; parts far outside it are cut off.
        point_mm: RAS mm.
        acquired: the anatomical axis across the slices: 0 where they are sagittal, 1 coronal, 2 axial.
    """
    finest = min(tiles, key=lambda tile: np.prod(np.linalg.norm(tile.volume[1][:3, :3], axis=0))).volume
    frames = {view: _frame(finest, body, view, point_mm) for view in VIEWS}
    found = []
    for view in sorted(VIEWS, key=lambda view: VIEWS[view].fixed == acquired):  # across the slices first
        frame = frames[view]
        height, width = frame.size_mm
        kind = "acquired plane" if VIEWS[view].fixed == acquired else "across the slices"
        description = f"{kind} · {width:.0f} × {height:.0f} mm · {HANGING[view]}"
        drawn = [_picture(tile, case, view, point_mm, frame) for tile in tiles]
        found.append(ViewPictures(view.capitalize(), description, min(TALLEST * width / height, 1), drawn))
    return found


def anatomical_axis(affine: np.ndarray, array_axis: int) -> int:
    """Return the anatomical axis (0 right, 1 anterior, 2 superior) nearest to an array axis; each has one of its own.

    It is the axis on which `planes.canonical` puts it, also where two array axes are nearest to the same direction.

    >>> import numpy as np
    >>> anatomical_axis(np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]]), 2)
    0
    """
    return int(nibabel.io_orientation(affine)[array_axis, 0])


def _frame(volume: Volume, body: Volume, view: str, point_mm: Sequence[float]) -> Frame:
    """Square pixels over the whole field of view, and the part of it that holds the body and a margin."""
    picture, size_mm = plane(volume, view, point_mm)
    field = picture.shape[0] * size_mm[0], picture.shape[1] * size_mm[1]
    mask, affine = body
    fixed = next(a for a in range(mask.ndim) if anatomical_axis(affine, a) == VIEWS[view].fixed)
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


def _picture(tile: Tile, case: str, view: str, point_mm: Sequence[float], frame: Frame) -> Picture:
    picture = fitted(plane(tile.volume, view, point_mm)[0], frame.shape)[frame.kept]
    height, width = picture.shape
    uri = data_uri(picture, tile.window, tile.colours)
    return Picture(tile.name, f"{case}: {tile.name}, {view} plane", uri, width, height)


def thumbnail(
    values: np.ndarray,
    affine: np.ndarray,
    window: tuple[float, float],
    point_mm: Sequence[float],
    acquired: int,
    case: str,
) -> Picture:
    """Draw a plane of a volume across its slices, small: the coronal one if that is across them.

    Args:
        values: (X, Y, Z).
        affine: voxel index -> RAS mm.
        window: intensities shown as black and white.
        point_mm: RAS mm.
        acquired: the anatomical axis across the slices.
        case: name of the case, for the description.
    """
    view = "sagittal" if VIEWS["coronal"].fixed == acquired else "coronal"
    image, size_mm = plane((values, affine), view, point_mm)
    high, wide = image.shape[0] * size_mm[0], image.shape[1] * size_mm[1]
    scale = SMALL_PIXELS / max(high, wide)
    shape = max(round(high * scale), 1), max(round(wide * scale), 1)
    uri = data_uri(fitted(image, shape), window)
    return Picture(case, f"{case}: the result, {view} plane", uri, shape[1], shape[0])


def colour_bar(shown: str, window: tuple[float, float], colours: str) -> ColourBar:
    """Draw the colours from the lower to the upper end of a window."""
    return ColourBar(shown, *window, data_uri(np.linspace(0, 1, BAR_PIXELS)[None], (0, 1), colours))


def fitted(picture: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize a plane: finer by repeating pixels, so that a thick slice looks thick; coarser by averaging.

    >>> fitted([[1, 2]], (2, 2)).tolist()
    [[1.0, 2.0], [1.0, 2.0]]
    """
    picture = np.asarray(picture, float)
    for axis, wanted in enumerate(shape):
        size = picture.shape[axis]
        if wanted >= size:
            picture = np.take(picture, ((np.arange(wanted) + 0.5) * size / wanted).astype(int), axis=axis)
    return picture if picture.shape == tuple(shape) else resize(picture, shape, order=1, anti_aliasing=True)


def data_uri(picture: np.ndarray, window: tuple[float, float], colours: str = "gray") -> str:
    """Encode a picture as WebP in a data URI.

    Args:
        picture: (rows, columns).
        window: values at the lower and upper limit of the colour map.
        colours: a key of QUALITY.
    """
    file = io.BytesIO()
    low, high = window
    given = {"quality": QUALITY[colours], "method": 4}
    pictures.imsave(file, picture, cmap=colours, vmin=low, vmax=high, format="webp", pil_kwargs=given)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
