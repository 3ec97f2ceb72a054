"""What Python packs, the page's script restores; checked with the same steps in numpy."""

import base64
import zlib

import numpy as np
import pytest

from scripts.reports.packing import packed


def restored(made) -> np.ndarray:
    """The steps of templates/unpack.js."""
    split = np.frombuffer(zlib.decompress(base64.b64decode(made.data)), np.uint8)
    parts = split.reshape(made.bytes, -1).astype(np.uint32)
    kind = np.uint8 if made.bytes == 1 else np.uint16
    values = sum(part << (8 * byte) for byte, part in enumerate(parts)).astype(kind).reshape(made.shape)
    for axis in reversed(made.axes):
        values = np.cumsum(values, axis=axis, dtype=kind)
    return values


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("axes", [[2], [0, 2], [1, 0]])
def test_numbers_come_back_whatever_they_are(kind, axes):
    values = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (5, 6, 7), kind, endpoint=True)
    np.testing.assert_array_equal(restored(packed(values, axes)), values)


def test_a_smooth_volume_takes_less_than_half_of_its_size():
    z, y, x = np.mgrid[:40, :40, :40]
    values = (120 + 80 * np.sin(x / 9 + y / 7) * np.cos(z / 8)).astype(np.uint8)
    assert len(packed(values, [0, 2]).data) < values.size / 2
