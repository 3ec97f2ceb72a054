"""Means, differences and p-values against scipy and arithmetic by hand."""

import math

import numpy as np
import pytest
from scipy.stats import wilcoxon

from scripts.evaluation.cases import EvaluatedCase
from scripts.evaluation.record import EvaluationRecord
from scripts.evaluation.scores import Row, Scores
from scripts.evaluation.statistics import Origin, Statistics, read_statistics, statistics, summary_table
from scripts.geometry.errors import Refusal


def rows(values, method="GLADE", metric="psnr", factor=4.0, profile="rect"):
    return [Row(f"c{i}", method, factor, profile, metric, "", float(v), "dB") for i, v in enumerate(values)]


def one(found, **wanted):
    fits = [s for s in found if all(getattr(s, key) == value for key, value in wanted.items())]
    assert len(fits) == 1, fits
    return fits[0]


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


def test_pooled_differences_are_between_the_same_protocols():
    psnr = {("a", 3.0): 40.0, ("a", 8.0): 30.0, ("peer", 8.0): 31.0}  # the peer is 1 dB better where it has a result
    given = [Row(f"{s}_{f}x", m, f, "rect", "psnr", "", v, "dB") for s in "st" for (m, f), v in psnr.items()]
    origins = {row.case: Origin(row.case[0], "simulated") for row in given}
    pooled = one(statistics(given, ["a"], origins), factor="all", against="a")
    assert (pooled.n, pooled.mean) == (2, 1.0)


def test_the_interval_of_three_values_is_that_of_the_tables_of_t():
    found = one(statistics(rows([1, 2, 3])), factor="4")
    half = 4.302653 / math.sqrt(3)  # of t with 2 degrees of freedom, 97.5 %; the standard deviation is 1
    assert (found.low, found.high) == (pytest.approx(2 - half), pytest.approx(2 + half))


def test_equal_values_have_an_interval_without_width():
    found = one(statistics(rows([0.1, 0.1, 0.1])), factor="4")
    assert (found.low, found.high) == (0.1, 0.1)


def test_the_interval_holds_the_true_mean_as_often_as_it_says():
    """Of few normal values, where a percentile bootstrap holds it in 75 of 100 samples of three."""
    random, samples = np.random.default_rng(0), 400
    held = 0
    for values in random.normal(5, 2, (samples, 3)):
        found = one(statistics(rows(values)), factor="4")
        held += found.low <= 5 <= found.high
    assert 0.92 < held / samples < 0.98


def test_real_scans_are_pooled_apart_from_simulated_ones():
    given = [*rows([50, 60], metric="pique"), Row("real", "GLADE", 5.8, "rect", "pique", "", 30.0, "1")]
    origins = {"c0": Origin("c0", "simulated"), "c1": Origin("c1", "simulated"), "real": Origin("real", "real")}
    found = statistics(given, [], origins)
    assert one(found, factor="all", profile="real").mean == 30
    assert one(found, factor="all", profile="simulated").mean == 55
    assert not [s for s in found if s.factor == "5.8"]


def made(tmp_path, rows, against, cases=()):
    """The steps before the statistics: a record with its cases, and their scores."""
    record, scores = EvaluationRecord(tmp_path, {}), Scores(tmp_path / "scores.csv")
    for case in cases:
        record.begin(case)
    scores.add(rows)
    return record, Statistics(record, scores, against)


def test_nothing_is_written_where_nothing_was_scored(tmp_path):
    record, step = made(tmp_path, [], "cubic")
    step.run()
    assert not record.folder.statistics.exists()


def test_the_summary_has_the_real_scans_beside_two_protocols_and_says_where_a_method_has_fewer():
    given = [*rows([20, 30]), *rows([20, 30], factor=3.0), *rows([25], "peer")]
    given += [Row("real", "GLADE", 5.8, "rect", "pique", "", 30.0, "1")]
    origins = {"c0": Origin("c0", "simulated"), "c1": Origin("c1", "simulated"), "real": Origin("real", "real")}
    text = summary_table(statistics(given, [], origins))
    assert "real, pooled (n 1)" in text
    assert "25 (n 1)" in text
    assert text.count("(n 1)") == 3  # the peer's, of its protocol and pooled


def test_pooled_means_of_the_only_protocol_are_left_out():
    origins = {"c0": Origin("c0", "simulated"), "real": Origin("real", "real")}
    real = Row("real", "GLADE", 5.8, "rect", "pique", "", 30.0, "1")
    text = summary_table(statistics([*rows([20]), real], [], origins))
    assert "simulated, pooled" not in text
    assert "4x rect" in text
    assert "real, pooled" in text


def test_the_file_and_the_table_say_the_same(tmp_path):
    record, step = made(tmp_path, rows([25.5]), "cubic", [EvaluatedCase("c0", truth=True)])
    step.run()
    found = read_statistics(record.folder.statistics)
    assert one(found, factor="4").mean == one(found, factor="all", profile="simulated").mean == 25.5
    assert "25.5" in summary_table(found)
    assert record.problems == ["against: there are no scores of cubic"]


def test_pairs_of_scans_count_once_for_each_evaluated_scan(tmp_path):
    pairs = [("a", "b"), ("a", "c"), ("b", "a")]
    given = [Row(f"{e} against {r}", "x", 5.0, "rect", "m", "", 1.0, "1") for e, r in pairs]
    record, step = made(tmp_path, given, [])
    step.run()
    assert [(s.profile, s.n) for s in read_statistics(record.folder.statistics)] == [("real", 2)]


@pytest.mark.parametrize("against", [5, None, [1]])
def test_methods_to_compare_with_are_names(tmp_path, against):
    with pytest.raises(Refusal, match="against must be"):
        made(tmp_path, [], against)
