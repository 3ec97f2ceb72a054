"""Body against air: one deterministic mask per case, shared by all methods that are judged on it."""

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from ..geometry.errors import Refusal
from .arrays import PLANE, as_image

BRIGHTEST_PERCENTILE = 99.9  # bright specks (vessels, fat under a coil) shall not set the threshold
SMOOTHING_VOXELS = 1.0  # Gaussian sigma: noise of the air falls below the threshold
OTSU_SHARE = 0.3  # Otsu parts bright from dim tissue as often as tissue from air: a share of it keeps dim tissue in
CLOSING_VOXELS = 3  # radius: dark gaps between skin and muscle, airways open to the outside of a cropped volume
MIN_COMPONENT_SHARE = 0.1  # of the largest component: both legs stay, ghosts go


def body_mask(volume: np.ndarray) -> np.ndarray:
    """Voxels of the body against air; computed from the truth or the interpolated input, never from a result.

    Gaussian smoothing (1 voxel) of the values clipped at their 99.9th percentile, threshold at 0.3 of Otsu's
    (1979), closing by 3 voxels, components of at least a tenth of the largest, holes filled (in 3-D, and in each
    plane of the three axes, so that airways and sinuses cut by the edge of the volume belong to the body).

    Args:
        volume: (X, Y, Z), (1, X, Y, Z) or a plane (H, W); any scale or offset, integers or floats.

    Returns:
        A boolean array (X, Y, Z) or (H, W).

    Raises:
        Refusal: if the volume is constant or not finite.
    """
    values = as_image(volume, "volume")
    low, high = values.min(), np.percentile(values, BRIGHTEST_PERCENTILE)
    if not high > low:
        if not values.max() > low:
            raise Refusal("volume is constant: there is no body in it")
        high = values.max()
    smooth = ndimage.gaussian_filter(np.clip((values - low) / (high - low), 0, 1).astype(np.float32), SMOOTHING_VOXELS)
    rough = smooth > OTSU_SHARE * threshold_otsu(smooth)
    padded = np.pad(rough, CLOSING_VOXELS)  # closing must not open at the edge of the volume
    closed = ndimage.binary_closing(padded, iterations=CLOSING_VOXELS)
    inside = tuple(slice(CLOSING_VOXELS, -CLOSING_VOXELS) for _ in range(values.ndim))
    return _filled(_largest(closed[inside]))


def _largest(mask: np.ndarray) -> np.ndarray:
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return (sizes >= MIN_COMPONENT_SHARE * sizes.max())[labels] & mask


def _filled(mask: np.ndarray) -> np.ndarray:
    filled = ndimage.binary_fill_holes(mask)
    if mask.ndim == PLANE:
        return filled
    for axis in range(mask.ndim):
        planes = np.moveaxis(filled, axis, 0)  # a view: filled in place
        for plane in planes:
            plane[...] = ndimage.binary_fill_holes(plane)
    return filled
