"""The body mask of a case, which separates body from air and is shared by all methods that are compared."""

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from ..geometry.errors import Refusal
from .arrays import PLANE, Array, as_image

BRIGHTEST_PERCENTILE = 99.9  # clipped, so that bright spots (vessels, fat under a coil) do not raise the threshold
SMOOTHING_VOXELS = 1.0  # Gaussian sigma, so that noise in air falls below the threshold
OTSU_SHARE = 0.3  # Otsu's threshold often separates bright from dim tissue; a share of it keeps the dim tissue
CLOSING_VOXELS = 3  # radius; closes dark gaps between skin and muscle, and airways cut by the edge of the volume
MIN_COMPONENT_SHARE = 0.1  # of the largest component; keeps both legs, removes ghosts


def body_mask(volume: Array) -> np.ndarray:
    """Return the voxels of the body; computed from the truth or the interpolated input, never from a result.

    Steps: values clipped at their 99.9th percentile, Gaussian smoothing (1 voxel), threshold at 0.3 of Otsu's (1979),
    closing by 3 voxels, components of at least a tenth of the largest, holes filled (in 3-D, and in the planes of all
    three axes, so that airways and sinuses cut by the edge of the volume belong to the body).

    Args:
        volume: (X, Y, Z), (1, X, Y, Z) or a plane (H, W); any scale or offset, integers or floats.

    Returns:
        A boolean array (X, Y, Z) or (H, W).

    Raises:
        Refusal: if the volume is constant or not finite.

    >>> plane = np.zeros((32, 32))
    >>> plane[8:24, 8:24] = 100
    >>> plane[14:18, 14:18] = 0  # a cavity belongs to the body
    >>> mask = body_mask(plane)
    >>> mask[16, 16], mask[2, 2]
    (np.True_, np.False_)
    """
    values = as_image(volume, "volume")
    low, high = values.min(), np.percentile(values, BRIGHTEST_PERCENTILE)
    if not high > low:
        if not values.max() > low:
            raise Refusal("volume is constant: there is no body in it")
        high = values.max()
    smooth = ndimage.gaussian_filter(np.clip((values - low) / (high - low), 0, 1).astype(np.float32), SMOOTHING_VOXELS)
    rough = smooth > OTSU_SHARE * threshold_otsu(smooth)
    padded = np.pad(rough, CLOSING_VOXELS)  # erosion must not start at the edge of the volume
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
        planes = np.moveaxis(filled, axis, 0)  # a view, so that the planes are filled in place
        for plane in planes:
            plane[...] = ndimage.binary_fill_holes(plane)
    return filled
