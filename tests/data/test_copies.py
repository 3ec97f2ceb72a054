"""A scan that is there twice is processed once; what differs in anything is not taken for a copy."""

import json
import shutil

import numpy as np

from scripts.data import copies
from scripts.data.copies import without_copies
from scripts.data.discovery import find_nifti

from .thick_scans import voxels, write_scan


def names(folder) -> list[str]:
    return [case.name for case in without_copies(find_nifti(folder))]


def test_links_and_identical_copies_are_left_out_with_a_line_each(tmp_path, caplog):
    scan = write_scan(tmp_path / "a.nii")
    (tmp_path / "b.nii").symlink_to(scan)
    shutil.copyfile(scan, tmp_path / "c.nii")
    write_scan(tmp_path / "d.nii", voxels(seed=1))
    assert names(tmp_path) == ["a", "d"]
    assert [record.getMessage() for record in caplog.records] == [
        "b is the same scan as a: it is processed once",
        "c is the same scan as a: it is processed once",
    ]


def test_copies_of_one_name_are_told_apart_by_their_folders(tmp_path, caplog):
    scan = write_scan(tmp_path / "one" / "knee.nii")
    (tmp_path / "two").mkdir()
    shutil.copyfile(scan, tmp_path / "two" / "knee.nii")
    assert names(tmp_path) == ["one_knee"]
    assert "two_knee is the same scan as one_knee" in caplog.text


def test_copies_of_a_4d_scan_are_left_out_with_all_their_frames(tmp_path):
    scan = write_scan(tmp_path / "dwi.nii", np.stack([voxels(seed=0), voxels(seed=1)], -1))
    shutil.copyfile(scan, tmp_path / "other.nii")
    assert names(tmp_path) == ["dwi_f00", "dwi_f01"]


def test_another_sidecar_or_a_single_other_byte_makes_another_scan(tmp_path, caplog):
    data = np.zeros((40, 40, 20), np.int16)  # large enough that the samples do not reach the byte that differs
    data[20:] = 7
    scan = write_scan(tmp_path / "a.nii", data)
    assert scan.stat().st_size > 10 * copies.SAMPLE_BYTES
    content = bytearray(scan.read_bytes())
    content[len(content) // 4] ^= 1
    (tmp_path / "b.nii").write_bytes(content)
    shutil.copyfile(scan, tmp_path / "c.nii")
    (tmp_path / "c.json").write_text(json.dumps({"SliceThickness": 3.0}))
    assert names(tmp_path) == ["a", "b", "c"]
    (tmp_path / "a.json").write_text(json.dumps({"SliceThickness": 3.0}))
    assert names(tmp_path) == ["a", "b"]
    assert caplog.text.count("same scan") == 1


def test_a_file_that_vanishes_is_left_to_the_reader(tmp_path):
    found = find_nifti(write_scan(tmp_path / "a.nii"))
    (tmp_path / "a.nii").unlink()
    assert without_copies(found) == found
