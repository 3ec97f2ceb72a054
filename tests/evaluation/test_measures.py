"""The measures on one case: best for an identical result, defined or refused for degenerate ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from scripts.evaluation.measures import (
    CaseVolumes,
    Closure,
    Edges,
    Fidelity,
    HighBandDetail,
    Pique,
    Residual,
    Result,
    SlicePeriod,
    Uncertainty,
)
from scripts.geometry.errors import Refusal
from scripts.geometry.grid import Grid
from scripts.physics.acquisition import Acquisition, SliceGeometry
from scripts.physics.interpolation import CubicInterpolation

FACTOR, SHAPE = 4, (40, 36, 48)
GEOMETRY = SliceGeometry(SHAPE[2], SHAPE[2] // FACTOR, FACTOR, FACTOR)
A = Acquisition(GEOMETRY)
ALL = (Fidelity(), HighBandDetail(), SlicePeriod(), Residual(), Pique(), Edges(), Closure(), Uncertainty())


@pytest.fixture(scope="module")
def truth():
    texture = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=SHAPE), 1.0)
    return (500 + 1000 * texture).astype(np.float32)


@pytest.fixture(scope="module")
def case(truth):
    slices = A(torch.from_numpy(truth))
    cubic = CubicInterpolation(GEOMETRY)(slices).numpy()
    mask = np.zeros(SHAPE, bool)
    mask[3:-3, 3:-3] = True
    return CaseVolumes("a", Grid(SHAPE, np.eye(4)), 2, float(FACTOR), truth, cubic, slices.numpy(), A, mask, (0, 1000))


def without_truth(case):
    return replace(case, truth=None)


def scored(case, result, measures=ALL):
    return {(s.metric, s.axis): s.value for measure in measures for s in measure(case, result)}


def test_the_truth_is_the_best_and_cubic_closes_nothing(case, truth):
    best, cubic = scored(case, Result(truth)), scored(case, Result(case.interpolated))
    assert best["psnr", ""] == np.inf > cubic["psnr", ""]
    assert best["ssim", ""] == pytest.approx(1)
    assert cubic["ssim", ""] < 0.95
    assert best["hfen", ""] == best["nrmse", ""] == best["high_band_error", ""] == 0
    assert best["high_band_energy", ""] == pytest.approx(1)
    assert cubic["high_band_energy", ""] < 0.5
    assert best["residual", ""] < 1e-6 < cubic["residual", ""]
    assert cubic["sharpness_closed", ""] == cubic["spectrum_closed", ""] == 0 < best["sharpness_closed", ""]
    for name in ("sharpness_closed", "spectrum_closed"):
        assert cubic[f"{name}_of_truth", ""] == best[f"{name}_of_truth", ""] == best[name, ""]
    assert best["edge", "2"] > cubic["edge", "2"]
    assert best["slice_period_steps_to_truth", ""] == pytest.approx(1)


def test_pique_is_the_mean_over_both_blurred_views(case):
    found = scored(case, Result(case.interpolated), [Pique()])
    assert set(found) == {("pique", ""), ("pique", "0"), ("pique", "1")}
    assert found["pique", ""] == pytest.approx((found["pique", "0"] + found["pique", "1"]) / 2)


def test_numbers_per_axis_are_made_where_they_are_asked_for(case):
    found = scored(case, Result(case.interpolated), [Fidelity(per_axis=True)])
    assert {axis for metric, axis in found if metric in ("ssim", "hfen")} == {"", "0", "1", "2"}
    assert found["hfen", "2"] > found["hfen", "0"]  # what is lost is lost along the through-plane axis


def test_what_needs_truth_or_uncertainty_has_no_score_without(case, truth):
    metrics = {metric for metric, _ in scored(without_truth(case), Result(truth, truth))}
    assert not metrics & {"psnr", "high_band_error", "uncertainty_rank_correlation", "slice_period_steps_to_truth"}
    assert {"pique", "residual", "edge", "slice_period_steps"} <= metrics
    assert Uncertainty()(case, Result(truth)) == []


def test_an_uncertainty_that_is_the_error_holds_it_and_has_a_rank_correlation_of_one(case, truth):
    error = np.abs(case.interpolated - truth)
    found = scored(case, Result(case.interpolated, 1.001 * error), [Uncertainty()])
    assert found["uncertainty_rank_correlation", ""] == pytest.approx(1)
    assert found["uncertainty_coverage", ""] == 1
    assert found["uncertainty_mean", ""] == pytest.approx(error[case.mask].mean(), rel=2e-3)
    tenths = [value for (metric, _), value in found.items() if metric.startswith("error_decile")]
    assert len(tenths) == 10
    assert tenths == sorted(tenths)


def test_a_constant_result_has_defined_values(case):
    flat = Result(np.full(SHAPE, 500, np.float32))
    found = scored(case, flat, ALL[:-1])
    assert found["pique", ""] == 100
    assert found["high_band_energy", ""] == found["edge", "2"] == 0
    assert found["high_band_error", ""] == pytest.approx(1)
    assert found["slice_period_steps", ""] == 1
    with pytest.raises(Refusal, match="constant"):
        Uncertainty()(case, flat._replace(uncertainty=flat.values))


def test_a_scan_that_is_no_sharper_in_plane_has_no_closure(case, truth):
    sharp = replace(case, interpolated=ndimage.gaussian_filter(truth, (1.5, 1.5, 0)))
    with pytest.raises(Refusal, match="no difference to close"):
        Closure()(sharp, Result(truth))


def test_slices_whose_profile_reaches_out_of_what_is_covered_do_not_count(case):
    A = Acquisition(replace(GEOMETRY, profile="fourier"))
    covered = np.ones(SHAPE, bool)
    covered[:, :, 24:] = False
    counted = np.flatnonzero(replace(case, acquisition=A, covered=covered).covered_slices[0, 0])
    assert counted.tolist() == [0, 1, 2, 3]  # of a constant body, slice 4 has 1.014 inside


def test_a_tiny_image_is_refused_by_name():
    small = (12, 12, 6)
    v = np.random.default_rng(0).normal(size=small).astype(np.float32)
    case = CaseVolumes("a", Grid(small, np.eye(4)), 2, 2.0, v, v, v, A, np.ones(small, bool), (0, 1))
    for measure, line in ((Pique(), "16 x 16"), (Fidelity(), "SSIM"), (HighBandDetail(), "spectrum needs 8")):
        with pytest.raises(Refusal, match=line):
            measure(case, Result(v + 1))
