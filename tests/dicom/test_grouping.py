"""Grouping of planes into volumes: the right planes in each, or a refusal that names the attribute or the files."""

import random
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest

from scripts.dicom.discovery import find_series, survey
from scripts.dicom.pixels import read_planes
from scripts.dicom.synthetic_series import write_series
from scripts.dicom.uids import uid_from

from .conftest import AFFINES, phantom

AFFINE = AFFINES["axial"]
SHAPE = (12, 10, 6)
SCAN = phantom(SHAPE)


def write(folder, point, header, volume=SCAN, affine=AFFINE, **options):
    """Write a repeat whose pixels are `point + 1` times the volume; files of all repeats lie in one folder."""
    extra = lambda k: {"SOPInstanceUID": uid_from(folder, point, k), **header(k)}  # noqa: E731
    return write_series(
        folder, volume * (point + 1), affine, header=extra, file_name=lambda k: f"{point}_{k}.dcm", **options
    )


def multi_frame(folder, group, order, points=3):
    """Write repeats as one enhanced file; `group` gives the functional group of a repeat and its slice."""
    files = [write(folder / "classic", point, lambda _: {}) for point in range(points)]
    frames, pixels = [], []
    for k in range(SHAPE[2]):
        for point in order(k):
            source = pydicom.dcmread(files[point][k])
            item = pydicom.Dataset()
            for name, values in {
                "PlanePositionSequence": {"ImagePositionPatient": source.ImagePositionPatient},
                "PlaneOrientationSequence": {"ImageOrientationPatient": source.ImageOrientationPatient},
                "PixelMeasuresSequence": {"PixelSpacing": source.PixelSpacing, "SpacingBetweenSlices": "5"},
                **group(point, k),
            }.items():
                inner = pydicom.Dataset()
                for key, value in values.items():
                    setattr(inner, key, value)
                setattr(item, name, [inner])
            frames.append(item)
            pixels.append(source.PixelData)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "FlipAngle", "RepetitionTime"):
        delattr(source, keyword)
    source.SOPClassUID = source.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
    source.PerFrameFunctionalGroupsSequence, source.NumberOfFrames = frames, len(frames)
    source.PixelData = b"".join(pixels)
    shutil.rmtree(folder / "classic")
    source.save_as(folder / "x.dcm")


def gains(folder):
    """Return the factor of each usable volume by name, after checking that all its slices have that factor."""
    found = {}
    for case in find_series(folder):
        assert case.refusal is None, case.refusal
        ratio = read_planes(case.volume.frames)[SCAN > 0] / SCAN[SCAN > 0]
        assert np.ptp(ratio) < 1e-6
        found[case.name] = round(float(ratio[0]))
    return found


def shuffled(k):
    return random.Random(k).sample(range(3), 3)


@pytest.mark.parametrize(
    ("group", "labels"),
    [
        (lambda t: {"MRModifierSequence": {"InversionTimes": [100.0 + 400 * t]}}, ("TI100", "TI500", "TI900")),
        (lambda t: {"MRTimingAndRelatedParametersSequence": {"FlipAngle": 5.0 * t}}, ("FA0", "FA5", "FA10")),
        (
            lambda t: {"CardiacSynchronizationSequence": {"NominalCardiacTriggerDelayTime": 40.5 * t}},
            ("TD0", "TD40p5", "TD81"),
        ),
        (lambda t: {"FrameContentSequence": {"FrameAcquisitionDateTime": f"202001011200{t}0"}}, ("t01", "t02", "t03")),
        (lambda t: {"FrameContentSequence": {"FrameAcquisitionNumber": t + 1}}, ("t01", "t02", "t03")),
        (lambda t: {"FrameContentSequence": {"DimensionIndexValues": [1, t + 1]}}, ("t01", "t02", "t03")),
    ],
)
def test_frames_at_one_position_are_separated_by_what_differs_and_named_after_it(tmp_path, group, labels):
    multi_frame(tmp_path, lambda point, _: group(point), shuffled)
    assert gains(tmp_path) == {f"001_T2_TSE_{label}": point + 1 for point, label in enumerate(labels)}


def test_times_separate_volumes_whose_instance_numbers_are_in_no_order(tmp_path):
    for point in range(3):
        write(
            tmp_path,
            point,
            lambda k, p=point: {
                "AcquisitionTime": f"12{p:02d}{k:02d}",
                "InstanceNumber": str(3 * k + shuffled(k).index(p)),
            },
        )
    assert gains(tmp_path) == {f"001_T2_TSE_t{point + 1:02d}": point + 1 for point in range(3)}


def test_times_without_instance_numbers_are_ranked_at_each_position(tmp_path):
    for point in range(3):  # all time points of a slice before the next slice
        write(
            tmp_path,
            point,
            lambda k, p=point: {
                "AcquisitionTime": f"12{k:02d}{10 * p:02d}",
                "InstanceNumber": None,
                "ContentTime": None,
            },
        )
    assert gains(tmp_path) == {f"001_T2_TSE_t{point + 1:02d}": point + 1 for point in range(3)}


def test_times_that_instance_numbers_contradict_are_refused(tmp_path):
    for point in range(3):
        write(
            tmp_path,
            point,
            lambda k, p=point: {
                "AcquisitionTime": f"12{k:02d}{10 * shuffled(k)[p]:02d}",
                "InstanceNumber": str(3 * k + p),
            },
        )
    (case,) = find_series(tmp_path)
    assert "3 images at each of 6 positions: AcquisitionTime and InstanceNumber order them differently" in case.refusal


def test_packages_of_slices_are_one_volume(tmp_path):
    multi_frame(tmp_path, lambda _, k: {"FrameContentSequence": {"StackID": str(k % 2)}}, lambda _: [0], points=1)
    assert gains(tmp_path) == {"001_T2_TSE": 1}


def test_two_series_under_one_uid_are_two_volumes(tmp_path):
    for point in range(2):
        write(tmp_path, point, lambda _, p=point: {"SeriesInstanceUID": "1.2.3", "SeriesNumber": str(p + 1)})
    assert gains(tmp_path) == {"001_T2_TSE": 1, "002_T2_TSE": 2}


def test_two_series_under_one_uid_in_two_folders_are_two_volumes(tmp_path):
    between = AFFINE.copy()
    between[:3, 3] += between[:3, 2] / 2  # the slices of one lie half-way between those of the other
    for point, affine in enumerate((AFFINE, between)):
        write(tmp_path / str(point), point, lambda _: {"SeriesInstanceUID": "1.2.3"}, affine=affine)
    assert sorted(gains(tmp_path).values()) == [1, 2]


def test_two_series_under_one_uid_that_are_no_even_stacks_are_refused_with_the_uid(tmp_path):
    for point in range(2):
        files = write(
            tmp_path, point, lambda _, p=point: {"SeriesInstanceUID": "1.2.34567890", "SeriesNumber": str(p + 1)}
        )
    Path(files[2]).unlink()
    (case,) = find_series(tmp_path)
    assert "several series under one SeriesInstanceUID (it ends in 34567890): SeriesNumber differs" in case.refusal


@pytest.mark.parametrize(
    ("header", "refusal"),
    [
        (lambda k: {"SeriesInstanceUID": f"1.2.{k}"}, None),
        (lambda k: {"FrameOfReferenceUID": f"1.2.{k}"}, None),
        (lambda k: {"TemporalPositionIdentifier": str(k + 1)}, None),
        (lambda k: {"EchoTime": f"{90 + 0.0003 * k:.4f}"}, None),
        (
            lambda k: {"ImageType": ["ORIGINAL", "PRIMARY", "M", "NORM" if k % 3 else "ND"]},
            "ImageType differs from slice",
        ),
        (lambda k: {"EchoTime": str(90 + k)}, "EchoTime differs from slice to slice"),
    ],
)
def test_one_volume_in_crumbs_is_merged_or_refused_in_one_line(tmp_path, header, refusal):
    write(tmp_path, 0, header)
    if refusal is None:
        assert gains(tmp_path) == {"001_T2_TSE": 1}
    else:
        (case,) = find_series(tmp_path)
        assert refusal in case.refusal


def test_one_series_uid_per_position_gives_every_time_point(tmp_path):
    for point in range(3):
        write(
            tmp_path,
            point,
            lambda k, p=point: {"SeriesInstanceUID": f"1.2.{k}", "TemporalPositionIdentifier": str(p + 1)},
        )
    assert gains(tmp_path) == {f"001_T2_TSE_t{point + 1:02d}": point + 1 for point in range(3)}


@pytest.mark.parametrize("trigger", [True, False])
def test_one_missing_image_costs_one_time_point(tmp_path, trigger):
    jitter = random.Random(3)
    for point in range(4):
        files = write(
            tmp_path,
            point,
            lambda k, p=point: (
                {"InstanceNumber": str(6 * p + k + 1)}
                | ({"TriggerTime": f"{40 * p + jitter.uniform(0, 9):.1f}"} if trigger else {})
            ),
        )
        if point == 2:
            Path(files[3]).unlink()
    refusals = [case.refusal for case in find_series(tmp_path)]
    assert [refusal is None for refusal in refusals] == [True, True, False, True]
    assert "1 slice missing at 15.0 mm" in refusals[2]


def test_an_enhanced_file_a_time_point_gives_a_volume_each(tmp_path):
    for point in range(2):
        folder = tmp_path / str(point)
        multi_frame(folder, lambda _point, _k: {}, lambda _: [0], points=1)
        dataset = pydicom.dcmread(folder / "x.dcm")
        dataset.SOPInstanceUID, dataset.InstanceNumber = f"1.2.{point}", point + 1
        dataset.PixelData = (np.frombuffer(dataset.PixelData, "<u2") * (point + 1)).tobytes()
        dataset.save_as(folder / "x.dcm")
    assert gains(tmp_path) == {"001_T2_TSE_t01": 1, "001_T2_TSE_t02": 2}


def test_identical_copies_are_left_out_with_a_note(tmp_path, caplog):
    files = write(tmp_path / "A", 0, lambda _: {})
    shutil.copytree(tmp_path / "A", tmp_path / "B")
    shutil.copy(files[2], tmp_path / "A" / "copy.dcm")
    assert gains(tmp_path) == {"001_T2_TSE": 1}
    assert "7 identical copies left out" in caplog.text


def test_messages_about_copies_name_no_folder(tmp_path, caplog):
    write(tmp_path / "Mustermann_Erika" / "a", 0, lambda _: {})
    shutil.copytree(tmp_path / "Mustermann_Erika" / "a", tmp_path / "Mustermann_Erika" / "b")
    find_series(tmp_path)
    changed = pydicom.dcmread(tmp_path / "Mustermann_Erika" / "b" / "0_2.dcm")
    changed.PixelData = bytes(len(changed.PixelData))
    changed.save_as(tmp_path / "Mustermann_Erika" / "b" / "0_2.dcm")
    (case,) = find_series(tmp_path)
    assert "two files 0_0.dcm in different folders hold the same image" in caplog.text
    assert "two files 0_2.dcm in different folders are different images under one SOPInstanceUID" in case.refusal
    assert "Mustermann" not in caplog.text + case.refusal


def test_a_series_uid_that_is_no_uid_is_not_repeated(tmp_path):
    for point in range(2):
        files = write(tmp_path, point, lambda _, p=point: {"SeriesNumber": str(p + 1)})
        for file in files:
            data = Path(file).read_bytes()
            dataset = pydicom.dcmread(file)
            Path(file).write_bytes(
                data.replace(
                    dataset.SeriesInstanceUID.encode(), b"ERIKA".ljust(44, b"A")[: len(dataset.SeriesInstanceUID)]
                )
            )
    Path(files[2]).unlink()
    assert all(
        "ERIKA" not in (case.refusal or "") and "AAAA" not in (case.refusal or "") for case in find_series(tmp_path)
    )


def test_other_pixels_under_one_instance_uid_are_refused_and_both_files_named(tmp_path):
    files = write(tmp_path, 0, lambda _: {})
    dataset = pydicom.dcmread(files[2])
    dataset.PixelData = bytes(len(dataset.PixelData))
    dataset.save_as(tmp_path / "other.dcm")
    (case,) = find_series(tmp_path)
    assert "0_2.dcm and other.dcm are different images under one SOPInstanceUID" in case.refusal
    assert len(survey(tmp_path).volumes) == 1


def test_b_values_are_volumes_of_their_own(tmp_path):
    for point, b_value in enumerate((0, 800)):
        no_times = {"AcquisitionTime": None, "ContentTime": None, "DiffusionBValue": float(b_value)}
        write(tmp_path, point, lambda k, h=no_times, p=point: {**h, "InstanceNumber": str(2 * k + (k + p) % 2)})
    assert sorted(gains(tmp_path).values()) == [1, 2]
