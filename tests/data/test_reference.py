"""`like`: results on the grid of another image, against a linear function of position and against ITK."""

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from scripts.data.reference import ReferenceGrid
from scripts.geometry.errors import Refusal

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


@pytest.mark.parametrize("name", ["missing.nii.gz", "text.nii", "flat.nii.gz"])
def test_a_reference_without_a_grid_is_refused(tmp_path, name):
    (tmp_path / "text.nii").write_text("no image")
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4)), np.eye(4)), tmp_path / "flat.nii.gz")
    with pytest.raises(Refusal, match="--like " + name.replace(".", r"\.") + ": .*: give "):
        ReferenceGrid(tmp_path / name)
