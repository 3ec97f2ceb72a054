"""The shipped inference workflow on the phantom: same place, same scale, true to the slices, in any orientation."""

import hashlib
import json
import shutil
import sys

import monai.bundle
import nibabel
import numpy as np
import pydicom
import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import LoadImage
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from scripts.data.saving import SaveImageCased
from scripts.dicom.synthetic_series import write_series
from scripts.geometry.grid import Grid
from scripts.phantom.abdomen import abdomen, acquire
from scripts.physics.acquisition import Acquisition, SliceGeometry
from tests.workflows.tiny_inference import ROOT, SHIPPED, write_config

FACTOR = 4


@pytest.fixture(scope="module")
def thick():
    """The phantom's pelvis at 5 mm, coronal slices of 20 mm; values, affine."""
    affine = np.array([[-5.0, 0, 0, 100], [0, 0, -5, 100], [0, 5, 0, -100], [0, 0, 0, 1]])
    grid = Grid((40, 36, 32), affine)
    slices, where = acquire(abdomen(grid), grid, 5.0 * FACTOR, 5.0 * FACTOR, "rect", noise_sigma=5.0)
    return slices, np.array(where.affine)


@pytest.fixture
def run(tmp_path, monkeypatch):
    config = write_config(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "scans").mkdir()

    def infer(output="out", **settings):
        settings = {"dataset_dir": str(tmp_path / "scans"), "output_dir": str(tmp_path / output)} | settings
        monai.bundle.run("inference", config_file=config, logging_file=False, **settings)
        summary = json.loads((tmp_path / output / "summary.json").read_text())
        return {row["case"]: row for row in summary["cases"]}, tmp_path / output

    infer.scans = tmp_path / "scans"
    return infer


def save(volume, affine, path, dtype=np.float32):
    nibabel.save(nibabel.Nifti1Image(volume.astype(dtype), affine), path)


def load(folder, case, postfix="glade"):
    return nibabel.load(folder / case / f"{case}_{postfix}.nii.gz")


def rms(values) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def rounding(image) -> float:
    """The root mean square of what the integers of a file lose."""
    return float(image.dataobj.slope) / 12**0.5


def test_a_scan_becomes_isotropic_in_place_and_true_to_its_slices(run, thick):
    slices, affine = thick
    save(slices, affine, run.scans / "pelvis.nii.gz", np.int16)
    rows, out = run(regularisation=1e-5)
    row, result = rows["pelvis"], load(out, "pelvis")
    assert result.shape == (40, 36, 32)
    assert result.header.get_zooms() == pytest.approx((5, 5, 5))
    assert nibabel.aff2axcodes(result.affine) == nibabel.aff2axcodes(affine)
    ends = np.array([[-0.5] * 3, [39.5, 35.5, 31.5]]), np.array([[-0.5] * 3, [39.5, 35.5, 7.5]])
    new, old = (nibabel.affines.apply_affine(a, e) for a, e in zip((result.affine, affine), ends, strict=True))
    assert new == pytest.approx(old, abs=1e-3)
    # the independent hand: the mean of four voxels is the slice
    again = result.get_fdata().reshape(40, 36, 8, FACTOR).mean(-1)
    rounded = rounding(result) / FACTOR**0.5
    assert rms(again - slices.astype(np.int16)) < 1e-3 * rms(slices) + 1.05 * rounded
    assert rounded < 0.06 * row["noise"]
    assert row["residual"] < 1e-3
    assert row["status"] == "done"
    assert row["protocol"]["thickness_source"] == "unknown, taken equal to the slice spacing"
    assert len(row["weights_sha256"]) == 64
    added, uncertainty = load(out, "pelvis", "added_detail").get_fdata(), load(out, "pelvis", "uncertainty").get_fdata()
    assert 0 < uncertainty.min() <= uncertainty.max() <= 2 * np.ptp(slices)
    assert np.abs(added).max() > 0
    assert (
        np.abs(added.reshape(40, 36, 8, FACTOR).mean(-1)).max() < 1e-3 * slices.max()
    )  # the slices know nothing of it
    assert not list(out.glob(".*partial"))


def test_an_estimated_thickness_is_in_the_summary_and_the_sidecar(run):
    frequencies = np.meshgrid(np.fft.fftfreq(40), np.fft.fftfreq(40), np.fft.rfftfreq(48), indexing="ij")
    fall = 1 / (0.02 + np.linalg.norm(frequencies, axis=0)) ** 2  # as the spectra of anatomy fall
    white = np.fft.rfftn(np.random.default_rng(0).standard_normal((40, 40, 48)))
    texture = np.fft.irfftn(fall * white, s=(40, 40, 48), axes=(0, 1, 2))
    slices = 500 + 100 * (texture / texture.std()).reshape(40, 40, 12, FACTOR).mean(3)  # boxes of 8 mm without gaps
    save(slices, np.diag([2.0, 2.0, 8.0, 1.0]), run.scans / "silent.nii.gz")
    rows, out = run(slice_profile="rect")
    protocol = rows["silent"]["protocol"]
    assert protocol["thickness_source"].startswith("estimated from the spectrum, ")
    assert protocol["slice_thickness_mm"] == pytest.approx(8, rel=0.25)  # twelve slices
    sidecar = json.loads((out / "silent" / "silent_glade.json").read_text())
    assert sidecar["Acquisition"] == protocol


def test_the_dial_at_zero_is_consistent_cubic(run, thick):
    slices, affine = thick
    save(slices, affine, run.scans / "pelvis.nii.gz")
    _, out = run(detail=0.0)
    assert np.abs(load(out, "pelvis", "added_detail").get_fdata()).max() == 0


@pytest.mark.parametrize("code", ["RAS", "LPS", "ASR", "SLP", "IPL"])
def test_orientation_of_the_array_does_not_show(run, thick, code):
    slices, affine = thick
    image = nibabel.Nifti1Image(slices, affine)
    turned = image.as_reoriented(ornt_transform(io_orientation(affine), axcodes2ornt(code)))
    save(slices, affine, run.scans / "as_is.nii.gz")
    nibabel.save(turned, run.scans / "turned.nii.gz")
    _, out = run()
    results = [nibabel.as_closest_canonical(load(out, name)) for name in ("as_is", "turned")]
    assert nibabel.aff2axcodes(load(out, "turned").affine) == tuple(code)
    assert np.array_equal(results[0].get_fdata(), results[1].get_fdata())
    assert results[0].affine == pytest.approx(results[1].affine, abs=1e-4)


@pytest.mark.parametrize("profile", ["rect", "gauss", "fourier"])
def test_profile_thickness_and_real_factor_are_obeyed(run, thick, profile):
    slices, affine = thick
    affine = affine @ np.diag([1, 1, 18.7 / 20, 1])  # 3.74 voxels a slice, thickness 15 mm: a gap
    save(slices, affine, run.scans / "gap.nii.gz")
    rows, out = run(slice_profile=profile, slice_thickness_mm=15.0, regularisation=1e-5)
    result = load(out, "gap")
    thin = round(8 * 18.7 / 5)
    A = Acquisition(SliceGeometry(thin, 8, 18.7 / 5, 3.0, profile))
    again = A(torch.from_numpy(result.get_fdata())).numpy()
    assert result.shape[2] == thin
    assert rms(again - slices) < 1e-3 * rms(slices) + rounding(result)
    assert rows["gap"]["protocol"]["profile"] == profile


def test_dicom_in_is_a_derived_series_out_with_the_same_voxels(run, thick):
    slices, affine = thick
    write_series(run.scans / "series", slices, affine, slice_thickness_mm=20.0, acquisition_type="3D", seed=3)
    rows, out = run()
    (row,) = rows.values()
    assert row["protocol"]["profile"] == "fourier"
    assert row["protocol"]["slice_thickness_mm"] == 20
    case = row["case"]
    nifti = nibabel.as_closest_canonical(load(out, case))
    files = sorted((out / case / f"{case}_glade_dicom").glob("*.dcm"))
    assert len(files) == 32
    first = pydicom.dcmread(files[0])
    assert "synthe" in first.DerivationDescription.lower()
    back = LoadImage(reader="ITKReader", image_only=True)(str(files[0].parent))  # the independent hand
    back = nibabel.as_closest_canonical(nibabel.Nifti1Image(back.numpy(), back.affine.numpy()))
    assert back.affine == pytest.approx(nifti.affine, abs=1e-3)
    step = load(out, case).dataobj.slope
    assert np.abs(back.get_fdata() - nifti.get_fdata()).max() <= 0.51 * (1 + step)  # half a step of each file


def test_a_derived_series_can_be_reformatted_to_another_plane(run, thick):
    slices, affine = thick
    write_series(run.scans / "series", slices, affine, slice_thickness_mm=20.0, acquisition_type="3D", seed=3)
    rows, out = run(dicom_plane="axial", views=[1])
    (case,) = rows
    files = sorted((out / case / f"{case}_glade_dicom").glob("*.dcm"))
    assert len(files) == 36  # head-foot
    assert [float(x) for x in pydicom.dcmread(files[0]).ImageOrientationPatient] == [1, 0, 0, 0, 1, 0]


def test_every_frame_of_a_4d_file_is_a_case(run, thick):
    slices, affine = thick
    save(np.stack([slices, 2 * slices], -1), affine, run.scans / "dyn.nii.gz")
    rows, out = run(views=[1])
    assert len(rows) == 2
    image = load(out, "dyn")  # put together again
    values = np.moveaxis(image.get_fdata(), -1, 0)
    assert values[1] == pytest.approx(2 * values[0], rel=1e-3, abs=2 * image.dataobj.slope)


def test_a_second_call_does_only_what_is_missing(run, thick):
    slices, affine = thick
    save(slices, affine, run.scans / "a.nii.gz")
    _, out = run()
    before = (out / "a" / "a_glade.nii.gz").stat().st_mtime_ns
    save(slices + 1, affine, run.scans / "b.nii.gz")  # no copy of a, which would be left out
    rows, _ = run()
    assert (out / "a" / "a_glade.nii.gz").stat().st_mtime_ns == before
    assert set(rows) == {"a", "b"}
    with pytest.raises(SystemExit):
        run(detail=0.5)  # another setting: refused
    assert (out / "a" / "a_glade.nii.gz").stat().st_mtime_ns == before
    rows, _ = run(detail=0.5, redo=True)
    assert (out / "a" / "a_glade.nii.gz").stat().st_mtime_ns != before
    assert {row["settings"]["detail"] for row in rows.values()} == {0.5}


def test_a_scan_may_have_any_name_of_the_run_s_own_files(run, thick):
    slices, affine = thick
    for number, name in enumerate(("summary.json", "scan_summary.json", "Adapted")):  # no copies of each other
        save(slices + number, affine, run.scans / f"{name}.nii.gz")
    rows, out = run()
    assert sorted(rows) == ["scan_Adapted", "scan_summary.json", "scan_summary.json_2"]
    for name in rows:
        assert rows[name]["status"] == "done"
        assert load(out, name).shape == (40, 36, 32)


def test_a_record_that_is_lost_during_the_run_is_exit_code_1(run, thick, monkeypatch, caplog):
    """OUT is removed by someone while the last case is saved."""
    slices, affine = thick
    save(slices, affine, run.scans / "a.nii.gz")
    save(slices + 1, affine, run.scans / "b.nii.gz")  # no copy
    write = SaveImageCased.__call__

    def then_remove(self, data):
        written = write(self, data)
        if data["case"].name == "b":
            shutil.rmtree(self.output_dir)
        return written

    monkeypatch.setattr(SaveImageCased, "__call__", then_remove)
    with pytest.raises(SystemExit) as end:
        run()
    assert end.value.code == 1
    assert "b: its row cannot be written: No such file or directory" in caplog.text
    assert "summary.json is not complete, or could not be written: run this again" in caplog.text


def test_non_square_pixels_become_isotropic(run, thick):
    slices, affine = thick
    save(slices, affine @ np.diag([1, 0.8, 1, 1]), run.scans / "oblong.nii.gz")
    _, out = run()
    result = load(out, "oblong")
    assert result.header.get_zooms() == pytest.approx((4, 4, 4), abs=1e-4)
    assert result.shape == (50, 36, 40)


@pytest.mark.slow
def test_adapting_to_the_scan_is_one_option_of_the_inference(run, thick):
    save(*thick, run.scans / "pelvis.nii.gz", np.int16)
    small = {"patch_size": [20, 20], "patches_per_epoch": 16, "max_epochs": 1, "constant_epochs": 1}
    small |= {"batch_size": 4, "validation_patches": 4}
    shipped = ConfigParser.load_config_file(SHIPPED)  # a training takes its generator from there
    settings = {f"adaptation::settings::{key}": value for key, value in small.items()}
    settings |= {"network_def": shipped["network_def"], "weights_path": str(ROOT / "models" / "model.pt")}
    rows, out = run(adapt=True, **settings)
    assert rows["pelvis"]["residual_over_noise"] < 1
    assert rows["pelvis"]["settings"]["adapt"] is True
    assert "began with:" in (out / "adapted" / "adaptation.log").read_text()
    adapted = (out / "adapted" / "model.pt").read_bytes()
    assert rows["pelvis"]["weights_sha256"] == hashlib.sha256(adapted).hexdigest()
    before = (out / "adapted" / "model.pt").stat().st_mtime_ns
    run(adapt=True, **settings)
    assert (out / "adapted" / "model.pt").stat().st_mtime_ns == before  # done once
