"""Scans that are no images of tissue get a warning each; scans get none, however noisy they are in practice."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from scripts.data.plausibility import Plausibled, doubts
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
    assert doubts(mask, 0.0) == ["only 2 different values: is this a mask or a map of labels, not a scan?"]
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
