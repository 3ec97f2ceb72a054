"""The judge: one mask for all methods, and what breaks is named while the rest goes on."""

import nibabel
import numpy as np
import pytest

from scripts.evaluation.judge import Judge, acquired
from scripts.evaluation.measures import Score
from scripts.geometry.errors import Refusal
from scripts.geometry.grid import Grid

AFFINE = np.diag([1.0, 1, 1, 1])
ROW = {"case": "a", "truth": False, "factor": 4.0, "profile": "rect", "protocol": "rect", "through_plane_axis": 2,
       "slice_spacing_mm": 4.0, "slice_thickness_mm": 4.0, "methods": {}}  # fmt: skip


class Record:
    def __init__(self, folder, row):
        self.output_dir, self.row, self.log = folder, row, []

    def open_rows(self):
        return [self.row]

    def __getattr__(self, name):
        return lambda *what: self.log.append((name, *map(str, what)))


@pytest.fixture
def judge(tmp_path):
    body = np.zeros((24, 24, 32), np.float32)
    body[4:20, 4:20] = 100 + np.random.default_rng(0).uniform(0, 20, (16, 16, 32))
    places = {"cubic": body, "cropped": body[..., 4:], "scans": body[..., 1::4], "broken": body[:4]}
    for name, v in places.items():
        affine = AFFINE.copy()
        affine[2, 3] = 4 if name == "cropped" else 0
        affine[2, 2] = 4 if name == "scans" else 1
        affine[2, 3] += 1.5 if name == "scans" else 0
        (tmp_path / name).mkdir()
        nibabel.save(nibabel.Nifti1Image(v, affine), tmp_path / name / "a.nii.gz")

    def make(measures, methods=("cubic", "cropped", "broken", "absent"), row=ROW):
        record = Record(tmp_path, {**row, "methods": {}})
        return Judge(record, {m: tmp_path / m for m in methods}, measures), record

    return make


def test_the_mask_is_the_body_that_every_method_covers(judge):
    seen = []
    made, record = judge([lambda case, result: seen.append((case.mask, result.values)) or []])
    made.run()
    assert len(seen) == 2
    assert seen[0][0] is seen[1][0]
    assert not seen[0][0][..., :4].any()
    assert seen[0][0][10, 10, 4:].all()
    np.testing.assert_array_equal(seen[0][1][..., 4:], seen[1][1][..., 4:])
    failed = {entry[2]: entry[3] for entry in record.log if entry[0] == "method_failed"}
    assert "covers 17%" in failed["broken"]
    assert "no a.nii.gz" in failed["absent"]
    assert ("done", "a") in record.log


def test_a_measure_without_a_value_is_a_note_and_one_asked_for_a_problem(judge):
    class Undefined:
        def __call__(self, case, result):
            raise Refusal("too few slices")

    class Wanted(Undefined):
        asked_for = True

    made, record = judge([Undefined(), Wanted(), lambda *_: [Score("m", 1.5)]], ["cubic"])
    made.run()
    assert ("undefined", "a", "cubic", "Undefined", "too few slices") in record.log
    assert [entry[0] for entry in record.log if "Wanted" in entry[1]] == ["problem"]
    assert [(r.metric, r.value, r.factor, r.profile) for r in made.scores] == [("m", 1.5, 4.0, "rect")]


def test_a_case_without_its_scan_fails_and_a_bug_costs_one_method(judge):
    made, record = judge([lambda *_: 1 / 0], ["cubic"])
    made.run()
    assert record.log[0][:3] == ("method_failed", "a", "cubic")
    made, record = judge([], ["cubic"], {**ROW, "case": "b"})
    made.run()
    assert record.log[0][0] == "failed"


def test_slices_of_oblong_pixels_are_made_square(tmp_path):
    v = np.random.default_rng(0).normal(size=(10, 20, 6)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(v, np.diag([2.0, 1, 4, 1])), tmp_path / "a.nii.gz")
    grid = Grid((10, 20, 6), np.diag([2.0, 1, 4, 1])).isotropic()
    slices, A = acquired(tmp_path / "a.nii.gz", grid, ROW)
    assert slices.shape == (20, 20, 6)
    assert (A.in_size, A.out_size) == (24, 6)


def test_cubic_must_be_there_to_compare_with(judge):
    with pytest.raises(Refusal, match="cubic must be among"):
        judge([], ["broken"])
