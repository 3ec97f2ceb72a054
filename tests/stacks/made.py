"""Stacks of one smooth object, made without a network, for the tests of fusion and of its workflow."""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as nnf
from scipy import ndimage

from scripts.data.acceptance import ScanProtocol
from scripts.data.case import Case
from scripts.geometry.grid import Grid
from scripts.geometry.orientation import Reorientation
from scripts.physics.acquisition import Acquisition, SliceGeometry
from scripts.physics.interpolation import CubicInterpolation
from scripts.physics.projection import DataConsistency
from scripts.physics.rigid import RigidResampling
from scripts.stacks.stack import Stack

SIZE, FACTOR, NOISE = 40, 4, 1.0
ORIENTATIONS = {"tra": (0, 1, 2), "cor": (0, 2, 1), "sag": (1, 2, 0)}  # world axes of the array axes, slices last


def truth_grid(size: int = SIZE) -> Grid:
    affine = np.eye(4)
    affine[:3, 3] = -(size - 1) / 2
    return Grid((size, size, size), affine)


def body(size: int = SIZE) -> torch.Tensor:
    """A textured ellipsoid, values about 100."""
    random = np.random.default_rng(0)
    index = np.indices((size,) * 3) - (size - 1) / 2
    inside = 1 / (
        1 + np.exp((np.linalg.norm(index / (size * np.array([0.42, 0.36, 0.4]))[:, None, None, None], axis=0) - 1) * 25)
    )
    texture = sum(
        weight * ndimage.gaussian_filter(random.standard_normal((size,) * 3), sigma) * sigma**1.5
        for sigma, weight in ((1.0, 25.0), (2.5, 30.0))
    )
    return torch.from_numpy((inside * (100 + 6 * texture)).clip(0)).float()


def stack(
    name: str,
    motion: np.ndarray | None = None,
    gain: float = 1.0,
    noise: float = NOISE,
    truth: torch.Tensor | None = None,
    pixel: int = 1,
) -> Stack:
    """A stack of the body, with a volume half way from cubic interpolation to the truth in the place of GLADE's.

    Args:
        name: of `ORIENTATIONS`, with more letters behind it where there are several.
        motion: 4 x 4, RAS mm of the body -> RAS mm of the stack.
        gain: factor on its intensities.
        noise: standard deviation before the gain.
        truth: what is scanned.
        pixel: size of a pixel, voxels of the truth; it has measured the mean over them.
    """
    truth = body() if truth is None else truth
    source = truth_grid(len(truth))
    affine = source.affine[:, [*ORIENTATIONS[name[:3]], 3]].copy()
    fine = Grid(source.shape, affine)
    there = RigidResampling(source, fine, None if motion is None else np.linalg.inv(motion))(truth)
    there, grid = nnf.avg_pool3d(there[None, None], pixel)[0, 0], fine.resampled(pixel)
    factor = FACTOR // pixel
    geometry = SliceGeometry(grid.shape[2], grid.shape[2] // factor, factor, factor)
    A = Acquisition(geometry)
    slices = A(there)
    seed = torch.Generator().manual_seed(sum(map(ord, name)))
    slices = gain * (slices + noise * torch.randn(slices.shape, generator=seed))
    cubic = DataConsistency(A)(CubicInterpolation(geometry)(slices), slices)
    protocol = ScanProtocol(2, FACTOR, FACTOR, "rect", "test", "test", "test")
    meta = {
        "protocol": protocol,
        "reorientation": Reorientation((0, 1, 2), (False, False, False)),
        "spatial_shape": slices.shape,
        "original_affine": affine,
    }
    return Stack(
        case=Case(name, ()),
        slices=slices,
        geometry=geometry,
        grid=grid,
        volume=(cubic + gain * there) / 2,
        interpolated=cubic,
        uncertainty=torch.full(grid.shape, 6.0),
        noise=gain * noise,
        intensity_range=gain * 120.0,
        protocol=protocol,
        warnings=(),
        meta=meta,
    )


def near_isotropic(name: str = "iso", noise: float = NOISE) -> Stack:
    """The body itself, scanned without thick slices."""
    seed = torch.Generator().manual_seed(5)
    values = body() + noise * torch.randn((SIZE,) * 3, generator=seed)
    made = stack("tra")
    return replace(
        made,
        case=Case(name, ()),
        slices=values,
        geometry=SliceGeometry(SIZE, SIZE, 1, 1),
        volume=values,
        interpolated=values,
        noise=noise,
        protocol=None,
    )
