"""One volume in every format: the same voxels in the same place, and the same refusals as for NIfTI."""

import gzip
import json
import zlib

import nibabel
import numpy as np
import pytest

from scripts.data import formats
from scripts.data.discovery import find_nifti
from scripts.data.readers import LoadImageCased, NiftiScanReader
from scripts.geometry.errors import Refusal

from .thick_scans import oblique_affine, voxels

pytest.importorskip("itk")
load = LoadImageCased("image", {"nifti": NiftiScanReader()})
FLIP = np.diag([-1.0, -1, 1, 1])


def nrrd(path, data, affine, space="right-anterior-superior", drop=(), cut=0, **fields):
    place = FLIP @ affine if space == "left-posterior-superior" else affine
    vectors = " ".join("(" + ",".join(map(repr, map(float, place[:3, axis]))) + ")" for axis in range(3))
    header = {
        "type": "short",
        "dimension": "3",
        "space": space,
        "sizes": " ".join(map(str, data.shape)),
        "space directions": vectors,
        "kinds": "domain domain domain",
        "endian": "little",
        "encoding": "raw",
        "space origin": "(" + ",".join(map(repr, map(float, place[:3, 3]))) + ")",
        **{key.replace("_", " "): value for key, value in fields.items()},
    }
    lines = "".join(f"{key}: {value}\n" for key, value in header.items() if key not in drop)
    raw = data.astype("<i2").tobytes(order="F")
    raw = gzip.compress(raw, mtime=0) if header["encoding"] == "gzip" else raw
    raw = raw[: len(raw) - cut]
    if "/" not in header.get("data file", "/"):
        path.with_name(header["data file"]).write_bytes(raw)
    raw = b"" if "data file" in header else raw
    path.write_bytes(f"NRRD0004\n{lines}\n".encode() + raw)
    return path


def meta(path, data, affine, drop=(), packed=False, cut=0, place="LOCAL", **fields):
    lps = FLIP @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    matrix = np.eye(data.ndim)
    matrix[:3, :3] = (lps[:3, :3] / spacing).T  # a row for each axis of the array
    extra = [0.0] * (data.ndim - 3)
    raw = data.astype("<i2").tobytes(order="F")
    raw = zlib.compress(raw) if packed else raw
    header = {
        "ObjectType": "Image",
        "NDims": data.ndim,
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": str(packed),
        **({"CompressedDataSize": len(raw)} if packed else {}),
        "TransformMatrix": " ".join(map(repr, map(float, matrix.ravel()))),
        "Offset": " ".join(map(repr, [*map(float, lps[:3, 3]), *extra])),
        "ElementSpacing": " ".join(map(repr, [*map(float, spacing), *[1.0] * len(extra)])),
        "DimSize": " ".join(map(str, data.shape)),
        "ElementType": "MET_SHORT",
        **fields,
        "ElementDataFile": place,
    }
    lines = "".join(f"{key} = {value}\n" for key, value in header.items() if key not in drop)
    raw = raw[: len(raw) - cut]
    if place != "LOCAL" and "/" not in place:
        path.with_name(place).write_bytes(raw)
        raw = b""
    path.write_bytes(lines.encode() + raw)
    return path


def mgh(path, data, affine):
    nibabel.save(nibabel.MGHImage(data, affine), path)
    return path


WRITERS = {
    "ras.nrrd": nrrd,
    "lps.nrrd": lambda *scan: nrrd(*scan, space="left-posterior-superior"),
    "packed.nrrd": lambda *scan: nrrd(*scan, encoding="gzip"),
    "apart.nhdr": lambda *scan: nrrd(*scan, data_file="apart.raw"),
    "micro.nrrd": lambda path, data, affine: nrrd(
        path, data, np.diag([1000.0, 1000, 1000, 1]) @ affine, space_units='"um" "um" "um"'
    ),
    "plain.mha": meta,
    "packed.mha": lambda *scan: meta(*scan, packed=True),
    "apart.mhd": lambda *scan: meta(*scan, place="volume.raw"),
    "plain.mgh": mgh,
    "packed.mgz": mgh,
}
AFFINES = {
    "axial": oblique_affine(),
    "sagittal, left-handed": np.array([[0, 0, 4.0, -20], [1, 0, 0, 10], [0, 1, 0, 30], [0, 0, 0, 1]]),
    "oblique": np.array([[0.8, 0, -2.4, -20], [0, 1.0, 0, 10], [0.6, 0, 3.2, 30], [0, 0, 0, 1]]),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("affine", AFFINES)
def test_voxels_and_place_are_those_of_the_same_volume_as_nifti(tmp_path, name, affine):
    nibabel.save(nibabel.Nifti1Image(voxels(), AFFINES[affine]), tmp_path / "same.nii.gz")
    path = WRITERS[name](tmp_path / name, voxels(), AFFINES[affine])
    (case,) = find_nifti(path)
    assert case.refusal is None
    scan = load(case.as_item())["image"]
    same = load({"image": str(tmp_path / "same.nii.gz")})["image"]
    assert scan.dtype == same.dtype
    np.testing.assert_array_equal(scan.numpy(), same.numpy())
    np.testing.assert_allclose(scan.affine.numpy(), same.affine.numpy(), atol=1e-4)
    assert scan.meta["space"] == same.meta["space"]


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.nrrd", lambda *scan: nrrd(*scan, drop=["space"])),
        ("a.nrrd", lambda *scan: nrrd(*scan, space="scanner-xyz")),
        ("a.nrrd", lambda *scan: nrrd(*scan, drop=["space origin"])),
        ("a.nrrd", lambda *scan: nrrd(*scan, drop=["space", "space directions", "space origin"], spacings="1 1 4")),
        ("a.mha", lambda *scan: meta(*scan, drop=["TransformMatrix"])),
        ("a.mha", lambda *scan: meta(*scan, drop=["Offset"])),
        ("a.mha", lambda *scan: meta(*scan, drop=["ElementSpacing"])),
    ],
)
def test_a_header_without_position_or_orientation_is_refused(tmp_path, name, write):
    (case,) = find_nifti(write(tmp_path / name, voxels(), oblique_affine()))
    assert f"{name}: missing affine" in case.refusal


def test_an_mgh_file_without_orientation_is_refused(tmp_path):
    path = mgh(tmp_path / "a.mgh", voxels(), oblique_affine())
    content = bytearray(path.read_bytes())
    content[28:30] = bytes(2)  # goodRASFlag
    path.write_bytes(content)
    assert "missing affine" in find_nifti(path)[0].refusal


@pytest.mark.parametrize(
    ("name", "write", "reason"),
    [
        ("a.nrrd", lambda *scan: nrrd(*scan, cut=100), "100 bytes short of 24 x 20 x 8"),
        ("a.nrrd", lambda *scan: nrrd(*scan, sizes="24 20 7"), "960 bytes more than 24 x 20 x 7"),
        ("a.nrrd", lambda *scan: nrrd(*scan, encoding="gzip", cut=3000), "bytes short of"),
        ("a.nrrd", lambda *scan: nrrd(*scan, data_file="../other.raw"), "one file beside it"),
        ("a.nrrd", lambda *scan: nrrd(*scan, space_units='"inch" "inch" "inch"'), "unit of length"),
        ("a.mha", lambda *scan: meta(*scan, cut=100), "100 bytes short of 24 x 20 x 8"),
        ("a.mha", lambda *scan: meta(*scan, packed=True, cut=3000), "bytes short of"),
        ("a.mha", lambda *scan: meta(*scan, place="/etc/hostname"), "one file beside it"),
        ("a.mha", lambda *scan: meta(*scan, TransformMatrix="1 0 0 0 1 0 0 0 0"), "directions of length 1"),
        ("a.mha", lambda *scan: meta(*scan, ElementNumberOfChannels="2", DimSize="24 20 4"), "2 numbers a voxel"),
    ],
)
def test_wrong_sizes_and_unsafe_headers_are_refused(tmp_path, name, write, reason):
    (tmp_path / "in").mkdir()
    (case,) = find_nifti(write(tmp_path / "in" / name, voxels(), oblique_affine()))
    assert reason in case.refusal
    assert "\n" not in case.refusal


def test_a_truncated_mgh_file_is_refused(tmp_path):
    for name, damage in (("a.mgh", "bytes short of"), ("a.mgz", "corrupt or truncated")):
        path = mgh(tmp_path / name, voxels(), oblique_affine())
        path.write_bytes(path.read_bytes()[:-2000])
        with pytest.raises(Refusal, match=damage):
            load({"image": str(path)})


@pytest.mark.parametrize(("name", "write"), [("dyn.mha", meta), ("dyn.mgz", mgh)])
def test_each_frame_of_a_4d_file_is_a_case(tmp_path, name, write):
    data = np.stack([voxels(seed=seed) for seed in range(3)], -1)
    cases = find_nifti(write(tmp_path / name, data, oblique_affine()))
    assert [case.name for case in cases] == ["dyn_f00", "dyn_f01", "dyn_f02"]
    for case in cases:
        scan = load(case.as_item())["image"]
        np.testing.assert_array_equal(scan.numpy()[0], voxels(seed=case.frame))
        np.testing.assert_allclose(scan.affine.numpy(), oblique_affine(), atol=1e-4)


ROWS = " ".join("(" + ",".join(map(repr, map(float, oblique_affine()[:3, axis]))) + ")" for axis in range(3))
FOUR_AXES = {
    "list first": {"kinds": "list domain domain domain", "space_directions": f"none {ROWS}"},
    "list last": {"kinds": "domain domain domain list", "space_directions": f"{ROWS} none"},
    "time": {"kinds": "domain domain domain time", "space_directions": f"{ROWS} none"},
    "no kinds": {"drop": ["kinds"], "space_directions": f"{ROWS} none"},
    "vector": {"kinds": "vector domain domain domain", "space_directions": f"none {ROWS}"},
    "space and time": {"space": "right-anterior-superior-time", "space_origin": "(0,0,0,0)"},
}


@pytest.mark.parametrize("name", FOUR_AXES)
def test_an_nrrd_file_of_several_volumes_is_one_refusal(tmp_path, name):
    first = FOUR_AXES[name]["space_directions"].startswith("none") if name != "space and time" else False
    data = np.stack([voxels(seed=seed) for seed in range(3)], 0 if first else -1)
    (case,) = find_nifti(nrrd(tmp_path / "dyn.nrrd", data, oblique_affine(), dimension="4", **FOUR_AXES[name]))
    assert "dyn.nrrd: 4 axes" in case.refusal
    assert case.refusal.endswith("write each volume to a file of its own, or all to a 4-D NIfTI file")


@pytest.mark.parametrize("name", ["list first", "list last"])
def test_an_nrrd_file_of_a_single_volume_with_a_fourth_axis_is_read(tmp_path, name):
    data = voxels()[None] if name == "list first" else voxels()[..., None]
    (case,) = find_nifti(nrrd(tmp_path / "one.nrrd", data, oblique_affine(), dimension="4", **FOUR_AXES[name]))
    scan = load(case.as_item())["image"]
    np.testing.assert_array_equal(scan.numpy()[0], voxels())
    np.testing.assert_allclose(scan.affine.numpy(), oblique_affine(), atol=1e-4)


def test_the_sidecar_counts_for_every_format(tmp_path):
    for name in ("a.nrrd", "b.mha", "c.mgz"):
        WRITERS.get(name, {"a": nrrd, "b": meta, "c": mgh}[name[0]])(tmp_path / name, voxels(), oblique_affine())
        (tmp_path / f"{name[0]}.json").write_text(json.dumps({"SliceThickness": 3}))
        assert load({"image": str(tmp_path / name)})["image"].meta["slice_thickness_mm"] == 3.0


def test_without_itk_the_refusal_names_the_extra(tmp_path, monkeypatch):
    path = nrrd(tmp_path / "a.nrrd", voxels(), oblique_affine())
    monkeypatch.setattr(formats, "optional_import", lambda *_, **__: (None, False))
    assert find_nifti(path)[0].refusal == "a.nrrd: NRRD and MetaImage files need ITK: pip install 'glade-mri[formats]'"
