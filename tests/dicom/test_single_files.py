"""One DICOM file or a DICOMDIR in place of a folder: the refusal says what the file is and offers the folder."""

from pathlib import Path

import pydicom
import pytest
from pydicom.fileset import FileSet
from pydicom.uid import BasicTextSRStorage, generate_uid

from scripts.data.discovery import find_nifti, require_cases
from scripts.dicom.discovery import find_series
from scripts.dicom.synthetic_series import write_series

from .conftest import AFFINES, SHAPE, phantom

OFFER = "is one of {} files of a volume: give its folder"
NO_IMAGE = "{}: a DICOM file without an image, such as a DICOMDIR or a report: give the folder of the images"


def only(path: Path) -> str | None:
    """The refusal of the only case, found as a run finds it."""
    (case,) = require_cases(find_nifti(path) + find_series(path), path)
    return case.refusal


@pytest.fixture
def medium(tmp_path, series):
    """A medium with a DICOMDIR as pydicom writes it."""
    files = FileSet()
    for file in series:
        dataset = pydicom.dcmread(file)
        dataset.PatientID, dataset.StudyID = "P", "1"
        files.add(dataset)
    files.write(tmp_path / "medium")
    return tmp_path / "medium"


@pytest.mark.parametrize("name", ["DICOMDIR", "dicomdir", "index.dcm"])
def test_a_dicomdir_offers_the_folder(medium, name):
    path = (medium / "DICOMDIR").rename(medium / name)
    assert only(path) == NO_IMAGE.format(name)
    assert only(medium) is None  # where it lies among the images it does not matter
    (volume,) = find_series([path, *sorted(p for p in medium.rglob("*") if p.is_file())])
    assert volume.refusal is None


def test_a_report_is_said_to_hold_no_image(tmp_path, series):
    dataset = pydicom.dcmread(series[0])
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = BasicTextSRStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    del dataset.PixelData, dataset.Rows
    dataset.save_as(tmp_path / "report.dcm")
    assert only(tmp_path / "report.dcm") == NO_IMAGE.format("report.dcm")


@pytest.mark.parametrize("name", ["IM0003.dcm", "IM0003", "a\nb.ima"])
def test_one_file_of_a_series_offers_its_folder_whatever_its_name(series, name):
    path = Path(series[2])
    path = path.rename(path.with_name(name))
    assert only(path).endswith(OFFER.format(SHAPE[2]))
    assert "\n" not in only(path)


def test_one_file_of_a_series_that_cannot_be_used_says_that_too(tmp_path):
    files = write_series(tmp_path, phantom(), AFFINES["axial"], header={"Modality": "CT"})
    assert only(Path(files[2])) == f"IM0003.dcm {OFFER.format(SHAPE[2])}; not MR (Modality CT)"


def test_one_file_that_is_damaged_is_called_damaged(series):
    path = Path(series[2])
    path.write_bytes(path.read_bytes()[:700])
    assert only(path).startswith("a damaged file (IM0003.dcm: ")


def test_a_file_that_is_alone_in_its_folder_is_one_slice(tmp_path):
    (file,) = write_series(tmp_path, phantom((20, 20, 1)), AFFINES["axial"])
    assert only(Path(file)) == "1 slice; at least 5 are needed"
