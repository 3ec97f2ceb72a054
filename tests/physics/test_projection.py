import pytest
import torch
from hypothesis import given

from scripts.physics.acquisition import Acquisition, SliceGeometry
from scripts.physics.interpolation import CubicInterpolation
from scripts.physics.projection import EXPECTED_ERROR, DataConsistency, expected_error
from tests.strategies import slice_geometries


@given(slice_geometries())
def test_reacquiring_the_projection_gives_the_slices(geometry):
    P = DataConsistency(Acquisition(geometry))
    random = torch.Generator().manual_seed(0)
    slices = 100 + 20 * torch.randn(4, geometry.slice_count, generator=random)
    volume = CubicInterpolation(geometry)(slices) + 30 * torch.randn(4, geometry.thin_size, generator=random)
    assert P.residual(P(volume, slices), slices) < 1e-3


def test_projection_without_smoothness_is_the_nearest_consistent_volume():
    geometry = SliceGeometry(24, 6, 4, 3, "gauss")
    A = Acquisition(geometry)
    P = DataConsistency(A, regularisation=0, smoothness=0)
    slices, volume = torch.rand(6, dtype=torch.float64), torch.rand(24, dtype=torch.float64)
    # independent: least squares for the smallest change d with A d = b - A v
    matrix = torch.from_numpy(A.matrix)
    change = torch.linalg.lstsq(matrix, (slices - matrix @ volume)[:, None], driver="gelsd").solution[:, 0]
    assert torch.allclose(P(volume, slices), volume + change)


def test_smooth_projection_is_the_nearest_for_correlated_errors():
    geometry, sigma = SliceGeometry(24, 6, 4, 4), 0.3 * 4
    A = Acquisition(geometry)
    slices, volume = torch.rand(6, dtype=torch.float64), torch.rand(24, dtype=torch.float64)
    change = DataConsistency(A, regularisation=0, smoothness=0.3)(volume, slices) - volume
    # independent: the smallest change in coordinates whitened by a root of the covariance
    places = torch.arange(24, dtype=torch.float64)
    covariance = torch.exp(-((places[:, None] - places) ** 2) / (2 * sigma**2))
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T
    matrix = torch.from_numpy(A.matrix)
    white = torch.linalg.lstsq(matrix @ root, (slices - matrix @ volume)[:, None], driver="gelsd").solution[:, 0]
    assert torch.allclose(change, root @ white, atol=1e-6)


def test_a_smooth_correction_has_no_steps_at_the_borders_of_slices():
    """From slices 0, 1, 0, ... the smallest correction has steps from slice to slice, the smooth one has not."""
    A = Acquisition(SliceGeometry(32, 8, 4, 4))
    slices = torch.tensor([0.0, 1.0] * 4, dtype=torch.float64)
    zero = torch.zeros(32, dtype=torch.float64)
    plain, smooth = (DataConsistency(A, smoothness=s)(zero, slices) for s in (0.0, 0.2))
    assert plain.diff().abs().max() == pytest.approx(1, abs=1e-3)
    assert smooth.diff().abs().max() < 0.75
    for volume in (plain, smooth):
        assert torch.allclose(A(volume), slices, atol=1e-3)


@pytest.mark.parametrize("smoothness", [0.0, 0.2])
def test_projection_is_a_projection(smoothness):
    P = DataConsistency(Acquisition(SliceGeometry(24, 6, 4, 4)), regularisation=0, smoothness=smoothness)
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


def test_negative_settings_are_refused():
    A = Acquisition(SliceGeometry(24, 6, 4, 4))
    with pytest.raises(ValueError, match="must not be negative"):
        DataConsistency(A, -1e-3)
    with pytest.raises(ValueError, match="smoothness must be 0 or more"):
        DataConsistency(A, smoothness=-0.1)


@pytest.mark.parametrize(("noise", "error"), [(0.5, 1.0), (2.0, 1.0)])
def test_the_noise_weighted_projection_has_the_smallest_error(noise, error):
    """Volumes, predictions and slices are drawn as it assumes; other weights are then worse."""
    geometry = SliceGeometry(24, 6, 4, 4)
    A, draw = Acquisition(geometry), torch.Generator().manual_seed(0)
    places = torch.arange(24, dtype=torch.float64)
    covariance = torch.exp(-((places[:, None] - places) ** 2) / (2 * (0.2 * 4) ** 2))
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors * values.clamp(min=0).sqrt()
    truth = torch.randn(20_000, 24, generator=draw, dtype=torch.float64)
    prediction = truth + error * torch.randn(20_000, 24, generator=draw, dtype=torch.float64) @ root.T
    slices = A(truth) + noise * torch.randn(20_000, 6, generator=draw, dtype=torch.float64)
    errors = [
        float((DataConsistency.for_noise(A, noise, scale * error)(prediction, slices) - truth).square().mean())
        for scale in (1.0, 0.7, 1.4, 100.0)
    ]
    assert errors[0] == min(errors)


def test_without_noise_the_projection_is_exact():
    A = Acquisition(SliceGeometry(24, 6, 4, 4))
    assert (DataConsistency.for_noise(A, 0.0).correction.matrix == DataConsistency(A).correction.matrix).all()


def test_the_expected_error_follows_the_slices_where_these_show_more():
    A, draw = Acquisition(SliceGeometry(24, 6, 4, 4)), torch.Generator().manual_seed(0)
    wrong = 0.3 * torch.randn(5000, 24, generator=draw, dtype=torch.float64)
    residual = A(wrong) + 0.05 * torch.randn(5000, 6, generator=draw, dtype=torch.float64)
    assert expected_error(A, residual, noise=0.05, smoothness=0) == pytest.approx(0.3, rel=0.05)
    assert expected_error(A, residual / 100, noise=0.05) == EXPECTED_ERROR


@pytest.mark.parametrize(("noise", "error"), [(-1.0, 1.0), (1.0, 0.0), (float("nan"), 1.0)])
def test_noise_and_error_that_are_none_are_refused(noise, error):
    with pytest.raises(ValueError, match="noise must be 0 or more and the error positive"):
        DataConsistency.for_noise(Acquisition(SliceGeometry(24, 6, 4, 4)), noise, error)
