"""Agreement of readers on an ordinal scale: weighted kappa, ICC(2,1), repeated ratings of one reader."""

from collections.abc import Sequence

import numpy as np

from ..geometry.errors import Refusal

PAIR = 2


def quadratic_weights(levels: int) -> np.ndarray:
    """Return the quadratic weights of disagreement (i - j)^2, a matrix (levels, levels).

    >>> quadratic_weights(3).tolist()
    [[0.0, 1.0, 4.0], [1.0, 0.0, 1.0], [4.0, 1.0, 0.0]]
    """
    level = np.arange(levels, dtype=np.float64)
    return (level[:, None] - level[None, :]) ** 2


def kappa_of_table(table: np.ndarray, disagreement: np.ndarray) -> float:
    """Return the weighted kappa of a table of two raters: `1 - sum(w p) / sum(w e)` (Cohen 1968, equation 3).

    w are the weights of disagreement, p the observed shares, and e the shares expected if the two raters use the
    levels as often but independently of each other. 1 is full agreement, 0 agreement by chance.

    Args:
        table: (levels, levels) counts or shares; rows are the first rater's levels, columns the second's.
        disagreement: (levels, levels), 0 on the diagonal.

    Returns:
        Kappa; NaN where it is not defined: both raters always gave the same level, or the table is empty.

    >>> round(kappa_of_table([[20, 5], [10, 15]], 1 - np.eye(2)), 3)
    0.4
    """
    counts = np.asarray(table, dtype=np.float64)
    total = counts.sum()
    if total <= 0:
        return float("nan")
    shares = counts / total
    expected = np.outer(shares.sum(axis=1), shares.sum(axis=0))
    chance = float((disagreement * expected).sum())
    return 1 - float((disagreement * shares).sum()) / chance if chance > 0 else float("nan")


def weighted_kappa(first: Sequence[int], second: Sequence[int], levels: int) -> float:
    """Return the kappa with quadratic weights of two ratings of the same items (Cohen 1968; Fleiss and Cohen 1973).

    Args:
        first: (n,) ratings from 1 to levels.
        second: (n,) ratings of the same items in the same order.
        levels: number of levels of the scale.

    Returns:
        Kappa, at most 1; NaN where it is not defined (`kappa_of_table`).

    Raises:
        Refusal: if the two differ in length or a rating is off the scale.

    >>> round(weighted_kappa([1, 2, 3, 4, 5], [1, 2, 3, 5, 4], levels=5), 3)
    0.9
    """
    one, two = (np.asarray(r) for r in (first, second))
    if one.shape != two.shape or one.ndim != 1:
        raise Refusal(f"kappa needs two ratings of the same items, got {one.size} and {two.size} of them")
    for rating in (one, two):
        if rating.size and not (
            np.equal(rating, np.rint(rating)).all() and 1 <= rating.min() <= rating.max() <= levels
        ):
            raise Refusal(f"a rating is off the scale: give whole numbers from 1 to {levels}")
    table = np.zeros((levels, levels))
    np.add.at(table, (one.astype(int) - 1, two.astype(int) - 1), 1)
    return kappa_of_table(table, quadratic_weights(levels))


def icc_2_1(ratings: np.ndarray) -> float:
    """Return ICC(2,1): two-way random effects, absolute agreement, one rater (Shrout and Fleiss 1979, Table 1).

    `(B - E) / (B + (k - 1) E + k (J - E) / n)` with the mean squares between items B, between raters J, and of the
    residual E, for n items and k raters. A rater who is always stricter than the others lowers it.

    Args:
        ratings: (items, raters), complete.

    Returns:
        The coefficient; NaN for fewer than 2 items or raters, or if all ratings are equal.

    >>> round(icc_2_1([[1, 2], [3, 4], [5, 6]]), 3)
    0.889
    """
    values = np.asarray(ratings, dtype=np.float64)
    if values.ndim != PAIR or min(values.shape) < PAIR:
        return float("nan")
    n, k = values.shape
    mean, items, raters = values.mean(), values.mean(axis=1), values.mean(axis=0)
    between = k * ((items - mean) ** 2).sum() / (n - 1)
    raters_spread = n * ((raters - mean) ** 2).sum() / (k - 1)
    residual = ((values - items[:, None] - raters[None, :] + mean) ** 2).sum() / ((n - 1) * (k - 1))
    whole = between + (k - 1) * residual + k * (raters_spread - residual) / n
    return float((between - residual) / whole) if whole > 0 else float("nan")


def repeatability(first: Sequence[int], again: Sequence[int], levels: int) -> dict[str, float]:
    """Compare the two ratings of one reader for items that were shown twice.

    Args:
        first: (n,) ratings from 1 to levels at the first showing.
        again: (n,) ratings of the same items at the second showing.
        levels: number of levels of the scale.

    Returns:
        n, "same" and "within_one" (shares, 0 to 1), "kappa" (quadratic weights); NaN where not defined.

    >>> repeatability([1, 2, 3, 4], [1, 3, 3, 2], levels=5)["within_one"]
    0.75
    """
    one, two = np.asarray(first, dtype=np.float64), np.asarray(again, dtype=np.float64)
    kappa = weighted_kappa(first, again, levels)
    apart = np.abs(one - two)
    shares = (float((apart <= limit).mean()) if apart.size else float("nan") for limit in (0, 1))
    return {"n": int(apart.size), **dict(zip(("same", "within_one"), shares, strict=True)), "kappa": kappa}
