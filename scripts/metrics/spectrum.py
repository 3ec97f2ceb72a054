"""Power spectra along the through-plane axis: detail above the slices' Nyquist frequency, slice-period artefacts."""

from typing import NamedTuple

import numpy as np

from ..geometry.errors import Refusal
from .arrays import Array, as_image, as_mask, as_pair, bounding_box, checked_axis

NYQUIST = 0.5  # cycles per voxel
MIN_VOXELS = 8  # along the axis, for a spectrum
MIN_PERIODS = 8  # slices, so that a peak is separate from the frequencies around it
PEAK_BINS = 1.0  # to either side of a peak: the main lobe of the Hann window
NEIGHBOUR_BINS = (2.0, 6.0)  # distance from a peak of the frequencies that it is compared with
EMPTY = 1e-12  # share of the total power below which a band is empty but for float64 rounding


class HighBand(NamedTuple):
    """Energies above the Nyquist frequency of the slices, relative to that of the truth; dimensionless.

    Attributes:
        energy: of the result; 1 is right, below 1 too smooth, above 1 too rough.
        error: of the difference; 0: all detail is recovered, 1: none, above 1: more invented than recovered.
    """

    energy: float
    error: float


class SlicePeriodArtefact(NamedTuple):
    """Periodic artefacts at the slice frequency and its harmonics, as two ratios of power and two amplitudes.

    `banding` and `steps` are powers relative to the neighbouring frequencies: 1 without artefact, but only a few
    frequencies contribute, so values between 0.2 and 4 occur by chance. They detect a periodic artefact and do not
    measure its size. `modulation` and `stripes` measure it, relative to the mean step between neighbouring planes.

    Attributes:
        banding: ratio, of the mean intensity of the planes.
        steps: ratio, of the mean absolute difference of neighbouring planes (staircase artefact).
        modulation: amplitude of that difference; a few hundredths without artefact.
        stripes: amplitude of the mean intensity of the planes, at these frequencies and from each plane to the next; a
            few thousandths without artefact, with fewer than 16 slices a few hundredths.
        banding_to_truth: banding over that of the truth; None without truth.
        steps_to_truth: steps over those of the truth; None without truth.
        modulation_of_truth: modulation of the truth; None without truth.
        stripes_of_truth: stripes of the truth; None without truth.
    """

    banding: float
    steps: float
    modulation: float
    stripes: float
    banding_to_truth: float | None = None
    steps_to_truth: float | None = None
    modulation_of_truth: float | None = None
    stripes_of_truth: float | None = None


def power_spectrum(image: Array, axis: int = -1, mask: Array | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the Hann-windowed power along one axis, summed over all lines, from each of which the mean is removed.

    Args:
        image: (X, Y, Z) or (H, W).
        axis: of the lines.
        mask: same shape, or None for everywhere; only its bounding box is used.

    Returns:
        Frequencies in cycles per voxel, shape (K,), 0 to 0.5, and the power, shape (K,), in squared intensities.

    Raises:
        Refusal: on bad arrays or fewer than 8 voxels along the axis.

    >>> wave = np.cos(2 * np.pi * np.arange(64) / 4)
    >>> frequencies, power = power_spectrum(np.tile(wave, (5, 1)))
    >>> frequencies[power.argmax()]
    np.float64(0.25)
    """
    image = as_image(image, "image")
    lines = _lines(image, axis, as_mask(mask, image.shape))
    return np.fft.rfftfreq(lines.shape[-1]), _power(lines)


def high_band(result: Array, truth: Array, factor: float, axis: int = -1, mask: Array | None = None) -> HighBand:
    """Return energy and error of a result above the Nyquist frequency of the slices, relative to the truth.

    sum |FFT(w r)|^2 / sum |FFT(w t)|^2 and sum |FFT(w (r - t))|^2 / sum |FFT(w t)|^2 over the frequencies above
    0.5 / factor cycles per voxel, where w is a Hann window along the axis. Identity gives (1, 0).

    Args:
        result: (X, Y, Z) or (H, W).
        truth: same shape.
        factor: slice spacing in voxels, above 1.
        axis: the through-plane axis.
        mask: same shape, or None for everywhere; only its bounding box is used.

    Raises:
        Refusal: on bad arrays, a factor that leaves no frequency, or a truth without energy above it.

    >>> truth = np.random.default_rng(0).random((8, 64))
    >>> tuple(round(value, 6) for value in high_band(0.5 * truth, truth, factor=4))
    (0.25, 0.25)
    """
    result, truth = as_pair(result, truth)
    inside = as_mask(mask, truth.shape)
    lines, of_truth = (_lines(a, axis, inside) for a in (result, truth))
    band = np.fft.rfftfreq(lines.shape[-1]) > NYQUIST / _checked_factor(factor)
    if not band.any():
        raise Refusal(f"factor {factor:g} leaves no frequency above the slices' Nyquist: it must be above 1")
    energy, error, scale = (float(_power(a)[band].sum()) for a in (lines, lines - of_truth, of_truth))
    if not scale > EMPTY * float((truth**2).sum()):
        raise Refusal("truth has no energy above the slices' Nyquist frequency: nothing could be recovered there")
    return HighBand(energy / scale, error / scale)


def high_band_share(image: Array, factor: float, axis: int = -1, mask: Array | None = None) -> float:
    """Return the share of the power along one axis above 0.5 / factor cycles per voxel; 0 to 1, needs no truth.

    Args:
        image: (X, Y, Z) or (H, W).
        factor: slice spacing in voxels, above 1.
        axis: of the lines; compare the through-plane axis with the in-plane ones.
        mask: same shape, or None for everywhere; only its bounding box is used.

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


def slice_period_artefact(
    volume: Array, factor: float, axis: int = -1, mask: Array | None = None, truth: Array | None = None
) -> SlicePeriodArtefact:
    """Return the periodic artefacts at 1 / factor cycles per voxel and its harmonics.

    A peak is 1 bin wide to either side; it is compared with the bins at a distance of 2 to 6 (fewer where harmonics are
    close). Nearest-neighbour interpolation shows in `steps` and not in `banding`, because the spectrum of a box of
    one slice is zero at the slice frequency.

    Args:
        volume: (X, Y, Z) or (H, W).
        factor: slice spacing in voxels, at least 2.
        axis: the through-plane axis.
        mask: same shape, or None for everywhere; only its bounding box is used.
        truth: same shape, or None; for the four values relative to the truth.

    Raises:
        Refusal: on bad arrays, a factor below 2 or fewer than 8 slices inside the mask.

    >>> rng = np.random.default_rng(0)
    >>> volume = rng.random((16, 16, 64))
    >>> striped = volume + 0.3 * (np.arange(64) % 4 == 0)  # every fourth plane is brighter
    >>> slice_period_artefact(striped, 4).stripes > 10 * slice_period_artefact(volume, 4).stripes
    True
    """
    volume = as_image(volume, "volume")
    if truth is not None:
        volume, truth = as_pair(volume, truth)
    inside = as_mask(mask, volume.shape)
    found = _periodic(_lines(volume, axis, inside), factor)
    if truth is None:
        return found
    of_truth = _periodic(_lines(truth, axis, inside), factor)
    return found._replace(
        banding_to_truth=_ratio(found.banding, of_truth.banding),
        steps_to_truth=_ratio(found.steps, of_truth.steps),
        modulation_of_truth=of_truth.modulation,
        stripes_of_truth=of_truth.stripes,
    )


def _lines(image: np.ndarray, axis: int, inside: np.ndarray) -> np.ndarray:
    lines = np.moveaxis(image[bounding_box(inside)], checked_axis(axis, image), -1)
    if lines.shape[-1] < MIN_VOXELS:
        raise Refusal(f"{lines.shape[-1]} voxels along axis {axis} inside the mask: a spectrum needs {MIN_VOXELS}")
    lines = lines - lines.mean(axis=-1, keepdims=True)  # the symmetric Hann window would leak it into the band
    return lines.reshape(-1, *lines.shape[-2:])  # so that only one sheet is transformed at a time


def _power(lines: np.ndarray) -> np.ndarray:
    window = np.hanning(lines.shape[-1])
    power = np.zeros(lines.shape[-1] // 2 + 1)
    for sheet in lines:
        power += (np.abs(np.fft.rfft(sheet * window, axis=-1)) ** 2).sum(axis=0)
    return power


def _checked_factor(factor: float) -> float:
    if not (np.isfinite(factor) and factor > 1):
        raise Refusal(f"factor {factor} must be above 1: the slice spacing in voxels")
    return float(factor)


def _ratio(value: float, of_truth: float) -> float:
    return value / of_truth if of_truth > 0 else float("inf")


def _periodic(lines: np.ndarray, factor: float) -> SlicePeriodArtefact:
    """Return the artefacts of lines along the through-plane axis, without comparison to a truth."""
    planes, steps = lines.mean(axis=(0, 1)), np.abs(np.diff(lines, axis=-1)).mean(axis=(0, 1))
    banding, staircase = _peak_ratio(planes, factor), _peak_ratio(steps - steps.mean(), factor)
    mean_step = float(np.average(steps, weights=np.hanning(steps.size)))
    if not mean_step > 0:
        return SlicePeriodArtefact(banding, staircase, modulation=0.0, stripes=0.0)
    harmonics = np.arange(1, int(factor / 2) + 1) / factor
    modulation = _amplitude(steps / mean_step - 1, harmonics)
    stripes = _amplitude(planes / mean_step, np.append(harmonics, NYQUIST))
    return SlicePeriodArtefact(banding, staircase, modulation, stripes)


def _amplitude(profile: np.ndarray, frequencies: np.ndarray) -> float:
    """Return the root of the sum of squared amplitudes of a Hann-windowed profile at some frequencies."""
    window = np.hanning(profile.size)
    # the window cannot resolve frequencies next to the Nyquist frequency of the voxels, so they count as that one, once
    at_limit = NYQUIST - frequencies < 2 * PEAK_BINS / profile.size
    frequencies = np.unique(np.where(at_limit, NYQUIST, frequencies))
    waves = np.exp(-2j * np.pi * frequencies[:, None] * np.arange(profile.size))
    both = np.where(frequencies == NYQUIST, 1, 2)  # a real wave has two frequencies, except at Nyquist
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
