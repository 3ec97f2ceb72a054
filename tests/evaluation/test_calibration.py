import numpy as np
import pytest

from scripts.evaluation.calibration import ErrorSample, fit_scale, half_widths, shared_quantile
from scripts.geometry.errors import Refusal
from scripts.physics.uncertainty import Scale

COUNT = 20_000


def sample(person: str, seed: int, factor=4.0, larger=1.0, calibrates=True) -> ErrorSample:
    """Errors whose size is the disagreement to the power 0.8, whatever the other features are."""
    rng = np.random.default_rng(seed)
    features = {
        name: np.exp(rng.normal(-4, 0.5, COUNT)) for name in ("disagreement", "added_detail", "correction", "gradient")
    }
    error = larger * features["disagreement"] ** 0.8 * rng.exponential(size=COUNT)
    return ErrorSample(person, factor, "rect", calibrates, {**features, "noise": 0.01}, error)


def test_the_exponents_and_the_coverage_of_errors_of_known_size_are_found():
    scale = fit_scale([sample("a", 1), sample("b", 2), sample("a", 3, factor=6.0, larger=2.0)], predictions=4)
    assert scale.exponents["disagreement"] == pytest.approx(0.8, abs=0.03)
    assert all(scale.exponents.get(name, 0) < 0.03 for name in ("added_detail", "correction", "gradient"))
    new = sample("c", 4)
    assert (new.error <= half_widths(scale, new)).mean() == pytest.approx(0.9, abs=0.02)
    assert scale.quantile("rect", 6.0) == pytest.approx(2 * scale.quantile("rect", 4.0), rel=0.05)


def test_a_single_prediction_has_no_disagreement():
    assert "disagreement" not in fit_scale([sample("a", 1), sample("b", 2)], predictions=1).exponents


def test_the_half_widths_of_a_sample_are_those_of_its_scale():
    new, scale = sample("a", 1), Scale(4, {"disagreement": 0.5}, {"rect": ((4.0, 3.0),)})
    expected = 3 * (new.features["disagreement"] ** 2 + 1e-6) ** 0.25
    assert np.allclose(half_widths(scale, new), expected)


def test_samples_that_do_not_calibrate_change_no_quantile():
    other = sample("b", 5, larger=0.1, calibrates=False)
    with_it, without = fit_scale([sample("a", 1), other], 4), fit_scale([sample("a", 1)], 4)
    assert with_it.quantile("rect", 4.0) > 0.5 * without.quantile("rect", 4.0)
    with pytest.raises(Refusal, match="cannot be calibrated"):
        fit_scale([other], 4)


def test_every_person_has_the_same_weight_in_a_quantile_whatever_the_number_of_voxels():
    scores = [np.linspace(0, 1, 10_000), np.linspace(0, 10, 100)]
    shared = shared_quantile(scores, [1, 1])
    covered = [float((own <= shared).mean()) for own in scores]
    assert np.mean(covered) == pytest.approx(0.9, abs=0.01)
