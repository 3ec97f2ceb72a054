"""Registration: known motions are found, on volumes of other orientations and intensities; failures are refused."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from scripts.geometry.errors import Refusal
from scripts.geometry.grid import Grid
from scripts.stacks.registration import Registration, register

SIZE = 56


def head(points: np.ndarray) -> np.ndarray:
    """A smooth object without any symmetry, at RAS mm (..., 3)."""
    random = np.random.default_rng(0)
    total = 80.0 / (1 + np.exp((np.linalg.norm(points / [26, 22, 24], axis=-1) - 1) * 20))
    for _ in range(40):
        centre, radius = random.uniform(-18, 18, 3), random.uniform(2, 6)
        total = total + random.uniform(-40, 40) * np.exp(-((points - centre) ** 2).sum(axis=-1) / (2 * radius**2))
    return total


def grid(shape: tuple[int, int, int], order: tuple = (0, 1, 2), spacing_mm: float = 1.0) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, list(order)] * spacing_mm
    affine[:3, 3] = -Grid(shape, affine).centre_mm
    return Grid(shape, affine)


def on(g: Grid, motion: np.ndarray | None = None) -> np.ndarray:
    """The object on a grid whose world is moved: motion maps RAS mm of the grid to those of the object."""
    points = g.world_mm(np.moveaxis(np.indices(g.shape), 0, -1))
    motion = np.eye(4) if motion is None else motion
    values = head(points @ motion[:3, :3].T + motion[:3, 3])
    noise = np.random.default_rng(1).standard_normal(g.shape)
    return (values + noise).astype(np.float32)


def rigid(angles_deg: tuple, shift_mm: tuple) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(angles_deg, degrees=True).as_matrix()
    matrix[:3, 3] = shift_mm
    return matrix


def errors(found: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Degrees, and mm at the centre."""
    apart = np.linalg.inv(found) @ true
    return (
        float(np.degrees(Rotation.from_matrix(apart[:3, :3]).magnitude())),
        float(np.linalg.norm(apart[:3, 3])),
    )


@pytest.mark.parametrize(
    ("angles", "shift"), [((0, 0, 0), (0, 0, 0)), ((1.2, -0.8, 1.0), (1.1, -0.7, 1.4)), ((0, 4, 0), (5, 0, -3))]
)
def test_a_known_motion_is_found(angles: tuple, shift: tuple):
    fixed_grid, moving_grid = grid((SIZE,) * 3), grid((52, 56, 48), (1, 2, 0))
    motion = rigid(angles, shift)  # of the fixed world -> the object, the moving grid sees it unmoved
    found = register(on(fixed_grid, motion), fixed_grid, 3 * on(moving_grid) + 50, moving_grid)
    angle_error, shift_error = errors(found.matrix, motion)
    assert angle_error < 0.2
    assert shift_error < 0.2
    assert found.correlation > 0.95
    assert found.correlation >= found.correlation_before - 0.01
    assert found.overlap > 0.9


def test_a_shift_is_found_where_the_contrast_inside_the_body_is_inverted():
    size, random, shift_voxels = 40, np.random.default_rng(0), (3.0, -2.0, 2.5)
    inside = np.linalg.norm((np.indices((size,) * 3) - 19.5) / np.array([16, 14, 15])[:, None, None, None], axis=0) < 1
    texture = ndimage.gaussian_filter(random.standard_normal((size,) * 3), 2.5)
    tissue = np.digitize(texture / texture.std(), [-0.7, 0.3])
    first, second = (np.where(inside, np.array(values)[tissue], 0.0) for values in ([300, 600, 900], [900, 600, 300]))
    second = ndimage.shift(second, shift_voxels, order=1)
    first, second = (ndimage.gaussian_filter(v, 0.7) + 10 * random.standard_normal(v.shape) for v in (first, second))
    g = grid((size,) * 3, spacing_mm=1.5)
    found = register(first, g, second, g)
    angle_error, shift_error = errors(found.matrix, rigid((0, 0, 0), tuple(1.5 * np.array(shift_voxels))))
    assert angle_error < 0.5
    assert shift_error < 0.5
    found.check(same_contrast=False)


def test_the_same_volumes_give_the_same_transform():
    g = grid((40, 44, 36))
    volumes = on(g, rigid((1, 0, 0), (0, 1, 0))), on(g)
    first, second = (register(volumes[0], g, volumes[1], g) for _ in range(2))
    assert np.array_equal(first.matrix, second.matrix)


def test_volumes_of_other_parts_of_the_body_are_refused():
    g = grid((40, 40, 40))
    affine = np.array(g.affine)
    affine[0, 3] += 38
    with pytest.raises(Refusal, match="5% of the field of view are shared"):
        register(on(g), g, on(g), Grid(g.shape, affine))


def test_volumes_that_are_unlike_each_other_are_refused():
    g = grid((40, 40, 40))
    other = ndimage.gaussian_filter(np.random.default_rng(5).standard_normal(g.shape), 2).astype(np.float32)
    with pytest.raises(Refusal, match="registration failed"):
        register(on(g), g, other, g).check()


def test_a_motion_that_no_session_has_is_refused():
    far = Registration(np.eye(4), 25.0, 1.0, 0.9, 0.5, 1.3, 1.0)
    with pytest.raises(Refusal, match=r"25\.0 degrees and 1\.0 mm of motion"):
        far.check()


def test_other_contrasts_are_judged_by_the_information_they_share():
    Registration(np.eye(4), 1.0, 1.0, -0.4, -0.3, 1.3, 1.0).check(same_contrast=False)
    unrelated = Registration(np.eye(4), 1.0, 1.0, 0.1, 0.1, 1.01, 1.0)
    with pytest.raises(Refusal, match=r"normalised mutual information afterwards is 1\.010"):
        unrelated.check(same_contrast=False)


def test_a_motion_is_found_where_the_body_fills_the_fields_of_view():
    near = grid((30, 30, 30)), grid((30, 30, 30), (1, 2, 0))  # a part of the head, bright up to every border
    true = rigid((1.2, -0.8, 1.0), (0.6, -0.5, 0.4))
    found = register(on(near[0]), near[0], on(near[1], np.linalg.inv(true)), near[1])
    assert found.correlation > found.correlation_before
    assert errors(found.matrix, true) < (0.3, 0.2)
    assert errors(found.matrix, true)[1] < 0.2
