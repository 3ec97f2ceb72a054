"""Issue 7, "Bad input": one clear line each, exit code not 0, the other scans still done, nothing half-written."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import monai.bundle
import numpy as np
import pytest

from scripts.geometry.errors import refusal_of

from ..data.thick_scans import oblique_affine, voxels, write_scan
from .tiny_inference import ROOT, write_config


def marked(value, shape=(24, 20, 8), dtype=np.float32):
    data = voxels(shape).astype(dtype)
    data[2, 3, 4] = value
    return data


def sidecar(path: Path, **fields) -> None:
    write_scan(path)
    path.with_name(path.name.replace(".nii.gz", ".json")).write_text(json.dumps(fields))


def cut(path: Path, keep: float) -> None:
    whole = write_scan(path).read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])


def flip(path: Path) -> None:
    whole = bytearray(write_scan(path).read_bytes())
    whole[len(whole) // 2] ^= 0xFF
    path.write_bytes(whole)


SHEARED = oblique_affine()
SHEARED[0, 2] += 1.0

BAD_SCANS = {  # name: how it is made, what the line says
    "flat2d": (lambda p: write_scan(p, voxels((24, 20))), "2-D image"),
    "single_slice": (lambda p: write_scan(p, voxels((24, 20, 1))), "2-D image"),
    "four_slices": (lambda p: write_scan(p, voxels((24, 20, 4))), "4 slices along axis 2: at least 5 are needed"),
    "nan": (lambda p: write_scan(p, marked(np.nan)), "1 voxels are NaN or infinite"),
    "infinite": (lambda p: write_scan(p, marked(np.inf)), "1 voxels are NaN or infinite"),
    "constant": (lambda p: write_scan(p, np.full((24, 20, 8), 3, np.int16)), "constant volume"),
    "sheared": (lambda p: write_scan(p, affine=SHEARED), "not perpendicular"),
    "tie": (lambda p: write_scan(p, spacing=(1, 4, 4)), "give --through_plane_axis"),
    "isotropic": (lambda p: write_scan(p, spacing=(1, 1, 1)), "already isotropic"),
    "thick": (lambda p: sidecar(p, SliceThickness=8.5), "over 2 x the slice spacing"),
    "thin": (lambda p: sidecar(p, SliceThickness=0), "not positive"),
    "negative": (lambda p: sidecar(p, SliceThickness=-3), "not positive"),
    "bad_sidecar": (lambda p: sidecar(p, SliceThickness="thick"), "SliceThickness must be a number"),
    "small": (lambda p: write_scan(p, voxels((24, 12, 8))), "smallest window is 16"),
    "truncated": (lambda p: cut(p, 0.6), "corrupt or truncated"),
    "no_trailer": (lambda p: cut(p, 0.999), "corrupt or truncated"),
    "cut_header": (lambda p: cut(p, 0.003), "header cannot be read"),
    "corrupt": (flip, "corrupt"),
    "empty": (lambda p: p.write_bytes(b""), "header cannot be read"),
    "text": (lambda p: p.write_text("hello"), "header cannot be read"),
    "complex": (lambda p: write_scan(p, voxels().astype(np.complex64)), "complex numbers"),
}
BAD_HEADERS = {  # uncompressed, so that the header can be edited
    "no_affine": ({"qform_code": 0, "sform_code": 0}, "missing affine"),
    "singular": ({"srow_z": [0, 0, 0, 0]}, "singular"),
    "nan_affine": ({"srow_z": [np.nan, 0, 0, 0]}, "finite 4 x 4"),
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    config = write_config(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def in_process(**overrides):
        monai.bundle.run(
            "inference",
            config_file=config,
            logging_file=False,
            **{"dataset_dir": str(tmp_path / "scans"), "output_dir": str(tmp_path / "out"), **overrides},
        )

    in_process.config = config
    return in_process


def rows(folder: Path) -> dict:
    return {row["case"]: row for row in json.loads((folder / "summary.json").read_text())["cases"]}


def test_bad_scans_are_refused_one_by_one_and_the_good_ones_are_done(run, tmp_path):
    scans, out = tmp_path / "scans", tmp_path / "out"
    scans.mkdir()
    lines = {}
    for name, (make, lines[name]) in BAD_SCANS.items():
        make(scans / f"{name}.nii.gz")
    for name, (fields, lines[name]) in BAD_HEADERS.items():
        write_scan(scans / f"{name}.nii", **fields)
    write_scan(scans / "aa_first.nii.gz")
    write_scan(scans / "zz_last.nii.gz", voxels(seed=1))  # a copy of another would be left out
    with pytest.raises(SystemExit) as stop:
        run()
    assert stop.value.code == 1
    found = rows(out)
    assert [n for n, row in found.items() if row["status"] == "done"] == ["aa_first", "zz_last"]
    for name, line in lines.items():
        assert found[name]["status"] == "refused", (name, found[name])
        assert line in found[name]["reason"], (name, found[name]["reason"])
        assert "\n" not in found[name]["reason"]
        assert name in found[name]["reason"]
    assert {p.name for p in out.iterdir()} == {".glade", "summary.json", "aa_first", "zz_last"}
    assert not [p for p in out.rglob("*") if "partial" in p.name]


def empty_folder(tmp_path):
    (tmp_path / "scans").mkdir()


def file_as_output(tmp_path):
    write_scan(tmp_path / "scans/a.nii.gz")
    (tmp_path / "file").write_text("x")


def one_scan(tmp_path):
    write_scan(tmp_path / "scans/a.nii.gz")


@pytest.mark.parametrize(
    ("prepare", "overrides", "line"),
    [
        (lambda _: None, {}, "no such file or folder"),
        (empty_folder, {}, "no NIfTI file .* and no DICOM series"),
        (file_as_output, {"output_dir": "{tmp}/file/out"}, "cannot be written to"),
        (one_scan, {"through_plane_axis": "z"}, "through_plane_axis must be"),
        (one_scan, {"slice_profile": "box"}, "slice_profile must be"),
        (one_scan, {"slice_thickness_mm": "thick"}, "slice_thickness_mm must be"),
        (one_scan, {"slice_thickness_mm": -2}, "slice_thickness_mm must be"),
        (one_scan, {"frames": "first"}, "frames must be"),
        (one_scan, {"views": [2]}, "views must be"),
        (one_scan, {"views": 1}, "views must be"),
        (one_scan, {"rotations_deg": [0, 90]}, "rotations_deg must be"),
        (one_scan, {"window": [0, 92]}, "window must be"),
        (one_scan, {"overlap": 1.5}, "overlap must be"),
        (one_scan, {"batch": 0}, "batch must be"),
        (one_scan, {"precision": "int8"}, "precision must be"),
        (one_scan, {"detail": -1}, "detail must be"),
        (one_scan, {"detail_gain": 0}, "detail_gain must be"),
        (one_scan, {"dicom_plane": "oblique"}, "dicom_plane must be source, axial"),
        (one_scan, {"isotropic_spacing_mm": -1}, "isotropic_spacing_mm must be"),
        (one_scan, {"weights_path": "{tmp}/nowhere.pt"}, "nowhere.pt"),
        (one_scan, {"weights_path": "{tmp}/scans/a.nii.gz"}, "a.nii.gz: not a file of weights"),
        (one_scan, {"network_def::channels": 6}, r"tiny.pt does not fit Generator: \d+ tensors differ"),
    ],
)
def test_a_run_that_cannot_begin_is_refused_in_one_line(run, tmp_path, prepare, overrides, line):
    prepare(tmp_path)
    overrides = {k: v.format(tmp=tmp_path) if isinstance(v, str) else v for k, v in overrides.items()}
    with pytest.raises(RuntimeError) as error:
        run(**overrides)
    refusal = refusal_of(error.value)
    assert refusal is not None
    assert re.search(line, str(refusal))
    assert "\n" not in str(refusal)
    assert not (tmp_path / "out/a").exists()


def test_a_setting_can_settle_what_was_refused(run, tmp_path):
    write_scan(tmp_path / "scans/tie.nii.gz", spacing=(1, 4, 4), data=voxels((24, 20, 8)))
    with pytest.raises(SystemExit):
        run()
    run(through_plane_axis=2, slice_thickness_mm=4.0)
    row = rows(tmp_path / "out")["tie"]
    assert row["status"] == "done"
    assert row["protocol"]["axis_source"] == "setting through_plane_axis"


def command(config: list[str], *arguments: str) -> list[str]:
    monai_run = ["-m", "monai.bundle", "run", "inference", "--config_file", str(config), "--logging_file", "False"]
    return [*monai_run, *arguments]


def environment(**more) -> dict:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


def test_an_unknown_override_ends_the_command_with_one_line(run, tmp_path, monkeypatch, capsys):
    one_scan(tmp_path)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    main = Path(monai.bundle.__file__).with_name("__main__.py")
    monkeypatch.setattr(sys, "argv", [str(main), *command(run.config, "--redoo", "True")[2:]])
    with pytest.raises(RuntimeError) as error:
        run(redoo=True)  # as Fire would call it
    sys.excepthook(error.type, error.value, error.tb)
    assert capsys.readouterr().err.splitlines()[-1] == "refused: no setting is called redoo: did you mean redo?"
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_two_processes_share_the_cases_and_a_killed_one_loses_its_case_in_hand_only(run, tmp_path):
    scans, out = tmp_path / "scans", tmp_path / "out"
    for seed, name in enumerate("abcde"):
        write_scan(scans / f"{name}.nii.gz", voxels(seed=seed))  # copies would be processed once
    write_scan(scans / "f.nii.gz", voxels((24, 20)))
    arguments = command(run.config, "--dataset_dir", str(scans), "--output_dir", str(out))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *arguments]

    def launch(**more):
        return subprocess.run(
            torchrun, cwd=tmp_path, env=environment(**more), capture_output=True, text=True, check=False, timeout=120
        )

    killed = launch(KILL_AT="d.nii.gz")  # the second process has b, d, f and dies in d
    assert killed.returncode != 0
    first = rows(out)
    assert first["b"]["status"] == "done"
    assert "d" not in first
    assert not (out / "d").exists()
    finished = [out / name / f"{name}_glade.nii.gz" for name, row in first.items() if row["status"] == "done"]
    written = {path: path.stat().st_mtime_ns for path in finished}  # what a killed process left half-done is no result

    again = launch()
    second = rows(out)
    assert {name: row["status"] for name, row in second.items()} == {**dict.fromkeys("abcde", "done"), "f": "refused"}
    assert {p: p.stat().st_mtime_ns for p in written} == written
    assert again.returncode != 0  # f is refused
