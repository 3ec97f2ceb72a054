"""`glade.fuse` and the command: stacks in memory and in files give the same volume."""

import json

import nibabel
import numpy as np
import pytest

import glade
from glade import cli

from ..stacks.made import ORIENTATIONS, body, truth_grid

QUICK = {"sharpness": 0.0, "views": [1], "rotations_deg": [0]}
SIZE, FACTOR = 24, 3


def stack(name, shift_mm=0.0):
    """Slices of the body as an image, the axis across them last."""
    order = ORIENTATIONS[name]
    slices = body(SIZE).numpy().transpose(order)
    slices = slices.reshape(SIZE, SIZE, -1, FACTOR).mean(axis=3)
    affine = truth_grid(SIZE).affine[:, [*order, 3]].copy()
    affine[:3, 3] += affine[:3, 2] * (FACTOR - 1) / 2 + shift_mm
    affine[:3, 2] *= FACTOR
    return nibabel.Nifti1Image(slices.astype(np.float32), affine)


@pytest.fixture(scope="module")
def fused():
    return glade.fuse([stack("tra"), stack("cor")], device="cpu", registration=False, inference=QUICK)


def test_the_result_is_truer_than_that_of_one_stack(fused):
    truth = body(SIZE).numpy()
    alone = glade.super_resolve(stack("tra"), device="cpu", **QUICK).volume.get_fdata()
    errors = [np.sqrt(np.mean((volume - truth) ** 2)) for volume in (fused.volume.get_fdata(), alone)]
    assert errors[0] < 0.8 * errors[1]
    assert np.allclose(fused.volume.affine, truth_grid(SIZE).affine)


def test_the_record_has_a_row_for_each_stack(fused):
    assert [row["stack"] for row in fused.record["stacks"]] == ["image", "image_2"]
    assert fused.record["stacks_left_out"] == {}


def test_files_by_the_command_give_the_same_volume(fused, tmp_path):
    for name in ("tra", "cor"):
        nibabel.save(stack(name), tmp_path / f"{name}.nii.gz")
    files = [str(tmp_path / f"{name}.nii.gz") for name in ("tra", "cor")]
    options = ["--set", "registration=False", "--set", f"inference={QUICK}", "--device", "cpu"]
    assert cli.main(["fuse", *files, "-o", str(tmp_path / "out"), *options]) == 0
    (row,) = json.loads((tmp_path / "out" / "summary.json").read_text())["cases"]
    written = nibabel.load(tmp_path / "out" / row["case"] / f"{row['case']}_glade.nii.gz").get_fdata()
    assert np.abs(written - fused.volume.get_fdata()).max() < 0.01 * written.max()
    again = glade.fuse(files, device="cpu", registration=False, inference=QUICK)
    assert np.allclose(again.volume.get_fdata(), fused.volume.get_fdata(), atol=1e-3)


@pytest.mark.parametrize("progress", [True, False])
def test_progress_shows_the_stages(progress, caplog):
    caplog.set_level("WARNING", "glade")  # as where a program has set up no log
    caplog.handler.setLevel("INFO")
    images = [stack("tra"), stack("cor")]
    glade.fuse(images, device="cpu", progress=progress, registration=False, inference=QUICK)
    for line in ("image_2: stack 2 of 2, alone through the network", "joint solution"):
        assert (line in caplog.text) == progress


def test_one_image_twice_is_left_out_with_the_reason():
    twice = glade.fuse([stack("tra"), stack("tra")], device="cpu", inference=QUICK)
    assert twice.record["stacks_left_out"] == {"image_2": "the same image as image: give each stack once"}


@pytest.mark.parametrize(
    ("stacks", "settings", "line"),
    [
        ([], {}, "stacks: give at least one"),
        (["missing.nii.gz"], {}, "missing.nii.gz"),
        (["a.nii.gz", stack("tra")], {}, "all be paths or all be images"),
        ([stack("tra")], {"reference": "cor"}, "there is no stack cor: have image"),
        ([stack("tra")], {"output_dir": "OUT"}, "is about files"),
        ([stack("tra")], {"adapt": True}, "no setting is called adapt"),
    ],
)
def test_what_cannot_be_used_is_refused(stacks, settings, line):
    with pytest.raises(glade.Refusal, match=line):
        glade.fuse(stacks, device="cpu", **settings)
