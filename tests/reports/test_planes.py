import numpy as np
import pytest

from scripts.geometry.views import VIEWS
from scripts.reports.planes import plane, robust_window
from scripts.reports.tiles import anatomical_axis

LIP = np.array([[-1.0, 0, 0, 10], [0, 0, -4.0, 20], [0, -2.0, 0, 30], [0, 0, 0, 1]])  # to left, foot and back


def marked(world_mm) -> tuple[np.ndarray, np.ndarray]:
    """A dark LIP volume with one bright voxel at a world position."""
    array = np.zeros((20, 30, 10), np.float32)
    index = np.linalg.inv(LIP) @ [*world_mm, 1]
    array[tuple(np.rint(index[:3]).astype(int))] = 1
    return array, LIP


def test_plane_shows_the_right_side_on_the_left_and_the_head_on_top():
    image, size = plane(marked((9, 0, 28)), "coronal", (0, 0, 0))  # right, high
    row, column = np.argwhere(image)[0]
    assert row < image.shape[0] / 2
    assert column < image.shape[1] / 2
    assert size == pytest.approx((2, 1))


def test_plane_shows_anterior_left_in_sagittal_and_on_top_in_axial():
    volume = marked((0, 16, 10))
    sagittal, size = plane(volume, "sagittal", (0, 0, 0))
    assert np.argwhere(sagittal)[0][1] < sagittal.shape[1] / 2
    assert size == pytest.approx((2, 4))
    axial, size = plane(volume, "axial", (0, 0, 10))
    assert np.argwhere(axial)[0][0] < axial.shape[0] / 2
    assert size == pytest.approx((4, 1))


def test_plane_goes_through_the_point():
    for view in VIEWS:
        image, _ = plane(marked((3, 4, 6)), view, (3, 4, 6))
        assert image.sum() == 1


def test_an_acquired_plane_is_named_as_it_is_cut():
    """Of an oblique scan two array axes may be nearest to one direction of the patient; each view cuts across one."""
    affine = np.eye(4)
    affine[:3, :3] = [[0.308, -0.626, 0.716], [-0.734, -0.636, -0.241], [0.606, -0.451, -0.655]]
    assert list(np.abs(affine[:3, :3]).argmax(axis=0)) == [1, 1, 0]
    assert [anatomical_axis(affine, axis) for axis in range(3)] == [1, 2, 0]
    for axis in range(3):
        slices = np.indices((4, 5, 6))[axis].astype(float)  # each plane across the axis has one value
        middle = (affine @ [2, 2, 3, 1])[:3]
        even = [view for view in VIEWS if np.ptp(plane((slices, affine), view, middle)[0]) == 0]
        assert [VIEWS[view].fixed for view in even] == [anatomical_axis(affine, axis)]


def test_robust_window_ignores_background_and_specks():
    values = np.concatenate([np.zeros(5000), np.random.default_rng(0).normal(500, 50, 5000), [1e5]])
    low, high = robust_window(values)
    assert 300 < low < 450
    assert 550 < high < 700
    assert robust_window(np.zeros(10)) == (0, 1)
