"""A few of the mutations of `benchmarks.dicom_fuzz` and `benchmarks.nifti_fuzz`, which run thousands."""

import random
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import dicom_fuzz, nifti_fuzz
from benchmarks.fuzzing import READ, SHORT, Tally, mutate
from tests.conftest import ROOT


@pytest.mark.slow
@pytest.mark.parametrize("fuzz", [dicom_fuzz, nifti_fuzz], ids=["DICOM", "NIfTI"])
def test_no_mutated_file_crashes_or_gives_a_short_volume(fuzz, capsys):
    assert fuzz.main(["40"]) == 0
    assert "40 files" in capsys.readouterr().out


def test_peak_memory_is_that_of_the_process_alone():
    held = np.ones(300 * 2**20, np.uint8)  # the processes of a fuzzing begin in one that holds as much as pytest does
    command = [sys.executable, "-c", "from benchmarks.memory import peak_bytes; print(peak_bytes())"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert 0 < int(found.stdout) < held.nbytes


def test_a_volume_that_lacks_a_slice_is_found(tmp_path):
    folder = tmp_path / "plain"
    dicom_fuzz.seeds(tmp_path)
    files = sorted(folder.iterdir())
    assert dicom_fuzz.examine(str(files[0])) == READ
    files[-1].write_bytes(b"no DICOM, and not of its name")
    files[-1].rename(files[-1].with_suffix(".txt"))
    assert dicom_fuzz.examine(str(files[0])).startswith(SHORT)


@pytest.mark.parametrize(("outcome", "bad"), [(READ, 0), ("refused for a reason", 0), (SHORT, 1), ("CRASH -11", 1)])
def test_what_counts_as_bad(outcome, bad, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    tally = Tally()
    tally.add("flipped", b"bytes", (outcome, 2**20, 0.1))
    assert tally.report(1) == bad
    assert len(list(tmp_path.iterdir())) == bad


def test_a_mutation_that_does_not_apply_gives_way_to_another():
    def impossible(data, chance):
        raise ValueError("no such element")

    name, data = mutate(bytes(1000), random.Random(0), [impossible])
    assert name == "flipped"
    assert len(data) == 1000
