import numpy as np
import pytest
import torch

from scripts.geometry.errors import Refusal
from scripts.metrics.residual import relative_residual
from scripts.physics.acquisition import Acquisition, SliceGeometry
from tests.metrics.oracles import BlockAcquisition, block_average, consistent, cubic_spline, tissue


@pytest.fixture(scope="module")
def truth():
    return tissue((10, 12, 48))


def test_residual_is_zero_on_the_truth_and_after_projection_and_grows_with_noise(truth):
    slices = block_average(truth, 4)
    assert relative_residual(truth, slices, BlockAcquisition(4)) == pytest.approx(0, abs=1e-12)
    cubic = cubic_spline(slices, 4)
    assert relative_residual(consistent(cubic, slices, 4), slices, BlockAcquisition(4)) < 1e-12
    assert relative_residual(cubic, slices, BlockAcquisition(4)) > 1e-3
    noise = np.random.default_rng(0).normal(size=truth.shape)
    grown = [relative_residual(truth + s * noise, slices, BlockAcquisition(4)) for s in (1, 5, 30)]
    assert (np.diff(grown) > 0).all()


def test_residual_by_hand_along_another_axis(truth):
    slices = block_average(truth, 4)
    expected = np.linalg.norm(slices * 0.03) / np.linalg.norm(slices)
    assert relative_residual(1.03 * truth, slices, BlockAcquisition(4)) == pytest.approx(expected)
    moved = [np.moveaxis(a, -1, 0) for a in (1.03 * truth, slices)]
    assert relative_residual(*moved, BlockAcquisition(4), axis=0) == pytest.approx(expected)


def test_residual_accepts_the_acquisition_of_physics(truth):
    acquisition = Acquisition(SliceGeometry(48, 12, 4.0, 4.0))
    slices = block_average(truth, 4)
    assert relative_residual(torch.from_numpy(truth)[None].float(), slices, acquisition) < 1e-6


def test_residual_refuses_bad_input(truth):
    slices = block_average(truth, 4)
    cases = [
        (lambda: relative_residual(truth, slices[..., 1:], BlockAcquisition(4)), "A makes slices of shape"),
        (lambda: relative_residual(truth, slices * 0, BlockAcquisition(4)), "all zero"),
        (lambda: relative_residual(truth * np.nan, slices, BlockAcquisition(4)), "volume holds"),
        (lambda: relative_residual(truth, slices * np.inf, BlockAcquisition(4)), "slices holds"),
    ]
    for action, fact in cases:
        with pytest.raises(Refusal, match=fact):
            action()
