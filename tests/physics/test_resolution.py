import numpy as np
import pytest
import torch

from benchmarks.zero_filling import band_limited
from scripts.geometry.grid import Grid
from scripts.phantom.abdomen import abdomen
from scripts.physics.noise import add_rician_noise
from scripts.physics.resolution import acquired_fraction


@pytest.fixture(scope="module")
def planes() -> np.ndarray:
    """Coronal planes of the phantom, 1.5 mm, (160, 160, 8), with the phase of a smooth field."""
    grid = Grid((160, 160, 8), np.array([[1.5, 0, 0, -120], [0, 0, 20.0, -70], [0, 1.5, 0, -120], [0, 0, 0, 1]]))
    values = np.asarray(abdomen(grid), dtype=np.float64).reshape(grid.shape)
    x, y = np.meshgrid(*(np.linspace(-1, 1, n) for n in grid.shape[:2]), indexing="ij")
    return values * np.exp(1j * (1.5 * x**2 + y))[..., None]


def zero_filled(planes: np.ndarray, kept: tuple[int, int], noise: float) -> np.ndarray:
    """Magnitudes of planes of which so many lines of k-space were measured, with complex noise, as a scanner stores."""
    rng = np.random.default_rng(0)
    spectrum = np.fft.fftshift(np.fft.fft2(planes, axes=(0, 1)), axes=(0, 1))
    shape, level = planes.shape, noise * np.abs(planes).max()
    spectrum += level * np.sqrt(shape[0] * shape[1]) * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))
    for axis, count in enumerate(kept):
        outside = np.abs(np.arange(shape[axis]) - shape[axis] // 2) >= (count + 1) // 2
        spectrum[(slice(None),) * axis + (outside,)] = 0
    return np.abs(np.fft.ifft2(np.fft.ifftshift(spectrum, axes=(0, 1)), axes=(0, 1)))


@pytest.mark.parametrize("kept", [(80, 80), (100, 120), (128, 64)])
@pytest.mark.parametrize("noise", [0.005, 0.02])
def test_the_measured_part_of_k_space_is_found_along_each_axis(planes, kept, noise):
    stored = zero_filled(planes, kept, noise)
    for axis, count in enumerate(kept):
        assert acquired_fraction(stored, axis) == pytest.approx(count / 160, rel=0.1)


@pytest.mark.parametrize("noise", [0.0, 0.005, 0.02, 0.1])
def test_planes_that_were_measured_as_stored_raise_no_alarm(planes, noise):
    stored = zero_filled(planes, (162, 162), noise)
    assert [acquired_fraction(stored, axis) for axis in (0, 1)] == [1, 1]


def test_zero_filling_along_one_axis_says_nothing_of_the_other(planes):
    stored = zero_filled(planes, (162, 80), 0.01)
    assert acquired_fraction(stored, 0) == 1
    assert acquired_fraction(stored, 1) == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize("values", [np.zeros((64, 64, 5)), np.full((64, 64, 5), 3.0), np.ones((20, 20, 5))])
def test_an_image_without_content_or_too_small_raises_no_alarm(values):
    assert acquired_fraction(values, 0) == 1


def test_noise_alone_raises_no_alarm():
    air = add_rician_noise(torch.zeros(96, 96, 6), 1.0, torch.Generator().manual_seed(0)).numpy()
    assert acquired_fraction(air, 1) == 1


def test_the_through_plane_axis_is_not_looked_at():
    with pytest.raises(ValueError, match="axis must be 0 or 1, got 2"):
        acquired_fraction(np.ones((64, 64, 64)), 2)


def test_a_volume_cropped_in_k_space_keeps_its_waves_and_loses_those_that_the_grid_cannot_hold():
    fine, coarse = (Grid((n,) * 3, np.diag([s, s, s, 1.0])) for n, s in ((24, 1.0), (12, 2.0)))
    affine = np.array(coarse.affine)
    affine[:3, 3] = 0.5  # the outer edges of both grids lie at the same places
    coarse = Grid(coarse.shape, affine)
    at_fine, at_coarse = np.arange(24) + 0.5, 2 * np.arange(12) + 1
    for wave, kept in ((6, True), (18, False)):  # half periods; the coarse grid holds 12
        seen = band_limited((np.cos(np.pi * at_fine * wave / 24))[:, None, None] * np.ones((1, 24, 24)), fine, coarse)
        expected = np.cos(np.pi * at_coarse * wave / 24) * kept
        assert seen[:, 3, 3] == pytest.approx(expected, abs=1e-6)
