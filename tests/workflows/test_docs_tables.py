"""The tables in docs/ equal what their generators make of the CSV files in docs/tables."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigParser
from torch.utils.tensorboard import SummaryWriter

from benchmarks import ablation, adaptation, change, fidelity, paper_progress, stacks, tables, training_curves, viewer
from scripts.evaluation.scores import Row
from scripts.evaluation.statistics import Statistic, read_statistics
from scripts.geometry.grid import Grid
from scripts.physics.rigid import RigidResampling
from tests.conftest import ROOT

STORED = [path for path in sorted(tables.TABLES.glob("*.csv")) if path.stem in fidelity.COLUMNS]
NAN = float("nan")


def test_there_is_a_stored_table():
    assert "fidelity" in {path.stem for path in STORED}


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_the_model_card_has_the_generated_tables(path):
    text = tables.DOCS.read_text(encoding="utf-8")
    rows = read_statistics(path)
    assert all(fidelity.belongs(row, path.stem) for row in rows)
    start = f"<!-- table: {path.stem} -->"
    assert start in text
    assert tables.with_table(text, path.stem, fidelity.table_of(rows, path.stem)) == text


def test_a_table_is_written_between_its_markers_and_as_csv(tmp_path):
    row = Statistic("psnr", "", "dB", "4", "rect", "GLADE", "", 5, 28.123, 27.0, 29.0, NAN)
    gain = row._replace(against="consistent cubic", mean=1.25, low=1.0, high=1.5, p=0.03)
    real = row._replace(factor="all", profile="real", metric="pique", mean=40.0)
    lines = [",".join(Statistic._fields), *(",".join("" if v != v else str(v) for v in r) for r in (row, gain, real))]
    (tmp_path / "statistics.csv").write_text("\n".join(lines) + "\n")
    docs = tmp_path / "README.md"
    docs.write_text("before\n<!-- table: fidelity -->\nold\n<!-- end -->\nafter\n")
    assert fidelity.write_tables(tmp_path, docs, tmp_path / "tables") == ["fidelity", "real"]
    text = docs.read_text()
    assert "old" not in text
    assert "| 4x rect | 5 | GLADE | 28.12 |" in text
    assert "+1.25 [+1.00, +1.50], p 0.03 |" in text
    assert text.startswith("before\n")
    assert text.endswith("<!-- end -->\nafter\n")
    assert read_statistics(tmp_path / "tables/real.csv")[0].mean == 40


def test_the_mean_over_the_nine_protocols_needs_all_of_them_and_no_other():
    def row(factor, profile, mean):
        return Statistic("psnr", "", "dB", factor, profile, "GLADE", "", 5, mean, mean - 1, mean + 1, NAN)

    factors, profiles = fidelity.ASKED
    nine = [row(f, p, float(i)) for i, (f, p) in enumerate((f, p) for f in factors for p in profiles)]
    *_, found = fidelity.with_mean_of_asked([*nine, row("4", "rect noise0.03", 100.0), row("all", "simulated", 50.0)])
    assert (found.factor, found.profile, found.mean) == ("3, 4, 6", "rect, gauss, fourier", 4.0)
    assert fidelity.with_mean_of_asked(nine[1:]) == nine[1:]


def test_a_table_without_end_marker_is_an_error():
    with pytest.raises(ValueError, match="no <!-- end -->"):
        tables.with_table("<!-- table: real -->", "real", "x")


@pytest.mark.parametrize(("table", "arms"), [("ablation", "arms"), ("search", "search")])
def test_the_ablation_page_has_the_tables_of_its_csv(table, arms):
    with (tables.TABLES / f"{table}.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    text = (ablation.DOCS / "ablation.md").read_text(encoding="utf-8")
    assert f"<!-- table: {table} -->\n{ablation.table_of(rows)}\n<!-- end -->" in text
    plan = yaml.safe_load(ablation.PLAN.read_text(encoding="utf-8"))
    known = {arm["name"]: arm["adds"] for arm in plan["arms"]} | dict.fromkeys(ablation.INTERPOLATIONS, "")
    known |= {arm["name"]: arm["adds"] for arm in plan["search"]}
    adds = {row["arm"]: row["adds"] for row in rows}
    assert adds.items() <= known.items()
    assert {arm["name"] for arm in plan[arms]} <= adds.keys()


def test_an_arm_of_the_search_inherits_the_settings_of_its_base():
    plain = [{"name": "wide", "training": {"a": 1, "b": 1}, "inference": {"c": 1}}]
    (found,) = ablation.searching([{"name": "slow", "base": "wide", "training": {"b": 2}}], plain)
    assert (found["name"], found["training"], found["inference"]) == ("slow", {"a": 1, "b": 2}, {"c": 1})


def test_multiply_adds_of_one_convolution():
    convolution = {"_target_": "torch.nn.Conv2d", "in_channels": 1, "out_channels": 2, "kernel_size": 3, "padding": 1}
    assert ablation.multiply_adds({"training": {"network_def": convolution}}) == pytest.approx(18 / 1000)


def test_tables_are_written_when_all_of_their_arms_are_done(tmp_path):
    plan = yaml.safe_load(ablation.PLAN.read_text(encoding="utf-8"))
    plan["arms"] = ablation.cumulative(plan["arms"])
    plan["search"] = ablation.searching(plan["search"], plan["arms"])
    assert ablation.write_docs(plan, tmp_path, tmp_path) == []


@pytest.mark.parametrize(
    ("name", "page", "table_of"),
    [
        ("cases", fidelity.PAGES[fidelity.CASES], fidelity.case_table),
        ("adaptation", tables.DOCS.name, adaptation.table_of),
        (change.TABLE, change.PAGE.name, change.table_of),
        ("viewer", viewer.PAGE.name, viewer.table_of),
        (fidelity.PAPER, tables.DOCS.name, fidelity.method_table),
    ],
)
def test_a_page_has_the_table_of_its_csv(name, page, table_of):
    with (tables.TABLES / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        table = table_of(list(csv.DictReader(file)))
    text = tables.DOCS.with_name(page).read_text(encoding="utf-8")
    assert f"<!-- table: {name} -->\n{table}\n<!-- end -->" in text


def test_the_page_of_the_paper_has_the_latest_measures_of_its_csv():
    table = paper_progress.as_table(paper_progress.kept(tables.TABLES / f"{paper_progress.TABLE}.csv"))
    assert f"<!-- table: {paper_progress.TABLE} -->\n{table}\n<!-- end -->" in paper_progress.PAGE.read_text(
        encoding="utf-8"
    )


def test_the_table_of_the_paper_keeps_the_latest_state_of_each_variant():
    points = [
        paper_progress.Point("paper", patches, "last step", "pelvis", "PIQUE", value)
        for patches, value in ((600, 20.0), (300, 30.0))
    ]
    row = paper_progress.as_table(points).splitlines()[-1]
    assert row == "| pelvis | paper | last step | 600 | 20 | - | - | - | - | - | - |"


def test_a_case_shows_the_gain_over_consistent_cubic():
    def scores(method, psnr, ssim):
        values = {"psnr": psnr, "ssim": ssim, "high_band_error": 0.5, "high_band_energy": 0.4}
        return [Row("knee_4x", method, 4.0, "rect", metric, "", value, "") for metric, value in values.items()]

    rows = fidelity.case_rows([*scores("consistent cubic", 25.0, 0.8), *scores("GLADE", 26.5, 0.85)])
    assert fidelity.case_table(rows).splitlines()[-1] == (
        "| knee_4x | 25.00 | 0.800 | 0.500 | +1.50 | +0.050 | 0.500 | 0.400 |"
    )
    covered = Row("knee_4x", "GLADE", 4.0, "rect", "uncertainty_coverage", "", 0.912, "")
    rows = fidelity.case_rows([*scores("consistent cubic", 25.0, 0.8), *scores("GLADE", 26.5, 0.85), covered])
    assert fidelity.case_table(rows).splitlines()[-1].endswith("| 0.500 | 0.400 | 0.912 |")


def test_a_change_of_the_weights_is_shown_with_its_worst_case():
    def scores(gains):
        row = dict.fromkeys(("ssim", "high_band_error", "high_band_energy"), "0.5")
        cases = [(f"{scan}_4x_rect", gain) for scan, gain in gains.items()]
        return [
            {"case": case, "method": method, "psnr": str(25 + own), **row}
            for case, gain in cases
            for method, own in (("consistent cubic", 0), ("GLADE", gain))
        ]

    rows = change.change_rows(scores({"head": 1.0, "knee": 2.0}), scores({"head": 2.0, "knee": 1.5}))
    first = "| 4x rect | GLADE | 2 | +1.50 -> +1.75 | +0.000 -> +0.000 | 0.500 -> 0.500 | 0.500 -> 0.500 | -0.50 | 1 |"
    assert change.table_of(rows).splitlines()[2] == first
    assert [row["protocol"] for row in rows] == ["4x rect", "3, 4, 6x rect, gauss, fourier", "all"]


def test_adaptation_is_shown_per_case_and_as_a_mean():
    row = {"case": "knee", "cubic_psnr": "25", "shipped_psnr": "26", "adapted_psnr": "26.5"}
    for metric in ("ssim", "high_band_error", "high_band_energy"):
        row |= {f"shipped_{metric}": "0.5", f"adapted_{metric}": "0.6"}
    lines = adaptation.table_of([row, {**row, "case": "head", "adapted_psnr": "27.5"}]).splitlines()
    assert lines[2].startswith("| knee | +1.00 | +1.50 | 0.500 | 0.600 |")
    assert lines[-1].startswith("| mean | +1.00 | +2.00 |")


def test_curves_are_validations_and_interval_means_of_losses(tmp_path):
    with SummaryWriter(tmp_path) as writer:
        for iteration in range(10, 801, 10):
            writer.add_scalar("loss/supervised_G", iteration, iteration, walltime=float(iteration))
        for epoch, psnr in ((1, 20.0), (2, 21.0)):  # after 400 and 800 iterations
            writer.add_scalar("val_psnr", psnr, epoch, walltime=400.0 * epoch + 1)
    points = training_curves.curves("faithful", tmp_path)
    assert [(p.iteration, p.value) for p in points if p.metric == "val_psnr"] == [(400, 20.0), (800, 21.0)]
    losses = [(p.iteration, p.value) for p in points if p.metric == "supervised_G"]
    assert losses[:2] == [(20, 15.0), (40, 35.0)]
    assert len(losses) == 40


def test_drawn_points_are_kept_as_csv(tmp_path):
    with SummaryWriter(tmp_path / "run") as writer:
        writer.add_scalar("loss/supervised_G", 0.5, 10)
        writer.add_scalar("val_psnr", 20.0, 1)
    assert training_curves.write({"short": tmp_path / "run"}, tmp_path / "t.csv", tmp_path / "t.png") == 2
    assert (tmp_path / "t.csv").read_text().splitlines()[0] == "training,metric,iteration,value"
    assert (tmp_path / "t.png").stat().st_size > 0
    assert training_curves.write({"other": tmp_path / "run"}, tmp_path / "t.csv", tmp_path / "t.png") == 4
    assert [p.training for p in training_curves.kept(tmp_path / "t.csv")] == ["short", "short", "other", "other"]


def test_a_folder_without_a_training_has_no_curves(tmp_path):
    with pytest.raises(ValueError, match="no events of a training"):
        training_curves.curves("faithful", tmp_path)


def test_an_arm_has_the_settings_of_those_above_it():
    arms = ablation.cumulative([{"training": {"a": 1, "b": 1}}, {"training": {"b": 2}, "inference": {"c": 3}}, {}])
    assert [arm["training"] for arm in arms] == [{"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 1, "b": 2}]
    assert [arm["inference"] for arm in arms] == [{}, {"c": 3}, {"c": 3}]


def test_the_settings_of_all_arms_exist_in_the_workflows():
    plan = yaml.safe_load(ablation.PLAN.read_text(encoding="utf-8"))
    files = {"training": [ROOT / name for name in ablation.PAPER], "inference": [ROOT / "configs" / "inference.yaml"]}
    known = {kind: set(ConfigParser.load_config_files([str(path) for path in paths])) for kind, paths in files.items()}
    given = [
        ("training", plan["budget"]),
        *((k, arm[k]) for arm in [*plan["arms"], *plan["search"]] for k in known if k in arm),
    ]
    unknown = [(kind, key) for kind, settings in given for key in settings if key.split("::")[0] not in known[kind]]
    assert unknown == []


def test_scans_are_the_volumes_that_fit_and_none_is_one_line(tmp_path):
    for name in ("iso_b.nii.gz", "iso_a.nii.gz", "iso_a.json", "other.nii.gz"):
        (tmp_path / name).touch()
    assert [path.name for path in tables.scans_that_fit(tmp_path, ["iso_*"])] == ["iso_a.nii.gz", "iso_b.nii.gz"]
    with pytest.raises(SystemExit, match=r"holds 3 files .* none fits --patterns knee\*"):
        tables.scans_that_fit(tmp_path, ["knee*"])


def test_a_table_without_rows_is_not_written(tmp_path):
    with pytest.raises(SystemExit, match="noise: nothing was measured"):
        tables.publish("noise", [], "", tmp_path / "noise.md", tmp_path / "tables")
    assert not (tmp_path / "tables").exists()


def test_a_case_that_lacks_a_measure_is_left_out_of_the_comparison():
    def row(case, method, psnr):
        return {"case": case, "method": method, "ssim": "0.9", "high_band_error": "0.5", "high_band_energy": "0.5"} | {
            "psnr": psnr
        }

    whole = [row("a_4x_rect", "consistent cubic", "20"), row("a_4x_rect", "GLADE", "21")]
    lacking = [row("b_4x_rect", "consistent cubic", "20"), row("b_4x_rect", "GLADE", "")]
    lacking += [row("c_4x_rect", "consistent cubic", ""), row("c_4x_rect", "GLADE", "21")]
    found = change.change_rows(whole + lacking, whole + lacking)
    assert {line["cases"] for line in found} == {"1"}


def test_a_case_whose_adapted_result_failed_is_left_out(tmp_path, monkeypatch, capsys):
    measured = dict.fromkeys(adaptation.MEASURED, 1.0)
    given = {name: {(name, m, k): v for m in methods for k, v in measured.items()}
             for name, methods in (("a", ("consistent cubic", "GLADE 0")), ("b", ()))}  # fmt: skip
    monkeypatch.setattr(adaptation, "_scores", lambda folder: given["b" if folder.name == "a" else "a"])
    (tmp_path / "a").mkdir()
    (tmp_path / "a/scores.csv").touch()
    assert adaptation.collected(["a"], tmp_path / "before", tmp_path) == []
    assert capsys.readouterr().err == "a: left out: no scores of adapted\n"


def test_the_mean_of_stacks_is_of_those_that_cover_a_voxel():
    grids = [Grid((n, 8, 8), np.eye(4)) for n in (8, 5)]
    parts = [
        SimpleNamespace(
            stack=SimpleNamespace(grid=grid, volume=torch.full(grid.shape, 7.0)),
            motion=SimpleNamespace(matrix=np.eye(4)),
            match=None,
        )
        for grid in grids
    ]
    mean = stacks._mean(SimpleNamespace(stacks=parts, grid=grids[0], prior=torch.zeros(grids[0].shape)))
    torch.testing.assert_close(mean, torch.full((8, 8, 8), 7.0), rtol=0, atol=1e-4)


def test_stacks_are_scored_where_the_resampling_finds_them():
    grid, motion = Grid((8, 6, 6), np.eye(4)), np.eye(4)
    motion[0, 3] = 2.0  # mm: the stack has nothing of the first two planes of the truth
    inside = stacks.covered_by_all([grid, grid], [np.eye(4), motion], grid)
    assert inside[:, 3, 3].tolist() == [False] * 2 + [True] * 6
    place = RigidResampling(grid, grid, np.linalg.inv(motion))
    assert (place.covered().numpy() > 0.99)[inside].all()
    assert (place.covered()[0] < stacks.HALF).all()
