"""A numerical abdomen phantom whose truth is known at any resolution, and its thick-slice acquisition.

The anatomy is a set of signed distances in mm, deformed by smooth random fields that depend on a seed. Every grid
samples the same body: a coarse voxel is the mean of the fine voxels within it. Fine details (bowel folds, septa, small
vessels, texture) reach down to about 1.3 mm, so that there is detail for super-resolution to recover.

`python -m scripts.phantom.files OUT` writes both as NIfTI.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from ..geometry.errors import Refusal
from ..geometry.grid import Grid
from ..physics.acquisition import Acquisition, SliceGeometry
from ..physics.measurement import simulate_slices
from . import organs, trunk
from .shapes import Canvas, RandomField, Warp

FIELD_OF_VIEW_MM = (333.0, 333.0, 270.0)  # left-right, head-foot, front-back
SAMPLE_MM = 4.0  # longer voxels are averages of shorter samples
CHUNK_VOXELS = 2**21  # painted at once, to bound memory
SHADING = 0.22  # relative deviation of the coil sensitivity
SPREAD = 0.03  # relative deviation of body size between patients


def coronal_grid(
    shape: tuple[int, int, int] = (256, 256, 45),
    field_of_view_mm: tuple[float, float, float] = FIELD_OF_VIEW_MM,
    centre_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Grid:
    """Return a coronal grid, axes to left, foot and back as scanners store it.

    The defaults are those of the acquisition in the paper, 256 x 256 x 45 voxels of 1.3 x 1.3 x 6 mm.

    Args:
        shape: voxels to left, foot and back.
        field_of_view_mm: extent along the same axes.
        centre_mm: of the field of view, RAS.

    >>> coronal_grid().spacing_mm.round(2)
    array([1.3, 1.3, 6. ])
    """
    spacing = np.asarray(field_of_view_mm, float) / shape
    affine = np.eye(4)
    affine[:3, :3] = np.array([[-1, 0, 0], [0, 0, -1], [0, -1, 0]]) * spacing
    affine[:3, 3] = np.asarray(centre_mm, float) - affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    return Grid(tuple(shape), affine)


@dataclass(frozen=True)
class Patient:
    """All random parameters of one phantom, drawn once from its seed."""

    warp: Warp
    textures: dict[str, RandomField]
    shading: RandomField
    pipes: organs.Pipes

    @classmethod
    @lru_cache(maxsize=4)
    def draw(cls, seed: int) -> Patient:
        """Return the patient of a seed, the same on any grid."""
        rng = np.random.default_rng(seed)
        bends = [(2.6, [RandomField.draw(rng, 24, 70, 190) for _ in range(3)]),
                 (0.7, [RandomField.draw(rng, 40, 20, 45) for _ in range(3)])]  # fmt: skip
        warp = Warp(1 + SPREAD * rng.uniform(-1, 1, size=3), bends)
        textures = {
            "fine": RandomField.draw(rng, 110, 2.7, 7.0),
            "coarse": RandomField.draw(rng, 60, 8.0, 30.0),
            "wide": RandomField.draw(rng, 32, 40.0, 110.0),
            "web": RandomField.draw(rng, 48, 16.0, 34.0),
            "strand": RandomField.draw(rng, 48, 11.0, 24.0),
            "rugae": RandomField.draw(rng, 40, 13.0, 20.0, elongation=(1.0, 1.0, 2.2)),
            "fibre": RandomField.draw(rng, 48, 9.0, 18.0, elongation=(1.0, 1.0, 5.0)),
        }
        shading = RandomField.draw(rng, 16, 350, 700)
        return cls(warp, textures, shading, organs.pipes(rng, warp))


def _paint(canvas: Canvas, patient: Patient) -> None:
    """Paint a whole patient; what is painted later covers what was painted before."""
    deep, inside = trunk.body(canvas)
    below, lungs = trunk.chest(canvas, inside)
    organs.paint_tube(canvas, patient.pipes.pulmonary, organs.LUNG_VESSEL, lungs)
    trunk.muscles(canvas, deep)
    trunk.pelvis(canvas, deep)
    trunk.spine(canvas, deep)
    organs.vessels(canvas, deep, patient.pipes)
    organs.kidneys(canvas, patient.pipes)
    organs.paint_tube(canvas, patient.pipes.renal, organs.VEIN, inside + 6)
    organs.spleen(canvas, inside, below, patient.pipes)
    organs.paint_tube(canvas, patient.pipes.mesenteric, organs.VEIN, inside + 3)
    organs.gut(canvas, inside, patient.pipes)
    organs.liver(canvas, inside, below, patient.pipes)
    organs.pelvic_organs(canvas, patient.pipes)


def _chunks(grid: Grid):
    """Yield slabs along the first axis, refined where voxels are long: (rows, factors, fine shape, fine affine)."""
    factors = np.maximum(1, np.ceil(grid.spacing_mm / SAMPLE_MM - 1e-6)).astype(int)
    row = int(np.prod(grid.shape[1:]) * factors.prod())
    step = max(1, CHUNK_VOXELS // row)
    for start in range(0, grid.shape[0], step):
        rows = slice(start, min(start + step, grid.shape[0]))
        affine = grid.affine.copy()
        affine[:3, :3] = affine[:3, :3] / factors
        first = np.array([start, 0, 0]) + (1 / factors - 1) / 2  # centre of the first sample
        affine[:3, 3] = grid.world_mm(first)
        yield rows, factors, tuple(int(n) for n in (rows.stop - start, *grid.shape[1:]) * factors), affine


def _mean_over(values: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Return the mean over blocks of `factors` voxels."""
    if factors.prod() == 1:
        return values
    a, b, c = (n // f for n, f in zip(values.shape, factors, strict=True))
    return values.reshape(a, factors[0], b, factors[1], c, factors[2]).mean((1, 3, 5))


def abdomen(grid: Grid, seed: int = 0, shading: bool = True) -> np.ndarray:
    """Return a noise-free abdomen with the contrast of a fat-suppressed T1 gradient echo after gadolinium (VIBE).

    Args:
        grid: of the samples; the body is centred on (0, 0, 0) mm and measures about 310 x 210 x 333 mm (RAS).
        seed: of the patient; the same seed gives the same body on every grid.
        shading: whether to modulate it by the coil sensitivity.

    Returns:
        Volume of the grid's shape, float32, 0 to about 1000 in scanner units.

    >>> volume = abdomen(coronal_grid((16, 16, 9)))
    >>> volume.shape, volume.dtype
    ((16, 16, 9), dtype('float32'))
    """
    patient = Patient.draw(seed)
    volume = np.empty(grid.shape, np.float32)
    for rows, factors, shape, affine in _chunks(grid):
        canvas = Canvas(shape, affine, patient.warp, patient.textures)
        _paint(canvas, patient)
        if shading:
            canvas.values *= np.exp(SHADING * 0.5 * patient.shading.on(shape, affine))
        volume[rows] = np.maximum(_mean_over(canvas.values, factors), 0)
    return volume


def bladder(grid: Grid, seed: int = 0) -> np.ndarray:
    """Return the partial volume of the bladder's lumen in each voxel, 0 to 1, float32.

    Args:
        grid: of the samples.
        seed: of the patient.
    """
    patient = Patient.draw(seed)
    label = np.zeros(grid.shape, np.float32)
    for rows, factors, shape, affine in _chunks(grid):
        canvas = Canvas(shape, affine, patient.warp, {})
        inside = np.clip(0.5 - organs.bladder_distance(canvas) / canvas.edge_mm, 0, 1)
        label[rows] = _mean_over(inside, factors)
    return label


def acquire(
    volume: np.ndarray,
    grid: Grid,
    slice_spacing_mm: float,
    slice_thickness_mm: float,
    profile: str = "fourier",
    noise_sigma: float = 0.0,
    seed: int = 0,
) -> tuple[np.ndarray, Grid]:
    """Return thick slices of a volume across its last axis, with Rician noise, and their grid.

    Args:
        volume: (X, Y, Z) on `grid`.
        grid: of the volume; the last axis becomes the through-plane axis.
        slice_spacing_mm: centre to centre.
        slice_thickness_mm: FWHM of the slice profile.
        profile: "rect", "slr", "gauss" or "fourier".
        noise_sigma: standard deviation of the noise in each channel, in the units of the volume; 0 for none.
        seed: of the noise.

    Returns:
        Slices (X, Y, N) float32, N = round(extent / spacing), and their grid, centred on the same field of view.

    Raises:
        Refusal: if the volume does not fit the grid, or not even one slice fits.

    >>> grid = coronal_grid((8, 8, 30), (8.0, 8.0, 30.0))
    >>> slices, thick = acquire(np.ones(grid.shape, np.float32), grid, slice_spacing_mm=6, slice_thickness_mm=6)
    >>> slices.shape, thick.spacing_mm
    ((8, 8, 5), array([1., 1., 6.]))
    """
    if volume.shape != grid.shape:
        raise Refusal(f"a volume of shape {volume.shape} is not on a grid of shape {grid.shape}: give its own grid")
    spacing = grid.spacing_mm
    count = int(np.floor(grid.shape[2] * spacing[2] / slice_spacing_mm + 0.5)) if slice_spacing_mm > 0 else 0
    if count < 1 or not slice_thickness_mm > 0:
        raise Refusal(
            f"no slice of spacing {slice_spacing_mm} mm and thickness {slice_thickness_mm} mm fits "
            f"{grid.shape[2] * spacing[2]:.4g} mm: give positive values below that"
        )
    geometry = SliceGeometry(
        grid.shape[2], count, slice_spacing_mm / spacing[2], slice_thickness_mm / spacing[2], profile
    )
    thin, generator = torch.as_tensor(volume, dtype=torch.float32), torch.Generator().manual_seed(seed)
    slices = simulate_slices(Acquisition(geometry), thin, noise_sigma, generator)
    affine = grid.affine.copy()
    affine[:3, 2] *= slice_spacing_mm / spacing[2]
    affine[:3, 3] = grid.world_mm((0, 0, geometry.first_slice_voxels))
    return slices.numpy(), Grid((*grid.shape[:2], count), affine)
