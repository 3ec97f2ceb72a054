"""The record of an evaluation: rows in a fixed order, completed by the header, with how each method ended."""

import json

import pytest

from scripts.data.acceptance import ScanProtocol
from scripts.evaluation.cases import EvaluatedCase, MethodOutcome
from scripts.evaluation.record import EvaluationRecord, read_record
from scripts.geometry.errors import Refusal
from scripts.run.record import Row

HEADER = ScanProtocol(2, 4.0, 3.0, "gauss", "header", "header", "header")
INFERRED = Row("knee", seconds=1.5, weights_sha256="abc", settings={"sharpness": 0.5})
KEYS = ["case", "source", "truth", "factor", "profile", "assumed_profile", "protocol", "thickness_over_spacing",
        "noise", "stacks", "through_plane_axis", "spacing_mm", "sampled", "slice_spacing_mm", "slice_thickness_mm",
        "window", "status", "reason", "methods", "undefined"]  # fmt: skip


def test_a_row_has_every_key_in_order(tmp_path):
    record = EvaluationRecord(tmp_path, {"b": 1, "a": (2,)})
    record.begin(EvaluatedCase("knee"))
    record.inferred("knee", "GLADE", INFERRED)
    record.write()
    assert read_record(tmp_path).cases == [EvaluatedCase("knee", methods={"GLADE": MethodOutcome(seconds=1.5)})]
    record.method_done("knee", "GLADE")
    record.method_failed("knee", "cubic", Refusal("knee: no such file"))
    record.undefined("knee", "GLADE", "Pique", Refusal("too small"))
    record.done("knee")
    content = json.loads(record.folder.cases.read_text())
    (row,) = content["cases"]
    assert list(row) == KEYS
    assert json.dumps(row["methods"]) == json.dumps(
        {
            "GLADE": {"seconds": 1.5, "status": "done", "reason": None},
            "cubic": {"status": "failed", "reason": "no such file"},
        }
    )
    assert row["undefined"] == [{"method": "GLADE", "measure": "Pique", "reason": "too small"}]
    assert (content["weights_sha256"], content["sharpness"]) == ("abc", {"GLADE": 0.5})
    assert content["settings"] == {"a": [2], "b": 1}
    saved = read_record(tmp_path)
    assert saved.cases == list(record.cases.values())  # what is written comes back whole
    assert [case.as_row() for case in saved.cases] == content["cases"]
    assert (saved.weights_sha256, saved.sharpness, saved.settings) == ("abc", {"GLADE": 0.5}, {"a": [2], "b": 1})


def test_the_header_completes_a_scan_and_leaves_a_simulation_its_true_values():
    real = EvaluatedCase("a")
    real.complete_from_header(HEADER, [1.0, 1.0, 0.5])
    assert (real.profile, real.assumed_profile, real.protocol, real.factor) == ("gauss", "gauss", "gauss", 8.0)
    assert (real.slice_thickness_mm, real.thickness_over_spacing) == (3.0, 0.75)
    simulated = EvaluatedCase("b", factor=4, profile="rect", protocol="rect noise0.03", slice_thickness_mm=4.0)
    simulated.complete_from_header(HEADER, [1.0, 1.0, 1.0])
    assert (simulated.profile, simulated.assumed_profile, simulated.protocol) == ("rect", "gauss", "rect noise0.03")
    assert (simulated.factor, simulated.slice_thickness_mm, simulated.slice_spacing_mm) == (4, 4.0, 4.0)


def test_a_failed_case_is_open_no_more_and_ends_the_run_with_code_1(tmp_path):
    record = EvaluationRecord(tmp_path, {})
    record.begin(EvaluatedCase("a", source="s"))
    record.failed("a", ValueError("broken"))
    record.failed("unknown", "no scan")
    assert record.open_cases() == []
    assert [(c.source, c.status, c.reason) for c in record.cases.values()] == [
        ("s", "failed", "ValueError: broken"),
        ("unknown", "failed", "no scan"),
    ]
    with pytest.raises(SystemExit) as ended:
        record.conclude()
    assert ended.value.code == 1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (None, "run the evaluation first"),
        ("[1]", "not the record"),
        ("{", "not"),
        ('{"cases": [1]}', "not the record"),
        ('{"cases": [{"source": "a"}]}', "not the record"),
    ],
)
def test_another_file_is_not_read_as_a_record(tmp_path, text, line):
    if text is not None:
        (tmp_path / "cases.json").write_text(text)
    with pytest.raises(Refusal, match=line):
        read_record(tmp_path)
