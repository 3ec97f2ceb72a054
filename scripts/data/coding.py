"""Integers with slope and intercept in place of the values of voxels, where they lose nothing that matters."""

from dataclasses import dataclass

import numpy as np

LOST = 0.1  # of the noise: the root mean square of what rounding changes; it raises the noise by half a percent
STEP_OVER_DEVIATION = 12**0.5  # rounding to a step changes values by the step over sqrt(12), root mean square
EIGHT_BITS = 256  # levels
FINEST = 0.1  # of the median: the largest step of 8 bits for which 16 are not taken


@dataclass(frozen=True)
class IntegerCoding:
    """Coding of values as integers: value = stored * slope + intercept.

    Attributes:
        dtype: of the integers, a name of numpy.
        slope: positive.
        intercept: in the unit of the values.
        rounds_up: whether values between two steps become the upper one, in place of the nearer one.

    >>> coding = IntegerCoding("uint8", 0.5)
    >>> coding.encode(np.array([0, 1.6, 1000]))
    array([  0,   3, 255], dtype=uint8)
    """

    dtype: str
    slope: float = 1.0
    intercept: float = 0.0
    rounds_up: bool = False

    @property
    def is_identity(self) -> bool:
        """Whether the integers are the values themselves."""
        return self.slope == 1 and self.intercept == 0

    @property
    def precision(self) -> float:
        """Largest error of rounding, in the unit of the values."""
        return self.slope if self.rounds_up else self.slope / 2

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Return the stored integers of values of any shape; values out of range are clipped."""
        info = np.iinfo(self.dtype)
        steps = (values.astype(np.float64) - self.intercept) / self.slope
        stored = np.ceil(steps) if self.rounds_up else np.rint(steps)
        return np.clip(stored, info.min, info.max).astype(self.dtype)


WHOLE = IntegerCoding("int16")
"""Whole numbers as they are, as scanners store them."""


def coding_by_noise(low: float, high: float, noise: float | None) -> IntegerCoding | None:
    """Return 16-bit integers whose rounding is a tenth of the noise, in steps from 0, so that 0 stays 0.

    Args:
        low: smallest value.
        high: largest value.
        noise: standard deviation of the noise, in the same unit; None where it is not known.

    Returns:
        None where integers would lose more: no noise, or a range of more than 65,536 such steps.

    >>> round(coding_by_noise(-20, 1200, noise=17.8).slope, 3)  # 0.1 * 17.8 * sqrt(12)
    6.166
    >>> coding_by_noise(0, 1e6, noise=1.0) is None
    True
    """
    if noise is None or not (noise > 0 and np.isfinite([low, high]).all()):
        return None
    step = float(np.nextafter(np.float32(LOST * STEP_OVER_DEVIATION * noise), np.float32(0)))  # as files store it
    info = np.iinfo(np.int16)
    steps_off = 0 if step > 0 and info.min * step <= low and high <= info.max * step else None
    if steps_off is None and 0 < high - low < (info.max - info.min - 2) * step:
        steps_off = round((low + high) / 2 / step)
    if steps_off is None:
        return None
    return IntegerCoding("int16", step, float(np.float32(steps_off * step)))


def coding_of_range(low: float, high: float, levels: int = EIGHT_BITS) -> IntegerCoding:
    """Return the coding of a range of values as the integers 0 to levels - 1.

    Args:
        low: smallest value.
        high: largest value, above `low`.
        levels: at most 65,536; more than 256 take 16 bits.

    >>> share = coding_of_range(0, 1)
    >>> share.encode(np.array([0, 0.5, 1])), round(share.precision, 4)
    (array([  0, 127, 255], dtype=uint8), 0.002)
    """
    slope, intercept = float(np.float32((high - low) / (levels - 1))), float(np.float32(low))  # as files store them
    return IntegerCoding("uint8" if levels <= EIGHT_BITS else "uint16", slope, intercept)


def coding_upwards(values: np.ndarray) -> IntegerCoding:
    """Return the coding of values from 0 up as whole steps that are rounded up, never down.

    8 bits where the steps are at most a tenth of the median of the positive values, else 16 bits.

    Args:
        values: of any shape, 0 or more, finite.

    >>> half_widths = np.array([0.0, 0.5, 1.003, 2.55])
    >>> coding = coding_upwards(half_widths)
    >>> (coding.encode(half_widths) * coding.slope).round(2), coding.dtype  # steps of 0.01
    (array([0.  , 0.5 , 1.01, 2.55]), 'uint8')
    """
    positive = values[values > 0]
    highest = float(values.max(initial=0.0))
    if not positive.size:
        return IntegerCoding("uint8", rounds_up=True)
    dtype = "uint8" if highest / (EIGHT_BITS - 1) <= FINEST * float(np.median(positive)) else "uint16"
    # a step a little above the exact one, so that the highest value is not beyond the last step; as files store it
    step = float(np.nextafter(np.float32(highest / np.iinfo(dtype).max), np.float32(np.inf)))
    return IntegerCoding(dtype, step, rounds_up=True)
