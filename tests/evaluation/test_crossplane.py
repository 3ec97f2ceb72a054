"""The cross-plane check: true detail scores above interpolation, invented detail does not; a known motion is found."""

import nibabel
import numpy as np
import pytest
import torch
from scipy import ndimage

from scripts.evaluation.cases import EvaluatedCase
from scripts.evaluation.crossplane import CrossPlaneCheck, Pair, high_band_coherence, local_correlation, reacquired
from scripts.evaluation.layout import all_methods
from scripts.evaluation.methods import InterpolatedMethods
from scripts.evaluation.record import EvaluationRecord
from scripts.evaluation.scores import Scores, read_scores
from scripts.evaluation.scoring import Scoring
from scripts.geometry.errors import Refusal
from scripts.geometry.grid import Grid
from scripts.phantom.abdomen import abdomen
from scripts.physics.acquisition import Acquisition, SliceGeometry
from scripts.physics.interpolation import CubicInterpolation
from scripts.stacks.registration import Registration
from tests.conftest import ROOT

FACTOR, SIZE = 5, 60
RNG = np.random.default_rng(0)
BODY = ndimage.gaussian_filter(RNG.normal(size=(SIZE,) * 3), 1.2).astype(np.float32)
GEOMETRY = SliceGeometry(SIZE, SIZE // FACTOR, FACTOR, FACTOR)
A = Acquisition(GEOMETRY)


def along(axis, operator, v):
    return np.moveaxis(operator(torch.from_numpy(np.ascontiguousarray(np.moveaxis(v, axis, -1)))).numpy(), -1, axis)


@pytest.fixture(scope="module")
def pair():
    """Evaluated scan: thick along axis 0. Reference scan: thick along axis 2, on the same voxels of the world."""
    slices = along(2, A, BODY)
    positions = np.stack(np.indices(BODY.shape)).astype(np.float32)
    return Pair(slices, np.ones(slices.shape, bool), positions, A, 0, 1.0, 0.5 / FACTOR)


def test_the_truth_acquired_again_gives_the_reference_slices(pair):
    np.testing.assert_allclose(reacquired(BODY, pair), pair.slices, atol=1e-3)
    assert local_correlation(pair.slices, pair) == pytest.approx(1, abs=1e-4)
    assert high_band_coherence(pair.slices, pair) == pytest.approx(1, abs=1e-6)


def test_real_detail_counts_and_invented_detail_does_not(pair):
    cubic = along(0, CubicInterpolation(GEOMETRY), along(0, A, BODY))
    other = ndimage.gaussian_filter(RNG.normal(size=BODY.shape), 1.2).astype(np.float32)
    invented = cubic + other - along(0, CubicInterpolation(GEOMETRY), along(0, A, other))
    half = (cubic + BODY) / 2
    found = {}
    for name, volume in (("cubic", cubic), ("invented", invented), ("half", half)):
        image = reacquired(volume, pair)
        found[name] = local_correlation(image, pair), high_band_coherence(image, pair)
    for number in (0, 1):
        assert found["half"][number] > found["cubic"][number] + 0.05
        assert found["invented"][number] < found["cubic"][number]
    assert abs(found["invented"][1]) < 0.15


def test_scale_and_offset_do_not_matter(pair):
    image = reacquired(ndimage.gaussian_filter(BODY, 0.7), pair)
    for measure in (local_correlation, high_band_coherence):
        assert measure(3 * image + 100, pair) == pytest.approx(measure(image, pair), abs=1e-3)


def test_lines_outside_the_common_field_of_view_do_not_count(pair):
    mask = np.zeros_like(pair.mask)
    mask[5:50, 10:40] = True
    part = pair._replace(mask=mask)
    wrong = pair.slices + np.where(mask, 0, 50 * RNG.normal(size=mask.shape))
    assert high_band_coherence(wrong, part) == pytest.approx(1, abs=1e-6)
    assert local_correlation(wrong, part) == pytest.approx(1, abs=1e-4)
    mask[:] = False
    mask[5:9, 10:40] = True
    with pytest.raises(Refusal, match="no line of 16"):
        high_band_coherence(wrong, pair._replace(mask=mask))


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """The steps of an evaluation on two orthogonal scans of one phantom, with the phantom itself as a method."""
    out, spacing_mm = tmp_path_factory.mktemp("crossplane"), 4.0
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = -90, -70, -85
    truth = abdomen(Grid((40, 36, 40), affine)).astype(np.float32)
    record, scores = EvaluationRecord(out, {}), Scores(out / "scores.csv")
    for folder in (record.folder.scans, out / "perfect"):
        folder.mkdir()
    for name, axis in (("axial", 2), ("sagittal", 0)):
        slices = np.moveaxis(truth, axis, -1)
        slices = np.moveaxis(slices.reshape(*slices.shape[:2], -1, FACTOR).mean(-1), -1, axis)
        thick = affine.copy()
        thick[:3, axis] *= FACTOR
        thick[axis, 3] += spacing_mm * (FACTOR - 1) / 2
        nibabel.save(nibabel.Nifti1Image(slices, thick), record.folder.scan_file(name))
        nibabel.save(nibabel.Nifti1Image(truth, affine), out / f"perfect/{name}.nii.gz")
        record.begin(EvaluatedCase(name))
    own = ["cubic", "consistent cubic"]
    methods = all_methods(out, own, {"perfect": out / "perfect"})
    InterpolatedMethods(own, record, str(ROOT / "configs/inference.yaml"), {}, ROOT).run()
    Scoring(record, methods, [], scores).run()
    return record, methods, scores


def test_scans_of_one_body_check_each_other_in_both_directions(evaluated):
    record, methods, scores = evaluated
    CrossPlaneCheck(record, methods, "*al", scores).run()
    found = {(row.case, row.method, row.metric): row.value for row in scores.rows}
    for case in ("axial against sagittal", "sagittal against axial"):
        for metric in ("cross_plane_correlation", "cross_plane_coherence"):
            values = [found[case, method, metric] for method in ("cubic", "consistent cubic", "perfect")]
            assert values == sorted(values)
            assert values[-1] > 0.9
    assert read_scores(scores.path) == scores.rows
    assert record.problems == []


def test_pairs_that_fit_no_scan_or_lack_the_aligning_method_are_problems(evaluated):
    record, methods, scores = evaluated
    before = list(scores.rows)
    CrossPlaneCheck(record, methods, [["axial", "coronal"]], scores).run()
    CrossPlaneCheck(record, methods, "ax*", scores).run()
    without = {name: folder for name, folder in methods.items() if name != "consistent cubic"}
    CrossPlaneCheck(record, without, [["axial", "sagittal"]], scores).run()
    for problem, line in zip(record.problems, ("one case each", "fewer than two", "aligned with it"), strict=True):
        assert line in problem
    assert scores.rows == before


def test_a_pair_whose_registration_failed_is_a_problem_without_scores(evaluated, monkeypatch):
    record, methods, scores = evaluated
    before, problems = list(scores.rows), len(record.problems)
    far = Registration(np.eye(4), 25.0, 1.0, 0.9, 0.5, 1.3, 1.0)
    monkeypatch.setattr("scripts.evaluation.crossplane.register", lambda *_: far)
    CrossPlaneCheck(record, methods, [["axial", "sagittal"]], scores).run()
    (problem,) = record.problems[problems:]
    assert "the registration failed: it found 25.0 degrees" in problem
    assert scores.rows == before


@pytest.mark.parametrize("pairs", [["axial"], [["axial", "sagittal", "coronal"]]])
def test_pairs_of_another_form_are_refused(tmp_path, pairs):
    with pytest.raises(Refusal, match="cross_plane must be"):
        CrossPlaneCheck(EvaluationRecord(tmp_path, {}), {}, pairs, Scores(tmp_path / "scores.csv"))


def test_the_edge_that_another_method_repeats_does_not_count(evaluated, tmp_path):
    record, methods, _ = evaluated
    (tmp_path / "cropped").mkdir()
    for name, axis in (("axial", 2), ("sagittal", 0)):
        image = nibabel.load(methods["perfect"] / f"{name}.nii.gz")
        nibabel.save(image.slicer[(slice(None),) * axis + (slice(0, 25),)], tmp_path / f"cropped/{name}.nii.gz")
        record.cases[name].outcome("cropped").status = "done"
    scores = Scores(tmp_path / "scores.csv")
    CrossPlaneCheck(record, {**methods, "cropped": tmp_path / "cropped"}, "*al", scores).run()
    found = {(row.case, row.method, row.metric): row.value for row in scores.rows}
    for (case, method, metric), value in found.items():
        if method == "cropped":
            assert value == pytest.approx(found[case, "perfect", metric], abs=0.01)
