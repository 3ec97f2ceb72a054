import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from scripts.data.acceptance import AcceptScand, ScanProtocol
from scripts.data.case import Case
from scripts.geometry.errors import Refusal

from .thick_scans import oblique_affine, voxels


def scan(shape=(24, 20, 8), spacing=(1.0, 1.0, 4.0), data=None, affine=None, **meta) -> dict:
    data = torch.as_tensor(np.float32(voxels(shape) if data is None else data))[None]
    image = MetaTensor(data, affine=torch.as_tensor(oblique_affine(spacing) if affine is None else affine))
    image.meta.update({"filename_or_obj": "/data/a.nii.gz", **meta})
    return {"image": image}


def protocol(data, **settings) -> ScanProtocol:
    return accept(data, **settings)["image"].meta["protocol"]


def accept(data, **settings) -> dict:
    return AcceptScand("image", **settings)(data)


def test_nothing_known_gives_rect_and_the_spacing(caplog):
    with caplog.at_level(logging.INFO):
        found = protocol(scan())
    assert found.as_row() == {
        "through_plane_axis": 2,
        "slice_spacing_mm": pytest.approx(4.0),
        "slice_thickness_mm": pytest.approx(4.0),
        "profile": "rect",
        "axis_source": "largest spacing",
        "thickness_source": "unknown, taken equal to the slice spacing",
        "profile_source": "acquisition type unknown",
    }
    (line,) = [r.getMessage() for r in caplog.records]
    assert line.startswith("a.nii.gz: through-plane axis 2 (largest spacing)")
    assert "thickness 4 mm (unknown, taken equal to the slice spacing), profile rect" in line


@pytest.mark.parametrize(("kind", "profile"), [("2D", "gauss"), ("3D", "fourier")])
def test_the_header_decides_where_no_setting_does(kind, profile):
    found = protocol(
        scan(
            spacing=(1.0, 4.0, 1.0),
            slice_thickness_mm=3.0,
            thickness_source="DICOM SliceThickness",
            acquisition_type=kind,
            acquisition_type_source="DICOM MRAcquisitionType",
            through_plane_axis=1,
        ),
        isotropic_spacing_mm=0.5,
    )
    assert (found.profile, found.slice_thickness_mm, found.through_plane_axis) == (profile, 3.0, 1)
    assert found.thickness_source == "DICOM SliceThickness"
    assert found.profile_source == f"{kind} acquisition (DICOM MRAcquisitionType)"
    assert found.slice_spacing_mm == pytest.approx(4.0)


def test_settings_go_before_the_header():
    found = protocol(
        scan(slice_thickness_mm=3.0, acquisition_type="3D", through_plane_axis=2),
        through_plane_axis=0,
        slice_thickness_mm=0.9,
        slice_profile="rect",
        isotropic_spacing_mm=0.5,
    )
    assert (found.through_plane_axis, found.slice_thickness_mm, found.profile) == (0, 0.9, "rect")
    assert {found.axis_source, found.thickness_source, found.profile_source} == {
        "setting through_plane_axis",
        "setting slice_thickness_mm",
        "setting slice_profile",
    }


@pytest.mark.parametrize(
    "setting",
    [
        {"through_plane_axis": 3},
        {"through_plane_axis": "z"},
        {"through_plane_axis": True},
        {"through_plane_axis": None},
        {"slice_profile": "box"},
        {"slice_thickness_mm": 0},
        {"slice_thickness_mm": "3"},
        {"slice_thickness_mm": float("nan")},
    ],
)
def test_unknown_protocol_settings_are_refused_at_once(setting):
    with pytest.raises(Refusal, match=next(iter(setting))):
        AcceptScand("image", **setting)


@pytest.mark.parametrize(
    "setting",
    [
        {"smallest_window_voxels": 0},
        {"fewest_slices": 2.5},
        {"largest_result_voxels": 0},
        *({"isotropic_spacing_mm": value} for value in (-1, 1e-300, 0.001, 51, 1e30, float("inf"), "fine", None)),
    ],
)
def test_unknown_acceptance_settings_are_refused_at_once(setting):
    with pytest.raises(Refusal, match=next(iter(setting))):
        AcceptScand("image", **setting)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (
            {"isotropic_spacing_mm": 0.06},  # of the issue, there 800 x 800 x 667 voxels
            r"voxels of 0.06 mm are 66.7 times finer than 4 mm \(at most 32\): give --isotropic_spacing_mm 0.125",
        ),
        (
            {"isotropic_spacing_mm": 0.13, "largest_result_voxels": 7_000_000},
            r"the result of 185 x 154 x 246 voxels would take about 1.29 GiB of memory \(at most 7e\+06 voxels\)",
        ),
    ],
)
def test_the_size_of_the_result_is_bounded_before_anything_is_computed(settings, reason):
    with pytest.raises(Refusal, match=reason):
        accept(scan(), **settings)


def test_what_a_refusal_of_the_size_advises_is_accepted():
    accept(scan(), isotropic_spacing_mm=0.125)
    accept(scan(), isotropic_spacing_mm=0.13, largest_result_voxels=185 * 154 * 246)


def test_the_largest_result_of_the_default_is_the_issues_example_no_more():
    """800 x 800 x 667 voxels of 0.125 mm, from a scan of 100 x 100 x 83 mm."""
    with pytest.raises(Refusal, match=r"800 x 800 x 664 voxels would take about 30.5 GiB of memory \(at most 3e\+08"):
        accept(scan(shape=(20, 20, 21), spacing=(5, 5.0, 3.952)), isotropic_spacing_mm=0.125, through_plane_axis=2)


@pytest.mark.parametrize(
    "spacing", [(1e-6, 1e-6, 4e-6), (1e30, 1e30, 4e30), (0.009, 0.009, 4), (1, 1, 51), (1, 1e-6, 4)]
)
def test_implausible_pixels_are_refused_with_the_unit_as_the_suspect(spacing):
    with pytest.raises(Refusal, match=r"implausible \(expected 0.01 to 50 mm\): is the unit of length wrong"):
        accept(scan(spacing=spacing), isotropic_spacing_mm=1.0)


def test_the_memory_is_said_before_it_is_taken(caplog):
    with caplog.at_level(logging.INFO):
        accept(scan(shape=(256, 256, 45), spacing=(1.3, 1.3, 6.0)))
    assert "; result 256 x 256 x 208 voxels, about 1.8 GiB of memory" in caplog.text


def test_a_good_scan_is_taken_unchanged():
    case = scan()
    taken = accept(case, smallest_window_voxels=16)
    assert torch.equal(taken["image"].as_tensor(), case["image"].as_tensor())


def with_value(value):
    data = voxels().astype(np.float32)
    data[3, 4, 5] = value
    return data


def sheared():
    affine = oblique_affine()
    affine[0, 2] += 1.0
    return affine


BAD = {
    "nan": (scan(data=with_value(np.nan)), {}, "1 voxels are NaN or infinite"),
    "inf": (scan(data=with_value(np.inf)), {}, "1 voxels are NaN or infinite"),
    "one huge voxel": (scan(data=with_value(3e38)), {}, r"intensities up to 3e\+38 \(at most 1e\+15\)"),
    "constant": (scan(data=np.full((24, 20, 8), 7)), {}, "constant volume"),
    "few slices": (scan(shape=(24, 20, 4)), {}, "4 slices along axis 2: at least 5"),
    "tie": (scan(spacing=(1, 4, 4)), {}, "through_plane_axis"),
    "isotropic": (scan(spacing=(1, 1, 1.02)), {}, "already isotropic"),
    "set axis is thin": (scan(), {"through_plane_axis": 0}, "no thicker than|no thicker"),
    "singular": (scan(affine=np.diag([1.0, 1, 0, 1])), {}, "singular"),
    "nan affine": (scan(affine=np.diag([1.0, np.nan, 1, 1])), {}, "finite 4 x 4"),
    "shear": (scan(affine=sheared()), {}, "not perpendicular"),
    "thickness 0": (scan(slice_thickness_mm=0.0, thickness_source="DICOM"), {}, r"0 mm \(DICOM\) is not positive"),
    "thickness nan": (scan(slice_thickness_mm=float("nan")), {}, "is not positive"),
    "too thick": (scan(slice_thickness_mm=9.0), {}, "over 2 x the slice spacing 4 mm"),
    "set too thick": (scan(), {"slice_thickness_mm": 8.5}, "setting slice_thickness_mm"),
    "4-D": (scan(shape=(24, 20, 8, 3)), {}, "not one 3-D volume"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_scans_are_refused_by_name_in_one_line(name):
    case, settings, reason = BAD[name]
    with pytest.raises(Refusal, match=reason) as refusal:
        accept(case, **settings)
    assert str(refusal.value).startswith("a.nii.gz: ")
    assert "\n" not in str(refusal.value)


def test_a_volume_smaller_than_the_window_is_refused():
    with pytest.raises(Refusal, match="24 x 20 x 32 isotropic voxels, the network's smallest window is 21"):
        accept(scan(), smallest_window_voxels=21)
    with pytest.raises(Refusal, match="12 x 10 x 16 isotropic voxels"):
        accept(scan(), smallest_window_voxels=20, isotropic_spacing_mm=2.0)


def test_thickness_of_twice_the_spacing_is_taken():
    accept(scan(slice_thickness_mm=8.0))


def test_all_reasons_are_named_at_once():
    data = voxels((24, 20, 4)).astype(np.float32)
    data[0] = np.nan
    with pytest.raises(Refusal) as refusal:
        accept(scan(data=data, slice_thickness_mm=20.0), smallest_window_voxels=64)
    for reason in ("80 voxels are NaN", "over 2 x", "4 slices", "smallest window"):
        assert reason in str(refusal.value)


def test_a_tie_is_settled_by_the_setting_or_by_dicom():
    assert protocol(scan(spacing=(1, 4, 4)), through_plane_axis=1).through_plane_axis == 1
    assert protocol(scan(spacing=(1, 4, 4), through_plane_axis=2)).axis_source == "slices as stored"


def test_a_dicom_case_and_a_frame_are_named():
    bad = np.full((24, 20, 8), 7)
    with pytest.raises(Refusal, match=r"^3_t2: constant"):
        accept({**scan(data=bad), "case": Case("3_t2", (Path("1.dcm"),), "dicom")})
    with pytest.raises(Refusal, match=r"^a\.nii\.gz, frame 2: constant"):
        accept({**scan(data=bad), "case": Case("a_f02", (Path("a.nii.gz"),), frame=2)})


def test_a_stated_spacing_that_disagrees_is_said_aloud(caplog):
    protocol(scan(stated_slice_spacing_mm=5.0))
    assert "the sidecar says 5 mm between slices, the affine 4 mm" in caplog.text


def test_a_near_isotropic_scan_is_taken_without_a_protocol_where_it_is_welcome():
    taken = accept(scan(spacing=(1, 1, 1.02)), near_isotropic=True)
    assert "protocol" not in taken["image"].meta
    assert "protocol" in accept(scan(), near_isotropic=True)["image"].meta
    with pytest.raises(Refusal, match="constant"):
        accept(scan(spacing=(1, 1, 1.02), data=np.full((24, 20, 8), 7)), near_isotropic=True)
