"""Tidy scores there and back; means, differences and p-values against scipy and arithmetic by hand."""

import math

import numpy as np
import pytest
from scipy.stats import wilcoxon

from scripts.evaluation.statistics import (
    Origin,
    Row,
    Statistics,
    read_scores,
    read_statistics,
    statistics,
    summary_table,
    write_scores,
)
from scripts.geometry.errors import Refusal


def rows(values, method="GLADE", metric="psnr", factor=4.0, profile="rect"):
    return [Row(f"c{i}", method, factor, profile, metric, "", float(v), "dB") for i, v in enumerate(values)]


def one(found, **wanted):
    fits = [s for s in found if all(getattr(s, key) == value for key, value in wanted.items())]
    assert len(fits) == 1, fits
    return fits[0]


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


def test_means_and_paired_differences():
    base, better = np.array([20.0, 22, 24, 26, 28, 30]), np.array([21.0, 23.5, 24.2, 27, 30, 31])
    found = statistics([*rows(base, "consistent cubic"), *rows(better)], ["consistent cubic"])
    mean = one(found, method="GLADE", against="", factor="4")
    assert (mean.n, mean.mean) == (6, pytest.approx(better.mean()))
    assert better.min() < mean.low < mean.mean < mean.high < better.max()
    gain = one(found, against="consistent cubic", factor="4")
    assert gain.mean == pytest.approx((better - base).mean())
    assert gain.p == pytest.approx(wilcoxon(better - base).pvalue)
    assert gain.high - gain.low < mean.high - mean.low  # pairing takes the cases' own differences away


def test_no_p_value_under_six_cases_and_no_interval_for_one():
    found = statistics([*rows([1, 2, 3, 4, 5], "a"), *rows([2, 3, 4, 5, 7], "b")], ["a"])
    assert math.isnan(one(found, against="a", factor="4").p)
    single = one(statistics(rows([3])), factor="4")
    assert single.n == 1
    assert math.isnan(single.low)


def test_only_cases_that_both_have_are_paired():
    found = statistics([*rows([1, 2, 3], "a"), *rows([5, math.inf], "b")], ["a"])
    assert one(found, against="a", factor="4").n == 1


def test_acquisitions_of_one_scan_count_once_where_pooled():
    given = [Row(f"{s}_{f}x", m, f, "rect", "psnr", "", v, "dB")
             for m, plus in (("a", 0.0), ("b", 1.0)) for s, v in (("s", 10.0 + plus), ("t", 20.0 + 3 * plus))
             for f in (3.0, 4.0)]  # fmt: skip
    origins = {row.case: Origin(row.case[0], "simulated") for row in given}
    found = statistics(given, ["a"], origins)
    pooled = one(found, factor="all", against="a")
    assert (pooled.n, pooled.mean, pooled.profile) == (2, pytest.approx(2.0), "simulated")
    assert one(found, factor="3", against="a").n == 2


def test_real_scans_are_pooled_apart_from_simulated_ones():
    given = [*rows([50, 60], metric="pique"), Row("real", "GLADE", 5.8, "rect", "pique", "", 30.0, "1")]
    origins = {"c0": Origin("c0", "simulated"), "c1": Origin("c1", "simulated"), "real": Origin("real", "real")}
    found = statistics(given, [], origins)
    assert one(found, factor="all", profile="real").mean == 30
    assert one(found, factor="all", profile="simulated").mean == 55
    assert not [s for s in found if s.factor == "5.8"]


def test_the_file_and_the_table_say_the_same(tmp_path):
    class Record:
        output_dir = tmp_path
        rows = {"c0": {"source": "c0", "truth": True}}
        problems = []

        def problem(self, text, error=None):
            self.problems.append(text)

    Statistics(Record(), "cubic").run()  # nothing was judged: nothing to do
    assert not (tmp_path / "statistics.csv").exists()
    write_scores(rows([25.5]), tmp_path / "scores.csv")
    Statistics(Record(), "cubic").run()
    found = read_statistics(tmp_path / "statistics.csv")
    assert one(found, factor="4").mean == 25.5
    assert "25.5" in summary_table(found)
    assert Record.problems == ["against: there are no scores of cubic"]


def test_pairs_of_scans_count_once_for_each_judged_scan(tmp_path):
    class Record:
        output_dir = tmp_path
        rows = {}

    pairs = [("a", "b"), ("a", "c"), ("b", "a")]
    write_scores(
        [Row(f"{j} against {s}", "x", 5.0, "rect", "m", "", 1.0, "1") for j, s in pairs], tmp_path / "scores.csv"
    )
    Statistics(Record(), []).run()
    assert [(s.profile, s.n) for s in read_statistics(tmp_path / "statistics.csv")] == [("real", 2)]
