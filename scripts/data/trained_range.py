"""Warnings for scans outside the range of acquisitions that the network was trained on."""

import logging
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from ..geometry.errors import Refusal
from ..physics.noise import BODY
from .case import scan_name
from .transforms import grid_of, noise_of, protocol_of

logger = logging.getLogger(__name__)

WARNINGS = "warnings"  # meta key; the run record copies it into the row of the case
SLACK = 1e-3  # relative: a factor of 7.0005 is not outside of 7
NAMES = {
    "factor": "anisotropy factor",
    "thickness_over_spacing": "slice thickness over slice spacing",
    "pixel_mm": "in-plane pixel size in mm",
    "brightness": "mean intensity of the body (share of the intensity scale)",
    "noise": "noise (share of the intensity scale)",
}


class TrainedRanged(MapTransform):
    """Compare a scan with the trained ranges; warn in the log and in meta["warnings"], never refuse.

    Args:
        keys: scans (1, X, Y, N), through-plane axis last, square pixels, on the intensity scale.
        ranges: {quantity: [lowest, highest]}, of the names that `quantities` gives.

    Raises:
        Refusal: if a range is not [lowest, highest] or its quantity is unknown.

    >>> import torch
    >>> from monai.data import MetaTensor
    >>> from scripts.data.acceptance import AcceptScand
    >>> scan = MetaTensor(torch.rand(1, 20, 20, 5), affine=torch.diag(torch.tensor([1.0, 1, 6, 1])))
    >>> checked = TrainedRanged("image", {"factor": [2, 5]})(AcceptScand("image")({"image": scan}))
    >>> checked["image"].meta["warnings"]
    ['anisotropy factor 6 is outside the trained range 2 to 5: check the added detail carefully']
    """

    def __init__(self, keys: KeysCollection, ranges: Mapping[str, Sequence[float]]):
        super().__init__(keys)
        for name, bounds in ranges.items():
            if name not in NAMES:
                raise Refusal(f"trained_range: no quantity {name!r}; there are {', '.join(NAMES)}")
            if len(bounds) != 2 or not bounds[0] <= bounds[1]:
                raise Refusal(f"trained_range: {name} must be [lowest, highest], got {list(bounds)}")
        self.ranges = {name: (float(low), float(high)) for name, (low, high) in ranges.items()}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The data, with meta["warnings"] in every key: one sentence for each quantity outside its range."""
        out = dict(data)
        for key in self.key_iterator(out):
            found = quantities(out[key])
            warnings = [
                f"{NAMES[name]} {found[name]:.3g} is outside the trained range {low:g} to {high:g}: "
                f"check the added detail carefully"
                for name, (low, high) in self.ranges.items()
                if not low * (1 - SLACK) <= found[name] <= high * (1 + SLACK)
            ]
            add_warnings(out, key, warnings, logger)
        return out


def add_warnings(data: Mapping[Hashable, Any], key: Hashable, warnings: Sequence[str], logger: logging.Logger) -> None:
    """Add sentences to meta["warnings"] of a scan in a data item, after earlier ones, and write them to a log."""
    meta = data[key].meta
    meta[WARNINGS] = [*meta.get(WARNINGS, []), *warnings]
    for warning in warnings:
        logger.warning("%s: %s", scan_name(data, key), warning)


def quantities(scan: Any) -> dict[str, float]:
    """Measure what is compared: of a scan (1, X, Y, N), through-plane axis last, square pixels.

    Brightness and noise are of the acquired slices; noise is there where `EstimateNoised` found it.
    """
    protocol, pixel_mm = protocol_of(scan), float(grid_of(scan).spacing_mm[0])
    slices = scan.as_tensor()[0]
    body = slices > BODY
    return {
        "factor": protocol.slice_spacing_mm / pixel_mm,
        "thickness_over_spacing": protocol.slice_thickness_mm / protocol.slice_spacing_mm,
        "pixel_mm": pixel_mm,
        "brightness": float(slices[body].mean()) if body.any() else 0.0,
        **({"noise": noise_of(scan)} if "noise" in scan.meta else {}),
    }
