import json
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from scripts.data.case import Case
from scripts.geometry.errors import Refusal
from scripts.run import adaptation


@pytest.fixture
def adapt(tmp_path, monkeypatch):
    """`adapt_weights` with a training that writes model.pt and ends with `code`; counts how often it ran."""

    def run(code: int = 0, **more):
        def training(command, env, **_):
            run.count += 1
            run.env, given = env, dict(zip(command[5::2], command[6::2], strict=True))
            (Path(given["--output_dir"]) / "model.pt").write_text(f"weights {run.count}")
            return CompletedProcess(command, code)

        monkeypatch.setattr(adaptation.subprocess, "run", training)
        monkeypatch.setattr(adaptation, "fingerprint", lambda case: f"of {case.name}")
        monkeypatch.setattr(adaptation, "fingerprint_of_files", lambda files: f"of {files[0]}")
        given = {"settings": {"slice_profile": "rect", "frames": None}, "cases": [Case("a", ())], **more}
        adaptation.adapt_weights(str(tmp_path), str(tmp_path), "model.pt", str(run.target), **given)
        return run.target.read_text()

    run.count, run.target = 0, tmp_path / "out" / "adapted" / "model.pt"
    return run


def test_an_adaptation_is_kept_for_the_same_scans_weights_and_settings_only(adapt):
    assert adapt() == adapt() == "weights 1"
    other = {"cases": [Case("b", ())]}
    assert adapt(**other) == "weights 2"
    assert adapt(**other, settings={"slice_profile": "gauss"}) == "weights 3"
    assert adapt(**other, settings={"slice_profile": "gauss"}, redo=True) == "weights 4"
    record = json.loads(adapt.target.with_name(adaptation.RECORD).read_text())
    assert record == {"inputs": ["of model.pt", "of b"], "settings": {"slice_profile": "gauss"}}


def test_a_failed_training_leaves_no_weights(adapt):
    with pytest.raises(Refusal, match=r"could not be adapted \(exit code 1\): .*see .*adaptation.log for the reason"):
        adapt(code=1)
    assert [path.name for path in adapt.target.parent.iterdir()] == ["adaptation.log"]
    assert adapt() == "weights 2"


def test_a_folder_beside_the_weights_is_left_alone(adapt):
    neighbour = adapt.target.parent / "training"
    neighbour.mkdir(parents=True)
    (neighbour / "scan.nii").write_text("x")
    adapt()
    assert (neighbour / "scan.nii").exists()


def test_the_training_gets_no_variables_of_torchrun(adapt, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("MASTER_PORT", "29500")
    adapt()
    assert "PATH" in adapt.env
    assert not set(adaptation.LAUNCHER) & set(adapt.env)
