import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from monai.data import MetaTensor

from scripts.derived_series.coding import coding_of
from scripts.derived_series.provenance import Provenance
from scripts.derived_series.writer import DicomSeriesWriter, in_plane_order, write_derived_series
from scripts.dicom.discovery import Volume, find_series, volumes_of
from scripts.dicom.reader import DicomSeriesReader
from scripts.dicom.synthetic_series import write_series
from scripts.geometry.errors import Refusal
from tests.dicom.conftest import AFFINES, phantom, same_place
from tests.dicom.oracles import highdicom_read, itk_read
from tests.dicom.test_dicom_reader import enhanced

AFFINE = AFFINES["oblique"]
CHECKSUM = "0123456789abcdef" * 4
NOON = datetime(2026, 1, 2, 12, 0, 0)
SHAPE = (12, 10, 15)


def volume_of(shape=SHAPE, seed=1):
    """Return random fractions from -20 to 1000, like the values of a prediction."""
    return np.random.default_rng(seed).uniform(-20, 1000, shape).astype(np.float32)


def isotropic(affine, order=(0, 1, 2), flips=(1, 1, 1)):
    """Return an isotropic affine along the axes of an acquired one, in the given order and directions."""
    thin = affine.copy()
    thin[:3, :3] /= np.linalg.norm(thin[:3, :3], axis=0)
    thin = thin[:, [*order, 3]]
    for axis, flip in enumerate(flips):
        if flip < 0:
            thin[:3, 3] += (SHAPE[axis] - 1) * thin[:3, axis]
            thin[:3, axis] *= -1
    return thin


def source_of(files) -> Volume | None:
    """The one volume that files hold; None for no file."""
    volumes = volumes_of(list(files), minimum_slices=1)
    assert len(volumes) <= 1
    return volumes[0] if volumes else None


def write(folder, volume, affine, source, **options):
    source = source if isinstance(source, Volume) else source_of(source)
    signed = {"provenance": Provenance("1.2.3", CHECKSUM), "created": NOON}
    return write_derived_series(folder, volume, affine, source, **signed | options)


def read(files):
    reader = DicomSeriesReader()
    return reader.get_data(reader.read(list(files)))


@pytest.mark.parametrize(
    ("order", "flips"), [((0, 1, 2), (1, 1, 1)), ((2, 0, 1), (1, -1, 1)), ((1, 2, 0), (-1, 1, -1))]
)
def test_voxels_keep_their_positions_for_any_order_of_axes(tmp_path, affine, order, flips):
    source = write_series(tmp_path / "source", phantom(), affine)
    volume, thin = volume_of(), isotropic(affine, order, flips)
    derived = write(tmp_path / "derived", volume, thin, source)
    array, meta = read(derived.files)
    assert same_place(volume, thin, array, meta["affine"]) <= 0.5001
    first, last = pydicom.dcmread(source[0]), pydicom.dcmread(derived.files[0])
    assert np.allclose(first.ImageOrientationPatient, last.ImageOrientationPatient, atol=1e-6)
    assert len(derived.files) == SHAPE[order.index(2)]


def test_other_libraries_read_the_same_voxels_at_the_same_positions(tmp_path, affine):
    source = write_series(tmp_path / "source", phantom(), affine)
    volume, thin = volume_of(), isotropic(affine, (2, 0, 1), (1, -1, 1))
    derived = write(tmp_path / "derived", volume, thin, source)
    for oracle in (itk_read, highdicom_read):
        other, other_affine = oracle(derived.files)
        assert same_place(volume, thin, other, other_affine) <= 0.5001


def test_a_bright_voxel_keeps_its_position_from_scan_to_derived_series(tmp_path, affine):
    scan = np.zeros((12, 10, 6))
    scan[7, 3, 4] = 1000
    source = write_series(tmp_path / "source", scan, affine)
    array, meta = read(source)
    # Three thin slices in each thick one; the middle one has the position of the thick one.
    thin = meta["affine"].copy()
    thin[:3, 2] /= 3
    thin[:3, 3] -= thin[:3, 2]
    derived = write(tmp_path / "derived", np.repeat(array, 3, axis=2), thin, source)
    voxels, place = itk_read(derived.files)
    bright = np.argwhere(voxels == 1000)
    assert len(bright) == 3
    assert np.allclose(place @ [*bright.mean(0), 1], affine @ [7, 3, 4, 1], atol=1e-3)


def test_nifti_to_dicom_and_back_is_the_same(tmp_path, series):
    volume, thin = np.rint(volume_of()), isotropic(AFFINE)
    nibabel.save(nibabel.Nifti1Image(volume, thin), tmp_path / "scan.nii.gz")
    nifti = nibabel.load(tmp_path / "scan.nii.gz")
    derived = write(tmp_path / "derived", nifti.get_fdata(), nifti.affine, series)
    array, meta = read(derived.files)
    assert same_place(volume, thin, array, meta["affine"]) == 0
    assert np.abs(meta["affine"] - thin).max() < 1e-4


@pytest.mark.parametrize(("plane", "normal"), [("axial", 2), ("coronal", 1), ("sagittal", 0)])
def test_slices_run_along_the_chosen_plane(tmp_path, series, plane, normal):
    volume, thin = volume_of(), isotropic(AFFINE)
    derived = write(tmp_path / "derived", volume, thin, series, plane=plane)
    array, meta = read(derived.files)
    assert np.abs(meta["affine"][:3, 2]).argmax() == normal
    assert same_place(volume, thin, array, meta["affine"]) <= 0.5001
    with pytest.raises(Refusal, match="plane 'up'"):
        write(tmp_path / "derived", volume, thin, series, plane="up")


def test_provenance_is_complete(tmp_path, series):
    derived = write(tmp_path / "derived", volume_of(), isotropic(AFFINE), series)
    source, result = pydicom.dcmread(series[0]), pydicom.dcmread(derived.files[3])
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName", "AccessionNumber"):
        assert result[keyword].value == source[keyword].value
    assert result.SeriesInstanceUID != source.SeriesInstanceUID
    assert result.SOPClassUID == source.SOPClassUID
    assert list(result.ImageType) == ["DERIVED", "SECONDARY", "OTHER", "RESAMPLED"]
    assert result.DerivationCodeSequence[0].CodeValue == "113085"
    assert "synthesised" in result.DerivationDescription
    assert len(result.DerivationDescription) <= 1024
    assert result.SeriesDescription == "GLADE SR synthesised: T2 TSE"
    references = {item.ReferencedSOPInstanceUID for item in result.SourceImageSequence}
    assert references == {pydicom.dcmread(file).SOPInstanceUID for file in series}
    assert result.SourceImageSequence[0].PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    assert result.SourceImageSequence[0].SpatialLocationsPreserved == "NO"
    assert result.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
    equipment = result.ContributingEquipmentSequence[0]
    assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    assert equipment.Manufacturer == "GLADE"
    assert list(equipment.SoftwareVersions) == ["1.2.3", f"own weights {CHECKSUM[:16]}"]
    assert CHECKSUM in equipment.ContributionDescription
    assert equipment.ContributionDateTime == "20260102120000"
    assert "BurnedInAnnotation" not in result  # the source does not state it either
    assert result.LossyImageCompression == "00"
    assert result.SliceThickness == result.SpacingBetweenSlices == 1
    assert result.WindowCenter == source.WindowCenter
    uids = [pydicom.dcmread(file).SOPInstanceUID for file in derived.files]
    assert len(set(uids)) == len(uids)
    assert [int(pydicom.dcmread(file).InstanceNumber) for file in derived.files] == list(range(1, len(uids) + 1))


def test_interpolated_weights_are_stated_with_both_checksums_and_the_sharpness(tmp_path, series):
    provenance = Provenance("1.2.3", CHECKSUM, CHECKSUM[::-1], 0.5)
    derived = write(tmp_path / "derived", volume_of(), isotropic(AFFINE), series, provenance=provenance)
    equipment = pydicom.dcmread(derived.files[0]).ContributingEquipmentSequence[0]
    assert list(equipment.SoftwareVersions) == ["1.2.3", f"own weights {CHECKSUM[:16]}", "sharpness 0.5"]
    assert f"{CHECKSUM} mixed with {CHECKSUM[::-1]} at 0.5" in equipment.ContributionDescription


@pytest.mark.parametrize(("offset", "expected"), [("+0530", "083000"), ("-0300", "000000"), ("nonsense", None)])
def test_times_are_in_the_time_zone_of_the_header(tmp_path, offset, expected):
    source = write_series(tmp_path / "scan", phantom(), AFFINE, header={"TimezoneOffsetFromUTC": offset})
    created = datetime(2026, 1, 2, 3, tzinfo=UTC)
    made = write_derived_series(
        *(tmp_path / "derived", volume_of(), isotropic(AFFINE), source_of(source)),
        provenance=Provenance("1"),
        created=created,
    )
    header = pydicom.dcmread(made.files[0])
    expected = expected or created.astimezone().strftime("%H%M%S")
    assert header.ContentTime == header.SeriesTime == expected
    assert header.ContributingEquipmentSequence[0].ContributionDateTime[8:] == expected


def test_attributes_of_the_acquired_slices_are_not_copied(tmp_path):
    def header(index):
        return {
            "SliceLocation": str(index),
            "SmallestImagePixelValue": 0,
            "SAR": "1",
            "AcquisitionMatrix": [0, 320, 310, 0],
            "AcquisitionTime": f"1015{index:02d}",
            "TriggerTime": str(index),
            "PatientComments": "kept",
        }

    source = write_series(tmp_path / "source", phantom(), AFFINE, header=header)
    for file in source:
        dataset = pydicom.dcmread(file)
        dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", 3)
        dataset.private_block(0x0011, "PATIENT", create=True).add_new(0x0A, "LO", "secret")
        dataset.save_as(file)
    result = pydicom.dcmread(write(tmp_path / "derived", volume_of(), isotropic(AFFINE), source).files[0])
    assert not [element for element in result.iterall() if element.tag.is_private]
    for keyword in ("SliceLocation", "SmallestImagePixelValue", "SAR", "AcquisitionMatrix", "AcquisitionTime"):
        assert keyword not in result
    assert result.PatientComments == "kept"


@pytest.mark.parametrize(
    ("low", "high", "identity", "signed", "rescaled"),
    [
        (0, 1000, True, False, False),
        (-20, 1000, True, True, False),
        (0, 65535, True, False, False),
        (-20, 40000, True, False, True),
        (0, 1e6, True, False, True),
        (0, 1.5, True, False, True),
        (0, 1000, False, False, True),
        (-1e-3, 1e-3, False, False, True),
        (7, 7, True, False, True),
        (-1e9, -9e8, True, False, True),
    ],
)
def test_coding_keeps_the_precision_of_the_scan(low, high, identity, signed, rescaled):
    coding = coding_of(low, high, identity)
    assert (coding.dtype == "<i2", not coding.is_identity) == (signed, rescaled)
    values = np.linspace(low, high, 10001)
    error = np.abs(coding.encode(values).astype(float) * coding.slope + coding.intercept - values).max()
    assert error <= coding.precision * (1 + 1e-6)
    assert coding.precision <= (max((high - low) / 65535 * 0.51, 0.5 * (high == low)) if rescaled else 0.5)


def test_a_rescaled_source_gives_a_rescaled_series(tmp_path):
    fractions = phantom() * 0.003
    source = write_series(tmp_path / "source", fractions, AFFINE, rescale_slope=0.003)
    volume = volume_of() * 0.003
    derived = write(tmp_path / "derived", volume, isotropic(AFFINE), source)
    array, meta = read(derived.files)
    assert same_place(volume, isotropic(AFFINE), array, meta["affine"]) <= derived.coding.precision * 1.01 < 0.003


def test_an_enhanced_source_gives_a_classic_series(tmp_path, series):
    path = tmp_path / "enhanced.dcm"
    enhanced(path, series)
    result = pydicom.dcmread(write(tmp_path / "derived", volume_of(), isotropic(AFFINE), [str(path)]).files[0])
    assert result.SOPClassUID == pydicom.uid.MRImageStorage
    assert result.EchoTime == 10
    assert "PerFrameFunctionalGroupsSequence" not in result
    item = result.SourceImageSequence[0]
    assert len(result.SourceImageSequence) == 1
    assert [int(n) for n in item.ReferencedFrameNumber] == list(range(1, len(series) + 1))


def test_enhanced_files_of_one_frame_each_give_their_own_values(tmp_path, series):
    files = []
    for number, file in enumerate(series):
        path = tmp_path / f"one_{number}.dcm"
        enhanced(path, [file])
        dataset = pydicom.dcmread(path)
        (group,) = dataset.PerFrameFunctionalGroupsSequence
        timing, window = pydicom.Dataset(), pydicom.Dataset()
        timing.RepetitionTime, timing.FlipAngle = 1234.0, 33.0
        window.WindowCenter, window.WindowWidth = "321", "654"
        group.MRTimingAndRelatedParametersSequence, group.FrameVOILUTSequence = [timing], [window]
        for keyword in ("RepetitionTime", "FlipAngle", "WindowCenter", "WindowWidth"):
            delattr(dataset, keyword)
        dataset.SOPInstanceUID = f"1.2.3.{number}"
        dataset.save_as(path)
        files.append(str(path))
    source = source_of(files)
    assert [frame.index for frame in source.frames] == [None] * len(files)
    written = pydicom.dcmread(write(tmp_path / "derived", volume_of(), isotropic(AFFINE), source).files[0])
    assert (written.RepetitionTime, written.FlipAngle, written.EchoTime) == (1234, 33, 10)
    assert (written.WindowCenter, written.WindowWidth) == (321, 654)


def test_one_volume_of_an_enhanced_file_is_a_source(tmp_path, series):
    (tmp_path / "enhanced").mkdir()
    enhanced(tmp_path / "enhanced" / "two.dcm", series, echoes=2)
    image = find_series(tmp_path / "enhanced")[1].volume
    result = pydicom.dcmread(write(tmp_path / "derived", volume_of(), isotropic(AFFINE), image).files[0])
    assert result.EchoTime == 20
    frames = result.SourceImageSequence[0].ReferencedFrameNumber
    assert [int(n) for n in frames] == list(range(2, 2 * len(series) + 1, 2))


def test_of_very_many_sources_only_the_nearest_are_referenced(tmp_path):
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    source = write_series(tmp_path / "source", phantom((8, 8, 129)), affine)
    thin = np.diag([1.0, 1.0, 1.0, 1.0])
    derived = write(tmp_path / "derived", volume_of((8, 8, 6)), thin, source)
    near = {pydicom.dcmread(file).SOPInstanceUID for file in source[:32]}
    result = pydicom.dcmread(derived.files[0])
    assert {item.ReferencedSOPInstanceUID for item in result.SourceImageSequence} == near


@pytest.mark.parametrize(
    ("charset", "name"),
    [("ISO_IR 100", "Müller^Jörg"), ("ISO_IR 192", "山田^太郎"), (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎")],
)
def test_names_in_other_character_sets_are_kept(tmp_path, charset, name):
    header = {"SpecificCharacterSet": charset, "PatientName": name, "StudyDescription": name.partition("=")[2] or name}
    source = write_series(tmp_path / "source", phantom(), AFFINE, header=header)
    result = pydicom.dcmread(write(tmp_path / "derived", volume_of(), isotropic(AFFINE), source).files[0])
    assert str(result.PatientName) == name
    assert result.StudyDescription == header["StudyDescription"]


def test_a_long_description_is_marked_and_cut_to_64_characters(tmp_path):
    source = write_series(tmp_path / "source", phantom(), AFFINE, series_description="x" * 64)
    result = pydicom.dcmread(write(tmp_path / "derived", volume_of(), isotropic(AFFINE), source).files[0])
    assert result.SeriesDescription.startswith("GLADE SR synthesised: xxx")
    assert len(result.SeriesDescription) == 64


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({"ProtocolName": "knee pd sag"}, "knee pd sag"),
        ({"SequenceName": "*tse2d1_9", "ScanningSequence": "SE"}, "*tse2d1_9"),
        ({"ScanningSequence": "SE", "EchoTime": "20"}, "2D spin echo, TR 4000 ms, TE 20 ms"),
        (dict.fromkeys(("ScanningSequence", "MRAcquisitionType", "RepetitionTime", "EchoTime"), ""), "axial oblique"),
    ],
)
def test_a_series_without_a_description_is_named_by_what_else_is_known(tmp_path, header, expected):
    source = write_series(tmp_path / "source", phantom(), AFFINE, series_description="", header=header)
    result = pydicom.dcmread(write(tmp_path / "derived", volume_of(), isotropic(AFFINE), source).files[0])
    assert result.SeriesDescription == f"GLADE SR synthesised: {expected}"


def test_an_earlier_lossy_compression_stays_recorded(tmp_path):
    header = {"LossyImageCompression": "01", "LossyImageCompressionRatio": "8"}
    source = write_series(tmp_path / "source", phantom(), AFFINE, header=header)
    result = pydicom.dcmread(write(tmp_path / "derived", volume_of(), isotropic(AFFINE), source).files[0])
    assert result.LossyImageCompression == "01"
    assert result.LossyImageCompressionRatio == 8


def test_equal_input_and_time_give_equal_files(tmp_path, series):
    first = write(tmp_path / "1", volume_of(), isotropic(AFFINE), series)
    second = write(tmp_path / "2", volume_of(), isotropic(AFFINE), series)
    assert [Path(a).read_bytes() for a in first.files] == [Path(b).read_bytes() for b in second.files]
    third = write(tmp_path / "3", volume_of(seed=2), isotropic(AFFINE), series)
    assert third.series_uid != first.series_uid


def test_a_series_appears_whole_or_not_at_all(tmp_path, series, monkeypatch):
    calls = []

    def fail(*arguments):
        calls.append(arguments)
        if len(calls) > 3:
            raise OSError("disk full")

    monkeypatch.setattr("scripts.derived_series.slice_files.SliceFiles.write", fail)
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path / "out" / "derived", volume_of(), isotropic(AFFINE), series)
    assert list((tmp_path / "out").iterdir()) == []


def test_only_an_earlier_series_is_replaced(tmp_path, series):
    write(tmp_path / "derived", volume_of(), isotropic(AFFINE), series)
    assert len(write(tmp_path / "derived", volume_of(), isotropic(AFFINE), series).files) == SHAPE[2]
    (tmp_path / "derived" / "report.txt").write_text("mine")
    for folder in (tmp_path / "derived", Path(series[0]).parent):
        with pytest.raises(Refusal, match="exists and holds other files"):
            write(folder, volume_of(), isotropic(AFFINE), series)
    assert (tmp_path / "derived" / "report.txt").exists()


def test_invalid_volumes_affines_and_sources_are_refused(tmp_path, series):
    for volume, affine, source, text in (
        (np.full(SHAPE, np.nan), isotropic(AFFINE), series, "not finite"),
        (volume_of((4, 4)), isotropic(AFFINE), series, "X, Y, Z"),
        (volume_of(), isotropic(AFFINE) + np.eye(4, k=1) * 0.1, series, "not perpendicular"),
        (volume_of(), isotropic(AFFINE), [], "no DICOM volume with geometry is given as source"),
    ):
        with pytest.raises(Refusal, match=text):
            write(tmp_path / "derived", volume, affine, source)
    assert not (tmp_path / "derived").exists()


def test_the_monai_writer_takes_an_image_as_it_was_read(tmp_path, series):
    array, meta = read(series)
    affine = meta["affine"].copy()
    image = MetaTensor(torch.as_tensor(array)[None], affine=affine, meta=meta)
    writer = DicomSeriesWriter(Provenance("1.2.3", CHECKSUM))
    writer.set_data_array(image)
    writer.set_metadata({"affine": image.affine, "source": source_of(series)}, resample=False)
    back, back_meta = read(writer.write(tmp_path / "derived").files)
    assert same_place(array, affine, back, back_meta["affine"]) == 0
    with pytest.raises(Refusal, match="resample: false"):
        writer.set_metadata(image.meta, resample=True)


def test_a_derived_series_is_found_and_not_processed_again(tmp_path, series):
    write(tmp_path / "derived", volume_of(), isotropic(AFFINE), series)
    assert "already a result" in find_series(tmp_path / "derived")[0].refusal


def test_order_and_direction_follow_the_wanted_axes():
    volume = volume_of((3, 4, 5))
    affine = np.array([[0.0, 0, 2, 0], [-3, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    turned, place = in_plane_order(volume, affine, np.eye(3))
    assert turned.shape == (5, 3, 4)
    assert np.allclose(place, [[2, 0, 0, 0], [0, 3, 0, -6], [0, 0, 1, 0], [0, 0, 0, 1]])
    assert turned[4, 2, 1] == volume[0, 1, 4]


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy of dicom3tools")
@pytest.mark.parametrize("rescale_slope", [None, 0.25])
def test_dciodvfy_and_dcentvfy_find_no_error(tmp_path, rescale_slope):
    source = write_series(tmp_path / "source", phantom(), AFFINE, rescale_slope=rescale_slope)
    derived = write(tmp_path / "derived", volume_of(), isotropic(AFFINE), source)
    for file in derived.files:
        report = subprocess.run(["dciodvfy", "-new", file], capture_output=True, text=True, check=False).stderr
        assert [line for line in report.splitlines() if line.startswith("Error")] == []
    report = subprocess.run(["dcentvfy", *source, *derived.files], capture_output=True, text=True, check=False).stderr
    assert report.strip() == ""


@pytest.mark.parametrize("keyword", ["BurnedInAnnotation", "RecognizableVisualFeatures"])
@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        (["YES"] * 7, "YES"),
        (["NO"] * 6 + ["YES"], "YES"),
        ([None] * 6 + ["YES"], "YES"),
        (["NO"] * 7, "NO"),
        (["NO"] * 6 + [None], None),
        ([None] * 7, None),
    ],
)
def test_a_warning_about_the_pixels_is_kept_and_never_invented(tmp_path, keyword, stated, expected):
    source = write_series(tmp_path / "in", phantom(), AFFINE, header=lambda index: {keyword: stated[index]})
    derived = write(tmp_path / "out", volume_of(), isotropic(AFFINE), source)
    assert {pydicom.dcmread(file).get(keyword) for file in derived.files} == {expected}


def test_a_derived_series_is_numbered_apart_and_keeps_the_clinical_trial(tmp_path):
    trial = {"ClinicalTrialProtocolID": "T-7", "ClinicalTrialSubjectID": "S-3"}
    source = write_series(tmp_path / "in", phantom(), AFFINE, series_number=6, header=trial)
    result = pydicom.dcmread(write(tmp_path / "out", volume_of(), isotropic(AFFINE), source).files[0])
    assert result.SeriesNumber == 90_006
    assert {keyword: result.get(keyword) for keyword in trial} == trial
    assert "Findings must be checked in the source images" in result.DerivationDescription


@pytest.mark.parametrize(
    ("number", "expected"), [(2**31 - 1, 2**31 - 90_001), (2**31 - 90_001, 2**31 - 1), (-90_000, 0)]
)
def test_a_series_number_stays_within_its_range_and_differs_from_the_source(tmp_path, number, expected):
    source = write_series(tmp_path / "in", phantom(), AFFINE, series_number=number)
    result = pydicom.dcmread(write(tmp_path / "out", volume_of(), isotropic(AFFINE), source).files[0])
    assert result.SeriesNumber == expected


def test_a_series_of_others_with_the_same_file_names_is_not_replaced(tmp_path, series):
    for number, file in enumerate(write_series(tmp_path / "target", phantom(), AFFINE, series_number=7), 1):
        Path(file).rename(Path(file).with_name(f"IM{number:04}.dcm"))
    before = {path: path.read_bytes() for path in (tmp_path / "target").iterdir()}
    with pytest.raises(Refusal, match="exists and holds other files"):
        write(tmp_path / "target", volume_of(), isotropic(AFFINE), series)
    assert {path: path.read_bytes() for path in (tmp_path / "target").iterdir()} == before
