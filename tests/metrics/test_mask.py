import nibabel
import numpy as np
import pytest
from scipy import ndimage

from scripts.geometry.errors import Refusal
from scripts.metrics.mask import body_mask
from tests.metrics.oracles import ball


def phantom(dtype=np.int16, noise=12.0, seed=0):
    """A ball of 600 in noisy air, a dark cavity in it, and one far bright voxel."""
    rng = np.random.default_rng(seed)
    distance = ball((48, 44, 40), 14)
    values = 600.0 * (distance < 0) * ~(ball((48, 44, 40), 5) < 0)
    real = ndimage.gaussian_filter(values, 0.6) + rng.normal(0, noise, values.shape)
    values = np.hypot(real, rng.normal(0, noise, values.shape))
    values[2, 2, 2] = 4000
    if dtype == np.uint8:
        values = values / 4
    return np.clip(values, 0, np.iinfo(dtype).max).astype(dtype), distance < 0


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
def test_body_mask_finds_the_body_fills_its_holes_and_removes_specks(dtype):
    volume, body = phantom(dtype)
    mask = body_mask(volume)
    assert mask.dtype == bool
    assert mask.shape == volume.shape
    assert dice(mask, body) > 0.85  # one voxel of rim: the smoothed border of a ball of 14
    assert not mask[~ndimage.binary_dilation(body, iterations=3)].any()
    assert mask[24, 22, 20]  # the cavity
    assert not mask[2, 2, 2]
    assert mask[body].mean() > 0.99


def test_body_mask_ignores_scale_offset_and_repetition():
    volume, _ = phantom()
    mask = body_mask(volume)
    np.testing.assert_array_equal(mask, body_mask(volume))
    np.testing.assert_array_equal(mask, body_mask(0.01 * volume.astype(float) - 7))
    np.testing.assert_array_equal(mask, body_mask(volume[None]))


def test_body_mask_keeps_two_legs():
    legs = ball((60, 30, 30), 9)
    left, right = np.roll(legs, -14, axis=0) < 0, np.roll(legs, 14, axis=0) < 0
    mask = body_mask(900.0 * (left | right))
    assert mask[left].all()
    assert mask[right].all()


def test_body_mask_of_a_plane():
    volume, body = phantom()
    assert dice(body_mask(volume[:, :, 20]), body[:, :, 20]) > 0.85


def test_body_mask_refuses_constant_and_not_finite():
    with pytest.raises(Refusal, match="constant"):
        body_mask(np.full((8, 8, 8), 3.0))
    with pytest.raises(Refusal, match="not finite"):
        body_mask(np.full((8, 8, 8), np.nan))


@pytest.mark.parametrize("name", ["iso_knee_t1_fair", "iso_brain_t1_uih"])  # uint8, int16
def test_body_mask_of_a_real_scan_is_one_body(shared_data, name):
    volume = nibabel.load(shared_data / "benchmark" / f"{name}.nii.gz").get_fdata()[::2, ::2, ::2]
    mask = body_mask(volume)
    assert 0.2 < mask.mean() < 0.8
    bright = volume > np.percentile(volume, 90)
    assert mask[bright].mean() > 0.97
    assert ndimage.label(mask)[1] <= 2
