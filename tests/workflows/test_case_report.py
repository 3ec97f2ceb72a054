"""The report of one scan, as the shipped workflow writes it: with the other files of the case, or not at all."""

import contextlib
import json
import sys

import monai.bundle
import nibabel
import numpy as np
import pytest
from scipy import ndimage

from scripts.reports import case_report
from tests.data.thick_scans import write_scan
from tests.reports.page_checks import check_page
from tests.workflows.tiny_inference import write_config


@pytest.fixture
def infer(tmp_path, monkeypatch):
    """Runs the inference on one scan with a name that HTML must escape; returns its row and folder."""
    texture = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(40, 36, 9)), (1, 1, 0))
    data = np.pad(500 + 800 * texture, ((6, 6), (6, 6), (0, 0))).clip(0).astype(np.int16)
    write_scan(tmp_path / "scans" / "a&b.nii.gz", data)
    config = write_config(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(**settings):
        given = {"dataset_dir": str(tmp_path / "scans"), "output_dir": str(tmp_path / "out")} | settings
        with contextlib.suppress(SystemExit):
            monai.bundle.run("inference", config_file=config, logging_file=False, **given)
        row = json.loads((tmp_path / "out" / "summary.json").read_text())["cases"][0]
        return row, tmp_path / "out" / row["case"]

    return run


@pytest.mark.parametrize("asked", [["volume", "report"], "all"])
def test_a_report_that_is_asked_for_is_in_the_folder_of_the_case(infer, tmp_path, asked):
    row, folder = infer(write=asked, views=[1])
    case = row["case"]
    assert f"{case}/{case}_report.html" in row["files"]
    page = check_page(folder / f"{case}_report.html")
    expected = (
        case,
        "52 × 48 × 9 voxels of 1 × 1 × 4 mm",  # noqa: RUF001
        "52 × 48 × 36 voxels of 1 × 1 × 1 mm",  # noqa: RUF001
        "4 mm (unknown, taken equal to the slice spacing)",
        row["weights_sha256"],
        "PIQUE",
        "Relative edge sharpness",
        *row["warnings"],
    )
    assert [words for words in expected if words not in page.text] == []
    assert str(tmp_path) not in page.text
    assert len(page.all("img")) == 3 * 5 + 3  # and the bars of their colours
    assert row["residual_over_noise"] < 1
    scan = nibabel.load(tmp_path / "scans" / "a&b.nii.gz").get_fdata()
    assert row["input"]["intensities"] == [scan.min(), scan.max()]
    result = nibabel.load(folder / f"{case}_glade.nii.gz")
    found = [result.get_fdata().min(), result.get_fdata().max()]
    assert row["output"]["intensities"] == pytest.approx(found, abs=float(result.dataobj.slope))  # stored in steps
    assert found[0] < scan.min()
    low, high = (f"{value:.6g}".replace("-", "−") for value in row["output"]["intensities"])  # noqa: RUF001
    assert f"{scan.min():.0f} to {scan.max():.0f} acquired, {low} to {high} made" in page.text


@pytest.mark.parametrize("asked", [None, ["volume"]])
def test_no_report_without_asking(infer, asked, monkeypatch):
    monkeypatch.setattr(case_report, "write_case_report", None)  # would fail if it were called
    row, folder = infer(views=[1], **({} if asked is None else {"write": asked}))
    assert row["status"] == "done"
    assert not list(folder.glob("*.html"))


def test_a_report_that_cannot_be_written_leaves_nothing_of_the_case(infer, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(case_report, "write_text", full)
    row, folder = infer(write="all", views=[1])
    assert row["status"] == "failed"
    assert "No space left" in row["reason"]
    assert not folder.exists()
    assert not list(folder.parent.glob(".*partial"))
