"""The tables of docs/README.md are generated: what stands there is what the generator makes of the stored CSV."""

import csv

import pytest
import yaml
from monai.bundle import ConfigParser

from benchmarks import ablation, fidelity
from scripts.judging.statistics import Statistic, read_statistics
from tests.conftest import ROOT

STORED = [path for path in sorted(fidelity.TABLES.glob("*.csv")) if path.stem in fidelity.COLUMNS]
NAN = float("nan")


def test_there_is_a_stored_table():
    assert "fidelity" in {path.stem for path in STORED}


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_the_docs_hold_what_the_generator_makes(path):
    text = fidelity.DOCS.read_text(encoding="utf-8")
    rows = read_statistics(path)
    assert all(fidelity.belongs(row, path.stem) for row in rows)
    start = f"<!-- table: {path.stem} -->"
    assert start in text
    assert fidelity.with_table(text, path.stem, fidelity.table_of(rows, path.stem)) == text


def test_a_table_is_written_between_its_markers_and_kept(tmp_path):
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


def test_an_open_table_is_an_error():
    with pytest.raises(ValueError, match="no <!-- end -->"):
        fidelity.with_table("<!-- table: real -->", "real", "x")


def test_the_docs_hold_the_papers_measures():
    with (fidelity.TABLES / "paper.csv").open(newline="", encoding="utf-8") as file:
        table = fidelity.paper_table(list(csv.DictReader(file)))
    assert f"<!-- table: paper -->\n{table}\n<!-- end -->" in fidelity.DOCS.read_text(encoding="utf-8")


def test_the_ablation_page_holds_what_its_csv_says():
    with (ablation.DOCS / "tables" / "ablation.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    table = f"<!-- table: ablation -->\n{ablation.table_of(rows)}\n<!-- end -->"
    assert table in (ablation.DOCS / "ablation.md").read_text()
    plan = yaml.safe_load(ablation.PLAN.read_text(encoding="utf-8"))
    known = {arm["name"]: arm["adds"] for arm in plan["arms"]} | dict.fromkeys(ablation.INTERPOLATIONS, "")
    assert {row["arm"]: row["adds"] for row in rows}.items() <= known.items()


def test_an_arm_has_all_that_those_above_it_add():
    arms = ablation.cumulative([{"training": {"a": 1, "b": 1}}, {"training": {"b": 2}, "inference": {"c": 3}}, {}])
    assert [arm["training"] for arm in arms] == [{"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 1, "b": 2}]
    assert [arm["inference"] for arm in arms] == [{}, {"c": 3}, {"c": 3}]


def test_the_arms_are_settings_that_the_workflows_have():
    plan = yaml.safe_load(ablation.PLAN.read_text(encoding="utf-8"))
    files = {"training": [ROOT / name for name in ablation.PAPER], "inference": [ROOT / "configs" / "inference.yaml"]}
    known = {kind: set(ConfigParser.load_config_files([str(path) for path in paths])) for kind, paths in files.items()}
    given = [("training", plan["budget"]), *((k, arm[k]) for arm in plan["arms"] for k in known if k in arm)]
    unknown = [(kind, key) for kind, settings in given for key in settings if key.split("::")[0] not in known[kind]]
    assert unknown == []
