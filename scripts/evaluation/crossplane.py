"""Cross-plane check: a super-resolved scan against the sharp slices of another, nearly orthogonal scan of one body.

The one check of invented against real detail on real thick slices: what one scan acquired in-plane, the other one had
to recover. Both numbers are correlations: contrast and coil shading of the two scans do not enter.
"""

import logging
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from itertools import permutations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage

from ..geometry.errors import Refusal
from ..geometry.grid import AXES, Grid
from ..metrics.arrays import bounding_box
from ..metrics.mask import body_mask
from ..metrics.spectrum import NYQUIST
from ..physics.acquisition import Acquisition
from .judge import INTERPOLATED, SCANS, Record, acquired
from .layout import method_file
from .rigid import align
from .statistics import AGAINST, Row, read_scores, write_scores
from .volumes import CUBIC, ON_GRID_VOXELS, on_grid, read_grid, read_volume, sample

ALIGNED_WITH = "consistent cubic"  # the transform is found with it, and used for all methods
WINDOW_MM = 4.0  # Gaussian sigma of the local correlation's neighbourhood, about two slices of the other scan across
ALIGNMENT_SIGMA_MM = 1.0  # noise smoothed away for the alignment alone
ALIGNMENT_PLACES = 40_000
LEAST_PLACES = 1000  # voxels of the common field of view
LEAST_DEVIATION = 0.2  # of the slices' own; calmer neighbourhoods hold noise, which no two scans share
LEAST_RUN = 16  # voxels of a line inside the common field of view, for its spectrum
LEAST_ALIGNED = 0.8  # cosine of the judged scan's through-plane direction with an axis of the sharp planes
MARGIN_VOXELS = 2

logger = logging.getLogger(__name__)


class Pair(NamedTuple):
    """What all methods share: the sharp slices (X, Y, N), acquired planes' axis last, and how to see a volume there.

    `mask`: same shape, body inside the common field of view. `places`: indices into the judged volume at the thin
    voxels behind the slices, (3, X, Y, Z). `acquisition`: A of the sharp scan, Z -> N. `along`: the axis of the slices
    nearest to the judged scan's through-plane axis. `pixel_mm`: of the slices. `nyquist`: of the judged scan's slices,
    cycles per pixel.
    """

    slices: np.ndarray
    mask: np.ndarray
    places: np.ndarray
    acquisition: Acquisition
    along: int
    pixel_mm: float
    nyquist: float


class CrossPlane:
    """Judges pairs of scans; adds rows to OUT/scores.csv under the case "<judged> against <sharp>".

    Args:
        record: of the evaluation.
        methods: name -> folder; "consistent cubic" must be among them where there are pairs.
        pairs: [[judged, sharp], ...] patterns of case names, or one pattern: every ordered pair of the cases it fits.

    Raises:
        Refusal: on pairs of another form.
    """

    def __init__(self, record: Record, methods: Mapping[str, Path], pairs: Sequence[Sequence[str]] | str | None):
        self.record, self.methods, self.pairs = record, dict(methods), pairs or []
        for pair in [] if isinstance(self.pairs, str) else self.pairs:
            if isinstance(pair, str) or len(pair) != 2:
                raise Refusal(f"cross_plane must be a pattern or a list of pairs of patterns, got {pair!r}")

    def run(self) -> None:
        """Judges all pairs; one that cannot be judged is listed as a problem."""
        for judged, sharp in self._pairs():
            name = f"{judged['case']}{AGAINST}{sharp['case']}"
            try:
                rows = self._judge(name, judged, sharp)
            except Exception as error:  # noqa: BLE001 - one faulty case must not stop the others
                self.record.problem(f"cross_plane: {name}", error)
                continue
            path = Path(self.record.output_dir) / "scores.csv"
            write_scores([*read_scores(path), *rows], path)
            logger.info("%s: judged", name)

    def _pairs(self) -> list[tuple[dict, dict]]:
        rows = [row for row in self.record.open_rows() if not row["truth"]]
        if isinstance(self.pairs, str):
            found = list(permutations([row for row in rows if fnmatch(row["case"], self.pairs)], 2))
            if not found:
                self.record.problem(f"cross_plane: fewer than two cases fit {self.pairs!r}")
            return found
        found = []
        for pair in self.pairs:
            fits = [[row for row in rows if fnmatch(row["case"], pattern)] for pattern in pair]
            if not all(len(fit) == 1 for fit in fits):
                self.record.problem(f"cross_plane: {list(pair)} must fit one case each, not {list(map(len, fits))}")
            else:
                found.append((fits[0][0], fits[1][0]))
        return found

    def _judge(self, name: str, judged: dict, sharp: dict) -> list[Row]:
        cases = [row["case"] for row in self.record.open_rows()]
        files = {m: method_file(f, m, judged["case"], cases) for m, f in self.methods.items() if self._has(judged, m)}
        if ALIGNED_WITH not in files:
            raise Refusal(f"{ALIGNED_WITH} must be among the methods: the two scans are aligned with it")
        volume, grid = read_volume(files[ALIGNED_WITH])
        thin = read_grid(method_file(self.methods[INTERPOLATED], INTERPOLATED, sharp["case"], cases))
        scan = Path(self.record.output_dir) / SCANS / f"{sharp['case']}.nii.gz"
        slices, acquisition = acquired(scan, thin, sharp)
        pair = _pair(volume, grid, judged, slices, thin, sharp, acquisition)
        shared = {"case": name, "factor": judged["factor"], "profile": judged["protocol"], "axis": "", "unit": "1"}
        rows = []
        for method, path in files.items():
            values = volume if method == ALIGNED_WITH else on_grid(*read_volume(path), grid)
            image = seen(values, pair)
            rows += [
                Row(method=method, metric="cross_plane_correlation", value=local_correlation(image, pair), **shared),
                Row(method=method, metric="cross_plane_coherence", value=high_band_coherence(image, pair), **shared),
            ]
        return rows

    def _has(self, row: dict, method: str) -> bool:
        return row["methods"].get(method, {}).get("status") == "done"


def _pair(
    volume: np.ndarray, grid: Grid, judged: dict, slices: np.ndarray, thin: Grid, sharp: dict, acquisition
) -> Pair:
    """Aligns the two scans and finds their common field of view.

    Args:
        volume: of the judged scan, (X, Y, Z), that the transform is found with.
        grid: of the volume.
        judged: row of that scan.
        slices: of the sharp scan, on square pixels.
        thin: the isotropic grid of the sharp scan.
        sharp: row of that scan.
        acquisition: A of the sharp scan.
    """
    across = int(sharp["through_plane_axis"])
    order = [*(a for a in range(AXES) if a != across), across]
    slices = np.ascontiguousarray(slices.transpose(order))
    affine = np.array(thin.affine)[:, [*order, AXES]]
    along = _along(affine, grid.affine[:AXES, int(judged["through_plane_axis"])], f"{judged['case']}, {sharp['case']}")
    to_thin = np.eye(AXES + 1)  # from a slice's number to the thin voxel at its centre
    to_thin[2, 2] = acquisition.geometry.slice_spacing_voxels
    to_thin[2, AXES] = acquisition.geometry.first_slice_voxels
    body = body_mask(slices)
    rigid = _aligned(volume, grid, slices, body, affine @ to_thin)
    to_judged = np.linalg.inv(grid.affine) @ rigid @ affine
    every = [range(n) for n in slices.shape]
    mask = body & _inside(_places(to_judged @ to_thin, every), grid.shape)
    _check_shared(mask)
    box = bounding_box(mask, MARGIN_VOXELS)[:2]
    places = _places(to_judged, [*(range(part.start, part.stop) for part in box), range(thin.shape[across])])
    pixel_mm = float(np.linalg.norm(affine[:AXES, along]))
    nyquist = NYQUIST * pixel_mm / float(judged["slice_spacing_mm"])
    return Pair(slices[box], mask[box], places, acquisition, along, pixel_mm, nyquist)


def _along(affine: np.ndarray, direction: np.ndarray, names: str) -> int:
    """Which of the first two axes runs along a direction in the world."""
    axes = affine[:AXES, :2] / np.linalg.norm(affine[:AXES, :2], axis=0)
    cosines = np.abs(axes.T @ direction) / np.linalg.norm(direction)
    if cosines.max() < LEAST_ALIGNED:
        raise Refusal(f"{names}: the planes of the second do not hold the through-plane direction of the first")
    return int(cosines.argmax())


def _aligned(volume: np.ndarray, grid: Grid, slices: np.ndarray, body: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """4 x 4, RAS mm of the sharp scan -> RAS mm of the judged one, found from a fixed draw of places."""
    moving = ndimage.gaussian_filter(volume, ALIGNMENT_SIGMA_MM / grid.spacing_mm)
    pixel_mm = np.linalg.norm(affine[:AXES, :2], axis=0)
    fixed = ndimage.gaussian_filter(slices, [*(ALIGNMENT_SIGMA_MM / pixel_mm), 0])
    every = [range(n) for n in slices.shape]
    shared = body & _inside(_places(np.linalg.inv(grid.affine) @ affine, every), grid.shape)
    _check_shared(shared)
    index = np.argwhere(shared)
    if len(index) > ALIGNMENT_PLACES:
        index = np.random.default_rng(0).choice(index, ALIGNMENT_PLACES, replace=False)
    places_mm = index @ affine[:AXES, :AXES].T + affine[:AXES, AXES]
    rigid = align(moving, grid.affine, places_mm, fixed[tuple(index.T)])
    logger.info("aligned: %s degrees, %s mm", rigid.angles_deg.round(2), rigid.shift_mm.round(2))
    return rigid.matrix


def _check_shared(mask: np.ndarray) -> None:
    if mask.sum() < LEAST_PLACES:
        raise Refusal(f"the two scans share {int(mask.sum())} voxels of body, {LEAST_PLACES} are needed")


def _places(matrix: np.ndarray, ranges: Sequence[range]) -> np.ndarray:
    """Transformed indices, (3, X, Y, Z), float32."""
    x, y, z = (np.arange(r.start, r.stop, dtype=np.float32) for r in ranges)
    rows = matrix[:AXES].astype(np.float32)
    return np.stack(
        [r[0] * x[:, None, None] + r[1] * y[None, :, None] + r[2] * z[None, None, :] + r[AXES] for r in rows]
    )


def _inside(places: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    size = np.array(shape)[:, None, None, None]
    return ((places >= -ON_GRID_VOXELS) & (places <= size - 1 + ON_GRID_VOXELS)).all(axis=0)


def seen(volume: np.ndarray, pair: Pair) -> np.ndarray:
    """The volume as the sharp scan would have acquired it, (X, Y, N): sampled behind its slices, then A."""
    coefficients = ndimage.spline_filter(volume, CUBIC, output=np.float32, mode="nearest")
    thin = sample(coefficients, pair.places)
    return pair.acquisition(torch.from_numpy(np.asarray(thin, np.float32))).numpy()


def local_correlation(values: np.ndarray, pair: Pair) -> float:
    """Mean over the mask of the normalised correlation in Gaussian neighbourhoods of the slices; -1 to 1, 1 is best."""
    sigma = [WINDOW_MM / pair.pixel_mm] * 2 + [0.0]
    weight = np.maximum(ndimage.gaussian_filter(pair.mask.astype(np.float32), sigma), np.finfo(np.float32).eps)

    def mean(image: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(np.where(pair.mask, image, 0).astype(np.float32), sigma) / weight

    a, b = (
        v / v[pair.mask].std() for v in (values - values[pair.mask].mean(), pair.slices - pair.slices[pair.mask].mean())
    )
    means = mean(a), mean(b)
    covariance = mean(a * b) - means[0] * means[1]
    variances = [np.maximum(mean(v * v) - m * m, 0) for v, m in zip((a, b), means, strict=True)]
    textured = pair.mask & (variances[1] > LEAST_DEVIATION**2)
    if not textured.any():
        raise Refusal("the sharp slices are flat inside the common field of view")
    norm = np.sqrt(np.maximum(variances[0] * variances[1], np.finfo(np.float32).eps))
    return float(np.clip(covariance[textured] / norm[textured], -1, 1).mean())


def high_band_coherence(values: np.ndarray, pair: Pair) -> float:
    """Correlation of the detail above the judged scan's Nyquist frequency, along its through-plane axis; -1 to 1.

    Re sum conj(F v) F b / sqrt(sum |F v|^2 sum |F b|^2) over all lines and the frequencies of the band: 1 if all that
    the result shows there is what the sharp slices show, 0 if it is unrelated, whatever its strength.
    """
    mask = np.moveaxis(pair.mask, pair.along, -1)
    places = np.arange(mask.shape[-1])
    first, last = mask.argmax(axis=-1)[..., None], places[-1] - mask[..., ::-1].argmax(axis=-1)[..., None]
    length = last - first + 1
    kept = mask.any(axis=-1) & (length[..., 0] >= LEAST_RUN)
    if not kept.any():
        raise Refusal(f"no line of {LEAST_RUN} voxels lies in the common field of view")
    phase = np.pi * (places - first + 0.5) / length
    window = np.where((places >= first) & (places <= last), np.sin(phase) ** 2, 0)[kept]
    band = np.fft.rfftfreq(len(places)) > pair.nyquist
    spectra = []
    for image in (values, pair.slices):
        lines = np.moveaxis(image, pair.along, -1)[kept]
        lines = lines - (lines * window).sum(axis=-1, keepdims=True) / window.sum(axis=-1, keepdims=True)
        spectra.append(np.fft.rfft(lines * window, axis=-1)[..., band])
    powers = [float((np.abs(s) ** 2).sum()) for s in spectra]
    if not min(powers) > 0:
        raise Refusal("a volume without any detail above the slices' Nyquist frequency has no coherence")
    return float((spectra[0].conj() * spectra[1]).real.sum() / np.sqrt(powers[0] * powers[1]))
