import numpy as np
import pytest

from scripts.geometry.errors import Refusal
from scripts.physics.acquisition import Acquisition
from scripts.physics.protocol import Protocol, ProtocolRange


def test_geometry_is_in_thin_voxels():
    geometry = Protocol(6.0, 5.2, "rect").geometry(208, 45, 1.3)
    assert geometry.slice_spacing_voxels == pytest.approx(6 / 1.3)
    assert geometry.slice_thickness_voxels == pytest.approx(4.0)


def test_drawn_geometries_cover_the_axis_and_stay_in_range():
    protocols = ProtocolRange((2, 7), (0.7, 1.2), ["rect", "gauss", "fourier"], (0.0, 0.02))
    seen = set()
    for seed in range(200):
        geometry, noise = protocols.draw(92, np.random.default_rng(seed))
        centres, spacing = geometry.slice_centres_voxels, geometry.slice_spacing_voxels
        assert 2 <= spacing <= 7
        assert 0.7 <= geometry.slice_thickness_voxels / spacing <= 1.2
        assert -0.5 <= centres[0] < spacing - 0.5
        assert 91.5 - spacing < centres[-1] <= 91.5
        assert 0 <= noise <= 0.02
        Acquisition(geometry)
        seen.add(geometry.profile)
    assert seen == {"rect", "gauss", "fourier"}


def test_a_share_of_the_draws_has_no_noise():
    protocols = ProtocolRange((2, 4), (1, 1), ["rect"], noise=(0.01, 0.05), noisy_share=0.5)
    rng = np.random.default_rng(0)
    noise = [protocols.draw(32, rng)[1] for _ in range(400)]
    assert 0.4 < np.mean([sigma == 0 for sigma in noise]) < 0.6
    assert all(sigma == 0 or 0.01 <= sigma <= 0.05 for sigma in noise)


def test_patches_too_small_for_the_largest_factor_are_refused():
    with pytest.raises(Refusal, match="patches of 24 pixels hold too few slices 7 pixels apart"):
        ProtocolRange((2, 7), (1, 1), ["rect"]).draw(24, np.random.default_rng(0))


def test_the_same_seed_draws_the_same():
    protocols = ProtocolRange((2, 7), (0.7, 1.2), ["rect", "gauss"])
    assert protocols.draw(92, np.random.default_rng(3)) == protocols.draw(92, np.random.default_rng(3))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (((0.5, 4), (1, 1), ["rect"]), "factor"),
        (((4, 2), (1, 1), ["rect"]), "factor"),
        (((2, 4), (1.2, 0.7), ["rect"]), "thickness_over_spacing"),
        ((4, (1, 1), ["rect"]), "factor"),
        (((2, 4), (1, 1), ["box"]), "profiles"),
        (((2, 4), (1, 1), "rect"), "profiles"),
        (((2, 4), (1, 1), []), "profiles"),
        (((2, 4), (1, 1), ["rect"], (0, 0.02), 7), "noisy_share"),
    ],
)
def test_invalid_ranges_are_refused(arguments, words):
    with pytest.raises(Refusal, match=words):
        ProtocolRange(*arguments)


def test_a_thickness_of_zero_is_refused():
    with pytest.raises(ValueError, match=r"slice_thickness_mm must be positive, got 0\.0 mm"):
        Protocol(3.0, 0.0, "rect")
