import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless

from scripts.dicom.headers import read_frames
from scripts.dicom.pixels import codestream_size, read_planes
from scripts.dicom.synthetic_series import write_series
from scripts.dicom.uids import uid_from

from .conftest import AFFINES, phantom


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless])
def test_rows_columns_and_components_are_read_from_a_codestream(series, syntax):
    dataset = pydicom.dcmread(series[0])
    dataset.compress(syntax, generate_instance_uid=False)
    frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    assert codestream_size(frame) == (dataset.Rows, dataset.Columns, 1)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", bytes(100)])
def test_other_data_is_not_taken_for_a_codestream(data):
    assert codestream_size(data) is None


def test_planes_come_as_columns_and_rows_in_the_order_given(tmp_path):
    volume = phantom((9, 11, 35))  # more slices than are transposed at once
    files = write_series(tmp_path, volume, AFFINES["axial"])
    array = read_planes([frame for file in files[::-1] for frame in read_frames(file)])
    assert np.array_equal(array, volume[:, :, ::-1])
    assert array.dtype == np.float32
    assert array.flags.c_contiguous


def test_uids_are_valid_and_differ_for_different_parts():
    assert pydicom.uid.UID(uid_from("a", 1)).is_valid
    assert uid_from("a", 1) == uid_from("a", 1)
    assert uid_from("ab", "c") != uid_from("a", "bc")
