import numpy as np
import pytest
from scipy import ndimage, signal

from scripts.geometry.errors import Refusal
from scripts.metrics.spectrum import (
    high_band,
    high_band_share,
    power_spectrum,
    slice_period_artefact,
)
from tests.metrics.oracles import block_average, consistent, cubic_spline, tissue
from tests.metrics.test_fidelity import TABLE, benchmark_truth

BAND_TABLE = {  # measured once by an independent script: energy, error of U b, then of P(U b)
    "iso_brain_t1_uih": (0.035, 0.923, 0.112, 0.913),
    "iso_spine_t2_sct": (0.026, 0.934, 0.084, 0.918),
}


@pytest.fixture(scope="module")
def truth():
    return tissue((20, 22, 96))


def test_high_band_of_identity_and_of_a_result_without_detail(truth):
    assert high_band(truth, truth, 4) == (1, 0)
    assert high_band(ndimage.gaussian_filter1d(truth, 2.5, axis=-1), truth, 4) == pytest.approx((0, 1), abs=0.06)


def test_high_band_of_a_plane_is_that_of_a_volume_of_one_plane(truth):
    result = ndimage.gaussian_filter1d(truth, 0.6, axis=-1)
    assert high_band(result[3], truth[3], 4) == pytest.approx(high_band(result[3:4], truth[3:4], 4), rel=1e-9)


def test_high_band_share_is_between_zero_and_one_and_does_not_depend_on_the_unit(truth):
    share = high_band_share(truth, 4)
    assert 0 < share < 1
    assert high_band_share(7 * truth, 4) == pytest.approx(share, rel=1e-6)


def test_high_band_distinguishes_recovered_from_invented_detail(truth):
    smooth = ndimage.gaussian_filter1d(truth, 3, axis=-1)
    invented = smooth + (tissue(truth.shape, seed=9) - 500)
    assert high_band(invented, truth, 4).energy == pytest.approx(1, abs=0.4)
    assert high_band(invented, truth, 4).error > 1.5


def test_high_band_agrees_with_a_periodogram_of_scipy(truth):
    result = ndimage.gaussian_filter1d(truth, 0.6, axis=-1)

    def band(image):
        image = image - image.mean(axis=-1, keepdims=True)
        frequencies, power = signal.periodogram(image, window=np.hanning(96), detrend=False, axis=-1)
        power[..., -1] *= 2  # one-sided densities do not double the Nyquist bin
        return power[..., frequencies > 0.125].sum()

    expected = band(result) / band(truth), band(result - truth) / band(truth)
    np.testing.assert_allclose(high_band(result, truth, 4), expected, rtol=1e-9)


def test_high_band_uses_the_bounding_box_of_the_mask_along_any_axis(truth):
    result = ndimage.gaussian_filter1d(truth, 0.6, axis=-1)
    mask = np.zeros(truth.shape, bool)
    mask[2:18, 3:20, 10:90] = True
    mask[5:9, 5:9, 30:40] = False  # a hole does not change the box
    expected = high_band(result[2:18, 3:20, 10:90], truth[2:18, 3:20, 10:90], 3.3)
    assert high_band(result, truth, 3.3, mask=mask) == expected
    moved = [np.moveaxis(a, -1, 0) for a in (result, truth, mask)]
    np.testing.assert_allclose(high_band(*moved[:2], 3.3, axis=0, mask=moved[2]), expected, rtol=1e-12)


@pytest.mark.parametrize("name", BAND_TABLE)
def test_an_independently_measured_band_table_is_reproduced(shared_data, name):
    assert name in TABLE
    truth = benchmark_truth(shared_data, name)
    slices = block_average(truth, 4)
    cubic = cubic_spline(slices, 4)
    measured = [*high_band(cubic, truth, 4), *high_band(consistent(cubic, slices, 4), truth, 4)]
    np.testing.assert_allclose(measured, BAND_TABLE[name], atol=6e-4)


def test_power_spectrum_finds_a_sine():
    z = np.arange(128)
    frequencies, power = power_spectrum(np.broadcast_to(np.sin(2 * np.pi * 0.25 * z), (4, 5, 128)))
    assert frequencies[power.argmax()] == 0.25


def test_slice_period_artefact_is_near_one_without_and_grows_with_banding(truth):
    clean = slice_period_artefact(truth, 4)
    assert 0.2 < clean.banding < 4
    assert clean.banding_to_truth is None
    stripes = np.cos(2 * np.pi * np.arange(96) / 4)
    found = [slice_period_artefact(truth + a * stripes, 4, truth=truth) for a in (0, 20, 50, 150)]
    assert found[0].banding_to_truth == found[0].steps_to_truth == 1
    assert (np.diff([f.banding for f in found]) > 0).all()
    assert found[-1].banding > 10 * clean.banding
    assert found[-1].banding_to_truth == pytest.approx(found[-1].banding / clean.banding)


def test_slice_period_artefact_detects_the_staircase_of_nearest_neighbour(truth):
    nearest = np.repeat(block_average(truth, 4), 4, axis=-1)
    cubic = cubic_spline(block_average(truth, 4), 4)
    steps = [slice_period_artefact(v, 4).steps for v in (truth, cubic, nearest)]
    assert steps[2] > 10 * steps[0]
    assert steps[2] > steps[1]
    moved = np.moveaxis(nearest, -1, 1)
    assert slice_period_artefact(moved, 4, axis=1).steps == pytest.approx(steps[2], rel=1e-6)


def test_modulation_is_the_amplitude_of_the_steps():
    """Noise whose step size varies by a share with the period of the slices: that share is found."""
    rng = np.random.default_rng(0)
    for share, factor, harmonic in ((0.0, 4, 1), (0.3, 4, 1), (0.2, 5.5, 1), (0.25, 4, 2), (0.25, 2, 1), (0.25, 6, 3)):
        phase = 0.7 if harmonic / factor < 0.5 else 0.0  # at Nyquist a wave is only its cosine
        sizes = 1 + share * np.cos(2 * np.pi * harmonic * np.arange(120) / factor + phase)
        volume = np.cumsum(rng.standard_normal((60, 60, 120)) * sizes, axis=-1)
        assert slice_period_artefact(volume, factor).modulation == pytest.approx(share, abs=0.02)
    assert slice_period_artefact(np.zeros((8, 8, 40)), 4).modulation == 0


@pytest.mark.parametrize(
    ("factor", "cycles"), [(4, 1 / 4), (4, 1 / 2), (3, 1 / 3), (3, 1 / 2), (5.5, 2 / 5.5), (4.02, 1 / 2), (6.05, 1 / 2)]
)
def test_stripes_are_the_amplitude_of_whole_planes(factor, cycles):
    """Offsets of whole planes, as a share of the mean step of noise: that share is found, and none without them."""
    volume = np.random.default_rng(0).standard_normal((60, 60, 120))
    step = np.abs(np.diff(volume, axis=-1)).mean()
    wave = np.cos(2 * np.pi * cycles * np.arange(120))
    for share in (0.0, 0.05, 0.1):
        found = slice_period_artefact(volume + share * step * wave, factor, truth=volume)
        assert found.stripes == pytest.approx(share, abs=0.01)
        assert found.stripes_of_truth < 0.01
    assert slice_period_artefact(np.zeros((8, 8, 40)), 4).stripes == 0


def test_slice_period_artefact_takes_a_real_valued_factor(truth):
    stripes = 60 * np.cos(2 * np.pi * np.arange(96) / 5.3)
    assert slice_period_artefact(truth + stripes, 5.3).banding > 5


def test_spectra_of_unusable_input_are_refused(truth):
    flat = np.broadcast_to(truth[..., :1], truth.shape)
    cases = [
        (lambda: high_band(truth, flat, 4), "no energy above"),
        (lambda: high_band(truth, truth, 1), "must be above 1"),
        (lambda: high_band(truth, truth, float("nan")), "must be above 1"),
        (lambda: high_band(truth[..., :6], truth[..., :6], 4), "needs 8"),
        (lambda: high_band(truth, truth[1:], 4), "result has shape"),
        (lambda: high_band(truth, truth, 4, axis=3), "axis 3"),
        (lambda: high_band(truth, truth, 4, mask=np.zeros(truth.shape)), "mask is empty"),
        (lambda: high_band(truth, truth, 4, mask=np.ones((2, 2, 2))), "mask has shape"),
        (lambda: high_band(truth * np.nan, truth, 4), "not finite"),
        (lambda: high_band_share(flat, 4), "constant along"),
        (lambda: slice_period_artefact(truth, 1.5), "under 2"),
        (lambda: slice_period_artefact(truth, 20), "fewer than 8 slices"),
    ]
    for action, fact in cases:
        with pytest.raises(Refusal, match=fact):
            action()
