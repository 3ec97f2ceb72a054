"""Half-width that holds the error of a result in 90 % of voxels, from what is known of it without the truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from .profile import PROFILES

DISAGREEMENT, ADDED_DETAIL, CORRECTION, GRADIENT, NOISE, COMBINED = (
    "disagreement",
    "added_detail",
    "correction",
    "gradient",
    "noise",
    "combined",
)
FEATURES = (DISAGREEMENT, ADDED_DETAIL, CORRECTION, GRADIENT, NOISE, COMBINED)
COVERAGE = 0.9  # share of the voxels whose absolute error the half-width holds
LEAST = 1e-3  # of the intensity scale, added in quadrature to each feature, which may be 0
FARTHEST = 2.0  # largest factor by which values outside the trained range widen the half-width


@dataclass(frozen=True)
class Scale:
    """Half-widths of results of so many predictions, or of so many stacks: a product of powers of the features.

    half-width = q(profile, factor) * product over k of feature_k ^ exponent_k

    Attributes:
        predictions: number of predictions in the mean; of a fused volume the number of stacks.
        exponents: of the features, 0 or more; a feature that is left out has 0.
        quantiles: profile -> ((factor, q), ...) with ascending factors: the quantile `COVERAGE` of the absolute error
            over the product of powers, as measured with this profile and factor.

    >>> scale = Scale(1, {"noise": 1.0}, {"rect": ((2.0, 1.5), (8.0, 6.0))})
    >>> round(scale.quantile("rect", 4.0), 3)  # halfway in the logarithm of the factor
    3.0
    >>> round(scale.quantile("rect", 16.0), 3), round(scale.quantile("rect", 1.0), 3)  # beyond: it goes on growing
    (12.0, 1.5)
    """

    predictions: int
    exponents: Mapping[str, float]
    quantiles: Mapping[str, Sequence[tuple[float, float]]]

    def quantile(self, profile: str, factor: float) -> float:
        """Return q, linear between the measured factors in the logarithms of both.

        Below the smallest measured factor it stays as there. Above the largest it goes on as between the largest two,
        but never falls. A profile that was not measured has the largest q of those that were.

        Args:
            profile: assumed slice profile.
            factor: anisotropy factor.
        """
        if profile not in self.quantiles:
            return max(self.quantile(measured, factor) for measured in self.quantiles)
        knots, values = np.log(np.array(self.quantiles[profile], dtype=np.float64)).T
        x = float(np.log(factor))
        if x <= knots[-1] or len(knots) == 1:
            return float(np.exp(np.interp(x, knots, values)))
        slope = max(0.0, (values[-1] - values[-2]) / (knots[-1] - knots[-2]))
        return float(np.exp(values[-1] + slope * (x - knots[-1])))

    def product(self, features: Mapping[str, torch.Tensor | float]) -> torch.Tensor:
        """Return the product of powers of the features, on the intensity scale.

        Args:
            features: name -> (X, Y, Z), or a number where it is the same everywhere; root mean squares over a
                neighbourhood, intensity scale.
        """
        total: Any = 0.0
        for name, exponent in self.exponents.items():
            square = features[name] * features[name] + LEAST**2
            total = total + (exponent / 2) * (torch.log(square) if isinstance(square, torch.Tensor) else np.log(square))
        return torch.exp(torch.as_tensor(total))


@dataclass(frozen=True)
class UncertaintyModel:
    """What models/uncertainty.json holds: the scales, and what they were fitted for and on.

    Attributes:
        scales: one for each number of predictions that was fitted, ascending.
        weights_sha256: of the faithful and of the sharp weights that made the results.
        sharpness: of these results.
        fitted_on: names of the scans, with what is to be known of them.
    """

    scales: Sequence[Scale]
    weights_sha256: Sequence[str] = ()
    sharpness: float | None = None
    fitted_on: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "UncertaintyModel":
        """Return the model of the content of its JSON file.

        Raises:
            ValueError: if it is no such content.
        """
        try:
            scales = [_scale(entry) for entry in content["scales"]]
            fitted_on = {str(name): str(note) for name, note in content["fitted_on"].items()}
            weights, sharpness = tuple(map(str, content["weights_sha256"])), content["sharpness"]
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error
        if not scales:
            raise ValueError("no scales")
        return cls(scales, weights, sharpness, fitted_on)

    def as_json(self) -> dict[str, Any]:
        """Return the content of the JSON file."""
        return {
            "about": "half-width = q(profile, factor) * product of feature ^ exponent: docs/uncertainty.md",
            "coverage": COVERAGE,
            "weights_sha256": list(self.weights_sha256),
            "sharpness": self.sharpness,
            "fitted_on": dict(self.fitted_on),
            "scales": [
                {
                    "predictions": scale.predictions,
                    "exponents": {name: round(value, 3) for name, value in scale.exponents.items()},
                    "quantiles": {
                        profile: {f"{factor:g}": round(q, 3) for factor, q in knots}
                        for profile, knots in scale.quantiles.items()
                    },
                }
                for scale in self.scales
            ],
        }

    def scale_for(self, predictions: int) -> Scale:
        """Return the scale for a number of predictions: that of the largest fitted number that is not above it."""
        fitting = [scale for scale in self.scales if scale.predictions <= predictions]
        return max(fitting or self.scales[:1], key=lambda scale: scale.predictions)


def widening(values: Mapping[str, float], ranges: Mapping[str, Sequence[float]]) -> float:
    """Return the factor on the half-width for values outside the trained range: their ratios to the nearest bound.

    It is a precaution and not measured. It is at most `FARTHEST`. The anisotropy factor is not among the values: what
    lies beyond the trained factors was measured, see `Scale.quantile`; nor is the noise, which is a feature.

    Args:
        values: quantity -> value of the scan, positive.
        ranges: quantity -> (lowest, highest), trained on.

    >>> widening({"pixel_mm": 4.0, "brightness": 0.5}, {"pixel_mm": (0.2, 3.2), "brightness": (0.2, 0.7)})
    1.25
    """
    total = 1.0
    for name, value in values.items():
        low, high = ranges.get(name, (value, value))
        total *= max(1.0, low / value if value > 0 else FARTHEST, value / high if high > 0 else FARTHEST)
    return min(total, FARTHEST)


def _scale(entry: Mapping[str, Any]) -> Scale:
    exponents = {str(name): float(value) for name, value in entry["exponents"].items()}
    quantiles = {
        str(profile): tuple(sorted((float(factor), float(q)) for factor, q in knots.items()))
        for profile, knots in entry["quantiles"].items()
    }
    unknown = (set(exponents) - set(FEATURES)) | (set(quantiles) - set(PROFILES))
    positive = all(factor > 1 and q > 0 for knots in quantiles.values() for factor, q in knots)
    if unknown or not quantiles or not all(quantiles.values()) or not positive or min(exponents.values()) < 0:
        raise ValueError(f"unknown names {sorted(unknown)} or values out of range")
    return Scale(int(entry["predictions"]), exponents, quantiles)
