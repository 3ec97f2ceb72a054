"""Fusion of made stacks: truer than each stack alone, motion and gain undone, and what is left out or refused."""

import logging
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from scripts.data.acceptance import THICKNESS_UNKNOWN
from scripts.geometry.errors import Refusal
from scripts.stacks.fusion import Fused, Fusion

from .made import NOISE, SIZE, body, near_isotropic, stack

INNER = (slice(4, -4),) * 3
TRUTH = body()


def moved(angles_deg=(1.0, -0.8, 1.2), shift_mm=(0.8, -0.5, 1.1)) -> np.ndarray:
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_rotvec(angles_deg, degrees=True).as_matrix()
    motion[:3, 3] = shift_mm
    return motion


def error(volume: torch.Tensor) -> float:
    return float((volume - TRUTH)[INNER].square().mean().sqrt())


@pytest.fixture(scope="module")
def three() -> Fused:
    return Fusion(registration=False)([stack("tra"), stack("cor", gain=1.3), stack("sag", gain=0.8)])


def test_three_stacks_are_truer_than_the_best_of_them_and_more_than_two(three: Fused):
    alone = error(Fusion(registration=False)([stack("tra")]).volume)
    two = error(Fusion(registration=False)([stack("tra"), stack("cor")]).volume)
    assert error(three.volume) < 0.8 * two < 0.8 * 0.9 * alone


def test_gains_are_found(three: Fused):
    gains = [part.match.gain for part in three.stacks[1:]]
    assert gains == pytest.approx([1 / 1.3, 1 / 0.8], rel=0.01)
    assert three.stacks[0].match is None


def test_a_moved_stack_is_registered_and_helps_as_one_that_was_not_moved():
    motion = moved()
    stacks = [stack("tra"), stack("cor", motion)]
    registered, ignored = Fusion()(stacks), Fusion(registration=False)(stacks)
    apart = np.linalg.inv(registered.stacks[1].motion.matrix) @ motion
    assert np.degrees(Rotation.from_matrix(apart[:3, :3]).magnitude()) < 0.2
    assert np.linalg.norm(apart[:3, 3]) < 0.2
    unmoved = Fusion(registration=False)([stack("tra"), stack("cor")])
    assert error(registered.volume) < 1.1 * error(unmoved.volume)
    assert error(registered.volume) < 0.8 * error(ignored.volume)


@pytest.mark.parametrize("show", [True, False])
def test_the_log_says_how_far_registration_and_joint_solution_are(show, monkeypatch, caplog):
    seconds = count(step=31.0)  # each look at the clock finds half a minute gone
    monkeypatch.setattr("tqdm.std.time", lambda: next(seconds))
    with caplog.at_level(logging.INFO):
        fused = Fusion(progress=show)([stack("tra"), stack("cor")])
    lines = [record.getMessage().split(" after ")[0] for record in caplog.records]
    stages = [f"cor, resolutions: {level} of 3" for level in (1, 2, 3)]
    stages += [f"stacks in the frame of the reference: {number} of 2" for number in (1, 2)]
    steps = [f"joint solution, steps: {step}" for step in range(1, fused.iterations + 1)]
    assert [line for line in lines if line in {*stages, *steps}] == (stages + steps if show else [])
    assert {"cor: stack 2 of 2, registration", "joint solution", "added detail"} <= set(lines)
    assert ("(at most 40)" in caplog.text) == show


def test_residuals_are_about_the_noise_and_on_the_slices_of_each_stack(three: Fused):
    for part, row in zip(three.stacks, three.as_rows(), strict=True):
        assert part.residual.shape == part.stack.slices.shape
        seen = part.observation
        assert torch.allclose(part.residual, seen.residual(seen.operator(three.volume)), atol=1e-3)
        assert 0.2 < row["residual_over_noise"] < 1.5


def test_stacks_that_contradict_each_other_are_trusted_less_and_named():
    bent = body().roll(3, dims=0)  # as a bowel that has moved between two stacks
    truth = torch.where(torch.arange(SIZE)[:, None, None] > SIZE // 2, bent, body())
    stacks = [stack("tra"), stack("cor", truth=truth), stack("sag")]
    fused = Fusion(registration=False)(stacks)
    assert fused.stacks[1].deviation_over_noise > 3
    (warning,) = [line for line in fused.warnings if line.startswith("cor: its slices are")]
    assert "look at this stack for motion and leave it out if you see any" in warning
    assert "\n" not in warning
    assert not any("converged" in warning for warning in fused.warnings)


def test_a_stack_of_larger_pixels_is_explained_by_the_truth_and_helps():
    coarse = stack("cor", pixel=2)
    fused = Fusion(registration=False)([stack("tra"), coarse])
    assert fused.grid.shape == (SIZE,) * 3
    seen = fused.stacks[1].observation
    assert seen.rms(seen.residual(seen.operator(TRUTH))) == pytest.approx(NOISE, rel=0.05)
    assert error(fused.volume) < 0.9 * error(stack("tra").volume)


@pytest.mark.parametrize("source", [THICKNESS_UNKNOWN, "DICOM SliceThickness"])
def test_the_warning_asks_for_a_slice_thickness_that_is_not_known(source: str):
    other = stack("cor", truth=body().flip(1))
    other = replace(other, protocol=replace(other.protocol, thickness_source=source))
    warnings = Fusion(registration=False)([stack("tra"), other]).warnings
    (warning,) = [line for line in warnings if line.startswith("cor: its slices are")]
    asks = "give its slice thickness, which is not known (SliceThickness in a JSON file beside it)" in warning
    assert asks == (source == THICKNESS_UNKNOWN)


def test_coverage_counts_the_stacks_and_uncertainty_falls_with_them(three: Fused):
    assert torch.equal(three.coverage, torch.full((SIZE,) * 3, 3.0))
    gains = [part.stack.intensity_range / 120 for part in three.stacks]  # each half-width is 6 in its own units
    alone = [6.0, *(6.0 * part.match.gain for part in three.stacks[1:])]
    assert gains[0] == 1
    assert float(three.uncertainty.mean()) == pytest.approx(sum(u**-2 for u in alone) ** -0.5, rel=1e-3)


def test_the_added_detail_is_what_the_result_has_beyond_that_without_a_network(three: Fused):
    without = [replace(made, volume=made.interpolated) for made in (part.stack for part in three.stacks)]
    cubic = Fusion(registration=False)(without)
    difference = three.volume - cubic.volume
    assert float((difference - three.added_detail).norm() / difference.norm()) < 0.1
    assert error(three.volume) < error(cubic.volume)


def test_the_union_holds_the_fields_of_view_of_all_stacks():
    motion = np.eye(4)
    motion[:3, 3] = (6, 0, -3)
    stacks = [stack("tra"), stack("cor", motion)]
    fused = Fusion(registration=False, field_of_view="union")(stacks)
    assert fused.grid.shape == (SIZE,) * 3  # both lie on one place of the world
    shifted = Fusion(field_of_view="union")(stacks)
    assert shifted.grid.shape == (SIZE + 6, SIZE, SIZE + 3)
    assert set(shifted.coverage.unique().tolist()) == {0.0, 1.0, 2.0}


def test_a_bad_slice_loses_weight_and_is_named():
    bad = stack("cor")
    bad.slices[:, :, 5] *= 0.3
    row = Fusion(registration=False)([stack("tra"), bad, stack("sag")]).as_rows()[1]
    assert list(row["slices_with_less_weight"]) == [5]
    assert row["slices_with_less_weight"][5] < 0.5


def test_a_stack_that_cannot_be_registered_is_left_out_with_the_reason():
    random = torch.Generator().manual_seed(9)
    other = stack("cor", truth=100 * torch.rand((SIZE,) * 3, generator=random))
    fused = Fusion()([stack("tra"), stack("sag"), other])
    assert [part.stack.case.name for part in fused.stacks] == ["tra", "sag"]
    assert "registration failed" in fused.left_out["cor"]


def test_a_stack_of_another_contrast_is_left_out():
    fused = Fusion(registration=False)([stack("tra"), stack("cor", gain=1e-3)])
    assert "same contrast" in fused.left_out["cor"]
    assert "only one stack is used" in fused.warnings[0]


@pytest.mark.parametrize("field_of_view", ["reference", "union"])
def test_a_stack_that_is_left_out_for_its_intensities_decides_nothing_of_the_grid(field_of_view: str):
    reference, other = stack("tra"), stack("cor", gain=1e-3)
    coarse = np.array(reference.grid.affine)
    coarse[:3, :3] *= 2  # of the same numbers of voxels, so that the other stack is the finer one
    beside = np.array(other.grid.affine)
    beside[:3, 3] += 30
    stacks = [
        replace(reference, grid=replace(reference.grid, affine=coarse)),
        replace(other, grid=replace(other.grid, affine=beside)),
    ]
    fused = Fusion(registration=False, field_of_view=field_of_view)(stacks)
    assert list(fused.left_out) == ["cor"]
    assert fused.grid.shape == stacks[0].grid.shape
    assert np.allclose(fused.grid.affine, stacks[0].grid.affine)
    assert torch.equal(fused.coverage, torch.ones(SIZE, SIZE, SIZE))


def test_one_stack_is_what_inference_makes_of_it():
    alone = stack("tra")
    fused = Fusion()([alone])
    assert torch.allclose(fused.volume, alone.volume, atol=1e-4)
    assert torch.allclose(fused.added_detail, alone.volume - alone.interpolated, atol=1e-4)
    assert torch.allclose(fused.uncertainty, alone.uncertainty, atol=1e-4)


def test_stacks_of_one_orientation_are_fused_with_a_warning():
    fused = Fusion(registration=False)([stack("tra"), stack("tra2")])
    assert "one orientation" in fused.warnings[0]


def test_a_study_that_needs_too_much_memory_is_refused_before_it_begins():
    with pytest.raises(Refusal, match=r"2 stacks on 40 x 40 x 40 voxels need about 0\.0 GiB, memory_gib is 0\.001"):
        Fusion(registration=False, memory_gib=0.001)([stack("tra"), stack("cor")])


def test_a_near_isotropic_stack_dominates_and_is_truer_with_a_thick_one_than_alone():
    iso = near_isotropic()
    assert error(iso.volume) == pytest.approx(NOISE, rel=0.05)
    thick = error(Fusion(registration=False)([stack("tra"), stack("cor")]).volume)
    fused = Fusion(registration=False)([stack("tra"), iso])
    assert error(fused.volume) < 0.97 * error(iso.volume) < 0.7 * thick
    part = fused.stacks[1]
    assert np.array_equal(part.observation.operator.acquisition.matrix, np.eye(SIZE))
    assert part.deviation_over_noise < 1.2
    row = fused.as_rows()[1]
    assert row["protocol"] is None
    assert row["kept_as_it_is"]
    assert not fused.warnings


def test_a_near_isotropic_reference_keeps_its_place_and_two_of_them_are_averaged():
    fused = Fusion(registration=False)([near_isotropic(), stack("tra")])
    assert fused.grid.shape == (SIZE,) * 3
    assert error(fused.volume) < error(near_isotropic().volume)
    other = replace(near_isotropic("again"), volume=body(), slices=body())
    both = Fusion(registration=False)([near_isotropic(), other])
    assert error(both.volume) == pytest.approx(NOISE / 2, rel=0.1)


def test_a_near_isotropic_stack_that_remains_alone_is_refused_as_by_inference():
    with pytest.raises(Refusal, match="only iso can be used, which is already isotropic or nearly so: nothing to do"):
        Fusion(registration=False)([near_isotropic(), stack("cor", gain=1e-3)])


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"field_of_view": "all"}, "field_of_view must be reference or union"),
        ({"isotropic_spacing_mm": -1}, "isotropic_spacing_mm must be a positive number"),
        ({"expected_error": 0}, "expected_error must be a positive number"),
        ({"smoothness": -1}, "smoothness must be a number of slice spacings from 0 up"),
        ({"smoothness": "a"}, "smoothness must be a number"),
        ({"floor": 0}, "floor must be a number above 0 and at most 1"),
        ({"floor": 1.5}, "floor must be a number above 0 and at most 1"),
    ],
)
def test_wrong_settings_are_refused(settings: dict, line: str):
    with pytest.raises(Refusal, match=line):
        Fusion(**settings)
