"""Independent implementations for the tests of the metrics: block averages, splines, masks; none of scripts.physics."""

import numpy as np
import torch
from scipy import ndimage
from scipy.interpolate import CubicSpline


def block_average(volume: np.ndarray, factor: int) -> np.ndarray:
    """Slices of a rect profile, thickness = spacing = factor voxels, along the last axis."""
    return volume.reshape(*volume.shape[:-1], -1, factor).mean(axis=-1)


def cubic_spline(slices: np.ndarray, factor: int) -> np.ndarray:
    """`U b`: a not-a-knot spline through the slice centres, constant beyond the outer ones."""
    centres = np.arange(slices.shape[-1]) * factor + (factor - 1) / 2
    thin = np.clip(np.arange(slices.shape[-1] * factor), centres[0], centres[-1])
    return CubicSpline(centres, slices, axis=-1)(thin)


def consistent(volume: np.ndarray, slices: np.ndarray, factor: int) -> np.ndarray:
    """`P(v)` for the rect profile: the mean of every slab is shifted to the value of its slice."""
    return volume + np.repeat(slices - block_average(volume, factor), factor, axis=-1)


class BlockAcquisition:
    """A for the rect profile, by reshaping."""

    def __init__(self, factor: int):
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(*x.shape[:-1], -1, self.factor).mean(dim=-1)


def tissue(shape=(24, 28, 32), seed=0) -> np.ndarray:
    """Textured regions with edges on all scales, positive values, no air."""
    rng = np.random.default_rng(seed)
    coarse = ndimage.gaussian_filter(rng.normal(size=shape), 3)
    fine = ndimage.gaussian_filter(rng.normal(size=shape), 0.7)
    return 500 + 300 * np.sign(coarse) + 60 * fine / fine.std()


def ball(shape=(40, 40, 40), radius=12.0, spacing=(1.0, 1.0, 1.0)) -> np.ndarray:
    """Signed distance in mm to a sphere about the middle, positive outside."""
    grid = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)], indexing="ij")
    return np.sqrt(sum(g**2 for g in grid)) - radius
