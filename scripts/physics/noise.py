"""Noise of magnitude MR images, random and (Rician) non-linear, hence apart from the linear operators; its estimate."""

from functools import cache

import numpy as np
import torch
from scipy import ndimage
from scipy.special import ive

BODY = 0.1  # of the intensity scale; air lies below
ROBUST_PERCENTILES = (0.5, 99.5)  # of that range
SECOND_DIFFERENCE = np.array([1.0, -2.0, 1.0]) / np.sqrt(6)  # keeps the deviation of white noise
BLOCK = 8  # pixels along the edge of the blocks in which the noise is measured
FLATTEST = 0.25  # the quantile of the blocks that is used: anatomy raises the others
INSIDE = 0.9  # share of a block's pixels that must be above `BODY`
FEWEST_BLOCKS = 8  # of the body; from fewer, all blocks count
MEDIAN_OF_SIZE = 0.6745  # of normal values of deviation 1
WHITE_BLOCKS = 16  # along each axis, of the white noise that the quantile is compared with
HIGH_SIGNAL = 20.0  # times sigma; from there on a magnitude's deviation is sigma to 0.1 %
TABLE = 2001  # signals up to it


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


def estimate_noise(slices: np.ndarray) -> float:
    """Estimate the standard deviation of the noise of slices from their finest in-plane detail in the flattest blocks.

    Second differences along both in-plane axes (Immerkaer 1996, Comput Vis Image Underst 64:300) remove anatomy that is
    linear along either of them. The median of their size is taken in blocks of 8 x 8 pixels inside the body. What
    remains of anatomy raises it in some blocks, so the first quartile of the blocks is used, divided by what it is for
    white noise. Where no value is negative, it is corrected for the Rician distribution of magnitudes (`rician_sigma`).

    The noise must be white within the planes: estimate it before any interpolation. docs/noise.md compares it with
    estimates from the background and from wavelets.

    Args:
        slices: (X, Y, N), through-plane axis last, as acquired; intensities of any unit, of which 0 is no signal.

    Returns:
        Sigma of each of the two channels of the magnitude, in the units of the slices; 0 where planes are smaller than
        3 x 3 pixels.

    >>> slices = add_rician_noise(torch.full((64, 64, 8), 100.0), 3.0, torch.Generator().manual_seed(0)).numpy()
    >>> round(estimate_noise(slices), 1)
    3.0
    """
    values = np.asarray(slices, dtype=np.float32)
    if min(values.shape[:2]) < len(SECOND_DIFFERENCE):
        return 0.0
    low, high = np.percentile(values, ROBUST_PERCENTILES)
    inner = _blocks(values[1:-1, 1:-1])  # the edge of a plane has no second difference
    deviation, mean = _deviations(values), inner.mean(axis=1)
    body = (inner > low + BODY * (high - low)).mean(axis=1) >= INSIDE
    if body.sum() >= FEWEST_BLOCKS:
        deviation, mean = deviation[body], mean[body]
    sigma = rician_sigma(mean, deviation) if values.min() >= 0 else deviation
    return float(np.quantile(sigma, FLATTEST)) / _quantile_of_white_noise(inner.shape[1])


def rician_sigma(mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Return the sigma of the channels of magnitudes from their mean and standard deviation.

    The deviation of a magnitude falls from sigma to 0.66 sigma in air, and its mean over its deviation to 1.91
    (Koay and Basser 2006, J Magn Reson 179:317, equation 19, here inverted by a table in place of an iteration).

    Args:
        mean: of the magnitudes, any shape, 0 or more.
        deviation: of the same shape and unit.

    >>> air = np.sqrt(np.pi / 2), np.sqrt(2 - np.pi / 2)  # of sigma 1
    >>> rician_sigma(np.array([air[0], 50.0]), np.array([air[1], 1.0])).round(2)
    array([1., 1.])
    """
    mean, deviation = (np.asarray(v, dtype=np.float64) for v in (mean, deviation))
    signal = np.linspace(0, HIGH_SIGNAL, TABLE)  # over sigma
    quarter = signal**2 / 4
    # ive(n, x) is I_n(x) exp(-x), which does not overflow
    average = np.sqrt(np.pi / 8) * ((2 + signal**2) * ive(0, quarter) + signal**2 * ive(1, quarter))
    spread = np.sqrt(2 + signal**2 - average**2)
    ratio = mean / np.maximum(deviation, np.maximum(mean, 1) * np.finfo(np.float64).eps)
    return deviation / np.interp(ratio, average / spread, spread, right=1.0)


def _deviations(values: np.ndarray) -> np.ndarray:
    """The median size of the second differences in the blocks of (X, Y, N), scaled to a standard deviation."""
    for axis in (0, 1):
        values = ndimage.correlate1d(values, SECOND_DIFFERENCE, axis=axis)
    return np.median(np.abs(_blocks(values[1:-1, 1:-1])), axis=1) / MEDIAN_OF_SIZE


def _blocks(values: np.ndarray) -> np.ndarray:
    """The blocks within the planes of (X, Y, N), flat: (blocks, pixels of a block)."""
    size = min(BLOCK, *values.shape[:2])
    rows, columns = (n // size for n in values.shape[:2])
    whole = values[: rows * size, : columns * size].reshape(rows, size, columns, size, -1)
    return whole.transpose(0, 2, 4, 1, 3).reshape(-1, size**2)


@cache
def _quantile_of_white_noise(pixels: int) -> float:
    """The quantile `FLATTEST` of the deviations in blocks of so many pixels, for white noise of deviation 1."""
    size = WHITE_BLOCKS * round(pixels**0.5) + 2
    white = np.random.default_rng(0).standard_normal((size, size, WHITE_BLOCKS), dtype=np.float32)
    return float(np.quantile(_deviations(white), FLATTEST))
