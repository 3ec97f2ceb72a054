import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from scripts.data.acceptance import AcceptScand
from scripts.data.slice_profile import EstimateProfiled
from scripts.data.transforms import IntensityScale, grid_of
from scripts.physics.acquisition import Acquisition, SliceGeometry

SPACING_MM, PIXEL_MM = 6.0, 1.5


def scan(profile="gauss", thickness_mm=5.1, count=30, **header) -> dict:
    """Accepted slices of a texture, 6 mm apart on pixels of 1.5 mm; the header holds what is given."""
    size = 4 * count
    texture = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((64, 64, size)), 1.0)
    A = Acquisition(SliceGeometry(size, count, SPACING_MM / PIXEL_MM, thickness_mm / PIXEL_MM, profile))
    slices = A(torch.from_numpy(texture)).float()[None]
    known = {"noise": 0.0, "intensity": IntensityScale(0.0, 1.0), "acquired_pixel_mm": (PIXEL_MM, PIXEL_MM)}
    image = MetaTensor(slices, meta={**header, **known})
    image.affine = torch.diag(torch.tensor([PIXEL_MM, PIXEL_MM, SPACING_MM, 1.0], dtype=torch.float64))
    return AcceptScand("image")({"image": image})


def estimated(**kinds) -> MetaTensor:
    return EstimateProfiled("image")(scan(**kinds))["image"]


def test_where_the_profile_is_unknown_too_the_assumption_stays_and_the_log_has_what_is_seen(caplog):
    caplog.set_level("INFO")
    image = estimated(profile="fourier", thickness_mm=6.0)
    assert image.meta["protocol"] == scan()["image"].meta["protocol"]
    (line,) = [r.getMessage() for r in caplog.records if "the spectrum" in r.getMessage()]
    assert "looks like that of slices" in line
    assert "mm thick (fourier)" in line
    assert "6 mm, the slice spacing, and rect are assumed" in line


def test_a_stated_type_of_acquisition_stays():
    protocol = estimated(acquisition_type="2D").meta["protocol"]
    assert protocol.profile == "gauss"
    assert protocol.profile_source == "2D acquisition (header)"
    assert protocol.slice_thickness_mm == pytest.approx(5.1, rel=0.1)
    low, high = map(float, protocol.thickness_source.split(", ")[1].removesuffix(" mm").split(" to "))
    assert low < protocol.slice_thickness_mm < high


def test_a_stated_thickness_stays_and_is_not_warned_of_where_it_is_right():
    image = estimated(slice_thickness_mm=5.1)
    assert image.meta["protocol"] == scan(slice_thickness_mm=5.1)["image"].meta["protocol"]
    assert not image.meta.get("warnings")


@pytest.mark.parametrize("stated", [1.5, 11.0])
def test_a_stated_thickness_that_the_spectrum_contradicts_stays_with_a_warning_in_one_line(stated, caplog):
    image = estimated(slice_thickness_mm=stated, thickness_source="DICOM SliceThickness", acquisition_type="2D")
    assert image.meta["protocol"].slice_thickness_mm == stated
    (warning,) = image.meta["warnings"]
    assert f"slice thickness {stated:.3g} mm (DICOM SliceThickness), but the spectrum is that of slices " in warning
    assert "\n" not in warning
    assert warning in caplog.text


def test_too_few_slices_keep_the_assumption_and_say_so(caplog):
    caplog.set_level("INFO")
    image = estimated(count=9)
    assert image.meta["protocol"] == scan(count=9)["image"].meta["protocol"]
    assert (
        "the spectrum does not tell the slice thickness; 6 mm, the slice spacing, and rect are assumed" in caplog.text
    )


def test_the_voxels_stay():
    before, after = scan()["image"], estimated()
    assert torch.equal(before.as_tensor(), after.as_tensor())
    assert np.array_equal(grid_of(before).affine, grid_of(after).affine)
