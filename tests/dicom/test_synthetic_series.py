import numpy as np
import pydicom
import pytest

from scripts.dicom.synthetic_series import write_series
from scripts.geometry.errors import Refusal

from .conftest import AFFINES, phantom


def test_voxel_positions_follow_the_equation_of_the_standard(tmp_path, affine):
    volume = phantom()
    for index, file in enumerate(write_series(tmp_path, volume, affine)):
        dataset = pydicom.dcmread(file)
        row, column = np.array(dataset.ImageOrientationPatient[:3]), np.array(dataset.ImageOrientationPatient[3:])
        # PS3.3, C.7.6.2.1.1: PixelSpacing is (between rows, between columns).
        lps = (
            np.array(dataset.ImagePositionPatient)
            + 3 * row * dataset.PixelSpacing[1]
            + 5 * column * dataset.PixelSpacing[0]
        )
        assert np.allclose(lps * (-1, -1, 1), (affine @ [3, 5, index, 1])[:3], atol=1e-6)
        assert dataset.pixel_array[5, 3] == volume[3, 5, index]


def test_identifiers_follow_from_the_seed(tmp_path):
    first, again, other, sister = (
        pydicom.dcmread(
            write_series(tmp_path / str(i), phantom(), AFFINES["axial"], seed=seed, series_number=number)[0]
        )
        for i, (seed, number) in enumerate([(1, 1), (1, 1), (2, 1), (1, 2)])
    )
    assert first.SOPInstanceUID == again.SOPInstanceUID
    assert first.PatientID != other.PatientID
    assert first.StudyInstanceUID == sister.StudyInstanceUID
    assert first.FrameOfReferenceUID == sister.FrameOfReferenceUID
    assert first.SeriesInstanceUID != sister.SeriesInstanceUID


def test_values_beyond_16_bits_are_refused_without_a_slope(tmp_path):
    with pytest.raises(Refusal, match="rescale_slope"):
        write_series(tmp_path, phantom() * 1000, AFFINES["axial"])
    file = write_series(tmp_path, phantom() * 1000, AFFINES["axial"], rescale_slope=100)[0]
    assert pydicom.dcmread(file).RescaleSlope == 100


def test_a_volume_of_two_dimensions_is_refused(tmp_path):
    with pytest.raises(Refusal, match="X, Y, slices"):
        write_series(tmp_path, np.zeros((4, 4)), np.eye(4))
