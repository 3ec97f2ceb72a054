"""The data-consistency projection `P`, onto the volumes whose re-acquisition gives the acquired slices."""

from functools import cached_property

import numpy as np
import torch

from .acquisition import Acquisition
from .operator import LinearOperator

REGULARISATION = 1e-5  # lambda over the largest eigenvalue of A S A*; residual far below 1e-3, noise gain bounded
SMOOTHNESS = 0.2  # slice spacings; steps at slice borders fall by a third, PSNR by 0.02 dB (docs/physics.md)


class DataConsistency:
    """`P(v) = v + S A* (A S A* + lambda I)^-1 (b - A v)`: closed form, differentiable, two small matrix products.

    S is the covariance of the errors of v along the through-plane axis, `S[i, j] = exp(-((i - j) / sigma)^2 / 2)`. The
    correction is the smallest one in the norm of S^-1, as in linear inversion with Gaussian errors (Tarantola 2005,
    Inverse Problem Theory, chapter 3). With S = I and a rect profile it is constant over each slice, with steps
    between slices.

    Args:
        acquisition: `A`.
        regularisation: lambda relative to the largest eigenvalue of A S A*. It matters where slices overlap, because
            an exact projection then amplifies noise.
        smoothness: sigma in slice spacings; 0 is S = I.

    Attributes:
        acquisition: `A`.
        correction: C = S A* (A S A* + lambda I)^-1, slices -> thin grid.

    Raises:
        ValueError: if regularisation or smoothness is negative.

    >>> from scripts.physics.acquisition import SliceGeometry
    >>> P = DataConsistency(Acquisition(SliceGeometry(6, 2, 3, 3)), regularisation=0, smoothness=0)
    >>> P(torch.tensor([0.0, 1.0, 2.0, 0.0, 1.0, 2.0]), slices=torch.tensor([1.0, 4.0]))
    tensor([0., 1., 2., 3., 4., 5.])
    """

    def __init__(
        self, acquisition: Acquisition, regularisation: float = REGULARISATION, smoothness: float = SMOOTHNESS
    ) -> None:
        if regularisation < 0:
            raise ValueError(f"regularisation must not be negative, got {regularisation}")
        if not smoothness >= 0:
            raise ValueError(f"smoothness must be 0 or more slice spacings, got {smoothness}")
        A = acquisition.matrix
        S = _covariance(A.shape[1], smoothness * acquisition.geometry.slice_spacing_voxels)
        gram = A @ S @ A.T
        damped = gram + regularisation * np.linalg.eigvalsh(gram)[-1] * np.eye(len(gram))
        self.acquisition = acquisition
        self.correction = LinearOperator(np.linalg.solve(damped, A @ S).T)

    @cached_property
    def projector(self) -> LinearOperator:
        """`C A`, thin grid -> thin grid: the part of a volume that the slices determine."""
        return self.correction @ self.acquisition

    def __call__(self, volume: torch.Tensor, slices: torch.Tensor) -> torch.Tensor:
        """Return P(volume), whose re-acquisition gives the slices.

        Args:
            volume: v, (..., thin_size).
            slices: b, (..., slice_count), same units.
        """
        return volume + self.correction(slices - self.acquisition(volume))

    def residual(self, volume: torch.Tensor, slices: torch.Tensor) -> float:
        """Return the relative residual ||A v - b|| / ||b||, dimensionless.

        Args:
            volume: v, (..., thin_size).
            slices: b, (..., slice_count), same units.
        """
        return float(torch.linalg.vector_norm(self.acquisition(volume) - slices) / torch.linalg.vector_norm(slices))


def _covariance(size: int, sigma_voxels: float) -> np.ndarray:
    if sigma_voxels == 0:
        return np.eye(size)
    lag = np.arange(size)[:, None] - np.arange(size)
    return np.exp(-0.5 * (lag / sigma_voxels) ** 2)
