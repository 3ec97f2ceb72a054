import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from scripts.data.acceptance import ScanProtocol
from scripts.data.trained_range import TrainedRanged
from scripts.data.transforms import IntensityScale
from scripts.geometry.errors import Refusal

RANGES = {
    "factor": [2.0, 7.0],
    "thickness_over_spacing": [0.7, 1.2],
    "pixel_mm": [0.5, 3.0],
    "brightness": [0.2, 0.7],
    "noise": [0.0, 0.05],
}


def scan(pixel_mm=1.0, spacing_mm=4.0, thickness_mm=4.0, level=0.4, noise=0.01) -> dict:
    """A cylinder of one tissue in air, with white noise."""
    x, y = np.meshgrid(np.arange(48) - 23.5, np.arange(48) - 23.5, indexing="ij")
    volume = np.repeat((level * (np.hypot(x, y) < 20))[..., None], 8, axis=2)
    volume = volume + noise * np.random.default_rng(0).standard_normal(volume.shape)
    protocol = ScanProtocol(2, spacing_mm, thickness_mm, "rect", "", "", "")
    meta = {"protocol": protocol, "noise": 100 * noise, "intensity": IntensityScale(offset=0.0, scale=100.0)}
    image = MetaTensor(torch.tensor(volume[None], dtype=torch.float32), meta=meta)
    image.affine = torch.diag(torch.tensor([pixel_mm, pixel_mm, spacing_mm, 1.0], dtype=torch.float64))
    return {"image": image}


def warned(**kinds) -> list[str]:
    return TrainedRanged("image", RANGES)(scan(**kinds))["image"].meta["warnings"]


def test_a_scan_like_those_of_the_training_gives_no_warning():
    assert warned() == []


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ({"spacing_mm": 15.0, "thickness_mm": 15.0}, "anisotropy factor 15 is outside the trained range 2 to 7"),
        ({"thickness_mm": 1.0}, "slice thickness over slice spacing 0.25"),
        ({"pixel_mm": 0.1, "spacing_mm": 0.4, "thickness_mm": 0.4}, "in-plane pixel size in mm 0.1 "),
        ({"level": 1.0}, "mean intensity of the body"),
        ({"noise": 0.08, "level": 0.6}, "noise (share of the intensity scale) 0.08 is outside"),
    ],
)
def test_each_quantity_outside_is_named(kind, words, caplog):
    found = warned(**kind)
    assert len(found) == 1
    assert words in found[0]
    assert found[0] in caplog.text


@pytest.mark.parametrize("ranges", [{"age": [0, 1]}, {"factor": [3, 2]}, {"factor": [1, 2, 3]}])
def test_a_range_that_is_none_is_refused(ranges):
    with pytest.raises(Refusal, match="trained_range"):
        TrainedRanged("image", ranges)
