"""Simulated acquisitions: true to their definition, in place, and described as they should be in the sidecar."""

import numpy as np
import pytest
from scipy import ndimage

from scripts.evaluation.simulation import SimulatedProtocol, cubes, random_motion, simulate, simulate_others
from scripts.geometry.errors import Refusal
from scripts.geometry.grid import Grid

AFFINE = np.array([[0, 0, -1.1, 40], [1.0, 0, 0, -3], [0, 1.05, 0, 7], [0, 0, 0, 1]])


def truth(shape=(6, 7, 26)):
    return np.random.default_rng(0).uniform(0, 100, shape).astype(np.float32)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rect_slices_are_means_of_whole_slabs(axis):
    shape = [6, 7, 8]
    shape[axis] = 26
    v = truth(shape)
    (thick, _), (kept, _) = simulate(v, Grid(v.shape, np.eye(4)), axis, SimulatedProtocol(4, "rect"), "a")
    lines = np.moveaxis(v, axis, -1)[..., :24]
    np.testing.assert_allclose(np.moveaxis(thick, axis, -1), lines.reshape(*lines.shape[:2], 6, 4).mean(-1), rtol=1e-5)
    np.testing.assert_array_equal(np.moveaxis(kept, axis, -1), lines)


@pytest.mark.parametrize("factor", [3, 4, 2.6])
def test_the_isotropic_grid_of_the_thick_scan_is_the_truths(factor):
    v = truth()
    (thick, wide), (kept, fine) = simulate(v, Grid(v.shape, AFFINE), 2, SimulatedProtocol(factor, "gauss"), "a")
    made = wide.isotropic(through_plane_axis=2)
    assert thick.shape == wide.shape
    assert made.shape == fine.shape == kept.shape
    np.testing.assert_allclose(made.affine, fine.affine, atol=1e-9)


def test_a_bright_plane_keeps_its_world_position():
    v = np.zeros((5, 5, 40), np.float32)
    v[..., 21] = 1
    (thick, grid), (_, fine) = simulate(v, Grid(v.shape, AFFINE), 2, SimulatedProtocol(4, "gauss"), "a")
    line = thick[2, 2]
    centre = grid.world_mm([2, 2, (line * np.arange(len(line))).sum() / line.sum()])
    np.testing.assert_allclose(centre, fine.world_mm([2, 2, 21]), atol=0.2)


def test_cubes_keep_centre_and_voxels():
    grid = Grid((10, 12, 14), AFFINE)
    made = cubes(grid)
    np.testing.assert_allclose(made.spacing_mm, (1.0 * 1.05 * 1.1) ** (1 / 3))
    np.testing.assert_allclose(made.centre_mm, grid.centre_mm)


def test_noise_is_rician_of_the_asked_size_and_the_same_each_time():
    v = np.full((40, 40, 40), 50, np.float32)
    v[:20] = 150  # the percentiles that make the scale are 50 and 150
    plain, noisy, again = (
        simulate(v, Grid(v.shape, np.eye(4)), 2, SimulatedProtocol(4, "rect", noise=n), "a")[0][0]
        for n in (0, 0.03, 0.03)
    )
    assert (noisy - plain).std() == pytest.approx(3.0, rel=0.05)
    np.testing.assert_array_equal(noisy, again)


def test_the_sidecar_states_thickness_and_the_assumed_profile():
    protocol = SimulatedProtocol(4, "gauss", thickness_over_spacing=0.8, assumed_profile="fourier")
    stated = protocol.sidecar(4.0)
    assert stated["SliceThickness"] == pytest.approx(3.2)
    assert stated["MRAcquisitionType"] == "3D"
    assert "MRAcquisitionType" not in SimulatedProtocol(4, "rect").sidecar(4.0)
    assert protocol.label == "4x_gauss_thickness0.8_as-fourier"


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"factor": 4}, "lacks"),
        ({"factor": 4, "profile": "rect", "gap": 1}, "gap"),
        ({"factor": 1, "profile": "rect"}, "factor must be above 1"),
        ({"factor": "4", "profile": "rect"}, "factor must be above 1"),
        ({"factor": 4, "profile": "box"}, "profile must be one of"),
        ({"factor": 4, "profile": "rect", "noise": -1}, "noise"),
        ({"factor": 4, "profile": "rect", "thickness_over_spacing": 0}, "thickness_over_spacing"),
        ("4x", "mapping"),
    ],
)
def test_a_wrong_protocol_is_refused(settings, line):
    with pytest.raises(Refusal, match=line):
        SimulatedProtocol.of(settings)


def test_a_scan_with_too_few_slices_or_nan_is_refused():
    v = truth()
    with pytest.raises(Refusal, match="4 slices of 6 voxels"):
        simulate(v, Grid(v.shape, np.eye(4)), 2, SimulatedProtocol(6, "rect"), "a")
    v[0, 0, 0] = np.nan
    with pytest.raises(Refusal, match="NaN"):
        simulate(v, Grid(v.shape, np.eye(4)), 2, SimulatedProtocol(4, "rect"), "a")


THREE = {"factor": 4, "profile": "rect", "stacks": [2, 1, 0]}


def test_stacks_without_motion_are_means_of_slabs_along_their_own_axes():
    v = ndimage.gaussian_filter(truth((32, 36, 30)), 1.5)
    made = simulate_others(v, Grid(v.shape, np.eye(4)), SimulatedProtocol.of({**THREE, "factors": [4, 3, 2]}), "a")
    inner = (slice(3, -3),) * 3  # at the border the spline does not go through the values
    np.testing.assert_allclose(made[0][0][inner], v.reshape(32, 12, 3, 30).mean(2)[inner], atol=0.1)
    np.testing.assert_allclose(made[1][0][inner], v.reshape(16, 2, 36, 30).mean(1)[inner], atol=0.1)
    np.testing.assert_allclose(made[0][1].affine, [[1, 0, 0, 0], [0, 3, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1]])


def test_the_others_are_moved_and_have_noise_of_their_own_and_are_the_same_each_time():
    v = np.zeros((32, 32, 32), np.float32)
    v[10:20, 12:22, 9:24] = 100
    grid = Grid(v.shape, np.diag([2.0, 2, 2, 1]))
    moved = SimulatedProtocol.of({**THREE, "noise": 0.02, "motion": [0, 6]})
    first, again = (simulate_others(v, grid, moved, "a") for _ in range(2))
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(first, again, strict=True))
    for stack, place in first:
        bright = np.argwhere(stack > 50).mean(axis=0)
        shift = place.world_mm(bright) - grid.world_mm([14.5, 16.5, 16])
        assert 0.3 * 6 - 1 < np.linalg.norm(shift) < 6 + 1
    still = simulate_others(v, grid, SimulatedProtocol.of({**THREE, "noise": 0.02}), "a")
    assert np.std([stack[0, 0, 0] for stack, _ in still]) > 0


def test_a_drawn_motion_is_of_the_asked_size():
    for seed in range(20):
        motion = random_motion(np.random.default_rng(seed), 2.0, 3.0)
        angle = np.degrees(np.arccos((np.trace(motion[:3, :3]) - 1) / 2))
        assert 0.6 - 1e-6 <= angle <= 2.0 + 1e-6
        assert 0.9 - 1e-6 <= np.linalg.norm(motion[:3, 3]) <= 3.0 + 1e-6


def test_the_motion_turns_about_the_centre_of_the_scan_wherever_it_lies():
    v = ndimage.gaussian_filter(truth((32, 36, 30)), 1.5)
    far = np.eye(4)
    far[:3, 3] = -100, -100, -300
    protocol = SimulatedProtocol.of({**THREE, "motion": [3, 2]})
    here, there = (simulate_others(v, Grid(v.shape, affine), protocol, "a") for affine in (np.eye(4), far))
    for (first, place), (second, moved) in zip(here, there, strict=True):
        np.testing.assert_allclose(second, first, atol=0.01)
        np.testing.assert_allclose(moved.affine[:3, 3] - place.affine[:3, 3], far[:3, 3])
    centre = Grid(v.shape, far).centre_mm
    for seed in range(20):
        motion = random_motion(np.random.default_rng(seed), 3.0, 2.0, centre)
        assert 0.6 - 1e-6 <= np.linalg.norm(motion[:3] @ [*centre, 1] - centre) <= 2.0 + 1e-6


def test_the_label_names_stacks_factors_and_motion():
    protocol = SimulatedProtocol.of({**THREE, "factors": [4, 4, 6], "motion": [2, 1.5]})
    assert protocol.label == "4x_rect_stacks2-1-0_factors4-4-6_moved2deg1.5mm"


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"stacks": [2]}, "stacks must be two or more of the axes 0, 1 and 2"),
        ({"stacks": [2, 3]}, "stacks must be two or more of the axes 0, 1 and 2"),
        ({"factors": [4, 4]}, "factors must be one for each of the stacks"),
        ({"factors": [3, 4, 4]}, "factors must be one for each of the stacks"),
        ({"factors": [4, 0.5, 4]}, "factor must be above 1"),
        ({"motion": [-1, 0]}, "motion must not be negative"),
        ({"motion": 2}, "motion must be two numbers"),
        ({"motion": [2, 3], "stacks": None}, "motion is that between the stacks of a study: give stacks too"),
    ],
)
def test_stacks_that_make_no_sense_are_refused(settings, line):
    with pytest.raises(Refusal, match=line):
        SimulatedProtocol.of({**THREE, **settings})
