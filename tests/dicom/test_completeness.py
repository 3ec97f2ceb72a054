"""Images that are missing where the positions of the others do not show it, and images of several patients."""

from pathlib import Path

import pytest

from scripts.dicom.discovery import find_series
from scripts.dicom.reader import DicomSeriesReader
from scripts.dicom.synthetic_series import write_series

from .conftest import AFFINES, phantom

AFFINE = AFFINES["axial"]
SLICES = 20
SCAN = phantom((12, 10, SLICES))
END = "slices may be missing"


def only_volume(folder):
    (case,) = find_series(folder)
    return case


def write(folder, kept=range(SLICES), header=None, **options):
    """Write a series and delete all slices but some."""
    for index, file in enumerate(write_series(folder, SCAN, AFFINE, header=header, **options)):
        if index not in kept:
            Path(file).unlink()


@pytest.mark.parametrize(
    ("kept", "header", "note"),
    [
        (range(SLICES), {"ImagesInAcquisition": "20"}, None),
        (range(SLICES), lambda k: {"InstanceNumber": str(k)}, None),  # from 0
        (range(SLICES), lambda k: {"InstanceNumber": str(SLICES - k)}, None),
        (range(SLICES), {"InstanceNumber": None}, None),
        (range(SLICES), {"ImagesInAcquisition": "80"}, None),  # four series of one Dixon sequence
        (range(6, 15), None, f"InstanceNumber runs from 7 to 15 in the 9 images of the series: {END}"),
        (range(15), {"ImagesInAcquisition": "20"}, f"the series has 15 images, ImagesInAcquisition says 20: {END}"),
        (range(15), None, None),  # nothing tells
    ],
)
def test_lost_ends_have_a_note(tmp_path, kept, header, note):
    write(tmp_path, kept, header)
    case = only_volume(tmp_path)
    assert case.refusal is None
    assert case.volume.stack.noted == (note or "")


def test_every_second_slice_lost_is_refused(tmp_path):
    for offset in (0, 1):
        write(tmp_path / str(offset), range(offset, SLICES, 2))
        assert only_volume(tmp_path / str(offset)).refusal.endswith(
            "1 of 2 slices are missing: distances of 10 mm, SpacingBetweenSlices 5 mm, InstanceNumber in steps of 2: "
            "copy the whole series"
        )


def test_a_stated_gap_with_whole_numbers_is_not_refused(tmp_path):
    write(tmp_path, header={"SpacingBetweenSlices": "2.5"})
    case = only_volume(tmp_path)
    assert case.refusal is None
    assert "positions win" in case.volume.stack.noted


def test_interleaved_echoes_are_whole(tmp_path):
    for echo in (1, 2):
        write_series(
            tmp_path,
            SCAN * echo,
            AFFINE,
            header=lambda k, echo=echo: {
                **{"EchoNumbers": str(echo), "EchoTime": str(20 * echo), "SpacingBetweenSlices": "2.5"},
                **{"InstanceNumber": str(2 * k + echo), "SOPInstanceUID": f"1.2.{echo}.{k}"},
                "ImagesInAcquisition": str(2 * SLICES),
            },
            file_name=f"{echo}_{{}}.dcm",
        )
    cases = find_series(tmp_path)
    assert [case.refusal for case in cases] == [None, None]
    assert not any(END in case.volume.stack.noted for case in cases)


@pytest.mark.parametrize("keyword", ["PatientID", "IssuerOfPatientID"])
def test_a_volume_of_two_patients_is_refused_without_their_names(tmp_path, keyword):
    write(tmp_path, header=lambda k: {keyword: "SECRET1" if k < 10 else "SECRET2"})
    case = only_volume(tmp_path)
    assert "images of 2 patients in one series: separate them" in case.refusal
    assert "SECRET" not in case.refusal + repr(case.volume)


def test_a_patient_who_is_not_named_in_all_images_is_one(tmp_path):
    write(tmp_path, header=lambda k: {"PatientID": "A" if k else ""})
    assert only_volume(tmp_path).refusal is None


def test_the_acquired_share_is_read_from_the_header(tmp_path):
    write(tmp_path, header={"AcquisitionMatrix": [0, 6, 8, 0]})
    reader = DicomSeriesReader()
    _, meta = reader.get_data(reader.read(str(tmp_path)))
    assert meta["stated_fraction"] == {0: 0.5, 1: 0.8}
