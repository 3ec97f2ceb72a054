"""Noise of magnitude MR images: random and (Rician) non-linear, hence apart from the linear operators."""

import torch


def add_rician_noise(image: torch.Tensor, sigma: float, generator: torch.Generator | None = None) -> torch.Tensor:
    """Return the magnitude of the image after adding complex Gaussian noise: sqrt((S + n_1)^2 + n_2^2).

    Gudbjartsson and Patz 1995, Magn Reson Med 34:910.

    Args:
        image: S, any shape.
        sigma: standard deviation of n_1 and of n_2, in the units of the image.
        generator: of the random numbers; None: torch's default one.

    >>> noisy = add_rician_noise(torch.zeros(100_000), 1.0, torch.Generator().manual_seed(0))
    >>> round(float(noisy.mean()), 1)  # air is Rayleigh-distributed, with mean sqrt(pi / 2)
    1.3
    """
    real, imaginary = (
        sigma * torch.randn(image.shape, generator=generator, dtype=image.dtype, device=image.device) for _ in range(2)
    )
    return torch.hypot(image + real, imaginary)
