import numpy as np
import pytest
import torch
from hypothesis import given
from scipy.interpolate import CubicSpline

from scripts.physics.acquisition import SliceGeometry
from scripts.physics.interpolation import CubicInterpolation, resampling
from tests.strategies import slice_geometries


@given(slice_geometries())
def test_interpolation_agrees_with_scipys_other_spline(geometry):
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


def test_resampling_of_equal_grids_is_nothing():
    assert resampling(20, 1.3, 20, 1.3) is None


def test_coarser_is_the_mean_and_finer_the_spline():
    x = torch.rand(12, dtype=torch.float64)
    assert torch.allclose(resampling(12, 1.0, 4, 3.0)(x), x.reshape(4, 3).mean(1))
    finer = resampling(12, 1.0, 36, 1 / 3)(x)
    assert torch.allclose(finer[1::3], x)  # odd factor: every third fine centre is a coarse one
