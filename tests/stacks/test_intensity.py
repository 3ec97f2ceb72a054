"""Intensity matching: gain and field are found where they are known; other contrasts and no overlap are refused."""

import numpy as np
import pytest
from scipy import ndimage

from scripts.geometry.errors import Refusal
from scripts.stacks.intensity import match_intensity

SHAPE = (60, 64, 56)
EVERYWHERE = np.ones(SHAPE, bool)


def body() -> np.ndarray:
    index = np.indices(SHAPE) - (np.array(SHAPE)[:, None, None, None] - 1) / 2
    inside = np.linalg.norm(index / np.array([26, 28, 24])[:, None, None, None], axis=0) < 1
    texture = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(SHAPE), 2)
    return np.where(inside, 100 + 30 * texture / texture.std(), 1).clip(0)


def test_a_gain_is_found_exactly():
    match = match_intensity(body() / 3, body(), EVERYWHERE, 2.0)
    assert match.gain == pytest.approx(3)
    assert np.allclose(match.field, 1, atol=1e-3)


def test_a_smooth_field_is_found():
    reference = body()
    x = np.linspace(-1, 1, SHAPE[0])[:, None, None]
    shading = np.exp(0.3 * x) * np.ones(SHAPE)
    match = match_intensity(reference / shading, reference, EVERYWHERE, 2.0, sigma_mm=15.0)
    inside = ndimage.binary_erosion(reference > 30, iterations=4)
    remaining = (match.factors / shading)[inside]
    assert np.abs(np.log(remaining)).mean() < 0.25 * np.abs(np.log(shading[inside])).mean()


def test_detail_that_differs_is_left_alone():
    reference = body()
    blurred = ndimage.gaussian_filter(reference, (0, 0, 2))
    match = match_intensity(blurred, reference, EVERYWHERE, 2.0)
    assert np.abs(match.factors - 1).max() < 0.03


def test_voxels_outside_the_shared_field_of_view_do_not_count():
    reference = body()
    volume = reference / 2
    volume[:20] = 1e4
    shared = EVERYWHERE.copy()
    shared[:20] = False
    assert match_intensity(volume, reference, shared, 2.0).gain == pytest.approx(2)


def test_no_shared_body_and_an_implausible_gain_are_refused():
    with pytest.raises(Refusal, match="voxels of body are shared"):
        match_intensity(body(), body(), np.zeros(SHAPE, bool), 2.0)
    with pytest.raises(Refusal, match="same contrast"):
        match_intensity(body() / 1000, body(), EVERYWHERE, 2.0)
