"""Magnitude, phase and computed maps under the names that scanners give them, and without a name."""

import pydicom
import pytest

from scripts.dicom.discovery import find_series, survey
from scripts.dicom.synthetic_series import write_series

from .conftest import AFFINES, phantom


def component(folder, image_type, **header):
    write_series(folder, phantom(), AFFINES["axial"], header={"ImageType": image_type, **header})
    (volume,) = survey(folder).volumes
    return volume.component


def item(**values):
    dataset = pydicom.Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize(
    "values",
    [
        ("DIXON", "FAT_FRACTION"),
        ("DIXON", "WATER_FRACTION"),
        ("DIXON", "FATFRAC"),
        ("FF", "FF"),
        ("QMAP", "T1"),
        ("M", "T1MAP"),
        ("T2 MAP", "T2", "UNSPECIFIED"),
        ("M", "T2_STAR_MAP"),
        ("M", "R2_STAR"),
        ("MULTIECHO", "T2_STAR"),
        ("PERFUSION", "TTP"),
        ("PERFUSION", "RCBV"),
        ("PERFUSION", "KTRANS"),
        ("PERFUSION", "RELCBF"),
        ("PERFUSION", "RELCCBV"),
        ("PERFUSION", "CORRCBV"),
        ("DYNAMIC", "WASH_IN"),
        ("M", "WASH OUT"),
        ("ASL", "CBF"),
        ("DIFFUSION", "EXPONENTIAL"),
        ("DIFFUSION", "FA"),
        ("ADC_10E-6", "M"),
        ("MIN IP",),
        ("MINIP",),
        ("MAX_IP",),
        ("M", "ND", "MIP"),
        ("PROJECTION IMAGE",),
        ("M", "SUB", "ND"),
    ],
)
def test_computed_maps_are_refused(tmp_path, values):
    with pydicom.config.disable_value_validation():
        assert component(tmp_path, ["DERIVED", "PRIMARY", *values]).startswith("map (")
    assert "only magnitude images" in find_series(tmp_path)[0].refusal


@pytest.mark.parametrize(
    "values",
    [
        ("DIXON", "IN_PHASE"),
        ("DIXON", "OPP_PHASE"),
        ("DIXON", "OUT_OF_PHASE"),
        ("DIXON", "OPPOSED PHASE"),
        ("DIXON", "IN PHASE"),
        ("DIXON", "INPHASE"),
        ("OUTPHASE", "DIXON"),
        ("ARTERIAL_PHASE",),
        ("PORTAL_VENOUS_PHASE", "M"),
        ("DIXON", "WATER"),
        ("DIXON", "FAT"),
        ("DIFFUSION", "TRACEW", "DIS2D"),
        ("T1", "NONE"),
        ("T2_STAR", "NONE"),
        ("PERFUSION", "NONE"),
        ("M", "ND", "NORM", "FM3_2", "P2"),
    ],
)
def test_magnitude_images_are_accepted_whatever_their_name_resembles(tmp_path, values):
    assert component(tmp_path, ["DERIVED", "PRIMARY", *values]) == "magnitude"


@pytest.mark.parametrize(
    ("stated", "values", "expected"),
    [
        ("MAGNITUDE", ("PHASE", "NONE"), "magnitude"),
        ("PHASE", ("M", "NONE"), "phase"),
        ("REAL", ("T1", "NONE"), "real"),
        ("MAGNITUDE", ("DIFFUSION", "ADC"), "map (ADC)"),
        ("MIXED", ("P", "NONE"), "phase"),
    ],
)
def test_the_stated_component_counts_before_words(tmp_path, stated, values, expected):
    assert component(tmp_path, ["DERIVED", "PRIMARY", *values], ComplexImageComponent=stated) == expected


def test_a_phase_image_of_the_in_phase_echo_is_a_phase_image(tmp_path):
    assert component(tmp_path, ["ORIGINAL", "PRIMARY", "IN_PHASE", "P"]) == "phase"


@pytest.mark.parametrize("unit", ["ms", "PCT", "%", "Hz", "1/s", "10^-6 mm2/s", "ml/100g/min", "ppm"])
def test_values_with_a_unit_are_a_map_under_any_name(tmp_path, unit):
    assert component(tmp_path, ["DERIVED", "PRIMARY", "OTHER"], RescaleType=unit).startswith("map")
    mapping = item(MeasurementUnitsCodeSequence=[item(CodeValue=unit)])
    header = {"RealWorldValueMappingSequence": [mapping]}
    assert component(tmp_path / "2", ["DERIVED", "PRIMARY", "OTHER"], **header).startswith("map")


@pytest.mark.parametrize("unit", ["US", "normalized", "1", "[arb'U]", "{counts}", "no units", "", "HU"])
def test_values_in_arbitrary_units_are_no_map(tmp_path, unit):
    mapping = item(MeasurementUnitsCodeSequence=[item(CodeValue=unit)])
    header = {"RealWorldValueMappingSequence": [mapping], "RescaleType": unit}
    assert component(tmp_path, ["ORIGINAL", "PRIMARY", "OTHER"], **header) == "magnitude"


def test_the_name_of_a_map_never_quotes_the_header(tmp_path):
    with pydicom.config.disable_value_validation():
        component(tmp_path, ["DERIVED", "PRIMARY", "MUSTERMANN T1MAP", "MUSTERMANN_FRACTION"])
    case = find_series(tmp_path)[0]
    assert "MUSTERMANN" not in f"{case.name} {case.refusal}".upper()
