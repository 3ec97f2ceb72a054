import json
import re
from urllib.parse import unquote

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from scripts.evaluation.cases import EvaluatedCase
from scripts.evaluation.record import EvaluationRecord
from scripts.evaluation.scores import Row, Scores
from scripts.evaluation.statistics import Origin, Statistics, statistics
from scripts.geometry.errors import Refusal
from scripts.geometry.grid import Grid
from scripts.reports import case_report
from scripts.reports.case_report import ReportedCase, write_case_report
from scripts.reports.evaluation_report import Point, charts_of, write_evaluation_report
from scripts.reports.explained import number, ordered, ordered_metrics, title_of
from scripts.reports.scene import Scene, along, steepest_voxel
from scripts.reports.tiles import fitted
from scripts.run.record import Row as RunRow

from ..chromium import Chromium, require_chromium
from ..metrics.oracles import ball, block_average, consistent, cubic_spline
from .page_checks import BROKEN_WORDS, TELEPHONE, check_page, in_browser

FACTOR = 4
BARS = 3  # of colours: images, added detail and differences, uncertainty
METHODS = ("nearest", "cubic", "consistent cubic", "GLADE")
EVIL = "<script>alert('x')</script> & 5 > 3 in /home/somebody/secret/scan.nii.gz"
THIN = np.array([[-1.0, 0, 0, 20], [0, 1.0, 0, -14], [0, 0, 1.0, -20], [0, 0, 0, 1]])
THICK = THIN @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, FACTOR, (FACTOR - 1) / 2], [0, 0, 0, 1]])


def volumes(seed=0) -> dict[str, np.ndarray]:
    """A textured ball in air, its slices, and the results of the methods."""
    texture = np.random.default_rng(seed).normal(size=(28, 30, 40))
    truth = (500.0 + 40 * texture) * (ball((28, 30, 40), 12.0) < 0) + 5
    slices = block_average(truth, FACTOR)
    cubic = cubic_spline(slices, FACTOR)
    return {
        "truth": truth,
        "slices": slices,
        "nearest": np.repeat(slices, FACTOR, axis=-1),
        "cubic": cubic,
        "consistent cubic": consistent(cubic, slices, FACTOR),
        "GLADE": consistent(0.5 * (cubic + truth), slices, FACTOR),
    }


def save(values, affine, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), affine), path)


def row(case, source, truth=True, **more) -> dict:
    known = {"factor": 4, "profile": "rect", "assumed_profile": "gauss", "thickness_over_spacing": 1.0, "noise": 0.02}
    grid = {"through_plane_axis": 2, "spacing_mm": [1, 1, 1], "slice_spacing_mm": 4.0, "window": [0, 600]}
    return {"case": case, "source": source, "truth": truth, **known, **grid, "status": "done", "reason": None, **more}


def test_the_mean_in_the_scatter_chart_counts_each_scan_once():
    measured = {"膝_4x": (30.0, 0.5), "膝_6x": (26.0, 0.3), "头_4x": (20.0, 0.1)}
    rows = [
        Row(case, "GLADE", 4.0, "rect", metric, "", value, "1")
        for case, values in measured.items()
        for metric, value in zip(("psnr", "high_band_energy"), values, strict=True)
    ]
    found = statistics(rows, (), {case: Origin(case[0], "simulated") for case in measured})
    places = {case: f"case-{number}" for number, case in enumerate(measured)}
    (series,) = charts_of(rows, found, places).series
    assert series.mean[:3] == ("mean", pytest.approx(0.25), pytest.approx(24.0))  # of 0.4 and 0.1, of 28 and 20
    assert series.points[1] == Point("膝_6x", 0.3, 26.0, "case-1")  # "4x" and "6x" are all that ids of names would keep


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """OUT of an evaluation: two acquisitions of one scan, a real one, and a case that failed."""
    out = tmp_path_factory.mktemp("evaluation")
    cases = [row("knee_4x", "knee"), row("knee_4x_noise", "knee"), row("real <b>", "real <b>", truth=False)]
    for seed, case in enumerate(cases):
        name, made = case["case"], volumes(seed)
        save(made["slices"], THICK, out / "scans" / f"{name}.nii.gz")
        if case["truth"]:
            save(made["truth"], THIN, out / "truth" / f"{name}.nii.gz")
        for method in METHODS[:-1]:
            save(made[method], THIN, out / "methods" / method / f"{name}.nii.gz")
        ours = out / "methods" / "GLADE" / name
        save(made["GLADE"], THIN, ours / f"{name}_glade.nii.gz")
        save(made["GLADE"] - made["consistent cubic"], THIN, ours / f"{name}_added_detail.nii.gz")
        save(np.full(made["GLADE"].shape, 0.75), THIN, ours / f"{name}_uncertainty.nii.gz")
        save(made["cubic"], THIN, out / "methods" / "of an earlier call" / f"{name}.nii.gz")
        case["methods"] = {method: {"status": "done", "reason": None} for method in METHODS}
    cases[0]["methods"]["ECLARE"] = {"status": "failed", "reason": "no file of that name"}
    cases[2]["undefined"] = [{"method": "GLADE", "measure": "SlicePeriod", "reason": "too few slices"}]
    cases.append(row("bad", "bad", truth=False, status="failed", reason=EVIL))
    content = {
        "command": "python -m monai.bundle run evaluation --dataset_dir /mnt/disk/scans --output_dir=/tmp/x/out",
        "versions": {"glade": "9.8.7", "torch": "1.2.3"},
        "weights_sha256": "ab" * 32,
        "settings": {"inference": {"sharpness": 0.25}, "others": {}, "protocols": [{"factor": 4}]},
        "problems": ["cross plane: /data/private/a.nii.gz lies elsewhere"],
        "cases": cases,
    }
    (out / "cases.json").write_text(json.dumps(content))
    rng = np.random.default_rng(0)
    scores = [
        Row(case["case"], method, 4.0, "rect", metric, axis, float(rng.uniform(0.2, 0.9)), unit)
        for case in cases[:3]
        for method in METHODS
        for metric, axis, unit in (
            ("novel_measure", "", "1"), ("psnr", "", "dB"), ("high_band_energy", "", "1"), ("residual", "", "1"),
            ("edge", "2", "1/mm"),
        )
        if case["truth"] or metric not in ("psnr", "high_band_energy")
    ]  # fmt: skip
    record, collected = EvaluationRecord(out, {}), Scores(out / "scores.csv")
    for case in cases:
        record.begin(EvaluatedCase(case["case"], case["source"], case["truth"]))
    collected.add(scores)
    Statistics(record, collected, ["consistent cubic"]).run()
    write_evaluation_report(out)
    return out


@pytest.fixture
def copied(original, tmp_path):
    """A copy (hard links) from which files can be removed."""
    out = tmp_path / "out"
    for file in original.rglob("*.*"):
        if file.is_file():
            target = out / file.relative_to(original)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(file)
    return out


def test_the_page_shows_every_case_method_reason_and_how_it_was_made(original):
    page = check_page(original / "report.html")
    cases = ("knee_4x", "knee_4x_noise", "real <b>", "bad")
    for words in (
        *cases,
        *METHODS,
        "9.8.7",
        "ab" * 32,
        "sharpness 0.25",
        "novel measure",
        "Edge steepness, axis 2, 1/mm",
    ):
        assert words in page.text, words
    assert "<script>alert('x')</script> & 5 > 3 in …/scan.nii.gz" in page.text
    assert "no file of that name" in page.text
    assert "too few slices" in page.text
    assert "--dataset_dir …/scans --output_dir=…/out" in page.text
    assert "4 cases of 3 scans · 2 with a truth · 4 methods · 1 failed" in page.text


def test_the_page_shows_no_path_of_the_machine(original):
    text = check_page(original / "report.html").text
    for part in ("/home", "somebody", "secret", "/mnt", "/tmp", "private", str(original)):
        assert part not in text


def test_tables_hold_the_numbers_of_the_files(original):
    text = check_page(original / "report.html").text
    statistics = (original / "statistics.csv").read_text().splitlines()[1:]
    lines = [line.split(",") for line in statistics if line.startswith("psnr") and ",all," in line]
    assert len(lines) == 7  # of the simulated: four means and three differences to consistent cubic
    for line in lines:
        assert number(float(line[8]), "psnr", signed=bool(line[6])) in text


def test_every_case_has_its_figure_profile_and_spectrum(original):
    page = check_page(original / "report.html")
    alts = [image["alt"] for image in page.all("img")]
    with_truth = ["as acquired", "cubic", "GLADE", "truth", "added detail", "uncertainty"]
    with_truth += ["cubic − truth", "GLADE − truth"]  # noqa: RUF001
    for view in ("sagittal", "coronal", "axial"):
        for tile in with_truth:
            assert f"knee_4x: {tile}, {view} plane" in alts
        for tile in ("as acquired", "cubic", "GLADE", "added detail", "uncertainty"):
            assert f"real <b>: {tile}, {view} plane" in alts
    assert len(alts) == 3 * (8 + 8 + 5) + 3 * BARS
    labels = " ".join(svg["aria-label"] for svg in page.all("svg"))
    assert labels.count("intensities across an edge") == labels.count("power spectra") == 3
    assert len([canvas for canvas in page.all("canvas") if "Fidelity against" in canvas["aria-label"]]) == 1
    assert "One intensity window for all: 0 to 600" in page.text


def test_a_case_with_pictures_has_its_viewer_beside_the_report(original):
    page = check_page(original / "report.html")  # which checks that the links lead to files
    links = [unquote(anchor["href"]) for anchor in page.all("a") if not anchor["href"].startswith("#")]
    assert links == [f"viewers/{case}_viewer.html" for case in ("knee_4x", "knee_4x_noise", "real <b>")]
    alone = check_page(original / links[0])
    assert [anchor["href"] for anchor in alone.all("a")] == ["../report.html"]
    content = json.loads(re.search('id="viewer-content">(.*?)</script>', (original / links[0]).read_text()).group(1))
    names = ["as acquired", "cubic", "GLADE", "truth"]
    assert [image["name"] for image in content["images"]] == names
    assert [overlay["name"] for overlay in content["overlays"]] == ["added detail", "uncertainty"]


def test_charts_show_values_on_hovering_and_tables_sort_and_filter(original, tmp_path):
    require_chromium()
    with Chromium(tmp_path / "browser", 1400, 1000) as browser:
        browser.open(original / "report.html")
        browser.wait("document.body.dataset.charts === '2'", 120)
        assert browser.js("document.getElementById('charts-box').hidden") is False
        scatter = "Chart.getChart('charts-scatter')"
        assert browser.js(f"{scatter}.data.datasets.length") == 2 * len(METHODS)  # the mean and the cases of each
        where = f"(c => {{ const p = c.getDatasetMeta({len(METHODS)}).data[0], b = c.canvas.getBoundingClientRect(); "
        where += "c.canvas.scrollIntoView({block: 'center'}); const d = c.canvas.getBoundingClientRect(); "
        x, y = browser.js(f"{where} return [d.left + p.x, d.top + p.y]; }})({scatter})")
        browser.move(x, y)
        said = browser.wait(f"{scatter}.tooltip.opacity > 0 && {scatter}.tooltip.body.flatMap(one => one.lines).join()")
        assert "nearest, knee_4x" in said
        measures = browser.js("[...document.getElementById('charts-measure').options].map(one => one.textContent)")
        assert any("PSNR" in title for title in measures)
        every = "t => t.caption.textContent.startsWith('Every case')"
        table = f"[...document.querySelectorAll('.scroll > table')].find({every})"
        psnr = f"[...({table}).tHead.rows[0].cells].findIndex(c => c.textContent.startsWith('PSNR'))"
        column = f"[...({table}).tBodies[0].rows].map(r => r.cells[{psnr}].textContent)"
        before = browser.js(column)
        browser.js(f"({table}).tHead.rows[0].cells[{psnr}].querySelector('button').click()")
        numbers = sorted((value for value in before if value[0].isdigit()), key=float)
        assert [value for value in browser.js(column) if value[0].isdigit()] == numbers
        shown = f"[...({table}).tBodies[0].rows].filter(r => !r.hidden).length"
        browser.js(
            f"(f => {{ f.value = 'knee_4x_noise glade'; f.dispatchEvent(new Event('input')); }})"
            f"(({table}).parentElement.previousElementSibling.querySelector('input'))"
        )
        assert browser.js(shown) == 1
        assert {address.split(":")[0] for address in browser.requests} <= {"file", "data"}


def test_figures_are_limited_for_acquisitions_of_one_scan(original, copied):
    write_evaluation_report(copied, figures_per_source=1)
    page = check_page(copied / "report.html")
    cases = {image["alt"].split(":")[0] for image in page.all("img") if ":" in image["alt"]}
    assert cases == {"knee_4x", "real <b>"}
    assert "1 of knee are shown above" in page.text
    assert (copied / "report.html").stat().st_size < (original / "report.html").stat().st_size


def test_missing_files_are_named_and_the_rest_is_shown(copied):
    (copied / "statistics.csv").unlink()
    (copied / "truth" / "knee_4x.nii.gz").unlink()
    (copied / "methods" / "GLADE" / "knee_4x_noise" / "knee_4x_noise_glade.nii.gz").write_bytes(b"no volume")
    (copied / "methods" / "cubic" / "real <b>.nii.gz").unlink()
    for kind in ("added_detail", "uncertainty"):
        (copied / "methods" / "GLADE" / "knee_4x" / f"knee_4x_{kind}.nii.gz").unlink()
    write_evaluation_report(copied)
    page = check_page(copied / "report.html")
    alts = {image["alt"] for image in page.all("img")}
    assert "knee_4x: GLADE, axial plane" in alts
    assert "knee_4x: truth, axial plane" not in alts
    assert "knee_4x_noise: cubic, axial plane" in alts
    assert "GLADE is not shown: knee_4x_noise_glade.nii.gz: cannot be read" in page.text
    assert not any(alt.startswith("real") for alt in alts)
    assert "No figure: cubic: no real <b>.nii.gz" in page.text
    assert "Mean difference to consistent cubic" in page.text  # made of the scores


def test_cases_json_alone_gives_a_page_and_an_empty_folder_a_refusal(original, tmp_path):
    (tmp_path / "cases.json").write_bytes((original / "cases.json").read_bytes())
    write_evaluation_report(tmp_path)
    assert "no case was evaluated" in check_page(tmp_path / "report.html").text
    with pytest.raises(Refusal, match=r"no cases\.json"):
        write_evaluation_report(tmp_path / "elsewhere")
    (tmp_path / "cases.json").write_text("[1]")
    with pytest.raises(Refusal, match="not the record"):
        write_evaluation_report(tmp_path)


def test_page_fits_a_telephone_and_the_browser_has_no_complaint(original, tmp_path):
    title, log = in_browser(original / "report.html", tmp_path)
    width, widest = map(int, title.split())
    assert width == TELEPHONE
    assert widest <= width
    assert [line for line in log.splitlines() if "CONSOLE" in line] == []


def scene(**more) -> Scene:
    made = volumes()
    grids = Grid((28, 30, 40), THIN), Grid((28, 30, 10), THICK)
    methods = {name: made[name] for name in METHODS[1:]}
    added = made["GLADE"] - made["consistent cubic"]
    fixed = {"case": "knee & co", "grid": grids[0], "through_plane_axis": 2, "slice_spacing_mm": 4.0}
    return Scene(**{**fixed, "slices": (made["slices"], grids[1]), "methods": methods, "added_detail": added,
                    "uncertainty": np.full(added.shape, 0.75), **more})  # fmt: skip


ROW = RunRow.of({
    "case": "knee & co",
    "status": "done",
    "input": {"shape": [28, 30, 10], "spacing_mm": [1, 1, 4.0]},
    "output": {"shape": [28, 30, 40], "spacing_mm": [1, 1, 1]},
    "protocol": {
        "slice_spacing_mm": 4.0,
        "slice_thickness_mm": 3.5, "thickness_source": "the sidecar of /a/b/knee.json",
        "profile": "gauss",
        "profile_source": "2D acquisition",
        "through_plane_axis": 2,
        "axis_source": "largest spacing",
    },
    "warnings": ["noise 0.2 is outside the trained range"],
    "residual": 1.5e-7,
    "seconds": 12.34,
    "settings": {"sharpness": 0.5, "detail": 1.0, "version": "9.8.7", "views": [0, 1]},
    "weights_sha256": "cd" * 32,
})  # fmt: skip


def test_case_report_says_what_was_done_and_measures_before_and_after(tmp_path):
    page = check_page(write_case_report(tmp_path, ReportedCase(ROW, scene())))
    expected = (
        "28 × 30 × 10 voxels of 1 × 1 × 4 mm",  # noqa: RUF001
        "28 × 30 × 40 voxels of 1 × 1 × 1 mm",  # noqa: RUF001
        "3.5 mm (the sidecar of …/knee.json)",
        "gauss (2D acquisition)",
        "0.000015 % of the acquired slices",
        "12.3 s",
        "cd" * 32,
        "9.8.7",
        "sharpness 0.5",
        "noise 0.2 is outside the trained range",
        "mean ± 0.75 in the body",
        "PIQUE, sagittal",
        "PIQUE, coronal",
        "Relative edge sharpness",
        "consistent cubic",
    )
    assert [words for words in expected if words not in page.text] == []
    assert "PSNR" not in page.text
    assert len(page.all("img")) == 3 * 5 + BARS


def test_captions_of_narrow_pictures_are_not_divided_within_words(tmp_path):
    """Few sagittal slices of a large field of view: pictures across them are much narrower than their captions."""
    require_chromium()
    made = {name: np.kron(values[:, :, :12], np.ones((5, 5, 1))) for name, values in volumes().items()}
    turned = np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])  # slices across, from left to right
    grids = Grid(made["GLADE"].shape, turned), Grid((140, 150, 3), turned @ np.diag([1.0, 1, 4, 1]))
    methods = {name: made[name] for name in METHODS[1:]}
    more = {"grid": grids[0], "slices": (made["slices"][:, :, :3], grids[1]), "methods": methods}
    added = {"added_detail": made["GLADE"] - made["consistent cubic"], "uncertainty": np.ones(grids[0].shape)}
    page = write_case_report(tmp_path, ReportedCase(ROW, scene(**more, **added)))
    narrow = "[...document.querySelectorAll('.tiles img')].filter(picture => picture.clientWidth < 40).length"
    with Chromium(tmp_path / "browser", 1300, 900) as browser:
        browser.open(page)
        for width in (1300, 900, 600):
            browser.size(width, 900)
            assert browser.js(narrow) >= 5
            assert browser.js(BROKEN_WORDS) == []


def test_case_report_with_a_truth_measures_fidelity(tmp_path):
    case = ReportedCase(ROW, scene(truth=volumes()["truth"]))
    page = check_page(write_case_report(tmp_path, case))
    scores = {method: {s.metric: s.value for s in found} for method, found in case.scores.items()}
    assert scores["GLADE"]["psnr"] > scores["cubic"]["psnr"]
    assert number(scores["GLADE"]["psnr"], "psnr") in page.text
    assert len(page.all("img")) == 3 * 8 + BARS


def test_a_viewer_that_makes_the_page_too_large_is_a_file_beside_it(tmp_path, monkeypatch, caplog):
    whole = write_case_report(tmp_path, ReportedCase(ROW, scene())).stat().st_size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["knee & co_report.html"]
    monkeypatch.setattr(case_report, "PAGE_BYTES", whole - 1)
    with caplog.at_level("INFO"):
        path = write_case_report(tmp_path, ReportedCase(ROW, scene()))
    page = check_page(path)
    assert path.stat().st_size < whole / 2
    assert "knee & co_viewer.html" in page.text
    assert "MB is in knee & co_viewer.html" in caplog.text
    assert check_page(tmp_path / "knee & co_viewer.html").all("canvas")
    monkeypatch.undo()
    write_case_report(tmp_path, ReportedCase(ROW, scene()))
    assert not (tmp_path / "knee & co_viewer.html").exists()  # that of the earlier report


def test_a_measure_whose_scale_is_too_short_is_left_out_and_named(tmp_path):
    smooth = {name: ndimage.gaussian_filter(values, (3, 3, 0)) for name, values in scene().methods.items()}
    smooth["GLADE"] = scene().methods["GLADE"]
    page = check_page(write_case_report(tmp_path, ReportedCase(ROW, scene(methods=smooth))))
    assert "Relative fine detail: the acquired planes hold hardly more" in page.text
    assert "PIQUE" in page.text


def test_case_report_of_an_empty_scan_says_why_there_are_no_numbers(tmp_path):
    flat = {name: np.full((28, 30, 40), 7.0, np.float32) for name in METHODS[1:]}
    page = check_page(write_case_report(tmp_path, ReportedCase(ROW, scene(methods=flat))))
    assert "Not defined here" in page.text
    assert len(page.all("img")) == 3 * 5 + BARS


def test_the_edge_is_found_and_values_along_a_line_are_right():
    grid = Grid((30, 30, 60), np.diag([1, 1, 0.5, 1.0]))
    step = np.where(np.arange(60) < 33, 10.0, 90.0) * np.ones((30, 30, 1))
    voxel = steepest_voxel(step, grid, 2, np.ones(grid.shape, bool))
    assert voxel[2] in (32, 33)
    ramp = np.broadcast_to(3.0 * np.arange(60), grid.shape)
    line = np.array([[4.2, 5.0, z] for z in (10.0, 10.25, 11.1)])
    assert along(ramp, grid, line, 3) == pytest.approx([60, 61.5, 66.6], abs=1e-3)
    with pytest.raises(Refusal, match="No profile"):
        steepest_voxel(step[:, :, :40], Grid((30, 30, 40), np.diag([1, 1, 0.5, 1.0])), 2, np.ones((30, 30, 40), bool))


def test_a_picture_grows_by_repeating_and_shrinks_by_averaging():
    thick = np.array([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_array_equal(fitted(thick, (4, 2)), [[1, 2], [1, 2], [3, 4], [3, 4]])
    small = fitted(np.tile([0.0, 1.0], (40, 20)), (10, 10))
    assert small[3:-3, 3:-3] == pytest.approx(0.5, abs=0.1)


def test_numbers_and_orders():
    assert [number(v, "psnr", signed=True) for v in (1.239, -0.5)] == ["+1.24", "−0.50"]  # noqa: RUF001
    assert [number(v) for v in (None, float("nan"), float("inf"), 0.0, 1.2e-7, 3.14159)] == [
        "–", "–", "∞", "0", "1.2e-07", "3.14"]  # noqa: RUF001 # fmt: skip
    assert ordered(["UniRes", "GLADE", "cubic", "GLADE sharp", "nearest", "ECLARE"]) == [
        "nearest", "cubic", "GLADE", "GLADE sharp", "ECLARE", "UniRes"]  # fmt: skip
    assert ordered_metrics(["new", "residual", "psnr", "newer"]) == ["psnr", "residual", "new", "newer"]
    assert re.fullmatch("PSNR, dB", title_of("psnr", unit="dB"))
