"""The joint solution of several stacks: the volume that explains the slices of all of them, noise and prior weighed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from ..geometry.grid import AXES
from .acquisition import Acquisition
from .projection import covariance
from .rigid import RigidResampling, VoxelMeans

ITERATIONS = 40  # of the conjugate gradients, at most
TOLERANCE = 0.02  # of the residual, relative: the volume is then within 0.0005 of its norm (docs/stacks.md)
BAD_SLICE = 2.5  # times the expected residual, from which a slice loses weight


class StackOperator:
    """`A T`: a volume -> the slices that a stack acquires of it, rigid motion first, then the slice profile.

    Args:
        acquisition: `A` of the stack, thin grid -> slices.
        resampling: `T`, volume -> thin grid of the stack, through-plane axis last: samples, or means over its voxels.

    Raises:
        ValueError: if T does not end on the thin grid of A.

    >>> from scripts.geometry.grid import Grid
    >>> from scripts.physics.acquisition import SliceGeometry
    >>> thin = Grid((2, 2, 6), np.eye(4))
    >>> AT = StackOperator(Acquisition(SliceGeometry(6, 2, 3, 3)), RigidResampling(thin, thin))
    >>> AT(torch.tensor([0.0, 0.0, 3.0, 3.0, 3.0, 3.0]).expand(2, 2, 6))[0, 0]
    tensor([1., 3.])
    """

    def __init__(self, acquisition: Acquisition, resampling: RigidResampling | VoxelMeans) -> None:
        if resampling.target.shape[-1] != acquisition.in_size:
            raise ValueError(f"{resampling!r} does not end on the thin grid of {acquisition!r}")
        self.acquisition, self.resampling = acquisition, resampling

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (X, Y, N) of the slices."""
        return (*self.resampling.target.shape[:2], self.acquisition.out_size)

    def __repr__(self) -> str:
        return f"<{self.acquisition!r} after {self.resampling!r}>"

    def __call__(self, volume: torch.Tensor) -> torch.Tensor:
        """Return A T v: (X, Y, Z) -> slices (X', Y', N), same units, type and device."""
        return self.acquisition(self.resampling(volume))

    def adjoint(self, slices: torch.Tensor) -> torch.Tensor:
        """Return T* A* b: slices (X', Y', N) -> (X, Y, Z), same type and device."""
        return self.resampling.adjoint(self.acquisition.adjoint(slices))

    def covered(self, device: torch.device | None = None) -> torch.Tensor:
        """Return which pixels (X', Y', N) of the slices the volume determines: boolean, inside its field of view."""
        return self.acquisition.is_inside(self.resampling.covered(device))


@dataclass(frozen=True)
class Observation:
    """A stack as the joint solution sees it.

    Attributes:
        operator: A_k T_k.
        slices: b_k, (X, Y, N), on the intensity scale of the volume.
        sigma: standard deviation of their noise, same units.
        weights: 0 to 1, broadcast to (X, Y, N): 0 leaves a pixel out, a smaller weight trusts a slice less.
    """

    operator: StackOperator
    slices: torch.Tensor
    sigma: float
    weights: torch.Tensor

    def residual(self, predicted: torch.Tensor) -> torch.Tensor:
        """Return b - A T v, (X, Y, N), 0 where the weight is 0.

        Args:
            predicted: A T v.
        """
        return torch.where(self.weights > 0, self.slices - predicted, 0.0)

    def rms(self, residual: torch.Tensor) -> float:
        """Return the root mean square of a residual over the pixels that have a weight, same units as the slices."""
        used = (self.weights > 0).expand(self.slices.shape)
        return float(residual[used].square().mean().sqrt())


@dataclass(frozen=True)
class JointSolution:
    """What `JointConsistency` found.

    Attributes:
        volume: (X, Y, Z).
        iterations: conjugate gradient steps that were taken.
        converged: whether they reached the tolerance.
        residuals: b - A T v of each stack, as by `Observation.residual`.
    """

    volume: torch.Tensor
    iterations: int
    converged: bool
    residuals: tuple[torch.Tensor, ...]


class JointConsistency:
    """The minimiser of `sum_k w_k ||A_k T_k v - b_k||^2 / sigma_k^2 + ||v - v_prior||^2 / tau^2`.

    The last norm is that of S^-1; S is the covariance of the errors of the prior, as in `DataConsistency`, a Gaussian
    along each axis. The minimiser is `v_prior + S B* (B S B* + I)^-1 D (b - A T v_prior)` with D = tau sqrt(w) / sigma
    and B = D A T. The system is solved by conjugate gradients in the space of the slices, which is smaller than that
    of the volume; its eigenvalues begin at 1, so a few steps suffice. With one stack that is not moved, no mask and
    lambda = sigma^2 / tau^2 the solution is the projection of `DataConsistency`.

    Args:
        tau: standard deviation of the prior's error, in the units of the volume.
        smoothness_voxels: standard deviation of S along each axis; 0 is no correlation along it.
        iterations: conjugate gradient steps, at most.
        tolerance: relative residual at which they stop.

    Raises:
        ValueError: if tau is not positive or a smoothness is negative.

    >>> from scripts.geometry.grid import Grid
    >>> from scripts.physics.acquisition import SliceGeometry
    >>> thin = Grid((1, 1, 6), np.eye(4))
    >>> AT = StackOperator(Acquisition(SliceGeometry(6, 2, 3, 3)), RigidResampling(thin, thin))
    >>> prior = torch.tensor([0.0, 1.0, 2.0, 0.0, 1.0, 2.0]).view(1, 1, 6)
    >>> stack = Observation(AT, torch.tensor([1.0, 4.0]).view(1, 1, 2), sigma=1e-3, weights=torch.ones(1))
    >>> JointConsistency(tau=1.0)(prior, [stack]).volume.flatten().round(decimals=3)
    tensor([0., 1., 2., 3., 4., 5.])
    """

    def __init__(
        self,
        tau: float,
        smoothness_voxels: Sequence[float] = (0.0, 0.0, 0.0),
        iterations: int = ITERATIONS,
        tolerance: float = TOLERANCE,
    ) -> None:
        if not tau > 0:
            raise ValueError(f"tau must be positive, got {tau}")
        if len(smoothness_voxels) != AXES or not min(smoothness_voxels) >= 0:
            raise ValueError(f"smoothness must be three numbers of 0 or more voxels, got {list(smoothness_voxels)}")
        self.tau, self.smoothness_voxels = float(tau), tuple(float(s) for s in smoothness_voxels)
        self.iterations, self.tolerance = iterations, tolerance

    def __call__(
        self,
        prior: torch.Tensor,
        stacks: Sequence[Observation],
        predicted: Sequence[torch.Tensor] | None = None,
        stepped: Callable[[], Any] | None = None,
    ) -> JointSolution:
        """Return the volume that weighs the prior against the slices of all stacks.

        Args:
            prior: v_prior, (X, Y, Z).
            stacks: at least one.
            predicted: A T v_prior of each stack where it is known; None: it is computed.
            stepped: called after each conjugate gradient step.
        """
        predicted = [stack.operator(prior) for stack in stacks] if predicted is None else predicted
        scales = [self.tau / stack.sigma * stack.weights.to(prior).sqrt() for stack in stacks]
        target = [
            scale * stack.residual(slices) for scale, stack, slices in zip(scales, stacks, predicted, strict=True)
        ]

        def spread(parts: Sequence[torch.Tensor]) -> torch.Tensor:
            back = torch.zeros_like(prior)
            for part, scale, stack in zip(parts, scales, stacks, strict=True):
                back += stack.operator.adjoint(part * scale)
            return self._correlated(back)

        def acquired(volume: torch.Tensor) -> list[torch.Tensor]:
            return [scale * stack.operator(volume) for scale, stack in zip(scales, stacks, strict=True)]

        solved = _conjugate_gradients(
            spread, acquired, target, self.iterations, self.tolerance, stepped or (lambda: None)
        )
        # target - (B S B* + I) x is what is left, so that B (v - v_prior) is known without another A T
        residuals = tuple(
            torch.where(scale > 0, (x + rest) / scale, 0.0)
            for x, rest, scale in zip(solved.x, solved.left, scales, strict=True)
        )
        return JointSolution(prior + solved.volume, solved.steps, solved.reached <= self.tolerance, residuals)

    def deviation_of_slices(self, stack: Observation, predicted: torch.Tensor) -> float:
        """Return the standard deviation of what keeps the slices of a stack from the prior, apart from its error.

        A pixel of b - A T v_prior has the variance sigma^2 + tau^2 a S a*, a being its row of A T. What the stacks of
        a real study show beyond that is neither noise nor missing detail: motion that is not rigid, fat that is
        displaced along another readout direction, another contrast. It counts as noise here, so that the joint
        solution does not try to explain it. The mean of a S a* is estimated with random signs (Hutchinson 1989,
        doi:10.1080/03610919008812866); with as many pixels as in a scan its error is far below 1 %.

        Args:
            stack: its pixels count with their weights.
            predicted: A T v_prior, (X, Y, N).

        Returns:
            In the units of the slices; at least sigma.

        >>> from scripts.geometry.grid import Grid
        >>> from scripts.physics.acquisition import SliceGeometry
        >>> thin = Grid((40, 40, 40), np.eye(4))
        >>> AT = StackOperator(Acquisition(SliceGeometry(40, 10, 4, 4)), RigidResampling(thin, thin))
        >>> other = 0.3 * torch.randn(AT.shape, generator=torch.Generator().manual_seed(0))
        >>> stack = Observation(AT, other, sigma=0.1, weights=torch.ones(1))
        >>> round(JointConsistency(tau=0.01).deviation_of_slices(stack, torch.zeros(AT.shape)), 2)
        0.3
        """
        weights = stack.weights.expand(stack.slices.shape)
        total = float(weights.sum(dtype=torch.float64))
        if total == 0:
            return stack.sigma
        signs = torch.randint(2, stack.slices.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
        spread = stack.operator.adjoint(weights.sqrt() * signs.to(stack.slices))
        explained = self.tau**2 * _dot([spread], [self._correlated(spread)])
        square = _dot([weights], [stack.residual(predicted).square()])
        return float(np.sqrt(max((square - explained) / total, stack.sigma**2)))

    def _correlated(self, volume: torch.Tensor) -> torch.Tensor:
        """S v."""
        for sigma in self.smoothness_voxels:  # each step brings the next axis to the front
            if sigma > 0:
                S = torch.as_tensor(covariance(volume.shape[0], sigma), dtype=volume.dtype, device=volume.device)
                volume = (volume.reshape(len(S), -1).t() @ S).view(*volume.shape[1:], len(S))
            else:
                volume = volume.movedim(0, -1)
        return volume.contiguous()


class _Solved(NamedTuple):
    """What conjugate gradients found: x, C x, target - (B C + I) x, the steps taken, and the relative residual."""

    x: list[torch.Tensor]
    volume: torch.Tensor | float
    left: list[torch.Tensor]
    steps: int
    reached: float


def _conjugate_gradients(
    C: Callable[[list[torch.Tensor]], torch.Tensor],
    B: Callable[[torch.Tensor], list[torch.Tensor]],
    target: list[torch.Tensor],
    most: int,
    tolerance: float,
    stepped: Callable[[], Any],
) -> _Solved:
    """Solve (B C + I) x = target, symmetric and positive definite, from x = 0 (Hestenes and Stiefel 1952)."""
    x = [torch.zeros_like(part) for part in target]
    left = [part.clone() for part in target]
    direction = [part.clone() for part in left]
    start = square = _dot(left, left)
    count = 0
    volume: torch.Tensor | float = 0.0
    while count < most and square > tolerance**2 * start:
        spread = C(direction)
        applied = [part + more for part, more in zip(direction, B(spread), strict=True)]
        step = square / _dot(direction, applied)
        volume = spread.mul_(step).add_(volume)  # C x grows with x: C is not applied to x at the end
        for k in range(len(x)):
            x[k] += step * direction[k]
            left[k] -= step * applied[k]
        before, square = square, _dot(left, left)
        direction = [part + square / before * old for part, old in zip(left, direction, strict=True)]
        count += 1
        stepped()
    return _Solved(x, volume, left, count, float(np.sqrt(square / start)) if start > 0 else 0.0)


def _dot(a: Sequence[torch.Tensor], b: Sequence[torch.Tensor]) -> float:
    return sum(float((first.double() * second.double()).sum()) for first, second in zip(a, b, strict=True))


def slice_weights(stack: Observation, predicted: torch.Tensor) -> torch.Tensor:
    """Return a weight from 0 to 1 for each slice of a stack: 1 unless the slice contradicts the prior.

    The root mean square r_i of slice i of b - A T v_prior grows with the noise and with the detail in the slice:
    r_i^2 = sigma^2 + (c d_i)^2, d_i being the root mean square of the difference of neighbouring pixels of A T v_prior,
    and c the same for all slices but the bad ones, hence the median. A slice that is `BAD_SLICE` times as far away as
    expected gets the weight (BAD_SLICE / ratio)^2 (Huber): motion, a spike or a loss of signal has spoilt it.

    Args:
        stack: slices (X, Y, N).
        predicted: A T v_prior, likewise.

    Returns:
        Shape (N,), on the device of the slices; 1 for slices that have no pixel with a weight.
    """
    used = (stack.weights > 0).expand(stack.slices.shape)
    count = used.sum(dim=(0, 1)).clamp(min=1)
    seen = used.any(dim=0).any(dim=0)
    residual = (stack.residual(predicted).square().sum(dim=(0, 1)) / count).sqrt()
    steps = [torch.diff(predicted, dim=axis).square().mean(dim=(0, 1)) for axis in (0, 1)]
    detail = ((steps[0] + steps[1]) / 2).sqrt().clamp(min=stack.sigma)
    excess = (residual.square() - stack.sigma**2).clamp(min=0).sqrt()
    share = (excess / detail)[seen].median() if bool(seen.any()) else 0.0
    expected = (stack.sigma**2 + (share * detail) ** 2).sqrt()
    ratio = torch.where(seen, residual / expected, 0.0)
    return (BAD_SLICE / ratio.clamp(min=BAD_SLICE)).square()
