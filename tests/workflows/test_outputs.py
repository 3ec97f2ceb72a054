"""What `run inference` writes: sidecars, a choice of files, another image's grid, 4-D scans put together again."""

import contextlib
import hashlib
import json
import logging
import shutil
import sys

import monai.bundle
import nibabel
import numpy as np
import pytest

from tests.data.thick_scans import voxels, write_scan
from tests.workflows.tiny_inference import write_config


@pytest.fixture
def infer(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    config = write_config(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(**settings):
        given = {"dataset_dir": str(tmp_path / "scans"), "output_dir": str(tmp_path / "out"), **settings}
        with contextlib.suppress(SystemExit):
            monai.bundle.run("inference", config_file=config, logging_file=False, views=[1], rotations_deg=[0], **given)
        rows = json.loads((tmp_path / "out/summary.json").read_text())["cases"]
        return {row["case"]: row for row in rows}

    run.scans, run.out = tmp_path / "scans", tmp_path / "out"
    return run


def visible(folder) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.parent.name[0] != "."
    )


def test_a_sidecar_beside_every_volume_says_what_it_is(infer, tmp_path):
    write_scan(infer.scans / "knee.nii.gz")
    (infer.scans / "knee.json").write_text(json.dumps({"SliceThickness": 3.5, "MRAcquisitionType": "2D"}))
    row = infer()["knee"]
    for postfix in ("glade", "added_detail", "uncertainty"):
        content = json.loads((infer.out / f"knee/knee_{postfix}.json").read_text())
        packed = (infer.out / f"knee/knee_{postfix}.nii.gz").read_bytes()
        assert content["SHA256"] == hashlib.sha256(packed).hexdigest()
        assert content["Sources"] == ["knee.nii.gz"]
        assert content["GeneratedBy"] == [{"Name": "GLADE", "Version": row["settings"]["version"]}]
        assert content["Acquisition"] == row["protocol"]
        assert content["Acquisition"]["slice_thickness_mm"] == 3.5
        assert (content["Settings"], content["WeightsSHA256"]) == (row["settings"], row["weights_sha256"])
        volume = nibabel.load(infer.out / f"knee/knee_{postfix}.nii.gz")
        values, step = volume.get_fdata(), volume.dataobj.slope
        lowest, highest = content["Output"].pop("intensities")  # of this file, before it is rounded to steps
        assert lowest == pytest.approx(values.min(), abs=step)
        assert highest == pytest.approx(values.max(), abs=step)
        if postfix == "glade":
            assert [lowest, highest] == row["output"]["intensities"]
        assert content["Output"] == {key: value for key, value in row["output"].items() if key != "intensities"}
        assert content["SliceThickness"] == pytest.approx(row["output"]["spacing_mm"][0])
        assert str(tmp_path) not in json.dumps(content)
        assert f"knee/knee_{postfix}.json" in row["files"]


def test_more_outputs_are_added_and_fewer_are_already_there(infer, caplog):
    write_scan(infer.scans / "knee.nii.gz")
    volume = ["knee/knee_glade.json", "knee/knee_glade.nii.gz"]
    assert infer(write="volume")["knee"]["files"] == volume
    assert visible(infer.out) == [*volume, "summary.json"]
    row = infer(write=["uncertainty"])["knee"]
    assert row["files"] == [*volume, "knee/knee_uncertainty.json", "knee/knee_uncertainty.nii.gz"]
    assert row["write"] == ["uncertainty", "volume"]
    before = (infer.out / "knee/knee_glade.nii.gz").stat().st_mtime_ns
    caplog.clear()
    infer(write=["volume", "uncertainty"])
    assert "knee: already done" in caplog.text
    assert (infer.out / "knee/knee_glade.nii.gz").stat().st_mtime_ns == before
    assert infer(write="volume", redo=True)["knee"]["files"] == volume  # what is made anew replaces all
    assert visible(infer.out) == [*volume, "summary.json"]


def test_volumes_are_written_on_the_grid_of_another_image(infer, tmp_path):
    write_scan(infer.scans / "knee.nii.gz")
    own = infer()["knee"]["output"]
    affine = np.array(own["affine"])
    affine[:3, :3] *= 1.5
    nibabel.save(nibabel.Nifti1Image(np.zeros((20, 18, 16), np.uint8), affine), tmp_path / "like.nii.gz")
    shutil.rmtree(infer.out)
    row = infer(like=str(tmp_path / "like.nii.gz"))["knee"]
    assert row["output"] == own
    assert row["settings"]["like"]["shape"] == [20, 18, 16]
    for postfix in ("glade", "added_detail", "uncertainty"):
        image = nibabel.load(infer.out / f"knee/knee_{postfix}.nii.gz")
        assert image.shape == (20, 18, 16)
        assert np.allclose(image.affine, affine, atol=1e-4)
    content = json.loads((infer.out / "knee/knee_glade.json").read_text())
    assert content["Output"]["shape"] == [20, 18, 16]
    assert row["written"] == content["Output"]
    image = nibabel.load(infer.out / "knee/knee_glade.nii.gz")
    ends = [image.get_fdata().min(), image.get_fdata().max()]
    assert row["written"]["intensities"] == pytest.approx(ends, abs=image.dataobj.slope)
    assert sum("--like like.nii.gz lies outside" in warning for warning in row["warnings"]) == 1


def test_a_grid_in_another_place_is_refused_before_the_network(infer, tmp_path, caplog):
    write_scan(infer.scans / "knee.nii.gz", affine=np.diag([1.0, 1, 4, 1]))
    far, half = np.eye(4), np.eye(4)
    far[0, 3], half[0, 3], half[2, 3] = 300, 12, -1.5
    for name, affine in (("far", far), ("half", half)):
        nibabel.save(nibabel.Nifti1Image(np.zeros((24, 20, 32), np.uint8), affine), tmp_path / f"{name}.nii.gz")
    row = infer(like=str(tmp_path / "far.nii.gz"))["knee"]
    assert (row["status"], row["files"], row["output"]) == ("refused", [], None)
    assert "knee.nii.gz: --like far.nii.gz: no voxel of its grid lies in the field of view" in row["reason"]
    row = infer(like=str(tmp_path / "half.nii.gz"))["knee"]
    (warning,) = (w for w in row["warnings"] if "--like" in w)
    assert warning.startswith("50 % of the grid of --like half.nii.gz lies outside of the scan")
    assert f"knee.nii.gz: {warning}" in caplog.text
    assert row["written"]["shape"] == [24, 20, 32]
    assert row["written"]["affine"] == half.tolist()


def test_every_line_about_scans_of_one_file_name_tells_them_apart(infer, caplog):
    write_scan(infer.scans / "a/scan.nii", voxels(seed=1), pixdim=[1, 1, 1, 7, 1, 1, 1, 1])
    write_scan(infer.scans / "b/scan.nii", (voxels(seed=2) > 450).astype(np.int16))
    assert sorted(infer()) == ["a_scan", "b_scan"]
    assert "scan.nii" not in caplog.text
    lines = [record.getMessage() for record in caplog.records]
    for words in ("through-plane axis", "done in"):
        assert sorted(line.split(":")[0] for line in lines if words in line) == ["a_scan", "b_scan"]
    for words, case in (("only 2 different values", "b_scan"), ("pixdim says", "a_scan")):
        assert [line.split(":")[0] for line in lines if words in line] == [case]


BVEC = "1 0 0 0.6\n0 1 0 0.8\n0 0 1 0\n"


@pytest.fixture
def four(infer):
    """Four frames of different noise, with gradients and a repetition time."""
    frames = np.stack([voxels(seed=seed) for seed in range(4)], -1)
    path = write_scan(infer.scans / "dwi.nii.gz", frames)
    image = nibabel.load(path)
    image.header.set_zooms((*image.header.get_zooms()[:3], 2.5))
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(nibabel.Nifti1Image(frames, image.affine, image.header), path)
    (infer.scans / "dwi.bval").write_text("0 1000 1000 1000\n")
    (infer.scans / "dwi.bvec").write_text(BVEC)
    return frames


JOINED = ["dwi/dwi_" + end for end in (
    "added_detail.json", "added_detail.nii.gz", "glade.bval", "glade.bvec", "glade.json", "glade.nii.gz",
    "uncertainty.json", "uncertainty.nii.gz")]  # fmt: skip


def test_a_4d_scan_is_put_together_again(infer, four, caplog, tmp_path):
    infer(frames=[0, 1, 2])
    assert [name for name in visible(infer.out) if "dwi/" in name] == []  # not all frames
    single = {f: nibabel.load(infer.out / f"dwi_f0{f}/dwi_f0{f}_glade.nii.gz").get_fdata() for f in range(3)}
    rows = infer()
    assert visible(infer.out) == [*JOINED, "summary.json"]
    assert all(row["files"] == JOINED for row in rows.values())
    assert list(rows) == [f"dwi_f0{f}" for f in range(4)]
    image = nibabel.load(infer.out / "dwi/dwi_glade.nii.gz")
    assert image.shape[3] == 4
    assert image.header.get_zooms()[3] == 2.5
    assert image.header.get_xyzt_units() == ("mm", "sec")
    values = image.get_fdata()
    for frame, expected in single.items():
        assert np.abs(values[..., frame] - expected).max() <= 0.501 * image.dataobj.slope
    assert (infer.out / "dwi/dwi_glade.bvec").read_text() == BVEC
    assert (infer.out / "dwi/dwi_glade.bval").read_text() == "0 1000 1000 1000\n"
    content = json.loads((infer.out / "dwi/dwi_glade.json").read_text())
    assert content["SHA256"] == hashlib.sha256((infer.out / "dwi/dwi_glade.nii.gz").read_bytes()).hexdigest()
    assert content["Output"]["shape"] == list(image.shape)
    caplog.clear()
    infer()
    assert caplog.text.count(": already done") == 4
    assert visible(infer.out) == [*JOINED, "summary.json"]
    again = infer(frames=1, redo=True)
    assert again["dwi_f01"]["files"][0] == "dwi_f01/dwi_f01_added_detail.json"
    infer()
    assert visible(infer.out) == [*JOINED, "summary.json"]
    assert np.abs(nibabel.load(infer.out / "dwi/dwi_glade.nii.gz").get_fdata() - values).max() <= image.dataobj.slope


def test_a_4d_result_is_not_replaced_by_that_of_another_scan_of_its_name(infer, four, tmp_path, caplog):
    infer(write="volume")
    before = (infer.out / "dwi/dwi_glade.nii.gz").read_bytes()
    other = write_scan(tmp_path / "other/dwi.nii.gz")
    infer(dataset_dir=str(other), write="volume")
    assert "dwi: refused: out holds the result of another scan of this name" in caplog.text
    assert (infer.out / "dwi/dwi_glade.nii.gz").read_bytes() == before


def test_gradients_follow_the_axes_of_another_grid(infer, four, tmp_path):
    own = nibabel.load(infer.scans / "dwi.nii.gz").affine
    permuted = own[:, [1, 0, 2, 3]]  # the first two axes exchanged: a left-handed grid
    nibabel.save(nibabel.Nifti1Image(np.zeros((10, 12, 9), np.uint8), permuted), tmp_path / "like.nii.gz")
    infer(like=str(tmp_path / "like.nii.gz"), write="volume")
    turned = np.loadtxt(infer.out / "dwi/dwi_glade.bvec")
    given = np.loadtxt(infer.scans / "dwi.bvec")
    world = []
    for affine, vectors in ((own, given), (permuted, turned)):  # the same directions in space, by FSL's rule
        axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        flip = np.diag([-1 if np.linalg.det(axes) > 0 else 1, 1, 1])
        world.append(axes @ flip @ vectors)
    assert np.allclose(*world, atol=1e-6)


def test_a_file_of_which_a_frame_fails_stays_in_frames(infer, four):
    broken = four.astype(np.float32)
    broken[..., 2] = 5  # an image without anything in it
    write_scan(infer.scans / "dwi.nii.gz", broken)
    rows = infer(write="volume")
    assert [rows[f"dwi_f0{f}"]["status"] for f in range(4)] == ["done", "done", "refused", "done"]
    assert "dwi_f00/dwi_f00_glade.nii.gz" in visible(infer.out)
    assert not (infer.out / "dwi").exists()


def test_a_4d_result_lies_where_its_frames_lay(infer, four):
    infer(frames=[0, 1, 2], write="volume")
    frame = nibabel.load(infer.out / "dwi_f00/dwi_f00_glade.nii.gz")
    infer(write="volume")
    joined = nibabel.load(infer.out / "dwi/dwi_glade.nii.gz")
    np.testing.assert_array_equal(joined.get_sform(), frame.get_sform())
    np.testing.assert_array_equal(joined.get_qform(), frame.get_qform())


def test_the_uncertainty_is_a_difference_on_the_grid_of_the_result_and_wider_outside_the_trained_range(infer):
    affine = np.array([[0, 0, -4.0, 20], [-1, 0, 0, 10], [0, 1, 0, 30], [0, 0, 0, 1]])  # axes that the network turns
    write_scan(infer.scans / "a.nii.gz", affine=affine)
    write_scan(infer.scans / "b.nii.gz", voxels() + 5000, affine=affine)

    def written(case, postfix):
        return nibabel.load(infer.out / f"{case}/{case}_{postfix}.nii.gz")

    infer()
    mean, of_brighter = (written(case, "uncertainty").get_fdata().mean() for case in "ab")
    assert abs(of_brighter - mean) < 500  # the offset of the intensities, 5000, is no part of it
    for postfix in ("added_detail", "uncertainty"):
        assert written("a", postfix).shape == written("a", "glade").shape
        assert np.array_equal(written("a", postfix).affine, written("a", "glade").affine)
    shutil.rmtree(infer.out)
    infer(**{"trained_range::pixel_mm": [2.0, 3.0]})
    assert written("a", "uncertainty").get_fdata().mean() > 1.1 * mean


def test_a_run_opens_no_connection_and_leaves_the_scans_as_they_are(infer):
    write_scan(infer.scans / "a.nii.gz")
    before = {path: path.read_bytes() for path in infer.scans.rglob("*")}
    watching, seen = [True], []
    sys.addaudithook(lambda event, _: watching and event.startswith("socket.") and seen.append(event))
    infer(write="volume")
    watching.clear()  # a hook cannot be removed
    assert not set(seen) & {"socket.connect", "socket.sendto", "socket.bind", "socket.getaddrinfo"}
    assert {path: path.read_bytes() for path in infer.scans.rglob("*")} == before


def test_a_copy_of_a_scan_has_no_result_of_its_own(infer):
    shutil.copy(write_scan(infer.scans / "a.nii.gz"), infer.scans / "b.nii.gz")
    assert list(infer(write="volume")) == ["a"]
