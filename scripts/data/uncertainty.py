"""The transform that adds the calibrated uncertainty of a result."""

import json
import logging
import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from ..geometry.errors import Refusal
from ..physics.acquisition import Acquisition
from ..physics.uncertainty import (
    ADDED_DETAIL,
    CORRECTION,
    DISAGREEMENT,
    GRADIENT,
    NOISE,
    UncertaintyModel,
    widening,
)
from .trained_range import quantities
from .transforms import PREDICTIONS, geometry_of, grid_of, noise_of, smoothed, with_grid

MEASURED = ("factor", "noise")  # quantities of the trained range that the model itself depends on
NEIGHBOURHOOD_VOXELS = 1.0  # sigma of the Gaussian over which the features are averaged

logger = logging.getLogger(__name__)


class Uncertaintyd(MapTransform):
    """Add the half-width that holds the absolute error of the result in 90 % of voxels, on the intensity scale.

    It is a product of powers of the features of `features_of`, times a factor that was calibrated for each profile and
    anisotropy factor on people held back from training, and wider outside the trained range. docs/uncertainty.md says
    how it was fitted, and how often it holds the error.

    Args:
        keys: where the half-width goes, (1, X, Y, Z).
        model: the fitted model.
        ranges: trained range, quantity -> [lowest, highest], as for `TrainedRanged`.
        pred_key: the result, on the intensity scale.
        slices_key: b, (1, X, Y, N), likewise.
    """

    def __init__(
        self,
        keys: KeysCollection,
        model: UncertaintyModel,
        ranges: Mapping[str, Sequence[float]] | None = None,
        pred_key: str = "pred",
        slices_key: str = "slices",
    ):
        super().__init__(keys)
        self.model, self.ranges = model, dict(ranges or {})
        self.pred_key, self.slices_key = pred_key, slices_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The data with the half-width added."""
        out = dict(data)
        result, slices = out[self.pred_key], out[self.slices_key]
        scale = self.model.scale_for(_count(out))
        geometry = geometry_of(result)
        width = scale.quantile(geometry.profile, geometry.slice_spacing_voxels)
        found = {name: value for name, value in quantities(slices).items() if name not in MEASURED}
        width *= widening(found, self.ranges)
        half_width = scale.product(features_of(out, self.pred_key)) * width
        values = half_width.to(torch.float32).expand(result.shape).contiguous()
        out[self.keys[0]] = with_grid(values, grid_of(result), result.meta)
        return out


def read_model(
    path: str | os.PathLike[str], weights_sha256: Sequence[str] | None = None, sharpness: float | None = None
) -> UncertaintyModel:
    """Read models/uncertainty.json or another file that `benchmarks.uncertainty` has written.

    Args:
        path: of the file.
        weights_sha256: of the weights that are used; others than the model was fitted for are worth a line in the log.
        sharpness: that is used, likewise.

    Raises:
        Refusal: if the file is missing or holds no such model.
    """
    try:
        model = UncertaintyModel.of(json.loads(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise Refusal(f"{path}: {error.strerror or 'cannot be read'}: give --uncertainty_path") from None
    except ValueError as error:
        raise Refusal(
            f"{path}: no model of the uncertainty ({error}): make one by python -m benchmarks.uncertainty fit"
        ) from error
    if weights_sha256 is not None and set(weights_sha256) - set(model.weights_sha256):
        logger.warning(
            "the uncertainty was calibrated for other weights: it is an estimate only, until "
            "`python -m benchmarks.uncertainty fit` has calibrated it for these"
        )
    if None not in (sharpness, model.sharpness) and sharpness != model.sharpness:
        logger.info(
            "the uncertainty was calibrated for sharpness %s, not %s: its half-widths hold the error in somewhat "
            "more or fewer than 90 %% of voxels (docs/uncertainty.md, Sharpness)",
            model.sharpness,
            sharpness,
        )
    return model


def features_of(data: Mapping[Hashable, Any], pred_key: str = "pred") -> dict[str, torch.Tensor | float]:
    """Return the features of a result before its intensities are restored, (1, X, Y, Z), intensity scale.

    Root mean squares over a Gaussian neighbourhood of 1 voxel of: the disagreement of the predictions (distance from
    their mean, corrected for their number), the added detail, the correction by the data-consistency projection, the
    gradient of the result along the slices' normal (per voxel). And the noise that thin voxels would have, a number.

    Args:
        data: of the postprocessing: `pred_key`, "added_detail", "correction" and "disagreement".
        pred_key: the result.
    """
    result = data[pred_key]
    volume = result.as_tensor()
    count = _count(data)
    unbiased = (count / (count - 1)) ** 0.5 if count > 1 else 1.0
    passed = Acquisition(geometry_of(result)).matrix
    return {
        DISAGREEMENT: local_rms(data["disagreement"].as_tensor() * unbiased),
        ADDED_DETAIL: local_rms(data["added_detail"].as_tensor()),
        CORRECTION: local_rms(data["correction"].as_tensor()),
        GRADIENT: local_rms(torch.gradient(volume, dim=-1)[0]),
        NOISE: noise_of(result) / float((passed**2).sum(axis=1).mean()) ** 0.5 if "noise" in result.meta else 0.0,
    }


def _count(data: Mapping[Hashable, Any]) -> int:
    return int(data["disagreement"].meta[PREDICTIONS])


def local_rms(volume: torch.Tensor) -> torch.Tensor:
    """Return the root mean square of a volume (1, X, Y, Z) over a Gaussian neighbourhood of 1 voxel."""
    return smoothed(volume.square(), NEIGHBOURHOOD_VOXELS).clamp(min=0).sqrt()
