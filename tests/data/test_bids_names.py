"""Where derivatives of a BIDS data set go, and which output folders and scans are refused."""

import json

import pytest

from scripts.data.bids import bids_scans
from scripts.data.bids_names import BidsNames
from scripts.data.case import Case
from scripts.data.discovery import find_nifti
from scripts.geometry.errors import Refusal

from .thick_scans import write_scan

RAW = {"Name": "Raw", "BIDSVersion": "1.10.0", "Acknowledgements": "thanks"}


@pytest.fixture
def dataset(tmp_path):
    top = tmp_path / "data"
    write_scan(top / "sub-01/anat/sub-01_T2w.nii.gz")
    (top / "dataset_description.json").write_text(json.dumps(RAW))
    return top


def description(folder) -> dict:
    return json.loads((folder / "dataset_description.json").read_text())


def test_the_data_set_itself_is_no_output_folder(dataset, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(dataset)
    for out in (dataset, dataset / "sub-01/..", link):
        with pytest.raises(Refusal, match="is the BIDS data set itself: give another OUT_DIR"):
            BidsNames(dataset).describe(out, "1")
    assert description(dataset) == RAW


@pytest.mark.parametrize(
    "found", [{"GeneratedBy": [{"Name": "fMRIPrep"}]}, {"GeneratedBy": "GLADE"}, {"GeneratedBy": ["GLADE"]}, {}]
)
def test_the_description_of_another_data_set_is_not_replaced(dataset, tmp_path, found):
    out = tmp_path / "out"
    out.mkdir()
    (out / "dataset_description.json").write_text(json.dumps(found))
    with pytest.raises(Refusal, match="is that of another data set: give another OUT_DIR"):
        BidsNames(dataset).describe(out, "1")
    assert description(out) == found


def test_the_description_of_an_earlier_run_is_brought_up_to_date(dataset, tmp_path):
    (tmp_path / "out").mkdir()
    for version in ("1", "2"):
        BidsNames(dataset).describe(tmp_path / "out", version)
    assert description(tmp_path / "out")["GeneratedBy"] == [{"Name": "GLADE", "Version": "2"}]


def test_derivatives_in_the_data_set_are_no_scans(dataset):
    for name in ("sub-01_res-iso1mm_desc-glade_T2w", "sub-01_desc-preproc_T2w", "sub-01_res-2_T2w"):
        write_scan(dataset / f"sub-01/anat/{name}.nii.gz")
    assert [path.name for path in bids_scans(dataset)] == ["sub-01_T2w.nii.gz"]


def test_two_files_of_one_bids_name_are_not_both_processed(dataset):
    names = BidsNames(dataset)
    (dataset / "sub-01/anat/sub-01_T2w.json").write_text("{}")
    assert [names.refusal(case) for case in find_nifti(bids_scans(dataset))] == [None]
    write_scan(dataset / "sub-01/anat/sub-01_T2w.nii")
    assert [names.refusal(case) for case in find_nifti(bids_scans(dataset))] == [
        None,
        "sub-01_T2w.nii.gz: the same BIDS name as sub-01_T2w.nii: keep one",
    ]


def test_names_state_the_grid_that_is_written(dataset):
    case = Case("sub-01_T2w", (dataset / "sub-01/anat/sub-01_T2w.nii.gz",))
    place = BidsNames(dataset).place(case, "sub-01_T2w_glade.nii.gz", (0.5, 0.5, 3.0))
    assert place.as_posix() == "sub-01/anat/sub-01_res-0p5x0p5x3mm_desc-glade_T2w.nii.gz"


def test_a_data_set_may_be_given_by_a_path_with_dots(dataset, tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    given = [str(path.absolute()) for path in bids_scans("../data")]
    for path in (given, given[0]):
        assert [BidsNames("../data").refusal(case) for case in find_nifti(path)] == [None]
