import numpy as np
import pytest
import torch
from scipy import ndimage

from scripts.learning.turn import InPlaneTurn

SHAPE = (70, 82, 6)


def smooth(shape=SHAPE) -> torch.Tensor:
    """A blob off the centre that fades into air before the edges, with a texture of long waves."""
    x, y, z = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in shape), indexing="ij")
    blob = torch.exp(-((x - 30) ** 2 + (y - 46) ** 2) / 180)
    return blob * (1 + 0.3 * torch.sin(x / 5) * torch.cos(y / 7 + z))


def test_no_turn_changes_nothing():
    turn, volume = InPlaneTurn(0, SHAPE), smooth()
    assert turn.turned == SHAPE[:2]
    assert torch.equal(turn.there(volume), volume)
    assert torch.equal(turn.back(volume), volume)


@pytest.mark.parametrize("degrees", [10, 45, 89.5])
def test_there_and_back_is_the_volume(degrees):
    turn, volume = InPlaneTurn(degrees, SHAPE), smooth()
    turned = turn.there(volume)
    assert turned.shape == (*turn.turned, 6)
    assert (turned.sum() - volume.sum()).abs() < 1e-3 * volume.sum()  # all of it is held
    assert (turn.back(turned) - volume).abs().max() < 0.015  # of 1.3: what the kernel costs


@pytest.mark.parametrize("degrees", [30, 45])
def test_it_turns_as_scipy_does(degrees):
    turned = InPlaneTurn(degrees, SHAPE).there(smooth())
    expected = ndimage.rotate(smooth().numpy(), -degrees, axes=(0, 1), order=3)
    assert turned.shape == expected.shape
    assert np.abs(turned.numpy() - expected).max() < 0.01
