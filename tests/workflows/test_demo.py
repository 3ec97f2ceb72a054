import json

import nibabel
import numpy as np
import pytest

from apps.demo import __main__ as demo
from apps.demo import report as reporting
from apps.demo.page import write_page
from apps.demo.scans import copy_example, make_phantom
from scripts.clinic.discovery import find_series


def test_phantom_becomes_one_dicom_series_and_a_truth_beside_it(tmp_path):
    scan = make_phantom(tmp_path / "scans" / "phantom", tmp_path / "truth" / "t.nii.gz", shape=(20, 16, 45))
    cases = find_series(tmp_path / "scans")
    assert len(cases) == 1
    assert cases[0]["refusal"] is None
    assert len(cases[0]["image"]) == scan.slices.shape[2] == 12
    truth = nibabel.load(tmp_path / "truth" / "t.nii.gz")
    np.testing.assert_allclose(truth.get_fdata(), scan.truth)


def test_default_phantom_comes_back_on_its_own_grid():
    from apps.demo.scans import PHANTOM_SHAPE, PHANTOM_SPACING_MM, SLICE_SPACING_MM

    slices = round(PHANTOM_SHAPE[2] * PHANTOM_SPACING_MM / SLICE_SPACING_MM)
    assert slices * SLICE_SPACING_MM / PHANTOM_SPACING_MM == pytest.approx(PHANTOM_SHAPE[2])


def test_example_is_small_real_and_cut_losslessly(tmp_path):
    example = demo.ROOT / "docs" / "example"
    file = example / "pelvis_t2_coronal.nii.gz"
    assert file.stat().st_size < 3e6
    copy_example(example, tmp_path)
    whole, middle = nibabel.load(file), nibabel.load(tmp_path / file.name)
    assert (tmp_path / "pelvis_t2_coronal.json").exists()
    assert middle.shape == (240, 240, 19)
    np.testing.assert_array_equal(middle.dataobj, np.asarray(whole.dataobj)[40:280, 40:280])
    np.testing.assert_allclose(middle.affine @ [0, 0, 0, 1], whole.affine @ [40, 40, 0, 1], atol=1e-4)


def test_demo_ends_with_the_code_of_the_inference_and_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "infer", lambda *_: 7)
    assert demo.main(["--scan", str(tmp_path), "--output_dir", str(tmp_path / "out")]) == 7
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "exit code 7" in error


def test_demo_hands_overrides_to_the_inference(tmp_path, monkeypatch):
    taken = []
    monkeypatch.setattr(demo, "infer", lambda *given: taken.append(given) or 0)
    demo.main(["--scan", str(tmp_path), "--output_dir", str(tmp_path), "--weights_path", "w.pt"])
    assert list(taken[0][3]) == ["--weights_path", "w.pt"]


def test_truth_is_turned_to_the_array_order_of_the_result():
    affine = np.array([[-1.6, 0, 0, 5], [0, 0, -1.6, 7], [0, -1.6, 0, 9], [0, 0, 0, 1]])
    truth = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    turned = nibabel.as_closest_canonical(nibabel.Nifti1Image(truth, affine))
    same = reporting.on_grid_of((turned.get_fdata(), turned.affine), (truth, affine))
    np.testing.assert_array_equal(same, truth)
    with pytest.raises(ValueError, match="another grid"):
        reporting.on_grid_of((truth, affine), (truth[:1], affine))


def test_report_names_what_was_refused(tmp_path, monkeypatch):
    row = {"case": "a", "status": "refused", "reason": "a.nii.gz: a 2-D image", "input": {"format": "nifti"}}
    (tmp_path / "summary.json").write_text(json.dumps({"cases": [row, {**row, "case": "of_an_earlier_run"}]}))

    class OneCase:
        def __init__(self, config, scan):
            self.cases = {"a": {}}

    monkeypatch.setattr(reporting, "Baselines", OneCase)
    lines, pictures = reporting.report(tmp_path, tmp_path, tmp_path, tmp_path, None)
    assert lines[-1] == "a: refused: a.nii.gz: a 2-D image"
    assert not pictures
    assert not any("earlier" in line for line in lines)


def test_page_shows_table_and_pictures(tmp_path):
    page = write_page(tmp_path / "index.html", ["a < b"], [tmp_path / "pictures" / "x.png"]).read_text()
    assert "a &lt; b" in page
    assert 'src="pictures/x.png"' in page
