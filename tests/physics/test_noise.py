import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scripts.physics.noise import add_rician_noise, estimate_noise, rician_sigma


def test_rician_noise_of_air_is_rayleigh(rng):
    # Gudbjartsson and Patz 1995: without signal the mean is sigma sqrt(pi / 2)
    assert float(add_rician_noise(torch.zeros(300, 300), 2.0, rng).mean()) == pytest.approx(
        2 * math.sqrt(math.pi / 2), rel=0.01
    )


def test_rician_noise_is_near_gaussian_at_high_signal(rng):
    noisy = add_rician_noise(torch.full((300, 300), 100.0), 2.0, rng)
    assert float(noisy.mean()) == pytest.approx(math.sqrt(100**2 + 2**2), rel=1e-3)
    assert float(noisy.std()) == pytest.approx(2.0, rel=0.02)


def test_the_same_generator_gives_the_same_noise(rng):
    image = torch.full((20, 20), 5.0)
    noisy = add_rician_noise(image, 0.3, rng)
    assert torch.equal(noisy, add_rician_noise(image, 0.3, torch.Generator().manual_seed(0)))
    assert not torch.equal(noisy, add_rician_noise(image, 0.3, rng))


def anatomy(size: int = 192, count: int = 6) -> torch.Tensor:
    """Ellipses of several tissues with a slope of the coil's sensitivity, in air."""
    x, y, z = (torch.linspace(-1, 1, n) for n in (size, size, count))
    x, y, z = x[:, None, None], y[:, None], z
    volume = torch.zeros(size, size, count)
    for radius, level in ((0.9, 100.0), (0.6, 180.0), (0.35, 60.0), (0.15, 240.0)):
        volume = torch.where((x / radius) ** 2 + (y / radius / 0.8) ** 2 < 1 - 0.5 * z**2, level, volume)
    return volume * (1 + 0.3 * x)


@pytest.mark.parametrize("sigma", [0.5, 2.0, 6.0, 20.0])
def test_noise_of_a_scan_is_found_whatever_its_anatomy(sigma, rng):
    slices = add_rician_noise(anatomy(), sigma, rng).numpy()
    assert estimate_noise(slices) == pytest.approx(sigma, rel=0.1)


def test_anatomy_without_noise_has_hardly_any():
    assert estimate_noise(anatomy().numpy()) < 0.5  # of 240


@given(st.floats(0.01, 1e4))
def test_noise_has_the_unit_of_the_scan(factor):
    slices = add_rician_noise(anatomy(48, 4), 5.0, torch.Generator().manual_seed(0)).double().numpy()
    assert estimate_noise(factor * slices) == pytest.approx(factor * estimate_noise(slices), rel=1e-3)


def test_values_below_zero_are_no_magnitudes_and_need_no_correction():
    gaussian = 4 * torch.randn(96, 96, 8, generator=torch.Generator().manual_seed(0))
    assert estimate_noise(gaussian.numpy()) == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("values", [np.zeros((2, 40, 5)), np.zeros((40, 40, 5)), np.full((20, 20, 5), 7.0)])
def test_nothing_to_measure_is_no_noise(values):
    assert estimate_noise(values) == 0


@pytest.mark.parametrize("signal", [0.0, 1.0, 2.0, 5.0, 30.0])
def test_the_deviation_of_magnitudes_is_corrected_at_every_signal(signal, rng):
    # independent: simulated magnitudes, no formula
    magnitudes = add_rician_noise(torch.full((400_000,), signal, dtype=torch.float64), 1.0, rng)
    found = rician_sigma(np.array(float(magnitudes.mean())), np.array(float(magnitudes.std())))
    assert float(found) == pytest.approx(1, rel=0.02)
