import math

import pytest
import torch

from scripts.physics.noise import add_rician_noise


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
