import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import socket
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
from scripts.data.saving import case_folder
from scripts.dicom.discovery import find_series
from scripts.dicom.synthetic_series import write_series
from scripts.geometry.errors import Refusal
from scripts.run import rows as rows_module
from scripts.run.fingerprints import fingerprint, location_hash
from scripts.run.locks import OutputLock
from scripts.run.record import INTERRUPTED, MOST_TRIES, CaseEntry, RunRecord, read_summary

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
        write(record, case)
        pred = volume((1, 1, 1), (24, 20, 32))
        pred.meta["residual"] = residual
        entry.done(pred)


def write(record, case, content=b"x", *postfixes):
    with case_folder(record.output_dir, case, record.replacing) as folder:
        for postfix in postfixes or ("_glade.nii.gz",):
            (folder / f"{case.name}{postfix}").write_bytes(content)


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


def test_the_log_names_the_report_that_was_written(make, case, caplog):
    caplog.set_level("INFO")
    do(make(), case)
    assert "report" not in caplog.text
    record = make(write=["volume", "report"], redo=True)
    with record.case(case) as entry:
        image = volume()
        image.meta["protocol"] = PROTOCOL
        entry.loaded(image)
        write(record, case, b"x", "_glade.nii.gz", "_report.html", "_viewer.html")
        entry.done(volume((1, 1, 1), (24, 20, 32)))
    named = [line for line in caplog.messages if "report" in line]
    assert named == [f"knee: report in {record.output_dir}/knee/knee_report.html"]


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


def test_a_result_with_all_that_is_wanted_and_more_is_done(make, case):
    do(make(write=["volume", "dicom"]), case)
    assert rows(make())["knee"]["write"] == ["volume", "dicom"]
    assert make(write=["volume"]).is_done(case)
    assert make(write=["dicom", "volume"]).is_done(case)
    assert not make(write=["volume", "report"]).is_done(case)


def test_a_scan_of_which_nothing_would_be_written_is_refused(make, case):
    record = make(write=["dicom"])
    with record.case(case) as entry:
        assert not entry.to_do
    assert rows(record)["knee"]["reason"].endswith("--write dicom alone, which only a DICOM scan gets: add volume")


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
    (record.output_dir / ".glade/knee.json").write_text('{"case": "knee", "sta')
    assert not make().is_done(case)
    record.merge()
    assert rows(record) == {}


def test_an_earlier_result_and_its_row_live_until_the_new_one_is_complete(make, case):
    do(make(), case)
    record = make({"sharpness": 1}, redo=True)
    result = record.output_dir / "knee" / "knee_glade.nii.gz"
    with record.case(case) as entry:
        assert make().is_done(case)
        with case_folder(record.output_dir, case, record.replacing) as folder:
            (folder / result.name).write_bytes(b"new")
            assert result.read_bytes() == b"x"
            assert make().is_done(case)
        assert result.read_bytes() == b"new"
        for found in (rows(record)["knee"], json.loads((record.output_dir / ".glade/knee.json").read_text())):
            assert (found["status"], found["reason"]) == ("failed", INTERRUPTED)  # if it were killed here
        entry.done(volume((1, 1, 1)))
    assert rows(record)["knee"]["settings"] == {"sharpness": 1}
    assert rows(record)["knee"]["files"] == ["knee/knee_glade.nii.gz"]


def test_a_result_is_not_replaced_where_the_record_cannot_say_so(make, case):
    do(make(), case)
    record = make(redo=True)
    (record.output_dir / "summary.json").unlink()
    (record.output_dir / "summary.json").mkdir()
    with record.case(case) as entry:
        write(record, case, b"new")
        entry.done(volume((1, 1, 1)))
    assert (record.output_dir / "knee" / "knee_glade.nii.gz").read_bytes() == b"x"
    assert record.counts == {"failed": 1}


def test_other_settings_do_not_replace_a_result_unless_that_is_asked_for(make, case, caplog):
    do(make(), case)
    other = {**SETTINGS, "sharpness": 0.6}
    record = make(other)
    with caplog.at_level(logging.ERROR), record.case(case) as entry:
        assert not entry.to_do
    line = (
        "knee: refused: out holds its result with other settings (sharpness 0.5, now 0.6): give another output folder"
    )
    assert f"{line}, or --redo" in caplog.text
    assert make().is_done(case)
    with pytest.raises(SystemExit):
        record.conclude()
    changed = make(other, redo="changed")
    do(changed, case)
    assert changed.is_done(case)  # and is not done yet again
    do(make(SETTINGS, redo=True), case)
    assert make(SETTINGS).is_done(case)


def test_of_other_settings_those_that_were_set_are_named_not_what_follows_from_them(make, case, caplog):
    before = {**SETTINGS, "sharpness": 0.5, "detail_gain": 1.3, "sharp_weights_sha256": "ab"}
    do(make(before), case)
    for changes, named in (
        ({"sharpness": 0.0, "detail_gain": 1.2, "sharp_weights_sha256": None}, "(sharpness 0.5, now 0.0)"),
        ({"detail_gain": 1.2}, "(detail_gain 1.3, now 1.2)"),
        ({"sharp_weights_sha256": "cd"}, '(sharp_weights_sha256 "ab", now "cd")'),
    ):
        caplog.clear()
        with caplog.at_level(logging.ERROR), make({**before, **changes}).case(case):
            pass
        assert f"other settings {named}: give" in caplog.text


def test_files_are_added_without_redo_and_those_there_stay(make, case):
    do(make(write=["volume"]), case)
    record = make(write=["report"])
    with record.case(case) as entry:
        assert entry.to_do
        write(record, case, b"x", "_report.html")
        entry.done(volume((1, 1, 1)))
    assert rows(record)["knee"]["files"] == ["knee/knee_glade.nii.gz", "knee/knee_report.html"]
    assert make(write=["volume", "report"]).is_done(case)
    with make({**SETTINGS, "sharpness": 1}).case(case) as entry:
        assert not entry.to_do
    assert sorted(path.name for path in (record.output_dir / "knee").iterdir()) == [
        "knee_glade.nii.gz",
        "knee_report.html",
    ]
    other = make({**SETTINGS, "sharpness": 1}, write=["report"], redo=True)
    with other.case(case) as entry:
        write(other, case, b"y", "_report.html")
        entry.done(volume((1, 1, 1)))
    assert [path.name for path in (record.output_dir / "knee").iterdir()] == ["knee_report.html"]


def test_a_case_in_hand_of_another_run_is_left_to_it(make, case, caplog):
    first, second = make(), make()
    with first.case(case) as entry:
        assert list(second.in_turn([case, replace(case, name="other")])) == [1, 0]
        with caplog.at_level(logging.ERROR), second.case(case) as other:
            assert not other.to_do
        assert f"knee: left out: process {os.getpid()} on {socket.gethostname()} is processing it now" in caplog.text
        write(first, case)
        entry.done(volume((1, 1, 1)))
    assert rows(first)["knee"]["status"] == "done"
    with caplog.at_level(logging.INFO), pytest.raises(SystemExit):
        second.conclude()
    assert "1 case: 0 done, 0 already done, 0 refused, 0 failed, 1 left to another process; see" in caplog.text
    with second.case(case) as other:
        assert not other.to_do
    assert second.counts == {"elsewhere": 1, "kept": 1}
    assert not list((first.output_dir / ".glade").glob("[!.]*.lock"))


def test_a_case_that_another_run_finished_meanwhile_is_not_done_twice(make, case):
    """The other run finishes between the order of the cases and the turn of this one."""
    second = make()
    order = second.in_turn([case])
    do(make(), case)
    for _ in order:
        with second.case(case) as entry:
            assert not entry.to_do
    assert second.counts == {"kept": 1}


def test_a_file_system_without_locks_is_named_and_the_case_still_done(make, case, caplog, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(OutputLock, "warned", False)
    do(make(), case)
    do(make(redo=True), case)
    assert (
        caplog.text.count("the file system of out has no locks (No locks available): let no two runs write there") == 1
    )
    assert rows(make())["knee"]["status"] == "done"


def killed_over(case, record):
    """What a process leaves that is killed while it has the case in hand."""
    entry = CaseEntry(record, case)
    entry.begin()
    assert entry.to_do
    entry._lock.release()  # as the system does


def test_a_case_that_two_processes_were_killed_over_is_refused(make, case):
    other = replace(case, name="zebra")
    for _ in range(MOST_TRIES):
        assert list(make().in_turn([case, other])) in ([0, 1], [1, 0])
        killed_over(case, make())
    assert list(make().in_turn([case, other])) == [1, 0]
    for _ in range(2):
        record = make()
        with record.case(case) as entry:
            assert not entry.to_do
        assert record.counts == {"refused": 1}
        assert rows(record)["knee"]["reason"].startswith("2 processes were killed while they processed it, perhaps")
    do(make({"window": 8}), case)  # takes less memory: a try of its own
    killed_over(case, make(redo=True))
    do(make(redo=True), case)
    assert list(make().in_turn([case, other])) == [0, 1]


def test_an_interrupted_case_was_not_a_try(make, case):
    for _ in range(MOST_TRIES + 1):
        with pytest.raises(KeyboardInterrupt), make().case(case):
            raise KeyboardInterrupt
    do(make(), case)


def test_what_killed_processes_left_is_removed_by_the_next_call(make, case):
    do(make(), case)
    out = make().output_dir
    user = out / ".mine.partial"
    user.mkdir()
    left = [out / f".{name}.0123abcd.partial" for name in ("summary.json", "gone")]
    left += [out / ".glade" / f".{name}.json.0123abcd.partial" for name in ("knee", "gone")]
    for path in left:
        path.write_text("half")
    (out / ".busy.0123abcd.partial").mkdir()
    (out / ".aside.0123abcd.partial.earlier").mkdir()
    with OutputLock(out / ".glade" / "busy.lock"):
        make()
    assert not [path for path in left if path.exists()]
    assert (out / ".busy.0123abcd.partial").exists()  # a process is writing it
    assert (out / "aside").exists()  # its successor was never put in place
    assert user.exists()
    make()
    assert sorted(path.name for path in out.iterdir()) == [".glade", ".mine.partial", "aside", "knee", "summary.json"]
    assert sorted(path.name for path in (out / ".glade").iterdir()) == [".lock", "busy.lock", "knee.json"]


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
    record = make()
    with caplog.at_level(logging.ERROR), record.case(other) as entry:
        assert not entry.to_do
    assert "knee: refused: out holds the result of another scan of this name" in caplog.text
    with pytest.raises(SystemExit):
        record.conclude()
    assert rows(record)["knee"]["status"] == "done"  # still the first one's
    assert not make().belongs_to_other_scan(case)
    refuse(make(redo=True), other, "a damaged file")
    assert rows(make())["knee"]["status"] == "done"
    do(make(redo=True), other)


def test_a_refused_scan_does_not_take_the_row_of_another_one_of_its_name(make, case, tmp_path, caplog):
    do(make(), case)
    other = find_nifti(write_scan(tmp_path / "elsewhere/knee.nii.gz", voxels((25, 20, 8))))[0]
    refuse(make(), other, "a damaged file")
    assert "knee: refused: a damaged file" in caplog.text
    assert rows(make())["knee"]["status"] == "done"
    assert make().belongs_to_other_scan(other)  # also when it is repaired


@pytest.fixture
def study(tmp_path):
    """Of stacks by name, those in a folder."""

    def of(*names, folder="p1"):
        files = [tmp_path / folder / f"{name}.nii.gz" for name in names]
        stacks = [find_nifti(file if file.exists() else write_scan(file))[0] for file in files]
        return Case("study", tuple(stack.files[0] for stack in stacks), stacks=tuple(stacks))

    return of


@pytest.mark.parametrize(
    ("names", "folder"), [(("a", "b"), "p1"), (("a", "b", "c"), "p2"), (("b", "a", "c"), "p1"), (("a",), "p1")]
)
def test_the_result_of_other_stacks_is_not_replaced(make, study, caplog, names, folder):
    do(make(), study("a", "b", "c"))
    assert make().is_done(study("a", "b", "c"))
    record, other = make(), study(*names, folder=folder)
    with caplog.at_level(logging.ERROR), record.case(other) as entry:
        assert not entry.to_do
    line = "study: refused: out holds the result of other stacks under this name: give another output folder"
    assert line in [
        entry.message for entry in caplog.records
    ]  # no --redo, which would replace another patient's result
    assert make().is_done(study("a", "b", "c"))
    do(make(redo=True), other)


def test_a_sidecar_of_any_stack_changes_the_fingerprint_of_the_study(make, study):
    do(make(), study("a", "b"))
    study("a", "b").stacks[1].files[0].with_name("b.json").write_text('{"SliceThickness": 3}')
    assert not make().is_done(study("a", "b"))
    assert not make().belongs_to_other_scan(study("a", "b"))


def said(record, case, caplog):
    """The lines of the log about a changed input, when a case is begun."""
    caplog.clear()
    with record.case(case) as entry:
        to_do = entry.to_do
        if to_do:
            write(record, case)
            entry.done(volume((1, 1, 1)))
    return to_do, [line.getMessage() for line in caplog.records if "has changed since" in line.getMessage()]


def test_one_line_says_that_the_scan_or_its_sidecar_has_changed(make, case, caplog):
    line = "knee: the scan, or its sidecar, has changed since the result in OUT was made: it is made again and replaced"
    assert said(make(), case, caplog) == (True, [])  # nothing was there
    assert said(make(), case, caplog) == (False, [])
    case.files[0].with_name("knee.json").write_text('{"SliceThickness": 3}')
    assert said(make(), case, caplog) == (True, [line])
    assert said(make(), case, caplog) == (False, [])
    write_scan(case.files[0], voxels((26, 20, 8)))
    assert said(make(), case, caplog) == (True, [line])
    assert said(make(redo=True), case, caplog) == (True, [])  # is asked for


def test_one_line_says_that_a_stack_or_its_sidecar_has_changed(make, study, caplog):
    assert said(make(), study("a", "b"), caplog) == (True, [])
    study("a", "b").stacks[1].files[0].with_name("b.json").write_text('{"SliceThickness": 3}')
    to_do, lines = said(make(), study("a", "b"), caplog)
    assert to_do
    assert [line.split(" has changed")[0] for line in lines] == ["study: a stack, or its sidecar,"]


def test_a_call_that_failed_does_not_give_up_what_an_earlier_one_made(make, case, tmp_path):
    do(make(), case)
    with make({"sharpness": 1}, redo=True).case(case):
        raise MemoryError("no memory")
    other = find_nifti(write_scan(tmp_path / "elsewhere/knee.nii.gz", voxels((25, 20, 8))))[0]
    assert make().belongs_to_other_scan(other)
    assert not make().belongs_to_other_scan(case)


def series(folder, seed, uid=None):
    header = {} if uid is None else {"SeriesInstanceUID": uid}
    affine = np.diag([1.0, 1, 5, 1])
    write_series(folder, voxels((16, 16, 8), seed=seed), affine, header=header, seed=seed)


def refused_for_another(record, case, caplog):
    caplog.clear()
    with record.case(case) as entry:
        assert not entry.to_do
    line = f"{case.name}: refused: out holds the result of another scan of this name: give another output folder"
    return line in caplog.messages


def test_another_series_in_the_same_folder_does_not_replace_the_result(make, tmp_path, caplog):
    inbox, result = tmp_path / "inbox", tmp_path / "out/001_T2_TSE/001_T2_TSE_glade.nii.gz"
    series(inbox, seed=1)
    (first,) = find_series(inbox)
    do(make(), first)
    result.write_bytes(b"of the first")
    os.utime(first.files[0], ns=(1, 1))
    assert not make().belongs_to_other_scan(first)
    assert make().input_has_changed(first, fingerprint(first))
    shutil.rmtree(inbox)
    series(inbox, seed=2)
    (second,) = find_series(inbox)
    assert second.name == first.name
    assert refused_for_another(make(), second, caplog)
    assert result.read_bytes() == b"of the first"


def test_a_series_that_takes_the_name_of_another_one_does_not_replace_its_result(make, tmp_path, caplog):
    archive, folder = tmp_path / "archive", tmp_path / "out/001_T2_TSE"
    series(archive / "A", seed=1, uid="1.2.9")
    (first,) = find_series(archive)
    do(make(), first)
    for name in ("segmentation.txt", "001_T2_TSE_glade.nii.gz"):
        (folder / name).write_text("of A")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    series(archive / "B", seed=2, uid="1.2.1")
    second, first = find_series(archive)
    assert (second.name, first.name) == ("001_T2_TSE", "001_T2_TSE_2")
    assert refused_for_another(make(), second, caplog)
    do(make(), first)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_record_of_before_without_the_series_in_the_location_is_still_valid(make, tmp_path):
    series(tmp_path / "inbox", seed=1)
    (case,) = find_series(tmp_path / "inbox")
    do(make(), case)
    path = tmp_path / "out/.glade/001_T2_TSE.json"
    row = json.loads(path.read_text())
    row["input"]["location_hash"] = hashlib.sha256(os.fsencode((tmp_path / "inbox").resolve())).hexdigest()
    path.write_text(json.dumps(row))
    assert not make().belongs_to_other_scan(case)
    assert make().is_done(case)


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


def test_conclude_counts_the_cases_with_warnings(make, case, caplog):
    caplog.set_level(logging.INFO)
    image, doubtful = volume(), replace(case, name="mask")
    image.meta["warnings"] = ["only 2 different values", "no value is above 0"]
    for found in ("2 done, 0 already done", "0 done, 2 already done"):
        record = make()
        with record.case(case) as entry:
            if entry.to_do:
                write(record, case)
                entry.done(volume())
        with record.case(doubtful) as entry:
            if entry.to_do:
                entry.loaded(image)
                write(record, doubtful)
                entry.done(volume())
        with record.case(replace(case, name="gone")) as entry:
            entry.loaded(image)
            raise Refusal("no")
        with pytest.raises(SystemExit):
            record.conclude()
        assert f"3 cases: {found}, 1 refused, 0 failed; 2 with warnings; see" in caplog.text


def test_conclude_without_any_case_still_writes_a_record(make):
    record = make()
    record.conclude()
    assert rows(record) == {}


def test_an_unwritable_output_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(Refusal, match=r"cannot be written to .*: give another one"):
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
    (record.output_dir / ".glade/knee.json").mkdir()
    refuse(record, case)
    assert "its row cannot be written" in caplog.text
    with pytest.raises(SystemExit):
        record.conclude()


def test_rows_that_could_not_be_written_are_counted_and_the_run_goes_on(make, case, monkeypatch):
    """The disk is full for the first two of three cases."""
    record, write_json = make(), rows_module.write_json
    full = [True, True]

    def write_where_there_is_room(path, content):
        if full and full.pop():
            raise OSError(errno.ENOSPC, "No space left on device")
        write_json(path, content)

    monkeypatch.setattr(rows_module, "write_json", write_where_there_is_room)
    for name in ("knee", "b", "c"):
        do(record, replace(case, name=name))
    assert (record.unwritten, dict(record.counts)) == (2, {"done": 3})
    with pytest.raises(SystemExit) as end:
        record.conclude()
    assert end.value.code == 1
    assert list(rows(record)) == ["c"]
    again = make()
    for same in (replace(case, name=name) for name in ("knee", "b", "c")):
        with again.case(same) as entry:
            if entry.to_do:
                write(again, same)
                entry.done(volume((1, 1, 1)))
    again.conclude()
    assert (again.unwritten, dict(again.counts)) == (0, {"done": 2, "kept": 1})


def test_a_row_that_vanished_is_missed_at_the_end(make, case):
    record = make()
    do(record, case)
    do(record, replace(case, name="b"))
    (record.output_dir / ".glade/b.json").unlink()
    with pytest.raises(SystemExit):
        record.conclude()


def test_the_rows_of_many_cases_are_not_all_read_after_every_case(make, case, monkeypatch):
    """With 300 cases, 45,150 readings of a row would be quadratic."""
    read, text = [], rows_module._text
    monkeypatch.setattr(rows_module, "SHARE", 1e-9)
    monkeypatch.setattr(rows_module, "_text", lambda path: (read.append(path), text(path))[1])
    record = make()
    for index in range(300):
        refuse(record, replace(case, name=f"c{index:03d}"))
    most = rows_module.FEW + 1
    assert len(read) == most * (most + 1) / 2 + 300  # each case reads its own row: is it that of another scan?
    with pytest.raises(SystemExit):
        record.conclude()
    assert len(rows(record)) == 300


def test_of_many_rows_no_summary_says_done_of_a_result_that_is_replaced(make, case, monkeypatch):
    monkeypatch.setattr(rows_module, "FEW", 0)
    monkeypatch.setattr(rows_module, "SHARE", 1e-9)
    do(make(), case)
    record = make(redo=True)
    refuse(record, replace(case, name="other"))  # summary.json is made, and is not due again for long
    with record.case(case) as entry:
        assert (record.output_dir / "summary.json").exists()
        write(record, case)
        assert not (record.output_dir / "summary.json").exists()
        entry.done(volume((1, 1, 1)))
    assert not (record.output_dir / "summary.json").exists()
    with pytest.raises(SystemExit):
        record.conclude()
    assert {name: row["status"] for name, row in rows(record).items()} == {"knee": "done", "other": "refused"}


def test_what_is_not_finite_is_null_in_json(make, case):
    record = make()
    do(record, case, residual=float("nan"))
    assert rows(record)["knee"]["residual"] is None


def test_merge_waits_for_a_merge_of_another_process(make, case):
    record = make()
    refuse(record, case)
    (record.output_dir / "summary.json").unlink()
    thread = threading.Thread(target=record.merge)
    with FileLock(record.output_dir / ".glade/.lock"):
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
        write(record, case)
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
