import os
import struct

import nibabel
import numpy as np
import pydicom
import pytest
from monai.data import DataLoader, Dataset, NibabelReader, decollate_batch, list_data_collate
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from scripts.dicom import pixels
from scripts.dicom.discovery import find_series, survey
from scripts.dicom.reader import DicomSeriesReader
from scripts.dicom.synthetic_series import write_series
from scripts.dicom.uids import uid_from
from scripts.geometry.errors import Refusal

from .conftest import AFFINES, SHAPE, phantom, same_place
from .oracles import highdicom_read, itk_read

AFFINE = AFFINES["oblique"]


def read(image, **options):
    reader = DicomSeriesReader(**options)
    return reader.get_data(reader.read(image))


def test_voxels_and_affine_equal_the_source(tmp_path, affine):
    volume = phantom()
    files = write_series(tmp_path, volume, affine, slice_thickness_mm=3.0)
    array, meta = read(sorted(files, key=os.path.getsize)[::-1])
    assert array.dtype == np.float32
    assert same_place(array, meta["affine"], volume, affine) == 0
    # Rows, columns and slices are right-handed in LPS, and so in RAS, which is LPS rotated by 180 degrees.
    assert np.linalg.det(meta["affine"][:3, :3]) > 0


def test_voxels_and_affine_equal_those_of_itk_and_highdicom(tmp_path, affine):
    write_series(tmp_path, phantom(), affine)
    files = find_series(tmp_path)[0].files
    array, meta = read(files)
    for oracle in (itk_read, highdicom_read):
        other, other_affine = oracle(files)
        assert same_place(array, meta["affine"], other, other_affine) == 0
    other, other_affine = itk_read(files)
    assert np.array_equal(array, other)
    assert np.abs(meta["affine"] - other_affine).max() < 1e-6


def test_a_bright_voxel_is_where_the_scanner_put_it(tmp_path, affine):
    volume = np.zeros(SHAPE)
    volume[11, 4, 5] = 1000
    array, meta = read(write_series(tmp_path, volume, affine))
    index = np.unravel_index(array.argmax(), array.shape)
    assert np.allclose(meta["affine"] @ [*index, 1], affine @ [11, 4, 5, 1], atol=1e-5)


def test_meta_holds_the_acquisition_and_where_it_is_stated(series):
    meta = read(series[::-1])[1]
    assert meta["through_plane_axis"] == 2
    assert meta["slice_thickness_mm"] == 3.0
    assert meta["thickness_source"] == "DICOM SliceThickness"
    assert meta["acquisition_type"] == "2D"
    assert meta["acquisition_type_source"] == "DICOM MRAcquisitionType"
    assert np.isclose(meta["slice_spacing_mm"], 3.6)


def test_meta_lacks_what_the_headers_do_not_state(tmp_path):
    files = write_series(tmp_path, phantom(), AFFINE, header={"SliceThickness": None, "MRAcquisitionType": None})
    meta = read(files)[1]
    assert not {"slice_thickness_mm", "thickness_source", "acquisition_type", "acquisition_type_source"} & set(meta)


@pytest.fixture
def load():
    readers = [DicomSeriesReader(), NibabelReader()]
    return Compose([LoadImaged(keys="image", reader=readers), EnsureChannelFirstd(keys="image")])


def test_load_image_takes_a_list_a_folder_and_a_nifti_file(load, tmp_path, series):
    nibabel.save(nibabel.Nifti1Image(phantom().astype(np.int16), AFFINE), tmp_path / "scan.nii.gz")
    items = [load({"image": image})["image"] for image in (series, str(tmp_path / "series"), tmp_path / "scan.nii.gz")]
    assert all(item.shape == (1, *SHAPE) for item in items)
    assert all(np.allclose(item.affine, AFFINE, atol=1e-5) for item in items)
    assert "through_plane_axis" in items[0].meta
    assert "through_plane_axis" not in items[2].meta


def test_load_image_raises_the_refusal_and_tries_no_other_reader(load, series):
    with pytest.raises(RuntimeError) as error:
        load({"image": [*series[:3], *series[4:]]})
    assert isinstance(error.value.__cause__, Refusal)
    assert "1 slice missing" in str(error.value.__cause__)


def test_meta_survives_collation_of_volumes_of_other_files(load, tmp_path, series):
    other = write_series(tmp_path / "other", phantom((*SHAPE[:2], 9)), AFFINE)
    data = Dataset([{"image": series}, {"image": other}], load)
    crop = [{"image": item["image"][..., :5]} for item in data]
    batch = list_data_collate(crop)
    axes = [item["image"].meta["through_plane_axis"] for item in decollate_batch(batch)]
    assert axes == [2, 2]
    loaded = next(iter(DataLoader(data, batch_size=1, collate_fn=list_data_collate)))
    assert loaded["image"].shape == (1, 1, *SHAPE)


@pytest.mark.parametrize(
    "syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEG2000Lossless, JPEGLSLossless]
)
def test_transfer_syntaxes_give_the_same_voxels(series, syntax):
    for file in series:
        dataset = pydicom.dcmread(file)
        if syntax == ExplicitVRBigEndian:
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
        if syntax.is_encapsulated:
            dataset.compress(syntax, generate_instance_uid=False)
        meta = dataset.file_meta
        meta.TransferSyntaxUID = syntax
        plain = pydicom.Dataset()  # a data set that does not remember its original encoding
        plain.update({element.tag: element for element in dataset})
        plain.file_meta = meta
        plain.save_as(file, enforce_file_format=True)
    array, meta = read(series)
    assert same_place(array, meta["affine"], phantom(), AFFINE) == 0


def test_signed_and_rescaled_values(tmp_path):
    volume = phantom() - 500
    assert same_place(*_voxels(write_series(tmp_path / "1", volume, AFFINE)), volume, AFFINE) == 0
    fractions = volume * 0.25
    files = write_series(tmp_path / "2", fractions, AFFINE, rescale_slope=0.25)
    assert same_place(*_voxels(files), fractions, AFFINE) == 0
    files = write_series(
        tmp_path / "3", phantom(), AFFINE, header=lambda i: {"RescaleSlope": str(i + 1), "RescaleIntercept": "-7"}
    )
    assert same_place(*_voxels(files), phantom() * np.arange(1, SHAPE[2] + 1) - 7, AFFINE) == 0


def _voxels(files):
    array, meta = read(files)
    return array, meta["affine"]


def test_twelve_bits_with_an_overlay_above_them(tmp_path):
    files = write_series(tmp_path, phantom(), AFFINE, header={"BitsStored": 12, "HighBit": 11})
    for file in files:
        dataset = pydicom.dcmread(file)
        dataset.PixelData = (np.frombuffer(dataset.PixelData, "<u2") | 0x8000).tobytes()
        dataset.save_as(file)
    with pytest.raises(Refusal, match="exceed BitsStored 12"):
        read(files)
    for file in files:
        dataset = pydicom.dcmread(file)
        dataset.add_new((0x6000, 0x0100), "US", 16)
        dataset.add_new((0x6000, 0x0102), "US", 15)
        dataset.save_as(file)
    assert same_place(*_voxels(files), phantom(), AFFINE) == 0


def test_twelve_signed_bits_carry_their_sign(tmp_path):
    volume = phantom() - 500
    files = write_series(tmp_path, volume, AFFINE, header={"BitsStored": 12, "HighBit": 11})
    for file in files[::2]:
        dataset = pydicom.dcmread(file)
        dataset.PixelData = (np.frombuffer(dataset.PixelData, "<u2") & 0x0FFF).tobytes()
        dataset.save_as(file)
    assert same_place(*_voxels(files), volume, AFFINE) == 0


def test_monochrome1_is_inverted_so_that_signal_is_bright(tmp_path):
    inverse = 4095 - phantom()
    header = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11}
    assert same_place(*_voxels(write_series(tmp_path, inverse, AFFINE, header=header)), phantom(), AFFINE) == 0


def enhanced(path, files, echoes=1):
    """Write a classic series as an enhanced MR file, in which the echoes of a slice follow one another."""
    slices = [pydicom.dcmread(file) for file in files]
    dataset = pydicom.dcmread(files[0])
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "EchoTime"):
        delattr(dataset, keyword)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid_from("enhanced", path)

    def group(keyword, **values):
        item = pydicom.Dataset()
        for key, value in values.items():
            setattr(item, key, value)
        return keyword, [item]

    def groups(*pairs):
        item = pydicom.Dataset()
        for key, value in pairs:
            setattr(item, key, value)
        return item

    first = slices[0]
    dataset.SharedFunctionalGroupsSequence = [
        groups(
            group("PixelMeasuresSequence", PixelSpacing=first.PixelSpacing, SliceThickness=first.SliceThickness),
            group("PlaneOrientationSequence", ImageOrientationPatient=first.ImageOrientationPatient),
            group("PixelValueTransformationSequence", RescaleSlope="2", RescaleIntercept="1"),
        )
    ]
    dataset.PerFrameFunctionalGroupsSequence = [
        groups(
            group("PlanePositionSequence", ImagePositionPatient=s.ImagePositionPatient),
            group("MREchoSequence", EffectiveEchoTime=10.0 * (echo + 1)),
        )
        for s in slices
        for echo in range(echoes)
    ]
    dataset.NumberOfFrames = len(slices) * echoes
    dataset.PixelData = b"".join(s.PixelData for s in slices for _ in range(echoes))
    dataset.save_as(path)


def test_an_enhanced_file_gives_the_same_voxels(tmp_path, series):
    path = tmp_path / "enhanced.dcm"
    enhanced(path, series[::-1])
    array, meta = read(path)
    assert same_place(array, meta["affine"], phantom() * 2 + 1, AFFINE) == 0
    assert find_series(path)[0].files == (path,)


def test_an_enhanced_file_of_two_echoes_holds_two_volumes(tmp_path, series):
    folder = tmp_path / "enhanced"
    folder.mkdir()
    enhanced(folder / "two.dcm", series, echoes=2)
    cases = find_series(folder)
    assert [case.name for case in cases] == ["001_T2_TSE_TE10", "001_T2_TSE_TE20"]
    assert [case.files for case in cases] == [(folder / "two.dcm",)] * 2
    assert [case.volume.planes_in_files for case in cases] == [tuple(range(n, 2 * len(series), 2)) for n in (0, 1)]
    reader = DicomSeriesReader()
    array, meta = reader.get_data(reader.read_case(cases[1]))
    assert same_place(array, meta["affine"], phantom() * 2 + 1, AFFINE) == 0
    with pytest.raises(Refusal, match="2 volumes"):
        read(folder / "two.dcm")


@pytest.mark.parametrize("share", [slice(None, 5), slice(None, None, 2)], ids=["one after the other", "interleaved"])
def test_enhanced_files_that_share_two_echoes_hold_two_whole_volumes(tmp_path, series, share):
    folder = tmp_path / "enhanced"
    folder.mkdir()
    first = series[share]
    enhanced(folder / "a.dcm", first, echoes=2)
    enhanced(folder / "b.dcm", [file for file in series if file not in first], echoes=2)
    for case in find_series(folder):
        reader = DicomSeriesReader()
        array, meta = reader.get_data(reader.read_case(case))
        assert same_place(array, meta["affine"], phantom() * 2 + 1, AFFINE) == 0
        assert len(case.files) == 2


def test_a_folder_must_hold_exactly_one_usable_volume(tmp_path, series):
    write_series(tmp_path / "few", phantom((8, 8, 3)), AFFINE, series_number=2)
    assert read(tmp_path)[0].shape == SHAPE
    write_series(tmp_path / "more", phantom(), AFFINE, series_number=3)
    with pytest.raises(Refusal, match=r"2 usable volumes of 3 .*003_T2_TSE \(usable\)"):
        read(tmp_path)


def test_few_slices_are_read_if_minimum_slices_allows_them(tmp_path):
    files = write_series(tmp_path, phantom((8, 8, 3)), AFFINE)
    with pytest.raises(Refusal, match="3 slices; at least 5"):
        read(files)
    assert read(files, minimum_slices=2)[0].shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda d: setattr(d, "PixelData", d.PixelData[:100]), "truncated"),
        (lambda d: d.pop("PixelData"), "no PixelData"),
        (lambda d: setattr(d, "RescaleSlope", "0"), "RescaleSlope is 0"),
        (lambda d: setattr(d, "RescaleSlope", "1e300"), "not finite"),
        (lambda d: setattr(d, "BitsAllocated", 64), "BitsAllocated 64"),
        (lambda d: setattr(d, "HighBit", 77), "HighBit 77"),
    ],
)
def test_invalid_pixels_are_refused_with_the_name_of_the_volume(series, change, text):
    dataset = pydicom.dcmread(series[2])
    change(dataset)
    dataset.save_as(series[2])
    with pytest.raises(Refusal, match=text) as error:
        read(series)
    assert str(error.value).startswith("001_T2_TSE: ")
    assert "\n" not in str(error.value)


def test_a_codestream_of_another_size_is_not_decoded(series):
    dataset = pydicom.dcmread(series[2])
    dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    at = dataset.PixelData.index(b"\xff\x4f\xff\x51") + 8
    dataset.PixelData = dataset.PixelData[:at] + b"\x00\x00\xff\xff" * 2 + dataset.PixelData[at + 8 :]
    dataset.save_as(series[2])
    with pytest.raises(Refusal, match="codestream of 65535 x 65535"):
        read(series)


def test_a_forged_size_takes_no_memory(tmp_path, monkeypatch):
    files = write_series(tmp_path, phantom(), AFFINE, header={"NumberOfFrames": str(2**31 - 1)})
    with pytest.raises(Refusal):
        read(files)
    files = write_series(tmp_path / "2", phantom(), AFFINE)
    for file in files:
        dataset = pydicom.dcmread(file)
        dataset.Rows = dataset.Columns = 65535
        dataset.save_as(file)
    with pytest.raises(Refusal, match=r"damaged files .* pixels are truncated"):
        read(files)
    monkeypatch.setattr(pixels, "MAX_PLANE_VOXELS", 1000)
    with pytest.raises(Refusal, match="exceed the limit"):
        read(write_series(tmp_path / "3", phantom(), AFFINE))


def test_run_length_coding_that_expands_beyond_the_plane_is_not_decoded(series):
    dataset = pydicom.dcmread(series[2])
    dataset.compress(RLELossless, generate_instance_uid=False)
    segment = b"\x81\x00" * 100_000  # each pair of bytes decodes to 128 zeros
    header = struct.pack("<16I", 2, 64, 64 + len(segment), *[0] * 13)
    dataset.PixelData = encapsulate([header + segment * 2])
    dataset.save_as(series[2])
    reader = DicomSeriesReader()
    with pytest.raises(Refusal, match="run-length coded bytes for a plane of"):
        reader.get_data(reader.read(series))


def test_verify_suffix_looks_at_the_content(tmp_path, series):
    reader = DicomSeriesReader()
    nibabel.save(nibabel.Nifti1Image(phantom().astype(np.int16), AFFINE), tmp_path / "scan.nii")
    assert reader.verify_suffix(series)
    assert reader.verify_suffix(str(tmp_path / "series"))
    assert not reader.verify_suffix(str(tmp_path / "scan.nii"))
    assert not reader.verify_suffix(str(tmp_path / "absent.dcm"))
    with pytest.raises(Refusal, match="not a DICOM file"):
        reader.read(tmp_path / "scan.nii")


def test_an_enhanced_file_of_a_single_dimension_is_read(tmp_path, series):
    path = tmp_path / "enhanced" / "one.dcm"
    path.parent.mkdir()
    enhanced(path, series)
    dataset = pydicom.dcmread(path)
    for number, group in enumerate(dataset.PerFrameFunctionalGroupsSequence, start=1):
        content = pydicom.Dataset()
        content.DimensionIndexValues = [number]
        group.FrameContentSequence = [content]
    dataset.save_as(path)
    found = survey(path.parent)
    assert found.damaged == ()
    assert [volume.reasons for volume in found.volumes] == [()]
