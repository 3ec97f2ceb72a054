"""The parts of the Label app that know nothing of MONAI Label."""

import errno
import json
import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from apps.label import absent, glue
from scripts.data.acceptance import ScanProtocol
from scripts.data.case import Case
from scripts.data.formats import WITH_PAIRS
from scripts.data.saving import ADDED_DETAIL, RESULT, UNCERTAINTY, SaveImageCased, volume_file
from scripts.dicom.synthetic_series import write_series
from scripts.geometry.errors import Refusal
from scripts.run.record import FIT

from ..data.thick_scans import oblique_affine, voxels, write_scan


@pytest.fixture
def folders(tmp_path, monkeypatch):
    studies, uploads = tmp_path / "studies", tmp_path / "uploads"
    studies.mkdir()
    uploads.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(uploads))
    return studies, uploads


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a", "{studies}/a.nii.gz"),
        ("a.nii.gz", "{studies}/a.nii.gz"),
        ("{studies}/a.nii.gz", "{studies}/a.nii.gz"),
        ("{uploads}/up.nii.gz", "{uploads}/up.nii.gz"),
        (".", "{studies}"),
    ],
)
def test_a_study_is_found_where_it_may_be(folders, name, expected):
    studies, uploads = folders
    for path in (studies / "a.nii.gz", uploads / "up.nii.gz"):
        path.write_bytes(b"")
    places = {"studies": studies, "uploads": uploads}
    assert glue.study_of(name.format(**places), *folders) == Path(expected.format(**places))


@pytest.mark.parametrize("ending", WITH_PAIRS)
def test_a_study_of_every_format_is_found_without_its_ending(folders, ending):
    path = folders[0] / f"knee{ending}"
    path.write_bytes(b"")
    assert glue.study_of("knee", *folders) == path
    (folders[0] / "knee.nii.gz").write_bytes(b"")
    assert glue.study_of("knee", *folders).name == "knee.nii.gz"  # of several NIfTI comes first
    assert glue.study_of(f"knee{ending}", *folders) == path


@pytest.mark.parametrize("name", ["", "b", "../secret.nii.gz", "{root}/secret.nii.gz", "/", "a\0b", "x" * 5000, None])
def test_what_lies_elsewhere_is_no_study(folders, tmp_path, name):
    (tmp_path / "secret.nii.gz").write_bytes(b"")
    (folders[0] / "link.nii.gz").symlink_to(tmp_path / "secret.nii.gz")
    for wanted in (name and name.format(root=tmp_path), "link"):
        with pytest.raises(glue.RequestError, match="no study is called") as raised:
            glue.study_of(wanted, *folders)
        assert raised.value.status == 404


def test_one_scan_of_a_study_is_taken_and_several_are_refused(tmp_path):
    write_scan(tmp_path / "one/a.nii.gz")
    write_series(tmp_path / "one/series", voxels((24, 20, 8)), oblique_affine(), header={"Modality": "CT"})
    assert glue.case_of(tmp_path / "one").name == "a"  # the other cannot be used
    with pytest.raises(Refusal, match="CT"):
        glue.case_of(tmp_path / "one/series")
    write_scan(tmp_path / "one/b.nii.gz")
    with pytest.raises(Refusal, match="2 usable scans of 3: choose one by case: a, b"):
        glue.case_of(tmp_path / "one")
    assert glue.case_of(tmp_path / "one", wanted="b").name == "b"
    with pytest.raises(Refusal, match="holds no c: it holds a, b"):
        glue.case_of(tmp_path / "one", wanted="c")


def test_settings_reach_the_config():
    parser = glue.bundle_config({"slice_thickness_mm": 3.5, "views": [0], "slice_profile": "gauss"})
    assert parser["slice_thickness_mm"] == 3.5
    assert parser["views"] == [0]
    assert parser["preprocessing::transforms::1::slice_profile"] == "@slice_profile"
    assert parser.get_parsed_content("slice_profile") == "gauss"


@pytest.mark.parametrize(
    "settings",
    [
        {"weights_path": "x.pt"},
        {"device": "cpu"},
        {"detail": "$1 / 2"},
        {"detail": "@sharpness"},
        {"views": ["$[].append(1)"]},
        {"views": {"_target_": "os.system", "command": "true"}},
        {"views": [[0]]},
        ["detail"],
    ],
)
def test_a_request_cannot_set_more_than_plain_values_of_its_own_settings(settings):
    with pytest.raises(Refusal):
        glue.bundle_config(settings)


@pytest.mark.parametrize(("postfix", "dtype"), [(RESULT, "int16"), (ADDED_DETAIL, "int16"), (UNCERTAINTY, "uint8")])
def test_the_bytes_are_those_that_inference_writes(folders, tmp_path, postfix, dtype):
    volume = MetaTensor(torch.rand(1, 5, 6, 7), affine=torch.eye(4), meta={"noise": 0.02})
    SaveImageCased("pred", tmp_path / "out", postfixes=[postfix])({"case": Case("knee", ()), "pred": volume})
    path = glue.write_result(volume, postfix)
    assert path.read_bytes() == volume_file(tmp_path / "out", "knee", postfix).read_bytes()
    assert nibabel.load(path).get_data_dtype() == dtype


def test_a_result_is_written_whole_with_its_own_grid_or_not_at_all(folders, monkeypatch):
    affine = torch.as_tensor(oblique_affine((1.0, 1.0, 1.0)))
    volume = MetaTensor(torch.rand(1, 5, 6, 7), affine=affine)
    path = glue.write_result(volume)
    assert path.stat().st_mode & 0o777 == 0o600  # of patients: no other user of the server may read it
    image = nibabel.load(path)
    assert np.array_equal(image.get_fdata(dtype=np.float32), volume[0].numpy())
    assert np.allclose(image.affine, affine, atol=1e-6)

    def full(volume, path, postfix, mode):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(glue, "write_volume", full)
    with pytest.raises(OSError, match="No space") as error:
        glue.write_result(volume)
    assert list(path.parent.iterdir()) == [path]
    assert glue.error_for(error.value).status == 507


def test_the_row_that_is_sent_is_that_of_the_run_record():
    protocol = ScanProtocol(2, 6.0, 5.0, "gauss", "header", "header", "header")
    meta = {
        "protocol": protocol,
        "residual": 2e-3,
        "noise": 17.5,
        "warnings": ["noise 0.2 is outside the trained range"],
    }
    pred = MetaTensor(torch.zeros(1, 4, 4, 12), affine=torch.eye(4), meta=meta)
    row = glue.row_of(Case("knee", ()), pred, {"detail": 1})
    assert list(row) == ["case", "protocol", *FIT, "warnings", "output", "settings"]
    assert (row["case"], row["warnings"]) == ("knee", meta["warnings"])
    assert {name: row[name] for name in FIT} == {"residual": 2e-3, "noise": 17.5, "residual_over_noise": None}
    assert row["protocol"] == protocol.as_row()
    grid = {"shape": [4, 4, 12], "spacing_mm": [1.0] * 3, "affine": np.eye(4).tolist()}
    assert row["output"] == grid | {"intensities": [0.0, 0.0]}
    assert row["settings"] == {"detail": 1}
    json.dumps(row, allow_nan=False)


def test_each_error_has_its_status():
    wrapped = RuntimeError("applying transform")
    wrapped.__cause__ = Refusal("constant volume")
    assert (glue.error_for(wrapped).status, glue.error_for(wrapped).line) == (422, "refused: constant volume")
    other = glue.error_for(KeyError("x"))
    assert other.status == 500
    assert "\n" not in other.line
    assert glue.error_for(other) is other


def test_stand_ins_say_what_they_are_and_leave_packages_alone(monkeypatch):
    real = sys.modules["torch"]
    monkeypatch.setattr(absent, "ABSENT", {"torch": (), "no_such_package": ("draw",)})
    absent.stand_in()
    import no_such_package

    assert sys.modules["torch"] is real
    with pytest.raises(RuntimeError, match=r"no_such_package\.draw is not installed"):
        no_such_package.draw()
    del sys.modules["no_such_package"]
