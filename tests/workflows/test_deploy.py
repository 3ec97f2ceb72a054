"""The Deploy app: its glue without the SDK, and the whole of it where `make deploy` has made its environment."""

import json
import logging
import os
import subprocess
import sys
from dataclasses import replace

import monai.bundle
import numpy as np
import pydicom
import pytest
import yaml

from apps.deploy import glue
from scripts.data.readers import LoadImageCased
from scripts.data.saving import SaveImageCased
from scripts.dicom.discovery import find_series
from scripts.dicom.synthetic_series import write_series
from scripts.geometry.errors import Refusal
from scripts.run.record import RunRecord
from tests.conftest import ROOT
from tests.dicom.conftest import AFFINES

PYTHON = ROOT / ".venv-deploy" / "bin" / "python"
NAME = "Mustermann"


def series(folder, number=1, slices=7, affine="oblique, non-square, reversed", **header):
    """A series of a smooth object: what a network makes of noise says little."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in (30, 26, slices)), indexing="ij")
    volume = 800 * np.exp(-3 * (x**2 + y**2 + z**2)) + 100 * (x > 0.2)
    header = {"PatientName": f"{NAME}^Erika"} | header
    return write_series(folder, volume, AFFINES[affine], series_number=number, header=header)


@pytest.fixture
def study(tmp_path):
    """Two series to be done, one of too few slices, one of another modality."""
    folder = tmp_path / "study"
    series(folder / "a", 1, SeriesDescription=f"t2 {NAME}")
    series(folder / "b", 2, affine="axial")
    series(folder / "c", 3, slices=3)
    series(folder / "d", 4, Modality="CT")
    return folder


def uids(folder, *names):
    return [pydicom.dcmread(next((folder / name).iterdir())).SeriesInstanceUID for name in names]


def test_the_sdk_s_loader_is_shown_one_file_of_each_series(study):
    files = glue.one_file_a_series(study)
    assert sorted(pydicom.dcmread(file).SeriesNumber for file in files) == [1, 2, 3, 4]


def test_selected_series_become_cases_with_their_refusals(study):
    (study / "broken").write_bytes(bytes(128) + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00\xff\xff\xff\xff" * 5)
    cases = glue.cases_of(study, uids(study, "b", "c"))
    assert [case.name for case in cases][:2] == ["002_T2_TSE", "003_T2_TSE"]
    assert cases[0].refusal is None
    assert "3 slices" in cases[1].refusal


def test_nothing_selected_and_nothing_there_are_refused(study, tmp_path):
    with pytest.raises(Refusal, match="none of 4 DICOM volumes matches"):
        glue.cases_of(study, [])
    (tmp_path / "empty").mkdir()
    with pytest.raises(Refusal, match="no DICOM series"):
        glue.cases_of(tmp_path / "empty", [])


def test_rules_are_the_site_s_where_it_has_some(tmp_path, monkeypatch):
    assert json.loads(glue.rules())["selections"][0]["conditions"] == {"Modality": "^MR$"}
    own = tmp_path / "own.json"
    own.write_text('{"selections": [{"name": "thick", "conditions": {"SliceThickness": [2, ">"]}}]}')
    monkeypatch.setenv("GLADE_RULES", str(own))
    assert glue.rules() == own.read_text()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "No such file"),
        ('{"selections": [', "not JSON"),
        ("{}", "'selections' is a required property"),  # the SDK would select everything
        ('{"selections": [{"name": "all"}]}', r"at \$.selections\[0\]: 'conditions' is a required property"),
        ('{"selections": [{"conditions": {"Modality": ""}}]}', "should be non-empty"),  # the same
        ('{"selections": [{"conditions": {"Modality": "(("}}]}', r"conditions.Modality: '\(\(' is not a 'regex'"),
    ],
)
def test_rules_that_are_none_are_refused(text, why, tmp_path, monkeypatch):
    own = tmp_path / "own.json"
    if text is not None:
        own.write_text(text)
    monkeypatch.setenv("GLADE_RULES", str(own))
    with pytest.raises(Refusal, match=f"^selection rules own.json: .*{why}"):
        glue.rules()


def test_the_bundle_is_the_shipped_one_less_its_reading_and_writing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # wherever a container starts
    bundle = glue.Bundle(ROOT, tmp_path / "out")
    shipped = yaml.safe_load((ROOT / "configs/inference.yaml").read_text())
    for key in ("preprocessing", "postprocessing"):
        names = [type(t).__name__ for t in bundle.transforms(key).transforms]
        wanted = [t["_target_"].split(".")[-1] for t in shipped[key]["transforms"]]
        assert names == [n for n in wanted if n not in (LoadImageCased.__name__, SaveImageCased.__name__)]
    assert bundle.writer.provenance.weights_sha256 == bundle.record.weights_sha256
    assert not bundle.network().training
    assert not (tmp_path / "out").exists()


def test_the_result_of_another_scan_of_the_same_name_is_not_replaced(study, tmp_path, caplog):
    """As `run inference` does; an earlier version of the app replaced it."""
    out = tmp_path / "out"
    bundle = glue.Bundle(ROOT, out)
    cases = bundle.admit(study, uids(study, "a", "b", "c"))
    series(tmp_path / "elsewhere", 2, slices=9)
    (found,) = find_series(tmp_path / "elsewhere")
    other = replace(found, name="002_T2_TSE")
    first = glue.Bundle(ROOT, out)
    first.record.open()
    first.write(first.read([other]))
    made = {path: path.read_bytes() for path in (out / "002_T2_TSE").rglob("*.dcm")}
    assert made
    bundle.write(bundle.read(cases))
    assert "002_T2_TSE: refused: out holds the result of another scan of this name" in caplog.text
    assert {path: path.read_bytes() for path in (out / "002_T2_TSE").rglob("*.dcm")} == made
    with pytest.raises(SystemExit):
        bundle.record.conclude()


def test_what_cannot_be_written_leaves_nothing_and_the_next_is_done(study, tmp_path, monkeypatch):
    bundle = glue.Bundle(ROOT, tmp_path / "out")
    cases = bundle.admit(study, uids(study, "a", "b", "c"))
    write = bundle.writer.write

    def fail(folder):
        if "001" in str(folder):
            (folder / "half").mkdir(parents=True)
            raise OSError(28, "No space left on device")
        return write(folder)

    monkeypatch.setattr(bundle.writer, "write", fail)
    bundle.write(bundle.read(cases))  # as if the prediction were the scan itself
    rows = {row["case"]: row for row in json.loads((tmp_path / "out/summary.json").read_text())["cases"]}
    assert {name[:3]: row["status"] for name, row in rows.items()} == {"001": "failed", "002": "done", "003": "refused"}
    assert rows["001_t2"]["reason"] == "the result cannot be written to out: No space left on device"
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_dir()] in (
        ["002_T2_TSE", ".glade"],
        [".glade", "002_T2_TSE"],
    )
    with pytest.raises(SystemExit):
        bundle.record.conclude()
    again = glue.Bundle(ROOT, tmp_path / "out")
    again.write(again.read(cases[1:2]))
    assert again.record.counts == {"kept": 1}


def test_a_result_of_this_app_is_not_taken_for_one_of_run_inference(study, tmp_path):
    """It holds the derived series alone; `run inference` writes volumes too."""
    bundle = glue.Bundle(ROOT, tmp_path / "out")
    (case,) = bundle.admit(study, uids(study, "b"))
    bundle.write(bundle.read([case]))
    assert bundle.record.counts == {"done": 1}
    for write, to_do in ((["dicom"], False), (["volume", "dicom"], True)):
        inference = RunRecord(tmp_path / "out", bundle.record.settings, bundle.record.weights, write=write)
        inference.open()
        assert inference.is_done(case) is not to_do


def test_descriptions_stay_out_of_the_log():
    def record(path):
        return logging.LogRecord("root", logging.INFO, path, 1, "SeriesDescription value: Mustermann", (), None)

    assert not glue.without_descriptions(record("/x/dicom_series_selector_operator.py"))
    assert glue.without_descriptions(record("/x/summary.py"))


def test_pins_and_version_are_those_of_the_bundle():
    ours, theirs = (
        dict(line.split("==") for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#"))
        for name in ("requirements.lock", "apps/deploy/requirements.txt")
    )
    assert {name: version for name, version in theirs.items() if name in ours and ours[name] != version} == {}
    app = yaml.safe_load((ROOT / "apps/deploy/app.yaml").read_text())["application"]
    assert app["version"] == json.loads((ROOT / "configs/metadata.json").read_text())["version"]


def deploy(folder, out, **variables):
    """The app in its own environment, on the CPU."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""} | variables
    command = [str(PYTHON), "-m", "apps.deploy", "--input", str(folder), "--output", str(out)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)


needs_sdk = pytest.mark.skipif(not PYTHON.exists(), reason="no .venv-deploy: `make deploy SCAN=folder` makes it")


@needs_sdk
@pytest.mark.slow
def test_derived_series_equal_those_of_run_inference(study, tmp_path, monkeypatch):
    run = deploy(study, tmp_path / "deployed")
    assert run.returncode == 1, run.stderr  # for the series of three slices
    assert NAME.lower() not in (run.stdout + run.stderr).lower()
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(ROOT)
    places = {"dataset_dir": str(study), "output_dir": str(tmp_path / "inferred")}
    with pytest.raises(SystemExit):
        monai.bundle.run("inference", config_file="configs/inference.yaml", logging_file=False, **places)
    made = {path.name: path for path in sorted((tmp_path / "deployed").glob("0*"))}
    assert list(made) == ["001_t2", "002_T2_TSE"]
    for name, folder in made.items():
        pair = [sorted(p.glob("*_dicom/*.dcm")) for p in (folder, tmp_path / "inferred" / name)]
        assert len(pair[0]) == len(pair[1]) > 20
        for ours, theirs in zip(*pair, strict=True):
            ours, theirs = pydicom.dcmread(ours), pydicom.dcmread(theirs)
            assert np.array_equal(ours.pixel_array, theirs.pixel_array)
            for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SpacingBetweenSlices"):
                assert ours[keyword].value == theirs[keyword].value
            assert ours.get("RescaleSlope") == theirs.get("RescaleSlope")
            assert ours.get("RescaleIntercept") == theirs.get("RescaleIntercept")


def refused(run, line):
    """Whether the app ended with that line alone."""
    said = [text for text in run.stderr.splitlines() if "refused" in text or "Traceback" in text or "[error]" in text]
    return run.returncode == 1 and len(said) == 1 and said[0].startswith(f"refused: {line}")


@needs_sdk
@pytest.mark.slow
def test_what_leaves_nothing_to_do_ends_with_one_line(tmp_path):
    series(tmp_path / "study", Modality="CT")
    run = deploy(tmp_path / "study", tmp_path / "out")
    assert refused(run, "none of 1 DICOM volumes matches the selection rules: see rules.json"), run.stderr
    own = tmp_path / "own.json"
    own.write_text('{"selections": [{"conditions": {"Modality": ["CT"]}}]}')  # a list, where the SDK wants text
    run = deploy(tmp_path / "study", tmp_path / "out", GLADE_RULES=str(own))
    assert refused(run, "the selection rules do not fit these series: "), run.stderr
    assert list((tmp_path / "out").rglob("*")) == []
    run = deploy(tmp_path / "study", own / "out")
    assert refused(run, f"{own / 'out'} cannot be made (Not a directory)"), run.stderr
