"""How the voxels of a derived series become 16-bit integers."""

from dataclasses import dataclass

import numpy as np
from pydicom.valuerep import DS

FULL_SCALE = 2**16 - 1
MINIMUM_LEVELS = 256
"""Values that span fewer units are scaled up to 16 bits: whole units would lose what lies between them."""


@dataclass(frozen=True)
class Coding:
    """How values become 16-bit integers: value = stored * slope + intercept, within `precision` of the truth.

    Attributes:
        signed: PixelRepresentation.
        slope: RescaleSlope; None where stored values are the values.
        intercept: RescaleIntercept.
        precision: largest rounding error, in the scan's units.
    """

    signed: bool
    slope: float | None
    intercept: float
    precision: float

    def encode(self, plane: np.ndarray) -> bytes:
        """Stored values of a plane (rows, columns), little endian."""
        info = np.iinfo(np.int16 if self.signed else np.uint16)
        stored = np.rint((plane.astype(np.float64) - self.intercept) / (self.slope or 1.0))
        return np.clip(stored, info.min, info.max).astype("<i2" if self.signed else "<u2").tobytes()


def coding_of(low: float, high: float, source_is_identity: bool) -> Coding:
    """Integers for values from `low` to `high`, with no more precision lost than the scan itself has.

    Stored values are the values where the source stores them so, they fit 16 bits and span at least `MINIMUM_LEVELS`
    units: rounding then costs at most half a unit, which is the scan's own step. Else the range is spread over all
    65,536 levels, and rounding costs at most half of its 65,535th part.
    """
    if source_is_identity and high - low >= MINIMUM_LEVELS:
        if low >= 0 and high <= FULL_SCALE:
            return Coding(False, None, 0.0, 0.5)
        if low >= -(2**15) and high <= 2**15 - 1:
            return Coding(True, None, 0.0, 0.5)
    # The decimal strings of 16 characters are what a reader will use; they are rounded outwards.
    intercept = float(DS(low, auto_format=True))
    slope = float(DS(max(high - intercept, low - intercept, 0.0) / FULL_SCALE * (1 + 1e-9) or 1.0, auto_format=True))
    return Coding(False, slope, intercept, slope / 2)
