"""Coding of the voxels of a derived series as 16-bit integers."""

from ..data.coding import IntegerCoding
from ..dicom.elements import decimal_string

SIGNED, UNSIGNED = "<i2", "<u2"
FULL_SCALE = 2**16 - 1
MINIMUM_LEVELS = 256
"""Smallest range of values, in units of the scan, that is stored in whole units; a smaller one is scaled to 16 bits."""


def coding_of(low: float, high: float, source_is_identity: bool) -> IntegerCoding:
    """Choose the coding of values from `low` to `high` that loses no more precision than the source's.

    Values are stored in whole units where the source does so too, they fit into 16 bits and they span at least
    `MINIMUM_LEVELS` units: rounding by half a unit then stays within the scan's own step. Otherwise the range is spread
    over 65,536 levels.

    Args:
        low: smallest value, in units of the scan.
        high: largest value.
        source_is_identity: whether the source stores its values without RescaleSlope and RescaleIntercept.

    >>> coding_of(-20, 1000, source_is_identity=True)
    IntegerCoding(dtype='<i2', slope=1.0, intercept=0.0, rounds_up=False)
    >>> coding_of(0, 1.5, source_is_identity=False).slope
    2.2888532867933167e-05
    """
    if source_is_identity and high - low >= MINIMUM_LEVELS:
        if low >= 0 and high <= FULL_SCALE:
            return IntegerCoding(UNSIGNED)
        if low >= -(2**15) and high <= 2**15 - 1:
            return IntegerCoding(SIGNED)
    # A reader uses the values after their rounding to 16 characters; the slope is enlarged so that `high` still fits.
    intercept = float(decimal_string(low))
    slope = float(decimal_string(max(high - intercept, low - intercept, 0.0) / FULL_SCALE * (1 + 1e-9) or 1.0))
    return IntegerCoding(UNSIGNED, slope, intercept)
