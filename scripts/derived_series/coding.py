"""Coding of the voxels of a derived series as 16-bit integers."""

from dataclasses import dataclass

import numpy as np

from ..dicom.elements import decimal_string

FULL_SCALE = 2**16 - 1
MINIMUM_LEVELS = 256
"""Smallest range of values, in units of the scan, that is stored in whole units; a smaller one is scaled to 16 bits."""


@dataclass(frozen=True)
class Coding:
    """Coding of values as 16-bit integers: value = stored * slope + intercept.

    Attributes:
        signed: PixelRepresentation.
        slope: RescaleSlope; None where values are stored as they are.
        intercept: RescaleIntercept.
        precision: largest rounding error, in the scan's units.
    """

    signed: bool
    slope: float | None
    intercept: float
    precision: float

    def encode(self, plane: np.ndarray) -> bytes:
        """Return the stored values of a plane (rows, columns), little endian; values out of range are clipped."""
        info = np.iinfo(np.int16 if self.signed else np.uint16)
        stored = np.rint((plane.astype(np.float64) - self.intercept) / (self.slope or 1.0))
        return np.clip(stored, info.min, info.max).astype("<i2" if self.signed else "<u2").tobytes()


def coding_of(low: float, high: float, source_is_identity: bool) -> Coding:
    """Choose the coding of values from `low` to `high` that loses no more precision than the source's.

    Values are stored in whole units where the source does so too, they fit into 16 bits and they span at least
    `MINIMUM_LEVELS` units: rounding by half a unit then stays within the scan's own step. Otherwise the range is spread
    over 65,536 levels.

    Args:
        low: smallest value, in units of the scan.
        high: largest value.
        source_is_identity: whether the source stores its values without RescaleSlope and RescaleIntercept.

    >>> coding_of(-20, 1000, source_is_identity=True)
    Coding(signed=True, slope=None, intercept=0.0, precision=0.5)
    >>> coding_of(0, 1.5, source_is_identity=False).slope
    2.2888532867933167e-05
    """
    if source_is_identity and high - low >= MINIMUM_LEVELS:
        if low >= 0 and high <= FULL_SCALE:
            return Coding(False, None, 0.0, 0.5)
        if low >= -(2**15) and high <= 2**15 - 1:
            return Coding(True, None, 0.0, 0.5)
    # A reader uses the values after their rounding to 16 characters; the slope is enlarged so that `high` still fits.
    intercept = float(decimal_string(low))
    slope = float(decimal_string(max(high - intercept, low - intercept, 0.0) / FULL_SCALE * (1 + 1e-9) or 1.0))
    return Coding(False, slope, intercept, slope / 2)
