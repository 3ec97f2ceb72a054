"""Power spectra along the through-plane axis: detail above the slices' Nyquist frequency, and their period."""

from typing import NamedTuple

import numpy as np

from ..geometry.errors import Refusal
from .arrays import as_image, as_mask, as_pair, bounding_box, checked_axis

NYQUIST = 0.5  # cycles per voxel
MIN_VOXELS = 8  # along the axis, for a spectrum
MIN_PERIODS = 8  # slices, for a peak to stand apart from its neighbourhood
PEAK_BINS = 1.0  # either side: the main lobe of the Hann window
NEIGHBOUR_BINS = (2.0, 6.0)  # distance of the neighbourhood on both sides of a peak
EMPTY = 1e-12  # share of the whole power (float64 rounding): a band below it is empty


class HighBand(NamedTuple):
    """Above the slices' Nyquist frequency, relative to the truth; dimensionless.

    `energy`: of the result (1 is right, 0 smooth, above 1 too rough). `error`: of the difference (0: all detail
    recovered, 1: none, above 1: invented detail does harm).
    """

    energy: float
    error: float


class SlicePeriodArtefact(NamedTuple):
    """Power at the slice frequency and its harmonics over that of the neighbouring frequencies; 1 is none.

    `banding`: of the planes' mean intensity. `steps`: of the mean absolute difference between neighbouring
    planes (staircase; detail that comes and goes with the slices). `..._to_truth`: the same, over the truth's own.
    Few frequencies make it rough: an anatomy without artefact lies between about 0.2 and 4. `steps` is as sharp as a
    detector can be: it says that there is a rhythm, not how strong it is. How strong say two amplitudes, each a share
    of the mean step from plane to plane: `modulation`, of the steps at those frequencies (an anatomy without artefact
    has some hundredths), and `stripes`, of the planes' mean intensity there and from every plane to the next: offsets
    that a whole plane has in common (some thousandths; under 16 slices some hundredths by chance).
    """

    banding: float
    steps: float
    modulation: float
    stripes: float
    banding_to_truth: float | None = None
    steps_to_truth: float | None = None
    modulation_of_truth: float | None = None
    stripes_of_truth: float | None = None


def power_spectrum(image, axis: int = -1, mask=None) -> tuple[np.ndarray, np.ndarray]:
    """Hann-windowed power along one axis, summed over all lines inside the mask's bounding box, each less its mean.

    Args:
        image: (X, Y, Z) or (H, W).
        axis: along which.
        mask: same shape, or None for everywhere; only its bounding box counts.

    Returns:
        Frequencies in cycles per voxel, shape (K,), 0 to 0.5, and the power, shape (K,), in squared intensities.

    Raises:
        Refusal: on bad arrays or fewer than 8 voxels along the axis.
    """
    image = as_image(image, "image")
    lines = _lines(image, axis, as_mask(mask, image.shape))
    return np.fft.rfftfreq(lines.shape[-1]), _power(lines)


def band_energies(result, truth, factor: float, axis: int = -1, mask=None) -> tuple[float, float, float]:
    """Energy above 0.5 / factor cycles per voxel of the result, of (result - truth) and of the truth.

    Args:
        result: (X, Y, Z) or (H, W).
        truth: same shape.
        factor: slice spacing in voxels, above 1.
        axis: the through-plane axis.
        mask: same shape, or None for everywhere; its bounding box is the common crop.

    Returns:
        Three energies in squared intensities, from which `HighBand` is made for one image or pooled over many.

    Raises:
        Refusal: on bad arrays, or a factor that leaves no band.
    """
    result, truth = as_pair(result, truth)
    inside = as_mask(mask, truth.shape)
    lines = [_lines(a, axis, inside) for a in (result, truth)]
    band = np.fft.rfftfreq(lines[0].shape[-1]) > NYQUIST / _checked_factor(factor)
    if not band.any():
        raise Refusal(f"factor {factor:g} leaves no frequency above the slices' Nyquist: it must be above 1")
    energies = [float(_power(a)[band].sum()) for a in (lines[0], lines[0] - lines[1])]
    own = float(_power(lines[1])[band].sum())
    return (*energies, own if own > EMPTY * float((truth**2).sum()) else 0.0)


def high_band(result, truth, factor: float, axis: int = -1, mask=None) -> HighBand:
    """High-band energy and error of a result against the truth (notes/method.md, section 5); dimensionless.

    sum |FFT(w r)|^2 / sum |FFT(w t)|^2 and sum |FFT(w (r - t))|^2 / sum |FFT(w t)|^2 over f > 0.5 / factor, w a Hann
    window along the axis. Identity gives (1, 0).

    Args:
        result: (X, Y, Z) or (H, W).
        truth: same shape.
        factor: slice spacing in voxels, above 1.
        axis: the through-plane axis.
        mask: same shape, or None for everywhere; its bounding box is the common crop.

    Raises:
        Refusal: on bad arrays, or a truth without energy in the band.
    """
    own, error, truths = band_energies(result, truth, factor, axis, mask)
    if not truths > 0:
        raise Refusal("truth has no energy above the slices' Nyquist frequency: nothing could be recovered there")
    return HighBand(own / truths, error / truths)


def high_band_share(image, factor: float, axis: int = -1, mask=None) -> float:
    """Share of the power along one axis (without the mean of each line) above 0.5 / factor; 0 to 1, needs no truth.

    Args:
        image: (X, Y, Z) or (H, W).
        factor: slice spacing in voxels, above 1.
        axis: along which; in-plane axes show what the through-plane one should have.
        mask: same shape, or None for everywhere; only its bounding box counts.

    Raises:
        Refusal: on bad arrays or an image that is constant along the axis.
    """
    image = as_image(image, "image")
    lines = _lines(image, axis, as_mask(mask, image.shape))
    power = _power(lines)
    total = float(power.sum())
    if not total > EMPTY * float((image**2).sum()):
        raise Refusal(f"image is constant along axis {axis}: its spectrum is empty")
    return float(power[np.fft.rfftfreq(lines.shape[-1]) > NYQUIST / _checked_factor(factor)].sum()) / total


def slice_period_artefact(volume, factor: float, axis: int = -1, mask=None, truth=None) -> SlicePeriodArtefact:
    """Power at 1 / factor cycles per voxel and its harmonics, over the mean of the neighbouring frequencies.

    Peaks are 1 bin to either side, neighbours 2 to 6 bins (less where harmonics are close); 1 is none. Nearest
    neighbour shows in `steps`, not in `banding`: a box of one slice has zeros exactly at the slice frequency.

    Args:
        volume: (X, Y, Z) or (H, W).
        factor: slice spacing in voxels, at least 2.
        axis: the through-plane axis.
        mask: same shape, or None for everywhere; only its bounding box counts.
        truth: same shape, or None: its own values, by which the two ratios are divided for `..._to_truth`.

    Raises:
        Refusal: on bad arrays, a factor under 2 or fewer than 8 slices inside the mask.
    """
    volume = as_image(volume, "volume")
    if truth is not None:
        volume, truth = as_pair(volume, truth)
    inside = as_mask(mask, volume.shape)
    ratios, amplitudes = _rhythm(_lines(volume, axis, inside), factor)
    if truth is None:
        return SlicePeriodArtefact(*ratios, *amplitudes)
    of_truth, chance = _rhythm(_lines(truth, axis, inside), factor)
    to_truth = (o / t if t > 0 else float("inf") for o, t in zip(ratios, of_truth, strict=True))
    return SlicePeriodArtefact(*ratios, *amplitudes, *to_truth, *chance)


def _lines(image: np.ndarray, axis: int, inside: np.ndarray) -> np.ndarray:
    lines = np.moveaxis(image[bounding_box(inside)], checked_axis(axis, image), -1)
    if lines.shape[-1] < MIN_VOXELS:
        raise Refusal(f"{lines.shape[-1]} voxels along axis {axis} inside the mask: a spectrum needs {MIN_VOXELS}")
    lines = lines - lines.mean(axis=-1, keepdims=True)  # which the symmetric Hann window would leak into the band
    return lines.reshape(-1, *lines.shape[-2:])  # a stack, so that only one sheet is transformed at a time


def _power(lines: np.ndarray) -> np.ndarray:
    window = np.hanning(lines.shape[-1])
    return sum((np.abs(np.fft.rfft(sheet * window, axis=-1)) ** 2).sum(axis=0) for sheet in lines)


def _checked_factor(factor: float) -> float:
    if not (np.isfinite(factor) and factor > 1):
        raise Refusal(f"factor {factor} must be above 1: the slice spacing in voxels")
    return float(factor)


def _rhythm(lines: np.ndarray, factor: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """(banding, steps) and (modulation, stripes) of lines along the through-plane axis."""
    planes, steps = lines.mean(axis=(0, 1)), np.abs(np.diff(lines, axis=-1)).mean(axis=(0, 1))
    ratios = _peak_ratio(planes, factor), _peak_ratio(steps - steps.mean(), factor)
    mean_step = float(np.average(steps, weights=np.hanning(steps.size)))
    if not mean_step > 0:
        return ratios, (0.0, 0.0)
    harmonics = np.arange(1, int(factor / 2) + 1) / factor
    modulation = _amplitude(steps / mean_step - 1, harmonics)
    return ratios, (modulation, _amplitude(planes / mean_step, np.append(harmonics, NYQUIST)))


def _amplitude(profile: np.ndarray, frequencies: np.ndarray) -> float:
    """Root of the sum of squared amplitudes of a profile's waves at some frequencies, Hann-windowed."""
    window = np.hanning(profile.size)
    # one that the window does not tell from the voxels' own limit is that limit, and counts once
    at_limit = NYQUIST - frequencies < 2 * PEAK_BINS / profile.size
    frequencies = np.unique(np.where(at_limit, NYQUIST, frequencies))
    waves = np.exp(-2j * np.pi * frequencies[:, None] * np.arange(profile.size))
    both = np.where(frequencies == NYQUIST, 1, 2)  # a wave has two frequencies but at the voxels' own limit
    return float(np.linalg.norm(both * (waves @ (window * profile)) / window.sum()))


def _peak_ratio(profile: np.ndarray, factor: float) -> float:
    size, power = profile.size, _power(profile[None, None])
    if not _checked_factor(factor) >= 2:
        raise Refusal(f"factor {factor:g} is under 2: the slice frequency lies above the voxels' own Nyquist frequency")
    if size + 1 < MIN_PERIODS * factor:
        raise Refusal(f"{size} voxels hold fewer than {MIN_PERIODS} slices of {factor:g}: too few to see their period")
    bins = np.arange(power.size, dtype=float)
    harmonics = size / factor * np.arange(1, int(factor / 2) + 1)
    distance = np.abs(bins[:, None] - harmonics).min(axis=1)
    peak = distance <= PEAK_BINS
    near = (distance > NEIGHBOUR_BINS[0]) & (distance <= NEIGHBOUR_BINS[1]) & (bins > NEIGHBOUR_BINS[0])
    around = float(power[near].mean())
    if not around > EMPTY * max(float(power.sum()), np.finfo(float).tiny):
        return 1.0 if not float(power[peak].sum()) > EMPTY * float(power.sum()) else float("inf")
    return float(power[peak].mean()) / around
