"""A procedural abdomen with known truth at any resolution, and its thick-slice acquisition.

The anatomy is a set of signed distances in mm, bent by smooth random fields of the seed, so that every grid samples the
same body: a coarse voxel is the mean of the fine voxels within it. Fine details (bowel folds, septa, small vessels,
grain) reach down to about 1.3 mm, so that there is something for super-resolution to recover.

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
from ..physics.noise import add_rician_noise
from . import organs, trunk
from .shapes import Canvas, RandomField, Warp

FIELD_OF_VIEW_MM = (333.0, 333.0, 270.0)  # left-right, head-foot, front-back
SAMPLE_MM = 4.0  # voxels longer than this are averaged from smaller samples
CHUNK_VOXELS = 2**21
SHADING = 0.22  # relative deviation of the coils' sensitivity
SPREAD = 0.03  # relative deviation of body size from patient to patient


def coronal_grid(
    shape: tuple[int, int, int] = (256, 256, 45),
    field_of_view_mm: tuple[float, float, float] = FIELD_OF_VIEW_MM,
    centre_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Grid:
    """A coronal grid, axes to left, foot and back as scanners store it.

    By default that of the paper's acquisition about the body's centre, 256 x 256 x 45 at 1.3 x 1.3 x 6 mm.

    Args:
        shape: voxels to left, foot and back.
        field_of_view_mm: extent along the same axes.
        centre_mm: of the field of view, RAS.
    """
    spacing = np.asarray(field_of_view_mm, float) / shape
    affine = np.eye(4)
    affine[:3, :3] = np.array([[-1, 0, 0], [0, 0, -1], [0, -1, 0]]) * spacing
    affine[:3, 3] = np.asarray(centre_mm, float) - affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    return Grid(tuple(shape), affine)


@dataclass(frozen=True)
class Patient:
    """Everything random about one phantom, drawn once from the seed."""

    warp: Warp
    textures: dict[str, RandomField]
    shading: RandomField
    pipes: organs.Pipes

    @classmethod
    @lru_cache(maxsize=4)
    def draw(cls, seed: int) -> Patient:
        """Draw a patient; the same seed gives the same one on any grid."""
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
            "rugae": RandomField.draw(rng, 40, 13.0, 20.0, detail_gain=(1.0, 1.0, 2.2)),
            "fibre": RandomField.draw(rng, 48, 9.0, 18.0, detail_gain=(1.0, 1.0, 5.0)),
        }
        shading = RandomField.draw(rng, 16, 350, 700)
        return cls(warp, textures, shading, organs.pipes(rng, warp))


def _paint(canvas: Canvas, patient: Patient) -> None:
    """Paint a whole patient, from the outside in and from the back to the front of the drawer."""
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
    """Slabs along the first axis, refined where voxels are long: (rows, factors, fine shape, fine affine)."""
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
    """Mean over blocks of `factors` voxels."""
    if factors.prod() == 1:
        return values
    a, b, c = (n // f for n, f in zip(values.shape, factors, strict=True))
    return values.reshape(a, factors[0], b, factors[1], c, factors[2]).mean((1, 3, 5))


def abdomen(grid: Grid, seed: int = 0, shading: bool = True) -> np.ndarray:
    """An abdomen as a fat-suppressed T1 gradient echo after gadolinium (VIBE) shows it, without noise.

    Args:
        grid: where to sample it; its centre in the body is (0, 0, 0) mm, its extent about 310 x 210 x 333 mm (RAS).
        seed: the patient; the same seed is the same body on every grid.
        shading: whether the coils' sensitivity modulates it.

    Returns:
        Volume of the grid's shape, float32, 0 to about 1000 in scanner units.
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
    """The share of each voxel that is the bladder's lumen, 0 to 1, float32, of the phantom of that seed."""
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
    """Thick slices of a volume across its last axis, with Rician noise.

    Args:
        volume: (X, Y, Z) on `grid`.
        grid: its grid; the last axis becomes the through-plane axis.
        slice_spacing_mm: centre to centre.
        slice_thickness_mm: FWHM of the slice profile.
        profile: "rect", "gauss" or "fourier".
        noise_sigma: deviation of the noise in each channel, in units of the volume; 0 for none.
        seed: of the noise.

    Returns:
        slices (X, Y, N) float32 and their grid, N = round(extent / spacing), centred on the same field of view.

    Raises:
        Refusal: if the volume does not fit the grid, or fewer than one slice fits.
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
    slices = Acquisition(geometry)(torch.as_tensor(volume, dtype=torch.float32))
    if noise_sigma > 0:
        slices = add_rician_noise(slices, noise_sigma, torch.Generator().manual_seed(seed))
    affine = grid.affine.copy()
    affine[:3, 2] *= slice_spacing_mm / spacing[2]
    affine[:3, 3] = grid.world_mm((0, 0, geometry.first_slice_voxels))
    return slices.numpy(), Grid((*grid.shape[:2], count), affine)
