"""The joint solution: adjoint of A T, equality with one stack, with a dense solve, the weights, tau."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

from scripts.geometry.grid import Grid
from scripts.physics.acquisition import Acquisition, SliceGeometry
from scripts.physics.joint import (
    JointConsistency,
    Observation,
    StackOperator,
    slice_weights,
)
from scripts.physics.profile import PROFILES
from scripts.physics.projection import DataConsistency, covariance
from scripts.physics.rigid import RigidResampling, VoxelMeans

RELATIVE = 1e-10
ONES = torch.ones(1)


def volume_grid(size: int) -> Grid:
    affine = np.eye(4)
    affine[:3, 3] = -(size - 1) / 2
    return Grid((size, size, size), affine)


def stack_operator(size: int, axis: int, angles_deg=(0, 0, 0), factor: float = 4, profile: str = "rect"):
    """Slices across an axis of a cube, rotated about its centre."""
    thin = volume_grid(size)
    order = [*(a for a in range(3) if a != axis), axis]
    affine = thin.affine[:, [*order, 3]].copy()
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_rotvec(angles_deg, degrees=True).as_matrix()
    geometry = SliceGeometry(size, int(size / factor), factor, factor, profile)
    return StackOperator(Acquisition(geometry), RigidResampling(thin, Grid(thin.shape, affine), motion))


def orthogonal(size: int, angles=((0, 0, 0), (2, -1, 1), (-1, 2, 1.5))) -> list[StackOperator]:
    return [stack_operator(size, axis, angles[axis]) for axis in (2, 1, 0)]


def smooth(size: int, sigma: float = 1.0, seed: int = 0) -> torch.Tensor:
    volume = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((size,) * 3), sigma)
    return torch.from_numpy(volume / volume.std())


def observed(operator: StackOperator, truth: torch.Tensor, sigma: float, seed: int = 0) -> Observation:
    slices = operator(truth)
    noise = torch.randn(slices.shape, generator=torch.Generator().manual_seed(seed), dtype=slices.dtype)
    return Observation(operator, slices + sigma * noise, sigma, operator.covered().to(slices))


def test_the_adjoint_is_exact():
    random = torch.Generator().manual_seed(0)
    for operator in orthogonal(20):
        u = torch.randn(20, 20, 20, generator=random, dtype=torch.float64)
        w = torch.randn(operator.shape, generator=random, dtype=torch.float64)
        difference = (operator(u) * w).sum() - (u * operator.adjoint(w)).sum()
        assert abs(difference) <= RELATIVE * operator(u).norm() * w.norm()


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("thickness", [4, 8])
def test_slices_that_reach_out_of_the_volume_are_not_covered(profile: str, thickness: float):
    volume, affine = Grid((3, 3, 80), np.eye(4)), np.eye(4)
    affine[2, 3] = -40
    thin = Grid((3, 3, 160), affine)
    for first in np.arange(1.5, 5.5, 0.5):
        A = Acquisition(SliceGeometry(160, 38, 4, thickness, profile, first))
        operator = StackOperator(A, RigidResampling(volume, thin))
        covered = np.flatnonzero(operator.covered()[1, 1])
        assert len(covered) >= 10
        assert (np.diff(covered) == 1).all()
        b = A(torch.ones(thin.shape))  # a body that goes on beyond the volume
        difference = b - operator(torch.ones(volume.shape))
        assert difference[1, 1, covered].abs().max() < 0.01


@pytest.mark.parametrize("smoothness", [0.0, 0.2])
@pytest.mark.parametrize("profile", ["rect", "gauss", "fourier"])
def test_one_stack_that_is_not_moved_is_the_projection_of_data_consistency(smoothness: float, profile: str):
    operator = stack_operator(24, 2, profile=profile)
    stack = observed(operator, smooth(24), 0.05)
    prior = smooth(24, 2.0, seed=1)
    tau = 0.4
    A, S = operator.acquisition.matrix, _gaussian(24, smoothness * 4)
    largest = np.linalg.eigvalsh(A @ S @ A.T)[-1]
    P = DataConsistency(operator.acquisition, stack.sigma**2 / tau**2 / largest, smoothness)
    joint = JointConsistency(tau, (0, 0, smoothness * 4), tolerance=1e-10)
    solution = joint(prior, [Observation(operator, stack.slices, stack.sigma, ONES)])
    assert torch.allclose(solution.volume, P(prior, stack.slices), atol=1e-8)


def _gaussian(size: int, sigma: float) -> np.ndarray:
    lag = np.subtract.outer(np.arange(size), np.arange(size))
    return np.exp(-(lag**2) / (2 * sigma**2)) if sigma else np.eye(size)


def test_several_stacks_are_solved_as_by_a_dense_solver():
    size, tau = 8, 0.3
    operators = [stack_operator(size, axis, angles, 2) for axis, angles in ((2, (0, 0, 0)), (0, (5, 3, -4)))]
    prior = smooth(size, seed=3)
    stacks = [observed(operator, smooth(size), sigma) for operator, sigma in zip(operators, (0.05, 0.2), strict=True)]
    units = torch.eye(size**3, dtype=torch.float64).view(-1, size, size, size)
    normal, right = np.eye(size**3) / tau**2, np.zeros(size**3)
    for stack in stacks:
        matrix = torch.stack([stack.operator(unit).flatten() for unit in units], dim=1).numpy()
        weights = stack.weights.flatten().numpy()[:, None] / stack.sigma**2
        normal += matrix.T @ (weights * matrix)
        right += matrix.T @ (weights[:, 0] * (stack.slices.flatten().numpy() - matrix @ prior.flatten().numpy()))
    dense = prior.flatten().numpy() + np.linalg.solve(normal, right)
    solution = JointConsistency(tau, iterations=500, tolerance=1e-12)(prior, stacks)
    assert np.allclose(solution.volume.flatten().numpy(), dense, atol=1e-8)


def test_stacks_of_three_directions_bring_what_one_cannot():
    truth = smooth(24)
    stacks = [observed(operator, truth, 0.02) for operator in orthogonal(24)]
    prior = torch.zeros_like(truth)
    inner = (slice(4, -4),) * 3
    errors = [
        float((JointConsistency(1.0)(prior, stacks[:count]).volume - truth)[inner].square().mean().sqrt())
        for count in (1, 2, 3)
    ]
    assert errors[0] > 1.3 * errors[1] > 1.3 * 1.2 * errors[2]


def test_more_noise_is_trusted_less():
    truth, prior = smooth(24), torch.zeros(24, 24, 24, dtype=torch.float64)
    operator = stack_operator(24, 2)
    quiet, noisy = (observed(operator, truth, sigma) for sigma in (0.01, 3.0))
    moved = [JointConsistency(1.0)(prior, [stack]).volume.square().mean() for stack in (quiet, noisy)]
    assert moved[0] > 5 * moved[1]


def test_pixels_without_a_weight_have_no_influence():
    truth = smooth(24)
    stack = observed(stack_operator(24, 0, (3, 2, 1)), truth, 0.02)
    spoilt = torch.where(stack.weights > 0, stack.slices, 1e6)
    changed = Observation(stack.operator, spoilt, stack.sigma, stack.weights)
    prior = torch.zeros_like(truth)
    first, second = (JointConsistency(1.0)(prior, [s]).volume for s in (stack, changed))
    assert (stack.weights == 0).any()
    assert torch.equal(first, second)


def test_the_residual_of_the_solution_is_the_noise():
    truth = smooth(32)
    stacks = [observed(operator, truth, 0.1) for operator in orthogonal(32)]
    solution = JointConsistency(1.0)(smooth(32, seed=5), stacks)
    for stack, residual in zip(stacks, solution.residuals, strict=True):
        assert 0.4 * stack.sigma < stack.rms(residual) < 1.1 * stack.sigma
        assert torch.allclose(residual, stack.residual(stack.operator(solution.volume)), atol=1e-9)


def test_what_is_known_of_the_prior_is_not_computed_again():
    truth, prior = smooth(24), smooth(24, 2.0, seed=1)
    stacks = [observed(operator, truth, 0.1) for operator in orthogonal(24)]
    known = [stack.operator(prior) for stack in stacks]
    assert torch.equal(JointConsistency(1.0)(prior, stacks, known).volume, JointConsistency(1.0)(prior, stacks).volume)


@pytest.mark.parametrize("spoil", ["signal lost", "moved", "spike"])
def test_a_bad_slice_loses_its_weight_and_no_other_does(spoil: str):
    truth = 5 + smooth(40, 2.0)
    truth = truth * torch.hann_window(40, periodic=False, dtype=torch.float64).view(-1, 1, 1).sqrt()
    stacks = [observed(operator, truth, 0.05) for operator in orthogonal(40)]
    slices = stacks[1].slices.clone()
    middle = slices[:, :, 5]
    slices[:, :, 5] = {
        "signal lost": 0.5 * middle,
        "moved": middle.roll(4, dims=0),
        "spike": middle + 2 * torch.sin(torch.arange(40.0))[None],
    }[spoil]
    prior = torch.from_numpy(ndimage.gaussian_filter(truth.numpy(), 1.0))
    bad = Observation(stacks[1].operator, slices, stacks[1].sigma, stacks[1].weights)
    weights = slice_weights(bad, bad.operator(prior))
    assert weights[5] < 0.3
    assert torch.cat([weights[:5], weights[6:]]).min() > 0.8
    for stack in (stacks[0], stacks[2]):
        assert slice_weights(stack, stack.operator(prior)).min() > 0.8


def test_the_deviation_of_the_slices_is_their_noise_where_the_error_of_the_prior_explains_the_rest():
    truth = smooth(40)
    stacks = [observed(operator, truth, 0.1) for operator in orthogonal(40)]
    error = 0.5 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(2), dtype=truth.dtype)
    solve = JointConsistency(0.5)
    for stack in stacks:
        predicted = stack.operator(truth + error), stack.operator(truth)
        assert solve.deviation_of_slices(stack, predicted[0]) == pytest.approx(0.1, rel=0.3)
        assert solve.deviation_of_slices(stack, predicted[1]) == 0.1  # a better prior does not make the noise smaller


def test_the_error_of_the_prior_explains_less_of_larger_pixels_and_more_where_it_is_smooth():
    """In closed form: the mean over 2 x 2 pixels of slices of 4 voxels, of errors with a Gaussian covariance."""
    size, sigma, factor = 40, 1.5, 4
    volume = volume_grid(size)
    thin = Grid((size // 2, size // 2, size), volume.resampled((2, 2, 1)).affine)
    operator = StackOperator(Acquisition(SliceGeometry(size, size // factor, factor, factor)), VoxelMeans(volume, thin))
    S = covariance(size, sigma)
    pixel, slices = np.kron(np.eye(size // 2), [0.5, 0.5]), operator.acquisition.matrix
    explained = np.prod([np.diag(mean @ S @ mean.T).mean() for mean in (pixel, pixel, slices)])
    stack = Observation(operator, torch.full(operator.shape, 1.0), 1e-3, ONES)
    deviation = JointConsistency(1.0, (sigma,) * 3).deviation_of_slices(stack, torch.zeros(operator.shape))
    assert deviation == pytest.approx(np.sqrt(1 - explained), rel=0.02)


def test_a_stack_that_contradicts_the_others_is_as_far_away_as_it_was_changed():
    truth = smooth(40)
    stacks = [observed(operator, truth, 0.1) for operator in orthogonal(40)]
    other = ndimage.gaussian_filter(np.random.default_rng(4).standard_normal(stacks[0].slices.shape), 3)
    other = torch.from_numpy(other / other.std())
    changed = Observation(stacks[0].operator, stacks[0].slices + other, 0.1, stacks[0].weights)
    solve = JointConsistency(0.05, (0.8, 0.8, 0.8))
    assert solve.deviation_of_slices(changed, changed.operator(truth)) == pytest.approx(1.0, rel=0.1)


def test_settings_that_make_no_sense_are_errors():
    with pytest.raises(ValueError, match="tau must be positive"):
        JointConsistency(0.0)
    with pytest.raises(ValueError, match="smoothness must be three numbers"):
        JointConsistency(1.0, (0.0, -1.0, 0.0))
    with pytest.raises(ValueError, match="does not end on the thin grid"):
        StackOperator(Acquisition(SliceGeometry(10, 2, 4, 4)), RigidResampling(volume_grid(8), volume_grid(8)))
