"""Scoring: one mask for all methods, and what cannot be scored is named while the rest goes on."""

from dataclasses import replace

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from scripts.evaluation.cases import EvaluatedCase
from scripts.evaluation.measures import Fidelity, Residual, Score
from scripts.evaluation.methods import InterpolatedMethods
from scripts.evaluation.record import EvaluationRecord
from scripts.evaluation.scores import Scores, read_scores, write_scores
from scripts.evaluation.scoring import Scoring, acquired
from scripts.geometry.errors import Refusal
from scripts.geometry.grid import Grid
from tests.conftest import ROOT

CASE = EvaluatedCase("a", factor=4.0, profile="rect", protocol="rect", through_plane_axis=2, slice_spacing_mm=4.0,
                     slice_thickness_mm=4.0)  # fmt: skip


@pytest.fixture
def scoring(tmp_path):
    body = np.zeros((24, 24, 32), np.float32)
    body[4:20, 4:20] = 100 + np.random.default_rng(0).uniform(0, 20, (16, 16, 32))
    volumes = {"cubic": body, "cropped": body[..., 4:], "scans": body[..., 1::4], "broken": body[:4]}
    for name, v in volumes.items():
        affine = np.eye(4)
        affine[2, 3] = 4 if name == "cropped" else 0
        affine[2, 2] = 4 if name == "scans" else 1
        affine[2, 3] += 1.5 if name == "scans" else 0
        (tmp_path / name).mkdir()
        nibabel.save(nibabel.Nifti1Image(v, affine), tmp_path / name / "a.nii.gz")

    def make(measures, methods=("cubic", "cropped", "broken", "absent"), case=CASE):
        record, scores = EvaluationRecord(tmp_path, {}), Scores(tmp_path / "scores.csv")
        record.begin(replace(case, methods={}, undefined=[]))
        return Scoring(record, {m: tmp_path / m for m in methods}, measures, scores), record

    return make


def test_the_mask_is_the_body_that_every_method_covers(scoring):
    seen = []
    step, record = scoring([lambda case, result: seen.append((case.mask, result.values)) or []])
    step.run()
    assert len(seen) == 2
    assert seen[0][0] is seen[1][0]
    assert not seen[0][0][..., :4].any()
    assert seen[0][0][10, 10, 4:].all()
    np.testing.assert_array_equal(seen[0][1][..., 4:], seen[1][1][..., 4:])
    case = record.cases["a"]
    assert "covers 17%" in case.methods["broken"].reason
    assert "no a.nii.gz" in case.methods["absent"].reason
    assert case.status == "done"
    assert case.has_done("cropped")
    assert case.window[0] < case.window[1]


def test_a_measure_without_a_value_is_a_note_and_a_requested_one_a_problem(scoring):
    class Undefined:
        def __call__(self, case, result):
            raise Refusal("too few slices")

    class Wanted(Undefined):
        requested = True

    step, record = scoring([Undefined(), Wanted(), lambda *_: [Score("m", 1.5)]], ["cubic"])
    step.run()
    assert record.cases["a"].as_row()["undefined"] == [
        {"method": "cubic", "measure": "Undefined", "reason": "too few slices"}
    ]
    assert record.problems == ["a: cubic: Wanted: too few slices"]
    assert [(r.metric, r.value, r.factor, r.profile) for r in step.scores.rows] == [("m", 1.5, 4.0, "rect")]


def test_a_case_without_its_scan_fails_and_a_bug_costs_one_method(scoring):
    step, record = scoring([lambda *_: 1 / 0], ["cubic"])
    step.run()
    assert record.cases["a"].has_failed("cubic")
    step, record = scoring([], ["cubic"], replace(CASE, name="b"))
    step.run()
    assert record.cases["b"].status == "failed"
    with pytest.raises(SystemExit):
        record.conclude()


def test_scores_of_an_earlier_evaluation_do_not_stay(scoring):
    step, record = scoring([lambda *_: [Score("m", 1.5)]], ["cubic"])
    write_scores([], record.folder.scores)
    step.run()
    assert read_scores(record.folder.scores) == step.scores.rows
    step, record = scoring([], ["cubic"], replace(CASE, name="b"))
    step.run()
    assert not record.folder.scores.exists()


def test_slices_of_oblong_pixels_are_made_square(tmp_path):
    v = np.random.default_rng(0).normal(size=(10, 20, 6)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(v, np.diag([2.0, 1, 4, 1])), tmp_path / "a.nii.gz")
    grid = Grid((10, 20, 6), np.diag([2.0, 1, 4, 1])).isotropic()
    slices, A = acquired(tmp_path / "a.nii.gz", grid, CASE)
    assert slices.shape == (20, 20, 6)
    assert (A.in_size, A.out_size) == (24, 6)


def test_slices_of_zero_filled_planes_are_those_that_the_inference_sampled(tmp_path):
    measured = ndimage.gaussian_filter(np.random.default_rng(0).random((48, 48, 8)), (1, 1, 0)) * 100
    measured[12:36, 10:40] += 200
    spectrum = np.pad(np.fft.fftshift(np.fft.fft2(measured, axes=(0, 1)), axes=(0, 1)), ((24, 24), (24, 24), (0, 0)))
    stored = 4 * np.abs(np.fft.ifft2(np.fft.ifftshift(spectrum, axes=(0, 1)), axes=(0, 1)))
    (tmp_path / "scans").mkdir()
    nibabel.Nifti1Image(stored.astype(np.float32), np.diag([0.5, 0.5, 4, 1])).to_filename(tmp_path / "scans/a.nii.gz")
    record, scores = EvaluationRecord(tmp_path, {}), Scores(tmp_path / "scores.csv")
    record.begin(EvaluatedCase("a"))
    settings = {"isotropic_spacing_mm": "acquired", "regularisation": 1e-5}
    methods = ["cubic", "consistent cubic"]
    InterpolatedMethods(methods, record, str(ROOT / "configs/inference.yaml"), settings, ROOT).run()
    assert record.cases["a"].spacing_mm == pytest.approx([1, 1, 1], rel=0.1)
    Scoring(record, {m: tmp_path / "methods" / m for m in methods}, [Residual()], scores).run()
    assert {row.method: row.value for row in scores.rows}["consistent cubic"] < 1e-3


def test_cubic_must_be_there_to_compare_with(scoring):
    with pytest.raises(Refusal, match="cubic must be among"):
        scoring([], ["broken"])


def test_nothing_is_measured_where_the_truth_or_a_method_has_no_voxels(scoring, tmp_path):
    whole = nibabel.load(tmp_path / "cubic/a.nii.gz").get_fdata(dtype=np.float32)
    (tmp_path / "truth").mkdir()
    nibabel.save(nibabel.Nifti1Image(whole[..., :20], np.eye(4)), tmp_path / "truth/a.nii.gz")
    slices = whole.reshape(24, 24, 8, 4).mean(-1)
    nibabel.save(
        nibabel.Nifti1Image(slices, nibabel.load(tmp_path / "scans/a.nii.gz").affine), tmp_path / "scans/a.nii.gz"
    )
    step, record = scoring([Fidelity(), Residual()], ["cubic", "cropped"], replace(CASE, truth=True))
    step.run()
    assert record.cases["a"].status == "done", record.cases["a"].reason
    found = {(row.method, row.metric): row.value for row in step.scores.rows}
    for method in ("cubic", "cropped"):  # both are perfect where they and the truth are
        assert found[method, "psnr"] > 100
        assert found[method, "residual"] == pytest.approx(0, abs=1e-6)


def test_the_file_of_a_case_that_failed_is_not_taken_for_another(scoring, tmp_path):
    (tmp_path / "peer").mkdir()
    (tmp_path / "peer/a-2.nii.gz").write_bytes((tmp_path / "cubic/a.nii.gz").read_bytes())
    step, record = scoring([], ["cubic", "peer"])
    record.failed("a-2", "no slices")
    step.run()
    assert record.cases["a"].has_failed("peer")
