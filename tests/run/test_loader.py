import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data import Dataset, MetaTensor
from monai.inferers import Inferer
from monai.transforms import Compose

from scripts.data.acceptance import AcceptScand
from scripts.data.discovery import find_nifti
from scripts.data.readers import LoadImageCased, NiftiScanReader
from scripts.data.saving import SaveImageCased
from scripts.run.evaluator import CaseEvaluator
from scripts.run.loader import CaseLoader
from scripts.run.record import RunRecord

from ..data.thick_scans import voxels, write_scan


class IdentityInferer(Inferer):
    """Gives the scan back; a voxel of -1 breaks it, -2 stops it, -3 makes it sleep, -4 kills its process."""

    def __call__(self, inputs, network, *args, **kwargs):
        corner = float(inputs[0, 0, 0, 0, 0])
        if corner == -1:
            raise RuntimeError("out of memory\nsomewhere")
        if corner == -2:
            raise KeyboardInterrupt
        if corner == -4:
            os.kill(os.getpid(), signal.SIGKILL)
        while corner == -3:
            time.sleep(0.1)
        return inputs


class Residual:
    def __call__(self, data):
        data["pred"].meta["residual"] = 0.25
        return data


def run(scans: Path, out: Path, **more) -> RunRecord:
    record = RunRecord(out, {"sharpness": 1}, **more)
    load = Compose(
        [LoadImageCased("image", {"nifti": NiftiScanReader()}), AcceptScand("image", smallest_window_voxels=8)]
    )
    evaluator = CaseEvaluator(
        record=record,
        device=torch.device("cpu"),
        val_data_loader=CaseLoader(Dataset([case.as_item() for case in find_nifti(scans)], load), record),
        network=torch.nn.Identity(),
        inferer=IdentityInferer(),
        postprocessing=Compose([Residual(), SaveImageCased("pred", out, ["glade"], replacing=record.replacing)]),
    )
    evaluator.run()
    return record


def rows(out: Path) -> dict:
    return {row["case"]: row for row in json.loads((out / "summary.json").read_text())["cases"]}


def marked(value) -> np.ndarray:
    data = voxels()
    data[0, 0, 0] = value
    return data


@pytest.fixture
def scans(tmp_path) -> Path:
    folder = tmp_path / "scans"
    write_scan(folder / "a_good.nii.gz")
    write_scan(folder / "b_breaks.nii.gz", marked(-1))
    write_scan(folder / "c_constant.nii.gz", np.full((24, 20, 8), 5, np.int16))
    write_scan(folder / "d_flat.nii.gz", voxels((24, 20)))
    whole = write_scan(folder / "e_cut.nii.gz").read_bytes()
    (folder / "e_cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    write_scan(folder / "f_frames.nii.gz", np.stack([voxels(), voxels(seed=1)], -1))
    return folder


def test_every_case_ends_in_the_record_and_the_others_are_done(scans, tmp_path):
    out = tmp_path / "out"
    record = run(scans, out)
    found = rows(out)
    assert {name: row["status"] for name, row in found.items()} == {
        "a_good": "done",
        "b_breaks": "failed",
        "c_constant": "refused",
        "d_flat": "refused",
        "e_cut": "refused",
        "f_frames_f00": "done",
        "f_frames_f01": "done",
    }
    assert found["b_breaks"]["reason"] == "RuntimeError: out of memory somewhere"
    assert found["a_good"]["residual"] == 0.25
    assert found["a_good"]["protocol"]["profile"] == "rect"
    assert found["a_good"]["input"]["shape"] == [24, 20, 8]
    np.testing.assert_array_equal(
        nibabel.load(out / "f_frames_f01/f_frames_f01_glade.nii.gz").get_fdata(), voxels(seed=1)
    )
    assert {p.name for p in out.iterdir()} == {".glade", "summary.json", "a_good", "f_frames_f00", "f_frames_f01"}
    with pytest.raises(SystemExit):
        record.conclude()


def test_a_second_call_does_only_what_is_missing(scans, tmp_path):
    out = tmp_path / "out"
    run(scans, out)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*_glade.nii.gz")}
    (scans / "b_breaks.nii.gz").unlink()
    write_scan(scans / "b_breaks.nii.gz")
    record = run(scans, out)
    assert dict(record.counts) == {"kept": 3, "done": 1, "refused": 3}
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert dict(run(scans, out, redo=True).counts) == {"done": 4, "refused": 3}


def test_a_folder_of_nothing_usable_still_ends(tmp_path):
    write_scan(tmp_path / "scans/d_flat.nii.gz", voxels((24, 20)))
    record = run(tmp_path / "scans", tmp_path / "out")
    assert dict(record.counts) == {"refused": 1}


def test_a_case_is_loaded_only_when_it_is_asked_for(scans):
    (case,) = find_nifti(scans / "f_frames.nii.gz", 1)
    load = Compose([LoadImageCased("image", {"nifti": NiftiScanReader()}), AcceptScand("image")])
    (pending,) = CaseLoader(Dataset([case.as_item()], load))
    assert pending.case is case
    item = pending.load()
    assert item["image"].shape == (1, 24, 20, 8)
    assert isinstance(item["image"], MetaTensor)
    assert item["case"] is case


def test_a_failed_save_ends_its_case_alone(scans, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "a_good").write_text("a file is in the way")
    run(scans, out)
    assert rows(out)["a_good"]["status"] == "failed"
    assert "the result cannot be written to out" in rows(out)["a_good"]["reason"]
    assert rows(out)["f_frames_f00"]["status"] == "done"


def test_an_interrupt_stops_the_run(tmp_path):
    write_scan(tmp_path / "scans/a.nii.gz", marked(-2))
    write_scan(tmp_path / "scans/b.nii.gz")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "scans", tmp_path / "out")
    assert not (tmp_path / "out/b").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_run_loses_the_case_in_hand_only(tmp_path, number):
    scans, out = tmp_path / "scans", tmp_path / "out"
    write_scan(scans / "a.nii.gz")
    write_scan(scans / "b.nii.gz", marked(-3))
    write_scan(scans / "c.nii.gz")
    (out / ".b.0123abcd.partial").mkdir(parents=True)
    root = Path(__file__).parents[2]
    code = "import sys; from pathlib import Path; from tests.run.test_loader import run; run(*map(Path, sys.argv[1:]))"
    process = subprocess.Popen([sys.executable, "-c", code, str(scans), str(out)], cwd=root)
    try:
        deadline = time.monotonic() + 300  # of a busy machine
        while not ((out / "summary.json").exists() and (out / ".glade/b.lock").exists()):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        process.send_signal(number)
    assert process.wait(120) == -number
    assert {name: row["status"] for name, row in rows(out).items()} == {"a": "done"}
    assert not (out / "b").exists()
    was_killed = number == signal.SIGKILL  # a process asked to end was not killed over b
    assert (out / ".glade/b.lock").exists() == was_killed
    write_scan(scans / "b.nii.gz")
    assert dict(run(scans, out).counts) == {"kept": 1, "done": 2}
    assert sorted(path.name for path in out.iterdir()) == [".glade", "a", "b", "c", "summary.json"]
    assert sorted(path.name for path in (out / ".glade").iterdir()) == [".lock", "a.json", "b.json", "c.json"]


def test_a_case_that_kills_its_process_is_tried_twice_and_blocks_no_other(tmp_path):
    scans, out = tmp_path / "scans", tmp_path / "out"
    write_scan(scans / "a_kills.nii.gz", marked(-4))
    write_scan(scans / "b.nii.gz")
    code = "import sys; from pathlib import Path; from tests.run.test_loader import run; run(*map(Path, sys.argv[1:]))"
    command = [sys.executable, "-c", code, str(scans), str(out)]

    def call() -> int:
        return subprocess.run(command, cwd=Path(__file__).parents[2], check=False).returncode

    assert call() == -signal.SIGKILL
    assert not (out / "summary.json").exists()
    assert call() == -signal.SIGKILL
    assert {name: row["status"] for name, row in rows(out).items()} == {"b": "done"}
    assert call() == 0
    assert {name: row["status"] for name, row in rows(out).items()} == {"a_kills": "refused", "b": "done"}
    assert "2 processes were killed while they processed it" in rows(out)["a_kills"]["reason"]
