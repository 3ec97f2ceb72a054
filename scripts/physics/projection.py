"""`P`: the projection of a volume onto all volumes that explain the acquired slices."""

import numpy as np
import torch

from .acquisition import Acquisition
from .operator import LinearOperator

REGULARISATION = 1e-5  # lambda over the largest eigenvalue of A S A*; residual far below 1e-3, noise gain bounded
SMOOTHNESS = 0.2  # slice spacings; steps at slice borders fall by a third, PSNR by 0.02 dB (docs/physics.md)


class DataConsistency:
    """`P(v) = v + S A* (A S A* + lambda I)^-1 (b - A v)`: closed form, differentiable, two small matrix products.

    S is how errors of v belong together along the through-plane axis, `S[i, j] = exp(-((i - j) / sigma)^2 / 2)`: the
    correction is the least one in the norm of S^-1, as in linear inversion with Gaussian errors (Tarantola 2005,
    Inverse Problem Theory, chapter 3). With S = I it is constant over each slice, with steps between slices.

    Args:
        acquisition: `A`.
        regularisation: lambda relative to the largest eigenvalue of A S A*; matters where slices overlap, since an
            exact projection then amplifies noise.
        smoothness: sigma in slice spacings; 0 is S = I.
    """

    def __init__(
        self, acquisition: Acquisition, regularisation: float = REGULARISATION, smoothness: float = SMOOTHNESS
    ):
        if regularisation < 0:
            raise ValueError(f"regularisation must not be negative, got {regularisation}")
        if not smoothness >= 0:
            raise ValueError(f"smoothness must be 0 or more slice spacings, got {smoothness}")
        A = acquisition.matrix
        S = _covariance(A.shape[1], smoothness * acquisition.geometry.slice_spacing_voxels)
        gram = A @ S @ A.T
        damped = gram + regularisation * np.linalg.eigvalsh(gram)[-1] * np.eye(len(gram))
        self.acquisition = acquisition
        self.correction = LinearOperator(np.linalg.solve(damped, A @ S).T)  # S A* (A S A* + lambda I)^-1

    def __call__(self, volume: torch.Tensor, slices: torch.Tensor) -> torch.Tensor:
        """The volume (..., thin_size), corrected so that re-acquiring it gives the slices (..., slice_count)."""
        return volume + self.correction(slices - self.acquisition(volume))

    def residual(self, volume: torch.Tensor, slices: torch.Tensor) -> float:
        """Relative residual ||A v - b|| / ||b||, dimensionless."""
        return float(torch.linalg.vector_norm(self.acquisition(volume) - slices) / torch.linalg.vector_norm(slices))


def _covariance(size: int, sigma_voxels: float) -> np.ndarray:
    if sigma_voxels == 0:
        return np.eye(size)
    apart = np.arange(size)[:, None] - np.arange(size)
    return np.exp(-0.5 * (apart / sigma_voxels) ** 2)
