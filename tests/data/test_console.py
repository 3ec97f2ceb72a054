"""The libraries' own lines, which name no file or quote the header, do not reach the console."""

import struct
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from scripts.data.discovery import find_nifti
from scripts.data.readers import LoadImageCased, NiftiScanReader
from scripts.dicom.discovery import find_series
from scripts.dicom.reader import DicomSeriesReader
from scripts.dicom.synthetic_series import write_series
from scripts.geometry.errors import Refusal

from .test_formats import meta, mgh, nrrd
from .thick_scans import oblique_affine, voxels, write_scan

load = LoadImageCased("image", {"nifti": NiftiScanReader(), "dicom": DicomSeriesReader()})
SCAN = voxels(), oblique_affine()
OURS = ("a.nii: pixdim says", "a.nii: the sform")


def packed(path: Path, at: int, form: str, *values) -> None:
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, at, *values)
    path.write_bytes(content)


def changed(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))


NIFTI = {  # of the header: byte, form, values
    "pixdim": (76, "<4f", 2, -1, 1, -4),
    "a spacing of 0": (80, "<f", 0),
    "sform_code": (254, "<h", 99),
    "both codes": (252, "<2h", 77, 99),
    "datatype": (70, "<h", 9999),
    "bitpix": (72, "<h", 3),
    "sizeof_hdr": (0, "<i", 347),
    "magic": (344, "4s", b"nix"),
    "vox_offset": (108, "<f", 353.5),
    "dim[0]": (40, "<h", 8),
    "dim[1]": (42, "<h", -3),
    "scl_slope": (112, "<2f", np.inf, np.nan),
    "quaternion": (256, "<3f", 1, 1, 1),
    "srow": (280, "<4f", np.nan, np.nan, np.nan, np.nan),
    "intent_code": (68, "<h", 30000),
}
NRRD = {
    "unknown field": (b"endian", b"foo: bar\nendian"),
    "kinds": (b"kinds: domain domain", b"kinds: foo"),
    "no endian": (b"endian: little\n", b""),
    "type": (b"type: short", b"type: blah"),
    "dimension": (b"dimension: 3", b"dimension: 17"),
    "sizes": (b"sizes: 24 20 8", b"sizes: 24 20"),
    "directions": (b"space directions: (", b"space directions: none ("),
    "origin": (b"space origin: (", b"space origin: (nan"),
}
META = {
    "NDims": (b"NDims = 3", b"NDims = 30"),
    "no number": (b"NDims = 3", b"NDims = three"),
    "no NDims": (b"NDims = 3\n", b""),
    "sizes": (b"DimSize = 24 20 8", b"DimSize = 24 20"),
    "a negative size": (b"DimSize = 24", b"DimSize = -24"),
    "type": (b"MET_SHORT", b"MET_BLAH"),
    "no type": (b"ElementType = MET_SHORT\n", b""),
    "spacing": (b"ElementSpacing = ", b"ElementSpacing = x "),
    "matrix": (b"TransformMatrix = ", b"TransformMatrix = x "),
    "object": (b"ObjectType = Image", b"ObjectType = Tube"),
    "no object": (b"ObjectType = Image\n", b""),
    "long line": (b"NDims", b"Comment = " + b"x" * 40_000 + b"\nNDims"),
    "unknown field": (b"NDims", b"Foo = bar baz\nNDims"),
}
MGH = {"version": (0, ">i", 2), "type": (20, ">i", 99), "size": (4, ">i", -1)}
DICOM = {
    "UIDs": {"StudyInstanceUID": "1.02.3", "FrameOfReferenceUID": "SECRET" * 12},
    "dates": {"StudyDate": "SECRET", "PatientAge": "SECRETAGE", "PatientName": "SECRET^NAME=x=y=z=w"},
    "character set": {"SpecificCharacterSet": "SECRET_192", "PatientName": "Mü^x"},
    "character sets": {"SpecificCharacterSet": ["", "ISO 2022 IR 999"]},
    "long numbers": {"SeriesNumber": "12345678901234567890", "EchoTime": "101.12345678901234567890"},
    "code string": {"ImageType": "secret words in lower case and too many of them"},
    "BitsStored": {"BitsStored": 17},
}
INPUTS = {
    **{f"NIfTI, {k}": lambda f, v=v: packed(write_scan(f / "a.nii"), *v) for k, v in NIFTI.items()},
    **{f"NRRD, {k}": lambda f, v=v: changed(nrrd(f / "a.nrrd", *SCAN), *v) for k, v in NRRD.items()},
    **{f"MetaImage, {k}": lambda f, v=v: changed(meta(f / "a.mha", *SCAN), *v) for k, v in META.items()},
    **{f"MGH, {k}": lambda f, v=v: packed(mgh(f / "a.mgh", *SCAN), *v) for k, v in MGH.items()},
    **{f"DICOM, {k}": lambda f, v=v: dicom(f, v) for k, v in DICOM.items()},
    **{f"DICOM, {s.name}": lambda f, s=s: dicom(f, {}, s) for s in (RLELossless, JPEG2000Lossless, JPEGLSLossless)},
}


def dicom(folder: Path, values: dict, syntax=None) -> None:
    """Write a series with attributes, or with a damaged codestream in each file."""
    random = np.random.default_rng(0)
    for file in write_series(folder, voxels((64, 64, 6)), oblique_affine()):
        dataset = pydicom.dcmread(file)
        with pydicom.config.disable_value_validation(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for keyword, value in values.items():
                setattr(dataset, keyword, value)
            if syntax is not None:
                dataset.compress(syntax, generate_instance_uid=False)
            dataset.save_as(file)
        if syntax is not None:
            content = bytearray(Path(file).read_bytes())
            for place in random.integers(content.rindex(b"\xe0\x7f\x10\x00") + 100, len(content) - 12, 60):
                content[place] ^= 0x5A
            Path(file).write_bytes(content)


@pytest.mark.parametrize("name", INPUTS)
def test_no_line_of_a_library_reaches_the_console(tmp_path, name, capfd, caplog):
    pytest.importorskip("itk")
    INPUTS[name](tmp_path)
    capfd.readouterr()
    caplog.clear()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for case in find_nifti(tmp_path) + find_series(tmp_path):
            line = case.refusal
            if line is None:
                try:
                    load(case.as_item())
                except Refusal as refusal:
                    line = str(refusal)
            assert "\n" not in (line or "")
            assert "SECRET" not in (line or "")
    said = [line for text in capfd.readouterr() for line in text.splitlines() if not line.startswith(OURS)]
    assert said == []
    assert [record.getMessage() for record in caplog.records if not record.name.startswith("scripts")] == []
    assert [str(w.message) for w in warned if "swig" not in str(w.message).lower()] == []
