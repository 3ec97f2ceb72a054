import numpy as np
import pydicom
import pytest

from scripts.dicom.headers import read_frames
from scripts.dicom.pixels import read_planes
from scripts.dicom.synthetic_series import write_series
from scripts.dicom.uids import uid_from
from scripts.geometry.errors import Refusal

from .conftest import AFFINES, phantom


def test_planes_come_as_columns_and_rows_in_the_order_given(tmp_path):
    volume = phantom((9, 11, 35))  # more slices than are transposed at once
    files = write_series(tmp_path, volume, AFFINES["axial"])
    array = read_planes([frame for file in files[::-1] for frame in read_frames(file)])
    assert np.array_equal(array, volume[:, :, ::-1])
    assert array.dtype == np.float32
    assert array.flags.c_contiguous


def test_absent_attributes_of_the_pixels_are_named(tmp_path):
    for keyword in ("PixelRepresentation", "BitsStored"):
        files = write_series(tmp_path, phantom((9, 11, 5)), AFFINES["axial"])
        dataset = pydicom.dcmread(files[0])
        delattr(dataset, keyword)
        dataset.save_as(files[0])
        with pytest.raises(Refusal, match=f"{keyword} is absent: correct the headers"):
            read_planes([frame for file in files for frame in read_frames(file)])


def test_uids_are_valid_and_differ_for_different_parts():
    assert pydicom.uid.UID(uid_from("a", 1)).is_valid
    assert uid_from("a", 1) == uid_from("a", 1)
    assert uid_from("ab", "c") != uid_from("a", "bc")
