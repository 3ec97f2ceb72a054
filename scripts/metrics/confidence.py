"""Agreement of a confidence map with the true error; needs the truth."""

import numpy as np
from scipy.stats import rankdata

from ..geometry.errors import Refusal
from .arrays import Array, as_image, as_mask, as_pair

DECILES = 10


def rank_correlation(confidence: Array, result: Array, truth: Array, mask: Array | None = None) -> float:
    """Return Spearman's rank correlation of confidence with the absolute error inside the mask; -1 to 1.

    -1 is best: the higher the confidence, the smaller the error. 0 is uninformative, above 0 misleading. Ties get their
    mean rank.

    Args:
        confidence: (X, Y, Z), any monotone scale.
        result: (X, Y, Z).
        truth: (X, Y, Z), in the result's units.
        mask: (X, Y, Z) or None for everywhere.

    Raises:
        Refusal: on bad arrays, or confidence or error constant inside the mask.

    >>> truth, result = np.zeros((2, 2, 2)), np.arange(8.0).reshape(2, 2, 2)
    >>> round(rank_correlation(confidence=-result, result=result, truth=truth), 6)
    -1.0
    """
    confidence, error = _inside(confidence, result, truth, mask)
    for name, values in (("confidence", confidence), ("the absolute error", error)):
        if not np.ptp(values) > 0:
            raise Refusal(f"{name} is constant inside the mask: it has no rank correlation")
    return float(np.corrcoef(rankdata(confidence), rankdata(error))[0, 1])


def error_per_decile(confidence: Array, result: Array, truth: Array, mask: Array | None = None) -> np.ndarray:
    """Return the mean absolute error in each tenth of the voxels, from the least to the most confident.

    Args:
        confidence: (X, Y, Z), any monotone scale.
        result: (X, Y, Z).
        truth: (X, Y, Z), in the result's units.
        mask: (X, Y, Z) or None for everywhere.

    Returns:
        Shape (10,), in the truth's units. Tied voxels stay in one tenth; empty tenths are NaN.

    Raises:
        Refusal: on bad arrays or fewer than 10 voxels.

    >>> error = np.arange(100.0).reshape(10, 10)
    >>> error_per_decile(confidence=-error, result=error, truth=np.zeros_like(error))[[0, -1]]  # of two tenths
    array([94.5,  4.5])
    """
    confidence, error = _inside(confidence, result, truth, mask)
    if confidence.size < DECILES:
        raise Refusal(f"{confidence.size} voxels inside the mask: deciles need {DECILES}")
    tenth = ((rankdata(confidence) - 0.5) * DECILES / confidence.size).astype(int)
    counts = np.bincount(tenth, minlength=DECILES)
    sums = np.bincount(tenth, weights=error, minlength=DECILES)
    return np.divide(sums, counts, out=np.full(DECILES, np.nan), where=counts > 0)


def _inside(confidence: Array, result: Array, truth: Array, mask: Array | None) -> tuple[np.ndarray, np.ndarray]:
    result, truth = as_pair(result, truth)
    confidence = as_image(confidence, "confidence")
    if confidence.shape != truth.shape:
        raise Refusal(f"confidence has shape {confidence.shape}, the result {truth.shape}: they must share a grid")
    inside = as_mask(mask, truth.shape)
    return confidence[inside], np.abs(result - truth)[inside]
