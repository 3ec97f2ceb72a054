"""The border of an organ found from a seed point, so that edges can be measured without a drawn label."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
from scipy import ndimage
from skimage.segmentation import flood, watershed

from ..geometry.errors import Refusal
from ..geometry.grid import AXES, Grid
from ..metrics.arrays import as_image, bounding_box
from ..metrics.profiles import border_profiles, line_profiles
from ..metrics.sharpness import edge_sharpness
from .measures import CaseVolumes, Result, Score
from .volumes import on_grid, read_volume

SMOOTHING_MM = 1.0  # Gaussian sigma, so that noise does not make the border of the region ragged
SEED_RADIUS_MM = 3.0  # of the ball about the seed that samples the intensities of the organ
WIDTH_DEVIATIONS = 2.5  # standard deviations in the ball by which the organ may differ from its median
LEAST_WIDTH = 0.12  # the same as a share of the intensity scale: coil shading alone reaches it
RANGE_PERCENTILES = (1.0, 99.0)
LARGEST_SHARE = 0.1  # of the volume; a larger region has leaked out of the organ
SMALLEST_MM3 = 500.0  # a ball of 10 mm diameter; a smaller one has too little border
BAND_MM = 6.0  # width of the band about the core in which the edge is searched: wider than the blur of a slice
OPENING_MM = 3.0  # leaks through thinner bridges are cut off
KINDS = ("label", "seed_mm", "points_mm")
UNITS = {"raw": "1/mm", "polynomial": "1/mm", "sigmoid": "1/mm", "rise_mm": "mm", "overshoot": "1"}


def region_from_seed(volume, grid: Grid, seed_mm: Sequence[float]) -> np.ndarray:
    """Return the organ about a seed, out to the steepest edge around it.

    Its core consists of connected voxels whose smoothed values are near those about the seed, without parts that only
    thin bridges connect; from there a watershed of the gradient finds the edge. The volume is the interpolated input,
    never the result of a method, so that all methods share the border.

    Args:
        volume: (X, Y, Z), any intensity scale.
        grid: of the volume.
        seed_mm: a point inside the organ, RAS mm.

    Returns:
        A boolean array (X, Y, Z).

    Raises:
        Refusal: if the seed lies outside, the region fills more than a tenth of the volume or less than 0.5 ml.

    >>> radius = np.linalg.norm(np.indices((40, 40, 40)) - 19.5, axis=0)
    >>> organ = 100.0 * (radius < 8)
    >>> region = region_from_seed(organ, Grid(organ.shape, np.eye(4)), seed_mm=(22, 20, 19))
    >>> bool(region[radius < 7].all()), bool(region[radius > 8].any())
    (True, False)
    """
    volume = as_image(volume, "volume")
    seed = _index(seed_mm, grid, "seed_mm")
    smooth = ndimage.gaussian_filter(volume.astype(np.float32), SMOOTHING_MM / grid.spacing_mm)
    radius = np.maximum(SEED_RADIUS_MM / grid.spacing_mm, 1)
    ball = smooth[tuple(slice(max(int(s - r), 0), int(s + r) + 1) for s, r in zip(seed, radius, strict=True))]
    low, high = np.percentile(smooth, RANGE_PERCENTILES)
    width = max(WIDTH_DEVIATIONS * float(ball.std()), LEAST_WIDTH * float(high - low))
    near = np.abs(smooth - float(np.median(ball))) <= width
    seed = tuple(int(i) for i in seed)
    if not near[seed]:
        raise Refusal(f"seed_mm {list(seed_mm)} lies on an edge: set it well inside the organ")
    core = _opened(flood(near.astype(np.uint8), seed, connectivity=1), grid, seed)
    leaks = float(core.mean()) > LARGEST_SHARE
    region = core if leaks else ndimage.binary_fill_holes(_to_the_edge(core, smooth, grid))
    share, size_mm3 = float(region.mean()), float(region.sum() * np.prod(grid.spacing_mm))
    if share > LARGEST_SHARE:
        raise Refusal(
            f"the region from seed_mm {list(seed_mm)} fills {share:.0%} of the volume: it leaks out of the organ; move "
            "the seed or give a label"
        )
    if size_mm3 < SMALLEST_MM3:
        raise Refusal(
            f"the region from seed_mm {list(seed_mm)} has {size_mm3:.0f} mm3, less than {SMALLEST_MM3:.0f}: move the "
            "seed into a uniform part of the organ, or give a label"
        )
    return region


class Borders:
    """Edge sharpness across borders that the settings name; all methods share the border.

    Args:
        borders: pattern of case names -> one of {"label": a NIfTI file}, {"seed_mm": [x, y, z]} and {"points_mm":
            [[x, y, z], [x, y, z]]}, two points on either side of a border; RAS mm.
        through_plane: measure only where the border's normal is within 30 degrees of the through-plane axis, which is
            where the methods differ; False takes the whole border.

    Raises:
        Refusal: if a setting has another form.

    >>> Borders({"knee*": {"seed_mm": [10, 0, 5], "label": "bone.nii.gz"}})
    Traceback (most recent call last):
    scripts.geometry.errors.Refusal: borders: knee* needs exactly one of label, seed_mm, points_mm, got {...}
    """

    requested = True  # the user named this border, so a missing value is a problem and not a note

    def __init__(self, borders: Mapping[str, Mapping] | None, through_plane: bool = True):
        self.borders, self.through_plane = dict(borders or {}), through_plane
        for pattern, border in self.borders.items():
            if not (isinstance(border, Mapping) and len(border) == 1 and next(iter(border)) in KINDS):
                raise Refusal(f"borders: {pattern} needs exactly one of {', '.join(KINDS)}, got {border!r}")
        self._label: tuple[str, np.ndarray] | None = None  # name of the current case, and its label

    def __call__(self, case: CaseVolumes, result: Result) -> list[Score]:
        """Return the scores; none for a case that no pattern fits."""
        border = next((b for pattern, b in self.borders.items() if fnmatch(case.name, pattern)), None)
        if border is None:
            return []
        axis = case.axis if self.through_plane else None
        if "points_mm" in border:
            start, end = _points(border["points_mm"], case.grid)
            profiles = line_profiles(result.values, start, end, case.spacing_mm)
        else:
            profiles = border_profiles(result.values, self._label_of(case, border), case.spacing_mm, axis=axis)
        found = edge_sharpness(profiles)._asdict()
        where = "" if axis is None else str(axis)
        scores = [Score(f"border_{name}", found[name].median, unit, where) for name, unit in UNITS.items()]
        return [
            *(s for s in scores if np.isfinite(s.value)),
            Score("border_profiles", found["profile_count"], "1", where),
        ]

    def _label_of(self, case: CaseVolumes, border: Mapping) -> np.ndarray:
        if self._label is None or self._label[0] != case.name:
            if "label" in border:
                values, grid = read_volume(Path(border["label"]))
                label = on_grid(values, grid, case.grid) > 1 / 2
                if not label.any():
                    raise Refusal(f"{Path(border['label']).name}: the label is empty on the grid of {case.name}")
            else:
                label = region_from_seed(case.interpolated, case.grid, border["seed_mm"])
            self._label = (case.name, label)
        return self._label[1]


def _to_the_edge(core: np.ndarray, smooth: np.ndarray, grid: Grid) -> np.ndarray:
    """Grow the core to the ridge of the gradient: blurred edges lie outside the core's range of values."""
    box = bounding_box(core, int(np.ceil(2 * BAND_MM / grid.spacing_mm.min())))
    gradient = ndimage.gaussian_gradient_magnitude(smooth[box], SMOOTHING_MM / grid.spacing_mm)
    outside_mm = ndimage.distance_transform_edt(~core[box], sampling=grid.spacing_mm)
    grown = np.zeros_like(core)
    grown[box] = watershed(gradient, np.where(core[box], 1, np.where(outside_mm > BAND_MM, 2, 0))) == 1
    return grown


def _opened(region: np.ndarray, grid: Grid, seed: tuple[int, ...]) -> np.ndarray:
    """The region without thin bridges and the parts that only they connect with the seed."""
    distance = ndimage.distance_transform_edt(region, sampling=grid.spacing_mm)
    core = distance > OPENING_MM
    labels, _ = ndimage.label(core)
    if not core.any():
        return region
    nearest = labels[seed] or labels[tuple(_nearest(core, grid, seed))]
    back = ndimage.distance_transform_edt(labels != nearest, sampling=grid.spacing_mm) <= OPENING_MM
    return back & region


def _nearest(core: np.ndarray, grid: Grid, seed: tuple[int, ...]) -> np.ndarray:
    voxels = np.argwhere(core)
    return voxels[np.linalg.norm((voxels - np.array(seed)) * grid.spacing_mm, axis=1).argmin()]


def _index(point_mm: Sequence[float], grid: Grid, name: str) -> np.ndarray:
    """Index of the voxel that contains a point, RAS mm."""
    index = np.rint(_fractional(point_mm, grid, name)).astype(int)
    if ((index < 0) | (index >= grid.shape)).any():
        raise Refusal(f"{name} {list(point_mm)} lies outside the volume: give RAS millimetres")
    return index


def _fractional(point_mm: Sequence[float], grid: Grid, name: str) -> np.ndarray:
    point = np.asarray(point_mm, dtype=float)
    if point.shape != (AXES,) or not np.isfinite(point).all():
        raise Refusal(f"{name} must be three numbers, RAS mm, got {point_mm!r}")
    return (np.linalg.inv(grid.affine) @ [*point, 1])[:AXES]


def _points(points_mm, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(points_mm, Sequence) or isinstance(points_mm, str) or len(points_mm) != 2:
        raise Refusal(f"points_mm must be two points of three numbers, RAS mm, got {points_mm!r}")
    start, end = (_fractional(point, grid, "points_mm") for point in points_mm)
    return start, end
