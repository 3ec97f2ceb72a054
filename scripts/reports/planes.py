"""One anatomical plane of a volume as an image, and the intensity window to show it in."""

from collections.abc import Sequence

import nibabel
import numpy as np

from ..geometry.views import VIEWS

WINDOW_PERCENTILES = (1.0, 99.5)  # of the values that are not background
BACKGROUND = 0.1  # of the mean: lower values are background
ZERO_IS_BLACK = 0.5  # a window that begins between 0 and this share of its upper limit begins at 0 instead
Volume = tuple[np.ndarray, np.ndarray]  # array (X, Y, Z), affine voxel index -> RAS mm


def robust_window(values: np.ndarray) -> tuple[float, float]:
    """Return a window (low, high) from percentiles of the values above a tenth of their mean.

    Background would otherwise fill the lower percentile and bright specks the upper one.

    >>> import numpy as np
    >>> low, high = robust_window(np.r_[np.zeros(900), np.linspace(50, 100, 100)])
    >>> round(low), round(high)
    (50, 100)
    """
    finite = np.asarray(values, float)[np.isfinite(values)]
    inside = finite[finite > BACKGROUND * finite.mean()] if finite.size and finite.mean() > 0 else finite
    if inside.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(inside, WINDOW_PERCENTILES)
    if 0 <= low < ZERO_IS_BLACK * high:
        low = 0.0
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1.0)


def plane(volume: Volume, view: str, point_mm: Sequence[float]) -> tuple[np.ndarray, tuple[float, float]]:
    """Cut one plane through a world point out of a volume, as radiologists display it.

    An oblique volume is cut along its own planes, named after the nearest anatomical ones.

    Args:
        volume: array (X, Y, Z) in any orientation, affine voxel index -> RAS mm.
        view: "sagittal", "coronal" or "axial".
        point_mm: RAS mm; a point outside the volume gives its nearest plane.

    Returns:
        The image, (rows from the top, columns from the left), and its pixel size (height, width) in mm.

    >>> import numpy as np
    >>> image, pixel_mm = plane((np.zeros((20, 30, 10)), np.diag([1.0, 2.0, 4.0, 1.0])), "sagittal", (0, 0, 0))
    >>> image.shape, tuple(float(mm) for mm in pixel_mm)
    ((10, 30), (4.0, 2.0))
    """
    array, affine = canonical(*volume)
    fixed, across, up, _ = VIEWS[view]
    at = np.linalg.inv(affine) @ [*np.asarray(point_mm, float), 1]
    index = int(np.clip(np.rint(at[fixed]), 0, array.shape[fixed] - 1))
    image = np.take(array, index, axis=fixed)  # remaining axes keep their order: (across, up)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    return image[::-1, ::-1].T, (spacing[up], spacing[across])  # right or anterior at the left; superior on top


def canonical(array: np.ndarray, affine: np.ndarray) -> Volume:
    """Order and direct the axes nearest to right, anterior, superior; the same voxels."""
    image = nibabel.as_closest_canonical(nibabel.Nifti1Image(np.asarray(array, np.float32), np.asarray(affine, float)))
    return np.asanyarray(image.dataobj), image.affine
