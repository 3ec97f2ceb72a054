import numpy as np
import pydicom

from scripts.dicom.headers import read_frames
from scripts.dicom.pixels import read_planes
from scripts.dicom.synthetic_series import write_series
from scripts.dicom.uids import uid_from

from .conftest import AFFINES, phantom


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
