import pytest
import torch
from hypothesis import given

from scripts.physics.acquisition import Acquisition, SliceGeometry
from scripts.physics.consistency import DataConsistency
from scripts.physics.interpolation import CubicInterpolation
from tests.strategies import slice_geometries


@given(slice_geometries())
def test_reacquiring_the_projection_gives_the_slices(geometry):
    P = DataConsistency(Acquisition(geometry))
    random = torch.Generator().manual_seed(0)
    slices = 100 + 20 * torch.randn(4, geometry.slice_count, generator=random)
    volume = CubicInterpolation(geometry)(slices) + 30 * torch.randn(4, geometry.thin_size, generator=random)
    assert P.residual(P(volume, slices), slices) < 1e-3


def test_projection_is_the_nearest_consistent_volume():
    geometry = SliceGeometry(24, 6, 4, 3, "gauss")
    A = Acquisition(geometry)
    P = DataConsistency(A, regularisation=0)
    slices, volume = torch.rand(6, dtype=torch.float64), torch.rand(24, dtype=torch.float64)
    # the independent hand: least squares for the smallest change d with A d = b - A v
    matrix = torch.from_numpy(A.matrix)
    change = torch.linalg.lstsq(matrix, (slices - matrix @ volume)[:, None], driver="gelsd").solution[:, 0]
    assert torch.allclose(P(volume, slices), volume + change)


def test_projection_is_a_projection():
    P = DataConsistency(Acquisition(SliceGeometry(24, 6, 4, 4)), regularisation=0)
    slices, volume = torch.rand(6, dtype=torch.float64), torch.rand(24, dtype=torch.float64)
    once = P(volume, slices)
    assert torch.allclose(P(once, slices), once)
    explained = torch.rand(24, dtype=torch.float64)
    assert torch.allclose(P(explained, P.acquisition(explained)), explained)


def test_regularisation_bounds_the_noise_of_overlapping_slices():
    noise = torch.randn(200, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    geometry = SliceGeometry(24, 12, 2, 4, "gauss")  # each slice twice as thick as its spacing
    zero = torch.zeros(200, 24, dtype=torch.float64)
    gains = [DataConsistency(Acquisition(geometry), r)(zero, noise).std() for r in (1e-5, 1e-2)]
    assert gains[1] < gains[0]


def test_negative_regularisation_is_refused():
    with pytest.raises(ValueError, match="must not be negative"):
        DataConsistency(Acquisition(SliceGeometry(24, 6, 4, 4)), -1e-3)
