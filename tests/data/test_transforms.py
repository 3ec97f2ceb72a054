import contextlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor

from scripts.data.acceptance import ScanProtocol
from scripts.data.transforms import (
    AcquiredResolutiond,
    DataConsistencyd,
    EstimateNoised,
    FuseViewsd,
    InterpolateSlicesd,
    OriginalIntensityd,
    OriginalOrientationd,
    ScaleIntensityRobustd,
    SquarePixelsd,
    ThroughPlaneLastd,
    geometry_of,
    grid_of,
    smoothed,
)
from scripts.data.uncertainty import Uncertaintyd
from scripts.geometry.errors import Refusal
from scripts.geometry.grid import Grid
from scripts.physics.acquisition import Acquisition
from scripts.physics.noise import add_rician_noise
from scripts.physics.projection import DataConsistency
from scripts.physics.uncertainty import Scale, UncertaintyModel
from tests.strategies import grids


def scan(grid: Grid, axis: int = 2, profile: str = "rect", thickness_mm: float | None = None) -> MetaTensor:
    voxels = torch.rand(1, *grid.shape, generator=torch.Generator().manual_seed(0)) * 900 + 20
    spacing = float(grid.spacing_mm[axis])
    protocol = ScanProtocol(axis, spacing, thickness_mm or spacing, profile, "", "", "")
    volume = MetaTensor(voxels, meta={"protocol": protocol})
    volume.affine = torch.as_tensor(np.array(grid.affine))
    return volume


def thick(shape=(14, 12, 7), spacing=(1.2, 1.2, 5.0)) -> Grid:
    return Grid(shape, np.diag([*spacing, 1.0]))


def to_isotropic(volume: MetaTensor, spacing_mm="stored") -> dict:
    data = {"image": volume}
    for step in (
        ThroughPlaneLastd("image"),
        EstimateNoised("image"),
        ScaleIntensityRobustd("image", 0.5, 99.5),
        SquarePixelsd("image", spacing_mm),
        InterpolateSlicesd("image"),
    ):
        data = step(data)
    return data


def back(data: dict) -> dict:
    differences = "added_detail"
    data = OriginalIntensityd(["pred", differences], differences)(data)
    return OriginalOrientationd(["pred", differences])(data)


@given(grids(st.integers(8, 14)), st.integers(0, 2))
@settings(max_examples=25)
def test_every_scan_keeps_its_field_of_view_orientation_and_scale(grid, axis):
    thick_spacing = grid.spacing_mm.copy()
    factor = 5 * thick_spacing.max() / thick_spacing[axis]
    affine = np.array(grid.affine)
    affine[:3, axis] *= factor  # the axis becomes the through-plane one
    grid = Grid(tuple(np.minimum(grid.shape, 9)), affine)
    volume = scan(grid, axis)
    data = to_isotropic(volume, spacing_mm=float(np.delete(grid.spacing_mm, axis).max()))
    pred = data["image"]
    out = back({"pred": pred, "added_detail": pred - pred})
    result = grid_of(out["pred"])
    axes = grid.affine[:3, :3] / grid.spacing_mm
    assert np.allclose(result.affine[:3, :3] / result.spacing_mm, axes, atol=1e-6)  # same axes, same directions
    for new, old in (((-0.5,) * 3, (-0.5,) * 3), (np.array(result.shape) - 0.5, np.array(grid.shape) - 0.5)):
        moved = (result.world_mm(new) - grid.world_mm(old)) @ axes  # of a corner of the field of view
        assert np.abs(moved).max() <= result.spacing_mm[0] / 2 + 1e-6
    assert float(out["pred"].mean()) == pytest.approx(float(volume.mean()), rel=0.1)


def test_slices_stay_as_acquired_on_square_pixels():
    data = to_isotropic(scan(thick()))
    low, high = np.percentile(scan(thick()).numpy(), [0.5, 99.5])
    restored = data["slices"].as_tensor() * float(high - low) + float(low)
    assert torch.allclose(restored, scan(thick()).as_tensor(), atol=1e-2)
    assert data["image"].shape == (1, 14, 12, round(7 * 5 / 1.2))


def test_non_square_pixels_become_squares_of_the_smaller_side():
    data = to_isotropic(scan(thick((14, 12, 7), (1.2, 0.9, 5.0))))
    assert data["image"].shape == (1, round(14 * 1.2 / 0.9), 12, round(7 * 5 / 0.9))
    assert grid_of(data["image"]).spacing_mm == pytest.approx([0.9, 0.9, 0.9])


def test_intensity_is_not_clipped_and_comes_back():
    volume = scan(thick())
    volume[0, 3, 3, 3] = 50_000
    data = ScaleIntensityRobustd("image", 0.5, 99.5)({"image": volume})
    assert float(data["image"].max()) > 10
    out = OriginalIntensityd("image")(data)
    assert torch.allclose(out["image"].as_tensor(), volume.as_tensor(), rtol=1e-5, atol=1e-2)


def test_an_isotropic_spacing_above_the_slices_is_refused():
    with pytest.raises(Refusal, match="is not below the slice spacing 5 mm"):
        to_isotropic(scan(thick()), spacing_mm=6.0)


@pytest.mark.parametrize("profile", ["rect", "gauss", "fourier"])
@pytest.mark.parametrize("thickness_mm", [4.0, 5.0, 6.0])
def test_the_result_gives_the_slices_back(profile, thickness_mm):
    data = to_isotropic(scan(thick(), profile=profile, thickness_mm=thickness_mm))
    noise = torch.randn(data["image"].shape, generator=torch.Generator().manual_seed(1))
    data["pred"] = data["image"] + 0.2 * noise
    out = DataConsistencyd("pred", detail=1.0, consistent=True, regularisation=1e-5, smoothness=0.2)(data)
    A = Acquisition(geometry_of(out["image"]))
    residual = (A(out["pred"].as_tensor()) - out["slices"].as_tensor()).norm() / out["slices"].as_tensor().norm()
    assert float(residual) < 1e-3
    assert float(out["pred"].meta["residual"]) == pytest.approx(float(residual), abs=1e-6)
    assert float(A(out["added_detail"].as_tensor()).abs().max()) < 1e-2  # the slices know nothing of it
    torch.testing.assert_close(out["correction"].as_tensor(), (out["pred"] - data["pred"]).as_tensor())


def zero_filled(kept: tuple[int, int]) -> MetaTensor:
    """Textured planes of 96 x 96 pixels of 0.5 mm of which so many lines of k-space were measured, with noise."""
    volume = scan(thick((96, 96, 7), (0.5, 0.5, 3.0)))
    texture = torch.rand(7, 96, 96, generator=torch.Generator().manual_seed(3))
    spectrum = torch.fft.fftshift(torch.fft.fft2(2000 * texture), dim=(1, 2))
    frequency = (torch.arange(96) - 48) / 96
    spectrum /= 1 + 100 * (frequency[:, None] ** 2 + frequency**2)  # falls as that of anatomy does
    for axis, count in enumerate(kept, start=1):
        outside = (torch.arange(96) - 48).abs() > count // 2
        spectrum.index_fill_(axis, torch.nonzero(outside).flatten(), 0)
    volume[0] = torch.fft.ifft2(torch.fft.ifftshift(spectrum, dim=(1, 2))).abs().permute(1, 2, 0)
    volume.meta["stated_fraction"] = {0: 0.5}
    return volume


def prepared(volume: MetaTensor, spacing_mm="acquired") -> MetaTensor:
    data = {"image": volume}
    for step in (
        ThroughPlaneLastd("image"),
        AcquiredResolutiond("image", spacing_mm, 16),
        EstimateNoised("image"),
        SquarePixelsd("image", spacing_mm),
    ):
        data = step(data)
    return data["image"]


def test_the_pixels_of_zero_filled_planes_are_those_acquired(caplog):
    caplog.set_level("INFO")
    image = prepared(zero_filled((48, 54)))
    assert image.meta["acquired_pixel_mm"] == pytest.approx((1.0, 0.89), rel=0.1)
    assert grid_of(image).spacing_mm[:2] == pytest.approx([image.meta["acquired_pixel_mm"][1]] * 2)
    assert grid_of(image).centre_mm == pytest.approx(grid_of(zero_filled((48, 54))).centre_mm, abs=1e-6)
    assert "pixels stored 0.5 x 0.5 mm, acquired" in caplog.text
    assert "1 x ? mm by the header" in caplog.text


@pytest.mark.parametrize("spacing", ["stored", 0.5])
def test_a_setting_keeps_the_stored_pixels(spacing):
    image = prepared(zero_filled((48, 48)), spacing)
    assert image.shape == (1, 96, 96, 7)
    assert image.meta["acquired_pixel_mm"] == pytest.approx((1.0, 1.0), rel=0.1)  # said all the same


def test_zero_filling_along_one_axis_leaves_the_pixels_of_the_other():
    image = prepared(zero_filled((48, 98)))
    assert torch.equal(image.as_tensor(), zero_filled((48, 98)).as_tensor())


def test_pixels_that_would_be_no_finer_than_the_slices_stay_as_stored():
    volume = zero_filled((48, 48))
    volume.affine = torch.diag(torch.tensor([0.5, 0.5, 1.0, 1.0], dtype=torch.float64))
    assert prepared(volume).shape == (1, 96, 96, 7)


def noisy(sigma: float) -> MetaTensor:
    """A scan of one tissue, 1000 units bright, in air."""
    volume = scan(thick((48, 48, 7)))
    signal = torch.zeros(1, 48, 48, 7)
    signal[:, 8:40, 8:40] = 1000
    volume[...] = add_rician_noise(signal, sigma, torch.Generator().manual_seed(2))
    return volume


def test_the_noise_of_the_scan_is_found_in_its_own_units_and_follows_a_change_of_pixels():
    assert to_isotropic(noisy(50.0))["image"].meta["noise"] == pytest.approx(50, rel=0.1)
    coarse = to_isotropic(noisy(50.0), spacing_mm=2.4)  # the mean of 4 pixels
    assert coarse["image"].meta["noise"] == pytest.approx(25, rel=0.15)


@pytest.mark.parametrize("sigma", [10.0, 50.0, 150.0])
def test_by_default_the_result_agrees_with_the_slices_to_within_their_noise(sigma):
    data = to_isotropic(noisy(sigma))
    data["pred"] = data["image"]
    with_noise, exact = (
        DataConsistencyd("pred", detail=1.0, consistent=True, regularisation=r, smoothness=0.2)(data)["pred"]
        for r in ("auto", 1e-5)
    )
    assert exact.meta["residual_over_noise"] < 1e-3 < with_noise.meta["residual_over_noise"] < 1.1
    body = (slice(None), slice(10, 38), slice(10, 38))
    assert with_noise.as_tensor()[body].std() < exact.as_tensor()[body].std()


@pytest.mark.parametrize(
    "percentiles", [(99.5, 0.5), (50, 50), (-1, 99), (0.5, 101), ("low", 99.5), (float("nan"), 99)]
)
def test_percentiles_that_are_no_range_are_refused(percentiles):
    with pytest.raises(Refusal, match="intensity_percentiles must be two numbers from 0 to 100, the smaller one first"):
        ScaleIntensityRobustd("image", *percentiles)


@pytest.mark.parametrize("regularisation", [-0.1, float("nan"), "strong", None, True])
def test_a_regularisation_that_is_none_is_refused(regularisation):
    with pytest.raises(Refusal, match="regularisation must be auto, or a number from 0 up"):
        DataConsistencyd("pred", detail=1, consistent=True, regularisation=regularisation, smoothness=0.2)


def test_what_was_only_loaded_follows_the_answer_to_its_device(monkeypatch):
    """A GPU's place is taken by the device `meta`, which mixes with no other either, and whose numbers nobody knows."""
    monkeypatch.setattr(DataConsistency, "residual", lambda *_: 0.0)
    monkeypatch.setattr(EstimateNoised, "__call__", lambda _, data: data)  # without it nothing is compared with it
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # which this device has not
    data = to_isotropic(scan(thick()))
    predictions = MetaTensor(torch.empty(2, *data["image"].shape[1:], device="meta"), meta=dict(data["image"].meta))
    predictions.affine = data["image"].affine
    data["pred"] = predictions
    for step in (
        FuseViewsd("pred", detail_gain=1.2),
        DataConsistencyd("pred", detail=1.0, consistent=True, regularisation=1e-5, smoothness=0.2),
        Uncertaintyd("uncertainty", UncertaintyModel([Scale(1, {"disagreement": 1.0}, {"rect": ((4.0, 3.0),)})])),
    ):
        data = step(data)
    data = back(data)
    for name in ("pred", "added_detail", "uncertainty"):
        assert data[name].device.type == "meta"


def test_detail_runs_from_consistent_cubic_to_the_network():
    data = to_isotropic(scan(thick()))
    data["pred"] = data["image"] + 0.1
    results = [
        DataConsistencyd("pred", detail=detail, consistent=True, regularisation=1e-5, smoothness=0.2)(data)
        for detail in (0.0, 0.5, 1.0)
    ]
    assert float(results[0]["added_detail"].abs().max()) == 0
    middle = (results[0]["pred"].as_tensor() + results[2]["pred"].as_tensor()) / 2
    assert torch.allclose(results[1]["pred"].as_tensor(), middle, atol=1e-5)


@pytest.mark.parametrize("detail", [-0.1, float("nan"), "much", None, True])
def test_a_share_of_detail_that_is_none_is_refused(detail):
    with pytest.raises(Refusal, match="detail must be"):
        DataConsistencyd("pred", detail=detail, consistent=True, regularisation=1e-5, smoothness=0.2)


@pytest.mark.parametrize("smoothness", [-0.1, 1.5, float("nan"), "little"])
def test_a_smoothness_beyond_what_keeps_the_slices_is_refused(smoothness):
    with pytest.raises(Refusal, match="smoothness must be"):
        DataConsistencyd("pred", detail=1, consistent=True, regularisation=1e-5, smoothness=smoothness)


@pytest.mark.parametrize(
    ("predictions", "fused", "apart"), [([1.0, 4.0], 3.25, 1.5), ([4.0], 5.5, 0.0), ([1.0, 1.0, 4.0, 4.0], 3.25, 1.5)]
)
def test_views_are_fused_to_their_amplified_mean_and_their_distance_from_it(predictions, fused, apart):
    views = MetaTensor(torch.tensor(predictions).reshape(-1, 1, 1, 1).expand(-1, 2, 2, 2).clone())
    out = FuseViewsd("pred", detail_gain=1.5)({"pred": views, "image": MetaTensor(torch.ones(1, 2, 2, 2))})
    assert out["pred"].shape == (1, 2, 2, 2)
    assert float(out["pred"].unique()) == pytest.approx(fused)
    assert float(out["disagreement"].unique()) == apart


@pytest.mark.parametrize("detail_gain", [0, -1, float("nan"), "much", None, True])
def test_a_stretch_that_is_none_is_refused(detail_gain):
    with pytest.raises(Refusal, match="detail_gain must be a positive number"):
        FuseViewsd("pred", detail_gain=detail_gain)


def test_a_mean_over_the_neighbourhood_is_of_voxels_inside_the_volume_alone():
    """It is a Gaussian mean that takes nothing from beyond the faces; scipy convolves, and divides by the ones."""
    from scipy.ndimage import correlate1d
    from scipy.special import erf

    shape, sigma = (9, 12, 7), 1.3
    torch.manual_seed(3)
    volume = torch.rand(1, *shape)
    places = np.arange(-5, 6)  # int(4 sigma + 0.5)
    kernel = (erf((places + 0.5) / sigma / 2**0.5) - erf((places - 0.5) / sigma / 2**0.5)) / 2

    def smooth(values):
        for axis in range(3):
            values = correlate1d(values, kernel, axis, mode="constant")
        return values

    expected = smooth(volume[0].double().numpy()) / smooth(np.ones(shape))
    assert np.abs(smoothed(volume, sigma)[0].numpy() - expected).max() < 1e-6


def test_without_the_projection_the_prediction_stays():
    data = to_isotropic(scan(thick()))
    data["pred"] = data["image"] + 0.1
    out = DataConsistencyd("pred", detail=1.0, consistent=False, regularisation=1e-5, smoothness=0.2)(data)
    torch.testing.assert_close(out["pred"].as_tensor(), data["pred"].as_tensor())
    assert out["pred"].meta["residual"] > 0.05
