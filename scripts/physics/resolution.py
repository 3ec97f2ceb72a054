"""The in-plane resolution that was acquired: scanners store finer pixels than they measure, by zero-filling k-space."""

import numpy as np
from scipy.signal.windows import blackmanharris

BAND = 0.065  # cycles per pixel: width of the bands that are compared on both sides of a frequency
LOWEST_LIMIT, HIGHEST_LIMIT = 0.15, 0.42  # cycles per pixel: limits of k-space that are looked for (factors 3.3 to 1.2)
STEP = 0.005  # cycles per pixel, between the frequencies that are tried
FEWEST_PIXELS = 32  # along an axis; below, the bands hold too few frequencies
EVIDENCE_DB = 4.0  # by which the power falls more steeply at the limit than on both sides of it (docs/resolution.md)
FOOT = 0.75  # share of the fall, in dB, after which measured k-space ends
LARGEST_FALL_DB = 20.0  # that counts; without noise the fall is as deep as the side lobes of the window
WINDOW_BLUR = 1.2  # frequency steps by which the window moves that place outwards
SMALLEST_POWER = 1e-12  # of the largest, so that the logarithm is finite


def acquired_fraction(slices: np.ndarray, axis: int) -> float:
    """Return the share of k-space along an in-plane axis that was measured; 1 where no zero-filling is seen.

    Outside of the measured part, zero-filled images have next to no power, neither of the anatomy nor of the noise. The
    power spectrum along the axis, averaged over the rest, therefore has a step at the limit. The step is accepted where
    the power falls by 4 dB more between the bands on both sides of the limit than between either and the band beyond
    it: the spectra of anatomy and of k-space filters fall gradually. Steps at less than a sixth from the end of k-space
    are not told from such filters.

    Args:
        slices: (X, Y, N), through-plane axis last, any unit.
        axis: 0 or 1.

    Returns:
        Acquired over stored resolution, from 0.3 to 1: stored pixels of p mm were acquired at p / fraction.

    Raises:
        ValueError: if the axis is not in-plane.

    >>> planes = np.random.default_rng(0).random((96, 96, 4))
    >>> measured = np.fft.rfft(planes, axis=0)
    >>> measured[25:] = 0  # of 0 to 48
    >>> acquired_fraction(planes, 0), round(acquired_fraction(np.fft.irfft(measured, axis=0), 0), 2)
    (1.0, 0.51)
    """
    if axis not in (0, 1):
        raise ValueError(f"axis must be 0 or 1, got {axis!r}")
    size = slices.shape[axis]
    if size < FEWEST_PIXELS:
        return 1.0
    frequencies, power = _spectrum(slices, axis)
    candidates = np.arange(LOWEST_LIMIT, HIGHEST_LIMIT + STEP / 2, STEP)
    bands = np.array([[_mean(frequencies, power, limit + k * BAND) for k in (-2, -1, 0, 1)] for limit in candidates])
    falls = -np.diff(bands, axis=1)
    evidence = falls[:, 1] - np.maximum(0, np.maximum(falls[:, 0], falls[:, 2]))
    best = int(evidence.argmax())
    if evidence[best] < EVIDENCE_DB:
        return 1.0
    limit = float(candidates[best])
    inside, outside = (_mean(frequencies, power, start, BAND / 3) for start in (limit - 7 / 6 * BAND, limit + BAND))
    level = inside - FOOT * min(inside - outside, LARGEST_FALL_DB)
    first = int(np.searchsorted(frequencies, limit - BAND))
    below = first + int(np.argmax(power[first:] < level))
    foot = np.interp(level, power[[below, below - 1]], frequencies[[below, below - 1]])
    return float(np.clip(2 * (foot - WINDOW_BLUR / size), 2 * LOWEST_LIMIT, 1))


def _spectrum(slices: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies (cycles per pixel) and mean power (dB) along an axis; the window hides the edges of the image."""
    lines = np.moveaxis(np.asarray(slices, dtype=np.float32), axis, -1)
    window = blackmanharris(lines.shape[-1], sym=False).astype(np.float32)
    waves = np.fft.rfft((lines - lines.mean(axis=-1, keepdims=True)) * window, axis=-1)
    power = (np.abs(waves) ** 2).mean(axis=(0, 1), dtype=np.float64)
    floor = max(SMALLEST_POWER * power.max(), np.finfo(np.float64).tiny)
    return np.fft.rfftfreq(lines.shape[-1]), 10 * np.log10(np.maximum(power, floor))


def _mean(frequencies: np.ndarray, power: np.ndarray, start: float, width: float = BAND) -> float:
    """Mean power in a band of this width; near the end of k-space the last values."""
    nyquist = 0.5
    start = min(start, nyquist - BAND / 3)
    inside = (frequencies >= start) & (frequencies <= min(start + width, nyquist))
    return float(power[inside].mean()) if inside.any() else float(np.interp(start, frequencies, power))
