"""Scores of a readers' study: known marks give known scores, and unusable files are refused by name."""

import csv
import json
import math
import re
import shutil

import numpy as np
import pytest

from scripts.geometry.errors import Refusal
from scripts.reports.evaluation_report import write_evaluation_report
from scripts.study.answers import Rating
from scripts.study.reader_study import ReaderStudy
from scripts.study.scores import StudyScores, scores_section
from scripts.study.statistics import statistics
from scripts.study.volumes import folder_cases

from ..reports.page_checks import Reader, check_page
from .study_files import METHODS, SETTINGS, answer_file, write_methods


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study's folder, made once."""
    folder = tmp_path_factory.mktemp("made")
    volumes = write_methods(folder / "volumes")
    ReaderStudy(folder_cases(volumes, "*"), folder / "study", **SETTINGS).write()
    return folder / "study"


@pytest.fixture
def study(made, tmp_path):
    """A copy with two complete readers; the second is one mark stricter in quality."""
    folder = shutil.copytree(made, tmp_path / "study")
    key = {item["item"]: item for item in json.loads((folder / "key.json").read_text())["items"]}
    for reader, strictness in (("R1", 0), ("R2", 1)):
        answer_file(folder / "answers", folder / "study.html", reader, lambda i, q, s=strictness: mark(key[i], q, s))
    return folder


def mark(item: dict, question: str, strictness: int) -> int:
    """The first method gets 2 or 3 for quality, by its plane; the second two more. Artefacts: 5 and 4."""
    second = item["method"] == METHODS[1]
    return 5 - second if question == "artefacts" else 2 + item["plane"] % 2 + 2 * second - strictness


def rows(folder):
    with (folder / "study_statistics.csv").open() as file:
        return list(csv.DictReader(file))


def value(found, **where):
    (one,) = [row for row in found if all(row[k] == v for k, v in where.items())]
    return float(one["value"] or "nan")


def test_known_marks_give_known_scores(study):
    StudyScores(study, study / "answers", False).write()
    key = json.loads((study / "key.json").read_text())["items"]
    found = rows(study)
    for method in METHODS:
        firsts = [i for i in key if i["method"] == method and i["duplicate_of"] is None]
        marks = [mark(i, "quality", s) for i in firsts for s in (0, 1)]
        where = {"question": "quality", "method": method, "reader": ""}
        assert value(found, measure="mean", **where) == pytest.approx(np.mean(marks))
        assert value(found, measure="sd", **where) == pytest.approx(np.std(marks, ddof=1))
    pair = {"method": METHODS[1], "against": METHODS[0]}
    assert value(found, measure="difference", question="quality", unit="case", **pair) == pytest.approx(2)
    assert value(found, measure="difference", question="artefacts", unit="image", **pair) == pytest.approx(-1)
    assert math.isnan(value(found, measure="p", question="quality", unit="case", **pair))  # two cases
    assert value(found, measure="p", question="quality", unit="image", **pair) == pytest.approx(2 / 2**6)  # six images
    assert value(found, measure="kappa", question="artefacts", reader="R1, R2") == pytest.approx(1)
    assert value(found, measure="kappa", question="quality", reader="all pairs") < 0.9
    assert value(found, measure="icc_2_1", question="artefacts") == pytest.approx(1)
    assert [value(found, measure="same", question="quality", reader=r) for r in ("R1", "R2")] == [1, 1]


def test_the_tidy_file_holds_every_mark_once(study):
    StudyScores(study, study / "answers", False).write()
    with (study / "study_scores.csv").open() as file:
        found = list(csv.DictReader(file))
    key = json.loads((study / "key.json").read_text())
    assert len(found) == 2 * 2 * len(key["items"])
    assert {row["method"] for row in found} == set(METHODS)
    assert sum(bool(row["duplicate_of"]) for row in found) == 2 * 2 * 3


def test_the_page_of_the_scores_stands_alone_and_shows_all(study):
    page = StudyScores(study, study / "answers", False).write()
    source = page.read_text()
    text = Reader(source).text
    for words in (*METHODS, "Quality", "Artefacts", "R1, R2", "ICC(2,1)", "no p: fewer than 6", "0.031"):
        assert words in text
    assert "http" not in source.replace("http-equiv", "")
    with pytest.raises(Refusal, match="run study_scores first"):
        scores_section(study / "answers")


def test_a_level_that_was_given_has_a_bar(study):
    StudyScores(study, study / "answers", False).write()
    (first, marks), *_ = scores_section(study).marks
    assert first == METHODS[0]
    assert sum(bar.width for bar in marks[0].bars) == pytest.approx(100)
    assert [bar.left for bar in marks[0].bars] == pytest.approx([0, *np.cumsum([b.width for b in marks[0].bars])[:-1]])
    assert [bar.level for bar in marks[1].bars] == [5]


def test_the_section_joins_the_report_of_an_evaluation(study, tmp_path):
    (tmp_path / "cases.json").write_text(json.dumps({"cases": []}))
    StudyScores(study, study / "answers", False).write()
    page = check_page(write_evaluation_report(tmp_path, readers_study=scores_section(study)))
    section = re.compile(r'<section id="readers-study".*?</section>', re.DOTALL)
    own = section.search((study / "study_scores.html").read_text())[0]
    assert own == section.search((tmp_path / "report.html").read_text())[0]
    assert "ICC(2,1)" in page.text
    assert 'href="#readers-study"' in (tmp_path / "report.html").read_text()


def change(path, edit):
    file = json.loads(path.read_text())
    edit(file)
    path.write_text(json.dumps(file))


def first(file):
    return file["answers"][0]


BAD = {
    "incomplete": (lambda f: f["answers"].pop(), "incomplete, 2 marks are missing.*save again"),
    "foreign": (lambda f: f.update(study="abc"), "is of study 'abc'.*its own key"),
    "page": (lambda f: f.update(page_sha256="0"), "do not belong together"),
    "hash": (lambda f: f.update(key_sha256="0"), "do not belong together"),
    "unknown": (lambda f: first(f).update(item="beef"), "an image that is not of this study"),
    "items": (lambda f: first(f).update(item=["beef"]), "an image that is not of this study"),
    "twice": (lambda f: f["answers"].append(first(f)), "answers image .* twice"),
    "high": (lambda f: first(f)["scores"].update(quality=6), "quality is 6, not one of 1 to 5"),
    "zero": (lambda f: first(f)["scores"].update(quality=0), "quality is 0"),
    "half": (lambda f: first(f)["scores"].update(quality=2.5), "quality is 2.5"),
    "true": (lambda f: first(f)["scores"].update(quality=True), "quality is True"),
    "question": (lambda f: first(f)["scores"].update(beauty=3), "this study's questions"),
    "scores": (lambda f: first(f).update(scores=None), "this study's questions"),
    "name": (lambda f: f.update(reader="Dr Who"), "no reader code"),
    "kind": (lambda f: f.update(kind="summary"), "is not a file that the page saved"),
    "list": (lambda f: f.update(answers={}), "is not a file that the page saved"),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_files_are_refused_by_name(study, fault):
    edit, said = BAD[fault]
    path = study / "answers/answers_R2.json"
    change(path, edit)
    with pytest.raises(Refusal, match=rf"answers_R2\.json: .*{said}") as refused:
        StudyScores(study, study / "answers", False).write()
    assert "answers_R1.json" not in str(refused.value)
    assert not (study / "study_scores.csv").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[]", b"3"])
def test_unreadable_files_are_refused_by_name(study, content):
    (study / "answers/broken.json").write_bytes(content)
    with pytest.raises(Refusal, match=r"broken\.json: (cannot be read|is not a file)"):
        StudyScores(study, study / "answers", False).write()


def test_a_reader_twice_is_refused_with_both_names(study):
    shutil.copy(study / "answers/answers_R1.json", study / "answers/again.json")
    with pytest.raises(Refusal, match=r"again\.json: reader R1 has 2 files.*answers_R1\.json: reader R1 has 2 files"):
        StudyScores(study, study / "answers", False).write()


def test_incomplete_files_are_scored_where_allowed(study):
    change(study / "answers/answers_R2.json", BAD["incomplete"][0])
    (study / "answers/broken.json").write_text("{")
    StudyScores(study, study / "answers", True).write()
    record = json.loads((study / "study_scores.json").read_text())
    assert record["readers"] == ["R1", "R2"]
    assert [line.split(":")[0] for line in record["left_out"]] == ["broken.json"]
    assert "broken.json" in (study / "study_scores.html").read_text()
    (study / "answers/answers_R1.json").unlink()
    (study / "answers/answers_R2.json").unlink()
    with pytest.raises(Refusal, match=r"none of its files can be scored: broken\.json"):
        StudyScores(study, study / "answers", True).write()


def test_no_answers_no_key_or_a_changed_key_are_refused(study, tmp_path):
    with pytest.raises(Refusal, match="no answers"):
        StudyScores(study, tmp_path / "none", False).write()
    with pytest.raises(Refusal, match="no readable key"):
        StudyScores(tmp_path, study / "answers", False).write()
    change(study / "key.json", lambda key: key["items"][0].update(method="another"))
    with pytest.raises(Refusal, match="was changed since it was written"):
        StudyScores(study, study / "answers", False).write()


def test_no_p_where_fewer_than_six_pairs_differ():
    def ratings(differing):
        marks = [("a", 3, c) for c in range(8)] + [("b", 4 if c < differing else 3, c) for c in range(8)]
        return [Rating("R1", str(c), method, 1, "q", v, method + str(c), "", None) for method, v, c in marks]

    for differing, p in ((5, math.nan), (6, 2 / 2**6), (8, 2 / 2**8)):
        (found,) = [
            s for s in statistics(ratings(differing), ["a", "b"], ["q"]) if (s.measure, s.unit) == ("p", "case")
        ]
        assert found.value == pytest.approx(p, nan_ok=True)
        assert found.n == 8


def test_two_readers_without_a_common_image_have_no_agreement():
    marks = [Rating(reader, str(c), "a", 1, "q", 3, f"i{c}", "", None) for c, reader in enumerate(("R1", "R2"))]
    found = {s.measure: s for s in statistics(marks, ["a"], ["q"]) if s.measure in ("kappa", "icc_2_1")}
    assert (found["icc_2_1"].n, found["kappa"].n) == (0, 0)
    assert math.isnan(found["icc_2_1"].value)
