import numpy as np
import pytest
import torch

from scripts.physics.acquisition import Acquisition, SliceGeometry
from scripts.physics.profile_estimate import _fitted, _Model, _Spectrum, estimate_profile, fit_profiles


def texture(stretch: float) -> np.ndarray:
    """Texture that falls as anatomy does, `stretch` times as long along the last axis as along the others."""
    shape = (96, 96, 160)
    spectrum = np.fft.rfftn(np.random.default_rng(0).standard_normal(shape))
    frequencies = np.meshgrid(np.fft.fftfreq(96), np.fft.fftfreq(96), np.fft.rfftfreq(160), indexing="ij")
    radius = np.sqrt(sum((f * s) ** 2 for f, s in zip(frequencies, (1, 1, stretch), strict=True)))
    return np.fft.irfftn(spectrum / (0.02 + radius) ** 2, s=shape, axes=(0, 1, 2))


@pytest.fixture(scope="module")
def isotropic() -> np.ndarray:
    return texture(1.0)


def sliced(volume: np.ndarray, profile: str, thickness: float, noise: float = 0.0) -> np.ndarray:
    """Slices of 4 voxels, with noise of so many standard deviations of the volume."""
    A = Acquisition(SliceGeometry(160, 40, 4, 4 * thickness, profile))
    slices = A(torch.from_numpy(volume)).numpy()
    return slices + noise * volume.std() * np.random.default_rng(1).standard_normal(slices.shape)


@pytest.mark.parametrize("profile", ["rect", "slr", "gauss", "fourier"])
@pytest.mark.parametrize("thickness", [0.75, 1.0, 1.2])
def test_the_thickness_of_a_known_profile_is_found(isotropic, profile, thickness):
    found = estimate_profile(sliced(isotropic, profile, thickness), 4, 0.0, (profile,))
    assert found.thickness_over_spacing == pytest.approx(thickness, rel=0.1)
    assert 0 < found.deviation < 0.2


@pytest.mark.parametrize("stretch", [0.8, 1.25])
def test_anatomy_that_is_longer_across_the_slices_is_not_taken_for_thickness(stretch):
    found = estimate_profile(sliced(texture(stretch), "gauss", 1.0), 4, 0.0, ("gauss",))
    assert found.thickness_over_spacing == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize(
    ("profile", "others"), [("gauss", {"gauss"}), ("fourier", {"fourier"}), ("rect", {"rect", "slr"})]
)
def test_the_shape_is_found_or_one_that_hides_as_much(isotropic, profile, others):
    assert estimate_profile(sliced(isotropic, profile, 1.0), 4).profile in others


def test_noise_across_the_slices_is_not_taken_for_detail(isotropic):
    noisy = sliced(isotropic, "gauss", 1.0, noise=0.2)
    found, blind = (estimate_profile(noisy, 4, n, ("gauss",)) for n in (0.2 * isotropic.std(), 0.0))
    assert found.thickness_over_spacing == pytest.approx(1.0, rel=0.1)
    assert blind.thickness_over_spacing < found.thickness_over_spacing


def test_a_known_thickness_stays(isotropic):
    fits = fit_profiles(sliced(isotropic, "fourier", 0.8), 4, thickness_over_spacing=0.8)
    assert fits[0].profile == "fourier"
    assert [fit.thickness_over_spacing for fit in fits] == pytest.approx([0.8] * 4, rel=0.01)
    assert [fit.misfit for fit in fits] == sorted(fit.misfit for fit in fits)


def test_zero_filled_planes_give_the_same_thickness(isotropic):
    slices = sliced(isotropic, "gauss", 1.0)
    waves = np.fft.fftshift(np.fft.fft2(slices, axes=(0, 1)), axes=(0, 1))
    stored = np.fft.ifft2(np.fft.ifftshift(np.pad(waves, [(48, 48), (48, 48), (0, 0)]), axes=(0, 1)), axes=(0, 1)).real
    found = estimate_profile(stored, 8, 0.0, ("gauss",), acquired_pixels=(2, 2))
    assert found.thickness_over_spacing == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize(("count", "factor"), [(9, 4.0), (40, 1.5), (40, 60.0)])
def test_too_little_to_see_is_no_estimate(isotropic, count, factor):
    assert estimate_profile(isotropic[:, :, :count], factor) is None


def test_what_no_slices_explain_is_no_estimate():
    planes = np.random.default_rng(0).standard_normal((64, 64, 1)).cumsum(0).cumsum(1)
    alternating = planes * np.where(np.arange(20) % 2, 1.0, -1.0)  # all power at the Nyquist frequency of the slices
    assert estimate_profile(alternating, 4) is None


def test_the_derivatives_of_the_model_are_those_of_its_values():
    rng = np.random.default_rng(0)
    spectra = [_Spectrum(rng.uniform(0.2, 2, 30), rng.uniform(0.1, 0.5, 30), rng.uniform(1, 2, 30)) for _ in range(2)]
    model = _Model(spectra, "gauss", 4, 0.1)
    at = model.start(np.log(np.concatenate([s.power for s in spectra])), 0.0) + 0.01
    steps = 1e-6 * np.eye(len(at))
    numeric = np.stack([(model(at + s)[0] - model(at - s)[0]) / 2e-6 for s in steps], axis=1)
    assert model(at)[1] == pytest.approx(numeric, abs=0.01)  # tables are interpolated
    assert _fitted(spectra, "gauss", 4, 0.1, 0.9).thickness_over_spacing == pytest.approx(0.9, rel=0.01)
