"""Names of files as they occur: not UTF-8, not ASCII under a C locale, with line breaks and terminal commands."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.data.case import safe_name
from scripts.data.discovery import find_nifti
from scripts.dicom.synthetic_series import write_series
from scripts.geometry.errors import Refusal, reason_of

from ..data.thick_scans import oblique_affine, voxels, write_scan
from .tiny_inference import ROOT, write_config

NAMES = {  # bytes of a file name: name of the case
    b"plain": "plain",
    b"T2\xff\xfe": "T2",  # Latin-1 on a disk of a machine that writes UTF-8
    "Schädel".encode(): "Schädel",
    "頭部".encode(): "頭部",
    b"two\nlines": "two_lines",
    b"red\x1b[31m": "red_31m",
    "turned\u202eround".encode(): "turned_round",
    b"-o": "-o",
    b"%d $x @y": "d_x_y",
    b"$1": "1",
    b"star*[a]?": "star_a",
    b"y" * 240: "y" * 120,
}
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # what a service may start with


@pytest.fixture
def scans(tmp_path) -> Path:
    """A scan under each name, a damaged one and a series under names that are not UTF-8, in such a folder."""
    folder = tmp_path / os.fsdecode(b"scans \xfc\n")
    folder.mkdir()
    for seed, name in enumerate(NAMES):  # of equal ones, one would be processed
        whole = write_scan(tmp_path / "one.nii.gz", voxels(seed=seed)).read_bytes()
        (folder / os.fsdecode(name + b".nii.gz")).write_bytes(whole)
    (folder / os.fsdecode(b"cut\xff\x1b.nii.gz")).write_bytes(whole[:200])
    (folder / os.fsdecode(b"T2\xff\xfe.json")).write_text('{"SliceThickness": 3}')
    write_series(folder / "series", voxels((24, 20, 8)), oblique_affine((1, 1.25, 4)))
    for file in (folder / "series").iterdir():
        file.rename(file.with_name(os.fsdecode(b"im\xe4") + file.name))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("locale", [{"PYTHONIOENCODING": "utf-8:strict"}, C_LOCALE], ids=["UTF-8", "C"])
def test_every_case_is_done_whatever_its_name(scans, tmp_path, locale):
    out = tmp_path / os.fsdecode(b"out\xff")
    command = [sys.executable, "-m", "monai.bundle", "run", "inference", "--config_file", str(write_config(tmp_path))]
    command += ["--dataset_dir", scans, "--output_dir", out, "--write", "all", "--rotations_deg", "[0]"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **locale}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False, timeout=300)
    said = (ended.stdout + ended.stderr).decode("utf-8", "surrogateescape")
    assert ended.returncode == 1, said[-2000:]  # for the damaged file
    assert "Traceback" not in said
    assert "\x1b" not in said
    assert "\u202e" not in said
    rows = {row["case"]: row for row in json.loads((out / "summary.json").read_text())["cases"]}
    assert {row["status"] for name, row in rows.items() if name != "cut"} == {"done"}
    assert len(rows) == len(NAMES) + 2
    assert rows["cut"]["reason"].startswith(r"cut\xff\x1b.nii.gz: ")
    assert rows["T2"]["protocol"]["slice_thickness_mm"] == 3  # its sidecar is found
    for name, row in rows.items():
        assert all((out / file).exists() for file in row["files"])
        # three volumes with their sidecars and the page; for DICOM the series too
        assert len(row["files"]) == {"cut": 0, "001_T2_TSE": 8}.get(name, 7)
    if "PYTHONIOENCODING" in locale:
        assert set(NAMES.values()) < set(rows)


def safe_names(locale: dict) -> list[bytes]:
    """What `safe_name` makes of each name in a process of this locale, as it is written to a disk."""
    code = (
        "import os, sys\n"
        "from scripts.data.case import safe_name\n"
        "names = [safe_name(os.fsdecode(bytes.fromhex(name))) for name in sys.argv[1:]]\n"
        "assert names == [safe_name(name) for name in names]\n"
        "assert not [name for name in names if name[0] == '.']\n"
        "sys.stdout.buffer.write(b'\\0'.join(map(os.fsencode, names)))"
    )
    command = [sys.executable, "-c", code, *(name.hex() for name in NAMES)]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **locale}, capture_output=True, check=True
    ).stdout.split(b"\0")


def test_the_name_of_a_case_can_be_written_under_the_locale_of_the_process():
    assert [name.decode() for name in safe_names({"PYTHONUTF8": "1"})] == list(NAMES.values())
    ascii_only = [re.sub("[^\x00-\x7f]+", "_", name).strip("_") or "scan" for name in NAMES.values()]
    assert [name.decode("ascii") for name in safe_names(C_LOCALE)] == ascii_only


@pytest.mark.parametrize(("name", "safe"), [("\udcff", "scan"), ("\ud800x", "x"), ("a\udcffb", "a_b"), ("\0", "scan")])
def test_what_no_file_name_can_hold_is_left_out(name, safe):
    assert safe_name(name) == safe


def test_only_what_shows_as_itself_is_shown(tmp_path):
    file = write_scan(tmp_path / os.fsdecode(b"a\xff\n\x1b[2J.nii"), qform_code=0, sform_code=0)
    (case,) = find_nifti(file)
    assert case.label == r"a\xff\n\x1b[2J.nii"
    assert str(Refusal(f"{file.name}: no")) == r"a\xff\n\x1b[2J.nii: no"
    assert reason_of(ValueError("\u202e")) == ("failed", r"ValueError: \u202e")
