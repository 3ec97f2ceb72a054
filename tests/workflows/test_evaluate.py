"""The evaluation workflow as shipped, with a tiny generator: every method scored alike, failures listed by name."""

import json
import sys

import monai.bundle
import nibabel
import numpy as np
import pytest

from scripts.evaluation.scores import read_scores
from scripts.evaluation.statistics import read_statistics
from scripts.geometry.errors import Refusal
from scripts.geometry.grid import Grid
from scripts.phantom.abdomen import abdomen
from tests.conftest import ROOT
from tests.workflows.tiny_inference import write_config

OWN = {"nearest", "linear", "cubic", "consistent cubic", "GLADE"}
SPACING_MM = 5.0
MISSHAPEN = "aniso_small"  # a scan that the inference refuses


def save(path, volume, affine):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.asarray(volume, np.float32), affine), path)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """OUT of two calls: a near-isotropic scan in two protocols, a thick one, a bad one, and three other methods."""
    work, patch = tmp_path_factory.mktemp("evaluate"), pytest.MonkeyPatch()
    patch.setattr(sys, "path", list(sys.path))
    config = write_config(work)
    affine = np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])
    affine[:3, 3] = -90, -70, -85
    truth = abdomen(Grid((36, 28, 34), affine))
    save(work / "in/iso.nii.gz", truth, affine)
    thick = np.diag([SPACING_MM, SPACING_MM, 4 * SPACING_MM, 1.0])
    thick[:3, 3] = affine[:3, 3]
    save(work / "in/aniso.nii.gz", truth[..., 1::4], thick)
    save(work / f"in/{MISSHAPEN}.nii.gz", truth[..., 1:13:4], thick)
    for case, size in (("iso_3x_rect", 33), ("iso_4x_gauss_as-rect", 32)):
        save(work / f"perfect/{case}.nii.gz", truth[..., 1:size], _shifted(affine, [0, 0, SPACING_MM]))
    broken = truth[..., :33].copy()
    broken[3, 4, 5] = np.nan
    save(work / "broken/iso_3x_rect_broken.nii.gz", broken, affine)
    save(work / "broken/iso_4x_gauss_as-rect.nii.gz", truth, _shifted(affine, [999, 0, 0]))

    def run(**settings):
        given = {
            "bundle_root": str(ROOT),
            "dataset_dir": str(work / "in"),
            "output_dir": str(work / "out"),
            "inference_config": config,
            "inference": {"regularisation": 1e-5},  # exact, so that the residual shows the wrong profile alone
            "protocols": [
                {"factor": 3, "profile": "rect"},
                {"factor": 4, "profile": "gauss", "assumed_profile": "rect"},
            ],
            "others": {"perfect": str(work / "perfect"), "broken": str(work / "broken")},
            "report": False,
            "borders": {"iso*": {"seed_mm": [0.0, 0.0, 0.0]}, "aniso": {"seed_mm": [900.0, 0.0, 0.0]}},
            **settings,
        }
        with pytest.raises(SystemExit) as ended:
            monai.bundle.run("evaluation", config_file=str(ROOT / "configs/evaluate.yaml"), logging_file=False, **given)
        return ended.value.code

    out = work / "out"
    first = run(protocols=[{"factor": 3, "profile": "rect"}], others={}, borders={}, report=True)
    pages = len(list(out.glob("report.html")))
    result = next(out.glob("methods/GLADE/iso_3x_rect/*_glade.nii.gz"))
    before = result.stat().st_mtime_ns
    codes = [first, run()]
    patch.undo()
    return {"out": out, "codes": codes, "pages": pages, "kept": before == result.stat().st_mtime_ns}


def _shifted(affine, by_mm):
    moved = affine.copy()
    moved[:3, 3] += by_mm
    return moved


@pytest.fixture(scope="module")
def record(evaluated):
    content = json.loads((evaluated["out"] / "cases.json").read_text())
    return {**content, "cases": {row["case"]: row for row in content["cases"]}}


@pytest.fixture(scope="module")
def scores(evaluated):
    return {(r.case, r.method, r.metric, r.axis): r.value for r in read_scores(evaluated["out"] / "scores.csv")}


def test_every_method_writes_a_volume_on_the_same_grid(evaluated):
    for case, size in (("iso_3x_rect", 33), ("iso_4x_gauss_as-rect", 32), ("aniso", 36)):
        files = [evaluated["out"] / f"methods/{method}/{case}.nii.gz" for method in OWN - {"GLADE"}]
        images = [nibabel.load(f) for f in (*files, evaluated["out"] / f"methods/GLADE/{case}/{case}_glade.nii.gz")]
        assert {image.shape for image in images} == {(36, 28, size)}
        assert all(np.allclose(image.affine, images[0].affine, atol=1e-4) for image in images)


def test_the_record_tells_what_was_done(record):
    rows = record["cases"]
    assert {name: row["status"] for name, row in rows.items()} == {
        "aniso": "done",
        MISSHAPEN: "failed",
        "iso_3x_rect": "done",
        "iso_4x_gauss_as-rect": "done",
    }
    assert "slices" in rows[MISSHAPEN]["reason"]
    mismatch = rows["iso_4x_gauss_as-rect"]
    assert (mismatch["source"], mismatch["profile"], mismatch["assumed_profile"]) == ("iso", "gauss", "rect")
    assert mismatch["spacing_mm"] == pytest.approx([SPACING_MM] * 3)
    assert (rows["aniso"]["truth"], rows["aniso"]["factor"]) == (False, pytest.approx(4))
    assert len(record["weights_sha256"]) == 64
    assert record["sharpness"] == {"GLADE": 0}  # the shipped sharp weights do not belong to the tiny ones
    assert record["settings"]["against"] == ["consistent cubic"]
    assert record["versions"]["glade"]


def test_failures_are_named_and_the_exit_code_is_not_0(evaluated, record):
    assert evaluated["codes"] == [1, 1]
    rows = record["cases"]
    assert "NaN" in rows["iso_3x_rect"]["methods"]["broken"]["reason"]
    assert "covers 0%" in rows["iso_4x_gauss_as-rect"]["methods"]["broken"]["reason"]
    assert "no aniso.nii.gz" in rows["aniso"]["methods"]["perfect"]["reason"]
    assert any("outside the volume" in line for line in record["problems"])


def test_finished_cases_are_not_inferred_again_when_protocols_are_added(evaluated):
    assert evaluated["kept"]


def test_the_report_is_the_last_step_where_it_is_asked_for(evaluated):
    assert evaluated["pages"] == 1


def test_scores_order_the_methods_as_they_must(scores):
    for case in ("iso_3x_rect", "iso_4x_gauss_as-rect"):
        by = {method: scores[case, method, "psnr", ""] for method in (*OWN, "perfect")}
        assert by["perfect"] == np.inf
        assert by["consistent cubic"] > by["nearest"]
        assert scores[case, "perfect", "high_band_error", ""] == pytest.approx(0, abs=1e-9)
    # consistent with the profile that it assumes, measured with the true one
    assert scores["iso_3x_rect", "consistent cubic", "residual", ""] < 1e-4
    assert 1e-3 < scores["iso_4x_gauss_as-rect", "consistent cubic", "residual", ""] < 0.3
    assert scores["aniso", "cubic", "sharpness_closed", ""] == 0


def test_truth_is_needed_for_what_needs_it(scores):
    metrics = {case: {m for c, _, m, _ in scores if c == case} for case in ("aniso", "iso_3x_rect")}
    assert {"psnr", "ssim", "nrmse", "hfen", "high_band_error", "uncertainty_rank_correlation"} <= metrics[
        "iso_3x_rect"
    ]
    assert {"pique", "edge", "sharpness_closed", "spectrum_closed", "residual"} <= metrics["aniso"]
    assert not {"psnr", "high_band_error", "uncertainty_rank_correlation"} & metrics["aniso"]
    assert {m for c, m, metric, _ in scores if metric.startswith("uncertainty")} == {"GLADE"}


def test_the_mask_is_what_every_method_covers_and_the_window_one(record, scores):
    for row in record["cases"].values():
        assert row["status"] == "failed" or row["window"][0] < row["window"][1]
    # perfect lacks the first plane: it is scored where it has voxels, and is without error there
    assert np.isinf(scores["iso_3x_rect", "perfect", "psnr", ""])


def test_statistics_follow_the_scores(evaluated, scores):
    found = read_statistics(evaluated["out"] / "statistics.csv")
    mean = [s for s in found if (s.method, s.metric, s.factor, s.against) == ("GLADE", "psnr", "3", "")]
    assert [s.mean for s in mean] == [pytest.approx(scores["iso_3x_rect", "GLADE", "psnr", ""])]
    pooled = [s for s in found if (s.method, s.metric, s.axis, s.factor) == ("cubic", "pique", "", "all")]
    assert {s.profile: s.n for s in pooled} == {"simulated": 1, "real": 1}


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"others": "x"}, "others must be"),
        ({"protocols": [{"factor": 0.5, "profile": "rect"}]}, "factor must be above 1"),
        ({"borders": {"*": {"seed": 1}}}, "borders"),
        ({"interpolations": ["nearest"]}, "cubic must be among"),
        ({"interpolations": ["cubic", "lanczos"]}, "interpolations must be"),
        ({"against": 5}, "against must be"),
        ({"cross_plane": ["a"]}, "cross_plane must be"),
        ({"sharpness_values": [2]}, "sharpness_values must be"),
        ({"dataset_dir": None}, "no scan to evaluate"),
    ],
)
def test_wrong_settings_stop_with_one_line(tmp_path, settings, line):
    save(tmp_path / "in/scan.nii.gz", np.ones((4, 4, 4)), np.eye(4))
    places = {"dataset_dir": str(tmp_path / "in"), "output_dir": str(tmp_path / "out")}
    given = {"bundle_root": str(ROOT), **places, **settings}
    with pytest.raises((Refusal, RuntimeError, ValueError)) as error:
        monai.bundle.run("evaluation", config_file=str(ROOT / "configs/evaluate.yaml"), logging_file=False, **given)
    chain, step = [], error.value
    while step is not None:
        chain.append(str(step))
        step = step.__cause__
    assert any(line in text for text in chain)
    assert not (tmp_path / "out").exists()  # refused before the first step
