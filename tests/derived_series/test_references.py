"""The source images of a derived series: each once, under its own series, and none without UIDs."""

import pydicom

from scripts.derived_series.references import references
from scripts.dicom.discovery import survey
from scripts.dicom.synthetic_series import write_series
from tests.dicom.conftest import AFFINES, phantom
from tests.dicom.test_dicom_reader import enhanced

from .test_writer import AFFINE, isotropic, source_of, volume_of, write


def referenced(sequences):
    """Return each referenced series and the instances below it."""
    return [
        (str(series.SeriesInstanceUID), [str(i.ReferencedSOPInstanceUID) for i in series.ReferencedInstanceSequence])
        for series in sequences.ReferencedSeriesSequence
    ]


def test_images_of_a_merged_volume_stand_below_their_own_series(tmp_path):
    def header(index):
        return {"SeriesInstanceUID": f"1.2.3.{index % 2 + 1}", "SOPInstanceUID": f"1.9.{index}"}

    files = write_series(tmp_path / "source", phantom(), AFFINE, header=header)
    result = pydicom.dcmread(write(tmp_path / "derived", volume_of(), isotropic(AFFINE), source_of(files)).files[0])
    found = dict(referenced(result))
    assert {uid: set(instances) for uid, instances in found.items()} == {
        "1.2.3.1": {"1.9.0", "1.9.2", "1.9.4", "1.9.6"},
        "1.2.3.2": {"1.9.1", "1.9.3", "1.9.5"},
    }
    assert len(result.ReferencedSeriesSequence) == 2


def test_two_volumes_of_one_series_are_one_item(tmp_path):
    for echo in (1, 2):
        header = {"EchoTime": str(10 * echo), "EchoNumbers": str(echo), "SeriesInstanceUID": "1.2.3"}
        instances = lambda index, header=header, echo=echo: header | {"SOPInstanceUID": f"1.9.{echo}.{index}"}  # noqa: E731
        write_series(tmp_path / f"echo{echo}", phantom(), AFFINE, header=instances)
    source, more = survey(tmp_path).volumes
    derived = write(tmp_path / "derived", volume_of(), isotropic(AFFINE), source, more_sources=[more])
    ((uid, instances),) = referenced(pydicom.dcmread(derived.files[0]))
    assert uid == "1.2.3"
    assert len(instances) == len(set(instances)) == len(source.frames) + len(more.frames)


def test_two_volumes_of_one_enhanced_file_are_one_instance_of_all_their_frames(tmp_path, series):
    (tmp_path / "enhanced").mkdir()
    enhanced(tmp_path / "enhanced" / "two.dcm", series, echoes=2)
    volumes = survey(tmp_path / "enhanced").volumes
    found = references(volumes, AFFINES["axial"][:3, 3])
    (item,) = found.SourceImageSequence
    assert [int(number) for number in item.ReferencedFrameNumber] == list(range(1, 2 * len(series) + 1))
    ((_, instances),) = referenced(found)
    assert len(instances) == 1


def test_images_without_uids_are_not_referenced(tmp_path, series):
    for file in series:
        dataset = pydicom.dcmread(file)
        del dataset.SOPInstanceUID
        del dataset.SOPClassUID
        dataset.save_as(file)
    result = pydicom.dcmread(write(tmp_path / "derived", volume_of(), isotropic(AFFINE), series).files[0])
    assert "SourceImageSequence" not in result
    assert "ReferencedSeriesSequence" not in result


def test_images_without_a_series_are_sources_but_below_no_series(tmp_path, series):
    for file in series:
        dataset = pydicom.dcmread(file)
        del dataset.SeriesInstanceUID
        dataset.save_as(file)
    result = pydicom.dcmread(write(tmp_path / "derived", volume_of(), isotropic(AFFINE), series).files[0])
    assert len(result.SourceImageSequence) == len(series)
    assert "ReferencedSeriesSequence" not in result
