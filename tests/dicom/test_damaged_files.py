"""A damaged slice is never left out in silence: its series is refused, and the file is named."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from scripts.dicom.discovery import find_series, survey
from scripts.dicom.reader import DicomSeriesReader
from scripts.dicom.synthetic_series import write_series
from scripts.geometry.errors import Refusal

from .conftest import AFFINES, phantom

AFFINE = AFFINES["axial"]
SHAPE = (32, 31, 8)


@pytest.fixture
def files(tmp_path):
    return [Path(file) for file in write_series(tmp_path / "in", phantom(SHAPE), AFFINE)]


def changed(file, **values):
    with pydicom.config.disable_value_validation():
        dataset = pydicom.dcmread(file)
        for keyword, value in values.items():
            if value is None:
                del dataset[keyword]
            else:
                setattr(dataset, keyword, value)
        dataset.save_as(file)


DAMAGE = {
    "empty": lambda file: file.write_bytes(b""),
    "cut in the preamble": lambda file: file.write_bytes(file.read_bytes()[:100]),
    **{
        f"cut at {size} bytes": lambda file, size=size: file.write_bytes(file.read_bytes()[:size])
        for size in (140, 150, 170, 200, 300, 400, 700, 900)
    },
    "cut in the pixels": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "zeros at the start": lambda file: file.write_bytes(bytes(4096) + file.read_bytes()[4096:]),
    "zeros only": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "prefix lost": lambda file: file.write_bytes(file.read_bytes()[:128] + b"XXXX" + file.read_bytes()[132:]),
    "random start": lambda file: file.write_bytes(bytes(range(1, 201)) + file.read_bytes()[200:]),
    "a length in the meta header": lambda file: file.write_bytes(
        file.read_bytes().replace(b"\x02\x00\x02\x00UI\x1a\x00", b"\x02\x00\x02\x00UI\xff\xff")
    ),
    "digits of the class, no Rows": lambda file: changed(file, SOPClassUID="1.2.840.10008.5.1.4.1.1.999", Rows=0),
    "Rows 0": lambda file: changed(file, Rows=0),
    "no Columns": lambda file: changed(file, Columns=None),
    "no pixels": lambda file: changed(file, PixelData=None),
    "no bytes of pixels": lambda file: changed(file, PixelData=b""),
    "a row too much": lambda file: changed(file, Rows=30),
    "one row less": lambda file: changed(file, Rows=32),
    "frames that are not there": lambda file: changed(file, NumberOfFrames=3),
}


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("number", [0, -1])
def test_a_series_with_a_damaged_slice_is_refused_and_the_file_named(tmp_path, files, kind, number):
    DAMAGE[kind](files[number])
    (case,) = find_series(tmp_path)
    assert case.refusal is not None
    assert files[number].name in case.refusal
    assert "\n" not in case.refusal


@pytest.mark.parametrize(
    "kind",
    [
        k
        for k in DAMAGE
        if "zeros" not in k and k not in ("empty", "cut in the preamble", "prefix lost", "random start")
    ],
)
def test_a_series_of_damaged_files_only_is_a_refused_case(tmp_path, files, kind):
    for file in files:
        DAMAGE[kind](file)
    (case,) = find_series(tmp_path)
    assert case.name == "damaged_dicom"
    assert "8 damaged files" in case.refusal
    reader = DicomSeriesReader()
    with pytest.raises(Refusal, match="8 damaged files"):
        reader.get_data(reader.read(files))


def test_a_damaged_slice_refuses_its_own_series_alone(tmp_path, files):
    write_series(tmp_path / "in", phantom(SHAPE), AFFINE, series_number=2, file_name="other{}.dcm")
    changed(files[3], Rows=0)
    first, second = find_series(tmp_path)
    assert files[3].name in first.refusal
    assert second.refusal is None


def test_a_slice_whose_series_is_unknown_refuses_the_series_of_its_folder(tmp_path, files):
    write_series(tmp_path / "other", phantom(SHAPE), AFFINE, series_number=2)
    files[3].write_bytes(files[3].read_bytes()[:200])
    first, second = find_series(tmp_path)
    assert files[3].name in first.refusal
    assert second.refusal is None


@pytest.mark.parametrize("damage", ["prefix lost", "zeros only", "empty"])
def test_a_damaged_start_is_found_where_names_have_no_ending(tmp_path, files, damage):
    for number, file in enumerate(files):
        file.rename(file.with_name(f"I{number}"))
    last = files[-1].with_name("I7")
    DAMAGE[damage](last)
    (case,) = find_series(tmp_path)
    assert "I7" in case.refusal


def test_empty_files_that_are_no_slices_do_not_matter(tmp_path, files):
    for name in (".nomedia", "DONE", "notes.txt"):
        (files[0].parent / name).write_bytes(b"")
    (tmp_path / "empty.dcm").write_bytes(b"")
    (case,) = find_series(tmp_path)
    assert case.refusal is None
    assert survey(tmp_path).ignored == 4


@pytest.mark.parametrize(
    "sop_class",
    ["1.2.840.10008.5.1.4.1.1.66", "1.2.840.10008.5.1.4.1.1.4.2", "1.3.12.2.1107.5.9.1", "1.3.46.670589.11.0.0.12.1"],
    ids=["raw data", "spectroscopy", "Siemens non-image", "Philips private"],
)
def test_mr_objects_without_an_image_are_not_damaged(tmp_path, files, sop_class):
    changed(files[0], SOPClassUID=sop_class, PixelData=None, SOPInstanceUID="1.2.3", Rows=1, Columns=1)
    found = survey(tmp_path)
    assert (found.without_image, found.damaged) == (1, ())


@pytest.mark.parametrize("syntax", ["rle", "deflated"])
def test_damaged_compressed_slices_are_found(tmp_path, files, syntax):
    dataset = pydicom.dcmread(files[-1])
    if syntax == "rle":
        dataset.compress(RLELossless, generate_instance_uid=False)
    else:
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(files[-1])
    assert find_series(tmp_path)[0].refusal is None
    files[-1].write_bytes(files[-1].read_bytes()[:-200])
    assert files[-1].name in find_series(tmp_path)[0].refusal


def test_a_deflated_slice_of_another_size_is_found(tmp_path, files):
    dataset = pydicom.dcmread(files[-1])
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.Rows = 30
    dataset.save_as(files[-1])
    assert files[-1].name in find_series(tmp_path)[0].refusal


def test_uncompressed_pixels_may_have_one_byte_of_padding(tmp_path):
    series = write_series(tmp_path, phantom((5, 5, 8)), AFFINE, header={"BitsStored": 8, "HighBit": 7})
    for size, usable in ((25, True), (26, True), (27, False), (24, False)):
        for file in series:
            values = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelData": bytes(range(size))}
            changed(file, **values)
            data = pydicom.dcmread(file)
            data["PixelData"].VR = "OB"
            data.save_as(file)
        refusals = [case.refusal for case in find_series(tmp_path)]
        assert (refusals == [None]) is usable, size


def test_a_name_that_would_change_the_line_is_escaped(tmp_path, files):
    odd = files[0].with_name("a\u202eb\n.dcm")
    odd.write_bytes(files[0].read_bytes()[:700])
    files[0].unlink()
    (case,) = find_series(tmp_path)
    assert "a\\u202eb\\n.dcm" in case.refusal


@pytest.mark.parametrize(("offset", "refused"), [(2**30, True), (2**20, False), (0, False)])
def test_grey_levels_that_float32_cannot_keep_are_refused(tmp_path, offset, refused):
    volume = phantom(SHAPE)
    files = write_series(tmp_path, volume, AFFINE)
    for index, file in enumerate(files):
        data = (volume[:, :, index].T + offset).astype("<u4").tobytes()
        changed(file, BitsAllocated=32, BitsStored=32, HighBit=31, PixelData=data)
    reader = DicomSeriesReader()
    if refused:
        with pytest.raises(Refusal, match=r"grey levels remain.*subtract an offset"):
            reader.get_data(reader.read(files))
    else:
        array, _ = reader.get_data(reader.read(files))
        assert np.array_equal(array, volume + offset)


def test_an_intercept_that_hides_the_grey_levels_is_refused(tmp_path):
    files = write_series(tmp_path, phantom(SHAPE), AFFINE, header={"RescaleSlope": "1", "RescaleIntercept": "1e9"})
    reader = DicomSeriesReader()
    with pytest.raises(Refusal, match="RescaleIntercept"):
        reader.get_data(reader.read(files))


def test_a_wide_range_of_32_bits_is_accepted(tmp_path):
    volume = np.random.default_rng(0).integers(0, 2**31, SHAPE)
    files = write_series(tmp_path, phantom(SHAPE), AFFINE)
    for index, file in enumerate(files):
        data = volume[:, :, index].T.astype("<u4").tobytes()
        changed(file, BitsAllocated=32, BitsStored=32, HighBit=31, PixelData=data)
    reader = DicomSeriesReader()
    assert np.array_equal(reader.get_data(reader.read(files))[0], volume.astype(np.float32))
