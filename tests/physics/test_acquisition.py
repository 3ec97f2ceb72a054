from itertools import combinations

import numpy as np
import pytest
import torch

from scripts.physics.acquisition import Acquisition, SliceGeometry
from scripts.physics.profile import PROFILES, profile_weights, transfer


def test_rect_of_whole_factor_is_the_block_average(rng):
    x = torch.rand(3, 2, 20, generator=rng, dtype=torch.float64)
    blocks = torch.nn.functional.avg_pool1d(x, 4)  # an independent implementation
    assert torch.allclose(Acquisition(SliceGeometry(20, 5, 4, 4))(x), blocks)


def test_rect_overlaps_real_valued_slices_by_hand():
    # two slices of 2.5 voxels on 5: the third voxel is shared half and half
    matrix = Acquisition(SliceGeometry(5, 2, 2.5, 2.5)).matrix
    assert matrix == pytest.approx(np.array([[2, 2, 1, 0, 0], [0, 0, 1, 2, 2]]) / 5)


def test_a_gap_leaves_voxels_without_weight_by_hand():
    matrix = Acquisition(SliceGeometry(8, 2, 4, 2)).matrix
    assert matrix == pytest.approx(np.array([[0, 1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1, 1, 0]]) / 2)


@pytest.mark.parametrize("thickness", [3.0, 5.5])
def test_profiles_have_their_full_width_at_half_maximum(thickness):
    step = 1e-3  # voxels a thousand times finer than the slice: the average over one voxel is the profile itself
    z = np.arange(-20, 20, step) / step
    for profile in ("rect", "slr", "gauss"):
        weights = profile_weights(z, thickness / step, profile)
        above = z[weights >= weights.max() / 2] * step
        assert above[-1] - above[0] == pytest.approx(thickness, rel=2e-3)
    fourier = profile_weights(z, thickness / step, "fourier")
    assert abs(z[fourier <= 0][np.abs(z[fourier <= 0]).argmin()] * step) == pytest.approx(thickness, rel=2e-3)


def test_fourier_is_band_limited():
    z = np.arange(-256, 256)
    spectrum = np.abs(np.fft.rfft(profile_weights(z, 6.0, "fourier")))
    frequency = np.fft.rfftfreq(512)
    edge = 0.5 / 6  # cycles a voxel: the Nyquist frequency of slices 6 voxels apart
    assert spectrum[frequency > 1.6 * edge].max() < 0.01 * spectrum[0]
    assert spectrum[frequency < 0.4 * edge].min() > 0.95 * spectrum[0]


@pytest.mark.parametrize("profile", PROFILES)
def test_an_impulse_is_largest_in_the_nearest_slice(profile):
    A = Acquisition(SliceGeometry(46, 10, 4.615, 4.615, profile))
    for index in range(46):
        impulse = torch.zeros(46, dtype=torch.float64)
        impulse[index] = 1
        nearest = np.abs(A.geometry.slice_centres_voxels - index).argmin()
        assert A(impulse)[nearest] == A(impulse).max()


def test_slices_share_the_centre_of_the_field_of_view():
    for count, thin in ((5, 23), (6, 28)):
        centres = SliceGeometry(thin, count, 4.615, 4).slice_centres_voxels
        assert centres.mean() == pytest.approx((thin - 1) / 2)


@pytest.mark.parametrize("first_slice_voxels", [None, -0.3])
def test_a_mirrored_scan_is_acquired_from_its_mirror_image(rng, first_slice_voxels):
    geometry = SliceGeometry(24, 5, 4.6, 4.0, "gauss", first_slice_voxels)
    thin = torch.rand(3, 24, generator=rng)
    slices = Acquisition(geometry)(thin)
    assert torch.allclose(Acquisition(geometry.mirrored())(thin.flip(-1)), slices.flip(-1), atol=1e-5)


def test_conditioning_has_phase_zero_at_slice_centres():
    conditioning = SliceGeometry(24, 6, 4, 3).conditioning()
    assert conditioning.shape == (6, 24)
    phase = np.arctan2(conditioning[1], conditioning[0])
    assert np.exp(1j * phase[[1, 2]]).sum().imag == pytest.approx(0, abs=1e-12)  # 1 and 2 lie about the centre 1.5
    assert conditioning[2] == pytest.approx(2.0)  # log2 of factor 4
    # a box of 3/4 spacing passes sinc(3/16), sinc(3/8), sinc(9/16)
    expected = np.sinc(0.75 * np.array([0.25, 0.5, 0.75]))[:, None] * np.ones(24)
    assert conditioning[3:] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("ratio", [0.7, 1.0, 1.2])
def test_a_profile_passes_its_fourier_transform(ratio):
    f = np.array([0.1, 0.25, 0.5, 1.0])
    sigma = ratio / (2 * np.sqrt(2 * np.log(2)))
    assert transfer(ratio, "rect", f) == pytest.approx(np.sinc(ratio * f), abs=1e-3)
    assert transfer(ratio, "gauss", f) == pytest.approx(np.exp(-2 * (np.pi * sigma * f) ** 2), abs=1e-3)
    softened = np.sinc(ratio * f) * np.exp(-2 * (np.pi * 0.13 * ratio * f) ** 2)
    assert transfer(ratio, "slr", f) == pytest.approx(softened, abs=1e-3)
    band = np.array([0.0, 0.25, 0.5, 1.0]) / ratio
    assert transfer(ratio, "fourier", band) == pytest.approx([1, 1, 0.5, 0], abs=0.01)


def test_profiles_of_one_thickness_have_different_conditioning():
    rows = {profile: SliceGeometry(24, 6, 4, 4, profile).conditioning()[3:, 0] for profile in PROFILES}
    assert min(np.abs(rows[a] - rows[b]).max() for a, b in combinations(("rect", "gauss", "fourier"), 2)) > 0.1
    assert np.abs(rows["rect"] - rows["slr"]).max() > 0.04 < np.abs(rows["slr"] - rows["gauss"]).max()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"profile": "box"}, "slice profile must be one of rect, slr, gauss, fourier, got 'box'"),
        ({"slice_thickness_voxels": 0.0}, "slice_thickness_voxels must be positive"),
        ({"slice_spacing_voxels": float("nan")}, "slice_spacing_voxels must be positive"),
        ({"slice_count": 0}, "sizes must be positive"),
    ],
)
def test_an_impossible_geometry_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        SliceGeometry(
            **{"thin_size": 24, "slice_count": 6, "slice_spacing_voxels": 4, "slice_thickness_voxels": 4} | change
        )


def test_a_slice_outside_the_grid_is_refused():
    with pytest.raises(ValueError, match="slice 2 lies outside"):
        Acquisition(SliceGeometry(8, 4, 4, 4, "rect", 2))


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("thickness", [0.4, 0.8, 1.0])
def test_slices_thinner_than_a_voxel_amplify_no_wave(thickness, profile):
    row = profile_weights(np.arange(-8, 9), thickness, profile)
    spectrum = np.abs(np.fft.rfft(row / row.sum(), 256))
    assert spectrum.max() < 1 + 1e-6
