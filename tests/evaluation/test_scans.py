"""The scans of an evaluation on disk: pairs found, simulations in RAS order, nothing rewritten without need."""

import json

import nibabel
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from scripts.data.discovery import find_nifti
from scripts.data.readers import LoadImageCased, NiftiScanReader
from scripts.evaluation.record import EvaluationRecord
from scripts.evaluation.scans import EvaluationScans, find_pairs
from scripts.geometry.errors import Refusal

from ..data.thick_scans import voxels, write_scan

RECT = [{"factor": 4, "profile": "rect"}]


def written(tmp_path, cases=None, protocols=RECT, **settings):
    record = EvaluationRecord(tmp_path / "out", {})
    cases = find_nifti(tmp_path / "in") if cases is None else cases
    load = LoadImageCased("image", {"nifti": NiftiScanReader()})
    EvaluationScans(cases, load, record, protocols, **settings).run()
    return record


def test_thick_slices_are_simulated_from_a_near_isotropic_scan_and_a_thick_one_is_taken_as_it_is(tmp_path):
    write_scan(tmp_path / "in/iso.nii.gz", voxels((20, 18, 24)), (1, 1, 1))
    thick = write_scan(tmp_path / "in/thick.nii.gz")
    (tmp_path / "in/thick.json").write_text(json.dumps({"SliceThickness": 3.0, "MRAcquisitionType": "2D"}))
    record = written(tmp_path)
    assert {name: case.truth for name, case in record.cases.items()} == {"iso_4x_rect": True, "thick": False}
    copy = nibabel.load(tmp_path / "out/scans/thick.nii.gz")
    np.testing.assert_array_equal(copy.get_fdata(), nibabel.load(thick).get_fdata())
    np.testing.assert_allclose(copy.affine, nibabel.load(thick).affine, atol=1e-5)
    assert json.loads((tmp_path / "out/scans/thick.json").read_text()) == {
        "MRAcquisitionType": "2D",
        "SliceThickness": 3.0,
    }
    assert nibabel.load(tmp_path / "out/scans/iso_4x_rect.nii.gz").shape == (20, 18, 6)


@pytest.mark.parametrize("codes", ["RAS", "PIR", "LSP"])
def test_the_stored_orientation_does_not_matter(tmp_path, codes):
    image = nibabel.Nifti1Image(voxels((16, 18, 24)).astype(np.float32), np.diag([1.0, 1, 1, 1]))
    reoriented = image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(codes)))
    (tmp_path / "in").mkdir()
    nibabel.save(reoriented, tmp_path / "in/iso.nii.gz")
    written(tmp_path)
    thick = nibabel.load(tmp_path / "out/scans/iso_4x_rect.nii.gz")
    np.testing.assert_allclose(thick.get_fdata(), image.get_fdata().reshape(16, 18, 6, 4).mean(-1), rtol=1e-5)
    np.testing.assert_allclose(thick.affine, [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 4, 1.5], [0, 0, 0, 1]], atol=1e-5)


def test_what_is_the_same_is_not_written_again_and_what_is_gone_is_removed(tmp_path):
    write_scan(tmp_path / "in/iso.nii.gz", voxels((20, 18, 24)), (1, 1, 1))
    written(tmp_path, protocols=[*RECT, {"factor": 3, "profile": "rect"}])
    kept = tmp_path / "out/scans/iso_4x_rect.nii.gz"
    before = kept.stat().st_mtime_ns
    written(tmp_path)
    assert kept.stat().st_mtime_ns == before
    assert sorted(p.name for p in (tmp_path / "out").glob("[st][cr]*/*")) == [
        "iso_4x_rect.json",
        "iso_4x_rect.nii.gz",
        "iso_4x_rect.nii.gz",
    ]
    assert not list((tmp_path / "out").rglob("*3x*"))


def test_one_bad_scan_does_not_stop_the_next(tmp_path):
    broken = voxels((20, 18, 24)).astype(np.float32)
    broken[3, 3, 3] = np.nan
    write_scan(tmp_path / "in/a_nan.nii.gz", broken, (1, 1, 1))
    write_scan(tmp_path / "in/b_iso.nii.gz", voxels((20, 18, 24)), (1, 1, 1))
    (tmp_path / "in/c_no.nii.gz").write_bytes(b"no image")
    record = written(tmp_path, protocols=[*RECT, {"factor": 8, "profile": "rect"}])
    assert {name: case.status for name, case in record.cases.items()} == {
        "a_nan_4x_rect": "failed",
        "a_nan_8x_rect": "failed",
        "b_iso_4x_rect": None,
        "b_iso_8x_rect": "failed",
        "c_no": "failed",
    }
    assert "NaN" in record.cases["a_nan_4x_rect"].reason
    assert "3 slices" in record.cases["b_iso_8x_rect"].reason
    with pytest.raises(SystemExit):
        record.conclude()


def test_excluded_cases_are_left_out_and_no_case_is_refused(tmp_path):
    write_scan(tmp_path / "in/iso.nii.gz", voxels((20, 18, 24)), (1, 1, 1))
    with pytest.raises(Refusal, match="no scan to evaluate"):
        written(tmp_path, exclude=["is*"])


@pytest.mark.parametrize(
    ("settings", "line"),
    [({"thin_axis": 3}, "thin_axis"), ({"protocols": [*RECT, *RECT]}, "the same name")],
)
def test_wrong_settings_are_refused(tmp_path, settings, line):
    with pytest.raises(Refusal, match=line):
        written(tmp_path, cases=[], **settings)


@pytest.mark.parametrize("names", [("x_thick.nii.gz", "x_truth.nii.gz"), ("scans/x.nii.gz", "truth/x.nii.gz")])
def test_pairs_are_found_in_either_layout(tmp_path, names):
    write_scan(tmp_path / "in" / names[0])
    write_scan(tmp_path / "in" / names[1], voxels((24, 20, 32)), (1, 1, 1))
    write_scan(tmp_path / "in" / "x_result.nii.gz", voxels((24, 20, 32)), (1, 1, 1))
    ((thick, truth),) = find_pairs(tmp_path / "in")
    assert thick.name == "x"
    record = written(tmp_path, cases=[], pairs=[(thick, truth)])
    assert record.cases["x"].truth
    assert nibabel.load(tmp_path / "out/truth/x.nii.gz").shape == (24, 20, 32)
    assert nibabel.load(tmp_path / "out/scans/x.nii.gz").shape == (24, 20, 8)


def test_a_folder_without_pairs_is_refused(tmp_path):
    assert find_pairs(None) == []
    with pytest.raises(Refusal, match="no folder"):
        find_pairs(tmp_path / "nowhere")
    with pytest.raises(Refusal, match="holds no"):
        find_pairs(tmp_path)


def test_all_stacks_of_a_case_are_written_and_the_first_is_the_scan_of_the_other_methods(tmp_path):
    write_scan(tmp_path / "in/iso.nii.gz", voxels((20, 24, 28)), (1, 1, 1))
    protocol = {"factor": 4, "profile": "gauss", "stacks": [1, 2], "factors": [4, 3.5], "name": "two"}
    record = written(tmp_path, protocols=[*RECT, protocol])
    assert record.cases["iso_two"].stacks == [1, 2]
    assert record.cases["iso_4x_rect"].stacks is None
    folder = tmp_path / "out/stacks/iso_two"
    assert sorted(p.name for p in folder.iterdir()) == [
        f"iso_two_stack{n}{suffix}" for n in (1, 2) for suffix in (".json", ".nii.gz")
    ]
    first = nibabel.load(folder / "iso_two_stack1.nii.gz")
    assert first.shape == (20, 6, 28)
    scan = nibabel.load(tmp_path / "out/scans/iso_two.nii.gz")
    np.testing.assert_array_equal(first.get_fdata(), scan.get_fdata())
    np.testing.assert_array_equal(first.affine, scan.affine)
    assert nibabel.load(folder / "iso_two_stack2.nii.gz").shape == (20, 24, 8)
    assert json.loads((folder / "iso_two_stack2.json").read_text())["SliceThickness"] == 3.5
    written(tmp_path)
    assert not folder.exists()


def test_a_thick_scan_without_its_truth_fails_with_a_line(tmp_path):
    for name in ("x_thick", "y[1]_thick"):
        write_scan(tmp_path / f"in/{name}.nii.gz")
    write_scan(tmp_path / "in/y[1]_truth.nii.gz", voxels((24, 20, 32)), (1, 1, 1))
    record = written(tmp_path, cases=[], pairs=find_pairs(tmp_path / "in"))
    assert {case.status for case in record.cases.values() if case.truth} == {None}
    assert record.cases["x"].status == "failed"
    assert "there is no x_truth.nii.gz beside it" in record.cases["x"].reason
    assert len(record.cases) == 2


def test_pairs_of_an_earlier_evaluation_keep_their_scan_and_protocol(tmp_path):
    write_scan(tmp_path / "in/iso.nii.gz", voxels((20, 18, 24)), (1, 1, 1))
    first = written(tmp_path, protocols=[*RECT, {"factor": 4, "profile": "gauss", "assumed_profile": "rect"}])
    (tmp_path / "again").mkdir()
    again = EvaluationRecord(tmp_path / "again", {})
    load = LoadImageCased("image", {"nifti": NiftiScanReader()})
    EvaluationScans([], load, again, RECT, pairs=find_pairs(tmp_path / "out")).run()
    assert again.cases == first.cases
