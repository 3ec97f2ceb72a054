"""Slice profile and thickness estimated from the scan itself: its spectrum across the slices against that in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.interpolate import BSpline
from scipy.optimize import least_squares
from scipy.signal.windows import hann

from .profile import PROFILES, transfer

FEWEST_SLICES, SMALLEST_FACTOR = 10, 2.0  # below them the spectra say too little
LINES = 64  # parallel planes of which the spectra are averaged; more say the same
IN_PLANE_BANDS, THROUGH_PLANE_BANDS = 18, 8
LOWEST_IN_PLANE, LOWEST_THROUGH_PLANE = 0.12, 0.06  # cycles per slice spacing; below, the window's own width shows
HIGHEST_IN_PLANE = 2.2  # cycles per slice spacing
RESOLVED = 0.42  # cycles per acquired pixel; k-space filters of scanners act beyond
WINDOW_BINS = 1.5  # of a discrete Fourier transform, that a Hann window spreads the mean over
ORDERS = np.arange(-4, 5)  # of the aliases that sampling by slices folds onto a frequency
KNOTS = np.log([0.1, 0.3, 0.55, 0.9, 1.4, 2.0, 3.0])  # of the spline of the spectrum; cycles per slice spacing
SPLINE = np.concatenate([KNOTS[:1].repeat(3), KNOTS, KNOTS[-1:].repeat(3)])
CUBIC = 3
COEFFICIENTS = len(SPLINE) - CUBIC - 1
CURVATURE = 0.02  # weight of the second differences of the coefficients
MISFIT = 0.3  # expected deviation of a band's power from the model, in the natural logarithm
SAMPLES = 200  # independent bands that the data count as, against the priors below
THICKNESS_PRIOR, STRETCH_PRIOR, NOISE_PRIOR = 0.2, 0.15, 0.3  # deviations of the natural logarithms from 0
KNOWN = 1e-3  # of the logarithm of a known thickness: how far the fit may move it
ITERATIONS = 25
SMALLEST_STEP, SMALLEST_GAIN = 1e-4, 1e-5  # relative; at which the fit ends
INFLATION = 1.35  # of the deviation by curvature, so that it is that of the errors found (docs/slice_profile.md)
USUAL = (0.7, 1.2)  # thickness over spacing of nearly all protocols
LARGEST_MISFIT, LARGEST_DEVIATION = 0.4, 0.25  # of an estimate that is used
FINEST, STEP = 9.0, 0.005  # of the tables of transfer functions: cycles per thickness
SMALLEST = 1e-300  # power, so that logarithms are finite


@dataclass(frozen=True)
class ProfileEstimate:
    """What the spectra say about the slices.

    Attributes:
        profile: of `PROFILES`.
        thickness_over_spacing: slice thickness in slice spacings.
        deviation: standard deviation of the logarithm of the thickness, if the profile is right.
        misfit: how far the spectra lie from those of the model, priors included; lower is better.
    """

    profile: str
    thickness_over_spacing: float
    deviation: float
    misfit: float = 0.0

    @property
    def is_reliable(self) -> bool:
        """Whether the model describes the spectra and they determine the thickness."""
        return self.misfit <= LARGEST_MISFIT and self.deviation <= LARGEST_DEVIATION


@dataclass(frozen=True)
class _Spectrum:
    """Power of the planes spanned by one in-plane axis and the through-plane axis, in bands, each array (bands,).

    Attributes:
        in_plane: frequency in cycles per slice spacing.
        through_plane: likewise.
        power: of which white noise of variance 1 has 1.
    """

    in_plane: np.ndarray
    through_plane: np.ndarray
    power: np.ndarray


def fit_profiles(
    slices: np.ndarray,
    factor: float,
    noise: float = 0.0,
    profiles: Sequence[str] = PROFILES,
    thickness_over_spacing: float | None = None,
    acquired_pixels: Sequence[float] = (1.0, 1.0),
    allowed: tuple[float, float] = USUAL,
) -> list[ProfileEstimate]:
    """Estimate the thickness of slices for each of some profiles, from what waves across the slices have lost.

    The power of planes through the slices, at the frequencies k within and f across the slices, is modelled as

        P(k, f) = sum_m S(sqrt(k^2 + a^2 (f + m)^2)) H(f + m)^2 + n^2,

    with f in cycles per slice spacing, m the aliases that sampling by slices folds onto f, H the transfer function of
    the profile and n the noise. S, the spectrum of the anatomy, is a free smooth function (a spline in the logarithms),
    which the waves within the slices show, and a, near 1, lets anatomy be longer or shorter across the slices than in
    them. Where k is large, S hardly varies with f, so the dependence on f there is that of H, whatever the anatomy.
    S, a, n and the thickness are fitted by least squares of the logarithms, for both in-plane axes together. ESPRESO
    (Han et al. 2021, arXiv 2104.00100) compares the two directions of a scan too, by the distributions of patches.

    Args:
        slices: (X, Y, N), through-plane axis last, square pixels, any unit.
        factor: slice spacing in pixels.
        noise: standard deviation of white noise on the slices; roughly, it is fitted.
        profiles: to choose from; where the profile is known, it alone.
        thickness_over_spacing: where it is known; then only the profiles are compared.
        acquired_pixels: size of the acquired pixels along both in-plane axes, in pixels; above 1 where planes were
            zero-filled or interpolated.
        allowed: lowest and highest thickness over spacing. A box of 1.3 spacings and a Gaussian of 1.0 pass nearly the
            same, so what protocols have helps to tell profiles apart.

    Returns:
        An estimate a profile, the best first; none for fewer than 10 slices, or slices less than 2 pixels apart.

    >>> from scipy.ndimage import gaussian_filter
    >>> texture = gaussian_filter(np.random.default_rng(0).standard_normal((48, 48, 96)), 1.0)
    >>> slices = texture.reshape(48, 48, 24, 4).mean(3)  # boxes without gaps
    >>> best, *_ = fit_profiles(slices, 4, profiles=["rect"])
    >>> 0.9 < best.thickness_over_spacing < 1.1
    True
    """
    bands = [_bands(slices, axis, factor, acquired_pixels[axis]) for axis in (0, 1)]
    if slices.shape[2] < FEWEST_SLICES or any(band is None for band in bands):
        return []
    spectra = [band for band in bands if band is not None]
    power = noise**2 * float(np.prod(acquired_pixels))
    found = [_fitted(spectra, profile, factor, power, thickness_over_spacing, allowed) for profile in profiles]
    return sorted(found, key=lambda estimate: estimate.misfit)


def estimate_profile(
    slices: np.ndarray,
    factor: float,
    noise: float = 0.0,
    profiles: Sequence[str] = PROFILES,
    acquired_pixels: Sequence[float] = (1.0, 1.0),
) -> ProfileEstimate | None:
    """Return the best of the estimates, or None where the spectra do not determine it.

    That is where the model fits them badly (misfit above 0.4), or where the deviation of the thickness is above 0.25.

    Args:
        slices: as for `fit_profiles`, and so are the others.
        factor: slice spacing in pixels.
        noise: standard deviation of white noise on the slices.
        profiles: to choose from.
        acquired_pixels: size of the acquired pixels, in pixels.
    """
    fits = fit_profiles(slices, factor, noise, profiles, acquired_pixels=acquired_pixels)
    return fits[0] if fits and fits[0].is_reliable else None


def _bands(slices: np.ndarray, axis: int, factor: float, acquired_pixel: float) -> _Spectrum | None:
    """The power spectrum of the planes along an in-plane axis; None where it is too narrow or empty."""
    planes = np.moveaxis(np.asarray(slices, dtype=np.float32), axis, 1)
    planes = planes[:: max(1, planes.shape[0] // LINES)]
    rows, count = planes.shape[1:]
    highest = min(RESOLVED / acquired_pixel * factor, HIGHEST_IN_PLANE)
    lowest = max(LOWEST_IN_PLANE, WINDOW_BINS * factor / rows)
    if factor < SMALLEST_FACTOR or highest < 2 * lowest:
        return None
    windows = [hann(n, sym=False).astype(np.float32) for n in (rows, count)]
    waves = np.fft.fft(np.fft.rfft((planes - planes.mean()) * np.outer(*windows), axis=1), axis=2)
    power = (np.abs(waves) ** 2).mean(axis=0, dtype=np.float64) / np.prod([(w**2).sum() for w in windows])
    half = np.arange(count // 2 + 1)
    power = (power[:, half] + power[:, -half % count]) / 2  # waves that rise and fall
    k, f = np.fft.rfftfreq(rows) * factor, half / count
    k_edges = np.linspace(lowest, highest, IN_PLANE_BANDS + 1)
    f_edges = np.linspace(max(LOWEST_THROUGH_PLANE, WINDOW_BINS / count), 0.5, THROUGH_PLANE_BANDS + 1)
    f_edges[-1] += STEP  # the Nyquist frequency belongs to the last band
    in_k = (np.digitize(k, k_edges) - 1)[:, None] == np.arange(IN_PLANE_BANDS)
    in_f = (np.digitize(f, f_edges) - 1)[:, None] == np.arange(THROUGH_PLANE_BANDS)
    members = np.outer(in_k.sum(axis=0), in_f.sum(axis=0))
    means = [in_k.T @ v @ in_f for v in (np.outer(k, np.ones_like(f)), np.outer(np.ones_like(k), f), power)]
    kept = (members > 0) & (means[2] > 0)
    return _Spectrum(*(mean[kept] / members[kept] for mean in means)) if kept.any() else None


def _fitted(
    spectra: Sequence[_Spectrum],
    profile: str,
    factor: float,
    noise_power: float,
    thickness: float | None,
    allowed: tuple[float, float] = USUAL,
) -> ProfileEstimate:
    """The thickness for which the model is nearest to the spectra, and how near it is."""
    model = _Model(spectra, profile, factor, noise_power)
    usual = 1.0 if thickness is None else thickness
    measured = np.concatenate([np.log(s.power) for s in spectra])
    weight = 1 / (MISFIT * np.sqrt(len(measured)))
    middle, rows = model.priors(np.log(usual))

    def differences(parameters: np.ndarray) -> np.ndarray:
        return np.concatenate([weight * (model(parameters)[0] - measured), rows @ (parameters - middle)])

    def jacobian(parameters: np.ndarray) -> np.ndarray:
        return np.concatenate([weight * model(parameters)[1], rows])

    start = model.start(measured, np.log(usual))
    bounds = np.full((2, len(start)), [[-np.inf], [np.inf]])
    bounds[:, 0] = np.log(allowed) if thickness is None else np.log(thickness) + np.array([-KNOWN, KNOWN])
    fit = least_squares(
        differences,
        start,
        jac=jacobian,
        bounds=tuple(bounds),
        max_nfev=ITERATIONS,
        xtol=SMALLEST_STEP,
        ftol=SMALLEST_GAIN,
    )
    spread = INFLATION * float(np.sqrt(np.linalg.inv(fit.jac.T @ fit.jac)[0, 0] / SAMPLES))
    return ProfileEstimate(profile, float(np.exp(fit.x[0])), spread, float(2 * fit.cost))


class _Model:
    """Logarithm of the expected power of all bands, by log thickness, log noise, and log a and spline of each axis."""

    def __init__(self, spectra: Sequence[_Spectrum], profile: str, factor: float, noise_power: float):
        self.spectra, self.noise_power = spectra, noise_power
        self.transfer, self.slope = _tables(profile)
        self.aliases = [s.through_plane[:, None] + ORDERS for s in spectra]
        # slices of the isotropic grid average over its voxels (`profile_weights`), of which the highest frequency is:
        self.passed = [(np.abs(z) <= factor / 2 + 0.5).astype(np.float64) for z in self.aliases]
        if profile != "fourier":
            self.passed = [p * np.sinc(z / factor) ** 2 for p, z in zip(self.passed, self.aliases, strict=True)]

    def own(self, axis: int) -> slice:
        """The parameters of one axis: log a, then the coefficients of the spline."""
        first = 2 + axis * (1 + COEFFICIENTS)
        return slice(first, first + 1 + COEFFICIENTS)

    def priors(self, usual: float) -> tuple[np.ndarray, np.ndarray]:
        """Middle of the priors, (parameters,), and their weighted rows, (priors, parameters)."""
        size = 2 + len(self.spectra) * (1 + COEFFICIENTS)
        middle, identity = np.zeros(size), np.eye(size) / np.sqrt(SAMPLES)
        middle[0] = usual
        rows = [identity[:1] / THICKNESS_PRIOR, identity[1:2] / NOISE_PRIOR]
        for axis in range(len(self.spectra)):
            own = self.own(axis)
            rows.append(identity[own][:1] / STRETCH_PRIOR)
            rows.append(CURVATURE * np.diff(np.eye(size)[own][1:], 2, axis=0))
        return middle, np.concatenate(rows)

    def start(self, measured: np.ndarray, usual: float) -> np.ndarray:
        """Parameters to begin with: the spectrum as it would be if the slices hid nothing."""
        parts, done = [np.array([usual, 0.0])], 0
        smooth = np.diff(np.eye(COEFFICIENTS), 2, axis=0)
        for s in self.spectra:
            part = measured[done : done + len(s.power)]
            done += len(s.power)
            basis = _basis(_inside(np.log(np.hypot(s.in_plane, s.through_plane))))
            A, b = np.concatenate([basis, smooth]), np.concatenate([part, np.zeros(len(smooth))])
            parts += [np.zeros(1), np.linalg.lstsq(A, b, rcond=None)[0]]
        return np.concatenate(parts)

    def __call__(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The logarithms, (bands,), and their derivatives, (bands, parameters)."""
        thickness, level = np.exp(parameters[:2])
        noise = level * self.noise_power + SMALLEST
        logs, jacobians = [], []
        for axis, (s, z, passed) in enumerate(zip(self.spectra, self.aliases, self.passed, strict=True)):
            own = parameters[self.own(axis)]
            across = (np.exp(own[0]) * z) ** 2
            square = s.in_plane[:, None] ** 2 + across
            place = 0.5 * np.log(square)
            within = (place > KNOTS[0]) & (place < KNOTS[-1])
            spline = BSpline(SPLINE, own[1:], CUBIC)
            anatomy = np.exp(spline(_inside(place)))
            cycles = np.abs(thickness * z) / STEP
            parts = anatomy * passed * np.interp(cycles, np.arange(len(self.transfer)), self.transfer)
            total = parts.sum(axis=1) + noise
            J = np.zeros((len(total), len(parameters)))
            slope = np.interp(cycles, np.arange(len(self.slope)), self.slope) * cycles
            J[:, 0] = (anatomy * passed * slope).sum(axis=1)
            J[:, 1] = noise
            J[:, self.own(axis).start] = (parts * spline.derivative()(_inside(place)) * within * across / square).sum(1)
            basis = _basis(_inside(place).ravel()).reshape(*place.shape, COEFFICIENTS)
            J[:, self.own(axis)][:, 1:] = np.einsum("bm,bmc->bc", parts, basis)
            logs.append(np.log(total))
            jacobians.append(J / total[:, None])
        return np.concatenate(logs), np.concatenate(jacobians)


def _inside(place: np.ndarray) -> np.ndarray:
    """Logarithms of frequencies within the knots."""
    return np.clip(place, KNOTS[0], KNOTS[-1] - STEP)


def _basis(place: np.ndarray) -> np.ndarray:
    return BSpline.design_matrix(place, SPLINE, CUBIC).toarray()


@cache
def _tables(profile: str) -> tuple[np.ndarray, np.ndarray]:
    """Power that a profile passes at multiples of `STEP` cycles per thickness, and its slope by step."""
    passed = np.asarray(transfer(1.0, profile, np.arange(0, FINEST, STEP))) ** 2
    return passed, np.gradient(passed)
