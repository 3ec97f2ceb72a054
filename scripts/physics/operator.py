"""Linear operators along the through-plane axis, with their adjoints."""

import numpy as np
import torch


class LinearOperator:
    """A real matrix M (out_size x in_size) that acts along the last axis of any tensor.

    Profiles and interpolation along the through-plane axis do not depend on the in-plane position, so one small matrix
    serves a whole volume. It is kept in float64 and cast to the type and device of the tensor it is applied to.

    Args:
        matrix: shape (out_size, in_size).

    Raises:
        ValueError: if the matrix is not 2-D or holds values that are not finite.

    >>> M = LinearOperator(np.array([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]))
    >>> M
    <2 x 3> LinearOperator
    >>> M(torch.tensor([1.0, 3.0, 5.0]))
    tensor([2., 5.])
    >>> M.adjoint(torch.tensor([2.0, 5.0]))
    tensor([1., 1., 5.])
    """

    def __init__(self, matrix: np.ndarray) -> None:
        matrix = np.array(matrix, dtype=np.float64)
        if matrix.ndim != 2 or not np.isfinite(matrix).all():
            raise ValueError(f"matrix must be finite and 2-D, got shape {matrix.shape}")
        self.matrix = matrix
        self._tensors: dict[tuple[torch.dtype, torch.device], torch.Tensor] = {}

    @property
    def in_size(self) -> int:
        """Voxels along the last axis of the input."""
        return int(self.matrix.shape[1])

    @property
    def out_size(self) -> int:
        """Voxels along the last axis of the output."""
        return int(self.matrix.shape[0])

    def __repr__(self) -> str:
        return f"<{self.out_size} x {self.in_size}> {type(self).__name__}"

    def __matmul__(self, other: "LinearOperator") -> "LinearOperator":
        """Return the operator that applies `other` first, then this one."""
        if self.in_size != other.out_size:
            raise ValueError(f"cannot compose {self!r} after {other!r}: {self.in_size} != {other.out_size}")
        return LinearOperator(self.matrix @ other.matrix)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return M x along the last axis: (..., in_size) -> (..., out_size), same type and device."""
        self._check(x, self.in_size)
        with torch.autocast(x.device.type, enabled=False):  # half precision would spoil the data consistency
            return x @ self._tensor(x).T

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """Return M* y along the last axis: (..., out_size) -> (..., in_size), same type and device."""
        self._check(y, self.out_size)
        with torch.autocast(y.device.type, enabled=False):
            return y @ self._tensor(y)

    __call__ = forward

    def _check(self, x: torch.Tensor, size: int) -> None:
        if x.shape[-1] != size:
            raise ValueError(f"{self!r} needs {size} voxels along the last axis, got shape {tuple(x.shape)}")

    def _tensor(self, like: torch.Tensor) -> torch.Tensor:
        key = (like.dtype, like.device)
        if key not in self._tensors:
            self._tensors[key] = torch.as_tensor(self.matrix, dtype=like.dtype, device=like.device)
        return self._tensors[key]
