import inspect

import numpy as np
import pytest
import torch
from hypothesis import given

import scripts.physics.acquisition
import scripts.physics.interpolation
from scripts.physics.acquisition import Acquisition
from scripts.physics.interpolation import CubicInterpolation
from scripts.physics.operator import LinearOperator
from tests.strategies import slice_geometries

MODULES = (scripts.physics.acquisition, scripts.physics.interpolation)
OPERATORS = sorted(
    {c for m in MODULES for _, c in inspect.getmembers(m, inspect.isclass) if issubclass(c, LinearOperator)}
    - {LinearOperator},
    key=lambda c: c.__name__,
)


def test_every_operator_of_physics_is_found():
    assert [Acquisition, CubicInterpolation] == OPERATORS


@pytest.mark.parametrize("kind", OPERATORS)
@given(geometry=slice_geometries())
def test_adjoint_is_the_transpose(kind, geometry):
    M = kind(geometry)
    random = torch.Generator().manual_seed(1)
    u = torch.randn(2, M.in_size, generator=random, dtype=torch.float64)
    v = torch.randn(2, M.out_size, generator=random, dtype=torch.float64)
    forward, adjoint = (M(u) * v).sum(), (u * M.adjoint(v)).sum()
    assert abs(forward - adjoint) <= 1e-10 * M(u).norm() * v.norm()
    dense = M(torch.eye(M.in_size, dtype=torch.float64)).T
    assert torch.allclose(M.adjoint(torch.eye(M.out_size, dtype=torch.float64)), dense)
    assert torch.allclose(M(2 * u[:1] - u[1:]), 2 * M(u[:1]) - M(u[1:]))
    u.requires_grad_(True)
    (gradient,) = torch.autograd.grad((M(u) * v).sum(), u)
    assert torch.allclose(gradient, M.adjoint(v))


@given(slice_geometries())
def test_composition_applies_the_right_one_first(geometry):
    A, U = Acquisition(geometry), CubicInterpolation(geometry)
    b = torch.randn(3, geometry.slice_count, dtype=torch.float64)
    assert torch.allclose((A @ U)(b), A(U(b)))


def test_wrong_sizes_are_named():
    M = LinearOperator(np.ones((2, 3)))
    with pytest.raises(
        ValueError, match=r"<2 x 3> LinearOperator needs 3 voxels along the last axis, got shape \(4, 5\)"
    ):
        M(torch.zeros(4, 5))
    with pytest.raises(ValueError, match="cannot compose"):
        _ = M @ M
