import numpy as np
import pytest
from scipy import ndimage
from scipy.special import ndtr

from scripts.geometry.errors import Refusal
from scripts.metrics.closure import share_closed, sharpness_closed, spectrum_closed
from scripts.metrics.profiles import border_profiles, line_profiles
from scripts.metrics.sharpness import axis_sharpness, edge_sharpness
from tests.metrics.oracles import ball, block_average, cubic_spline, tissue

RISE = 2.5631  # sigmas from 10 to 90 % of a normal distribution


def slab(sigma_mm, spacing=(1.0, 1.0, 1.0), shape=(44, 20, 20)):
    """A step in x blurred by a Gaussian, and the label of its bright side."""
    x = (np.arange(shape[0]) - (shape[0] - 1) / 2 + 0.2) * spacing[0]
    profile = 100 + 700 * ndtr(-x / sigma_mm)
    return np.broadcast_to(profile[:, None, None], shape).copy(), np.broadcast_to((x < 0)[:, None, None], shape)


def sharpness_of_label(volume, label, spacing, **settings):
    return edge_sharpness(border_profiles(volume, label, spacing, **settings))


def blurred_ball(sigma_mm, spacing=(1.0, 1.0, 1.0), shape=(56, 56, 56), radius=15.0):
    distance = ball(shape, radius, spacing)
    return 100 + 700 * ndtr(-distance / sigma_mm), distance < 0


@pytest.mark.parametrize("sigma_mm", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.0, 1.3)])
def test_edge_sharpness_is_exact_on_an_erf_edge(sigma_mm, spacing):
    volume, label = slab(sigma_mm, spacing)
    result = sharpness_of_label(volume, label, spacing)
    expected = 1 / (sigma_mm * np.sqrt(2 * np.pi))
    assert result.raw.median == pytest.approx(expected, rel=0.01)
    assert result.sigmoid.median == pytest.approx(expected, rel=0.005)
    assert result.polynomial.median == pytest.approx(expected, rel=0.06)
    assert result.rise_mm.median == pytest.approx(RISE * sigma_mm, rel=0.01)
    assert result.overshoot.median == pytest.approx(0, abs=1e-3)
    assert result.profile_count == 64
    assert result.raw.lower <= result.raw.median <= result.raw.upper


def test_edge_sharpness_of_a_round_border_on_anisotropic_voxels():
    volume, label = blurred_ball(1.5, (1.0, 1.0, 1.5), (48, 48, 36))
    result = sharpness_of_label(volume, label, (1.0, 1.0, 1.5))
    expected = 1 / (1.5 * np.sqrt(2 * np.pi))
    assert result.raw.median == pytest.approx(expected, rel=0.03)
    assert result.sigmoid.median == pytest.approx(expected, rel=0.03)
    assert result.rise_mm.median == pytest.approx(RISE * 1.5, rel=0.03)


def test_edge_sharpness_does_not_depend_on_the_intensity_scale():
    volume, label = blurred_ball(1.2)
    first = np.array(sharpness_of_label(volume, label, (1, 1, 1))[:-1])
    for other in (0.003 * volume - 40, -5 * volume):
        np.testing.assert_allclose(
            np.array(sharpness_of_label(other, label, (1, 1, 1))[:-1]), first, rtol=1e-4, atol=1e-6
        )


def test_edge_sharpness_near_an_axis_responds_to_blur_along_it():
    volume, label = blurred_ball(1.0)
    thick = ndimage.gaussian_filter1d(volume, 2.5, axis=2)
    along, across = (
        sharpness_of_label(thick, label, (1, 1, 1), axis=a, max_angle_deg=12).sigmoid.median for a in (2, 0)
    )
    assert along < 0.6 * across
    assert across == pytest.approx(1 / np.sqrt(2 * np.pi), rel=0.1)


def test_overshoot_detects_ringing():
    volume, label = blurred_ball(1.2)
    ringing = volume + 1.0 * (volume - ndimage.gaussian_filter(volume, 2))
    assert sharpness_of_label(ringing, label, (1, 1, 1)).overshoot.median > 0.04
    assert sharpness_of_label(volume, label, (1, 1, 1)).overshoot.median < 0.01


def test_profiles_run_from_inside_to_outside_and_depend_on_the_label_alone():
    volume, label = blurred_ball(1.2)
    profiles = border_profiles(volume, label, (1, 1, 1), reach_mm=6, count=20)
    assert profiles.values.shape == (20, 121)
    assert profiles.step_mm == pytest.approx(0.1)
    assert (profiles.values[:, 0] > profiles.values[:, -1]).all()
    np.testing.assert_array_equal(
        profiles.values, border_profiles(volume, label * 7, (1, 1, 1), reach_mm=6, count=20)[0]
    )


def test_rise_grows_with_blur():
    volume, label = blurred_ball(0.8)
    results = [sharpness_of_label(ndimage.gaussian_filter(volume, s), label, (1, 1, 1)) for s in (0.01, 0.7, 1.2, 2, 3)]
    assert (np.diff([r.rise_mm.median for r in results]) > 0).all()
    for kind in ("raw", "polynomial"):
        assert (np.diff([getattr(r, kind).median for r in results]) < 0).all()


def test_two_points_give_the_same_as_a_label():
    volume, _ = slab(1.5)
    result = edge_sharpness(line_profiles(volume, (14.0, 9.5, 9.5), (30.0, 9.5, 9.5), (1, 1, 1)))
    assert result.raw.median == pytest.approx(1 / (1.5 * np.sqrt(2 * np.pi)), rel=0.02)
    assert result.profile_count == 9


def test_axis_sharpness_falls_with_blur_along_its_axis_only():
    volume = tissue((30, 32, 40))
    values = [axis_sharpness(ndimage.gaussian_filter1d(volume, s, axis=2), (1, 1, 1), 2) for s in (0.01, 0.6, 1.2, 2.4)]
    assert (np.diff(values) < 0).all()
    assert axis_sharpness(5 * volume - 3, (1, 1, 1), 2) == pytest.approx(values[0], rel=1e-6)
    assert axis_sharpness(volume, (1, 1, 2), 2) == pytest.approx(values[0] / 2, rel=1e-6)


@pytest.mark.parametrize("closed", [sharpness_closed, spectrum_closed])
def test_share_closed_is_zero_for_interpolation_and_about_one_for_the_truth(closed):
    truth = tissue((48, 48, 48))
    interpolated = cubic_spline(block_average(truth, 4), 4)
    setting = (1, 1, 1) if closed is sharpness_closed else 4
    assert closed(interpolated, interpolated, setting) == 0
    of_truth = closed(truth, interpolated, setting)
    half = closed((truth + interpolated) / 2, interpolated, setting)
    assert 0.7 < of_truth < 2.5  # in-plane detail of the interpolated volume is itself averaged over the slice
    assert 0 < half < of_truth


def test_share_closed_by_hand():
    assert share_closed(3, 2, 4) == 0.5
    with pytest.raises(Refusal, match="no difference to close"):
        share_closed(3, 2, 2)


def test_sharpness_of_unusable_input_is_refused():
    volume, label = blurred_ball(1.2)
    tiny = np.zeros_like(label)
    tiny[28, 28, 28] = True
    corner = np.zeros_like(label)
    corner[:3, :3, :3] = True
    broken = volume.copy()
    broken[0, 0, 0] = np.nan
    mm = (1, 1, 1)
    cases = [
        (lambda: sharpness_of_label(volume, label[1:], mm), "mask has shape"),
        (lambda: sharpness_of_label(volume, np.zeros_like(label), mm), "mask is empty"),
        (lambda: sharpness_of_label(volume, np.ones_like(label), mm), "border gives 0 profiles"),
        (lambda: sharpness_of_label(volume, tiny, mm), "6 are needed"),
        (lambda: sharpness_of_label(volume, corner, mm), "6 are needed"),
        (lambda: sharpness_of_label(volume, label, mm, reach_mm=60), "6 are needed"),
        (lambda: sharpness_of_label(broken, label, mm), "not finite"),
        (lambda: sharpness_of_label(volume[0], label[0], mm), "measured in a volume"),
        (lambda: sharpness_of_label(volume, label, (1, 1)), "three positive numbers"),
        (lambda: sharpness_of_label(volume, label, (1, 1, 0)), "three positive numbers"),
        (lambda: sharpness_of_label(volume, label, mm, reach_mm=1), "exceed two voxels"),
        (lambda: sharpness_of_label(volume, label, mm, axis=5), "axis 5"),
        (lambda: sharpness_of_label(np.ones_like(volume), label, mm), "constant"),
        (lambda: line_profiles(volume, (1, 1, 1), (2, 1, 1), mm), "too short"),
        (lambda: line_profiles(volume, (1, 1, 1), (200, 1, 1), mm), "leaves the volume"),
        (lambda: axis_sharpness(np.ones((8, 8, 8)), mm, 0), "is empty"),
        (lambda: axis_sharpness(volume, mm, 0, tiny, (0, 1)), "no two neighbours"),
    ]
    for action, fact in cases:
        with pytest.raises(Refusal, match=fact):
            action()
