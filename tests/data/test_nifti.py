"""NIfTI files as other programs write them: odd headers, names that mislead, pairs, inherited sidecars, odd units."""

import gzip
import json
import struct
import tracemalloc

import nibabel
import numpy as np
import pytest

from scripts.data import readers
from scripts.data.acceptance import AcceptScand
from scripts.data.discovery import find_nifti
from scripts.data.readers import LoadImageCased, NiftiScanReader
from scripts.geometry.errors import Refusal

from .thick_scans import oblique_affine, voxels, write_scan

load = LoadImageCased("image", {"nifti": NiftiScanReader()})
AFFINE = np.diag([0.9, 0.9, 3.6, 1.0])


def patched(path, *patches, affine=AFFINE, sform=1, qform=1):
    image = nibabel.Nifti1Image(voxels(), affine)
    image.set_sform(affine, sform)
    image.set_qform(AFFINE, qform)
    content = bytearray(image.to_bytes())
    for offset, form, *values in patches:
        struct.pack_into(form, content, offset, *values)
    path.write_bytes(gzip.compress(bytes(content)) if path.name.endswith(".gz") else bytes(content))
    return path


def read(path):
    (case,) = find_nifti(path)
    if case.refusal:
        raise Refusal(case.refusal)
    return load(case.as_item())["image"]


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("offset", [0.0, 348.0, -1.0, float("nan")])
def test_voxels_inside_the_header_are_refused(tmp_path, name, offset):
    with pytest.raises(Refusal, match="vox_offset"):
        read(patched(tmp_path / name, (108, "<f", offset)))


def test_compression_is_recognised_by_the_first_bytes(tmp_path):
    plain = patched(tmp_path / "a.nii").read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(plain)
    (tmp_path / "c.nii").write_bytes(gzip.compress(plain))
    for name in ("b.nii.gz", "c.nii"):
        np.testing.assert_array_equal(read(tmp_path / name).numpy()[0], voxels())


@pytest.mark.parametrize("row", [[0.0] * 12, [float("nan")] * 12])
def test_an_unusable_sform_gives_way_to_the_qform(tmp_path, caplog, row):
    scan = read(patched(tmp_path / "a.nii", (280, "<12f", *row)))
    np.testing.assert_allclose(scan.affine.numpy(), AFFINE, atol=1e-5)
    assert "the qform is used" in caplog.text
    assert "the qform is used" in scan.meta["geometry_notes"]


@pytest.mark.parametrize("shear", [2e-3, 2e-2])
def test_a_sheared_sform_gives_way_to_the_qform(tmp_path, shear):
    sheared = AFFINE.copy()
    sheared[0, 1] += shear * 0.9
    np.testing.assert_allclose(read(patched(tmp_path / "a.nii", affine=sheared)).affine.numpy(), AFFINE, atol=1e-5)


def test_a_quaternion_longer_than_1_by_rounding_is_scaled_and_a_damaged_one_is_refused(tmp_path):
    half_turn = (256, "<3f", 0.0, 0.0, 1.00002)
    scan = read(patched(tmp_path / "a.nii", half_turn, sform=0))
    np.testing.assert_allclose(np.diag(scan.affine.numpy()), [-0.9, -0.9, 3.6, 1], atol=1e-5)
    with pytest.raises(Refusal, match="quaternion"):
        read(patched(tmp_path / "b.nii", (256, "<3f", 0.0, 0.0, 1.5), sform=0))


@pytest.mark.parametrize("suffix", [".img", ".img.gz"])
def test_a_pair_is_one_case(tmp_path, suffix):
    nibabel.save(nibabel.Nifti1Pair(voxels(), AFFINE), tmp_path / f"pair{suffix}")
    for path in (tmp_path, tmp_path / f"pair{suffix}"):
        np.testing.assert_array_equal(read(path).numpy()[0], voxels())
    (case,) = find_nifti(tmp_path)
    assert {file.name for file in case.files} == {f"pair{suffix}", f"pair{suffix.replace('img', 'hdr')}"}
    (tmp_path / f"pair{suffix}").unlink()
    with pytest.raises(Refusal, match="file of its voxels"):
        read(tmp_path)


def test_a_text_file_called_hdr_is_no_scan(tmp_path):
    (tmp_path / "a.hdr").write_text("ENVI\n")
    assert find_nifti(tmp_path) == []


def test_sidecars_are_inherited_and_the_nearest_counts(tmp_path):
    folder = tmp_path / "sub-01" / "anat"
    scan = write_scan(folder / "sub-01_T2w.nii.gz")
    (tmp_path / "T2w.json").write_text(json.dumps({"SliceThickness": 3.0, "MRAcquisitionType": "2D"}))
    (tmp_path / "T1w.json").write_text(json.dumps({"SliceThickness": 2.0}))
    (tmp_path / "sub-02_T2w.json").write_text(json.dumps({"SliceThickness": 1.0}))
    assert "slice_thickness_mm" not in read(scan).meta  # no BIDS data set
    (tmp_path / "dataset_description.json").write_text("{}")
    meta = read(scan).meta
    assert (meta["slice_thickness_mm"], meta["acquisition_type"]) == (3.0, "2D")
    assert meta["thickness_source"] == "BIDS sidecar SliceThickness (T2w.json)"
    (folder / "sub-01_T2w.json").write_text(json.dumps({"SliceThickness": 3.5}))
    meta = read(scan).meta
    assert (meta["slice_thickness_mm"], meta["acquisition_type"]) == (3.5, "2D")


def test_a_sidecar_in_another_encoding_is_read(tmp_path):
    scan = write_scan(tmp_path / "a.nii")
    (tmp_path / "a.json").write_bytes(b'{"InstitutionName": "Universit\xe4t", "SliceThickness": 3}')
    assert read(scan).meta["slice_thickness_mm"] == 3


@pytest.mark.parametrize("thickness", [0.003, 3000])
def test_a_thickness_in_another_unit_is_refused(tmp_path, thickness):
    scan = write_scan(tmp_path / "a.nii")
    (tmp_path / "a.json").write_text(json.dumps({"SliceThickness": thickness}))
    with pytest.raises(Refusal, match="another unit than mm"):
        AcceptScand("image")({"image": read(scan)})


@pytest.mark.parametrize("unit", ["meter", "micron"])
def test_pixels_in_a_wrong_unit_are_refused(tmp_path, unit):
    image = nibabel.Nifti1Image(voxels(), oblique_affine((0.9, 0.9, 3.6)))
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "a.nii")
    with pytest.raises(Refusal, match="unit of length"):
        AcceptScand("image")({"image": read(tmp_path / "a.nii")})


def test_grey_levels_lost_in_single_precision_are_refused(tmp_path):
    data = voxels().astype(np.int32) + 2**30
    with pytest.raises(Refusal, match="grey levels"):
        read(write_scan(tmp_path / "a.nii", data))
    data[:8] = 0  # air does not hide it
    with pytest.raises(Refusal, match="grey levels"):
        read(write_scan(tmp_path / "b.nii", data))
    wide = np.random.default_rng(0).integers(0, 2**30, (24, 20, 8)).astype(np.int32)
    np.testing.assert_array_equal(read(write_scan(tmp_path / "c.nii", wide)).numpy()[0], wide.astype(np.float32))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_forged_number_of_frames_is_one_refusal(tmp_path, name):
    path = patched(tmp_path / name, (40, "<8h", 4, 24, 20, 8, 32767, 1, 1, 1))
    (case,) = find_nifti(path)
    assert "bytes short" in case.refusal


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize(
    ("patch", "line"),
    [
        ((40, "<8h", 3, 24, 20, 7, 1, 1, 1, 1), "960 bytes more than 24 x 20 x 7 voxels"),
        ((40, "<8h", 3, 23, 20, 8, 1, 1, 1, 1), "320 bytes more"),  # would be sheared
        ((70, "<h", 2), "3840 bytes more"),  # of one byte in place of two
        ((70, "<h", 16), "7680 bytes short"),
        ((108, "<f", 368.0), "16 bytes short"),
        ((108, "<f", 352.5), "not a whole number"),
        ((112, "<2f", 1.0, float("nan")), "header is not valid"),
        ((123, "<B", 4), "code 4, which NIfTI does not define"),
        ((344, "4s", b"ni1\0"), "voxels are in an .img file"),
        ((292, "<f", 1e30), "1e\\+30 mm from the origin"),
    ],
)
def test_a_header_that_does_not_fit_the_voxels_is_refused(tmp_path, name, patch, line):
    with pytest.raises(Refusal, match=line):
        AcceptScand("image")({"image": read(patched(tmp_path / name, patch))})


def test_voxels_behind_an_extension_that_the_header_ignores_are_refused(tmp_path):
    path = patched(tmp_path / "a.nii", (348, "<B", 1))
    content = path.read_bytes()
    extension = struct.pack("<2i", 32, 6) + bytes(24)
    path.write_bytes(content[:352] + extension + content[352:])
    with pytest.raises(Refusal, match="32 bytes more"):
        read(path)
    content = bytearray(path.read_bytes())
    struct.pack_into("<f", content, 108, 384.0)
    path.write_bytes(content)
    np.testing.assert_array_equal(read(path).numpy()[0], voxels())


@pytest.mark.parametrize("padding", [1, 15])
def test_padding_shorter_than_any_row_is_left_out(tmp_path, padding):
    path = patched(tmp_path / "a.nii")
    path.write_bytes(path.read_bytes() + bytes(padding))
    np.testing.assert_array_equal(read(path).numpy()[0], voxels())


@pytest.mark.parametrize("pixdim", [(0.9, 0.9, 0.0), (0.0, 0.9, 3.6), (0.9, 0.9, float("nan"))])
def test_a_spacing_that_the_qform_lacks_is_not_made_up(tmp_path, pixdim):
    """nibabel takes 1 mm for 0."""
    with pytest.raises(Refusal, match=r"the qform is damaged .*a spacing of 0"):
        read(patched(tmp_path / "a.nii", (80, "<3f", *pixdim), sform=0))
    zero = (280, "<12f", *[0.0] * 12)
    with pytest.raises(Refusal, match="singular"):
        AcceptScand("image")({"image": read(patched(tmp_path / "b.nii", (80, "<3f", *pixdim), zero))})


def test_sform_and_qform_that_contradict_each_other_are_named(tmp_path, caplog):
    mirrored = AFFINE.copy()
    mirrored[0, 0] *= -1
    scan = read(patched(tmp_path / "a.nii", affine=mirrored))
    np.testing.assert_allclose(scan.affine.numpy(), mirrored, atol=1e-5)
    assert "sform and qform differ, at a corner by 41.4" in scan.meta["geometry_notes"]
    assert "a.nii: sform and qform differ" in caplog.text
    other = read(patched(tmp_path / "b.nii", affine=mirrored, sform=4))  # of a template: programs may take either
    assert other.meta["geometry_notes"].endswith("the sform (code 4) is used")


def test_two_files_for_the_voxels_of_a_pair_are_refused(tmp_path):
    nibabel.save(nibabel.Nifti1Pair(voxels(), AFFINE), tmp_path / "a.img")
    (tmp_path / "a.img.gz").write_bytes(gzip.compress(voxels(seed=1).tobytes(order="F")))
    with pytest.raises(Refusal, match=r"a\.img and a\.img\.gz may hold its voxels: keep one"):
        read(tmp_path / "a.hdr")


def test_lines_of_nibabel_that_name_no_file_are_not_shown(tmp_path, caplog, capfd):
    path = patched(tmp_path / "a.nii", (108, "<f", 353.0), (70, "<h", 9999))
    with pytest.raises(Refusal, match=r"^a\.nii: the header is not valid \(data code 9999 not recognized\)"):
        read(path)
    assert caplog.text == ""
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("offset", [1e6, -1e6])
def test_grey_levels_lost_below_2_to_the_24_are_refused_too(tmp_path, offset):
    with pytest.raises(Refusal, match="leave 15 of 888 grey levels"):
        read(write_scan(tmp_path / "a.nii", offset + np.sign(offset) * voxels() / 1000))
    with pytest.raises(Refusal, match="leave 15 of 888 grey levels"):
        read(patched(tmp_path / "b.nii", (112, "<2f", np.sign(offset) * 0.001, offset)))
    noisy = voxels() * 0.1 + np.random.default_rng(0).uniform(0, 1e-13, (24, 20, 8))  # rounding in double precision
    np.testing.assert_allclose(read(write_scan(tmp_path / "c.nii", noisy)).numpy()[0], noisy, rtol=1e-6)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("shape", [(2000, 2000, 2000), (24, 20, 9)])
def test_a_forged_size_is_refused_before_it_is_allocated(tmp_path, name, shape):
    path = patched(tmp_path / name, (40, "<8h", 3, *shape, 1, 1, 1, 1))
    tracemalloc.start()
    with pytest.raises(Refusal, match="bytes short of"):
        read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6


def test_a_volume_of_too_many_voxels_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "LARGEST_INPUT_VOXELS", 24 * 20 * 8 - 1)
    with pytest.raises(Refusal, match="24 x 20 x 8 voxels exceed the limit of 3839 a volume: crop"):
        read(patched(tmp_path / "a.nii"))


@pytest.mark.parametrize("code", [4, 5, 6, 7])
def test_a_unit_of_length_that_nifti_does_not_define_is_refused(tmp_path, code):
    with pytest.raises(Refusal, match=f"code {code}, which NIfTI does not define"):
        read(patched(tmp_path / "a.nii", (123, "B", code)))


@pytest.mark.parametrize("code", [2 | 8, 2 | 56, 2 | 64, 56])
def test_the_unit_of_time_does_not_matter(tmp_path, code):
    assert read(patched(tmp_path / "a.nii", (123, "B", code))).affine[2, 2] == pytest.approx(3.6)


def test_voxels_that_are_not_there_take_no_memory(tmp_path):
    sizes = [3, 32767, 32767, 32767, 1, 1, 1, 1]
    for name in ("a.nii", "a.nii.gz"):
        with pytest.raises(Refusal, match=r"bytes short of 32767 x 32767 x 32767 voxels"):
            read(patched(tmp_path / name, (40, "<8h", *sizes)))
        (tmp_path / name).unlink()


def test_names_that_would_change_the_line_are_escaped(tmp_path, caplog):
    caplog.set_level("INFO")
    odd = tmp_path / "a\u202eb\n.nii"
    patched(odd, (280, "<12f", *[0.0] * 12))
    (case,) = find_nifti(tmp_path)
    accept = AcceptScand("image")
    accept(load(case.as_item()) | {"case": case})
    odd.write_bytes(odd.read_bytes()[:5000])
    with pytest.raises(Refusal) as refused:
        load(case.as_item())
    text = caplog.text + case.label + str(refused.value)
    assert "a\\u202eb\\n.nii" in str(refused.value)
    assert "\u202e" not in text
    assert "b\n" not in text
