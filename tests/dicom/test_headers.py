import logging
import struct
import threading
import time
import warnings
import zlib
from pathlib import Path

import pydicom
import pytest

from scripts.dicom import files
from scripts.dicom.files import DamagedError, UnavailableError, looks_like_dicom, quiet, read_dataset
from scripts.dicom.headers import read_frames
from scripts.dicom.synthetic_series import write_series

from .conftest import AFFINES, phantom

AFFINE = AFFINES["axial"]


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (bytes(128) + b"DICM", True),
        (b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100", True),
        (b"\x08\x00\x08\x00\x16\x00\x00\x00ORIGINAL\\PRIMARY", True),
        (b"\x00\x08\x00\x08CS\x00\x16ORIGINAL\\PRIMARY", True),
        (b"", False),
        (b"\x08\x00", False),
        (b"\x08\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", False),
        (b"\x1f\x8b\x08\x00" + bytes(300), False),
        (b"\x5c\x01\x00\x00" + bytes(300), False),
    ],
)
def test_dicom_is_recognised_by_the_first_bytes(tmp_path, head, expected):
    (tmp_path / "file").write_bytes(head)
    assert looks_like_dicom(tmp_path / "file") is expected


def test_a_folder_is_not_dicom_and_of_an_absent_file_it_is_not_known(tmp_path):
    assert not looks_like_dicom(tmp_path)
    with pytest.raises(UnavailableError, match="removed, renamed"):
        looks_like_dicom(tmp_path / "absent")


def test_a_header_is_read_as_it_was_written(tmp_path):
    file = write_series(tmp_path, phantom(), AFFINE, slice_thickness_mm=3.0, acquisition_type="3D")[2]
    (frame,) = read_frames(file)
    dataset = pydicom.dcmread(file)
    assert frame.position_mm == tuple(dataset.ImagePositionPatient)
    assert frame.orientation == tuple(dataset.ImageOrientationPatient)
    assert frame.pixel_spacing_mm == (0.9, 0.9)
    assert (frame.slice_thickness_mm, frame.acquisition_type) == (3.0, "3D")
    assert (frame.rows, frame.columns) == (dataset.Rows, dataset.Columns)
    assert (frame.instance_number, frame.echo_time_ms) == (3, 101)


@pytest.mark.parametrize(
    ("group", "creator", "element", "vr", "value", "b_value"),
    [
        (0x0019, "SIEMENS MR HEADER", 0x0C, "IS", "800", 800),
        (0x0043, "GEMS_PARM_01", 0x39, "IS", ["1000000800", "8", "0", "0"], 800),
        (0x0043, "GEMS_PARM_01", 0x39, "UN", b"500\\8\\0\\0 ", 500),
        (0x2001, "Philips Imaging DD 001", 0x03, "FL", 400.0, 400),
        (0x0065, "Image Private Header", 0x09, "FD", 50.0, 50),
        (0x0019, "SOMEONE ELSE", 0x0C, "IS", "800", None),
    ],
)
def test_b_values_of_vendors_are_found(tmp_path, group, creator, element, vr, value, b_value):
    file = write_series(tmp_path, phantom(), AFFINE)[0]
    dataset = pydicom.dcmread(file)
    dataset.private_block(group, creator, create=True).add_new(element, vr, value)
    dataset.save_as(file)
    assert read_frames(file)[0].b_value == b_value


def test_a_changed_file_is_read_again(tmp_path):
    file = write_series(tmp_path, phantom(), AFFINE)[0]
    assert read_frames(file)[0].modality == "MR"
    write_series(tmp_path, phantom(), AFFINE, header={"Modality": "OTHER"})
    assert read_frames(file)[0].modality == "OTHER"


def test_a_deflated_file_that_grows_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_INFLATED_BYTES", 2**22)
    file = write_series(tmp_path, phantom(), AFFINE)[0]
    dataset = pydicom.dcmread(file)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    dataset.save_as(file)
    assert read_frames(file)
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = deflater.compress(bytes(2**23)) + deflater.flush()
    start = 132 + 12 + pydicom.dcmread(file).file_meta.FileMetaInformationGroupLength
    Path(file).write_bytes(Path(file).read_bytes()[:start] + bomb)
    with pytest.raises(DamagedError, match="grows beyond 4 MiB"):
        read_frames(file)


def test_the_message_on_a_damaged_file_quotes_nothing(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    file = write_series(tmp_path, phantom(), AFFINE, header={"PatientName": "Mustermann^Erika"})[0]
    data = Path(file).read_bytes()
    Path(file).write_bytes(data[:132] + b"\xff" * 60 + data[-900:])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DamagedError) as error:
            read_frames(file)
    assert "\n" not in str(error.value)
    assert "Mustermann" not in str(error.value) + caplog.text


def test_warnings_of_values_are_not_shown(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    header = {"PatientBirthDate": "Mustermann", "StudyDate": "yesterday"}
    with pydicom.config.disable_value_validation():
        file = write_series(tmp_path, phantom(), AFFINE, header=header)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_frames(file)
        with quiet():
            assert read_dataset(file).PatientBirthDate == "Mustermann"
    assert "Mustermann" not in caplog.text


@pytest.mark.parametrize("length", [8 * 3000, 0xFFFFFFFF])
def test_a_small_file_of_empty_items_does_not_fill_the_memory(tmp_path, monkeypatch, length):
    monkeypatch.setattr(files, "MAX_ITEMS", 2000)
    file = Path(write_series(tmp_path, phantom(), AFFINE)[0])
    data = file.read_bytes()
    pixels = data.find(b"\xe0\x7f\x10\x00")
    sequence = struct.pack("<HH2sHI", 0x5200, 0x9230, b"SQ", 0, length)
    file.write_bytes(data[:pixels] + sequence + (b"\xfe\xff\x00\xe0" + bytes(4)) * 3000 + data[pixels:] + bytes(16000))
    with pytest.raises(DamagedError, match="more than 2000 sequence items"):
        read_frames(file)


def test_a_file_of_too_many_elements_is_refused(tmp_path):
    file = Path(write_series(tmp_path, phantom(), AFFINE)[0])
    data = file.read_bytes()
    pixels = data.find(b"\xe0\x7f\x10\x00")
    file.write_bytes(data[:pixels] + struct.pack("<HH2sH", 0x0043, 0x1001, b"LO", 0) * 40_000 + data[pixels:])
    with pytest.raises(DamagedError, match="more than 32768 elements"):
        read_frames(file)


@pytest.mark.parametrize(("seconds", "parallel"), [(0.02, True), (0.0, False)])
def test_files_are_read_in_parallel_only_where_they_are_waited_for(seconds, parallel):
    threads, asked = set(), []

    def read(number):
        if seconds:
            time.sleep(seconds)
        threads.add(threading.get_ident())
        return number

    def numbers():
        for number in range(40):
            asked.append(number)
            yield number

    for number, result in enumerate(files.each(read, numbers())):
        assert result == number
        assert len(asked) <= number + 1 + files.READERS  # never more than READERS files ahead
    assert (len(threads - {threading.get_ident()}) > 0) == parallel


def test_an_error_is_raised_at_the_position_of_its_file():
    def read(number):
        time.sleep(0.02)
        if number == 20:
            raise DamagedError("twenty")
        return number

    results = files.each(read, range(40))
    assert [next(results) for _ in range(20)] == list(range(20))
    with pytest.raises(DamagedError, match="twenty"):
        next(results)
