import numpy as np
import pytest
from scipy import stats

from scripts.geometry.errors import Refusal
from scripts.metrics.confidence import error_per_decile, rank_correlation


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 100, (12, 12, 12))
    error = rng.uniform(0, 10, truth.shape)
    mask = np.zeros(truth.shape, bool)
    mask[2:10, 2:10, 2:10] = True
    return truth, truth + error * rng.choice([-1, 1], truth.shape), error, mask


def test_perfect_confidence_has_correlation_minus_one_and_falling_deciles(case):
    truth, result, error, mask = case
    assert rank_correlation(np.exp(-error), result, truth, mask) == pytest.approx(-1)
    assert rank_correlation(error, result, truth, mask) == pytest.approx(1)
    deciles = error_per_decile(np.exp(-error), result, truth, mask)
    assert deciles.shape == (10,)
    assert (np.diff(deciles) < 0).all()
    inside = np.sort(error[mask])[::-1]
    assert deciles[0] == pytest.approx(inside[: len(inside) // 10].mean(), rel=0.02)


def test_rank_correlation_agrees_with_scipy_and_weakens_with_noise(case):
    truth, result, error, mask = case
    noise = np.random.default_rng(1).normal(size=error.shape)
    values = []
    for sigma in (0, 2, 8, 40):
        confidence = np.round(-error + sigma * noise, 1)  # with ties
        values.append(rank_correlation(confidence, result, truth, mask))
        assert values[-1] == pytest.approx(stats.spearmanr(confidence[mask], error[mask])[0], abs=1e-6)
    assert (np.diff(values) > 0).all()


def test_random_confidence_has_no_correlation_and_flat_deciles(case):
    truth, result, _, mask = case
    confidence = np.random.default_rng(5).uniform(size=truth.shape)
    assert abs(rank_correlation(confidence, result, truth, mask)) < 0.15
    assert np.ptp(error_per_decile(confidence, result, truth)) < 1.5


def test_tied_voxels_stay_in_one_decile(case):
    truth, result, error, _ = case
    deciles = error_per_decile((error > 5).astype(float), result, truth)
    assert np.isfinite(deciles).sum() == 2
    assert np.isnan(deciles).sum() == 8


def test_confidence_refuses_bad_input(case):
    truth, result, error, mask = case
    few = np.zeros_like(mask)
    few[0, 0, :9] = True
    cases = [
        (lambda: rank_correlation(np.ones_like(truth), result, truth), "confidence is constant"),
        (lambda: rank_correlation(error, truth, truth), "absolute error is constant"),
        (lambda: rank_correlation(error[1:], result, truth), "confidence has shape"),
        (lambda: rank_correlation(error, result[1:], truth), "result has shape"),
        (lambda: rank_correlation(error * np.nan, result, truth), "not finite"),
        (lambda: rank_correlation(error, result, truth, mask[1:]), "mask has shape"),
        (lambda: error_per_decile(error, result, truth, mask & False), "mask is empty"),
        (lambda: error_per_decile(error, result, truth, few), "9 voxels"),
    ]
    for action, fact in cases:
        with pytest.raises(Refusal, match=fact):
            action()
