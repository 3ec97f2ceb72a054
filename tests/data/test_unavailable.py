"""Files that vanish, or cannot be opened, after they were found: the refusal says so and does not call them corrupt."""

import errno
import gzip
import os
import shutil
from pathlib import Path

import nibabel
import pytest

from scripts.data.discovery import find_nifti
from scripts.data.readers import LoadImageCased, NiftiScanReader
from scripts.data.sidecar import read_sidecar
from scripts.dicom import discovery
from scripts.dicom.discovery import find_series
from scripts.dicom.reader import DicomSeriesReader
from scripts.dicom.synthetic_series import write_series
from scripts.geometry.errors import Refusal, reason_of

from .test_formats import meta, mgh, nrrd
from .thick_scans import oblique_affine, voxels, write_scan

load = LoadImageCased("image", {"nifti": NiftiScanReader(), "dicom": DicomSeriesReader()})
SCAN = voxels(), oblique_affine()


def pair(path: Path) -> None:
    nibabel.save(nibabel.Nifti1Pair(*SCAN), path)


INPUTS = {  # how they are made, and the file that vanishes
    "a.nii": (lambda folder: write_scan(folder / "a.nii"), "a.nii"),
    "a.nii.gz": (lambda folder: write_scan(folder / "a.nii.gz"), "a.nii.gz"),
    "header of a pair": (lambda folder: pair(folder / "a.hdr"), "a.hdr"),
    "image of a pair": (lambda folder: pair(folder / "a.hdr"), "a.img"),
    "a.nrrd": (lambda folder: nrrd(folder / "a.nrrd", *SCAN), "a.nrrd"),
    "voxels of NRRD": (lambda folder: nrrd(folder / "a.nhdr", *SCAN, data_file="a.raw"), "a.raw"),
    "a.mha": (lambda folder: meta(folder / "a.mha", *SCAN), "a.mha"),
    "voxels of MetaImage": (lambda folder: meta(folder / "a.mhd", *SCAN, place="a.raw"), "a.raw"),
    "a.mgz": (lambda folder: mgh(folder / "a.mgz", *SCAN), "a.mgz"),
    "first slice": (lambda folder: write_series(folder, *SCAN), "IM0001.dcm"),
    "last slice": (lambda folder: write_series(folder, *SCAN), "IM0008.dcm"),
}
WORDS = ("removed, renamed or a broken link", " is missing: put it beside the header")


def only(folder: Path):
    (case,) = find_nifti(folder) + find_series(folder)
    assert case.refusal is None
    return case


def ended(case) -> str:
    with pytest.raises(Refusal) as error:
        load(case.as_item())
    status, line = reason_of(error.value)
    assert status == "refused"
    return line


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("vanish", ["file", "folder"])
def test_an_input_that_vanished_is_named_and_not_called_corrupt(tmp_path, kind, vanish):
    pytest.importorskip("itk")
    make, name = INPUTS[kind]
    (tmp_path / "in").mkdir()
    make(tmp_path / "in")
    case = only(tmp_path / "in")
    if vanish == "folder":
        shutil.rmtree(tmp_path / "in")
    else:
        (tmp_path / "in" / name).unlink()
    line = ended(case)
    assert any(words in line for words in WORDS), line
    assert name in line or vanish == "folder"
    assert "corrupt" not in line


@pytest.mark.parametrize("kind", ["a.nii.gz", "a.nrrd", "a.mgz", "last slice"])
@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.EACCES, "permission denied"), (errno.EIO, "input/output error"), (errno.ESTALE, "stale file handle")],
)
def test_the_reason_of_the_operating_system_is_said(tmp_path, monkeypatch, kind, number, words):
    pytest.importorskip("itk")
    make, name = INPUTS[kind]
    make(tmp_path)
    case = only(tmp_path)
    whole = Path.open

    def broken(path, *arguments, **options):
        if path.name == name:
            raise OSError(number, os.strerror(number), str(path))
        return whole(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", broken)
    line = ended(case)
    assert words in line
    assert name in line
    assert str(tmp_path) not in line


@pytest.mark.parametrize("length", [0, 3, 20, 29, 30, 200, 283, 284, 300])
@pytest.mark.parametrize("packed", [False, True])
def test_an_mgh_file_that_is_cut_after_it_was_found_is_refused(tmp_path, length, packed):
    path = mgh(tmp_path / ("a.mgz" if packed else "a.mgh"), *SCAN)
    case = only(tmp_path)
    content = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
    path.write_bytes(gzip.compress(content[:length]) if packed else content[:length])
    assert ended(case).startswith(f"{path.name}: ")


def test_a_slice_that_vanishes_while_the_folder_is_searched_refuses_the_series(tmp_path, monkeypatch):
    files = [Path(file) for file in write_series(tmp_path, *SCAN)]
    whole = discovery.looks_like_dicom

    def late(path):
        if path == files[-1]:
            path.unlink(missing_ok=True)
        return whole(path)

    monkeypatch.setattr(discovery, "looks_like_dicom", late)
    (case,) = find_series(tmp_path)
    reason = "cannot be opened (no such file any more: removed, renamed or a broken link)"
    assert case.refusal == f"a file (IM0008.dcm: {reason}): make the series available"


def test_a_sidecar_that_cannot_be_opened_is_not_called_invalid(tmp_path, monkeypatch):
    write_scan(tmp_path / "a.nii.gz")
    (tmp_path / "a.json").write_text("{}")

    def denied(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(Refusal, match=r"a.json: the sidecar cannot be opened \(permission denied\)"):
        read_sidecar(tmp_path / "a.nii.gz")
