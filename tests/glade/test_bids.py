"""`glade bids`: BIDS in, BIDS derivatives out, as the official validator accepts them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from glade import cli
from scripts.data.bids_names import resolution_label

from ..data.thick_scans import voxels, write_scan

FAST = ["--sharpness", "0", "--set", "views=[1]", "--set", "rotations_deg=[0]"]
ONE = "sub-01/anat/sub-01_res-iso1mm_desc-{}_T2w"
DESCRIPTIONS = ("addeddetail", "glade", "uncertainty")


@pytest.fixture
def dataset(tmp_path):
    """Two participants, one with two sessions; sidecars at the top; a phase image and a mask, which are no scans."""
    top = tmp_path / "data"
    write_scan(top / "sub-01/anat/sub-01_T2w.nii.gz")
    write_scan(top / "sub-02/ses-a/anat/sub-02_ses-a_acq-cor_T2w.nii.gz", voxels(seed=1), spacing=(0.5, 0.5, 2))
    write_scan(top / "sub-02/ses-b/anat/sub-02_ses-b_T1w.nii.gz", voxels(seed=2))
    write_scan(top / "sub-01/anat/sub-01_part-phase_T2w.nii.gz")
    write_scan(top / "sub-01/anat/sub-01_desc-brain_mask.nii.gz")
    write_scan(top / "sub-01/func/sub-01_task-rest_bold.nii.gz")
    described = {"Name": "Test", "BIDSVersion": "1.10.0", "License": "CC0"}
    (top / "dataset_description.json").write_text(json.dumps(described))
    (top / "T2w.json").write_text(json.dumps({"SliceThickness": 3.5, "MRAcquisitionType": "2D"}))
    return top


def bids(dataset, out, *options) -> int:
    try:
        return cli.main(["bids", str(dataset), str(out), "participant", *FAST, *options])
    except SystemExit as end:  # a scan was refused
        return end.code


def images(out) -> list[str]:
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*.nii.gz"))


def issues(folder) -> list[dict]:
    """The errors that the validator finds; skipped where it is not installed."""
    beside = Path(sys.executable).with_name("bids-validator-deno")
    command = shutil.which("bids-validator-deno") or (str(beside) if beside.exists() else None)
    if command is None:
        pytest.skip("needs bids-validator-deno")
    run = subprocess.run([command, "--format", "json", str(folder)], capture_output=True, text=True, check=False)
    found = json.loads(run.stdout)["issues"]["issues"]
    return [issue for issue in found if issue["severity"] == "error"]


def test_derivatives_have_their_names_and_sidecars(tiny, dataset):
    out = dataset / "derivatives/glade"
    assert bids(dataset, out) == 0
    second = "sub-02/ses-{0}/anat/sub-02_ses-{0}_{1}res-{2}_desc-{3}_{4}"
    expected = [ONE.format(d) for d in DESCRIPTIONS]
    expected += [second.format("a", "acq-cor_", "iso0p5mm", d, "T2w") for d in DESCRIPTIONS]
    expected += [second.format("b", "", "iso1mm", d, "T1w") for d in DESCRIPTIONS]
    assert images(out) == sorted(f"{name}.nii.gz" for name in expected)
    content = json.loads((out / f"{ONE.format('glade')}.json").read_text())
    assert content["Sources"] == ["bids:raw:sub-01/anat/sub-01_T2w.nii.gz"]
    assert content["SpatialReference"] == "orig"
    assert content["SkullStripped"] is False
    assert content["Acquisition"]["slice_thickness_mm"] == 3.5  # inherited from the top
    described = json.loads((out / "dataset_description.json").read_text())
    assert described["DatasetType"] == "derivative"
    assert described["GeneratedBy"][0]["Name"] == "GLADE"
    assert described["DatasetLinks"] == {"raw": "../.."}
    assert described["License"] == "CC0"
    assert sorted(path.name for path in out.iterdir()) == [
        ".bidsignore", ".glade", "README.md", "dataset_description.json", "sub-01", "sub-02", "summary.json"
    ]  # fmt: skip
    rows = {row["case"]: row for row in json.loads((out / "summary.json").read_text())["cases"]}
    assert set(rows) == {"sub-01_T2w", "sub-02_ses-a_acq-cor_T2w", "sub-02_ses-b_T1w"}
    ends = (".json", ".nii.gz")
    assert rows["sub-01_T2w"]["files"] == sorted(ONE.format(d) + end for d in DESCRIPTIONS for end in ends)


def test_participants_and_sessions_are_chosen(tiny, dataset, tmp_path):
    assert bids(dataset, tmp_path / "a", "--write", "volume", "--participant-label", "01") == 0
    assert images(tmp_path / "a") == [f"{ONE.format('glade')}.nii.gz"]
    labels = ["--participant_label", "01", "sub-02", "--session-label", "b"]
    assert bids(dataset, tmp_path / "b", "--write", "volume", *labels) == 0
    assert images(tmp_path / "b") == ["sub-02/ses-b/anat/sub-02_ses-b_res-iso1mm_desc-glade_T1w.nii.gz"]


def test_a_second_call_does_what_is_missing_and_another_spacing_leaves_nothing_old(tiny, dataset, tmp_path):
    out, one = tmp_path / "out", ["--participant-label", "01"]
    assert bids(dataset, out, "--write", "volume", *one) == 0
    file = out / f"{ONE.format('glade')}.nii.gz"
    before = file.stat().st_mtime_ns
    assert bids(dataset, out, "--write", "volume", *one) == 0
    assert file.stat().st_mtime_ns == before
    assert bids(dataset, out, "--write", "uncertainty", *one) == 0
    assert images(out) == [f"{ONE.format(d)}.nii.gz" for d in ("glade", "uncertainty")]
    assert (
        bids(dataset, out, "--write", "volume", "--isotropic-spacing-mm", "1.2", *one) == 1
    )  # other settings: refused
    assert bids(dataset, out, "--write", "volume", "--isotropic-spacing-mm", "1.2", "--redo", *one) == 0
    assert images(out) == [f"{ONE.format('glade').replace('iso1mm', 'iso1p2mm')}.nii.gz"]
    assert len(list(out.glob("sub-*/**/*_T2w.json"))) == 1


def test_a_4d_image_is_refused_and_the_others_are_done(tiny, dataset, tmp_path, caplog):
    write_scan(dataset / "sub-01/anat/sub-01_T2w.nii.gz", np.stack([voxels(), voxels(seed=3)], -1))
    assert bids(dataset, tmp_path / "out", "--write", "volume") == 1
    assert len(images(tmp_path / "out")) == 2
    rows = json.loads((tmp_path / "out/summary.json").read_text())["cases"]
    assert {row["status"] for row in rows if row["case"].startswith("sub-01")} == {"refused"}


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--participant-label", "07"], "no sub-07: there are sub-01, sub-02"),
        (["--participant-label", "02", "--session-label", "z"], "no ses-z: there are ses-a, ses-b"),
    ],
)
def test_absent_labels_are_refused_in_one_line(tiny, dataset, tmp_path, capsys, options, line):
    assert bids(dataset, tmp_path / "out", *options) == 1
    assert capsys.readouterr().err.strip() == f"refused: {dataset}: {line}"
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_data_set_is_refused(tiny, tmp_path, capsys):
    assert bids(tmp_path, tmp_path / "out") == 1
    assert "no BIDS data set, dataset_description.json is missing" in capsys.readouterr().err
    assert cli.main(["bids", str(tmp_path), str(tmp_path / "out"), "group"]) == 2


def test_the_data_set_as_output_folder_stays_as_it_was(tiny, dataset, capsys):
    before = {path: path.read_bytes() for path in dataset.rglob("*") if path.is_file()}
    assert bids(dataset, dataset) == 1
    assert "is the BIDS data set itself: give another OUT_DIR" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in dataset.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(("write", "description"), [("volume", "glade"), ("uncertainty", "uncertainty")])
def test_a_name_states_the_grid_of_like(tiny, dataset, tmp_path, write, description):
    like = write_scan(tmp_path / "like.nii.gz", spacing=(2, 2, 4))
    options = ["--write", write, "--participant-label", "01", "--like", str(like)]
    assert bids(dataset, tmp_path / "out", *options) == 0
    (name,) = images(tmp_path / "out")
    assert name == f"sub-01/anat/sub-01_res-2x2x4mm_desc-{description}_T2w.nii.gz"
    image = nibabel.load(tmp_path / "out" / name)
    assert resolution_label([float(zoom) for zoom in image.header.get_zooms()]) == "2x2x4mm"
    (row,) = json.loads((tmp_path / "out/summary.json").read_text())["cases"]
    assert row["written"]["shape"] == list(image.shape)


@pytest.mark.slow
@pytest.mark.parametrize("write", ["volume,added_detail,uncertainty", "all"])
def test_the_validator_finds_no_error(tiny, dataset, write):
    out = dataset / "derivatives/glade"
    assert bids(dataset, out, "--write", write) == 0
    assert issues(out) == []
    name = out / f"{ONE.format('glade')}.nii.gz"  # a check that cannot fail would show nothing
    image = nibabel.load(name)
    nibabel.save(image, name.with_name("sub-01_T2w_glade.nii.gz"))
    assert issues(out) != []
