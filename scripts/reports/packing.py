"""Volumes inside a page: whole numbers of 8 or 16 bits, differences of neighbours, compressed, as text."""

import base64
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LEVEL = 6  # of the compression: 9 takes twice the time for less than 1 %
MEMORY = 9  # of zlib, its largest


class Packed(NamedTuple):
    """Whole numbers as text for the script templates/unpack.js.

    Attributes:
        shape: of the array, its last axis is the one whose neighbours lie side by side.
        bytes: of a number, 1 or 2.
        axes: along which neighbours were subtracted.
        data: the differences modulo 2^8 or 2^16, their low bytes and then their high bytes, zlib, base 64.
    """

    shape: tuple[int, ...]
    bytes: int
    axes: tuple[int, ...]
    data: str


def packed(values: np.ndarray, axes: Sequence[int]) -> Packed:
    """Compress whole numbers without loss; differences of neighbours take half the space of the values.

    Args:
        values: uint8 or uint16.
        axes: to take differences along. Of a volume of interpolated slices: across the slices and along one axis of the
            slices.

    >>> text = packed(np.array([[[1, 2], [3, 300]]], np.uint16), [2]).data
    >>> list(zlib.decompress(base64.b64decode(text)))
    [1, 1, 3, 41, 0, 0, 0, 1]
    """
    size = values.dtype.itemsize
    steps = np.ascontiguousarray(values)
    for axis in axes:
        steps = np.diff(steps, axis=axis, prepend=values.dtype.type(0))  # modulo 2^8 or 2^16
    parts = [((steps >> (8 * byte)) & 0xFF).astype(np.uint8).tobytes() for byte in range(size)]
    compress = zlib.compressobj(LEVEL, zlib.DEFLATED, zlib.MAX_WBITS, MEMORY, zlib.Z_FILTERED)
    data = b"".join([*(compress.compress(part) for part in parts), compress.flush()])
    return Packed(values.shape, size, tuple(axes), base64.b64encode(data).decode("ascii"))
