"""The data-consistency projection `P`: the re-acquired result gives the acquired slices, to within their noise."""

from functools import cached_property
from typing import Self

import numpy as np
import torch

from .acquisition import Acquisition
from .operator import LinearOperator

REGULARISATION = 1e-5  # lambda over the largest eigenvalue of A S A*; residual far below 1e-3, noise gain bounded
EXPECTED_ERROR = 0.09  # of a prediction, root mean square, intensity scale: from held-back people (docs/noise.md)
SMOOTHNESS = 0.2  # slice spacings; steps at slice borders fall by a third, PSNR by 0.02 dB (docs/physics.md)


class DataConsistency:
    """`P(v) = v + S A* (A S A* + lambda I)^-1 (b - A v)`: closed form, differentiable, two small matrix products.

    S is the covariance of the errors of v along the through-plane axis, `S[i, j] = exp(-((i - j) / sigma)^2 / 2)`. The
    correction is the smallest one in the norm of S^-1, as in linear inversion with Gaussian errors (Tarantola 2005,
    Inverse Problem Theory, chapter 3). With S = I and a rect profile it is constant over each slice, with steps
    between slices.

    Args:
        acquisition: `A`.
        regularisation: lambda relative to the largest eigenvalue of A S A*. The smallest values are an exact
            projection, which passes all noise of the slices on and amplifies it where they overlap; `for_noise` takes
            it from the noise.
        smoothness: sigma in slice spacings; 0 is S = I.
        noise_over_error: standard deviation of the slices over that of the prediction; lambda is at least its square.

    Attributes:
        acquisition: `A`.
        regularisation: lambda relative to the largest eigenvalue of A S A*.
        correction: C = S A* (A S A* + lambda I)^-1, slices -> thin grid.

    Raises:
        ValueError: if regularisation or smoothness is negative.

    >>> from scripts.physics.acquisition import SliceGeometry
    >>> P = DataConsistency(Acquisition(SliceGeometry(6, 2, 3, 3)), regularisation=0, smoothness=0)
    >>> P(torch.tensor([0.0, 1.0, 2.0, 0.0, 1.0, 2.0]), slices=torch.tensor([1.0, 4.0]))
    tensor([0., 1., 2., 3., 4., 5.])
    """

    def __init__(
        self,
        acquisition: Acquisition,
        regularisation: float = REGULARISATION,
        smoothness: float = SMOOTHNESS,
        noise_over_error: float = 0.0,
    ) -> None:
        if regularisation < 0:
            raise ValueError(f"regularisation must not be negative, got {regularisation}")
        AS, gram = _covariances(acquisition, smoothness)
        largest = np.linalg.eigvalsh(gram)[-1]
        regularisation = max(regularisation, noise_over_error**2 / largest)
        damped = gram + regularisation * largest * np.eye(len(gram))
        self.acquisition, self.regularisation = acquisition, float(regularisation)
        self.correction = LinearOperator(np.linalg.solve(damped, AS).T)

    @classmethod
    def for_noise(
        cls, acquisition: Acquisition, noise: float, error: float = EXPECTED_ERROR, smoothness: float = SMOOTHNESS
    ) -> Self:
        """Return the noise-weighted P, of which lambda is the variance of the noise over that of the prediction.

        With noise of covariance noise^2 I on the slices and errors of covariance error^2 S in the prediction, P(v) is
        then the mean of the volumes given both, their best linear estimate (Tarantola 2005, chapter 3). Without noise
        it is the exact projection: lambda stays at least `REGULARISATION`.

        Args:
            acquisition: `A`.
            noise: standard deviation on the slices.
            error: expected standard deviation of the prediction from the true volume, same units.
            smoothness: as above.

        Raises:
            ValueError: if the noise is negative or the error is not positive.

        >>> from scripts.physics.acquisition import SliceGeometry
        >>> A = Acquisition(SliceGeometry(6, 2, 3, 3))  # A A* is I / 3
        >>> P = DataConsistency.for_noise(A, noise=1, error=3**0.5, smoothness=0)
        >>> P(torch.zeros(6), slices=torch.tensor([2.0, 4.0]))  # noise and error weigh the same in a slice
        tensor([1., 1., 1., 2., 2., 2.])
        """
        if not (noise >= 0 and error > 0):
            raise ValueError(f"noise must be 0 or more and the error positive, got {noise} and {error}")
        return cls(acquisition, REGULARISATION, smoothness, noise / error)

    @cached_property
    def projector(self) -> LinearOperator:
        """`C A`, thin grid -> thin grid: the part of a volume that the slices determine."""
        return self.correction @ self.acquisition

    def __call__(self, volume: torch.Tensor, slices: torch.Tensor) -> torch.Tensor:
        """Return P(volume), whose re-acquisition gives the slices, as exactly as the regularisation asks for.

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


def expected_error(
    acquisition: Acquisition, residual: torch.Tensor, noise: float, smoothness: float = SMOOTHNESS
) -> float:
    """Return the expected error of a prediction: `EXPECTED_ERROR`, or more where its own slices show more.

    Slices differ from those of a prediction by noise and by its error, so that their mean square difference is
    noise^2 + error^2 mean(diag(A S A*)). The prediction was made from the same noise, which makes the difference
    smaller; therefore it can only raise the error that was measured on held-back people.

    Args:
        acquisition: `A`.
        residual: b - A v, any shape, intensity scale.
        noise: standard deviation on the slices, intensity scale.
        smoothness: as for `DataConsistency`.

    >>> from scripts.physics.acquisition import SliceGeometry
    >>> A = Acquisition(SliceGeometry(6, 2, 3, 3))
    >>> round(expected_error(A, torch.full((2,), 0.5), noise=0.3, smoothness=0), 3)  # sqrt(3 (0.25 - 0.09))
    0.693
    """
    passed = float(np.diag(_covariances(acquisition, smoothness)[1]).mean())
    excess = float(residual.square().mean()) - noise**2
    return max(EXPECTED_ERROR, (max(excess, 0.0) / passed) ** 0.5)


def _covariances(acquisition: Acquisition, smoothness: float) -> tuple[np.ndarray, np.ndarray]:
    """A S and A S A*."""
    if not smoothness >= 0:
        raise ValueError(f"smoothness must be 0 or more slice spacings, got {smoothness}")
    A = acquisition.matrix
    AS = A @ covariance(A.shape[1], smoothness * acquisition.geometry.slice_spacing_voxels)
    return AS, AS @ A.T


def covariance(size: int, sigma_voxels: float) -> np.ndarray:
    """Return the covariance of errors along an axis of `size` voxels: a Gaussian of the distance, 1 on the diagonal."""
    if sigma_voxels == 0:
        return np.eye(size)
    lag = np.arange(size)[:, None] - np.arange(size)
    return np.exp(-0.5 * (lag / sigma_voxels) ** 2)
