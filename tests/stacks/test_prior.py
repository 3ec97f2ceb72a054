"""The directional mean: constants and equal volumes stay, and detail comes from the stack that measured it."""

import numpy as np
import pytest
import torch

from scripts.stacks.prior import Sampling, directional_mean

SIZE = 32
EVERYWHERE = torch.ones(SIZE, SIZE, SIZE, dtype=torch.bool)
X, Z = ([Sampling(np.eye(3)[axis], spacing_voxels=4, thickness_voxels=4)] for axis in (0, 2))


def wave(axis: int, cycles: int) -> torch.Tensor:
    line = torch.cos(2 * torch.pi * cycles * torch.arange(SIZE, dtype=torch.float64) / SIZE)
    shape = [1, 1, 1]
    shape[axis] = SIZE
    return line.view(shape).expand(SIZE, SIZE, SIZE).contiguous()


def test_equal_volumes_give_that_volume():
    volume = torch.from_numpy(np.random.default_rng(0).standard_normal((SIZE,) * 3))
    mean = directional_mean([volume] * 2, [EVERYWHERE] * 2, [X, Z])
    assert torch.allclose(mean, volume, atol=1e-12)


def test_fine_detail_across_the_slices_of_one_stack_comes_from_the_other():
    detail = wave(2, 10)  # 10 / 32 cycles a voxel, beyond the 1 / 8 that slices 4 voxels apart can carry
    sharp, blurred = 5 + detail, torch.full_like(detail, 5)
    mean = directional_mean([blurred, sharp], [EVERYWHERE] * 2, [Z, X], floor=0.1)
    assert torch.allclose(mean, 5 + detail / 1.1, atol=1e-9)  # weights 0.1 and 1


def test_what_both_measured_is_averaged():
    coarse = wave(1, 10)  # within the planes of both
    mean = directional_mean([coarse, 3 * coarse], [EVERYWHERE] * 2, [Z, X])
    assert torch.allclose(mean, 2 * coarse, atol=1e-9)


def test_fine_detail_across_the_slices_comes_from_a_near_isotropic_scan_up_to_its_own_nyquist_frequency():
    scan = [Sampling(direction, spacing_voxels=2) for direction in np.eye(3)]
    for cycles, passed in ((6, np.cos(np.pi * 12 / 32) ** (2 / 3)), (10, 0.0)):  # of 32; samples carry up to 8
        detail = wave(2, cycles)
        mean = directional_mean([torch.full_like(detail, 5), 5 + detail], [EVERYWHERE] * 2, [Z, scan], floor=0.1)
        weight = 0.1 + 0.9 * passed
        assert torch.allclose(mean, 5 + detail * weight / (weight + 0.1), atol=1e-4)  # a table of the transfer


def test_outside_its_field_of_view_a_volume_has_no_influence():
    volume = torch.from_numpy(np.random.default_rng(0).standard_normal((SIZE,) * 3))
    half = EVERYWHERE.clone()
    half[:, :, 16:] = False
    spoilt = torch.where(half, volume, 1e6)
    mean = directional_mean([volume, spoilt], [EVERYWHERE, half], [Z, X])
    assert torch.allclose(mean, volume, atol=1e-9)


def test_a_floor_of_zero_is_an_error():
    with pytest.raises(ValueError, match="floor must be above 0"):
        directional_mean([wave(0, 1)], [EVERYWHERE], [X], floor=0.0)
