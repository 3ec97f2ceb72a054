"""`like`: results on the grid of another image, against a linear function of position and against ITK."""

import logging

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from scripts.data.reference import ReferenceGrid, ReferenceOverlapd, share_inside
from scripts.geometry.errors import Refusal
from scripts.geometry.grid import Grid

from .thick_scans import oblique_affine

SHAPE = (40, 36, 32)


def centres(shape, affine):
    return nibabel.affines.apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))


def ramp(shape=SHAPE, affine=None) -> MetaTensor:
    """Intensity is a linear function of the position in mm, which any interpolation reproduces."""
    affine = oblique_affine((0.8, 0.8, 0.8)) if affine is None else affine
    values = centres(shape, affine) @ [1.0, -2.0, 3.0] + 500
    return MetaTensor(torch.as_tensor(values, dtype=torch.float32)[None], affine=affine, meta={"noise": 2.0})


def reference(path, shape, affine, dtype=np.uint8):
    nibabel.save(nibabel.Nifti1Image(np.zeros(shape, dtype), affine), path)
    return ReferenceGrid(path)


def inner_affine(spacing, turn=0.0):
    """A grid around the centre of the ramp, rotated about one axis."""
    c, s = np.cos(turn), np.sin(turn)
    rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = rotation * spacing
    middle = nibabel.affines.apply_affine(oblique_affine((0.8, 0.8, 0.8)), (np.array(SHAPE) - 1) / 2)
    affine[:3, 3] = middle - affine[:3, :3] @ [4, 4, 4]
    return affine


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("spacing", [0.5, 0.8, 1.5])
def test_every_voxel_has_the_intensity_of_its_place(tmp_path, spacing, order):
    affine = inner_affine(spacing, 0.3)
    result = reference(tmp_path / "r.nii.gz", (9, 9, 9), affine)(ramp(), order)
    assert result.shape == (1, 9, 9, 9)
    assert np.allclose(result.affine, affine)
    expected = centres((9, 9, 9), affine) @ [1.0, -2.0, 3.0] + 500
    assert np.abs(result[0].numpy() - expected).max() < 0.02
    assert result.meta["noise"] == 2.0


def test_outside_of_the_field_of_view_is_zero_and_inside_to_its_edge_is_not(tmp_path):
    volume = MetaTensor(torch.full((1, 4, 4, 4), 7.0), affine=torch.eye(4))
    affine = np.diag([0.5, 1, 1, 1.0])
    affine[0, 3] = -2.0
    result = reference(tmp_path / "r.nii.gz", (16, 4, 4), affine)(volume)[0, :, 0, 0].numpy()
    assert result == pytest.approx([0] * 3 + [7] * 9 + [0] * 4, abs=1e-5)  # -0.5 to 3.5 mm


def test_a_coarser_grid_averages_instead_of_picking(tmp_path):
    volume = MetaTensor(torch.randn(1, 60, 60, 60, generator=torch.Generator().manual_seed(0)), affine=torch.eye(4))
    affine = np.diag([4, 4, 4, 1.0])
    affine[:3, 3] = 10
    result = reference(tmp_path / "r.nii.gz", (10, 10, 10), affine)(volume)
    assert 0.03 < result.std() < 0.25  # a mean over 4 x 4 x 4 has 0.125; picked voxels have 1


def test_on_its_own_grid_and_without_a_reference_nothing_changes(tmp_path):
    volume = ramp()
    same = reference(tmp_path / "r.nii.gz", (*SHAPE, 5), volume.affine.numpy())  # the first three axes of a 4-D file
    assert torch.equal(same(volume).as_tensor(), volume.as_tensor())
    assert ReferenceGrid()(volume) is volume
    assert ReferenceGrid().as_setting() is None
    assert same.as_setting()["shape"] == list(SHAPE)


def test_another_space_of_the_same_grid_is_another_setting(tmp_path):
    """A result that has the code of the wrong space is made again when the code is corrected."""
    image = nibabel.Nifti1Image(np.zeros(SHAPE, np.uint8), np.eye(4))
    settings = []
    for code in (1, 4):
        image.set_sform(np.eye(4), code=code)
        nibabel.save(image, tmp_path / "like.nii")
        settings.append(ReferenceGrid(tmp_path / "like.nii").as_setting())
    assert settings[0] != settings[1]
    assert settings[0] | {"space_code": 4} == settings[1]


@pytest.mark.parametrize("name", ["missing.nii.gz", "text.nii", "flat.nii.gz"])
def test_a_reference_without_a_grid_is_refused(tmp_path, name):
    (tmp_path / "text.nii").write_text("no image")
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4)), np.eye(4)), tmp_path / "flat.nii.gz")
    with pytest.raises(Refusal, match="--like " + name.replace(".", r"\.") + ": .*: give "):
        ReferenceGrid(tmp_path / name)


SCAN = (20, 20, 5)  # voxels of 1 x 1 x 4 mm: from -0.5 to 19.5 mm, and from -2 to 18 mm


def checked(tmp_path, shape, first_mm, spacing_mm=1.0):
    """A scan after the check against a grid of cubes whose first centre lies at `first_mm`."""
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = first_mm
    scan = MetaTensor(torch.rand(1, *SCAN), affine=torch.diag(torch.tensor([1.0, 1, 4, 1])))
    scan.meta.update(warnings=["earlier"], filename_or_obj="/data/knee.nii.gz")
    check = ReferenceOverlapd("image", reference(tmp_path / "t1.nii.gz", shape, affine))
    return check({"image": scan})["image"].meta["warnings"][1:]


@pytest.mark.parametrize(
    ("shape", "first_mm", "spacing_mm"),
    [((4, 4, 4), (8, 8, 8), 0.25), ((20, 20, 5), (0, 0, -1), 1.0), ((20, 20, 20), (0, 0, -1.5), 1.0)],
)
def test_a_grid_inside_of_the_scan_has_no_warning(tmp_path, shape, first_mm, spacing_mm):
    assert checked(tmp_path, shape, first_mm, spacing_mm) == []


def test_a_part_of_the_grid_outside_of_the_scan_is_a_warning(tmp_path, caplog):
    (warning,) = checked(tmp_path, (20, 20, 10), (14.6, 0, 0))  # x of 14.6 to 18.6 mm is inside: 5 of 20
    assert warning == "75 % of the grid of --like t1.nii.gz lies outside of the scan: the written volumes are 0 there"
    assert [(r.levelno, r.getMessage()) for r in caplog.records] == [(logging.WARNING, f"knee.nii.gz: {warning}")]
    (warning,) = checked(tmp_path, (100, 100, 100), (-40, -40, -40))  # 20 x 20 x 20 of them inside, and all of the scan
    assert warning.startswith("99.2 % of the grid")


@pytest.mark.parametrize(
    ("first_mm", "words"),
    [
        ((500, 0, 0), "no voxel of its grid lies in the field of view of the scan"),
        ((18, 18, -1.5), "only 0.8 % of its grid and 1 % of the scan are common to both"),
    ],
)
def test_a_grid_in_another_place_is_refused_in_a_line_that_names_both_files(tmp_path, first_mm, words):
    with pytest.raises(Refusal, match="^knee.nii.gz: --like t1.nii.gz: " + words + ": give .* or leave --like out$"):
        checked(tmp_path, (20, 20, 25), first_mm)


def test_without_a_reference_nothing_is_checked():
    scan = MetaTensor(torch.rand(1, *SCAN), affine=torch.eye(4))
    assert ReferenceOverlapd("image", ReferenceGrid())({"image": scan})["image"] is scan


def test_the_share_inside_is_that_of_the_voxels_that_are_written(tmp_path):
    volume = ramp()
    grid = reference(tmp_path / "r.nii.gz", (30, 31, 33), inner_affine(1.1, 0.4))
    written = grid(volume)[0].numpy()
    own = Grid(SHAPE, volume.affine.numpy())
    assert share_inside(grid.grid, own) == pytest.approx(np.count_nonzero(written) / written.size)
    assert 0.1 < share_inside(grid.grid, own) < 0.9


def coded(code):
    return MetaTensor(torch.rand(1, 8, 8, 8), affine=torch.eye(4), meta={"space_code": code})


@pytest.mark.parametrize(("of_scan", "of_grid"), [(1, 4), (4, 1), (2, 3), (4, 5)])
def test_a_grid_in_the_coordinates_of_a_template_is_none_for_a_scan_in_others(tmp_path, of_scan, of_grid):
    image = nibabel.Nifti1Image(np.zeros((8, 8, 8), np.uint8), np.eye(4))
    image.set_sform(np.eye(4), code=of_grid)
    nibabel.save(image, tmp_path / "like.nii")
    with pytest.raises(Refusal, match=rf"scan: --like like.nii: .* \(code {of_grid}\), .* \(code {of_scan}\): give"):
        ReferenceOverlapd("image", ReferenceGrid(tmp_path / "like.nii"))({"image": coded(of_scan)})
    taken = ReferenceOverlapd("image", ReferenceGrid(tmp_path / "like.nii"))({"image": coded(of_grid)})
    assert "warnings" not in taken["image"].meta


def test_sform_and_qform_of_the_grid_that_contradict_each_other_are_a_warning(tmp_path):
    image = nibabel.Nifti1Image(np.zeros((8, 8, 8), np.uint8), np.eye(4))
    image.set_sform(np.eye(4), code=1)
    image.set_qform(np.diag([-1.0, 1, 1, 1]), code=1)
    nibabel.save(image, tmp_path / "like.nii")
    taken = ReferenceOverlapd("image", ReferenceGrid(tmp_path / "like.nii"))({"image": coded(1)})
    [warning] = taken["image"].meta["warnings"]
    assert warning.startswith("--like like.nii: sform and qform differ, at a corner by 14 units")
