"""Noise of magnitude MR images: random and (Rician) non-linear, hence apart from the operators."""

import torch


def add_gaussian_noise(image: torch.Tensor, sigma: float, generator: torch.Generator | None = None) -> torch.Tensor:
    """The image with independent Gaussian noise of standard deviation sigma, in the image's own units."""
    return image + sigma * torch.randn(image.shape, generator=generator, dtype=image.dtype, device=image.device)


def add_rician_noise(image: torch.Tensor, sigma: float, generator: torch.Generator | None = None) -> torch.Tensor:
    """The magnitude of the image with complex Gaussian noise of standard deviation sigma per channel.

    Gudbjartsson and Patz 1995: M = sqrt((S + n_1)^2 + n_2^2).
    """
    real = add_gaussian_noise(image, sigma, generator)
    return torch.hypot(real, add_gaussian_noise(torch.zeros_like(image), sigma, generator))
