"""Agreement of readers, against published examples with their data, scikit-learn and an analysis of variance."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.geometry.errors import Refusal
from scripts.study.agreement import icc_2_1, kappa_of_table, quadratic_weights, repeatability, weighted_kappa

# Shrout and Fleiss 1979, Table 2: six targets, four raters
SHROUT_FLEISS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])
# Boyd et al. 1982, as in the Stata manual's entry on kappa: xeromammograms, two radiologists, four levels
XEROMAMMOGRAMS = np.array([[21, 12, 0, 0], [4, 17, 1, 0], [3, 9, 15, 2], [0, 0, 0, 1]])


def test_icc_is_that_of_shrout_and_fleiss():
    assert icc_2_1(SHROUT_FLEISS) == pytest.approx(0.29, abs=5e-3)


def test_weighted_kappa_is_that_of_cohen_1968():
    shares = np.array([[0.44, 0.05, 0.01], [0.07, 0.20, 0.03], [0.09, 0.05, 0.06]])
    disagreement = np.array([[0, 1, 3], [1, 0, 6], [3, 6, 0]])
    assert kappa_of_table(shares, disagreement) == pytest.approx(0.348, abs=5e-4)
    assert kappa_of_table(shares, 1 - np.eye(3)) == pytest.approx(0.492, abs=5e-4)


def test_quadratic_kappa_is_that_of_the_xeromammograms():
    first = np.repeat(np.arange(1, 5), XEROMAMMOGRAMS.sum(axis=1))
    second = np.concatenate([np.repeat(np.arange(1, 5), row) for row in XEROMAMMOGRAMS])
    assert weighted_kappa(first, second, 4) == pytest.approx(0.6714, abs=5e-5)
    assert kappa_of_table(XEROMAMMOGRAMS, 1 - np.eye(4)) == pytest.approx(0.4728, abs=5e-5)


@given(st.lists(st.integers(1, 5), min_size=2, max_size=30))
def test_full_agreement_is_one_or_not_defined(scores):
    constant = len(set(scores)) == 1
    kappa, icc = weighted_kappa(scores, scores, 5), icc_2_1(np.column_stack([scores, scores]))
    assert (math.isnan(kappa), math.isnan(icc)) == (constant, constant)
    assert constant or (kappa, icc) == pytest.approx((1, 1))


def test_a_stricter_reader_lowers_both():
    scores = np.array([2, 3, 4, 5, 3, 2, 5, 4])
    assert weighted_kappa(scores, scores - 1, 5) < 0.8
    assert icc_2_1(np.column_stack([scores, scores - 1])) < 0.8


def test_reversed_ratings_are_worse_than_chance():
    assert weighted_kappa([1, 2, 3, 4, 5], [5, 4, 3, 2, 1], 5) == pytest.approx(-1)
    assert quadratic_weights(3).tolist() == [[0, 1, 4], [1, 0, 1], [4, 1, 0]]


def test_repeatability_counts():
    found = repeatability([1, 2, 3, 4], [1, 3, 3, 2], 5)
    assert (found["n"], found["same"], found["within_one"]) == (4, 0.5, 0.75)
    assert math.isnan(repeatability([], [], 5)["same"])


@pytest.mark.parametrize(("first", "second"), [([1, 2], [1]), ([0, 2], [1, 2]), ([1, 6], [1, 2]), ([1.5], [1])])
def test_what_is_off_the_scale_is_refused(first, second):
    with pytest.raises(Refusal):
        weighted_kappa(first, second, 5)


@pytest.mark.parametrize("ratings", [np.ones((1, 3)), np.ones((3, 1)), np.full((4, 3), 2)])
def test_icc_of_too_little_is_not_defined(ratings):
    assert math.isnan(icc_2_1(ratings))


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=2, max_size=40))
def test_quadratic_kappa_is_that_of_scikit_learn(pairs):
    metrics = pytest.importorskip("sklearn.metrics")
    first, second = zip(*pairs, strict=True)
    with warnings.catch_warnings(action="ignore"):  # where kappa is not defined
        expected = metrics.cohen_kappa_score(first, second, labels=range(1, 6), weights="quadratic")
    assert weighted_kappa(first, second, 5) == pytest.approx(expected, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize(("items", "raters"), [(6, 2), (12, 3), (40, 5)])
def test_icc_follows_from_the_variances_that_least_squares_finds(items, raters):
    rng = np.random.default_rng(items)
    ratings = np.clip(rng.integers(1, 6, (items, 1)) + rng.integers(-1, 2, (items, raters)), 1, 5)
    of_item, of_rater = (
        np.eye(n)[index.ravel()] for n, index in zip(ratings.shape, np.indices(ratings.shape), strict=True)
    )

    # An analysis of variance by models: what an effect explains is what it takes from the residual.
    both, without_items = (_residual(ratings, effects) for effects in ([of_item, of_rater], [of_rater]))
    without_raters = _residual(ratings, [of_item])
    error = both / ((items - 1) * (raters - 1))
    item_variance = ((without_items - both) / (items - 1) - error) / raters
    rater_variance = ((without_raters - both) / (raters - 1) - error) / items
    assert icc_2_1(ratings) == pytest.approx(item_variance / (item_variance + rater_variance + error), abs=1e-9)


def _residual(ratings, effects):
    """Sum of squares that a linear model of these effects leaves."""
    design = np.hstack([np.ones((ratings.size, 1)), *effects])
    fitted = design @ np.linalg.lstsq(design, ratings.ravel(), rcond=None)[0]
    return ((ratings.ravel() - fitted) ** 2).sum()
