import json
import logging

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from scripts.data.acceptance import AcceptScand
from scripts.data.transforms import (
    DataConsistencyd,
    FuseViewsd,
    InterpolateSlicesd,
    OriginalIntensityd,
    ScaleIntensityRobustd,
    smoothed,
)
from scripts.data.uncertainty import Uncertaintyd, features_of, read_model
from scripts.geometry.checksums import METADATA, MODELS
from scripts.geometry.errors import Refusal
from scripts.physics.uncertainty import Scale, UncertaintyModel

Q = ((2.0, 3.0), (7.0, 9.0))
MODEL = UncertaintyModel(
    [Scale(1, {"gradient": 1.0}, {"rect": Q}), Scale(2, {"disagreement": 1.0}, {"rect": Q})], ("a", "b")
)


def finished(predictions: int = 2, apart: float = 0.2, spacing: float = 4.0, noise: float = 0.0) -> dict:
    """A scan of random slices with predictions around the cubic interpolation, after the projection."""
    generator = torch.Generator().manual_seed(1)
    affine = torch.diag(torch.tensor([1.0, 1.0, spacing, 1.0]))
    scan = MetaTensor(1000 * torch.rand(1, 20, 20, 6, generator=generator), affine=affine)
    data = ScaleIntensityRobustd("image", 0.5, 99.5)(AcceptScand("image")({"image": scan}))
    data["image"].meta["noise"] = noise * data["image"].meta["intensity"].scale
    data = InterpolateSlicesd("image")(data)
    offsets = apart * torch.linspace(-1, 1, predictions).reshape(-1, 1, 1, 1) if predictions > 1 else 0.0
    pred = data["image"].as_tensor() + offsets
    data["pred"] = MetaTensor(pred.expand(predictions, *pred.shape[1:]).clone(), meta=dict(data["image"].meta))
    data["pred"].affine = data["image"].affine
    data = FuseViewsd("pred", 1.0)(data)
    return DataConsistencyd("pred", detail=1, consistent=True, regularisation=1e-5, smoothness=0.2)(data)


def half_width(data: dict, model: UncertaintyModel = MODEL, **more) -> np.ndarray:
    return Uncertaintyd("uncertainty", model, **more)(data)["uncertainty"].numpy()


def test_it_is_the_calibrated_quantile_times_the_features():
    data = finished(apart=0.2)
    q = Q[0][1] * (Q[1][1] / Q[0][1]) ** (np.log(4 / 2) / np.log(7 / 2))
    # two predictions 0.2 from their mean: 0.2 sqrt(2), as the deviation of a sample is corrected for its size
    assert np.allclose(half_width(data), q * 0.2 * 2**0.5, rtol=1e-3)
    wider = half_width(finished(apart=0.3))
    assert np.allclose(wider / half_width(data), 1.5, rtol=1e-3)


def test_a_single_prediction_has_the_scale_without_disagreement():
    data = finished(predictions=1)
    slope = torch.gradient(data["pred"].as_tensor(), dim=-1)[0]
    expected = smoothed(slope.square(), 1.0).sqrt()
    found = half_width(data)
    assert np.corrcoef(found.ravel(), expected.numpy().ravel())[0, 1] > 0.999


def test_it_is_in_the_units_of_the_scan_and_nowhere_zero():
    data = Uncertaintyd("uncertainty", MODEL)(finished(apart=0.0))
    assert float(data["uncertainty"].min()) > 0
    restored = OriginalIntensityd(["pred", "uncertainty"], ["uncertainty"])(data)
    scale = data["pred"].meta["intensity"].scale
    assert torch.allclose(restored["uncertainty"].as_tensor(), data["uncertainty"].as_tensor() * scale)


def test_it_grows_with_the_factor_and_outside_the_trained_range():
    widths = [half_width(finished(spacing=spacing)).mean() for spacing in (4.0, 7.0, 10.0)]
    assert widths[0] < widths[1] < widths[2]
    data = finished()
    assert np.allclose(half_width(data, ranges={"pixel_mm": [0.1, 0.8]}), 1.25 * half_width(data))
    assert np.allclose(half_width(data, ranges={"pixel_mm": [0.1, 1.2], "factor": [2, 3]}), half_width(data))


def test_the_noise_of_a_thin_voxel_is_a_feature():
    """A box of four voxels averages four of them: its noise is half of theirs."""
    assert features_of(finished(noise=0.02))["noise"] == pytest.approx(0.04, rel=1e-3)


def test_other_weights_than_those_of_the_calibration_are_logged(tmp_path, caplog):
    path = tmp_path / "model.json"
    path.write_text(json.dumps(MODEL.as_json()))
    with caplog.at_level(logging.WARNING):
        read_model(path, ["a"])
        assert not caplog.records
        read_model(path, ["a", "c"])
    assert "calibrated for other weights" in caplog.text


@pytest.mark.parametrize("sharpness", [0.5, 0])
def test_another_sharpness_than_that_of_the_calibration_is_one_line_of_information(tmp_path, caplog, sharpness):
    path = tmp_path / "model.json"
    path.write_text(json.dumps({**MODEL.as_json(), "sharpness": 0.5}))
    with caplog.at_level(logging.INFO):
        read_model(path, ["a"], sharpness)
        read_model(path)
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    expected = "the uncertainty was calibrated for sharpness 0.5, not 0: "
    assert [line.startswith(expected) for line in lines] == ([True] if sharpness == 0 else [])


def test_a_file_without_a_model_is_refused_in_one_line(tmp_path):
    path = tmp_path / "model.json"
    for text in ("", "[]", "{}", json.dumps({**MODEL.as_json(), "scales": []})):
        path.write_text(text)
        with pytest.raises(Refusal, match=r"model\.json: no model of the uncertainty"):
            read_model(path)
    with pytest.raises(Refusal, match="give --uncertainty_path"):
        read_model(tmp_path / "absent.json")


def test_the_shipped_model_of_stacks_was_fitted_for_the_faithful_weights_and_up_to_three_stacks():
    model = read_model(MODELS / "uncertainty_stacks.json")
    assert [scale.predictions for scale in model.scales] == [1, 2, 3]
    shipped = json.loads(METADATA.read_text(encoding="utf-8"))["weights_sha256"]
    assert list(model.weights_sha256) == [shipped["model.pt"]]  # else: python -m benchmarks.stacks_uncertainty fit


def test_the_shipped_model_covers_one_prediction_and_more_and_the_shipped_weights():
    model = read_model(MODELS / "uncertainty.json")
    assert model.scales[0].predictions == 1
    assert "disagreement" in model.scales[-1].exponents
    for scale in model.scales:
        assert set(scale.quantiles) >= {"rect", "gauss", "fourier"}
        for profile in scale.quantiles:
            assert scale.quantile(profile, 12.0) > scale.quantile(profile, 4.0)
    shipped = json.loads(METADATA.read_text(encoding="utf-8"))["weights_sha256"]
    by_default = {shipped["model.pt"], shipped["model_sharp.pt"]}
    assert set(model.weights_sha256) == by_default  # else: python -m benchmarks.uncertainty fit
