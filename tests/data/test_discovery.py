import json
import time

import numpy as np
import pytest

from scripts.data.case import Case, safe_name, unique_names
from scripts.data.discovery import find_nifti, require_cases
from scripts.geometry.errors import Refusal

from .thick_scans import voxels, write_scan


def test_a_file_is_one_case(tmp_path):
    path = write_scan(tmp_path / "knee.nii.gz")
    assert find_nifti(path) == [Case("knee", (path,), "nifti", frame=None, refusal=None)]


def test_a_folder_is_walked_without_hidden_files_and_without_looping(tmp_path):
    for name in ("b.nii", "a.nii.gz", "sub/c.NII.GZ", ".hidden.nii", ".cache/d.nii", "sub/._c.nii.gz"):
        write_scan(tmp_path / "x.nii" if name.endswith("GZ") else tmp_path / name)
    (tmp_path / "sub").mkdir(exist_ok=True)
    (tmp_path / "x.nii").rename(tmp_path / "sub/c.NII")
    (tmp_path / "notes.txt").write_text("no scan")
    (tmp_path / "sub/loop").symlink_to(tmp_path)
    assert [case.name for case in find_nifti(tmp_path)] == ["a", "b", "c"]


def test_no_such_path_is_refused(tmp_path):
    with pytest.raises(Refusal, match="no such file or folder"):
        find_nifti(tmp_path / "nothing")


def test_another_kind_of_file_gives_no_case_and_require_cases_says_so(tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"x")
    assert find_nifti(tmp_path / "a.dcm") == []
    with pytest.raises(Refusal, match=r"no NIfTI file .* and no DICOM series in .*give a scan"):
        require_cases(find_nifti(tmp_path), tmp_path)


def test_a_4d_file_gives_a_case_for_each_chosen_frame(tmp_path):
    path = write_scan(tmp_path / "dyn.nii.gz", np.stack([voxels()] * 12, -1))
    assert [c.name for c in find_nifti(path)] == [f"dyn_f{f:02d}" for f in range(12)]
    assert [(c.name, c.frame) for c in find_nifti(path, 3)] == [("dyn_f03", 3)]
    assert [c.frame for c in find_nifti(path, [11, 0, 50])] == [0, 11]
    (case,) = find_nifti(path, 12)
    assert "12 frames" in case.refusal


def test_a_4d_file_of_one_frame_is_plain(tmp_path):
    (case,) = find_nifti(write_scan(tmp_path / "one.nii.gz", voxels()[..., None]))
    assert (case.name, case.frame, case.refusal) == ("one", None, None)


@pytest.mark.parametrize("frames", ["first", -1, [], [0, "1"], True, 1.5, None])
def test_unknown_frames_are_refused(tmp_path, frames):
    with pytest.raises(Refusal, match="frames must be"):
        find_nifti(write_scan(tmp_path / "a.nii"), frames)


@pytest.mark.parametrize("shape", [(24, 20), (24, 20, 1), (1, 24, 20), (24, 20, 1, 5), (24, 20, 8, 1, 3)])
def test_what_is_no_volume_is_a_case_with_a_refusal(tmp_path, shape):
    cases = find_nifti(write_scan(tmp_path / "flat.nii.gz", voxels(shape)))
    assert len(cases) == 1
    assert "flat.nii.gz" in cases[0].refusal
    assert "\n" not in cases[0].refusal


def test_a_corrupt_header_or_a_broken_link_is_a_case_with_a_refusal(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"not gzip at all")
    (tmp_path / "b.nii").write_bytes(b"\0" * 100)
    good = write_scan(tmp_path / "good.nii.gz")
    (tmp_path / "c.nii.gz").write_bytes(good.read_bytes()[:60])
    (tmp_path / "d.nii.gz").symlink_to(tmp_path / "gone")
    (tmp_path / "e.nii.gz").write_bytes(b"")
    refusals = {case.name: case.refusal for case in find_nifti(tmp_path)}
    assert refusals.pop("good") is None
    assert len(refusals) == 5
    assert all("header cannot be read" in line for line in refusals.values())


def test_equal_stems_get_their_folders(tmp_path):
    for name in ("s1/anat/T2w.nii", "s2/anat/T2w.nii.gz", "s2/T1w.nii", "s2/anat/t2W.nii"):
        write_scan(tmp_path / name)
    names = {case.name for case in find_nifti(tmp_path)}
    assert names == {"s1_anat_T2w", "s2_anat_T2w", "s2_anat_t2W_2", "T1w"}


def test_messages_name_scans_of_one_file_name_by_their_case(tmp_path):
    write_scan(tmp_path / "one.nii.gz")
    write_scan(tmp_path / "a/scan.nii.gz")
    write_scan(tmp_path / "b/SCAN.nii.gz", np.stack([voxels()] * 2, -1))
    cases = require_cases(find_nifti(tmp_path), tmp_path)
    assert [case.label for case in cases] == ["a_scan", "b_SCAN_f00", "b_SCAN_f01", "one.nii.gz"]
    assert [case.label for case in find_nifti(tmp_path / "b")] == ["SCAN.nii.gz, frame 0", "SCAN.nii.gz, frame 1"]


def test_own_results_are_no_input(tmp_path):
    for postfix in ("", "_glade", "_added_detail", "_uncertainty", "_coverage", "_residual/tra"):
        write_scan(tmp_path / "knee" / f"knee{postfix}.nii.gz")
    write_scan(tmp_path / "other_glade.nii.gz")
    assert {case.name for case in find_nifti(tmp_path)} == {"knee", "other_glade"}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a b/c", "a_b_c"),
        ("..", "scan"),
        (".x", "x"),
        ("Müller", "Müller"),
        ("T2 *", "T2"),
        ("é" * 200, "é" * 60),
        ("summary.json", "scan_summary.json"),
    ],
)
def test_safe_name(text, name):
    assert safe_name(text) == name


def test_many_equal_names_are_numbered_without_counting_anew():
    begun = time.process_time()
    names = [case.name for case in unique_names([Case("scan", ()), Case("scan_3", ())] + [Case("scan", ())] * 20_000)]
    assert names[:4] == ["scan", "scan_3", "scan_2", "scan_4"]
    assert len({*names}) == 20_002
    assert time.process_time() - begun < 10  # counting from 2 each time takes minutes


def test_unique_names_do_not_differ_by_capitals_alone():
    cases = [Case(name, ()) for name in ("a", "A", "a_2", "b")]
    assert [case.name for case in unique_names(cases)] == ["a", "A_2", "a_2_2", "b"]


def test_a_sidecar_is_no_scan(tmp_path):
    write_scan(tmp_path / "a.nii.gz")
    (tmp_path / "a.json").write_text(json.dumps({"SliceThickness": 3}))
    assert len(find_nifti(tmp_path)) == 1


def test_several_paths_give_the_scans_of_each_once_named_by_the_folders_that_distinguish_them(tmp_path):
    files = [write_scan(tmp_path / f"study/sub-{n}/T2.nii.gz") for n in (1, 2)]
    cases = find_nifti(files)
    assert [(case.name, case.files) for case in cases] == [("sub-1_T2", (files[0],)), ("sub-2_T2", (files[1],))]
    other = write_scan(tmp_path / "other/T1.nii.gz")
    assert [case.name for case in find_nifti([tmp_path / "study", str(other), files[1]])] == [
        "sub-1_T2",
        "sub-2_T2",
        "T1",
    ]


def test_a_list_of_one_path_is_that_path(tmp_path):
    path = write_scan(tmp_path / "knee.nii.gz")
    assert find_nifti([str(path)]) == find_nifti(path)


def test_each_of_several_paths_must_exist(tmp_path):
    path = write_scan(tmp_path / "knee.nii.gz")
    with pytest.raises(Refusal, match=r"no such file or folder: .*nothing"):
        find_nifti([path, tmp_path / "nothing"])
    with pytest.raises(Refusal, match=r"no NIfTI file .* in .*a or .*b: give"):
        require_cases([], [tmp_path / "a", tmp_path / "b"])


@pytest.mark.parametrize("paths", [[], 3, [None], {"a": 1}])
def test_what_is_no_path_is_refused(paths):
    with pytest.raises(Refusal, match="dataset_dir must be a path or a list of paths"):
        find_nifti(paths)
