"""Numbers that cannot be read, such as those with a decimal comma: the refusal says so, and no volume is shorter."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from scripts.dicom.discovery import find_series
from scripts.dicom.reader import DicomSeriesReader
from scripts.dicom.synthetic_series import write_series
from scripts.geometry.errors import Refusal

from .conftest import AFFINES, SHAPE, phantom

COMMAS = {
    "PixelSpacing": ("0,7\\0,7", "2 numbers"),
    "ImagePositionPatient": ("-51,3\\-47,1\\-12,9", "3 numbers"),
    "ImageOrientationPatient": ("1,0\\0\\0\\0\\1,0\\0", "6 numbers"),
    "SliceThickness": ("3,6", "a number"),
}


def written(file: str, **texts: str | None) -> None:
    """Replace attributes of a file by texts as they are, or remove them."""
    dataset = pydicom.dcmread(file)
    for keyword, text in texts.items():
        tag = Tag(keyword)
        raw = b"" if text is None else text.encode() + b" " * (len(text) % 2)
        dataset[tag] = RawDataElement(tag, dictionary_VR(tag), len(raw), raw, 0, False, True)
        if text is None:
            del dataset[tag]
    dataset.save_as(file)


def refusals(folder: Path) -> list[str | None]:
    return [case.refusal for case in find_series(folder)]


@pytest.mark.parametrize("keyword", COMMAS)
def test_a_decimal_comma_in_all_files_is_named_and_not_called_absent(tmp_path, series, keyword):
    text, wanted = COMMAS[keyword]
    for file in series:
        written(file, **{keyword: text})
    (line,) = refusals(tmp_path)
    assert line == f"{keyword} cannot be read as {wanted} (a decimal comma?): correct the headers"


@pytest.mark.parametrize("text", ["0.7", "0.7\\0.7\\0.7", "a\\b", "nan\\nan", "0.7;0.7", "0.7\\0,7", "1e999\\1"])
def test_other_texts_that_are_no_two_numbers_are_not_called_absent(tmp_path, series, text):
    for file in series:
        written(file, PixelSpacing=text)
    (line,) = refusals(tmp_path)
    assert line.startswith("PixelSpacing cannot be read as 2 numbers")


@pytest.mark.parametrize("text", [None, "", " ", "\\"])
def test_an_empty_value_is_absent(tmp_path, series, text):
    for file in series:
        written(file, PixelSpacing=text)
    assert refusals(tmp_path) == ["no geometry: PixelSpacing absent"]


@pytest.mark.parametrize("keyword", [*(k for k in COMMAS if k != "SliceThickness"), "EchoTime"])
@pytest.mark.parametrize("number", [0, 3, -1])
@pytest.mark.parametrize("text", ["1,5", None], ids=["comma", "absent"])
def test_one_image_without_what_the_others_have_refuses_the_series(tmp_path, series, keyword, number, text):
    written(series[number], **{keyword: text})
    (line,) = refusals(tmp_path)
    assert f"a damaged file ({Path(series[number]).name}: {keyword} " in line
    assert ("absent" in line) is (text is None)


def test_an_image_without_a_position_matters_only_to_its_own_series_size_and_kind(tmp_path, series):
    own = {"SOPInstanceUID": "1.2.3"}
    for file in write_series(tmp_path / "screen", phantom((20, 20, 1)), AFFINES["oblique"], header=own):
        written(file, ImagePositionPatient=None)  # of another size, in the same series
    usable, screen = sorted(find_series(tmp_path), key=lambda case: -len(case.files))
    assert len(usable.files) == SHAPE[2]
    assert usable.refusal is None
    assert screen.refusal.startswith("no geometry: ImagePositionPatient absent")


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
@pytest.mark.parametrize("text", ["0,5", "nan", "two"])
@pytest.mark.parametrize("number", [0, -1])
def test_a_scale_that_cannot_be_read_is_not_taken_as_none(tmp_path, series, keyword, text, number):
    for file in series:
        written(file, RescaleSlope="0.5", RescaleIntercept="3")
    reader = DicomSeriesReader()
    array, _ = reader.get_data(reader.read(series))
    np.testing.assert_array_equal(np.sort(array.ravel()), np.sort(phantom().ravel() * 0.5 + 3))
    written(series[number], **{keyword: text})
    name = Path(series[number]).name
    with pytest.raises(Refusal, match=rf"{name} .*: {keyword} cannot be read as a number"):
        reader.get_data(reader.read(series))


def test_commas_in_attributes_that_nobody_needs_do_not_matter(tmp_path, series):
    for file in series:
        written(file, RepetitionTime="4000,5", EchoTime="101,5", SpacingBetweenSlices="3,6")
    assert refusals(tmp_path) == [None]
