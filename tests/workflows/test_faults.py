"""Runs that are killed: a few of the kills of benchmarks/faults.py, and that it would find what is wrong."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from benchmarks.faults import FIRST, NOTES, OTHER, Faults, Results, contents, inspect, inspect_end
from tests.conftest import ROOT


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs fork and /proc")
def test_killed_runs_leave_no_mixture_lose_nothing_and_are_completed_by_the_next_call():
    command = [sys.executable, "-m", "benchmarks.faults", "--kills", "15", "--torchrun", "0"]
    run = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr[-2000:]
    assert "0 mixed, 0 lost, 0 untrue, 0 unequal, 0 left over, 0 not killed" in run.stdout.splitlines()[-1]


@pytest.fixture
def out(tmp_path):
    """An output folder with the results of one case, and what runs with two settings would make."""
    folder = tmp_path / "out"
    (folder / "a").mkdir(parents=True)
    for name, text in (("a_glade.nii.gz", "one"), ("a_uncertainty.nii.gz", "two"), (NOTES, "mine")):
        (folder / "a" / name).write_text(text)
    first = Results(FIRST, {"a": contents(folder / "a")})
    other = Results(OTHER, {"a": {name: value[::-1] for name, value in first.files["a"].items()}})
    (folder / ".glade").mkdir()
    write_row(folder, 1.0)
    return folder, first, other


def write_row(folder, detail):
    row = {"case": "a", "status": "done", "settings": {"detail": detail}}
    (folder / ".glade/a.json").write_text(json.dumps(row))
    (folder / "summary.json").write_text(json.dumps({"cases": [row]}))


def found(out, earlier=True) -> dict:
    folder, first, other = out
    faults = Faults()
    inspect(folder, [first, other], first if earlier else None, faults, "")
    return dict(faults.found)


def test_a_sound_folder_has_no_faults(out):
    faults = Faults()
    inspect_end(out[0], out[1], 0, faults, "")
    assert (found(out), faults.where) == ({}, [])


def test_faults_are_found(out):
    folder, first, _ = out
    (folder / "a/a_uncertainty.nii.gz").write_text("of another result")
    assert found(out) == {"mixed": 1, "untrue": 2}
    (folder / "a/a_uncertainty.nii.gz").write_text("two")
    (folder / "a" / NOTES).unlink()
    assert found(out) == {"lost": 1}
    write_row(folder, 0.5)
    assert found(out, earlier=False) == {"untrue": 2}
    shutil.rmtree(folder / "a")
    assert found(out) == {"lost": 1, "untrue": 2}
    (folder / ".a.0123abcd.partial").mkdir()
    faults = Faults()
    inspect_end(folder, first, 1, faults, "")
    assert faults.found == {"unequal": 4, "left over": 1}
