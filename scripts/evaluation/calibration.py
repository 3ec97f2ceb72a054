"""Fit and conformal calibration of the uncertainty on results whose truth is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize

from ..geometry.errors import Refusal
from ..physics.uncertainty import COVERAGE, DISAGREEMENT, FEATURES, LEAST, Scale

LARGEST_EXPONENT = 3.0
SMALLEST_EXPONENT = 5e-4  # smaller ones are left out: rounded to three digits they are 0


@dataclass(frozen=True)
class ErrorSample:
    """Voxels of one simulated scan: the absolute error, and the features from which it is to be estimated.

    Attributes:
        person: whose scan it is; all people have the same weight.
        factor: anisotropy factor.
        profile: slice profile that the inference assumed.
        calibrates: whether the quantiles are taken from it; False where noise was added, which is a feature: q would
            otherwise depend on which profiles and factors are simulated with noise. The exponents are fitted on all.
        features: name -> (n,), intensity scale; the noise may be a number.
        error: absolute error, (n,), intensity scale.
    """

    person: str
    factor: float
    profile: str
    calibrates: bool
    features: Mapping[str, np.ndarray | float]
    error: np.ndarray


def fit_scale(samples: Sequence[ErrorSample], predictions: int) -> Scale:
    """Return the scale whose half-widths hold the error of a share `COVERAGE` of the voxels, in the mean over people.

    The exponents, 0 or more, maximise the likelihood of the errors as Laplace-distributed, with a free width for each
    sample: they describe where in a scan the errors are, and the quantiles how large they are (split conformal
    prediction with normalised scores: Lei et al. 2018, J Am Stat Assoc 113:1094, section 5.2).

    Args:
        samples: of all scans, profiles and factors, all with the same features.
        predictions: of which the results are the mean, or stacks; with 1 there is no disagreement.

    Raises:
        Refusal: if no sample calibrates.
    """
    if not any(sample.calibrates for sample in samples):
        raise Refusal("no scan without added noise: the uncertainty cannot be calibrated")
    known = [name for name in FEATURES if name in samples[0].features]
    names = [name for name in known if not (predictions == 1 and name == DISAGREEMENT)]
    exponents = _exponents(samples, names)
    bare = Scale(predictions, exponents, {})  # whose half-widths are the products alone
    groups: dict[tuple[str, float], list[ErrorSample]] = {}
    for sample in samples:
        if sample.calibrates:
            groups.setdefault((sample.profile, sample.factor), []).append(sample)
    quantiles: dict[str, list[tuple[float, float]]] = {}
    for (profile, factor), group in sorted(groups.items()):
        q = shared_quantile([sample.error / half_widths(bare, sample) for sample in group], _weights(group))
        quantiles.setdefault(profile, []).append((factor, q))
    return Scale(predictions, exponents, {profile: tuple(knots) for profile, knots in quantiles.items()})


def shared_quantile(scores: Sequence[np.ndarray], weights: Sequence[float]) -> float:
    """Return the value that a share `COVERAGE` of the scores does not exceed, each array having its weight.

    Args:
        scores: arrays of any size.
        weights: of the arrays, whatever their size.

    >>> shared_quantile([np.arange(1, 11), np.full(1000, 9.0)], [1, 1])
    9.0
    """
    values = np.concatenate(list(scores))
    each = np.concatenate([np.full(len(s), weight / len(s)) for s, weight in zip(scores, weights, strict=True)])
    order = np.argsort(values)
    share = np.cumsum(each[order]) / each.sum()
    return float(values[order][min(np.searchsorted(share, COVERAGE), len(values) - 1)])


def half_widths(scale: Scale, sample: ErrorSample) -> np.ndarray:
    """Return the half-widths of the voxels of a sample, (n,), intensity scale."""
    features = {name: torch.from_numpy(np.asarray(value, dtype=np.float64)) for name, value in sample.features.items()}
    product = np.broadcast_to(scale.product(features).numpy(), sample.error.shape)
    return product * (scale.quantile(sample.profile, sample.factor) if scale.quantiles else 1.0)


def _weights(group: Sequence[ErrorSample]) -> list[float]:
    people = [sample.person for sample in group]
    return [1 / people.count(person) for person in people]


def _exponents(samples: Sequence[ErrorSample], names: Sequence[str]) -> dict[str, float]:
    """The exponents of the features. That of the noise, constant in a sample, is fitted between samples of a group."""
    logs = [
        np.stack([0.5 * np.log(np.broadcast_to(np.square(s.features[n]), s.error.shape) + LEAST**2) for n in names])
        for s in samples
    ]
    weights = np.array(_weights(samples)) / len({sample.person for sample in samples})
    groups = [(sample.profile, sample.factor) for sample in samples]

    def loss(exponents: np.ndarray) -> tuple[float, np.ndarray]:
        total, gradient = 0.0, np.zeros(len(names))
        ratios = [s.error / np.exp(exponents @ log) for s, log in zip(samples, logs, strict=True)]
        for group in set(groups):
            members = [i for i, other in enumerate(groups) if other == group]
            share = sum(weights[i] for i in members)
            means = {i: ratios[i].mean() for i in members}
            width = sum(weights[i] * means[i] for i in members) / share  # the likeliest one for these exponents
            total += share * np.log(width) + sum(weights[i] * float((exponents @ logs[i]).mean()) for i in members)
            for i in members:
                of_ratio = -(ratios[i] * logs[i]).mean(axis=1)
                gradient += weights[i] * (of_ratio / width + logs[i].mean(axis=1))
        return total, gradient

    start = np.full(len(names), 1 / len(names))
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0.0, LARGEST_EXPONENT)] * len(names))
    return {name: float(value) for name, value in zip(names, found.x, strict=True) if value >= SMALLEST_EXPONENT}
