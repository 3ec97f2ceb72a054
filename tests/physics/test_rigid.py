"""Rigid resampling: exact adjoint, as scipy's direct cubic spline, identity, coverage, means over larger voxels."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

from scripts.geometry.grid import Grid
from scripts.physics.rigid import RigidResampling, VoxelMeans

RELATIVE = 1e-10
SOURCE = Grid((40, 44, 36), np.diag([1.0, 1.0, 1.0, 1.0]))
ANGLES = [(0, 0, 0), (2, 1, -2), (10, -8, 12), (25, 10, 0), (45, 0, 0), (30, 30, 30)]
AXES = [((0, 1, 2), (1, 1, 1)), ((2, 0, 1), (-1, 1, -1)), ((1, 0, 2), (1, -1, 1))]
SPACINGS = [(1.0, 1.0, 1.0), (0.7, 0.8, 1.3)]


def oblique(
    shape: tuple[int, int, int], angles_deg: Sequence[float], axes: tuple, flips: tuple, spacing_mm: Sequence[float]
) -> Grid:
    """A grid of any orientation about the centre of the source."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_rotvec(angles_deg, degrees=True).as_matrix() @ (
        np.eye(3)[:, list(axes)] * np.array(flips) * np.array(spacing_mm)
    )
    affine[:3, 3] = SOURCE.centre_mm - Grid(shape, affine).centre_mm
    return Grid(shape, affine)


def grids() -> list[Grid]:
    return [
        oblique((30, 28, 26), angles, axes, flips, spacing)
        for angles in ANGLES
        for axes, flips in AXES
        for spacing in SPACINGS
    ]


def smooth_volume() -> np.ndarray:
    volume = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(SOURCE.shape), 1.5)
    return volume / volume.std()


@pytest.mark.parametrize("target", grids())
def test_the_adjoint_is_exact(target: Grid):
    random = torch.Generator().manual_seed(1)
    T = RigidResampling(SOURCE, target)
    u = torch.randn(SOURCE.shape, generator=random, dtype=torch.float64)
    w = torch.randn(target.shape, generator=random, dtype=torch.float64)
    assert abs((T(u) * w).sum() - (u * T.adjoint(w)).sum()) <= RELATIVE * T(u).norm() * w.norm()


@pytest.mark.parametrize("target", grids()[::5])
def test_the_adjoint_agrees_with_autograd(target: Grid):
    T = RigidResampling(SOURCE, target)
    u = torch.randn(SOURCE.shape, dtype=torch.float64, requires_grad=True)
    w = torch.randn(target.shape, dtype=torch.float64)
    (by_autograd,) = torch.autograd.grad((T(u) * w).sum(), u)
    assert torch.allclose(by_autograd, T.adjoint(w), rtol=0, atol=RELATIVE * float(w.norm()))


@pytest.mark.parametrize(("angles", "limit"), [*zip(ANGLES, (1e-6, 5e-4, 2e-3, 5e-3, 1e-2, 1e-2), strict=True)])
def test_three_passes_give_what_a_direct_cubic_spline_gives(angles: tuple, limit: float):
    volume = smooth_volume()
    for axes, flips in AXES:
        target = oblique((30, 28, 26), angles, axes, flips, (0.9, 1.0, 1.1))
        step = np.linalg.inv(SOURCE.affine) @ target.affine
        index = step[:3, :3] @ np.indices(target.shape).reshape(3, -1) + step[:3, 3:]
        direct = ndimage.map_coordinates(volume, index, order=3, mode="mirror").reshape(target.shape)
        inside = ((index >= 1) & (index <= np.array(SOURCE.shape)[:, None] - 2)).all(axis=0).reshape(target.shape)
        error = (RigidResampling(SOURCE, target)(torch.from_numpy(volume)).numpy() - direct)[inside]
        assert np.sqrt((error**2).mean()) < limit


def part_of(grid: Grid, box: tuple[slice, slice, slice]) -> Grid:
    affine = np.array(grid.affine)
    affine[:3, 3] = grid.world_mm([part.start for part in box])
    return Grid(tuple(part.stop - part.start for part in box), affine)


@pytest.mark.parametrize("angles", ANGLES)
def test_a_part_of_a_volume_is_computed_from_what_it_depends_on_alone_and_is_the_same(angles: tuple):
    wide = Grid((120, 30, 90), np.eye(4))
    volume = torch.randn(wide.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_rotvec(angles, degrees=True).as_matrix()
    affine[:3, 3] = (55.0, 12.0, 40.0)
    whole, box = Grid((60, 40, 60), affine), (slice(3, 9), slice(0, 7), slice(5, 16))
    T = RigidResampling(wide, part_of(whole, box))
    assert all(part.stop - part.start < n for part, n in zip(T.needed[::2], (120, 90), strict=True))
    assert torch.allclose(T(volume), RigidResampling(wide, whole)(volume)[box], atol=1e-6)


def test_what_the_source_does_not_reach_is_zero():
    beside = part_of(SOURCE, (slice(-200, -100), slice(0, 9), slice(0, 9)))
    T = RigidResampling(SOURCE, beside)
    assert not T(torch.ones(SOURCE.shape)).any()
    assert not T.adjoint(torch.ones(beside.shape)).any()


def test_no_motion_on_the_same_grid_changes_nothing():
    volume = torch.from_numpy(smooth_volume())
    assert torch.equal(RigidResampling(SOURCE, SOURCE)(volume), volume)


def test_the_motion_maps_the_targets_world_to_the_sources():
    volume = torch.from_numpy(smooth_volume())
    motion = np.eye(4)
    motion[:3, 3] = (2, 0, -3)
    moved = RigidResampling(SOURCE, SOURCE, motion)(volume)
    assert torch.allclose(moved[:-2, :, 3:], volume[2:, :, :-3], atol=1e-9)


@pytest.mark.parametrize("target", grids()[::5])
def test_covered_is_one_inside_the_field_of_view_and_zero_far_outside(target: Grid):
    wide = target.resampled(target.spacing_mm)
    affine = np.array(wide.affine)
    affine[:3, 3] -= affine[:3, :3] @ np.array([40.0, 0, 0])
    far = Grid((110, 28, 26), affine)
    step = np.linalg.inv(SOURCE.affine) @ far.affine
    index = (step[:3, :3] @ np.indices(far.shape).reshape(3, -1) + step[:3, 3:]).reshape(3, *far.shape)
    depth = np.minimum(index, np.array(SOURCE.shape)[:, None, None, None] - 1 - index).min(axis=0)
    covered = RigidResampling(SOURCE, far).covered().numpy()
    assert covered[depth >= 1].min() > 0.99
    assert covered[depth <= -3].max() < 0.02
    assert covered[depth <= -6].max() < 1e-3


def test_a_wrong_shape_is_named():
    T = RigidResampling(SOURCE, SOURCE)
    with pytest.raises(ValueError, match=r"needs a volume of shape \(40, 44, 36\), got \(3, 3, 3\)"):
        T(torch.zeros(3, 3, 3))
    with pytest.raises(ValueError, match="4 x 4"):
        RigidResampling(SOURCE, SOURCE, np.eye(3))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_what_the_cpu_gives():
    T = RigidResampling(SOURCE, grids()[20])
    volume = torch.from_numpy(smooth_volume())
    on_gpu = T(volume.cuda())
    assert torch.allclose(on_gpu.cpu(), T(volume), atol=1e-10)
    assert torch.allclose(T.adjoint(on_gpu).cpu(), T.adjoint(T(volume)), atol=1e-10)


def test_larger_voxels_are_means_of_those_inside_them():
    volume = torch.from_numpy(np.random.default_rng(3).standard_normal(SOURCE.shape))
    coarse = VoxelMeans(SOURCE, SOURCE.resampled((2, 1, 3)))
    blocks = volume.view(20, 2, 44, 12, 3).mean(dim=(1, 4))
    assert torch.allclose(coarse(volume), blocks, atol=1e-9)


@pytest.mark.parametrize("spacing_mm", [(1.3, 1.3, 1.3), (2.0, 1.0, 1.5), (1.7, 2.6, 3.0)])
def test_means_over_oblique_voxels_damp_a_wave_as_the_integral_over_the_voxel_does(spacing_mm: tuple):
    """A box of width w passes sinc(w f) of a wave of f cycles a voxel; points would pass all of it."""
    target = oblique((14, 14, 10), (10, -8, 12), (0, 1, 2), (1, 1, 1), spacing_mm)
    frequency = np.array([0.1, 0.06, -0.08])  # cycles per mm
    along = target.affine[:3, :3].T @ frequency  # cycles per target voxel
    index = np.indices(SOURCE.shape).reshape(3, -1)
    wave = torch.from_numpy(np.cos(2 * np.pi * frequency @ index).reshape(SOURCE.shape))
    place = np.moveaxis(np.indices(target.shape), 0, -1)
    expected = np.sinc(along).prod() * np.cos(2 * np.pi * target.world_mm(place) @ frequency)
    means = VoxelMeans(SOURCE, target)
    inside = means.covered().numpy() > 1 - 1e-6
    inner = (slice(3, -3),) * 3
    assert inside[inner].mean() > 0.3
    assert np.abs(means(wave).numpy() - expected)[inner][inside[inner]].max() < 0.06


@pytest.mark.parametrize("target", grids()[::4])
def test_the_adjoint_of_means_is_exact(target: Grid):
    M = VoxelMeans(SOURCE, target.resampled(target.spacing_mm * (2, 1, 1.5)))
    random = torch.Generator().manual_seed(1)
    u = torch.randn(SOURCE.shape, generator=random, dtype=torch.float64)
    w = torch.randn(M.target.shape, generator=random, dtype=torch.float64)
    assert abs((M(u) * w).sum() - (u * M.adjoint(w)).sum()) <= RELATIVE * M(u).norm() * w.norm()


@pytest.mark.parametrize("target", [SOURCE, grids()[4]])
def test_means_over_voxels_that_are_not_larger_are_samples(target: Grid):
    volume = torch.from_numpy(smooth_volume())
    assert torch.allclose(VoxelMeans(SOURCE, target)(volume), RigidResampling(SOURCE, target)(volume), atol=1e-12)
