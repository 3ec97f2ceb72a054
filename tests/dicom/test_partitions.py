"""Zero-filled partitions: they are found in headers, reported, and the slice thickness follows from them."""

import logging

import numpy as np
import pydicom
import pytest
from monai.data import MetaTensor

from scripts.data.acceptance import AcceptScand
from scripts.dicom.discovery import find_series, survey
from scripts.dicom.reader import DicomSeriesReader
from scripts.dicom.synthetic_series import write_series

from .conftest import AFFINES, SHAPE, phantom
from .test_dicom_reader import enhanced

AFFINE = AFFINES["oblique"]  # slices 3.6 mm apart
SLICES = SHAPE[2] + 1
PROTOCOL = b"### ASCCONV BEGIN ###\nsKSpace.lPartitions\t = \t64\nsKSpace.dSliceResolution\t = \t%s\n### ASCCONV END"


def series(folder, elements=(), kind="3D", thickness_mm=3.6):
    """Write a series with further elements: (tag, VR, value)."""
    volume = phantom((*SHAPE[:2], SLICES))
    files = write_series(folder, volume, AFFINE, slice_thickness_mm=thickness_mm, acquisition_type=kind)
    for file in files:
        dataset = pydicom.dcmread(file)
        for tag, representation, value in elements:
            dataset.add_new(tag, representation, value)
        dataset.save_as(file)
    return files


def ge(locations):
    return [(0x00210010, "LO", "GEMS_RELA_01"), (0x0021104F, "SS", locations)]


def siemens(resolution):
    return [(0x00290010, "LO", "SIEMENS CSA HEADER"), (0x00291020, "OB", PROTOCOL % resolution)]


def stack(folder):
    (volume,) = survey(folder).volumes
    return volume.stack


def test_a_thickness_above_the_spacing_is_noticed_in_a_3d_acquisition(tmp_path):
    series(tmp_path, thickness_mm=7.2)
    assert stack(tmp_path).noted == "zero-filled partitions: thickness 7.2 mm at a spacing of 3.6 mm"
    series(tmp_path, thickness_mm=7.2, kind="2D")
    assert stack(tmp_path).noted == "overlapping slices: thickness 7.2 mm at a spacing of 3.6 mm"


@pytest.mark.parametrize(
    ("elements", "thickness_mm", "word"),
    [(ge(SLICES // 2), 7.2, "2 slices of each one measured (GE Loc"), (siemens(b"0.625"), 5.76, "1.6 slices of each")],
    ids=["GE", "Siemens"],
)
def test_zero_filling_is_found_in_private_elements(tmp_path, caplog, elements, thickness_mm, word):
    series(tmp_path, elements)
    found = stack(tmp_path)
    assert found.slice_thickness_mm == pytest.approx(thickness_mm, rel=1e-6)
    assert word in found.noted
    (case,) = find_series(tmp_path)
    assert [record.levelno for record in caplog.records if "zero-filled" in record.message] == [logging.WARNING]
    reader = DicomSeriesReader()
    array, meta = reader.get_data(reader.read_case(case))
    image = MetaTensor(array[None], affine=meta["affine"], meta=meta)
    image[0, 0, 0, 0] += 1  # the series is constant, which is refused
    protocol = AcceptScand("image", fewest_slices=1)({"image": image})["image"].meta["protocol"]
    assert protocol.slice_thickness_mm == pytest.approx(thickness_mm, rel=1e-6)
    assert protocol.profile == "fourier"
    assert protocol.thickness_source.startswith("DICOM ")
    assert "SliceThickness" not in protocol.thickness_source
    assert word in protocol.notes


@pytest.mark.parametrize(
    ("elements", "kind"),
    [
        (ge(SLICES), "3D"),
        (ge(SLICES * 2), "3D"),  # fewer slices than locations: a part of a series
        (ge(SLICES // 2 + 1), "3D"),  # not a ratio that GE offers
        (ge(SLICES // 2), "2D"),
        (siemens(b"1.0"), "3D"),
        (siemens(b"0.0"), "3D"),
        (siemens(b"0.5")[1:], "3D"),  # the creator of the private element is missing
        ([], "3D"),
    ],
)
def test_zero_filling_is_not_assumed_without_evidence(tmp_path, elements, kind):
    series(tmp_path, elements, kind)
    found = stack(tmp_path)
    assert found.notes == ()
    assert (found.slice_thickness_mm, found.stated_by) == (3.6, "DICOM SliceThickness")


def test_a_larger_slice_thickness_of_the_header_is_kept(tmp_path):
    series(tmp_path, ge(SLICES // 2), thickness_mm=7.5)
    found = stack(tmp_path)
    assert (found.slice_thickness_mm, found.stated_by) == (7.5, "DICOM SliceThickness")
    assert "zero-filled" in found.noted


@pytest.mark.parametrize(
    ("steps", "modifier", "factor"),
    [
        (4, {}, 2),
        (8, {}, None),
        (10, {}, None),  # oversampled
        (1, {}, None),  # no encoding along the slices
        (4, {"PartialFourier": "YES", "PartialFourierDirection": "SLICE_SELECT"}, None),
        (4, {"PartialFourier": "YES", "PartialFourierDirection": "PHASE"}, 2),
        (4, {"ParallelReductionFactorOutOfPlane": 2.0}, None),
    ],
)
def test_zero_filling_of_enhanced_files_follows_from_the_encoding_steps(tmp_path, steps, modifier, factor):
    files = series(tmp_path / "classic")
    path = tmp_path / "enhanced" / "file.dcm"
    path.parent.mkdir()
    enhanced(path, files)
    dataset = pydicom.dcmread(path)
    fov, more = pydicom.Dataset(), pydicom.Dataset()
    fov.MRAcquisitionPhaseEncodingStepsOutOfPlane = steps
    for keyword, value in modifier.items():
        setattr(more, keyword, value)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    shared.MRFOVGeometrySequence, shared.MRModifierSequence = [fov], [more]
    dataset.save_as(path)
    found = stack(path)
    assert found.reasons == ()
    assert np.isclose(found.slice_thickness_mm, 3.6 * (factor or 1))
    assert bool(found.notes) == bool(factor)
