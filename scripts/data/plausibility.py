"""Warnings for scans that are probably no images of tissue: masks, negative values alone, noise alone, blank slices."""

import logging
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.transforms import MapTransform

from .trained_range import add_warnings

FEWEST_VALUES = 16  # different ones; scans of the training set have 200 and more
SAMPLE = 1_000_000  # voxels that are looked at first, since few scans are masks
BLANK = 1e-5  # of the range of the scan: the range of a slice of one value, which resampling in the plane may round
MOST_NUMBERS = 10  # of slices that a line names
MOST_NOISE = 0.7  # share of the standard deviation; white noise has 1, scans of training and benchmark at most 0.11
ALONE = "If so, leave it out: give the paths of the scans alone"

logger = logging.getLogger(__name__)


class Plausibled(MapTransform):
    """Warn, in the log and in meta["warnings"], where a scan is probably no image of tissue; never refuse.

    Args:
        keys: scans (1, X, Y, N) in their own units, through-plane axis last, with meta["noise"] of `EstimateNoised`;
            slices are numbered as in the file, where meta["reorientation"] says that they were reversed.

    >>> import torch
    >>> from monai.data import MetaTensor
    >>> mask = MetaTensor((torch.arange(1000) % 2).reshape(1, 10, 10, 10).float(), meta={"noise": 0.0})
    >>> Plausibled("image")({"image": mask})["image"].meta["warnings"][0].split("?")[0]
    'only 2 different values: is this a mask or a map of labels, not a scan'
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The data, with a sentence in meta["warnings"] of every key for each doubt."""
        out = dict(data)
        for key in self.key_iterator(out):
            slices, step = out[key].as_tensor().numpy()[0], out[key].meta.get("reorientation")
            as_stored = slices[..., ::-1] if step is not None and step.flips[-1] else slices
            found = [*doubts(slices, float(out[key].meta["noise"])), *doubts_of_slices(as_stored)]
            add_warnings(out, key, found, logger)
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
        found.append(f"only {count} different values: is this a mask or a map of labels, not a scan? {ALONE}")
    if flat.max() <= 0:
        found.append("no value is above 0: is this a magnitude image, and is its intensity scale right?")
    deviation = float(flat.std())
    share = noise / deviation if deviation else 0.0
    if share > MOST_NOISE:
        found.append(
            f"hardly anything but noise ({min(share, 1):.0%} of the variation): is there an image in this scan?"
        )
    return found


def doubts_of_slices(slices: np.ndarray) -> list[str]:
    """Return a sentence about the slices of one value between slices with an image; [] where there are none.

    Those at either end of the stack are padding, which is usual.

    Args:
        slices: (X, Y, N), in the order of the file.

    >>> slices = np.random.default_rng(0).random((8, 8, 6))
    >>> slices[..., [0, 3]] = 0
    >>> doubts_of_slices(slices)[0].split(":")[0]
    'slice 4 of 6 (counted from 1) has one value only, between slices with an image'
    """
    ranges = np.ptp(slices, axis=(0, 1))
    filled = np.flatnonzero(ranges > BLANK * np.ptp(slices))
    if not filled.size:
        return []
    blank = sorted(set(range(filled[0], filled[-1])) - set(filled))
    if not blank:
        return []
    which, have = ("slices", "have") if len(blank) > 1 else ("slice", "has")
    return [
        f"{which} {_numbers(blank)} of {slices.shape[-1]} (counted from 1) {have} one value only, between slices with "
        f"an image: the result has no image there either; if that is a fault of the export, repeat it"
    ]


def _numbers(indices: Sequence[int]) -> str:
    """Numbers of slices, from 1; the first of them where they are many."""
    named = [str(index + 1) for index in indices[:MOST_NUMBERS]]
    more = [f"{len(indices) - MOST_NUMBERS} more"] if len(indices) > MOST_NUMBERS else []
    *first, last = [*named, *more]
    return f"{', '.join(first)} and {last}" if first else last
