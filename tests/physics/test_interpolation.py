import numpy as np
import pytest
import torch
from hypothesis import given
from scipy.interpolate import CubicSpline

from scripts.physics.acquisition import SliceGeometry
from scripts.physics.interpolation import CubicInterpolation, resampling, sampling, simple_interpolation
from tests.strategies import slice_geometries


@given(slice_geometries())
def test_cubic_interpolation_agrees_with_another_spline_of_scipy(geometry):
    slices = np.random.default_rng(0).normal(size=geometry.slice_count)
    centres = geometry.slice_centres_voxels
    at = np.clip(np.arange(geometry.thin_size), centres[0], centres[-1])
    assert CubicInterpolation(geometry)(torch.from_numpy(slices)).numpy() == pytest.approx(
        CubicSpline(centres, slices)(at)
    )


@given(slice_geometries())
def test_a_ramp_keeps_its_world_coordinates(geometry):
    centres = geometry.slice_centres_voxels
    ramp = CubicInterpolation(geometry)(torch.from_numpy(centres)).numpy()
    inside = (np.arange(geometry.thin_size) >= centres[0]) & (np.arange(geometry.thin_size) <= centres[-1])
    assert ramp[inside] == pytest.approx(np.arange(geometry.thin_size)[inside])


def test_too_few_slices_are_refused():
    with pytest.raises(ValueError, match="more than 3 slices"):
        CubicInterpolation(SliceGeometry(12, 3, 4, 4))


def test_resampling_of_equal_grids_is_none():
    assert resampling(20, 1.3, 20, 1.3) is None


def test_coarser_resampling_is_the_mean_and_finer_resampling_the_spline():
    x = torch.rand(12, dtype=torch.float64)
    assert torch.allclose(resampling(12, 1.0, 4, 3.0)(x), x.reshape(4, 3).mean(1))
    finer = resampling(12, 1.0, 36, 1 / 3)(x)
    assert torch.allclose(finer[1::3], x)  # odd factor: every third fine centre is a coarse one


@pytest.mark.parametrize("order", [0, 1])
def test_simple_interpolation_is_what_numpy_and_repetition_give(order):
    geometry = SliceGeometry(12, 4, 3.0, 3.0)
    b = torch.tensor([1.0, 5.0, -2.0, 4.0], dtype=torch.float64)
    expected = np.repeat(b, 3) if order == 0 else np.interp(np.arange(12), [1, 4, 7, 10], b)
    np.testing.assert_allclose(simple_interpolation(geometry, order)(b), expected, atol=1e-12)


def test_other_orders_are_refused():
    with pytest.raises(ValueError, match="CubicInterpolation"):
        simple_interpolation(SliceGeometry(12, 4, 3.0, 3.0), 3)


def test_sampling_keeps_what_fits_the_new_spacing_and_the_centre():
    old, new = 120, 60
    x = (torch.arange(old, dtype=torch.float64) - (old - 1) / 2) * 0.5  # mm
    places = torch.arange(new, dtype=torch.float64) - (new - 1) / 2
    wave = torch.cos(2 * torch.pi * 0.3 * x + 0.4)  # 0.15 cycles per old sample
    inner = slice(5, -5)
    sampled = sampling(old, 0.5, new, 1.0)(wave)[inner]
    assert torch.allclose(sampled, torch.cos(2 * torch.pi * 0.3 * places + 0.4)[inner], atol=0.02)
    assert resampling(old, 0.5, new, 1.0)(wave)[inner].abs().max() < 0.95  # a mean blurs
