"""`P`: the projection of a volume onto all volumes that explain the acquired slices."""

import numpy as np
import torch

from .acquisition import Acquisition
from .operator import LinearOperator

REGULARISATION = 1e-5  # lambda over the largest eigenvalue of A A*; residual far below 1e-3, noise gain bounded


class DataConsistency:
    """`P(v) = v + A* (A A* + lambda I)^-1 (b - A v)`: closed form, differentiable, two small matrix products.

    Args:
        acquisition: `A`.
        regularisation: lambda relative to the largest eigenvalue of A A*; matters where slices overlap, since an
            exact projection then amplifies noise.
    """

    def __init__(self, acquisition: Acquisition, regularisation: float = REGULARISATION):
        if regularisation < 0:
            raise ValueError(f"regularisation must not be negative, got {regularisation}")
        A = acquisition.matrix
        gram = A @ A.T
        damped = gram + regularisation * np.linalg.eigvalsh(gram)[-1] * np.eye(len(gram))
        self.acquisition = acquisition
        self.correction = LinearOperator(np.linalg.solve(damped, A).T)  # A* (A A* + lambda I)^-1

    def __call__(self, volume: torch.Tensor, slices: torch.Tensor) -> torch.Tensor:
        """The volume (..., thin_size), corrected so that re-acquiring it gives the slices (..., slice_count)."""
        return volume + self.correction(slices - self.acquisition(volume))

    def residual(self, volume: torch.Tensor, slices: torch.Tensor) -> float:
        """Relative residual ||A v - b|| / ||b||, dimensionless."""
        return float(torch.linalg.vector_norm(self.acquisition(volume) - slices) / torch.linalg.vector_norm(slices))
