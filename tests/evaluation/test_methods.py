"""Our methods in an evaluation: interpolations, and the shipped inference with its settings and failures."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from scripts.evaluation.baselines import Baselines
from scripts.evaluation.cases import EvaluatedCase
from scripts.evaluation.methods import InferenceRun, InterpolatedMethods, StacksRun
from scripts.evaluation.record import EvaluationRecord
from scripts.geometry.errors import Refusal
from scripts.run import child
from tests.conftest import ROOT

from ..data.thick_scans import write_scan

SHIPPED = str(ROOT / "configs/inference.yaml")


def test_the_command_is_what_one_would_type(tmp_path):
    run = InferenceRun(EvaluationRecord(tmp_path, {}), SHIPPED, {"detail": 0.5, "views": [1]}, ROOT)
    command = " ".join(run.command()[1:])
    assert command.startswith(f"-m monai.bundle run inference --config_file {SHIPPED} --bundle_root {ROOT}")
    assert (
        f"--detail 0.5 --views [1] --dataset_dir {tmp_path}/scans --output_dir {tmp_path}/methods/GLADE --redo changed"
        in command
    )


def test_sharpness_values_are_methods_of_their_own(tmp_path):
    run = InferenceRun(EvaluationRecord(tmp_path, {}), SHIPPED, {"detail": 0.5}, ROOT, sharpness_values=[0.5, 1])
    assert run.names == ["GLADE", "GLADE 0.5", "GLADE 1"]
    command = " ".join(run.command("GLADE 0.5"))
    assert "--detail 0.5 --sharpness 0.5" in command
    assert f"--output_dir {tmp_path}/methods/GLADE 0.5 --redo changed" in command


@pytest.mark.parametrize("sharpness_values", [0.5, "0.5", ["0.5"], [1.5], [True], [0.5, 0.5]])
def test_sharpness_values_of_another_form_are_refused(tmp_path, sharpness_values):
    with pytest.raises(Refusal, match=r"^sharpness_values "):
        InferenceRun(EvaluationRecord(tmp_path, {}), SHIPPED, {}, ROOT, sharpness_values=sharpness_values)


def test_what_an_earlier_call_did_is_not_taken_for_this_one(tmp_path, monkeypatch):
    record = EvaluationRecord(tmp_path, {})
    record.begin(EvaluatedCase("a"))
    (tmp_path / "methods/GLADE").mkdir(parents=True)
    old = {"case": "a", "status": "done", "seconds": 1.0, "weights_sha256": "old"}
    (tmp_path / "methods/GLADE/summary.json").write_text(json.dumps({"cases": [old]}))
    monkeypatch.setattr(child.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1))
    InferenceRun(record, SHIPPED, {}, ROOT).run()
    assert record.cases["a"].has_failed("GLADE")
    assert "wrote no summary.json" in record.problems[0]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (None, "wrote no summary.json"),
        ([], "left no row"),
        ([{"case": "a", "status": "refused", "reason": "too small"}], "refused: too small"),
    ],
)
def test_what_the_inference_did_not_do_is_named(tmp_path, monkeypatch, rows, reason):
    record = EvaluationRecord(tmp_path, {})
    record.begin(EvaluatedCase("a"))
    (tmp_path / "methods/GLADE").mkdir(parents=True)

    def run(*_, **__):
        if rows is not None:
            (tmp_path / "methods/GLADE/summary.json").write_text(json.dumps({"cases": rows}))
        return SimpleNamespace(returncode=1)

    monkeypatch.setattr(child.subprocess, "run", run)
    InferenceRun(record, SHIPPED, {}, ROOT).run()
    assert record.cases["a"].has_failed("GLADE")
    assert reason in " ".join([record.cases["a"].methods["GLADE"].reason, *record.problems])


STACKS = [{"factor": 4, "profile": "rect"}, {"factor": 4, "profile": "rect", "stacks": [2, 0]}]


def test_stacks_are_fused_case_by_case_and_cases_of_one_stack_are_left_alone(tmp_path, monkeypatch):
    record, calls = EvaluationRecord(tmp_path, {}), []
    for case in (EvaluatedCase("one"), EvaluatedCase("a", stacks=[2, 0]), EvaluatedCase("b", stacks=[2, 0])):
        record.begin(case)
    method = tmp_path / "methods/GLADE stacks"
    method.mkdir(parents=True)
    settings = {"inference": {"sharpness": 0.0}}
    rows = [
        {"case": "a", "status": "done", "seconds": 2.0, "settings": settings},
        {"case": "b", "status": "refused", "reason": "too small"},
    ]

    def run(command, **_):
        calls.append(" ".join(command))
        (method / "summary.json").write_text(json.dumps({"cases": rows[: len(calls)]}))
        return SimpleNamespace(returncode=1)

    monkeypatch.setattr(child.subprocess, "run", run)
    fused = StacksRun(record, str(ROOT / "configs/stacks.yaml"), {"floor": 0.3}, STACKS, ROOT)
    assert fused.names == ["GLADE stacks"]
    fused.run()
    assert len(calls) == 2
    assert f"run stacks --config_file {ROOT}/configs/stacks.yaml" in calls[0]
    assert f"--floor 0.3 --dataset_dir {tmp_path}/stacks/a --output_dir {method} --redo changed" in calls[0]
    assert record.cases["a"].methods["GLADE stacks"].seconds == 2.0
    assert record.sharpness == {"GLADE stacks": 0.0}
    assert record.cases["b"].methods["GLADE stacks"].reason == "refused: too small"
    assert "GLADE stacks" not in record.cases["one"].methods


def test_without_a_protocol_of_several_stacks_there_is_no_such_method(tmp_path):
    assert StacksRun(EvaluationRecord(tmp_path, {}), SHIPPED, {}, STACKS[:1], ROOT).names == []


def test_interpolated_volumes_share_a_grid_and_cubic_goes_through_the_slices(tmp_path):
    path = write_scan(tmp_path / "scans/a.nii.gz", spacing=(1.0, 1.0, 5.0))  # a slice centre is a voxel centre
    baselines = Baselines(SHIPPED, tmp_path / "scans", {"regularisation": 1e-5})  # exact
    made = baselines("a", ("input", "nearest", "linear", "cubic", "consistent cubic"))
    assert {tuple(v.shape) for n, v in made.items() if n != "input"} == {(1, 24, 20, 40)}
    slices = made["input"].numpy()
    for name in ("nearest", "linear", "cubic"):
        np.testing.assert_allclose(made[name].numpy()[..., 2::5], slices, rtol=1e-3, atol=0.1)
    means = made["consistent cubic"].numpy().reshape(1, 24, 20, 8, 5).mean(-1)
    np.testing.assert_allclose(means, slices, rtol=1e-2, atol=1)
    assert path.exists()


def test_settings_of_the_inference_hold_for_the_interpolations_too(tmp_path):
    write_scan(tmp_path / "scans/a.nii.gz")
    record = EvaluationRecord(tmp_path, {})
    record.begin(EvaluatedCase("a"))
    settings = {"slice_thickness_mm": 3.0, "slice_profile": "gauss"}
    InterpolatedMethods(["cubic"], record, SHIPPED, settings, ROOT).run()
    case = record.cases["a"]
    assert (case.assumed_profile, case.slice_thickness_mm, case.thickness_over_spacing) == ("gauss", 3.0, 0.75)
    assert case.spacing_mm == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("methods", ["cubic", ["cubic", "lanczos"]])
def test_an_unknown_interpolation_is_refused(tmp_path, methods):
    with pytest.raises(Refusal, match="interpolations must be"):
        InterpolatedMethods(methods, EvaluationRecord(tmp_path, {}), SHIPPED, {}, ROOT)
