"""A stack alone: near-isotropic scans are kept as they are, unless the user says where their slices lie."""

import contextlib

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from scripts.data.case import Case
from scripts.data.transforms import EstimateNoised
from scripts.geometry.errors import Refusal
from scripts.physics.projection import DataConsistency
from scripts.stacks.stack import SingleStackInference
from tests.conftest import ROOT

from .made import body

SPACING_MM, NOISE = (1.0, 1.2, 1.1), 2.0
QUICK = {"bundle_root": str(ROOT), "sharpness": 0.0, "views": [0], "rotations_deg": [0], "inferer::progress": False}


@pytest.fixture(scope="module")
def scan() -> nibabel.Nifti1Image:
    values = body(32).numpy() + np.random.default_rng(1).normal(0, NOISE, (32, 32, 32))
    return nibabel.Nifti1Image(values.astype(np.float32), np.diag([-SPACING_MM[0], *SPACING_MM[1:], 1]))


def single(isotropic_spacing_mm: float | None = None, **settings) -> SingleStackInference:
    made = SingleStackInference(ROOT / "configs" / "inference.yaml", {**QUICK, **settings}, isotropic_spacing_mm)
    made.load()
    return made


def test_a_near_isotropic_scan_is_kept_as_it_is_without_the_network(scan: nibabel.Nifti1Image):
    alone = single()
    alone._network = None  # would fail
    stack = alone(Case("iso", ()), scan)
    assert stack.is_near_isotropic
    assert np.allclose(stack.volume, scan.get_fdata(), atol=1e-3)
    assert stack.slices is stack.volume is stack.interpolated
    assert np.allclose(stack.grid.affine, scan.affine)
    assert np.allclose(stack.slice_grid.affine, scan.affine)
    assert stack.noise == pytest.approx(NOISE, rel=0.5)  # fine detail counts as noise
    assert float(stack.uncertainty.mean()) == pytest.approx(1.645 * stack.noise, rel=1e-4)


def test_where_the_user_sets_the_through_plane_axis_a_near_isotropic_scan_is_slices(scan: nibabel.Nifti1Image):
    stack = single(through_plane_axis=1)(Case("iso", ()), scan)
    assert not stack.is_near_isotropic
    assert stack.protocol.through_plane_axis == 1
    assert stack.slices.shape == (32, 35, 32)  # slices 1.2 mm apart, on pixels of 1 mm
    assert np.allclose(stack.grid.spacing_mm, 1.0)


def test_a_setting_that_inference_does_not_have_is_refused():
    with pytest.raises(Refusal, match="no setting is called sharpnes: did you mean sharpness"):
        single(sharpnes=0.5)


@pytest.mark.parametrize("shape", [(48, 40, 12), (48, 40, 48)], ids=["thick slices", "near-isotropic"])
def test_a_wave_that_the_voxels_of_the_result_cannot_hold_is_averaged_away(shape: tuple[int, int, int]):
    wave = np.broadcast_to(100 + 50 * (-1.0) ** np.arange(48)[:, None, None], shape)  # a period of two pixels
    values = wave + np.random.default_rng(1).normal(0, NOISE, shape)
    image = nibabel.Nifti1Image(values.astype(np.float32), np.diag([1, 1, 48 / shape[2], 1]))
    stacks = []
    for spacing_mm in (None, 0.5, 2.0):
        alone = single(isotropic_spacing_mm=spacing_mm)
        alone._inferer = lambda image, _: image  # what the network adds is not at issue
        stacks.append(alone(Case("wave", ()), image))
    stored, finer, coarse = stacks
    assert torch.equal(stored.slices, finer.slices)
    assert float(stored.slices.std()) == pytest.approx(50, rel=0.05)
    assert np.allclose(coarse.grid.spacing_mm, 2)
    assert coarse.grid.shape == (24, 20, 24)
    assert float(coarse.slices.std()) < NOISE
    assert coarse.noise < 0.6 * stored.noise


@pytest.mark.parametrize(
    ("setting", "way_out"),
    [("adapt", "adapt the weights by run inference first"), ("write", "give it without"), ("frames", "leave it out")],
)
def test_a_setting_that_a_stack_cannot_honour_is_refused(setting: str, way_out: str):
    with pytest.raises(Refusal, match=f"inference::{setting} has no effect on a stack: .*{way_out}"):
        single(**{setting: True})


def test_all_volumes_of_a_stack_are_on_the_device_of_the_network(monkeypatch, scan: nibabel.Nifti1Image):
    """A GPU's place is taken by the device `meta`, which mixes with no other either, and whose numbers nobody knows."""
    monkeypatch.setattr(DataConsistency, "residual", lambda *_: 0.0)
    monkeypatch.setattr(EstimateNoised, "__call__", noiseless)  # without noise nothing is compared with it
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # which this device has not
    alone = single(device=torch.device("meta"), through_plane_axis=1, regularisation=1e-5)
    alone._inferer = lambda image, _: image  # the network's own would look for the body
    stack = alone(Case("iso", ()), scan)
    for name in ("slices", "volume", "interpolated", "uncertainty"):
        assert getattr(stack, name).device.type == "meta", name


def noiseless(_: EstimateNoised, data: dict) -> dict:
    image = data["image"]
    return {**data, "image": MetaTensor(image.as_tensor(), meta={**image.meta, "noise": 0.0})}
