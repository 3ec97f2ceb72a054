import json
import warnings

import nibabel
import numpy as np
import pytest
import torch
from monai.transforms import LoadImaged

from scripts.data.discovery import find_nifti
from scripts.data.readers import LoadImageCased, NiftiScanReader
from scripts.geometry.errors import Refusal

from .thick_scans import oblique_affine, voxels, write_scan

load = LoadImageCased("image", {"nifti": NiftiScanReader()})


def read(path, **case):
    return load({"image": str(path), **case})["image"]


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64"]
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_any_type_is_read_as_float32_with_its_affine(tmp_path, dtype, suffix):
    data = (voxels() % 100).astype(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = nibabel.Nifti1Image(data, oblique_affine(), dtype=dtype)
        nibabel.save(image, tmp_path / f"a{suffix}")
        scan = read(tmp_path / f"a{suffix}")
    assert scan.shape == (1, 24, 20, 8)
    assert scan.dtype == torch.float32
    np.testing.assert_array_equal(scan.numpy()[0], data.astype(np.float32))
    np.testing.assert_allclose(scan.affine.numpy(), oblique_affine(), atol=1e-5)
    np.testing.assert_allclose(scan.meta["original_affine"], oblique_affine(), atol=1e-5)
    assert "slice_thickness_mm" not in scan.meta


def test_scl_slope_is_applied(tmp_path):
    image = nibabel.Nifti1Image(voxels(), oblique_affine())
    image.header.set_slope_inter(0.25, -3)
    image.header.set_data_dtype(np.int16)
    nibabel.save(image, tmp_path / "a.nii.gz")
    raw = nibabel.load(tmp_path / "a.nii.gz")
    assert raw.dataobj.slope == pytest.approx(0.25)
    np.testing.assert_array_equal(read(tmp_path / "a.nii.gz").numpy()[0], voxels() * 0.25 - 3)


def test_big_endian_is_read(tmp_path):
    image = nibabel.Nifti1Image(voxels(), oblique_affine(), header=nibabel.Nifti1Header(endianness=">"))
    nibabel.save(image, tmp_path / "a.nii")
    np.testing.assert_array_equal(read(tmp_path / "a.nii").numpy()[0], voxels())


@pytest.mark.parametrize("extra", [(), (1,)])
def test_the_chosen_frame_is_read(tmp_path, extra):
    data = np.stack([voxels(seed=s) for s in range(4)], -1).reshape(24, 20, 8, 4, *extra)
    path = write_scan(tmp_path / "dyn.nii.gz", data)
    for case in find_nifti(path, [1, 3]):
        scan = load(case.as_item())["image"]
        assert scan.shape == (1, 24, 20, 8)
        np.testing.assert_array_equal(scan.numpy()[0], voxels(seed=case.frame))
        np.testing.assert_allclose(scan.affine.numpy(), oblique_affine(), atol=1e-5)


def test_a_4d_file_without_a_chosen_frame_is_refused(tmp_path):
    with pytest.raises(Refusal, match="choose a frame"):
        read(write_scan(tmp_path / "dyn.nii.gz", np.stack([voxels()] * 2, -1)))


def test_the_sidecar_gives_thickness_and_acquisition(tmp_path):
    path = write_scan(tmp_path / "a.nii.gz")
    sidecar = {"SliceThickness": 3, "SpacingBetweenSlices": 4.0, "MRAcquisitionType": "2D", "PatientName": "X"}
    (tmp_path / "a.json").write_text(json.dumps(sidecar))
    meta = read(path).meta
    assert meta["slice_thickness_mm"] == 3.0
    assert meta["thickness_source"] == "BIDS sidecar SliceThickness"
    assert meta["stated_slice_spacing_mm"] == 4.0
    assert meta["acquisition_type"] == "2D"
    assert meta["acquisition_type_source"] == "BIDS sidecar MRAcquisitionType"
    assert not any("Patient" in key for key in meta)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[1]",
        '{"a":' * 50_000 + "1" + "}" * 50_000,
        '{"SliceThickness": "3"}',
        '{"SliceThickness": [3]}',
        '{"MRAcquisitionType": "4D"}',
    ],
)
def test_an_unusable_sidecar_is_refused(tmp_path, content):
    path = write_scan(tmp_path / "a.nii.gz")
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(Refusal, match=r"a\.json"):
        read(path)


def test_a_missing_affine_is_refused_and_a_degenerate_one_is_left_to_acceptance(tmp_path):
    with pytest.raises(Refusal, match=r"a\.nii: missing affine"):
        read(write_scan(tmp_path / "a.nii", qform_code=0, sform_code=0))
    path = write_scan(tmp_path / "b.nii", srow_z=[0, 0, 0, 0], sform_code=1)
    assert read(path).affine[2].abs().max() == 0


def test_a_qform_alone_is_enough(tmp_path):
    scan = read(write_scan(tmp_path / "a.nii", qform_code=1, sform_code=0))
    np.testing.assert_allclose(scan.affine.numpy(), oblique_affine(), atol=1e-4)


def test_other_units_become_mm(tmp_path):
    image = nibabel.Nifti1Image(voxels(), oblique_affine((1000, 1000, 4000), origin=(0, 0, 5000)))
    image.header.set_xyzt_units("micron")
    nibabel.save(image, tmp_path / "a.nii")
    affine = read(tmp_path / "a.nii").affine.numpy()
    np.testing.assert_allclose(np.linalg.norm(affine[:3, :3], axis=0), [1, 1, 4], rtol=1e-5)
    np.testing.assert_allclose(affine[3], [0, 0, 0, 1])


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.98])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_truncated_file_is_refused(tmp_path, suffix, keep):
    whole = write_scan(tmp_path / f"a{suffix}").read_bytes()
    (tmp_path / f"a{suffix}").write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(Refusal, match=r"corrupt or truncated|bytes short of"):
        read(tmp_path / f"a{suffix}")


def test_a_corrupt_file_is_refused(tmp_path):
    whole = bytearray(write_scan(tmp_path / "a.nii.gz").read_bytes())
    whole[len(whole) // 2 : len(whole) // 2 + 200] = b"\xff" * 200
    (tmp_path / "a.nii.gz").write_bytes(whole)
    with pytest.raises(Refusal, match="corrupt or truncated"):
        read(tmp_path / "a.nii.gz")


def test_complex_voxels_in_memory_are_refused_whatever_the_header_says():
    magnitude = nibabel.Nifti1Image(np.ones((8, 8, 6), np.int16), np.diag([1.0, 1, 4, 1]))
    image = nibabel.Nifti1Image(np.full((8, 8, 6), 3 + 4j), magnitude.affine, magnitude.header)
    assert image.get_data_dtype() == np.int16
    with pytest.raises(Refusal, match="image: voxels are complex numbers or colours"):
        NiftiScanReader().read(image)


@pytest.mark.parametrize("dtype", [np.complex64, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])])
def test_complex_and_colour_are_refused(tmp_path, dtype):
    path = write_scan(tmp_path / "a.nii", np.zeros((24, 20, 8), dtype))
    with pytest.raises(Refusal, match="complex numbers or colours"):
        read(path)


def test_a_format_without_a_reader_is_refused_and_the_class_is_monais():
    with pytest.raises(Refusal, match="no reader for the format dicom"):
        load({"image": ["1.dcm"], "format": "dicom", "case": "s"})
    assert isinstance(load, LoadImaged)
    assert "LoadImage" in type(load).__name__
    load._loader.image_only = False  # as MONAI Label does with every LoadImaged of a bundle
