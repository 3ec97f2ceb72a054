from itertools import permutations, product

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given

from scripts.geometry.grid import Grid
from scripts.geometry.orientation import Reorientation
from tests.strategies import grids

CODES = ["".join(c) for order in permutations(("RL", "AP", "SI")) for c in product(*order)]


def thick_scan(code: str) -> tuple[np.ndarray, Grid]:
    """One scan, slices along A-P, stored in any of the 48 orientations (by nibabel, an independent implementation)."""
    voxels = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
    image = nibabel.Nifti1Image(voxels, np.array([[1, 0, 0, -9], [0, 6, 0, 4], [0, 0, 1.5, 7], [0, 0, 0, 1.0]]))
    to = nibabel.orientations.axcodes2ornt(code)
    moved = image.as_reoriented(nibabel.orientations.ornt_transform(nibabel.io_orientation(image.affine), to))
    return np.asarray(moved.dataobj), Grid(moved.shape, moved.affine)


def test_there_are_48_orientations():
    assert len(set(CODES)) == 48


@pytest.mark.parametrize("code", CODES)
def test_all_orientations_of_a_scan_become_one_array(code):
    voxels, grid = thick_scan(code)
    step = Reorientation.through_plane_last(grid, grid.through_plane_axis())
    array, moved = step.apply(torch.from_numpy(voxels.copy())[None]), step.apply_grid(grid)
    reference, reference_grid = thick_scan("RSA")
    assert torch.equal(array[0], torch.from_numpy(reference.copy()))
    assert np.allclose(moved.affine, reference_grid.affine)
    back = step.inverse()
    assert torch.equal(back.apply(array)[0], torch.from_numpy(voxels.copy()))
    assert np.array_equal(back.apply_grid(moved).affine.round(9), grid.affine.round(9))


@given(grids())
def test_every_voxel_keeps_its_world_position_when_oblique(grid):
    step = Reorientation.through_plane_last(grid, 1)
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    position = torch.from_numpy(np.moveaxis(grid.world_mm(index), -1, 0))
    moved = step.apply(position).numpy()
    after = step.apply_grid(grid)
    index = np.stack(np.meshgrid(*map(np.arange, after.shape), indexing="ij"), -1)
    assert np.allclose(np.moveaxis(after.world_mm(index), -1, 0), moved, atol=1e-6)
    assert after.spacing_mm[2] == pytest.approx(grid.spacing_mm[1])
