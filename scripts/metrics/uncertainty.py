"""Agreement of an uncertainty with the true error; needs the truth."""

import numpy as np
from scipy.stats import rankdata

from ..geometry.errors import Refusal
from .arrays import Array, as_image, as_mask, as_pair

DECILES = 10


def coverage(half_width: Array, result: Array, truth: Array, mask: Array | None = None) -> float:
    """Return the share of the voxels inside the mask whose absolute error is at most the half-width; 0 to 1.

    Args:
        half_width: (X, Y, Z), in the truth's units.
        result: (X, Y, Z), likewise.
        truth: (X, Y, Z).
        mask: (X, Y, Z) or None for everywhere.

    Raises:
        Refusal: on bad arrays.

    >>> truth, result = np.zeros((2, 2, 2)), np.arange(8.0).reshape(2, 2, 2)
    >>> coverage(half_width=np.full((2, 2, 2), 5.0), result=result, truth=truth)  # 0 to 5 of 0 to 7
    0.75
    """
    half_width, error = _inside(half_width, result, truth, mask)
    return float((error <= half_width).mean())


def rank_correlation(uncertainty: Array, result: Array, truth: Array, mask: Array | None = None) -> float:
    """Return Spearman's rank correlation of the uncertainty with the absolute error inside the mask; -1 to 1.

    1 is best: the higher the uncertainty, the larger the error. 0 is uninformative, below 0 misleading. Ties get their
    mean rank.

    Args:
        uncertainty: (X, Y, Z), any monotone scale.
        result: (X, Y, Z).
        truth: (X, Y, Z), in the result's units.
        mask: (X, Y, Z) or None for everywhere.

    Raises:
        Refusal: on bad arrays, or uncertainty or error constant inside the mask.

    >>> truth, result = np.zeros((2, 2, 2)), np.arange(8.0).reshape(2, 2, 2)
    >>> round(rank_correlation(uncertainty=result, result=result, truth=truth), 6)
    1.0
    """
    uncertainty, error = _inside(uncertainty, result, truth, mask)
    for name, values in (("uncertainty", uncertainty), ("the absolute error", error)):
        if not np.ptp(values) > 0:
            raise Refusal(f"{name} is constant inside the mask: it has no rank correlation")
    return float(np.corrcoef(rankdata(uncertainty), rankdata(error))[0, 1])


def error_per_decile(uncertainty: Array, result: Array, truth: Array, mask: Array | None = None) -> np.ndarray:
    """Return the mean absolute error in each tenth of the voxels, from the least to the most uncertain.

    Args:
        uncertainty: (X, Y, Z), any monotone scale.
        result: (X, Y, Z).
        truth: (X, Y, Z), in the result's units.
        mask: (X, Y, Z) or None for everywhere.

    Returns:
        Shape (10,), in the truth's units. Tied voxels stay in one tenth; empty tenths are NaN.

    Raises:
        Refusal: on bad arrays or fewer than 10 voxels.

    >>> error = np.arange(100.0).reshape(10, 10)
    >>> error_per_decile(uncertainty=error, result=error, truth=np.zeros_like(error))[[0, -1]]  # of two tenths
    array([ 4.5, 94.5])
    """
    uncertainty, error = _inside(uncertainty, result, truth, mask)
    if uncertainty.size < DECILES:
        raise Refusal(f"{uncertainty.size} voxels inside the mask: deciles need {DECILES}")
    tenth = ((rankdata(uncertainty) - 0.5) * DECILES / uncertainty.size).astype(int)
    counts = np.bincount(tenth, minlength=DECILES)
    sums = np.bincount(tenth, weights=error, minlength=DECILES)
    return np.divide(sums, counts, out=np.full(DECILES, np.nan), where=counts > 0)


def _inside(uncertainty: Array, result: Array, truth: Array, mask: Array | None) -> tuple[np.ndarray, np.ndarray]:
    result, truth = as_pair(result, truth)
    uncertainty = as_image(uncertainty, "uncertainty")
    if uncertainty.shape != truth.shape:
        raise Refusal(f"uncertainty has shape {uncertainty.shape}, the result {truth.shape}: they must share a grid")
    inside = as_mask(mask, truth.shape)
    return uncertainty[inside], np.abs(result - truth)[inside]
