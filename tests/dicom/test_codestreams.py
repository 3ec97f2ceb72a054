"""Encoded pixels: every JPEG process gives the stored values, and a cut codestream is refused in every syntax."""

import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import (
    MPEG2MPML,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from scripts.dicom.codestreams import codestream_size
from scripts.dicom.discovery import find_series
from scripts.dicom.reader import DicomSeriesReader
from scripts.dicom.synthetic_series import write_series
from scripts.geometry.errors import Refusal

from .conftest import AFFINES, SHAPE, phantom

AFFINE = AFFINES["axial"]
ENCODINGS = {
    "lossless, 8 bits": (JPEGLosslessSV1, 8, {"lossless": True, "bitspersample": 8}),
    "lossless, 12 bits": (JPEGLosslessSV1, 12, {"lossless": True, "bitspersample": 12}),
    "lossless, 16 bits, another predictor": (JPEGLossless, 16, {"lossless": True, "bitspersample": 16, "predictor": 5}),
    "extended, 12 bits": (JPEGExtended12Bit, 12, {"level": 100, "bitspersample": 12}),
    "baseline": (JPEGBaseline8Bit, 8, {"level": 100}),
}


def encode(file, syntax, data):
    dataset = pydicom.dcmread(file)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([data])
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"
    dataset.save_as(file)


def jpeg_series(folder, name, volume):
    syntax, bits, options = ENCODINGS[name]
    header = {"BitsStored": bits, "HighBit": bits - 1}
    files = write_series(folder, volume, AFFINE, header=header | {"BitsAllocated": 16})
    for index, file in enumerate(files):
        plane = np.ascontiguousarray(volume[:, :, index].T).astype("u1" if bits == 8 else "u2")
        encode(file, syntax, imagecodecs.jpeg8_encode(plane, **options))
        if bits == 8:
            dataset = pydicom.dcmread(file)
            dataset.BitsAllocated = 8
            dataset.save_as(file)
    return files


def smooth(bits):
    """Return a volume without the noise that a lossy code would change."""
    x, y, z = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    return ((x * 3 + y * 2 + z) * (2**bits - 1) / 230).astype(int)


def read(folder):
    reader = DicomSeriesReader()
    return reader.get_data(reader.read(folder))[0]


@pytest.mark.parametrize("name", ENCODINGS)
def test_every_jpeg_process_gives_the_stored_values(tmp_path, name):
    _, bits, options = ENCODINGS[name]
    volume = smooth(bits)
    jpeg_series(tmp_path, name, volume)
    apart = np.abs(read(tmp_path) - volume).max()
    assert apart == 0 if options.get("lossless") else apart <= 2


@pytest.mark.parametrize("bits", [12, 16])
def test_signed_values_of_a_lossless_code_keep_their_sign(tmp_path, bits):
    volume = phantom() - 500
    header = {"BitsStored": bits, "HighBit": bits - 1}
    files = write_series(tmp_path, volume, AFFINE, header=header)
    for index, file in enumerate(files):
        plane = np.ascontiguousarray(volume[:, :, index].T).astype("<i2").view("<u2") & (2**bits - 1)
        encode(file, JPEGLosslessSV1, imagecodecs.jpeg8_encode(plane, lossless=True, bitspersample=bits))
    assert np.array_equal(read(tmp_path), volume)


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEG2000Lossless, JPEGLSLossless, RLELossless])
@pytest.mark.parametrize("damage", ["cut", "zeros"])
def test_a_slice_whose_codestream_is_cut_is_refused_and_its_file_named(tmp_path, syntax, damage):
    files = write_series(tmp_path, phantom(), AFFINE)
    dataset = pydicom.dcmread(files[3])
    if syntax == JPEGLosslessSV1:
        data = imagecodecs.jpeg8_encode(dataset.pixel_array, lossless=True, bitspersample=16)
    else:
        dataset.compress(syntax, generate_instance_uid=False)
        data = get_frame(dataset.PixelData, 0, number_of_frames=1)
    half = data[: len(data) // 2]
    encode(files[3], syntax, half if damage == "cut" else half + bytes(len(data) - len(half)))
    with pytest.raises(Refusal, match=Path(files[3]).name):
        read(tmp_path)


def test_a_codestream_of_more_bits_than_the_header_states_is_refused(tmp_path):
    files = jpeg_series(tmp_path, "lossless, 8 bits", smooth(8))
    encode(files[2], JPEGLosslessSV1, imagecodecs.jpeg8_encode(np.ones(SHAPE[1::-1], "u2"), lossless=True))
    with pytest.raises(Refusal, match="codestream of 16 bits in an image of 8"):
        read(tmp_path)


def test_a_missing_decoder_is_named(tmp_path, monkeypatch):
    jpeg_series(tmp_path, "lossless, 12 bits", smooth(12))
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(Refusal, match="need the package imagecodecs: install it"):
        read(tmp_path)


def test_a_transfer_syntax_without_a_decoder_is_refused_in_one_line(tmp_path):
    for file in write_series(tmp_path, phantom(), AFFINE):
        encode(file, MPEG2MPML, bytes(100))
    assert find_series(tmp_path)[0].refusal is None
    with pytest.raises(Refusal, match="transfer syntax that is not supported: convert the series"):
        read(tmp_path)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless])
def test_rows_columns_and_components_are_read_from_a_codestream(tmp_path, syntax):
    dataset = pydicom.dcmread(write_series(tmp_path, phantom(), AFFINE)[0])
    dataset.compress(syntax, generate_instance_uid=False)
    assert codestream_size(get_frame(dataset.PixelData, 0, number_of_frames=1)) == (dataset.Rows, dataset.Columns, 1)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", bytes(100)])
def test_other_data_is_not_taken_for_a_codestream(data):
    assert codestream_size(data) is None
