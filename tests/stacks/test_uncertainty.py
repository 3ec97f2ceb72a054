"""The half-width of a fused volume."""

import pytest
import torch

from scripts.physics.uncertainty import LEAST, Scale, UncertaintyModel
from scripts.stacks.fusion import Fusion
from scripts.stacks.uncertainty import fused_half_width, stack_features

from .made import stack

EVERYWHERE = torch.ones(8, 8, 8, dtype=torch.bool)
ONE, TWO = (Scale(n, {"combined": 1.0}, {"rect": ((4.0, q),)}) for n, q in ((1, 2.0), (2, 3.0)))


def volume(value: float) -> torch.Tensor:
    return torch.full((8, 8, 8), value)


def test_half_widths_are_combined_as_those_of_independent_errors():
    found = stack_features(volume(0.5), [volume(0.5)] * 2, [volume(0.3), volume(0.4)], [EVERYWHERE] * 2)
    assert torch.allclose(found["combined"], volume(0.24), atol=1e-6)  # 1 / (1/0.09 + 1/0.16) = 0.0576
    assert float(found["disagreement"].max()) == 0


def test_disagreement_is_that_of_the_stacks_that_see_a_voxel():
    half = EVERYWHERE.clone()
    half[4:] = False
    volumes, widths = [volume(0.6), volume(0.1)], [volume(0.1)] * 2
    found = stack_features(volume(0.5), volumes, widths, [EVERYWHERE, half])["disagreement"]
    assert float(found[0, 4, 4]) == pytest.approx(((0.01 + 0.16) / 2) ** 0.5, abs=0.01)
    assert float(found[7, 4, 4]) == pytest.approx(0.1, abs=0.01)


def test_each_voxel_has_the_scale_of_as_many_stacks_as_see_it():
    features = {"combined": volume(0.1), "disagreement": volume(0.0)}
    coverage = volume(0.0)
    coverage[2:4], coverage[4:6], coverage[6:] = 1, 2, 3
    found = fused_half_width(UncertaintyModel([ONE, TWO]), features, coverage, "rect", 4.0)
    combined = (0.1**2 + LEAST**2) ** 0.5
    expected = [1.0, 2 * combined, 3 * combined, 3 * combined]  # a fourth of the voxels each; three as two
    assert found[::2, 0, 0].tolist() == pytest.approx(expected, rel=1e-5)


def test_stacks_that_contradict_each_other_are_more_uncertain():
    model = UncertaintyModel([Scale(1, {"combined": 0.5, "disagreement": 0.5}, {"rect": ((4.0, 1.0),)})])
    fusion = Fusion(registration=False, uncertainty=model)
    alike = fusion([stack("tra"), stack("cor"), stack("sag")])
    bent = fusion([stack("tra"), stack("cor"), stack("sag", truth=stack("tra").volume.roll(2, dims=0))])
    assert float(bent.uncertainty.mean()) > 1.3 * float(alike.uncertainty.mean())
