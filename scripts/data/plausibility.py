"""Warnings for scans that are probably no images of tissue: masks, negative values alone, nothing but noise."""

import logging
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.transforms import MapTransform

from .case import scan_name
from .trained_range import WARNINGS

FEWEST_VALUES = 16  # different ones; scans of the training set have 200 and more
SAMPLE = 1_000_000  # voxels that are looked at first, since few scans are masks
MOST_NOISE = 0.7  # share of the standard deviation; white noise has 1, scans of training and benchmark at most 0.11

logger = logging.getLogger(__name__)


class Plausibled(MapTransform):
    """Warn, in the log and in meta["warnings"], where a scan is probably no image of tissue; never refuse.

    Args:
        keys: scans (1, X, Y, N) in their own units, through-plane axis last, with meta["noise"] of `EstimateNoised`.

    >>> import torch
    >>> from monai.data import MetaTensor
    >>> mask = MetaTensor((torch.arange(1000) % 2).reshape(1, 10, 10, 10).float(), meta={"noise": 0.0})
    >>> Plausibled("image")({"image": mask})["image"].meta["warnings"]
    ['only 2 different values: is this a mask or a map of labels, not a scan?']
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The data, with a sentence in meta["warnings"] of every key for each doubt."""
        out = dict(data)
        for key in self.key_iterator(out):
            found = doubts(out[key].as_tensor().numpy(), float(out[key].meta["noise"]))
            out[key].meta[WARNINGS] = [*out[key].meta.get(WARNINGS, []), *found]
            for doubt in found:
                logger.warning("%s: %s", scan_name(out, key), doubt)
        return out


def doubts(values: np.ndarray, noise: float) -> list[str]:
    """Return in sentences why values are probably not those of a scan; [] for a scan.

    Args:
        values: of the slices, any shape.
        noise: standard deviation of their noise, as `estimate_noise` finds it.
    """
    found = []
    flat = values.reshape(-1)
    step = max(1, flat.size // SAMPLE)
    if len(np.unique(flat[::step])) < FEWEST_VALUES and (count := len(np.unique(flat))) < FEWEST_VALUES:
        found.append(f"only {count} different values: is this a mask or a map of labels, not a scan?")
    if flat.max() <= 0:
        found.append("no value is above 0: is this a magnitude image, and is its intensity scale right?")
    deviation = float(flat.std())
    share = noise / deviation if deviation else 0.0
    if share > MOST_NOISE:
        found.append(
            f"hardly anything but noise ({min(share, 1):.0%} of the variation): is there an image in this scan?"
        )
    return found
