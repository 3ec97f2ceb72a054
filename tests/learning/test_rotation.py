import numpy as np
import pytest
import torch
from scipy import ndimage

from scripts.learning.rotation import InPlaneRotation

SHAPE = (70, 82, 6)


def smooth(shape=SHAPE) -> torch.Tensor:
    """A blob off the centre that fades before the edges, with a texture of long waves."""
    x, y, z = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in shape), indexing="ij")
    blob = torch.exp(-((x - 30) ** 2 + (y - 46) ** 2) / 180)
    return blob * (1 + 0.3 * torch.sin(x / 5) * torch.cos(y / 7 + z))


def test_a_rotation_by_0_changes_nothing():
    rotation, volume = InPlaneRotation(0, SHAPE), smooth()
    assert rotation.rotated_shape == SHAPE[:2]
    assert torch.equal(rotation.rotate(volume), volume)
    assert torch.equal(rotation.rotate_back(2 * volume, volume, volume), 2 * volume)


@pytest.mark.parametrize("degrees", [10, 45, 89.5])
def test_rotated_there_and_back_is_the_volume(degrees):
    rotation, volume = InPlaneRotation(degrees, SHAPE), smooth()
    rotated = rotation.rotate(volume)
    assert rotated.shape == (*rotation.rotated_shape, 6)
    assert (rotated.sum() - volume.sum()).abs() < 1e-3 * volume.sum()  # all of it is held
    back = rotation.rotate_back(2 * rotated, rotated, volume)  # a prediction that adds the volume once more
    assert (back - 2 * volume).abs().max() < 0.015  # of 1.3: what the kernel costs


@pytest.mark.parametrize("degrees", [30, 45])
def test_it_rotates_as_scipy_does(degrees):
    rotation = InPlaneRotation(degrees, SHAPE)
    matrix, size = rotation.matrix.numpy(), np.array(rotation.rotated_shape)
    offset = (np.array(SHAPE[:2]) - 1) / 2 - matrix @ (size - 1) / 2
    pull = np.block([[matrix, np.zeros((2, 1))], [np.zeros((1, 2)), np.ones((1, 1))]])
    expected = ndimage.affine_transform(smooth().numpy(), pull, [*offset, 0], (*rotation.rotated_shape, 6), order=3)
    assert np.abs(rotation.rotate(smooth()).numpy() - expected).max() < 0.01
