"""Phantom arrays, affines and DICOM series for the tests of `scripts.dicom`."""

from pathlib import Path

import numpy as np
import pytest

from scripts.dicom.synthetic_series import write_series

DICOM = Path(__file__).resolve().parents[3] / "shared" / "data" / "dicom"


def rotation(angles_deg: tuple[float, float, float]) -> np.ndarray:
    """Return the matrix of a rotation about x, then y, then z."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians(angles_deg)):
        cosine, sine = np.cos(angle), np.sin(angle)
        step = np.eye(3)
        i, j = [k for k in range(3) if k != axis]
        step[i, i] = step[j, j] = cosine
        step[i, j], step[j, i] = -sine, sine
        matrix = step @ matrix
    return matrix


def make_affine(columns: list[list[float]], spacing_mm: list[float], origin_mm: list[float]) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.array(columns, dtype=float).T * spacing_mm
    affine[:3, 3] = origin_mm
    return affine


OBLIQUE = rotation((20, -13, 7))
# RAS directions of a row, a column and from slice to slice.
AFFINES = {
    "axial": make_affine([[-1, 0, 0], [0, -1, 0], [0, 0, 1]], [0.9, 0.9, 5.0], [90, 80, -30]),
    "axial from head to foot": make_affine([[-1, 0, 0], [0, -1, 0], [0, 0, -1]], [0.9, 0.9, 5.0], [90, 80, 30]),
    "sagittal": make_affine([[0, -1, 0], [0, 0, -1], [1, 0, 0]], [0.8, 0.8, 4.4], [-20, 70, 90]),
    "sagittal from right to left": make_affine([[0, -1, 0], [0, 0, -1], [-1, 0, 0]], [0.8, 0.8, 4.4], [20, 70, 90]),
    "coronal": make_affine([[-1, 0, 0], [0, 0, -1], [0, -1, 0]], [1.1, 1.1, 6.0], [60, 30, 50]),
    "non-square pixels": make_affine([[-1, 0, 0], [0, 0, -1], [0, -1, 0]], [1.3, 0.7, 6.0], [60, 30, 50]),
    "oblique": make_affine((OBLIQUE @ np.diag([-1, -1, 1])).T, [0.7, 0.7, 3.6], [51.3, 47.1, -12.9]),
    "oblique, non-square, reversed": make_affine(
        (OBLIQUE @ np.array([[0, 0, -1], [-1, 0, 0], [0, -1, 0]])).T, [1.2, 0.8, 3.3], [15.3, 67.1, 52.9]
    ),
}
SHAPE = (36, 34, 7)


def phantom(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    """Return random integers from 0 to 1000."""
    return np.random.default_rng(seed).integers(0, 1001, shape)


def same_place(array: np.ndarray, affine: np.ndarray, other: np.ndarray, other_affine: np.ndarray) -> float:
    """Return the largest voxel difference of two volumes whose grids have the same points, in any order of axes."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in array.shape), indexing="ij"), -1).reshape(-1, 3)
    world = index @ affine[:3, :3].T + affine[:3, 3]
    there = (world - other_affine[:3, 3]) @ np.linalg.inv(other_affine[:3, :3]).T
    nearest = np.rint(there).astype(int)
    assert np.abs(there - nearest).max() < 1e-2
    assert (nearest >= 0).all()
    assert (nearest < other.shape).all()
    return float(np.abs(array.reshape(-1).astype(float) - other[tuple(nearest.T)]).max())


@pytest.fixture(params=AFFINES, ids=list(AFFINES))
def affine(request):
    return AFFINES[request.param].copy()


@pytest.fixture
def series(tmp_path):
    """Write an ordinary oblique series and return its files."""
    return write_series(tmp_path / "series", phantom(), AFFINES["oblique"], slice_thickness_mm=3.0)
