import hashlib
import json
import logging
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from filelock import FileLock
from monai.data import MetaTensor

from scripts.data.acceptance import ScanProtocol
from scripts.data.case import Case
from scripts.data.discovery import find_nifti
from scripts.geometry.errors import Refusal
from scripts.run.fingerprints import fingerprint, location_hash
from scripts.run.record import RunRecord, read_summary

from ..data.thick_scans import oblique_affine, voxels, write_scan

SETTINGS = {"sharpness": 0.5, "views": ["sagittal", "axial"], "window": (64, 64)}


def volume(spacing=(1.0, 1.0, 4.0), shape=(24, 20, 8)) -> MetaTensor:
    return MetaTensor(torch.zeros(1, *shape), affine=torch.as_tensor(oblique_affine(spacing)))


@pytest.fixture
def case(tmp_path):
    return find_nifti(write_scan(tmp_path / "scans/knee.nii.gz"))[0]


@pytest.fixture
def make(tmp_path):
    def record(settings=SETTINGS, **more) -> RunRecord:
        made = RunRecord(tmp_path / "out", settings, **more)
        made.open()
        return made

    return record


PROTOCOL = ScanProtocol(2, 4.0, 4.0, "gauss", "largest spacing", "unknown", "setting slice_profile")


def do(record, case, residual=1e-4):
    image = volume()
    image.meta["protocol"] = PROTOCOL
    with record.case(case) as entry:
        assert entry.to_do
        entry.loaded(image)
        folder = record.output_dir / case.name
        folder.mkdir(exist_ok=True)
        (folder / f"{case.name}_glade.nii.gz").write_bytes(b"x")
        pred = volume((1, 1, 1), (24, 20, 32))
        pred.meta["residual"] = residual
        entry.done(pred)


def refuse(record, case, reason="no"):
    with record.case(replace(case, refusal=reason)) as entry:
        assert not entry.to_do


def rows(record) -> dict:
    content = json.loads((record.output_dir / "summary.json").read_text())
    return {row["case"]: row for row in content["cases"]}


def test_a_done_case_has_a_whole_row(make, case, tmp_path):
    weights = tmp_path / "model.pt"
    weights.write_bytes(b"weights")
    record = make(weights=weights)
    do(record, case)
    row = rows(record)["knee"]
    assert (row["status"], row["reason"], row["residual"]) == ("done", None, 1e-4)
    assert row["input"]["shape"] == [24, 20, 8]
    assert row["input"]["spacing_mm"] == [1, 1, 4]
    np.testing.assert_allclose(row["input"]["affine"], oblique_affine())
    assert row["output"]["shape"] == [24, 20, 32]
    assert row["output"]["spacing_mm"] == [1, 1, 1]
    assert row["protocol"] == PROTOCOL.as_row()
    assert row["weights_sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert row["settings"] == {"sharpness": 0.5, "views": ["sagittal", "axial"], "window": [64, 64]}
    assert row["files"] == ["knee/knee_glade.nii.gz"]
    assert row["seconds"] >= 0
    assert str(tmp_path) not in json.dumps(row)
    (read,) = read_summary(record.output_dir)
    assert (read.case, read.protocol, read.as_row()) == ("knee", PROTOCOL, row)


def test_a_row_is_there_as_soon_as_its_case_ends(make, case):
    record = make()
    do(record, case)
    assert list(rows(record)) == ["knee"]
    refuse(record, replace(case, name="other"), "too\nthin")
    assert rows(record)["other"]["reason"] == "too thin"
    counts = json.loads((record.output_dir / "summary.json").read_text())["counts"]
    assert counts == {"done": 1, "refused": 1}


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (Refusal("a.nii: too thin"), "refused", "a.nii: too thin"),
        (ValueError("x\ny"), "failed", "ValueError: x y"),
        (OSError(28, "No space left on device", "/mnt/someone/x"), "failed", "No space left on device"),
    ],
)
def test_an_error_behind_monais_wrappers_is_found(make, case, error, status, reason):
    record = make()
    with record.case(case):
        raise RuntimeError("applying transform <object>") from error
    row = rows(record)["knee"]
    assert (row["status"], row["reason"]) == (status, reason)


@pytest.mark.parametrize("text", [None, "[]", "{", '{"cases": [{"status": "done"}]}'])
def test_a_summary_that_cannot_be_read_is_refused(tmp_path, text):
    if text is not None:
        (tmp_path / "summary.json").write_text(text)
    with pytest.raises(Refusal, match=r"^summary\.json (cannot be read|is not the record of a run)"):
        read_summary(tmp_path)


def test_a_second_call_knows_what_is_done(make, case):
    do(make(), case)
    assert make().is_done(case)
    assert not make(redo=True).is_done(case)
    assert not make({**SETTINGS, "sharpness": 0.6}).is_done(case)


def test_other_weights_another_input_or_a_missing_file_make_a_case_new(make, case, tmp_path):
    (tmp_path / "a.pt").write_bytes(b"a")
    (tmp_path / "b.pt").write_bytes(b"b")
    do(make(weights=tmp_path / "a.pt"), case)
    assert make(weights=tmp_path / "a.pt").is_done(case)
    assert not make(weights=tmp_path / "b.pt").is_done(case)
    assert not make(weights=tmp_path / "a.pt").is_done(replace(case, frame=3))
    sidecar = tmp_path / "scans/knee.json"
    sidecar.write_text("{}")
    assert not make(weights=tmp_path / "a.pt").is_done(case)
    sidecar.unlink()
    assert make(weights=tmp_path / "a.pt").is_done(case)
    os.utime(case.files[0], ns=(1, 1))
    assert not make(weights=tmp_path / "a.pt").is_done(case)
    do(make(weights=tmp_path / "a.pt"), case)
    (tmp_path / "out/knee/knee_glade.nii.gz").unlink()
    assert not make(weights=tmp_path / "a.pt").is_done(case)


def test_refused_failed_and_half_written_rows_are_not_done(make, case):
    record = make()
    refuse(record, case)
    assert not make().is_done(case)
    do(record, case)
    (record.output_dir / ".rows/knee.json").write_text('{"case": "knee", "sta')
    assert not make().is_done(case)
    record.merge()
    assert rows(record) == {}


def test_a_case_begun_again_has_no_row_until_it_ends(make, case):
    do(make(), case)
    (make().output_dir / ".knee.partial").mkdir()
    with make(redo=True).case(case):
        assert not make().is_done(case)
        assert not (make().output_dir / ".knee.partial").exists()


def test_archives_give_many_scans_one_size_and_one_time(make, case, tmp_path):
    file = case.files[0]
    other = tmp_path / "other" / file.name
    other.parent.mkdir()
    content = bytearray(file.read_bytes())
    content[-6] ^= 1  # of the checksum at the end
    other.write_bytes(content)
    times = file.stat().st_mtime_ns
    os.utime(other, ns=(times, times))
    assert fingerprint(case) != fingerprint(replace(case, files=(other,)))


def test_the_result_of_another_scan_of_one_name_is_not_replaced(make, case, tmp_path, caplog):
    do(make(), case)
    other = find_nifti(write_scan(tmp_path / "elsewhere/knee.nii.gz", voxels((25, 20, 8))))[0]
    assert make().belongs_to_other_scan(other)
    assert not make(redo=True).belongs_to_other_scan(other)
    record = make()
    with caplog.at_level(logging.ERROR), record.case(other) as entry:
        assert not entry.to_do
    assert "knee: refused: out holds the result of another scan of this name" in caplog.text
    with pytest.raises(SystemExit):
        record.conclude()
    assert rows(record)["knee"]["status"] == "done"  # still the first one's
    assert not make().belongs_to_other_scan(case)


def test_a_call_that_failed_does_not_give_up_what_an_earlier_one_made(make, case, tmp_path):
    do(make(), case)
    record = make({"sharpness": 1})
    with record.case(case):
        raise MemoryError("no memory")
    other = find_nifti(write_scan(tmp_path / "elsewhere/knee.nii.gz", voxels((25, 20, 8))))[0]
    assert make().belongs_to_other_scan(other)
    assert not make().belongs_to_other_scan(case)


def test_a_scan_that_has_another_name_now_is_no_other_one(make, case, tmp_path):
    do(make(), case)
    other = find_nifti(write_scan(tmp_path / "elsewhere/knee.nii.gz", voxels((25, 20, 8))))[0]
    assert not make().belongs_to_other_scan(other, {location_hash(case), location_hash(other)})


def test_a_sidecar_that_comes_later_makes_no_other_scan(make, case):
    do(make(), case)
    case.files[0].with_name("knee.json").write_text('{"SliceThickness": 3}')
    assert not make().belongs_to_other_scan(case)
    assert not make().is_done(case)


def test_an_edited_or_a_moved_scan_is_no_other_one(make, case, tmp_path):
    do(make(), case)
    moved = case.files[0].rename(tmp_path / "knee.nii.gz")
    assert not make().belongs_to_other_scan(replace(case, files=(moved,)))
    assert make().is_done(replace(case, files=(moved,)))
    write_scan(case.files[0], voxels((25, 20, 8)))
    assert not make().belongs_to_other_scan(case)
    assert not make().is_done(case)


def test_what_an_earlier_call_left_and_this_one_did_not_write_goes(make, case):
    do(make(), case)
    folder = make().output_dir / "knee"
    (folder / "knee_report.html").write_text("of the earlier call")
    for users in ("notes.txt", "knee_segmentation.nii.gz"):
        (folder / users).write_text("the user's")
    record = make({"sharpness": 1})
    with record.case(case) as entry:
        entry.loaded(volume())
        (folder / "knee_glade.nii.gz").unlink()
        (folder / "knee_glade.nii.gz").write_bytes(b"new")
        entry.done(volume((1, 1, 1)))
    left = sorted(path.name for path in folder.iterdir())
    assert left == ["knee_glade.nii.gz", "knee_segmentation.nii.gz", "notes.txt"]
    assert rows(record)["knee"]["files"] == ["knee/knee_glade.nii.gz"]


def test_a_dicom_volume_within_a_file_has_a_fingerprint(make, tmp_path):
    (tmp_path / "e.dcm").write_bytes(b"x")
    second = SimpleNamespace(planes_in_files=(5, 6, 7, 8, 9))
    case = Case("e", (tmp_path / "e.dcm",), "dicom", volume=second)
    do(make(), case)
    assert make().is_done(case)
    first = SimpleNamespace(planes_in_files=(0, 1, 2, 3, 4))
    assert not make().is_done(replace(case, volume=first))


def test_conclude_counts_and_gives_the_exit_code(make, case, caplog):
    record = make()
    do(record, case)
    with record.case(case) as entry:
        assert not entry.to_do
    with caplog.at_level(logging.INFO):
        record.conclude()
    assert re.search(r"2 cases: 1 done, 1 already done, 0 refused, 0 failed; see .*summary.json", caplog.text)
    refuse(record, replace(case, name="b"))
    with pytest.raises(SystemExit) as stop:
        record.conclude()
    assert stop.value.code == 1


def test_conclude_without_any_case_still_writes_a_record(make):
    record = make()
    record.conclude()
    assert rows(record) == {}


def test_an_unwritable_output_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(Refusal, match=r"cannot be written to .*: set output_dir"):
        RunRecord(tmp_path / "file/out", {}).open()


def test_missing_weights_are_refused_before_the_first_case(tmp_path):
    with pytest.raises(Refusal, match=r"no weights at .*random weights are never used"):
        RunRecord(tmp_path / "out", {}, weights=tmp_path / "model.pt").open()
    assert not (tmp_path / "out").exists()


def test_making_a_record_writes_nothing(tmp_path):
    RunRecord(tmp_path / "out", {}, weights=tmp_path / "model.pt")
    assert list(tmp_path.iterdir()) == []


def test_a_row_that_cannot_be_written_still_counts(make, case, caplog):
    record = make()
    (record.output_dir / ".rows/knee.json").mkdir()
    refuse(record, case)
    assert "its row cannot be written" in caplog.text
    with pytest.raises(SystemExit):
        record.conclude()


def test_what_is_not_finite_is_null_in_json(make, case):
    record = make()
    do(record, case, residual=float("nan"))
    assert rows(record)["knee"]["residual"] is None


def test_merge_waits_for_a_merge_of_another_process(make, case):
    record = make()
    refuse(record, case)
    (record.output_dir / "summary.json").unlink()
    thread = threading.Thread(target=record.merge)
    with FileLock(record.output_dir / ".rows/.lock"):
        thread.start()
        thread.join(0.3)
        assert not (record.output_dir / "summary.json").exists()
    thread.join(10)
    assert list(rows(record)) == ["knee"]


def test_many_at_once_lose_no_row(make, case):
    def one(index):
        refuse(make(), replace(case, name=f"c{index:02d}"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(40)))
    assert len(rows(make())) == 40
    assert not [p for p in (make().output_dir).rglob(".*json*") if p.is_file()]


def test_a_case_that_ends_without_a_result_has_failed(make, case):
    record = make()
    with record.case(case) as entry:
        entry.loaded(volume())
    assert rows(record)["knee"]["reason"] == "processing ended without a result"
    assert dict(record.counts) == {"failed": 1}


def test_an_error_after_the_end_of_a_case_does_not_change_how_it_ended(make, case):
    record = make()
    with record.case(case) as entry:
        entry.loaded(volume())
        entry.done(volume((1, 1, 1)))
        raise OSError("a handler")
    assert rows(record)["knee"]["status"] == "done"
    assert dict(record.counts) == {"done": 1}


def test_a_loop_of_links_is_one_failed_case(make, tmp_path):
    for one, other in (("a", "b"), ("b", "a")):
        (tmp_path / f"{one}.nii.gz").symlink_to(tmp_path / f"{other}.nii.gz")
    loop = Case("a", (tmp_path / "a.nii.gz",))
    assert location_hash(loop) is None
    record = make()
    with record.case(loop):
        raise OSError("too many links")
    assert rows(record)["a"]["status"] == "failed"


def test_a_summary_that_cannot_be_written_ends_with_code_1(tmp_path):
    (tmp_path / "summary.json").mkdir()
    record = RunRecord(tmp_path, {})
    record.open()
    with pytest.raises(SystemExit) as end:
        record.conclude()
    assert end.value.code == 1
