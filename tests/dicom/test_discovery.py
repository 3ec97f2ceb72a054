import itertools
import logging
import os
import random
from pathlib import Path

import numpy as np
import pydicom
import pytest

from scripts.data.discovery import find_nifti
from scripts.dicom.discovery import find_series, survey
from scripts.dicom.reader import DicomSeriesReader
from scripts.dicom.synthetic_series import write_series
from scripts.geometry.errors import Refusal

from .conftest import AFFINES, SHAPE, phantom

AFFINE = AFFINES["oblique"]


def only(path, **options):
    cases = find_series(path, **options)
    assert len(cases) == 1
    return cases[0]


def refusal(path):
    return only(path).refusal


def test_a_path_without_dicom_gives_nothing(tmp_path):
    (tmp_path / "notes.txt").write_text("no scan")
    (tmp_path / "short").write_bytes(b"\x08\x00")
    assert find_series(tmp_path) == []
    assert find_series(tmp_path / "absent") == []
    assert survey(tmp_path).ignored == 2


def test_folders_and_files_of_a_series_together_give_it_once(tmp_path):
    files = write_series(tmp_path / "a", phantom(), AFFINE)
    (whole,) = find_series(tmp_path)
    assert [case.files for case in find_series([tmp_path, tmp_path / "a"])] == [whole.files]
    assert [case.files for case in find_series(list(files))] == [whole.files]


def test_scrambled_names_and_depths_come_back_in_slice_order(tmp_path, affine):
    names = random.Random(0).sample(["a", "b/c.dcm", "b/d/e.IMA", "0", "f.img", "DICOM/00/x", "zz"], 7)
    files = write_series(tmp_path, phantom(), affine, file_name=lambda index: names[index])
    (tmp_path / "b" / "notes.txt").write_text("x")
    case = only(tmp_path)
    assert case.refusal is None
    # Slices run along the normal of rows and columns, which may be against the direction they were written in.
    assert list(map(str, case.files)) in (files, files[::-1])
    assert case.name == "001_T2_TSE"
    assert case.format == "dicom"
    assert case.frame is None


def test_files_without_preamble_and_meta_are_found(tmp_path, series):
    for file in series:
        dataset = pydicom.dcmread(file)
        del dataset.file_meta
        dataset.save_as(file, implicit_vr=True, little_endian=True, enforce_file_format=False)
    case = only(tmp_path)
    assert case.refusal is None
    reader = DicomSeriesReader()
    array, _ = reader.get_data(reader.read_case(case))
    assert array.shape == phantom().shape


def test_links_in_circles_and_to_nowhere_are_safe(tmp_path, series):
    (tmp_path / "series" / "loop").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    os.mkfifo(tmp_path / "pipe")
    assert len(only(tmp_path).files) == len(series)


def test_a_thousand_folders_within_each_other_do_not_stop_the_search(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(1100):
        Path("d").mkdir()  # by relative paths, because the absolute path exceeds the longest one allowed
        os.chdir("d")
    write_series(tmp_path / "e", phantom(), AFFINES["axial"])
    assert [case.refusal for case in find_series(tmp_path)] == [None]
    assert find_nifti(tmp_path) == []
    for _ in range(1100):
        os.chdir("..")
        Path("d").rmdir()


def test_echoes_and_components_of_one_series_become_volumes(tmp_path):
    for echo, component in itertools.product((1, 2), ("M", "P", "R")):
        write_series(
            tmp_path / f"{echo}{component}",
            phantom(),
            AFFINE,
            header=lambda index, echo=echo, component=component: {
                "EchoTime": str(10 * echo),
                "EchoNumbers": str(echo),
                "ImageType": ["ORIGINAL", "PRIMARY", component, "ND"],
                "SOPInstanceUID": f"1.2.{echo}.{ord(component)}.{index}",
            },
        )
    cases = find_series(tmp_path)
    assert len(cases) == 6
    assert [case.name for case in cases if case.refusal is None] == [
        "001_T2_TSE_TE10_magnitude",
        "001_T2_TSE_TE20_magnitude",
    ]
    assert sum("phase image; only magnitude" in (case.refusal or "") for case in cases) == 2
    assert all(case.refusal is None for case in find_series(tmp_path, components=("magnitude", "phase", "real")))


@pytest.mark.parametrize(
    ("image_type", "component"),
    [
        (["ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE"], "magnitude"),
        (["ORIGINAL", "PRIMARY", "PHASE CONTRAST M", "M", "PCA"], "magnitude"),
        (["ORIGINAL", "PRIMARY", "SW_P_FFE", "SW_P", "FFE"], "phase"),
        (["ORIGINAL", "PRIMARY", "VELOCITY MAP", "P", "PCA"], "map (MAP)"),
        (["ORIGINAL", "PRIMARY", "R_IR", "R", "IR"], "real"),
        (["ORIGINAL", "PRIMARY", "I", "NONE"], "imaginary"),
        (["DERIVED", "PRIMARY", "DIFFUSION", "ADC", "ND"], "map (ADC)"),
        (["DERIVED", "PRIMARY", "DIFFUSION", "TRACEW", "ND"], "magnitude"),
        (["ORIGINAL", "PRIMARY", "M", "ND", "NORM", "FM3_2", "P2"], "magnitude"),
        (["ORIGINAL", "PRIMARY", "OTHER"], "magnitude"),
    ],
)
def test_the_component_is_read_from_the_image_type(tmp_path, image_type, component):
    write_series(tmp_path, phantom(), AFFINE, header={"ImageType": image_type})
    assert survey(tmp_path).volumes[0].component == component


@pytest.mark.parametrize(("number", "component"), [(0, "magnitude"), (1, "phase"), (2, "real"), (3, "imaginary")])
@pytest.mark.parametrize(("before", "vr"), [([], "SS"), (["AN ARCHIVE"], "SS"), ([], "UN")])
def test_the_component_of_ge_images_is_read_from_any_private_block(tmp_path, series, number, component, before, vr):
    for file in series:
        dataset = pydicom.dcmread(file)
        for creator in before:  # takes the first block, so that GE's elements move to the next
            dataset.private_block(0x0043, creator, create=True)
        value = number if vr == "SS" else number.to_bytes(2, "little")
        dataset.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x2F, vr, value)
        dataset.save_as(file)
    assert survey(tmp_path).volumes[0].component == component


def test_a_mosaic_is_refused_even_where_its_number_of_slices_is_missing(tmp_path):
    write_series(tmp_path, phantom(), AFFINE, header={"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]})
    cases = find_series(tmp_path)
    assert {case.refusal for case in cases} == {
        "Siemens mosaic of several slices in one image: export it as single slices"
    }


def test_a_thickness_that_differs_from_slice_to_slice_is_not_used(tmp_path):
    write_series(tmp_path, phantom(), AFFINE, header=lambda index: {"SliceThickness": str(3 + index % 2)})
    stack = survey(tmp_path).volumes[0].stack
    assert stack.slice_thickness_mm is None
    assert "SliceThickness differs from slice to slice: not used" in stack.noted


def test_time_points_are_separated_by_any_attribute(tmp_path):
    for point in range(3):
        write_series(
            tmp_path / str(point),
            phantom(),
            AFFINE,
            header=lambda index, point=point: {
                "AcquisitionTime": f"1015{point:02d}",
                "InstanceNumber": str(100 * index + point),
                "SOPInstanceUID": f"1.2.{point}.{index}",
            },
        )
    cases = find_series(tmp_path)
    assert [case.refusal for case in cases] == [None] * 3
    assert len({case.name for case in cases}) == 3
    assert all(len({file.parent for file in case.files}) == 1 for case in cases)


@pytest.mark.parametrize("interleaved", [False, True])
def test_time_points_are_separated_by_instance_numbers_alone(tmp_path, interleaved):
    for point in range(3):
        write_series(
            tmp_path / str(point),
            phantom(),
            AFFINE,
            header=lambda index, point=point: {
                "InstanceNumber": str(1 + 3 * index + point if interleaved else 1 + point * SHAPE[2] + index),
                "SOPInstanceUID": f"1.2.{point}.{index}",
            },
        )
    cases = find_series(tmp_path)
    assert [case.refusal for case in cases] == [None] * 3
    assert all(len({file.parent for file in case.files}) == 1 for case in cases)


def test_repeats_without_an_order_of_instance_numbers_are_refused(tmp_path):
    numbers = random.Random(1).sample(range(100), 2 * SHAPE[2])
    for point in range(2):
        write_series(
            tmp_path,
            phantom(),
            AFFINE,
            file_name=f"{point}_{{}}.dcm",
            header=lambda index, point=point: {
                "InstanceNumber": str(numbers[point * SHAPE[2] + index]),
                "SOPInstanceUID": f"1.2.{point}.{index}",
            },
        )
    assert "already taken" in refusal(tmp_path)


def test_orientations_and_pixel_spacings_of_one_series_become_volumes(tmp_path):
    for name in ("axial", "sagittal", "coronal", "non-square pixels"):
        write_series(
            tmp_path / name,
            phantom(),
            AFFINES[name],
            header=lambda index, name=name: {"SOPInstanceUID": f"1.2.{len(name)}.{index}"},
        )
    assert [case.refusal for case in find_series(tmp_path)] == [None] * 4


def test_a_localizer_of_three_slices_a_plane_is_refused_as_such(tmp_path):
    for number, name in enumerate(("axial", "sagittal", "coronal")):
        write_series(
            tmp_path / name,
            phantom((12, 12, 3)),
            AFFINES[name],
            header=lambda index, number=number: {"SOPInstanceUID": f"1.2.{number}.{index}"},
        )
    cases = find_series(tmp_path)
    assert len(cases) == 3
    assert all("3 orientations" in case.refusal and "at least 5" in case.refusal for case in cases)


def test_series_without_a_uid_are_separated_by_their_description(tmp_path):
    write_series(tmp_path, phantom(), AFFINE, header={"SeriesInstanceUID": "", "SOPInstanceUID": None})
    write_series(
        tmp_path, phantom(), AFFINE, header={"SeriesInstanceUID": "", "SeriesNumber": "2"}, file_name="other{}"
    )
    assert len(find_series(tmp_path)) == 2


BAD = {
    "not MR": {"Modality": "CT"},
    "colour image": {
        "PhotometricInterpretation": "RGB",
        "SamplesPerPixel": 3,
        "PixelData": bytes(3 * 2 * SHAPE[0] * SHAPE[1]),
    },
    "Siemens mosaic": {"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]},
    "ImagePositionPatient": {"ImagePositionPatient": None},
    "ImageOrientationPatient": {"ImageOrientationPatient": None},
    "PixelSpacing": {"PixelSpacing": None},
    "ModalityLUT": {"ModalityLUTSequence": [pydicom.Dataset()]},
}


@pytest.mark.parametrize("text", BAD)
def test_bad_headers_are_refused_by_name(tmp_path, text):
    write_series(tmp_path, phantom(), AFFINE, header=BAD[text])
    assert text in find_series(tmp_path)[0].refusal


def test_a_missing_slice_is_named(tmp_path, series):
    Path(series[3]).unlink()
    assert "1 slice missing at 10.8 mm" in refusal(tmp_path)


def test_a_sheared_stack_is_refused(tmp_path):
    affine = AFFINE.copy()
    affine[:3, 2] += 0.2 * affine[:3, 0]
    write_series(tmp_path, phantom(), affine)
    assert "tilt or shear" in refusal(tmp_path)


def test_damaged_files_are_counted(tmp_path):
    (tmp_path / "broken").write_bytes(
        bytes(128) + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00\xff\xff\xff\xff" * 5 + b"\xff" * 40
    )
    found = survey(tmp_path)
    assert len(found.damaged) + found.without_image == 1


def test_case_names_never_contain_the_patient(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    header = {"PatientName": "Mustermann^Erika^Li", "PatientID": "K-7781234"}
    affine = AFFINES["axial"]
    for number, extra in enumerate([{}, {"Modality": "CT"}, {"PatientBirthDate": "not a date", "StudyDate": "***"}]):
        write_series(
            tmp_path / str(number),
            phantom(),
            affine,
            series_description="MUSTERMANN Erika 7781234 t2 ErikaMustermann tse Li",
            series_number=number,
            header=header | extra,
        )
    cases = find_series(tmp_path)
    text = " ".join(f"{case.name} {case.refusal}" for case in cases) + caplog.text
    assert len(cases) == 3
    assert "t2_tse" in text
    for word in ("mustermann", "erika", "7781234", "_li"):
        assert word not in text.lower()


def test_names_are_safe_and_unique(tmp_path):
    for number, description in enumerate(["a/b:c*", "A b c", "ä" * 60, "", "..", "😀"]):
        write_series(
            tmp_path / str(number),
            phantom(),
            AFFINE,
            series_description=description,
            header={"ProtocolName": None, "SpecificCharacterSet": "ISO_IR 192"},
        )
    names = [case.name for case in find_series(tmp_path)]
    assert len({name.lower() for name in names}) == 6
    assert all(name.replace("_", "").replace("-", "").isalnum() and name.isascii() for name in names)


def test_a_result_of_glade_is_not_processed_again(tmp_path):
    item = pydicom.Dataset()
    item.Manufacturer = "GLADE"
    write_series(tmp_path, phantom(), AFFINE, header={"ContributingEquipmentSequence": [item]})
    assert "already a result of GLADE" in refusal(tmp_path)
    write_series(tmp_path / "scan", phantom(), AFFINE, series_number=2)
    assert refusal(tmp_path) is None  # results of GLADE among the scans do not matter


def test_positions_win_over_the_spacing_tag_with_a_warning(tmp_path, caplog):
    write_series(tmp_path, phantom(), AFFINE, header={"SpacingBetweenSlices": "9"})
    assert refusal(tmp_path) is None
    assert "positions win" in caplog.text
    assert np.isclose(survey(tmp_path).volumes[0].stack.slice_spacing_mm, 3.6)


def test_case_names_contain_the_patient_with_keep_names(tmp_path):
    header = {"PatientName": "Müller^Erika", "PatientID": "K-7781234", "SpecificCharacterSet": "ISO_IR 192"}
    write_series(tmp_path / "a", phantom(), AFFINE, series_number=1, header=header)
    write_series(tmp_path / "b", phantom(), AFFINE, series_number=2, header=header | {"PatientName": ""})
    write_series(
        tmp_path / "c", phantom(), AFFINE, series_number=3, header=header | {"PatientName": "", "PatientID": ""}
    )
    named = ["Muller_Erika_001_T2_TSE", "K_7781234_002_T2_TSE", "003_T2_TSE"]
    for yes in (True, "true", "True"):  # --keep_names true is text on the command line
        assert [case.name for case in find_series(tmp_path, keep_names=yes)] == named
    for no in (False, "false"):
        assert [case.name for case in find_series(tmp_path, keep_names=no)] == [name[-10:] for name in named]
    with pytest.raises(Refusal, match="keep_names must be true or false, got 'yes'"):
        find_series(tmp_path, keep_names="yes")


@pytest.mark.parametrize("keyword", ["Modality", "PhotometricInterpretation"])
def test_a_refusal_repeats_only_values_of_the_standard(tmp_path, keyword):
    with pydicom.config.disable_value_validation():
        write_series(tmp_path, phantom(), AFFINE, header={keyword: "MUSTERMANN"})
    line = find_series(tmp_path)[0].refusal
    assert "not a value of the standard" in line
    assert "MUSTERMANN" not in line
