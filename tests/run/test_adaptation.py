import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from scripts.data.case import Case
from scripts.geometry.errors import Refusal
from scripts.run import adaptation, child
from scripts.run.locks import OutputLock
from tests.conftest import ROOT


@pytest.fixture
def adapt(tmp_path, monkeypatch):
    """`adapt_weights` with a training that writes model.pt and ends with `code`; counts how often it ran."""

    def run(code: int = 0, training=None, **more):
        def quick(command, env, **_):
            run.count += 1
            run.env, given = env, dict(zip(command[6::2], command[7::2], strict=True))
            (Path(given["--output_dir"]) / "model.pt").write_text(f"weights {run.count}")
            return CompletedProcess(command, code)

        monkeypatch.setattr(child.subprocess, "run", training or quick)
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


def test_how_far_the_training_is_stands_in_the_log(adapt, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(adaptation, "SECONDS_BETWEEN_LINES", 0.01)

    def slow(command, env, stdout, **_):
        for line in ("12:00:01 INFO training on 1 scans: a", "12:00:07 INFO epoch 3: val_psnr 28.100 dB"):
            print(line, file=stdout, flush=True)
            waited = time.monotonic() + 10
            while not any(line.partition("INFO ")[2] in found for found in caplog.messages) and "epoch" in line:
                assert time.monotonic() < waited, caplog.text
                time.sleep(0.01)
        return CompletedProcess(command, 1)

    with pytest.raises(Refusal):
        adapt(training=slow)
    found = [message for message in caplog.messages if message.startswith("adapting the weights, ")]
    assert found[-1] == "adapting the weights, 00:00 of up to 10 minutes: epoch 3: val_psnr 28.100 dB"


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


def test_a_folder_that_a_killed_adaptation_left_is_removed(adapt):
    left = adapt.target.parent / ".adapting-0a1b2c3d"
    left.mkdir(parents=True)
    (left / "last.pt").write_text("half")
    adapt()
    assert sorted(path.name for path in adapt.target.parent.iterdir()) == [
        "adaptation.log",
        adaptation.RECORD,
        "model.pt",
    ]


def test_two_runs_that_adapt_to_the_same_scans_train_once(adapt):
    lock = OutputLock(adapt.target.parent / ".lock")
    adapt.target.parent.mkdir(parents=True)
    lock.acquire()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(adapt)
        with pytest.raises(TimeoutError):
            waiting.result(0.3)
        assert adapt.count == 0
        lock.release()
        assert waiting.result(10) == "weights 1"
    assert adapt() == "weights 1"


CHILD = "import os, pathlib, time; pathlib.Path({file!r}).write_text(str(os.getpid())); time.sleep(60)"
PARENT = "import sys; from scripts.run.child import run_child; run_child([sys.executable, '-m', 'child'], cwd={cwd!r})"


def test_a_child_ends_when_its_parent_is_killed(tmp_path):
    (tmp_path / "child.py").write_text(CHILD.format(file=str(tmp_path / "pid")))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    parent = subprocess.Popen([sys.executable, "-c", PARENT.format(cwd=str(tmp_path))], env=environment)
    pid = int(wait_for(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text()))
    parent.kill()
    parent.wait()
    wait_for(lambda: not is_running(pid))


def test_a_child_sees_its_arguments_and_its_exit_code_is_returned(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(tmp_path)]))
    (tmp_path / "child.py").write_text("import sys; sys.exit(f'{sys.argv[0][-8:]} {sys.argv[1:]} {__name__}')")
    with (tmp_path / "said").open("w") as said:
        code = child.run_child([sys.executable, "-m", "child", "--a", "b"], cwd=tmp_path, stderr=said)
    assert code == 1
    assert (tmp_path / "said").read_text() == "child.py ['--a', 'b'] __main__\n"


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def is_running(pid: int) -> bool:
    """Whether the process is there and has not ended; nobody may have asked for its exit code yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
