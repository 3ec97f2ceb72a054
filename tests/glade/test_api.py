"""`glade.super_resolve`: the same volumes as the command writes, from a path, an image or an array; no files."""

import json
import os
import re
import subprocess
import sys

import monai.bundle
import nibabel
import numpy as np
import pytest
import torch

import glade
from scripts.dicom.synthetic_series import write_series
from tests.conftest import ROOT

from ..data.thick_scans import voxels, write_scan
from ..dicom.conftest import AFFINES, phantom
from ..workflows.tiny_inference import TINY, write_config


@pytest.fixture
def settings(tmp_path):
    """The tiny generator."""
    write_config(tmp_path)
    network = {"_target_": "scripts.learning.generator.Generator", **TINY}
    return {"weights_path": str(tmp_path / "tiny.pt"), "network_def": network, "device": "cpu", "sharpness": 0.0}


@pytest.fixture
def resolver(settings):
    return glade.SuperResolver(**settings)


@pytest.fixture
def scan(tmp_path):
    path = write_scan(tmp_path / "scans" / "knee.nii.gz")
    path.with_name("knee.json").write_text(json.dumps({"SliceThickness": 3.5, "MRAcquisitionType": "2D"}))
    return path


def same(a, b) -> bool:
    return all(
        np.array_equal(getattr(a, name).get_fdata(), getattr(b, name).get_fdata())
        and np.array_equal(getattr(a, name).affine, getattr(b, name).affine)
        for name in ("volume", "added_detail", "uncertainty")
    )


def test_volumes_and_record_are_those_of_the_command(resolver, scan, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    monai.bundle.run(
        "inference",
        config_file=write_config(tmp_path),
        logging_file=False,
        dataset_dir=str(scan),
        output_dir=str(tmp_path / "out"),
        sharpness=0.0,
    )
    result = resolver(scan)
    for name, postfix in (("volume", "glade"), ("added_detail", "added_detail"), ("uncertainty", "uncertainty")):
        written = nibabel.load(tmp_path / f"out/knee/knee_{postfix}.nii.gz")
        made = getattr(result, name)
        step = written.dataobj.slope  # the file stores integers
        assert written.get_data_dtype().kind in "iu"
        added, (low, high) = written.get_fdata() - made.get_fdata(), (0.501, 0.501)
        if name == "uncertainty":  # rounded up, never down
            low, high = 0.001, 1.001
        assert -low * step <= added.min() <= added.max() <= high * step
        assert np.array_equal(made.affine, written.affine)
    (row,) = json.loads((tmp_path / "out/summary.json").read_text())["cases"]
    assert set(result.record) == set(row)
    differing = {key for key in row if row[key] != result.record[key]}
    assert differing == {"seconds", "files"}
    assert result.record["files"] == []


def test_an_image_and_an_array_give_what_their_file_gives(resolver, scan):
    image = nibabel.load(scan)
    expected = resolver(scan)
    stated = {"slice_thickness_mm": 3.5, "slice_profile": "gauss"}  # a sidecar is read beside a file only
    assert same(resolver(image, **stated), expected)
    assert same(resolver(np.asanyarray(image.dataobj), image.affine, **stated), expected)
    assert same(resolver(image.get_fdata(), image.affine, **stated), expected)
    protocol = resolver(image).record["protocol"]
    assert (protocol["profile"], protocol["thickness_source"]) == ("rect", "unknown, taken equal to the slice spacing")


def test_settings_of_one_call_do_not_stay(resolver, scan):
    image = nibabel.load(scan)
    first = resolver(image)
    other = resolver(image, slice_thickness_mm=2.0, slice_profile="fourier")
    assert other.record["protocol"]["profile"] == "fourier"
    assert not same(first, other)
    assert same(resolver(image), first)


def test_no_file_is_written_and_no_thread_or_seed_is_set(resolver, scan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "scans")
    before = sorted(tmp_path.rglob("*"))
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    glade.SuperResolver(device="cpu")
    resolver(scan)
    assert sorted(tmp_path.rglob("*")) == before
    assert (torch.get_num_threads(), torch.equal(torch.get_rng_state(), state)) == (threads, True)


def test_the_input_stays_as_it_was(resolver):
    array = voxels().astype(np.float32)
    copy = array.copy()
    resolver(array, np.diag([1, 1, 4, 1]))
    assert np.array_equal(array, copy)


def test_a_frame_of_a_4d_scan(resolver, tmp_path):
    frames = np.stack([voxels(seed=0), voxels(seed=1)], -1)
    path = write_scan(tmp_path / "dyn.nii.gz", frames)
    image = nibabel.load(path)
    expected = resolver(frames[..., 1], image.affine)
    assert same(resolver(path, frame=1), expected)
    assert same(resolver(image, frame=1), expected)
    assert same(resolver(frames, image.affine, frame=1), expected)


def test_a_dicom_series(resolver, tmp_path):
    write_series(tmp_path / "series", phantom(), AFFINES["oblique"])
    result = resolver(tmp_path / "series")
    assert result.record["input"]["format"] == "dicom"
    assert result.record["status"] == "done"


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float16, np.float64, bool])
def test_an_array_of_any_real_type(resolver, dtype):
    array = (voxels() > voxels().mean()).astype(dtype)
    assert resolver(array, np.diag([1, 1, 4, 1])).volume.shape[2] == 4 * array.shape[2]


def without_affine():
    image = nibabel.Nifti1Image(voxels(), np.diag([1, 1, 4, 1]))
    image.header["sform_code"] = image.header["qform_code"] = 0
    return image


AFFINE = np.diag([1, 1, 4, 1])
WRONG = [
    (lambda _: (voxels(),), {}, "an array needs its affine"),
    (lambda _: (voxels(), np.eye(3)), {}, "an array needs its affine"),
    (lambda tmp: (write_scan(tmp / "a.nii"), AFFINE), {}, "leave affine out"),
    (lambda _: (nibabel.Nifti1Image(voxels(), AFFINE), AFFINE), {}, "leave affine out"),
    (lambda _: (without_affine(),), {}, "missing affine"),
    (lambda _: (voxels((24, 20)), AFFINE), {}, "not that of one 3-D volume"),
    (lambda _: (np.stack([voxels()] * 2, -1), AFFINE), {}, "not that of one 3-D volume"),
    (lambda _: (np.stack([voxels()] * 2, -1), AFFINE), {"frame": 2}, "there is no frame 2"),
    (lambda _: (voxels(), AFFINE), {"frame": 0}, "there is no frame 0"),
    (lambda _: (voxels() * 1j, AFFINE), {}, "complex numbers"),
    (lambda _: (voxels().astype(str), AFFINE), {}, "voxels are no numbers"),
    (lambda _: (nibabel.Nifti1Image(voxels((24, 20)), AFFINE),), {}, "not that of one 3-D volume"),
    (lambda _: (voxels() * np.nan, AFFINE), {}, "NaN or infinite"),
    (lambda _: (voxels(), np.eye(4)), {}, "array: already isotropic"),
    (lambda _: (voxels(), AFFINE), {"slice_thickness_mm": -1}, "slice_thickness_mm must be a positive number"),
    (lambda _: (voxels(), AFFINE), {"slice_profile": "box"}, "slice_profile must be"),
    (lambda tmp: (tmp / "nothing.nii",), {}, "no such file or folder"),
    (lambda tmp: (tmp,), {}, "no NIfTI file"),
]


@pytest.mark.parametrize(("arguments", "options", "line"), WRONG)
def test_a_wrong_scan_is_refused_in_one_line(resolver, tmp_path, arguments, options, line):
    (tmp_path / "empty").mkdir()
    given = arguments(tmp_path / "empty")
    with pytest.raises(glade.Refusal, match=line) as error:
        resolver(*given, **options)
    assert "\n" not in str(error.value)


def test_of_several_scans_one_must_be_chosen(resolver, tmp_path):
    for seed, name in enumerate(("a", "b")):
        write_scan(tmp_path / f"scans/{name}.nii.gz", voxels(seed=seed))
    with pytest.raises(
        glade.Refusal, match=r"holds 2 scans, more than one of them usable \(a, b ...\): give the path of one"
    ):
        resolver(tmp_path / "scans")


def test_of_several_scans_the_only_one_that_inference_would_process_is_taken(resolver, tmp_path):
    """`cube` and `flat` are refused once they are read, `few` by its header."""
    folder = tmp_path / "scans"
    write_scan(folder / "cube.nii.gz", voxels((20, 20, 20)), spacing=(1, 1, 1.2))
    write_scan(folder / "flat.nii.gz", np.full((20, 20, 8), 5, np.int16))
    write_series(folder / "few", phantom((8, 8, 3)), AFFINES["sagittal"])
    with pytest.raises(glade.Refusal, match=r"none of the 3 scans in .*scans is usable; cube: already isotropic"):
        resolver(folder)
    write_scan(folder / "knee.nii.gz")
    assert same(resolver(folder), resolver(folder / "knee.nii.gz"))
    assert resolver(folder).record["case"] == "knee"
    with pytest.raises(glade.Refusal, match="more than one of them usable"):
        resolver(folder, through_plane_axis=2)  # with it, the cube is usable too


def test_of_a_4d_scan_a_frame_must_be_chosen(resolver, tmp_path):
    path = write_scan(tmp_path / "dyn.nii.gz", np.stack([voxels(seed=0), voxels(seed=1)], -1))
    with pytest.raises(glade.Refusal, match=r"\(dyn_f00, dyn_f01 ...\): give a frame"):
        resolver(path)


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"sharpnes": 0}, "no setting is called sharpnes: did you mean sharpness"),
        ({"output_dir": "out"}, "output_dir is about files"),
        ({"adapt": True}, "adapt is about files"),
        ({"weights_path": "nowhere.pt"}, "nowhere.pt: no such weights"),
        ({"device": "cuda:99"}, "device cuda:99: torch finds no such GPU"),
    ],
)
def test_a_wrong_setting_is_refused_when_the_weights_are_loaded(settings, more, line):
    with pytest.raises(glade.Refusal, match=line):
        glade.SuperResolver(**{**settings, **more})


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import glade", ["PASSIVE", "1000"]),
        ("import torch, glade", [None, None]),  # too late: it would only reach programs that this one starts
        ("import os; os.environ['OMP_WAIT_POLICY'] = 'ACTIVE'; import glade", ["ACTIVE", None]),
        ("import glade, sys; assert 'torch' not in sys.modules", ["PASSIVE", "1000"]),
    ],
)
def test_the_import_lets_waiting_threads_sleep_soon_where_torch_is_not_loaded_yet(code, expected):
    code += "; import json, os; print(json.dumps([os.environ.get(k) for k in ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT')]))"
    names = ("OMP_", "GOMP_", "KMP_")
    alone = {key: value for key, value in os.environ.items() if not key.startswith(names)} | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", code], env=alone, capture_output=True, text=True, check=True)
    assert json.loads(ended.stdout) == expected


def test_progress_shows_what_a_call_does(settings, scan):
    code = (
        "import glade, json, logging, sys; "
        "result = glade.super_resolve(sys.argv[1], **json.loads(sys.argv[2])); "
        "assert (logging.getLogger('glade').level, logging.getLogger('glade').handlers) == (0, [])"
    )

    def shown(**more) -> str:
        command = [sys.executable, "-c", code, str(scan), json.dumps({**settings, **more})]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stderr

    lines = shown(progress=True)
    assert re.search(r"^\d\d:\d\d:\d\d knee.nii.gz: through-plane axis", lines, re.MULTILINE)
    assert re.search(r"^\d\d:\d\d:\d\d knee.nii.gz: done in \d+\.\d s$", lines, re.MULTILINE)
    assert "through-plane axis" not in shown()


def test_a_refusal_names_arguments_not_options(resolver, scan, tmp_path):
    with pytest.raises(glade.Refusal, match=r"over 2 x the slice spacing 4 mm: give slice_thickness_mm$"):
        resolver(scan, slice_thickness_mm=50.0)
    with pytest.raises(glade.Refusal, match=r"no such weights; give weights_path, or"):
        glade.SuperResolver(weights_path=str(tmp_path / "nothing.pt"))


def test_the_names_of_the_package_are_there():
    assert set(glade.__all__) <= set(dir(glade))
    with pytest.raises(AttributeError, match="no attribute 'fuse_all'"):
        _ = glade.fuse_all
