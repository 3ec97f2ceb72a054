import numpy as np
import pytest
from scipy import stats

from scripts.geometry.errors import Refusal
from scripts.metrics.uncertainty import coverage, error_per_decile, rank_correlation


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 100, (12, 12, 12))
    error = rng.uniform(0, 10, truth.shape)
    mask = np.zeros(truth.shape, bool)
    mask[2:10, 2:10, 2:10] = True
    return truth, truth + error * rng.choice([-1, 1], truth.shape), error, mask


def test_coverage_is_the_share_of_errors_within_the_half_width(case):
    truth, result, error, mask = case
    assert coverage(1.001 * error, result, truth, mask) == 1
    assert coverage(0.999 * error, result, truth, mask) == 0
    assert coverage(np.full(truth.shape, 7.0), result, truth) == pytest.approx(0.7, abs=0.03)  # of 0 to 10
    everywhere = np.where(mask, 0.0, 11.0)  # what lies outside the mask does not count
    assert coverage(everywhere, result, truth, mask) == 0


def test_a_perfect_uncertainty_has_correlation_one_and_rising_deciles(case):
    truth, result, error, mask = case
    assert rank_correlation(np.exp(error), result, truth, mask) == pytest.approx(1)
    assert rank_correlation(-error, result, truth, mask) == pytest.approx(-1)
    deciles = error_per_decile(np.exp(error), result, truth, mask)
    assert deciles.shape == (10,)
    assert (np.diff(deciles) > 0).all()
    inside = np.sort(error[mask])
    assert deciles[0] == pytest.approx(inside[: len(inside) // 10].mean(), rel=0.02)


def test_rank_correlation_agrees_with_scipy_and_weakens_with_noise(case):
    truth, result, error, mask = case
    noise = np.random.default_rng(1).normal(size=error.shape)
    values = []
    for sigma in (0, 2, 8, 40):
        uncertainty = np.round(error + sigma * noise, 1)  # with ties
        values.append(rank_correlation(uncertainty, result, truth, mask))
        assert values[-1] == pytest.approx(stats.spearmanr(uncertainty[mask], error[mask])[0], abs=1e-6)
    assert (np.diff(values) < 0).all()


def test_a_random_uncertainty_has_no_correlation_and_flat_deciles(case):
    truth, result, _, mask = case
    uncertainty = np.random.default_rng(5).uniform(size=truth.shape)
    assert abs(rank_correlation(uncertainty, result, truth, mask)) < 0.15
    assert np.ptp(error_per_decile(uncertainty, result, truth)) < 1.5


def test_tied_voxels_stay_in_one_decile(case):
    truth, result, error, _ = case
    deciles = error_per_decile((error > 5).astype(float), result, truth)
    assert np.isfinite(deciles).sum() == 2
    assert np.isnan(deciles).sum() == 8


def test_bad_input_is_refused(case):
    truth, result, error, mask = case
    few = np.zeros_like(mask)
    few[0, 0, :9] = True
    cases = [
        (lambda: rank_correlation(np.ones_like(truth), result, truth), "uncertainty is constant"),
        (lambda: rank_correlation(error, truth, truth), "absolute error is constant"),
        (lambda: rank_correlation(error[1:], result, truth), "uncertainty has shape"),
        (lambda: coverage(error[1:], result, truth), "uncertainty has shape"),
        (lambda: rank_correlation(error, result[1:], truth), "result has shape"),
        (lambda: rank_correlation(error * np.nan, result, truth), "not finite"),
        (lambda: coverage(error, result, truth, mask & False), "mask is empty"),
        (lambda: rank_correlation(error, result, truth, mask[1:]), "mask has shape"),
        (lambda: error_per_decile(error, result, truth, mask & False), "mask is empty"),
        (lambda: error_per_decile(error, result, truth, few), "9 voxels"),
    ]
    for action, fact in cases:
        with pytest.raises(Refusal, match=fact):
            action()
