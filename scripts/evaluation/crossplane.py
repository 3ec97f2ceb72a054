"""Cross-plane check: a super-resolved scan against the sharp slices of another, nearly orthogonal scan of one body.

It is the one check of real against invented detail on real thick slices: what the reference scan acquired in-plane, the
evaluated scan had to recover. Both numbers are correlations: contrast and coil shading of the two scans do not matter.
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
from ..stacks.registration import register
from .cases import EvaluatedCase
from .layout import method_file
from .method_names import CONSISTENT, CUBIC
from .record import EvaluationRecord
from .scores import Row, Scores
from .scoring import acquired, covered_by_all
from .statistics import AGAINST
from .volumes import CUBIC_ORDER, ON_GRID_VOXELS, on_grid, read_grid, read_volume, sample

WINDOW_MM = 4.0  # Gaussian sigma of the local correlation's neighbourhood, about two slices of the reference scan
LEAST_SHARED = 1000  # voxels of the common field of view
LEAST_DEVIATION = (
    0.2  # of the slices' own; neighbourhoods with less variation contain mainly noise, which two scans do not share
)
LEAST_RUN = 16  # voxels of a line inside the common field of view, for its spectrum
LEAST_ALIGNED = 0.8  # cosine between the evaluated scan's through-plane direction and an axis of the reference planes
MARGIN_VOXELS = 2

logger = logging.getLogger(__name__)


class Pair(NamedTuple):
    """What all methods share: the slices of the reference scan, and how it would acquire a result.

    Attributes:
        slices: of the reference scan, (X, Y, N), the axis of the acquired planes last.
        mask: boolean, same shape: the body inside the common field of view.
        positions: voxel indices in the evaluated volume of the thin voxels that the slices average, (3, X, Y, Z).
        acquisition: A of the reference scan, Z -> N.
        along: the axis of the slices, 0 or 1, nearest to the evaluated scan's through-plane axis.
        pixel_mm: of the slices, along that axis.
        nyquist: the Nyquist frequency of the evaluated scan's slices, cycles per pixel.
    """

    slices: np.ndarray
    mask: np.ndarray
    positions: np.ndarray
    acquisition: Acquisition
    along: int
    pixel_mm: float
    nyquist: float


class CrossPlaneCheck:
    """Step that compares pairs of scans and adds scores under the case "<evaluated> against <reference>".

    Args:
        record: of the evaluation.
        methods: name -> folder; "consistent cubic" must be among them where there are pairs.
        pairs: [[evaluated, reference], ...] patterns of case names, or one pattern: every ordered pair of the cases
            that fit it.
        scores: to which the scores are added.

    Raises:
        Refusal: if `pairs` has another form.
    """

    def __init__(
        self,
        record: EvaluationRecord,
        methods: Mapping[str, Path],
        pairs: Sequence[Sequence[str]] | str | None,
        scores: Scores,
    ):
        self.record, self.methods, self.pairs, self.scores = record, dict(methods), pairs or [], scores
        for pair in [] if isinstance(self.pairs, str) else self.pairs:
            if isinstance(pair, str) or len(pair) != 2:
                raise Refusal(f"cross_plane must be a pattern or a list of pairs of patterns, got {pair!r}")

    def run(self) -> None:
        """Score all pairs; one that cannot be scored is recorded as a problem."""
        for evaluated, reference in self._pairs():
            name = f"{evaluated.name}{AGAINST}{reference.name}"
            try:
                rows = self._score(name, evaluated, reference)
            except Exception as error:  # noqa: BLE001 - one faulty pair must not stop the others
                self.record.problem(f"cross_plane: {name}", error)
                continue
            self.scores.add(rows)
            logger.info("%s: scored", name)

    def _pairs(self) -> list[tuple[EvaluatedCase, EvaluatedCase]]:
        cases = [case for case in self.record.open_cases() if not case.truth]
        if isinstance(self.pairs, str):
            found = list(permutations([case for case in cases if fnmatch(case.name, self.pairs)], 2))
            if not found:
                self.record.problem(f"cross_plane: fewer than two cases fit {self.pairs!r}")
            return found
        found = []
        for pair in self.pairs:
            fits = [[case for case in cases if fnmatch(case.name, pattern)] for pattern in pair]
            if not all(len(fit) == 1 for fit in fits):
                self.record.problem(f"cross_plane: {list(pair)} must fit one case each, not {list(map(len, fits))}")
            else:
                found.append((fits[0][0], fits[1][0]))
        return found

    def _score(self, name: str, evaluated: EvaluatedCase, reference: EvaluatedCase) -> list[Row]:
        names = list(self.record.cases)
        folders = {method: folder for method, folder in self.methods.items() if evaluated.has_done(method)}
        files = {method: method_file(folder, method, evaluated.name, names) for method, folder in folders.items()}
        if CONSISTENT not in files:
            raise Refusal(f"{CONSISTENT} must be among the methods: the two scans are aligned with it")
        volume, grid = read_volume(files[CONSISTENT])
        thin = read_grid(method_file(self.methods[CUBIC], CUBIC, reference.name, names))
        slices, acquisition = acquired(self.record.folder.scan_file(reference.name), thin, reference)
        interpolated = read_volume(method_file(self.methods[CONSISTENT], CONSISTENT, reference.name, names))
        motion = register(*interpolated, volume, grid)
        motion.check(same_contrast=False)
        logger.info("%s: registered, %.2f degrees, %.2f mm", name, motion.angle_deg, motion.shift_mm)
        pair = _inside_all(
            _pair(grid, evaluated, slices, thin, reference, acquisition, motion.matrix),
            covered_by_all(files.values(), grid),
        )
        shared = {"case": name, "factor": evaluated.factor, "profile": evaluated.protocol, "axis": "", "unit": "1"}
        rows = []
        for method, path in files.items():
            values = volume if method == CONSISTENT else on_grid(*read_volume(path), grid)
            image = reacquired(values, pair)
            rows += [
                Row(method=method, metric="cross_plane_correlation", value=local_correlation(image, pair), **shared),
                Row(method=method, metric="cross_plane_coherence", value=high_band_coherence(image, pair), **shared),
            ]
        return rows


def _pair(
    grid: Grid,
    evaluated: EvaluatedCase,
    slices: np.ndarray,
    thin: Grid,
    reference: EvaluatedCase,
    acquisition: Acquisition,
    motion: np.ndarray,
) -> Pair:
    """Find the common field of view of two registered scans.

    Args:
        grid: of the volume of the evaluated scan.
        evaluated: case of that scan.
        slices: of the reference scan, on square pixels.
        thin: the isotropic grid of the reference scan.
        reference: case of that scan.
        acquisition: A of the reference scan.
        motion: 4 x 4, RAS mm of the reference scan -> RAS mm of the evaluated one.
    """
    across = reference.through_plane_axis
    order = [*(a for a in range(AXES) if a != across), across]
    slices = np.ascontiguousarray(slices.transpose(order))
    affine = np.array(thin.affine)[:, [*order, AXES]]
    along = _along(affine, grid.affine[:AXES, evaluated.through_plane_axis], f"{evaluated.name}, {reference.name}")
    to_thin = np.eye(AXES + 1)  # from the number of a slice to the thin voxel at its centre
    to_thin[2, 2] = acquisition.geometry.slice_spacing_voxels
    to_thin[2, AXES] = acquisition.geometry.first_slice_voxels
    body = body_mask(slices)
    to_evaluated = np.linalg.inv(grid.affine) @ motion @ affine
    every = [range(n) for n in slices.shape]
    mask = body & _inside(_positions(to_evaluated @ to_thin, every), grid.shape)
    _check_shared(mask)
    box = bounding_box(mask, MARGIN_VOXELS)[:2]
    ranges = [*(range(part.start, part.stop) for part in box), range(thin.shape[across])]
    positions = _positions(to_evaluated, ranges)
    pixel_mm = float(np.linalg.norm(affine[:AXES, along]))
    nyquist = NYQUIST * pixel_mm / float(evaluated.slice_spacing_mm)
    return Pair(slices[box], mask[box], positions, acquisition, along, pixel_mm, nyquist)


def _inside_all(pair: Pair, covered: np.ndarray) -> Pair:
    """Restrict the mask to slices that average only what every method covers: beyond, its edge voxel is repeated."""
    share = sample(covered.astype(np.float32), pair.positions, order=1)
    mask = pair.mask & pair.acquisition.is_inside(torch.from_numpy(np.asarray(share, np.float32))).numpy()
    _check_shared(mask)
    return pair._replace(mask=mask)


def _along(affine: np.ndarray, direction: np.ndarray, names: str) -> int:
    """The one of the first two axes that runs along a direction in the world."""
    axes = affine[:AXES, :2] / np.linalg.norm(affine[:AXES, :2], axis=0)
    cosines = np.abs(axes.T @ direction) / np.linalg.norm(direction)
    if cosines.max() < LEAST_ALIGNED:
        raise Refusal(f"{names}: the through-plane direction of the first does not lie in the planes of the second")
    return int(cosines.argmax())


def _check_shared(mask: np.ndarray) -> None:
    if mask.sum() < LEAST_SHARED:
        raise Refusal(f"the two scans share {int(mask.sum())} voxels of body, {LEAST_SHARED} are needed")


def _positions(matrix: np.ndarray, ranges: Sequence[range]) -> np.ndarray:
    """Transformed indices, (3, X, Y, Z), float32."""
    x, y, z = (np.arange(r.start, r.stop, dtype=np.float32) for r in ranges)
    rows = matrix[:AXES].astype(np.float32)
    return np.stack(
        [r[0] * x[:, None, None] + r[1] * y[None, :, None] + r[2] * z[None, None, :] + r[AXES] for r in rows]
    )


def _inside(positions: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    size = np.array(shape)[:, None, None, None]
    return ((positions >= -ON_GRID_VOXELS) & (positions <= size - 1 + ON_GRID_VOXELS)).all(axis=0)


def reacquired(volume: np.ndarray, pair: Pair) -> np.ndarray:
    """Return the slices that the reference scan would have acquired of a volume: sampled on its thin voxels, then A.

    Args:
        volume: (X, Y, Z), on the grid of the evaluated scan.
        pair: of the two scans.

    Returns:
        Slices (X, Y, N), as `pair.slices`.

    >>> from scripts.physics.acquisition import SliceGeometry
    >>> A = Acquisition(SliceGeometry(thin_size=8, slice_count=2, slice_spacing_voxels=4, slice_thickness_voxels=4))
    >>> here = np.indices((8, 8, 8)).astype(np.float32)  # both scans lie on one grid
    >>> pair = Pair(None, None, here, A, along=0, pixel_mm=1.0, nyquist=0.1)
    >>> reacquired(np.tile(np.arange(8, dtype=np.float32), (8, 8, 1)), pair)[0, 0].round(3)  # means of 4 voxels
    array([1.5, 5.5], dtype=float32)
    """
    coefficients = ndimage.spline_filter(volume, CUBIC_ORDER, output=np.float32, mode="nearest")
    thin = sample(coefficients, pair.positions)
    return pair.acquisition(torch.from_numpy(np.asarray(thin, np.float32))).numpy()


def local_correlation(values: np.ndarray, pair: Pair) -> float:
    """Return the mean over the mask of the normalised correlation in Gaussian neighbourhoods; -1 to 1, 1 is best.

    Args:
        values: (X, Y, N), as `reacquired` returns them.
        pair: whose slices they are compared with.

    Raises:
        Refusal: if the slices have no texture inside the mask.

    >>> slices = np.random.default_rng(0).random((32, 32, 4), np.float32)
    >>> pair = Pair(slices, slices >= 0, None, None, along=0, pixel_mm=1.0, nyquist=0.1)
    >>> round(local_correlation(3 * slices + 7, pair), 3)  # another contrast of the same anatomy
    1.0
    """
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
        raise Refusal("the reference slices are flat inside the common field of view")
    norm = np.sqrt(np.maximum(variances[0] * variances[1], np.finfo(np.float32).eps))
    return float(np.clip(covariance[textured] / norm[textured], -1, 1).mean())


def high_band_coherence(values: np.ndarray, pair: Pair) -> float:
    """Return the correlation of the detail above the evaluated scan's Nyquist frequency, along its through-plane axis.

    Re sum conj(F v) F b / sqrt(sum |F v|^2 sum |F b|^2) over all lines and the frequencies of the band: 1 if the result
    shows there what the reference slices show, 0 if it is unrelated to them, whatever its amplitude.

    Args:
        values: (X, Y, N), as `reacquired` returns them.
        pair: whose slices they are compared with.

    Raises:
        Refusal: if no line is long enough, or one of the two has no such detail.

    >>> slices = np.random.default_rng(0).random((32, 32, 4), np.float32)
    >>> pair = Pair(slices, slices >= 0, None, None, along=0, pixel_mm=1.0, nyquist=0.1)
    >>> invented = np.random.default_rng(1).random(slices.shape, np.float32)
    >>> round(high_band_coherence(slices / 2, pair), 3), abs(high_band_coherence(invented, pair)) < 0.1
    (1.0, True)
    """
    mask = np.moveaxis(pair.mask, pair.along, -1)
    voxels = np.arange(mask.shape[-1])
    first, last = mask.argmax(axis=-1)[..., None], voxels[-1] - mask[..., ::-1].argmax(axis=-1)[..., None]
    length = last - first + 1
    kept = mask.any(axis=-1) & (length[..., 0] >= LEAST_RUN)
    if not kept.any():
        raise Refusal(f"no line of {LEAST_RUN} voxels lies in the common field of view")
    phase = np.pi * (voxels - first + 0.5) / length
    window = np.where((voxels >= first) & (voxels <= last), np.sin(phase) ** 2, 0)[kept]
    band = np.fft.rfftfreq(len(voxels)) > pair.nyquist
    spectra = []
    for image in (values, pair.slices):
        lines = np.moveaxis(image, pair.along, -1)[kept]
        lines = lines - (lines * window).sum(axis=-1, keepdims=True) / window.sum(axis=-1, keepdims=True)
        spectra.append(np.fft.rfft(lines * window, axis=-1)[..., band])
    powers = [float((np.abs(s) ** 2).sum()) for s in spectra]
    if not min(powers) > 0:
        raise Refusal("a volume without detail above the Nyquist frequency of the slices has no coherence")
    return float((spectra[0].conj() * spectra[1]).real.sum() / np.sqrt(powers[0] * powers[1]))
