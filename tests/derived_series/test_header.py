"""Attributes of a derived header that depend on one another: side, gating, inversion, sequence, b-value, time point."""

import pydicom
import pytest

from scripts.dicom.discovery import survey
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


APART = ("SeriesDescription", "DiffusionBValue", "TemporalPositionIdentifier", "EchoTime", "InversionTime")


def of_volumes(folder):
    """Return `APART` of the derived header of each volume in a folder."""
    volumes = survey(folder / "source").volumes
    assert [volume.reasons for volume in volumes] == [()] * len(volumes)
    return [
        tuple(derived(folder / f"derived{n}", volume).get(key) for key in APART) for n, volume in enumerate(volumes)
    ]


def two_volumes(tmp_path, series, sequence, **differing):
    """Return `APART` of both volumes of an enhanced file whose frames differ in one attribute of a functional group."""
    (tmp_path / "source").mkdir()
    path = tmp_path / "source" / "two.dcm"
    enhanced(path, series, echoes=2)
    dataset = pydicom.dcmread(path)
    ((keyword, pair),) = differing.items()
    for number, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        del group.MREchoSequence
        setattr(group, sequence, [item(**{keyword: pair[number % 2]})])
    dataset.save_as(path)
    return of_volumes(tmp_path)


def test_two_b_values_of_an_enhanced_file_can_be_told_apart(tmp_path, series):
    low, high = two_volumes(tmp_path, series, "MRDiffusionSequence", DiffusionBValue=(0.0, 1000.0))
    assert low == ("GLADE SR synthesised: T2 TSE b0", 0, None, None, None)
    assert high == ("GLADE SR synthesised: T2 TSE b1000", 1000, None, None, None)


def test_two_inversion_times_of_an_enhanced_file_can_be_told_apart(tmp_path, series):
    short, long = two_volumes(tmp_path, series, "MRModifierSequence", InversionTimes=(150.0, 900.0))
    assert short == ("GLADE SR synthesised: T2 TSE TI150", None, None, None, 150)
    assert long == ("GLADE SR synthesised: T2 TSE TI900", None, None, None, 900)


def test_two_time_points_can_be_told_apart(tmp_path):
    for time in (1, 2):

        def header(index, time=time):
            return {"TemporalPositionIdentifier": str(time), "SOPInstanceUID": f"1.8.{time}.{index}"}

        write_series(tmp_path / "source" / str(time), phantom(), AFFINE, header=header)
    first, second = of_volumes(tmp_path)
    assert first == ("GLADE SR synthesised: T2 TSE t01", None, 1, 101, None)
    assert second == ("GLADE SR synthesised: T2 TSE t02", None, 2, 101, None)


def test_a_long_description_leaves_room_for_what_tells_volumes_apart(tmp_path):
    for echo in (1, 2):
        header = {"EchoTime": str(10 * echo), "EchoNumbers": str(echo), "SeriesInstanceUID": "1.2.3"}
        made = lambda index, header=header, echo=echo: header | {"SOPInstanceUID": f"1.9.{echo}.{index}"}  # noqa: E731
        write_series(tmp_path / "source" / str(echo), phantom(), AFFINE, series_description="x" * 64, header=made)
    descriptions = [found[0] for found in of_volumes(tmp_path)]
    assert [text[-6:] for text in descriptions] == ["x TE10", "x TE20"]
    assert {len(text) for text in descriptions} == {64}


@pytest.mark.parametrize(
    ("group", "creator", "element", "vr", "value", "expected"),
    [
        (0x0019, "SIEMENS MR HEADER", 0x0C, "IS", "800", 800),
        (0x0043, "GEMS_PARM_01", 0x39, "IS", ["1000000800", "8", "0", "0"], 800),
        (0x2001, "Philips Imaging DD 001", 0x03, "FL", 400.0, 400),
        (0x0065, "Image Private Header", 0x09, "FD", 50.0, 50),
        (0x2001, "Philips Imaging DD 001", 0x03, "FL", 0.0, None),  # stands in scans without diffusion weighting too
    ],
)
def test_the_b_value_of_a_vendor_is_kept(tmp_path, series, group, creator, element, vr, value, expected):
    for file in series:
        dataset = pydicom.dcmread(file)
        dataset.private_block(group, creator, create=True).add_new(element, vr, value)
        dataset.save_as(file)
    assert derived(tmp_path / "derived", source_of(series)).get("DiffusionBValue") == expected


def test_the_sequence_of_an_enhanced_image_is_described_as_a_classic_one_is(tmp_path, series):
    def change(dataset):
        del dataset.ScanningSequence
        del dataset.SequenceVariant
        dataset.EchoPulseSequence, dataset.EchoPlanarPulseSequence = "SPIN", "YES"
        dataset.SegmentedKSpaceTraversal = "PARTIAL"
        (shared,) = dataset.SharedFunctionalGroupsSequence
        shared.MRModifierSequence = [item(InversionRecovery="YES", InversionTimes=150.0, Spoiling="NONE")]
        shared.MRReceiveCoilSequence = [item(ReceiveCoilName="HEAD")]

    header = of_enhanced(tmp_path, series, change)
    assert set(header.ScanningSequence) == {"EP", "SE", "IR"}
    assert set(header.SequenceVariant) == {"SK", "MP"}
    assert (header.InversionTime, header.ReceiveCoilName) == (150, "HEAD")


def test_what_frames_of_an_enhanced_image_disagree_on_is_not_written(tmp_path, series):
    def change(dataset):
        for number, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
            group.MRReceiveCoilSequence = [item(ReceiveCoilName=f"C{number}")]
            group.MRAveragesSequence = [item(NumberOfAverages=float(number + 1))]
        del dataset.NumberOfAverages

    header = of_enhanced(tmp_path, series, change)
    assert values(header, "ReceiveCoilName", "NumberOfAverages") == [ABSENT, ABSENT]
