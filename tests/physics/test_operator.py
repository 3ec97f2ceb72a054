"""Contract of every linear operator: linear, exact adjoint, right gradient, constants preserved."""

import importlib
import pkgutil

import numpy as np
import pytest
import torch
from hypothesis import given

import scripts.physics
from scripts.physics.acquisition import Acquisition, SliceGeometry
from scripts.physics.interpolation import CubicInterpolation, resampling, simple_interpolation
from scripts.physics.operator import LinearOperator
from scripts.physics.projection import DataConsistency
from tests.strategies import slice_geometries

RELATIVE = 1e-10


def subclasses(kind: type) -> set[type]:
    """All subclasses of a class, of any depth, that the modules of physics define."""
    for module in pkgutil.iter_modules(scripts.physics.__path__):
        importlib.import_module(f"scripts.physics.{module.name}")
    return {c for direct in kind.__subclasses__() for c in (direct, *subclasses(direct))}


def resampled(geometry: SliceGeometry, finer: bool) -> LinearOperator:
    sizes = (geometry.slice_count, geometry.slice_spacing_voxels, geometry.thin_size, 1.0)
    return resampling(*(sizes if finer else sizes[2:] + sizes[:2]))


PRESERVE_CONSTANTS = {
    **{kind.__name__: kind for kind in sorted(subclasses(LinearOperator), key=lambda kind: kind.__name__)},
    "nearest": lambda geometry: simple_interpolation(geometry, 0),
    "linear": lambda geometry: simple_interpolation(geometry, 1),
    "finer": lambda geometry: resampled(geometry, finer=True),
    "coarser": lambda geometry: resampled(geometry, finer=False),
    "composed": lambda geometry: Acquisition(geometry) @ CubicInterpolation(geometry),
}
OPERATORS = {
    **PRESERVE_CONSTANTS,
    "C": lambda geometry: DataConsistency(Acquisition(geometry)).correction,
    "C A": lambda geometry: DataConsistency(Acquisition(geometry)).projector,
}


def test_the_operators_are_found_by_reflection():
    assert subclasses(LinearOperator) == {Acquisition, CubicInterpolation}


def random_pair(M: LinearOperator) -> tuple[torch.Tensor, torch.Tensor]:
    """Two inputs u and two outputs v, float64."""
    random = torch.Generator().manual_seed(1)
    sizes = (M.in_size, M.out_size)
    u, v = (torch.randn(2, size, generator=random, dtype=torch.float64) for size in sizes)
    return u, v


@pytest.mark.parametrize("name", OPERATORS)
@given(geometry=slice_geometries())
def test_operator_is_linear(name, geometry):
    M = OPERATORS[name](geometry)
    u, _ = random_pair(M)
    difference = M(2 * u[0] - 3 * u[1]) - (2 * M(u[0]) - 3 * M(u[1]))
    assert difference.norm() <= RELATIVE * (M(u[0]).norm() + M(u[1]).norm())


@pytest.mark.parametrize("name", OPERATORS)
@given(geometry=slice_geometries())
def test_adjoint_satisfies_the_inner_product(name, geometry):
    M = OPERATORS[name](geometry)
    u, v = random_pair(M)
    assert abs((M(u) * v).sum() - (u * M.adjoint(v)).sum()) <= RELATIVE * M(u).norm() * v.norm()
    dense = M(torch.eye(M.in_size, dtype=torch.float64)).T
    assert torch.allclose(M.adjoint(torch.eye(M.out_size, dtype=torch.float64)), dense, rtol=RELATIVE, atol=0)


@pytest.mark.parametrize("name", OPERATORS)
@given(geometry=slice_geometries())
def test_adjoint_is_the_gradient_of_autograd(name, geometry):
    M = OPERATORS[name](geometry)
    u, v = random_pair(M)
    u.requires_grad_(True)
    (gradient,) = torch.autograd.grad((M(u) * v).sum(), u)
    assert (gradient - M.adjoint(v)).norm() <= RELATIVE * gradient.norm()


@pytest.mark.parametrize("name", PRESERVE_CONSTANTS)
@given(geometry=slice_geometries())
def test_constants_are_preserved(name, geometry):
    M = PRESERVE_CONSTANTS[name](geometry)
    seven = torch.full((2, M.in_size), 7.0, dtype=torch.float64)
    assert (M(seven) - 7).abs().max() <= 7 * RELATIVE


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_type_and_shape_of_the_input_are_kept(dtype):
    A = Acquisition(SliceGeometry(12, 3, 4, 4))
    slices = A(torch.rand(2, 5, 12, dtype=dtype))
    assert (slices.shape, slices.dtype) == ((2, 5, 3), dtype)
    assert A.adjoint(slices).shape == (2, 5, 12)


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
