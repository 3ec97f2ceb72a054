import json
import sys

import monai.bundle
import nibabel
import numpy as np
import pytest
from monai.bundle import ConfigParser

from apps.demo import __main__ as demo
from apps.demo import report as reporting
from apps.demo import scans
from apps.demo.scans import copy_example, make_phantom
from scripts.dicom.discovery import find_series
from tests.reports.page_checks import check_page
from tests.workflows.tiny_inference import write_config


def test_phantom_becomes_one_dicom_series_and_a_truth_beside_it(tmp_path):
    scan = make_phantom(tmp_path / "scans" / "phantom", tmp_path / "truth" / "t.nii.gz", shape=(20, 16, 45))
    cases = find_series(tmp_path / "scans")
    assert len(cases) == 1
    assert cases[0].refusal is None
    assert len(cases[0].files) == scan.slices.shape[2] == 12
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
    assert list(taken[0][2]) == ["--weights_path", "w.pt"]


@pytest.mark.parametrize("given", [["--write", "volume"], ["--write=volume"], ["--set", "write=volume"]])
def test_the_choice_of_what_is_written_is_refused_before_the_inference(tmp_path, monkeypatch, capsys, given):
    monkeypatch.setattr(demo, "infer", lambda *_: pytest.fail("the inference was begun"))
    assert demo.main(["--scan", str(tmp_path), "--output_dir", str(tmp_path / "out"), *given]) == 2
    assert capsys.readouterr().err.startswith("demo: --write: ")


def test_the_inference_is_that_of_the_command_glade(tmp_path, capfd):
    """A quick refusal: it shows that the scan, the output and the settings arrive as options of the command."""
    (tmp_path / "scan.nii").write_text("no image")
    assert demo.infer(tmp_path / "nothing", tmp_path / "out", []) == 1
    assert capfd.readouterr().err.startswith(f"refused: no such file or folder: {tmp_path / 'nothing'}")
    assert demo.infer(tmp_path / "scan.nii", tmp_path / "scan.nii", ["--weights_path", "w.pt"]) == 1
    assert capfd.readouterr().err.startswith(f"refused: the output folder {tmp_path / 'scan.nii'} cannot be made")
    assert demo.infer(tmp_path / "scan.nii", tmp_path / "out", ["--weights_path", "3"]) == 1
    assert capfd.readouterr().err.startswith("refused: weights_path is a path")


def test_every_input_has_a_folder_of_its_own_also_in_a_later_call(tmp_path):
    scans = [tmp_path / "a" / "knee.nii.gz", tmp_path / "b" / "knee.nii.gz", tmp_path / "series"]
    for scan in scans[:2]:
        scan.parent.mkdir()
        scan.write_text("x")
    scans[2].mkdir()
    names = [demo.folder_of(tmp_path / "out", scan).name for scan in (*scans, None)]
    assert names == ["knee", "knee-2", "series", "examples"]
    assert [demo.folder_of(tmp_path / "out", scan).name for scan in (*scans, None)] == names
    foreign = tmp_path / "other" / "knee"
    foreign.mkdir(parents=True)
    assert demo.folder_of(tmp_path / "other", scans[0]).name == "knee-2"
    assert list(foreign.iterdir()) == []


def test_report_names_what_was_refused(tmp_path, monkeypatch):
    settings = {"isotropic_spacing_mm": 1.5, "detail": 0.5}
    row = {
        "case": "a",
        "settings": settings,
        "status": "refused",
        "reason": "a.nii.gz: a 2-D image",
        "input": {"format": "nifti"},
    }
    (tmp_path / "summary.json").write_text(json.dumps({"cases": [row, {**row, "case": "of_an_earlier_run"}]}))

    class OneCase:
        def __init__(self, config, scan, overrides):
            self.cases = {"a": {}}
            assert overrides == settings  # of the run's own record

    monkeypatch.setattr(reporting, "Baselines", OneCase)
    lines = reporting.report(tmp_path, tmp_path, tmp_path, tmp_path / "index.html", None)
    assert lines[-1] == "a: refused: a.nii.gz: a 2-D image"
    assert not any("earlier" in line for line in lines)
    page = check_page(tmp_path / "index.html")
    assert "a.nii.gz: a 2-D image" in page.text
    assert "earlier" not in page.text


def test_demo_measures_the_phantom_against_its_truth_and_writes_its_pages(tmp_path, monkeypatch, capsys):
    """The shipped workflow with a tiny generator, in this process, on a small phantom."""
    config = write_config(tmp_path)
    merged = ConfigParser.load_config_files(config)
    whole = tmp_path / "whole.json"
    ConfigParser.export_config_file(merged, whole)
    small = {"shape": (56, 48, 60)}
    monkeypatch.setattr(scans, "make_phantom", lambda *places: make_phantom(*places, **small))
    monkeypatch.setattr(scans, "copy_example", lambda *_: None)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def infer(scan, results, overrides):
        given = {"dataset_dir": str(scan), "output_dir": str(results), "views": [1]}
        monai.bundle.run("inference", config_file=str(whole), logging_file=False, **given)
        return 0

    monkeypatch.setattr(demo, "infer", infer)
    out = tmp_path / "out"
    assert demo.run(out, whole, None) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if line.startswith("demo: ")] == [
        "demo: loading ...",
        "demo: making the phantom and its thick slices ...",
        "demo: making the isotropic volumes ...",
        "demo: measuring and drawing 001_coronal_VIBE ...",
    ]
    table = check_page(out / "examples" / "index.html")
    assert len(table.all("img")) == 1
    assert "whose truth is known" in table.text
    link = table.all("a")[-1]["href"]
    folder, name = link.rsplit("/", 2)[-2:]
    assert name == f"{folder}_report.html"
    assert (out / "examples" / "results" / folder / f"{folder}_glade.nii.gz").is_file()
    assert any(line.startswith(f"{folder}, the phantom, against its truth") for line in printed)
    assert any(line.startswith(f"{folder} (phantom) ") for line in printed)
    assert max(map(len, printed)) <= 120
    page = check_page(out / "examples" / link)
    assert len(page.all("img")) == 3 * 8 + 3  # with the truth and the differences to it, and the bars of their colours
    for words in ("PSNR", "High-band error", "consistent cubic", "whose truth is known", "DICOM SliceThickness"):
        assert words in page.text
    assert str(tmp_path) not in page.text
