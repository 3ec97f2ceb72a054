import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.geometry.errors import Refusal
from scripts.geometry.grid import Grid
from tests.strategies import grids


def grid(shape, spacing) -> Grid:
    return Grid(shape, np.diag([*spacing, 1.0]))


@pytest.mark.parametrize("count", [44, 45])
def test_isotropic_keeps_the_field_of_view_of_even_and_odd_counts(count):
    # by hand: count slices of 6 mm from -3 mm to 6 count - 3 mm; 1.3 mm voxels: round(6 count / 1.3), same middle
    thick = grid((256, 256, count), (1.3, 1.3, 6))
    thin = thick.isotropic()
    n = {44: 203, 45: 208}[count]
    assert thin.shape == (256, 256, n)
    assert thin.affine[2, 3] == pytest.approx((6 * count - 6) / 2 - (n - 1) / 2 * 1.3, abs=1e-9)


@given(grids(), st.floats(0.3, 3))
def test_resampled_keeps_centre_and_edges(thick, spacing):
    thin = thick.resampled(spacing)
    assert np.allclose(thin.spacing_mm, spacing)
    assert np.allclose(thin.centre_mm, thick.centre_mm, atol=1e-6)
    axes = thick.affine[:3, :3] / thick.spacing_mm
    assert np.allclose(thin.affine[:3, :3] / thin.spacing_mm, axes)
    grown = np.array(thick.shape) * thick.spacing_mm < spacing  # an extent of less than one voxel becomes one voxel
    for new, old in (((-0.5,) * 3, (-0.5,) * 3), (np.array(thin.shape) - 0.5, np.array(thick.shape) - 0.5)):
        moved = (thin.world_mm(new) - thick.world_mm(old)) @ axes  # of a corner of the field of view along each axis
        assert (np.abs(moved)[~grown] <= spacing / 2 + 1e-6).all()


def test_through_plane_axis_is_the_largest_spacing():
    assert grid((4, 4, 4), (1.2, 6, 1.3)).through_plane_axis() == 1
    assert grid((4, 4, 4), (1.2, 6, 1.3)).through_plane_axis(2) == 2


@pytest.mark.parametrize("setting", [3, -1, "axial", None, 1.5])
def test_a_setting_that_is_no_axis_is_refused(setting):
    with pytest.raises(Refusal, match="through_plane_axis must be auto, 0, 1 or 2"):
        grid((4, 4, 4), (1, 1, 5)).through_plane_axis(setting)


def test_two_candidates_of_equal_spacing_are_refused():
    with pytest.raises(Refusal, match=r"1 x 5 x 5 mm: give --through_plane_axis"):
        grid((4, 4, 4), (1, 5, 5)).through_plane_axis()


@pytest.mark.parametrize(
    ("affine", "words"),
    [
        (np.diag([1.0, 0, 1, 1]), "singular"),
        (np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "singular"),
        (np.array([[1, 0.3, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "not perpendicular"),
        (np.full((4, 4), np.nan), "finite"),
        (np.eye(3), "4 x 4"),
    ],
)
def test_an_unusable_affine_is_refused(affine, words):
    with pytest.raises(Refusal, match=words):
        Grid((4, 4, 4), affine)
