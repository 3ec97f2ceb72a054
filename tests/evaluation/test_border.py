"""Borders from a seed: the whole organ and nothing else, or a refusal that names the remedy."""

import nibabel
import numpy as np
import pytest

from scripts.evaluation.border import Borders, region_from_seed
from scripts.evaluation.measures import CaseVolumes, Result
from scripts.geometry.errors import Refusal
from scripts.geometry.grid import Grid

SHAPE, CENTRE_MM, RADIUS_MM = (46, 46, 46), np.array([40.0, 20.0, 24.0]), 12.0
GRID = Grid(SHAPE, np.array([[-1.5, 0, 0, 75], [0, 1.5, 0, -15], [0, 0, 1.5, -10], [0, 0, 0, 1]]))


def distance_mm():
    return np.linalg.norm(GRID.world_mm(np.stack(np.indices(SHAPE), -1)) - CENTRE_MM, axis=-1)


def ball(blur_mm=1.0, noise=10.0):
    edge = 1 / (1 + np.exp((distance_mm() - RADIUS_MM) / blur_mm))
    return (100 + 400 * edge + np.random.default_rng(0).normal(0, noise, SHAPE)).astype(np.float32)


def case(interpolated, name="case"):
    box = np.ones(SHAPE, bool)
    return CaseVolumes(name, GRID, 2, 4.0, None, interpolated, interpolated, None, box, (0.0, 500.0))


def test_the_region_is_the_organ():
    region = region_from_seed(ball(), GRID, CENTRE_MM + np.array([3, -2, 4]))
    organ = distance_mm() < RADIUS_MM
    assert 2 * (region & organ).sum() / (region.sum() + organ.sum()) > 0.95


def test_a_thin_bridge_does_not_leak():
    v = ball()
    v[22:24, 4:42, 22:24] = 500  # a vessel through the organ
    region = region_from_seed(v, GRID, CENTRE_MM)
    assert (region & (distance_mm() > RADIUS_MM + 7)).sum() == 0  # the band of the edge, and no farther


@pytest.mark.parametrize(
    ("seed_mm", "line"),
    [
        ([70, -10, -5], "leaks"),  # the background itself
        ([500, 0, 0], "outside"),
        (CENTRE_MM + np.array([RADIUS_MM, 0, 0]), "edge|leaks|less than"),
        ([1, 2], "three numbers"),
    ],
)
def test_a_seed_that_gives_no_organ_is_refused(seed_mm, line):
    with pytest.raises(Refusal, match=line):
        region_from_seed(ball(noise=5.0), GRID, seed_mm)


def test_a_tiny_region_is_refused():
    v = np.full(SHAPE, 100, np.float32)
    v[20:25, 20:25, 20:25] = 500
    v[5:40, 5:7, :] = 800  # so that the range is not that of the spot alone
    with pytest.raises(Refusal, match="mm3"):
        region_from_seed(v, GRID, GRID.world_mm([22, 22, 22]))


@pytest.mark.parametrize("kind", ["seed_mm", "label", "points_mm"])
def test_a_sharper_result_has_steeper_borders_whatever_names_them(tmp_path, kind):
    nibabel.save(
        nibabel.Nifti1Image((distance_mm() < RADIUS_MM).astype(np.uint8), GRID.affine), tmp_path / "label.nii.gz"
    )
    top = CENTRE_MM + np.array([0, 0, RADIUS_MM])
    border = {
        "seed_mm": list(CENTRE_MM),
        "label": str(tmp_path / "label.nii.gz"),
        "points_mm": [[*top[:2], top[2] - 8], [*top[:2], top[2] + 8]],
    }[kind]
    measure = Borders({"ca*": {kind: border}})
    input_volume = ball(2.0, noise=0.0)
    blurred, sharp = (
        {s.metric: s.value for s in measure(case(input_volume), Result(v))}
        for v in (input_volume, ball(1.0, noise=0.0))
    )
    assert sharp["border_raw"] > 1.5 * blurred["border_raw"]
    assert sharp["border_rise_mm"] < blurred["border_rise_mm"]
    assert blurred["border_profiles"] == sharp["border_profiles"] >= 6
    assert measure(case(ball(), "other"), Result(ball())) == []


def test_bad_borders_are_refused(tmp_path):
    for wrong in (
        {"a": {}},
        {"a": {"seed": [1, 2, 3]}},
        {"a": {"seed_mm": [1, 2, 3], "label": "x"}},
        {"a": "x.nii.gz"},
    ):
        with pytest.raises(Refusal, match="exactly one of"):
            Borders(wrong)
    elsewhere = np.array(GRID.affine)
    elsewhere[0, 3] += 1000
    nibabel.save(nibabel.Nifti1Image(np.ones(SHAPE, np.uint8), elsewhere), tmp_path / "far.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.zeros(SHAPE, np.uint8), GRID.affine), tmp_path / "empty.nii.gz")
    small = np.zeros(SHAPE, np.uint8)
    small[22, 22, 22] = 1
    nibabel.save(nibabel.Nifti1Image(small, GRID.affine), tmp_path / "small.nii.gz")
    for name, line in (("far", "covers 0%"), ("empty", "empty"), ("small", "profiles"), ("none", "no such file")):
        with pytest.raises(Refusal, match=line):
            Borders({"*": {"label": str(tmp_path / f"{name}.nii.gz")}})(case(ball()), Result(ball()))
    with pytest.raises(Refusal, match="too short"):
        Borders({"*": {"points_mm": [list(CENTRE_MM), list(CENTRE_MM + 0.5)]}})(case(ball()), Result(ball()))
    with pytest.raises(Refusal, match="two points"):
        Borders({"*": {"points_mm": [[1, 2, 3]]}})(case(ball()), Result(ball()))
