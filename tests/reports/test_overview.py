"""The page about several scans: its order, its links and pictures, and that of a run on a folder."""

import contextlib
import sys
from dataclasses import replace
from pathlib import Path

import monai.bundle
import numpy as np
import pytest
from scipy import ndimage

from scripts.reports import overview
from scripts.reports.case_report import ReportedCase, write_case_report
from scripts.reports.overview import Glance, OverviewRow, write_overview
from scripts.run.record import Row
from tests.data.thick_scans import write_scan
from tests.workflows.tiny_inference import write_config

from ..chromium import Chromium, require_chromium
from .page_checks import BROKEN_WORDS, check_page
from .test_evaluation_report import ROW, scene


def row(folder: Path, name: str, uncertainty: float = 0.75, **more) -> OverviewRow:
    """The row of a scan whose page is in a folder."""
    made = replace(ROW, **{"case": name, "warnings": [], "residual": 0.01, **more})
    shown = scene(case=name, uncertainty=np.full((28, 30, 40), uncertainty, np.float32))
    return OverviewRow.of(made, write_case_report(folder, ReportedCase(made, shown)), folder)


def names(page) -> list[str]:
    links = [a["href"].removesuffix("_report.html") for a in page.all("a") if a["href"].endswith("_report.html")]
    assert links[::2] == links[1::2]  # the name and the picture of each scan
    return links[::2]


def test_the_order_is_by_warnings_then_residual_then_uncertainty(tmp_path):
    rows = [
        row(tmp_path, "fine"),
        row(tmp_path, "doubtful", uncertainty=1.4),
        row(tmp_path, "far off", residual=0.2),
        row(tmp_path, "above the noise", residual=0.02, residual_over_noise=1.7),
        row(tmp_path, "warned", warnings=["noise 0.2 is outside the trained range"]),
        OverviewRow(Row("other", "refused", "other.nii.gz: a 2-D image"), None, None),
        OverviewRow(replace(ROW, case="no page", warnings=[], residual=None), None, None),
    ]
    page = check_page(write_overview(tmp_path / "index.html", rows, "several"))
    assert names(page) == ["warned", "above%20the%20noise", "far%20off", "doubtful", "fine"]
    assert len(page.all("img")) == 5
    for words in ("a 2-D image", "noise 0.2 is outside the trained range", "20 % of the slices", "1.4 ", "1.70"):
        assert words in page.text


def test_at_1300_pixels_the_table_is_whole_and_no_heading_is_divided(tmp_path):
    require_chromium()
    warning = "noise (share of the intensity scale) 0.199 is outside the trained range 0 to 0.061: check it carefully"
    sizes = {
        "input": {"shape": [512, 512, 38], "spacing_mm": [0.3125, 0.3125, 3.0]},
        "output": {"shape": [512, 512, 365], "spacing_mm": [0.3125, 0.3125, 0.3125]},
    }
    rows = [row(tmp_path, "aniso_pelvis_t2_prostatex0218cor", warnings=[warning, warning], seconds=302.1, **sizes)]
    write_overview(tmp_path / "index.html", rows, "several")
    with Chromium(tmp_path / "browser", 1300, 900) as browser:
        browser.open(tmp_path / "index.html")
        table = "document.querySelector('table.overview').parentElement"
        assert browser.js(f"{table}.scrollWidth") <= browser.js(f"{table}.clientWidth")
        assert browser.js(BROKEN_WORDS) == []


def test_of_very_many_scans_the_most_doubtful_are_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(overview, "MOST", 2)
    rows = [OverviewRow(replace(ROW, case=f"scan{n}", residual=n / 100), None, None) for n in (3, 9, 1, 7)]
    rows += [OverviewRow(Row(f"bad{n}", "refused", "a 2-D image"), None, None) for n in range(3)]
    page = check_page(write_overview(tmp_path / "index.html", rows, "very many"))
    assert page.text.index("scan9") < page.text.index("scan7")
    assert "scan3" not in page.text
    assert "bad2" not in page.text
    assert "4 scans have a result, 3 have none" in page.text
    assert "the other 3 are in summary.json" in page.text


def test_the_glance_comes_from_the_page_and_from_no_other_file(tmp_path):
    page = write_case_report(tmp_path, ReportedCase(ROW, scene()))
    found = Glance.of_page(page)
    assert found.uncertainty == pytest.approx(0.75)
    assert found.picture.uri.startswith("data:image/webp;base64,")
    (tmp_path / "other.html").write_text("<p>another page")
    (tmp_path / "bytes.html").write_bytes(b"\xff\xfe\x00")
    assert [Glance.of_page(tmp_path / name) for name in ("other.html", "bytes.html", "absent.html")] == [None] * 3


def test_a_run_on_a_folder_with_reports_writes_the_overview(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for name, gain in (("a", 1.0), ("b&b", 2.0)):
        texture = ndimage.gaussian_filter(rng.normal(size=(40, 36, 9)), (1, 1, 0))
        data = np.pad(500 + 800 * texture, ((6, 6), (6, 6), (0, 0)))
        write_scan(tmp_path / "scans" / f"{name}.nii.gz", (gain * data).clip(0).astype(np.int16))
    write_scan(tmp_path / "scans" / "flat.nii.gz", np.zeros((40, 36, 2), np.int16))
    config, out = write_config(tmp_path), tmp_path / "out"
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(**settings):
        given = {"dataset_dir": str(tmp_path / "scans"), "output_dir": str(out), "views": [1]} | settings
        with contextlib.suppress(SystemExit):
            monai.bundle.run("inference", config_file=config, logging_file=False, **given)

    run(write=["volume"])
    assert not (out / "overview.html").exists()
    run(write="all")
    page = check_page(out / "overview.html")  # its links are there
    assert sorted(names(page)) == ["a/a", "b_b/b_b"]
    assert len(page.all("img")) == 2
    assert "flat" in page.text
    (out / "overview.html").unlink()
    run(write="all")  # all are done already: the overview has them all the same
    assert len(check_page(out / "overview.html").all("img")) == 2
