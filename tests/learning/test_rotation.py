import numpy as np
import pytest
import torch
from scipy import ndimage

from scripts.learning.rotation import InPlaneRotation

SHAPE = (70, 82, 6)


def smooth(shape=SHAPE) -> torch.Tensor:
    """A blob off the centre that fades into air before the edges, with a texture of long waves."""
    x, y, z = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in shape), indexing="ij")
    blob = torch.exp(-((x - 30) ** 2 + (y - 46) ** 2) / 180)
    return blob * (1 + 0.3 * torch.sin(x / 5) * torch.cos(y / 7 + z))


def test_no_turn_changes_nothing():
    turn, volume = InPlaneRotation(0, SHAPE), smooth()
    assert turn.turned == SHAPE[:2]
    assert torch.equal(turn.there(volume), volume)
    assert torch.equal(turn.back(2 * volume, volume, volume), 2 * volume)


@pytest.mark.parametrize("degrees", [10, 45, 89.5])
def test_there_and_back_is_the_volume(degrees):
    turn, volume = InPlaneRotation(degrees, SHAPE), smooth()
    turned = turn.there(volume)
    assert turned.shape == (*turn.turned, 6)
    assert (turned.sum() - volume.sum()).abs() < 1e-3 * volume.sum()  # all of it is held
    back = turn.back(2 * turned, turned, volume)  # an answer that adds the volume once more
    assert (back - 2 * volume).abs().max() < 0.015  # of 1.3: what the kernel costs


@pytest.mark.parametrize("degrees", [30, 45])
def test_it_turns_as_scipy_does(degrees):
    turn = InPlaneRotation(degrees, SHAPE)
    rotation, size = turn.rotation.numpy(), np.array(turn.turned)
    offset = (np.array(SHAPE[:2]) - 1) / 2 - rotation @ (size - 1) / 2
    pull = np.block([[rotation, np.zeros((2, 1))], [np.zeros((1, 2)), np.ones((1, 1))]])
    expected = ndimage.affine_transform(smooth().numpy(), pull, [*offset, 0], (*turn.turned, 6), order=3)
    assert np.abs(turn.there(smooth()).numpy() - expected).max() < 0.01
