"""Encoded pixels: codestreams are checked before a decoder allocates memory for them, then decoded by a library.

Each transfer syntax has one decoder, so that results do not depend on what else is installed.
"""

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels import get_decoder, pixel_array
from pydicom.uid import JPEG2000TransferSyntaxes, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes, RLELossless

from .files import DamagedError

DECODERS = {
    **dict.fromkeys(JPEGTransferSyntaxes, ("imagecodecs", "imagecodecs")),
    **dict.fromkeys(JPEGLSTransferSyntaxes, ("pyjpegls", "pyjpegls")),
    **dict.fromkeys(JPEG2000TransferSyntaxes, ("pylibjpeg", "pylibjpeg-openjpeg")),
    RLELossless: ("pydicom", "pydicom"),
}
"""Decoder of each transfer syntax, by the name that pydicom gives it, and the package that it is in.

pydicom has no plugin for imagecodecs, whose libjpeg-turbo decodes JPEG baseline, extended (12 bits) and lossless."""
RLE_OVERHEAD = 2
"""Largest ratio of run-length coded to uncoded bytes without the header (PS3.5, G.3): at worst two bytes per byte."""
RLE_HEADER_BYTES = 64
END = b"\xff\xd9"
"""The marker that ends a JPEG, JPEG-LS or JPEG 2000 codestream (EOI, EOC)."""
PADDING = b"\x00\xff"
"""Bytes that may follow it to make the length even."""


def encoded_frame(dataset: Dataset, index: int, frames: int) -> bytes:
    """Return the codestream of one frame, after comparing its size and its end with what the header states.

    Args:
        dataset: header and pixels.
        index: number of the frame, from 0.
        frames: number of frames in the file.

    Raises:
        DamagedError: the codestream has another size, or it is cut.
    """
    data = get_frame(dataset.PixelData, index, number_of_frames=frames)
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if dataset.file_meta.TransferSyntaxUID == RLELossless:
        raw = rows * columns * dataset.BitsAllocated // 8
        if len(data) > raw * RLE_OVERHEAD + 2 * RLE_HEADER_BYTES:
            raise DamagedError(f"{len(data)} run-length coded bytes for a plane of {raw}")
        return data
    size = codestream_size(data)
    if size is not None and size != (rows, columns, 1):
        raise DamagedError(f"codestream of {size[0]} x {size[1]} x {size[2]} in an image of {rows} x {columns}")
    # Decoders fill up what is missing at the end of a codestream, without an error.
    if size is not None and not data.rstrip(PADDING).endswith(END):
        raise DamagedError("pixels are truncated: their codestream has no end")
    return data


def decode(dataset: Dataset, index: int, data: bytes) -> tuple[np.ndarray, bool]:
    """Return the stored values of one frame.

    Args:
        dataset: header and pixels.
        index: number of the frame, from 0.
        data: its codestream, as `encoded_frame` returned it.

    Returns:
        Integers of BitsAllocated (rows, columns); and whether unused bits and the sign are still as in the codestream.

    Raises:
        DamagedError: the decoder of this transfer syntax is not installed, or there is none.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax not in DECODERS:
        raise DamagedError("pixels in a transfer syntax that is not supported: convert the series to another one")
    decoder, package = DECODERS[syntax]
    if syntax in JPEGTransferSyntaxes:
        try:
            from imagecodecs import jpeg8_decode
        except ImportError:
            raise DamagedError(f"pixels in {syntax.name} need the package {package}: install it") from None
        plane = jpeg8_decode(data)
        size = int(dataset.BitsAllocated) // 8
        if plane.itemsize > size:
            raise DamagedError(f"codestream of {8 * plane.itemsize} bits in an image of {8 * size}")
        return plane.astype(f"u{size}").view(f"{'i' if dataset.PixelRepresentation else 'u'}{size}"), True
    if decoder not in get_decoder(syntax).available_plugins:
        raise DamagedError(f"pixels in {syntax.name} need the package {package}: install it")
    # pydicom's correction of unused bits ignores HighBit and does not report values that exceed BitsStored.
    own_bits = syntax == RLELossless
    plane = pixel_array(dataset, index=index, raw=True, correct_unused_bits=not own_bits, decoding_plugin=decoder)
    return plane, own_bits


def codestream_size(data: bytes) -> tuple[int, int, int] | None:
    """Return rows, columns and components of a JPEG, JPEG-LS or JPEG 2000 codestream; None for any other data.

    Args:
        data: one encoded frame (ISO 10918-1, B.2.2; ISO 14495-1, C.2.2; ISO 15444-1, A.5.1).

    >>> codestream_size(bytes.fromhex("ffd8 ffc0 0011 08 0100 0200 01 00000000"))
    (256, 512, 1)
    """
    start = data.find(b"\xff\x4f\xff\x51", 0, 4096)
    if start >= 0:
        x1, y1, x0, y0 = (int.from_bytes(data[start + at : start + at + 4], "big") for at in (8, 12, 16, 20))
        return y1 - y0, x1 - x0, int.from_bytes(data[start + 40 : start + 42], "big")
    if data[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            return (
                int.from_bytes(data[at + 5 : at + 7], "big"),
                int.from_bytes(data[at + 7 : at + 9], "big"),
                data[at + 9],
            )
        if marker == 0xDA:
            break
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
