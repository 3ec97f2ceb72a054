"""Slice profiles: how strongly a slice sees each thin voxel across it."""

from collections.abc import Sequence

import numpy as np
from scipy.special import erf

PROFILES = ("rect", "gauss", "fourier")
PROFILE_OF_ACQUISITION = {"2D": "gauss", "3D": "fourier"}  # a shaped pulse selects a slice; partitions are encoded
ACQUISITION_OF_PROFILE = {profile: kind for kind, profile in PROFILE_OF_ACQUISITION.items()}
FWHM_PER_SIGMA = 2 * np.sqrt(2 * np.log(2))  # of a Gaussian
SINC_LOBES = 4  # zero crossings kept on either side; a Hann window takes the rest smoothly to 0
FINE = 64  # points per slice spacing, for a transfer


def check_profile(profile: str) -> str:
    """The profile, if it is one of `PROFILES`.

    Raises:
        ValueError: otherwise, naming the choices.
    """
    if profile not in PROFILES:
        raise ValueError(f"slice profile must be one of {', '.join(PROFILES)}, got {profile!r}")
    return profile


def profile_weights(distance_voxels: np.ndarray, thickness_voxels: float, profile: str) -> np.ndarray:
    """Sensitivity of a slice to thin voxels at a distance from its centre, not normalised.

    rect and gauss are averaged exactly over the thin voxel (a box of width 1), so they stay right however thin the
    slice; fourier is band-limited and therefore sampled.

    Args:
        distance_voxels: distance of voxel centres from the slice centre, any shape, in thin voxels.
        thickness_voxels: slice thickness in thin voxels: the full width at half maximum (rect, gauss); the nominal
            thickness of a 3-D partition, 1 / bandwidth, where its sinc first reaches 0 (fourier).
        profile: "rect" (box), "gauss" (sigma = thickness / (2 sqrt(2 ln 2))) or "fourier" (Hann-windowed sinc).

    Returns:
        Weights of the same shape, dimensionless.
    """
    check_profile(profile)
    low, high = distance_voxels - 0.5, distance_voxels + 0.5
    if profile == "rect":
        half = thickness_voxels / 2
        return np.clip(np.minimum(high, half) - np.maximum(low, -half), 0, None)
    if profile == "gauss":
        scale = np.sqrt(2) * thickness_voxels / FWHM_PER_SIGMA
        return (erf(high / scale) - erf(low / scale)) / 2
    z = distance_voxels / thickness_voxels
    window = np.where(np.abs(z) < SINC_LOBES, np.cos(np.pi * z / (2 * SINC_LOBES)) ** 2, 0)
    return np.sinc(z) * window


def transfer(thickness_over_spacing: float, profile: str, cycles: Sequence[float]) -> np.ndarray:
    """How much of a wave across the slices the profile passes: its Fourier transform, 1 at frequency 0.

    Args:
        thickness_over_spacing: slice thickness in slice spacings.
        profile: as for `profile_weights`.
        cycles: frequencies, cycles per slice spacing; the slices' Nyquist frequency is 1/2.

    Returns:
        A share for each frequency, dimensionless; negative where waves come out reversed.
    """
    reach = int(np.ceil(SINC_LOBES * thickness_over_spacing * FINE))
    distance = np.arange(-reach, reach + 1)
    weights = profile_weights(distance, thickness_over_spacing * FINE, profile)
    waves = np.cos(2 * np.pi * np.outer(cycles, distance) / FINE)
    return waves @ weights / weights.sum()
