"""Slice profiles: the sensitivity of a slice to the tissue at a distance from its centre."""

from collections.abc import Sequence

import numpy as np
from scipy.special import erf
from scipy.stats import norm

PROFILES = ("rect", "slr", "gauss", "fourier")
# a shaped radio-frequency pulse selects a 2-D slice; the partitions of a 3-D slab are Fourier-encoded
PROFILE_OF_ACQUISITION = {"2D": "gauss", "3D": "fourier"}
ACQUISITION_OF_PROFILE = {profile: kind for kind, profile in PROFILE_OF_ACQUISITION.items()}
FWHM_PER_SIGMA = 2 * np.sqrt(2 * np.log(2))  # of a Gaussian
SLR_EDGE = 0.13  # sigma of its edges over the thickness: from 90 to 10 % in a third of the thickness
SINC_LOBES = 4  # zero crossings kept on either side, where the Hann window reaches 0
FINE = 64  # samples per slice spacing for a transfer function


def check_profile(profile: str) -> str:
    """Return the profile if it is one of `PROFILES`.

    Raises:
        ValueError: otherwise; the message lists the choices.
    """
    if profile not in PROFILES:
        raise ValueError(f"slice profile must be one of {', '.join(PROFILES)}, got {profile!r}")
    return profile


def profile_weights(distance_voxels: np.ndarray, thickness_voxels: float, profile: str) -> np.ndarray:
    """Return the sensitivity of a slice to thin voxels at a distance from its centre, not normalised.

    rect, slr and gauss are averaged exactly over the width of a thin voxel, so they are accurate for slices of any
    thickness; fourier is band-limited, so samples at the voxel centres suffice. A partition thinner than a voxel passes
    all waves that the voxels can hold, as one of a voxel's thickness does, which is taken in its place: samples of the
    thinner one would amplify the shortest of them.

    Args:
        distance_voxels: distance of voxel centres from the slice centre, any shape, in thin voxels.
        thickness_voxels: slice thickness in thin voxels: the full width at half maximum (rect, gauss); the nominal
            thickness of a 3-D partition, 1 / bandwidth, where its sinc first reaches 0 (fourier).
        profile: "rect" (box), "slr" (a box convolved with a Gaussian of 0.13 thicknesses, as the pulses of Pauly et al.
            1991, IEEE Trans Med Imaging 10:53, with a time-bandwidth product of about 4), "gauss" (sigma = thickness /
            (2 sqrt(2 ln 2))) or "fourier" (Hann-windowed sinc).

    Returns:
        Weights of the same shape, dimensionless.

    Raises:
        ValueError: if the profile is unknown.

    >>> profile_weights(np.array([-2, -1, 0, 1, 2]), 3.0, "rect")
    array([0., 1., 1., 1., 0.])
    >>> profile_weights(np.array([0, 1.5]), 3.0, "gauss").round(2)  # half the maximum at half the thickness
    array([0.31, 0.16])
    """
    check_profile(profile)
    low, high = distance_voxels - 0.5, distance_voxels + 0.5
    if profile == "rect":
        half = thickness_voxels / 2
        return np.clip(np.minimum(high, half) - np.maximum(low, -half), 0, None)
    if profile == "gauss":
        scale = np.sqrt(2) * thickness_voxels / FWHM_PER_SIGMA
        return (erf(high / scale) - erf(low / scale)) / 2
    if profile == "slr":
        half, sigma = thickness_voxels / 2, SLR_EDGE * thickness_voxels
        at_high, at_low = (_integral((edge + half) / sigma) - _integral((edge - half) / sigma) for edge in (high, low))
        return sigma * (at_high - at_low)
    z = distance_voxels / max(thickness_voxels, 1)
    window = np.where(np.abs(z) < SINC_LOBES, np.cos(np.pi * z / (2 * SINC_LOBES)) ** 2, 0)
    return np.sinc(z) * window


def _integral(z: np.ndarray) -> np.ndarray:
    """The integral of the normal distribution function."""
    return z * norm.cdf(z) + norm.pdf(z)


def transfer(thickness_over_spacing: float, profile: str, cycles: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the modulation transfer of a slice profile: its Fourier transform, scaled to 1 at frequency 0.

    Args:
        thickness_over_spacing: slice thickness in slice spacings.
        profile: as for `profile_weights`.
        cycles: frequencies, cycles per slice spacing; the Nyquist frequency of the slices is 1/2.

    Returns:
        The transfer at each frequency, dimensionless; negative where the profile inverts a wave.

    >>> transfer(1.0, "rect", [0.25, 0.5, 0.75]).round(2)  # np.sinc of the same numbers
    array([0.9 , 0.64, 0.3 ])
    >>> transfer(1.0, "fourier", [0.25, 0.5]).round(1)  # a partition passes all up to the Nyquist frequency, 0.5
    array([1. , 0.5])
    """
    reach = int(np.ceil(SINC_LOBES * thickness_over_spacing * FINE))
    distance = np.arange(-reach, reach + 1)
    weights = profile_weights(distance, thickness_over_spacing * FINE, profile)
    waves = np.cos(2 * np.pi * np.outer(cycles, distance) / FINE)
    return waves @ weights / weights.sum()
