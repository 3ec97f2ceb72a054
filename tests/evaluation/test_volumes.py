"""Volumes on another grid: rearranged where voxels coincide, resampled elsewhere, refused where they do not overlap."""

import nibabel
import numpy as np
import pytest

from scripts.evaluation.volumes import covered, on_grid, read_volume
from scripts.geometry.errors import Refusal
from scripts.geometry.grid import Grid

RNG = np.random.default_rng(0)


def test_reordered_flipped_and_cropped_voxels_are_only_rearranged():
    v = RNG.normal(size=(8, 10, 12)).astype(np.float32)
    image = nibabel.Nifti1Image(v, np.array([[1.5, 0, 0, 3], [0, 1.5, 0, -4], [0, 0, 1.5, 9], [0, 0, 0, 1]]))
    reoriented = image.slicer[1:, :, :-1].as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
    back = on_grid(
        np.asarray(reoriented.dataobj), Grid(reoriented.shape, reoriented.affine), Grid(v.shape, image.affine)
    )
    np.testing.assert_array_equal(back[1:, :, :-1], v[1:, :, :-1])
    np.testing.assert_array_equal(back[0], back[1])  # beyond the edge it is repeated


def test_a_shifted_rotated_grid_is_resampled_in_the_world():
    def smooth(grid):
        x, y, z = np.moveaxis(grid.world_mm(np.stack(np.indices(grid.shape), -1)), -1, 0)
        return (np.sin(x / 5) + np.cos(y / 4) + z / 10).astype(np.float32)

    c, s = np.cos(0.1), np.sin(0.1)
    fine = Grid((30, 30, 30), np.array([[c, -s, 0, -16.3], [s, c, 0, -15.1], [0, 0, 1, -15.4], [0, 0, 0, 1]]))
    target = Grid((20, 20, 20), np.array([[1, 0, 0, -10], [0, 1, 0, -10], [0, 0, 1, -10], [0, 0, 0, 1.0]]))
    found = on_grid(smooth(fine), fine, target)
    inside = covered(fine, target)
    assert inside.mean() > 0.9
    assert np.abs(found - smooth(target))[inside].max() < 0.01


def test_another_position_is_refused():
    here, far = (Grid((9, 9, 9), np.array([[1, 0, 0, o], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])) for o in (0, 6))
    with pytest.raises(Refusal, match="covers 33%"):
        on_grid(np.zeros((9, 9, 9), np.float32), far, here)


def test_unusable_files_are_refused(tmp_path):
    v = np.ones((4, 4, 4), np.float32)
    v[0, 0, 0] = np.inf
    nibabel.save(nibabel.Nifti1Image(v, np.eye(4)), tmp_path / "inf.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 4, 4, 2), np.float32), np.eye(4)), tmp_path / "four.nii.gz")
    (tmp_path / "no.nii.gz").write_bytes(b"x")
    for name, line in (("inf", "1 voxels are NaN"), ("four", "3-D"), ("no", "no NIfTI"), ("none", "no such file")):
        with pytest.raises(Refusal, match=line):
            read_volume(tmp_path / f"{name}.nii.gz")
