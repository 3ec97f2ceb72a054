import numpy as np
import pytest

from scripts.dicom.gate import examine

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def stack(z_mm, orientation=AXIAL, spacing=(1.0, 1.0), sideways_mm=(), **known):
    positions = np.zeros((len(z_mm), 3))
    positions[:, 2] = z_mm
    positions[: len(sideways_mm), 0] = sideways_mm
    orientations = np.tile(orientation, (len(z_mm), 1)) if np.ndim(orientation) == 1 else np.array(orientation)
    return examine(positions, orientations, spacing, **known)


def test_slices_in_any_order_are_sorted_along_the_normal():
    found = stack([12, 0, 8, 4, 16])
    assert found.order == (1, 3, 2, 0, 4)
    assert found.slice_spacing_mm == 4
    assert found.reasons == ()
    assert np.allclose(found.affine, np.diag([-1, -1, 4, 1]))


@pytest.mark.parametrize(
    ("z_mm", "text"),
    [
        ([0, 4, 8, 16, 20], "1 slice missing at 12.0 mm"),
        ([0, 4, 16, 20, 24], "2 slices missing at 8.0, 12.0 mm"),
        ([0, 4, 8, 12.5, 16.5], "uneven"),
        ([0, 4, 8, 8, 12], "already taken"),
        ([0, 4, 8, 12], "at least 5"),
        ([0, 4, 8, 12, 90000], "missing"),
    ],
)
def test_unevenly_spaced_positions_are_refused(z_mm, text):
    assert text in "; ".join(stack(z_mm).reasons)


def test_spacing_within_one_percent_is_even():
    assert stack([0, 4.03, 8, 12, 16]).reasons == ()
    assert stack([0, 4.05, 8, 12, 16]).reasons


@pytest.mark.parametrize(
    ("orientation", "text"),
    [
        ((2, 0, 0, 0, 1, 0), "length"),
        ((0, 0, 0, 0, 0, 0), "length"),
        ((1, 0, 0, 0.1, 0.995, 0), "perpendicular"),
        ([AXIAL] * 4 + [(1, 0, 0, 0, 0.9998, 0.02)], "parallel"),
    ],
)
def test_directions_that_span_no_image_plane_are_refused(orientation, text):
    found = stack([0, 4, 8, 12, 16], orientation)
    assert text in found.reasons[0]
    assert found.affine is None


def test_tilt_and_a_shifted_slice_are_refused():
    assert "tilt" in stack([0, 4, 8, 12, 16], sideways_mm=[0, 0.2, 0.4, 0.6, 0.8]).reasons[0]
    assert "tilt" in stack([0, 4, 8, 12, 16], sideways_mm=[0, 0, 0.3, 0, 0]).reasons[0]
    assert not stack([0, 4, 8, 12, 16], sideways_mm=[0, 0.003, 0, 0, 0]).reasons


@pytest.mark.parametrize(
    ("known", "text"),
    [
        ({"slice_thickness_mm": 3.0}, "gap of 1 mm"),
        ({"slice_thickness_mm": 6.0, "acquisition_type": "2D"}, "overlapping"),
        ({"slice_thickness_mm": 8.0, "acquisition_type": "3D"}, "zero-filled"),
        ({"slice_spacing_tag_mm": 3.0}, "positions win"),
        ({}, "absent"),
    ],
)
def test_what_is_unusual_is_noted(known, text):
    found = stack([0, 4, 8, 12, 16], **known)
    assert found.reasons == ()
    assert text in found.noted
    assert [note.warns for note in found.notes if text in note.text] == [text in ("zero-filled", "positions win")]


def test_pixels_of_no_size_are_refused():
    assert "not possible" in stack([0, 4, 8, 12, 16], spacing=(1.0, 0.0)).reasons[0]
    assert "not possible" in stack([0, 4, 8, 12, 16], spacing=(1.0, 1e300)).reasons[0]


def test_one_slice_without_a_distance_is_refused():
    assert stack([4], minimum_slices=1).reasons == ("the distance of slices is not known",)
    assert stack([4], minimum_slices=1, slice_thickness_mm=3.0).slice_spacing_mm == 3


def test_positions_outside_any_scanner_are_refused():
    assert "beyond any scanner" in stack([0, 4, 8, 12, 1e308]).reasons[0]


@pytest.mark.parametrize(
    ("spacing", "known", "text"),
    [
        ((1.0, 1.0), {"slice_thickness_mm": 0.003}, "SliceThickness 0.003 mm is implausible: is it in metres (3 mm)"),
        ((1.0, 1.0), {"slice_thickness_mm": 0.01}, "is it in metres (10 mm)"),
        ((1.0, 1.0), {"slice_thickness_mm": 3000.0}, "is it in micrometres (3 mm)"),
        ((900.0, 900.0), {}, "PixelSpacing 900 mm is implausible: is it in micrometres (0.9 mm)"),
        ((0.0009, 0.0009), {}, "PixelSpacing 0.0009 mm is implausible: is it in metres (0.9 mm)"),
        ((1e-9, 1e-9), {}, "is its unit wrong"),
    ],
)
def test_lengths_in_a_wrong_unit_are_refused_with_the_unit_as_the_suspect(spacing, known, text):
    (reason,) = stack([0, 4, 8, 12, 16], spacing=spacing, **known).reasons
    assert text in reason


def test_positions_in_a_wrong_unit_are_refused():
    assert "distance of slices 0.004 mm is implausible" in stack(np.arange(6) * 0.004).reasons[-1]
    assert "distance of slices 4000 mm is implausible" in stack(np.arange(6) * 4000).reasons[-1]


@pytest.mark.parametrize("size_mm", [0.04, 0.2, 10.0])
def test_mice_and_thick_slices_are_plausible(size_mm):
    assert stack(np.arange(6) * size_mm, spacing=(0.02, 0.02), slice_thickness_mm=size_mm).reasons == ()


@pytest.mark.parametrize(
    ("height_mm", "shift_mm", "refused"),
    [(20, 0.008, False), (20, 0.015, True), (2.5, 0.004, False), (2.5, 0.007, True)],
)
def test_a_tilt_is_refused_from_its_limit_on(height_mm, shift_mm, refused):
    z = np.linspace(0, height_mm, 6)
    assert any("tilt" in reason for reason in stack(z, sideways_mm=shift_mm * z / height_mm).reasons) == refused


@pytest.mark.parametrize(
    ("turned", "skewed", "refused"), [(1e-4, 0, False), (4e-4, 0, True), (0, 5e-4, False), (0, 2e-3, True)]
)
def test_directions_are_refused_from_their_limits_on(turned, skewed, refused):
    slices = [(1, 0, 0, skewed, 1, 0)] * 4 + [(1, 0, 0, skewed, 1, turned)]
    assert bool(stack(np.arange(5) * 4.0, slices).reasons) == refused
