"""Tidy scores: written and read back, collected by one object, refused where the file is another table."""

import math

import pytest

from scripts.evaluation.scores import Row, Scores, read_scores, write_scores
from scripts.geometry.errors import Refusal


def rows(values, method="GLADE", metric="psnr", factor=4.0, profile="rect"):
    return [Row(f"c{i}", method, factor, profile, metric, "", float(v), "dB") for i, v in enumerate(values)]


def test_rows_added_in_parts_give_the_file_of_all_rows(tmp_path):
    first, second = rows([1 / 3, math.inf]), [Row("a, b", "x", 3, None, "ssim", "2", -0.5, "1")]
    scores = Scores(tmp_path / "out/scores.csv")
    for part in ([], first, [], second):
        scores.add(part)
        assert read_scores(scores.path) == [row._replace(profile=row.profile or "") for row in scores.rows]
    assert scores.rows == [*first, *second]
    assert scores.path.read_bytes() == write_scores(scores.rows, tmp_path / "at_once.csv").read_bytes()


def test_the_file_of_an_earlier_evaluation_is_replaced(tmp_path):
    write_scores(rows([1, 2, 3]), tmp_path / "scores.csv")
    scores = Scores(tmp_path / "scores.csv")
    scores.remove_earlier()
    assert not scores.path.exists()
    scores.add(rows([4]))
    assert [row.value for row in read_scores(scores.path)] == [4]


def test_scores_come_back_as_they_were(tmp_path):
    given = [*rows([1 / 3, math.inf]), Row("a, b", "x", None, None, "ssim", "2", -0.5, "1")]
    back = read_scores(write_scores(given, tmp_path / "scores.csv"))
    assert back == [*given[:2], given[2]._replace(profile="")]


HEAD = "case,method,factor,profile,metric,axis,value,unit\n"


@pytest.mark.parametrize("text", ["", "case,method\n", f"{HEAD}a,b,4,r,m,,x,1\n", f"{HEAD}a,b\n"])
def test_other_tables_are_refused(tmp_path, text):
    (tmp_path / "scores.csv").write_text(text)
    with pytest.raises(Refusal, match=r"scores\.csv"):
        read_scores(tmp_path / "scores.csv")
    with pytest.raises(Refusal, match="no such file"):
        read_scores(tmp_path / "none.csv")
