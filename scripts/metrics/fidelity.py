"""Fidelity: the error of a result against the truth, voxel by voxel, inside the body mask."""

import numpy as np
from scipy import ndimage
from skimage.metrics import normalized_root_mse, peak_signal_noise_ratio, structural_similarity

from ..geometry.errors import Refusal
from .arrays import Array, as_image, as_mask, as_pair, bounding_box, checked_axis

ROBUST_RANGE_PERCENTILE = 99.9
SSIM_SIGMA_VOXELS = 1.5  # Wang et al. 2004
SSIM_RADIUS_VOXELS = 5  # where the Gaussian is cut off: an 11-voxel window
HFEN_SIGMA_VOXELS = 1.5  # Ravishankar and Bresler 2011
HFEN_RADIUS_VOXELS = 6  # scipy cuts the filter off at four sigma


def value_span(truth: Array, mask: Array | None = None) -> float:
    """Return maximum minus minimum of the truth inside the mask, the default data range of PSNR and SSIM.

    Args:
        truth: (X, Y, Z).
        mask: (X, Y, Z) or None for everywhere.

    Raises:
        Refusal: on bad arrays or a truth that is constant inside the mask.
    """
    truth = as_image(truth, "truth")
    span = float(np.ptp(truth[as_mask(mask, truth.shape)]))
    if not span > 0:
        raise Refusal("truth is constant inside the mask: PSNR and SSIM have no data range; give data_range")
    return span


def robust_range(truth: Array) -> float:
    """Return the 99.9th percentile of the whole truth, a data range that does not depend on a few bright voxels.

    Args:
        truth: (X, Y, Z).

    Raises:
        Refusal: if the percentile is not above zero.
    """
    high = float(np.percentile(as_image(truth, "truth"), ROBUST_RANGE_PERCENTILE))
    if not high > 0:
        raise Refusal(f"the {ROBUST_RANGE_PERCENTILE}th percentile of truth is {high:g}: give data_range yourself")
    return high


def psnr(result: Array, truth: Array, mask: Array | None = None, data_range: float | None = None) -> float:
    """Return the peak signal-to-noise ratio, 10 log10(range^2 / mean squared error), in dB; infinite on identity.

    Args:
        result: (X, Y, Z) or (H, W), in the truth's units.
        truth: same shape.
        mask: same shape, or None for everywhere.
        data_range: in the same units; None: `value_span`.

    Raises:
        Refusal: on bad arrays or a range that is not positive.

    >>> truth = np.array([[0.0, 0.0], [0.0, 10.0]])
    >>> psnr(truth + 1, truth)  # range 10, error 1 everywhere
    20.0
    """
    result, truth = as_pair(result, truth)
    inside = as_mask(mask, truth.shape)
    span = _range(truth, inside, data_range)
    if np.array_equal(result[inside], truth[inside]):
        return float("inf")
    return float(peak_signal_noise_ratio(truth[inside], result[inside], data_range=span))


def ssim(
    result: Array,
    truth: Array,
    mask: Array | None = None,
    data_range: float | None = None,
    axis: int | None = None,
) -> float:
    """Return the mean structural similarity (Wang et al. 2004) inside the mask; -1 to 1, 1 on identity.

    scikit-image's, with a Gaussian window of sigma 1.5 voxels in 11 voxels, K1 0.01, K2 0.03, population covariance.

    Args:
        result: (X, Y, Z) or (H, W), in the truth's units.
        truth: same shape.
        mask: same shape, or None for everywhere; the windows of voxels at its border reach beyond it.
        data_range: in the same units; None: `value_span`.
        axis: None: a 3-D window; otherwise a 2-D window in the planes perpendicular to this axis.

    Raises:
        Refusal: on bad arrays, a range that is not positive, or an image smaller than the window.

    >>> truth = np.random.default_rng(0).random((12, 12, 12))
    >>> round(ssim(truth, truth), 6), ssim(1 - truth, truth) < 0
    (1.0, True)
    """
    result, truth = as_pair(result, truth)
    inside = as_mask(mask, truth.shape)
    span = _range(truth, inside, data_range)
    box = bounding_box(inside, SSIM_RADIUS_VOXELS)  # all that the windows can reach
    smallest = 2 * SSIM_RADIUS_VOXELS + 1
    windowed = [size for a, size in enumerate(truth.shape) if axis is None or a != checked_axis(axis, truth)]
    if min(windowed) < smallest:
        raise Refusal(
            f"image of shape {truth.shape} is smaller than SSIM's window of {smallest} voxels: choose an axis"
        )
    if axis is None:
        box = tuple(_at_least(part, smallest, size) for part, size in zip(box, truth.shape, strict=True))
        return float(_ssim_map(result[box], truth[box], span)[inside[box]].mean())
    planes = (np.moveaxis(a, axis, 0) for a in (result, truth, inside))
    values = [_ssim_map(r, t, span)[m] for r, t, m in zip(*planes, strict=True) if m.any()]
    return float(np.concatenate(values).mean())


def nrmse(result: Array, truth: Array, mask: Array | None = None) -> float:
    """Return the root mean squared error over the root mean square of the truth in the mask; 0 on identity.

    Args:
        result: (X, Y, Z) or (H, W), in the truth's units.
        truth: same shape.
        mask: same shape, or None for everywhere.

    Raises:
        Refusal: on bad arrays or a truth that is zero inside the mask.

    >>> truth = np.array([[3.0, 4.0], [3.0, 4.0]])
    >>> round(nrmse(1.1 * truth, truth), 6)
    0.1
    """
    result, truth = as_pair(result, truth)
    inside = as_mask(mask, truth.shape)
    if not truth[inside].any():
        raise Refusal("truth is zero inside the mask: a relative error is undefined there")
    return float(normalized_root_mse(truth[inside], result[inside]))


def hfen(result: Array, truth: Array, mask: Array | None = None, axis: int | None = None) -> float:
    """Return the high-frequency error norm, ||LoG(result - truth)|| / ||LoG(truth)|| in the mask; 0 on identity.

    LoG is the Laplacian of a Gaussian of 1.5 voxels (Ravishankar and Bresler 2011, there in 2-D). A constant result
    scores 1.

    Args:
        result: (X, Y, Z) or (H, W), in the truth's units.
        truth: same shape.
        mask: same shape, or None for everywhere.
        axis: None: the Laplacian; otherwise the second derivative along this axis only.

    Raises:
        Refusal: on bad arrays or a truth without detail inside the mask.

    >>> truth = np.random.default_rng(0).random((12, 12, 12))
    >>> round(hfen(0.75 * truth, truth), 6)
    0.25
    """
    result, truth = as_pair(result, truth)
    inside = as_mask(mask, truth.shape)
    box = bounding_box(inside, HFEN_RADIUS_VOXELS + 1)
    # scipy's filter is cut off at four sigma and would not suppress the mean completely
    error, detail = (_log(a[box] - a[inside].mean(), axis)[inside[box]] for a in (result - truth, truth))
    norm = float(np.linalg.norm(detail))
    if not norm > np.finfo(np.float32).eps * max(float(np.abs(truth).max()), np.finfo(float).tiny):
        raise Refusal("truth has no detail inside the mask: its Laplacian of Gaussian is zero, HFEN is undefined")
    return float(np.linalg.norm(error)) / norm


def _range(truth: np.ndarray, inside: np.ndarray, data_range: float | None) -> float:
    if data_range is None:
        return value_span(truth, inside)
    if not (np.isfinite(data_range) and data_range > 0):
        raise Refusal(f"data_range must be positive, got {data_range}")
    return float(data_range)


def _at_least(part: slice, length: int, size: int) -> slice:
    start = max(min(part.start, size - length), 0)
    return slice(start, max(part.stop, start + length))


def _ssim_map(result: np.ndarray, truth: np.ndarray, span: float) -> np.ndarray:
    return structural_similarity(
        truth,
        result,
        data_range=span,
        gaussian_weights=True,
        sigma=SSIM_SIGMA_VOXELS,
        use_sample_covariance=False,
        full=True,
    )[1]


def _log(image: np.ndarray, axis: int | None) -> np.ndarray:
    if axis is None:
        return ndimage.gaussian_laplace(image, HFEN_SIGMA_VOXELS)
    order = [0] * image.ndim
    order[checked_axis(axis, image)] = 2
    return ndimage.gaussian_filter(image, HFEN_SIGMA_VOXELS, order=order)
