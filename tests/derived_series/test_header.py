"""Attributes of a derived header that depend on one another: side, gating, inversion."""

import pydicom
import pytest

from scripts.dicom.synthetic_series import write_series
from tests.dicom.conftest import phantom
from tests.dicom.test_dicom_reader import enhanced

from .test_writer import AFFINE, isotropic, source_of, volume_of, write

ABSENT = "absent"


def item(**values):
    """Return a data set as an item of a sequence."""
    dataset = pydicom.Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def values(header, *keywords):
    """Return the values of a header; `ABSENT` for an attribute that is not there, None for an empty one."""
    return [(header[keyword].value or None) if keyword in header else ABSENT for keyword in keywords]


def derived(folder, source):
    return pydicom.dcmread(write(folder, volume_of(), isotropic(AFFINE), source).files[0])


def of_classic(tmp_path, header):
    """Return the derived header of a classic series; `header` as `write_series` takes it."""
    return derived(tmp_path / "derived", source_of(write_series(tmp_path / "source", phantom(), AFFINE, header=header)))


def of_enhanced(tmp_path, series, change):
    """Return the derived header of an enhanced file, changed by `change(dataset)`."""
    path = tmp_path / "enhanced.dcm"
    enhanced(path, series)
    dataset = pydicom.dcmread(path)
    change(dataset)
    dataset.save_as(path)
    return derived(tmp_path / "derived", source_of([str(path)]))


@pytest.mark.parametrize(
    ("part", "image_side", "side", "expected"),
    [
        ("KNEE", "L", None, ["L", ABSENT]),
        ("KNEE", "B", "", ["B", ABSENT]),
        ("KNEE", None, "R", [ABSENT, "R"]),
        ("KNEE", None, None, [ABSENT, None]),
        ("KNEE", "", None, [ABSENT, None]),
        (None, None, None, [ABSENT, None]),
        ("BRAIN", None, None, [ABSENT, ABSENT]),
        ("BRAIN", "U", None, ["U", ABSENT]),
    ],
)
def test_the_side_of_the_body_is_kept_and_never_invented(tmp_path, part, image_side, side, expected):
    header = {"BodyPartExamined": part, "ImageLaterality": image_side, "Laterality": side}
    assert values(of_classic(tmp_path, header), "ImageLaterality", "Laterality") == expected


def test_a_side_that_differs_between_slices_is_unknown(tmp_path):
    header = of_classic(tmp_path, lambda index: {"BodyPartExamined": "KNEE", "ImageLaterality": "RL"[index > 3]})
    assert values(header, "ImageLaterality", "Laterality") == [ABSENT, None]


@pytest.mark.parametrize(
    ("sides", "expected"),
    [("LLLLLLL", ["L", ABSENT]), ("LLLLRRR", [ABSENT, None]), ("XXXXXXX", [ABSENT, None])],
)
def test_the_side_of_an_enhanced_image_is_that_of_all_its_frames(tmp_path, series, sides, expected):
    def change(dataset):
        dataset.BodyPartExamined = "KNEE"
        for group, side in zip(dataset.PerFrameFunctionalGroupsSequence, sides, strict=True):
            group.FrameAnatomySequence = [item(FrameLaterality=side)]

    assert values(of_enhanced(tmp_path, series, change), "ImageLaterality", "Laterality") == expected


@pytest.mark.parametrize(
    ("options", "time", "expected"),
    [
        ("CG", lambda _: "100", 100),
        ("PPG", lambda index: str(100 + index), None),
        (["FS", "CG"], lambda _: None, None),
        ("FS", lambda index: str(100 + index), ABSENT),
    ],
)
def test_a_gated_series_has_its_trigger_time_or_an_empty_one(tmp_path, options, time, expected):
    header = of_classic(tmp_path, lambda index: {"ScanOptions": options, "TriggerTime": time(index)})
    assert values(header, "TriggerTime") == [expected]


@pytest.mark.parametrize(
    ("sequence", "time", "expected"),
    [
        (["GR", "IR"], lambda _: "900", 900),
        (["GR", "IR"], lambda index: str(300 + index), None),
        ("IR", lambda _: None, None),
        ("SE", lambda index: str(300 + index), ABSENT),
    ],
)
def test_an_inversion_recovery_series_has_its_inversion_time_or_an_empty_one(tmp_path, sequence, time, expected):
    header = of_classic(tmp_path, lambda index: {"ScanningSequence": sequence, "InversionTime": time(index)})
    assert values(header, "InversionTime") == [expected]
