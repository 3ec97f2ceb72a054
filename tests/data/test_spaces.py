"""The space in which a NIfTI scan lies, and images in memory whose header and affine differ."""

import logging

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from scripts.data.acceptance import AcceptScand
from scripts.data.discovery import find_nifti
from scripts.data.readers import LoadImageCased, NiftiScanReader
from scripts.data.reference import ReferenceGrid
from scripts.data.saving import nifti_image
from scripts.geometry.errors import Refusal

from .test_nifti import patched
from .thick_scans import oblique_affine, voxels, write_scan

AFFINE = oblique_affine()


def read(source):
    return LoadImageCased("image", {"nifti": NiftiScanReader()})({"image": source})["image"]


def codes(image) -> tuple[int, int]:
    return int(image.header["sform_code"]), int(image.header["qform_code"])


@pytest.mark.parametrize(("sform", "qform", "used"), [(4, 1, 4), (1, 4, 1), (0, 2, 2), (3, 3, 3)])
def test_a_result_has_the_code_of_the_form_that_was_used(tmp_path, sform, qform, used):
    scan = read(patched(tmp_path / "a.nii", sform=sform, qform=qform))
    assert codes(nifti_image(scan)) == (used, used)


def test_a_result_on_another_grid_has_the_code_of_that_file(tmp_path):
    like = ReferenceGrid(patched(tmp_path / "like.nii", sform=4, qform=0))
    scan = read(patched(tmp_path / "a.nii"))
    assert codes(nifti_image(like(scan))) == (4, 4)


def test_a_volume_without_a_code_lies_in_the_scanner():
    assert codes(nifti_image(MetaTensor(torch.ones(1, 2, 2, 2), affine=torch.eye(4)))) == (1, 1)


def test_the_affine_of_an_image_in_memory_holds_where_the_header_differs():
    image = nibabel.Nifti1Image(voxels(), AFFINE)
    np.testing.assert_allclose(read(image).affine, AFFINE, atol=1e-5)
    image.affine[:3, 3] += (100, 50, 20)
    np.testing.assert_allclose(read(image).affine, image.affine)


def test_an_analyze_or_mgh_image_without_an_affine_is_refused():
    without = nibabel.AnalyzeImage(voxels(), None)
    default = nibabel.AnalyzeImage(voxels(), without.header.get_best_affine())
    flag = nibabel.MGHImage(voxels(), AFFINE)
    flag.header["goodRASFlag"] = 0
    forgotten = nibabel.MGHImage.from_bytes(_without_position(nibabel.MGHImage(voxels(), AFFINE)))
    for image in (without, default, flag, forgotten):
        with pytest.raises(Refusal, match="missing affine"):
            read(image)
    for image in (nibabel.AnalyzeImage(voxels(), AFFINE), nibabel.MGHImage(voxels(), AFFINE)):
        np.testing.assert_allclose(read(image).affine, AFFINE, atol=1e-4)


def _without_position(image) -> bytes:
    content = bytearray(image.to_bytes())
    content[28:30] = b"\0\0"  # goodRASFlag
    return bytes(content)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_truncated_image_in_memory_is_refused(tmp_path, ending):
    path = write_scan(tmp_path / f"a{ending}")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(Refusal, match="corrupt or truncated"):
        read(nibabel.load(path))


def test_a_damaged_header_of_a_pair_stops_no_other_scan(tmp_path):
    write_scan(tmp_path / "good.nii")
    (tmp_path / "bad.hdr.gz").write_bytes(b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + b"\xff" * 200)
    assert [case.name for case in find_nifti(tmp_path)] == ["good"]


def test_frames_that_are_not_there_are_named(tmp_path, caplog):
    series = write_scan(tmp_path / "four.nii", np.stack([voxels()] * 3, -1))
    assert [case.frame for case in find_nifti(series, [0, 9])] == [0]
    assert "four.nii: has 3 frames, none of number [9]: see --frames" in caplog.text
    single = write_scan(tmp_path / "three.nii")
    with caplog.at_level(logging.WARNING):
        assert [case.frame for case in find_nifti(single, 9)] == [None]
    assert "three.nii: has one volume, which is processed, none of number [9]" in caplog.text
    caplog.clear()
    find_nifti(tmp_path, 0)
    assert not caplog.text


def test_the_refusal_of_a_sheared_grid_names_the_option_and_the_file(tmp_path):
    sheared = np.eye(4)
    sheared[0, 1] = 0.2
    nibabel.Nifti1Image(np.zeros((4, 4, 4), np.int16), sheared).to_filename(tmp_path / "like.nii")
    with pytest.raises(Refusal, match=r"^--like like\.nii: "):
        ReferenceGrid(tmp_path / "like.nii")


def test_contradictions_of_the_spacing_are_warnings_of_the_scan(tmp_path):
    path = patched(tmp_path / "a.nii", (80, "<3f", 2.0, 2.0, 2.0), qform=0)
    path.with_suffix(".json").write_text('{"SpacingBetweenSlices": 9}')
    pixdim, sidecar = AcceptScand("image")({"image": read(str(path))})["image"].meta["warnings"]
    assert pixdim.startswith("pixdim says voxels of 2 x 2 x 2, the affine")
    assert sidecar.startswith("the sidecar says 9 mm between slices, the affine")
