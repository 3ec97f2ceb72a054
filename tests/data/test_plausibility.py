"""Scans that are no images of tissue get a warning each; scans get none, however noisy they are in practice."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from scripts.data.acceptance import AcceptScand
from scripts.data.plausibility import Plausibled, doubts, doubts_of_slices
from scripts.data.readers import LoadImageCased
from scripts.data.transforms import ThroughPlaneLastd
from scripts.dicom.discovery import find_series
from scripts.dicom.reader import DicomSeriesReader
from scripts.dicom.synthetic_series import write_series
from scripts.physics.noise import estimate_noise

SHAPE = (64, 64, 12)
RANDOM = np.random.default_rng(0)
BODY = 500 * ndimage.gaussian_filter(RANDOM.standard_normal(SHAPE), (3, 3, 1)) / 0.05
IMAGE = np.where(np.hypot(*np.indices(SHAPE)[:2] - 31.5) < 26, 800 + np.clip(BODY, -600, 600), 20).astype(np.float32)


def rician(signal, sigma):
    return np.abs(signal + sigma * (RANDOM.standard_normal(SHAPE) + 1j * RANDOM.standard_normal(SHAPE)))


@pytest.mark.parametrize("sigma", [0, 10, 50, 150])
def test_a_scan_has_no_warning_also_where_it_is_noisy(sigma):
    slices = rician(IMAGE, sigma)
    assert doubts(slices, estimate_noise(slices)) == []
    coarse = np.rint(slices / slices.max() * 40)  # few grey levels, but more than a mask has
    assert doubts(coarse, 0.0) == []


@pytest.mark.parametrize(
    "noise",
    [
        RANDOM.normal(100, 30, SHAPE),
        RANDOM.normal(0, 30, SHAPE),
        rician(0, 30),
        np.rint(rician(0, 30)),
        RANDOM.integers(0, 900, SHAPE),
    ],
)
def test_nothing_but_noise_is_called_that(noise):
    (doubt,) = doubts(noise.astype(np.float32), estimate_noise(noise))
    assert doubt.startswith("hardly anything but noise (")


def test_masks_and_labels_are_called_that():
    mask = (IMAGE > 400).astype(np.float32)
    (doubt,) = doubts(mask, 0.0)
    assert doubt == (
        "only 2 different values: is this a mask or a map of labels, not a scan? "
        "If so, leave it out: give the paths of the scans alone"
    )
    labels = np.digitize(IMAGE, [100, 500, 900]) * 1000.0
    assert doubts(labels, 0.0)[0].startswith("only 4 different values")


def test_values_that_a_sample_does_not_meet_count(monkeypatch):
    monkeypatch.setattr("scripts.data.plausibility.SAMPLE", 100)
    values = np.zeros(10_000, np.float32)
    values[1:30] = np.arange(1, 30)  # the sample takes every hundredth
    assert doubts(values, 0.0) == []


def test_negative_values_alone_are_called_that():
    (doubt,) = doubts(-IMAGE, 0.0)
    assert doubt.startswith("no value is above 0")
    assert doubts(IMAGE - 400, 0.0) == []  # some are above


def test_the_warning_is_in_meta_and_log_beside_earlier_ones(caplog):
    mask = MetaTensor(torch.from_numpy((IMAGE > 400).astype(np.float32))[None], meta={"noise": 0.0, "warnings": ["a"]})
    out = Plausibled("image")({"image": mask})["image"]
    assert len(out.meta["warnings"]) == 2
    assert "scan: only 2 different values" in caplog.text


def blanked(*indices, value=0.0):
    slices = IMAGE.copy()
    slices[..., list(indices)] = value
    return slices


@pytest.mark.parametrize(
    ("blank", "words"),
    [
        ([4], "slice 5 of 12 (counted from 1) has "),
        ([4, 5], "slices 5 and 6 of 12 (counted from 1) have "),
        ([0, 1, 3, 7, 11], "slices 4 and 8 of 12 (counted from 1) have "),  # the first two and the last are padding
    ],
)
@pytest.mark.parametrize("value", [0.0, -1.0, 640.0])
def test_blank_slices_between_others_are_named(blank, words, value):
    (doubt,) = doubts_of_slices(blanked(*blank, value=value))
    assert doubt.startswith(words)


@pytest.mark.parametrize("blank", [[], [0], [11], [0, 1, 2, 10, 11], list(range(11)), list(range(12))])
def test_blank_slices_at_the_ends_are_padding(blank):
    assert doubts_of_slices(blanked(*blank)) == []


def test_many_blank_slices_are_counted():
    slices = RANDOM.random((8, 8, 60))
    slices[..., 1::2] = 0
    (doubt,) = doubts_of_slices(slices)  # 29, since the last is at the end
    assert doubt.startswith("slices 2, 4, 6, 8, 10, 12, 14, 16, 18, 20 and 19 more of 60 ")


@pytest.mark.parametrize("direction", [1, -1])
def test_slices_are_numbered_as_in_the_file(direction, caplog):
    """Also where the axis points to the feet, which `ThroughPlaneLastd` turns round."""
    affine = torch.diag(torch.tensor([1.0, 1, direction * 6.0, 1]))
    scan = MetaTensor(torch.from_numpy(blanked(2))[None], affine=affine, meta={"noise": 0.0})
    out = Plausibled("image")(ThroughPlaneLastd("image")(AcceptScand("image")({"image": scan})))["image"]
    (warning,) = out.meta["warnings"]
    assert warning.startswith("slice 3 of 12 ")
    assert f"scan: {warning}" in caplog.text


def test_a_dicom_series_with_a_blank_slice_has_the_warning(tmp_path):
    write_series(tmp_path, blanked(2).clip(0), np.diag([-1.0, -1, 6, 1]))
    (case,) = find_series(tmp_path)
    assert case.refusal is None
    scan = LoadImageCased("image", {"dicom": DicomSeriesReader()})(case.as_item())
    scan["image"].meta["noise"] = 0.0
    out = Plausibled("image")(ThroughPlaneLastd("image")(AcceptScand("image")(scan)))["image"]
    assert [warning.split(" of 12")[0] for warning in out.meta["warnings"]] == ["slice 3"]
