"""The workflow: what is written and recorded of a study, DICOM end to end, and a run of configs/stacks.yaml."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from monai.bundle import ConfigParser

from scripts.data.case import Case
from scripts.data.outputs import OUTPUTS_OF_STACKS
from scripts.derived_series.writer import DicomSeriesWriter
from scripts.dicom.synthetic_series import write_series
from scripts.geometry.checksums import sha256_of
from scripts.geometry.errors import Refusal
from scripts.run.record import RunRecord
from scripts.run.sidecars import ResultSidecar
from scripts.stacks.fusion import Fusion
from scripts.stacks.stack import Stack
from scripts.stacks.study import Study, find_studies
from scripts.stacks.workflow import SaveStudy, StudyRun
from tests.conftest import ROOT
from tests.dicom.conftest import same_place
from tests.dicom.oracles import highdicom_read, itk_read, pydicom_read

from .made import SIZE, body, stack

POSTFIXES = ("glade", "added_detail", "uncertainty", "coverage")


class MadeStacks:
    """In the place of `SingleStackInference`: stacks that were made, by the name of the case."""

    def __init__(self, make: Callable[[Case], Stack]):
        self.make = make

    def load(self) -> None:
        pass

    def __call__(self, case: Case, image: object = None) -> Stack:
        return replace(self.make(case), case=case)


def run(studies: list[Study], out: Path, make: Callable[[Case], Stack], write: tuple = OUTPUTS_OF_STACKS[:-1]) -> dict:
    """The row of each study by name."""
    record = RunRecord(out, {"version": "1.2.3"}, write=write)
    saving = SaveStudy(out, DicomSeriesWriter(), record.replacing, describe=ResultSidecar(record), write=write)
    StudyRun(studies, record, MadeStacks(make), Fusion(registration=False), saving).run()
    return {row["case"]: row for row in json.loads((out / "summary.json").read_text())["cases"]}


def named(names: list[str], left_out: dict | None = None) -> Study:
    return Study(Case("study", (), stacks=tuple(Case(name, ()) for name in names)), left_out or {})


def test_volumes_residuals_and_a_row_are_written(tmp_path: Path):
    row = run([named(["tra", "cor", "sag"], {"t1": "another contrast"})], tmp_path, lambda case: stack(case.name))[
        "study"
    ]
    files = {"study_residual", *(f"study_{name}{end}" for name in POSTFIXES for end in (".nii.gz", ".json"))}
    assert {path.name for path in (tmp_path / "study").iterdir()} == files == {Path(f).name for f in row["files"]}
    assert row["status"] == "done"
    assert [part["stack"] for part in row["input"]["stacks"]] == ["tra", "cor", "sag"]
    assert row["input"]["stacks_left_out"] == {"t1": "another contrast"}
    assert any("t1 left out" in warning for warning in row["warnings"])
    assert 0.2 < row["residual_over_noise"] < 1.5
    volume = nibabel.load(tmp_path / "study" / "study_glade.nii.gz")
    assert volume.shape == (SIZE,) * 3
    residual = nibabel.load(tmp_path / "study" / "study_residual" / "sag.nii.gz")
    assert residual.shape == (SIZE, SIZE, SIZE // 4)


def test_the_same_call_again_keeps_the_result_and_one_with_other_stacks_is_refused(tmp_path: Path, caplog):
    files = {}
    for name in ("tra", "cor", "sag"):
        made, files[name] = stack(name), tmp_path / f"{name}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(made.slices.numpy(), made.slice_grid.affine), files[name])
    called, out = [], tmp_path / "out"

    def make(case: Case) -> Stack:
        called.append(case.name)
        return stack(case.name)

    run(find_studies(list(files.values())), out, make)
    first = (out / "study" / "study_glade.nii.gz").read_bytes()
    assert called == ["tra", "cor", "sag"]
    run(find_studies(list(files.values())), out, make)
    run(find_studies([files["tra"], files["cor"]]), out, make)
    assert called == ["tra", "cor", "sag"]
    assert "study: refused: out holds the result of other stacks" in caplog.text
    assert (out / "study" / "study_glade.nii.gz").read_bytes() == first


def test_a_sidecar_beside_every_nifti_file_says_what_it_is_and_from_which_stacks(tmp_path: Path):
    files = []
    for name in ("tra", "cor", "sag"):
        made = stack(name)
        files.append(tmp_path / f"{name}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(made.slices.numpy(), made.slice_grid.affine), files[-1])
    out = tmp_path / "out"

    def make(case: Case) -> Stack:
        if case.name == "cor":
            raise Refusal("2 slices, 5 are needed")
        return stack(case.name)

    run(find_studies(files), out, make)
    volumes = sorted(out.rglob("*.nii.gz"))
    assert len(volumes) == len(POSTFIXES) + 2
    found = {volume: json.loads(Path(f"{str(volume)[:-7]}.json").read_text()) for volume in volumes}
    for volume, content in found.items():
        assert content["Sources"] == ["tra.nii.gz", "sag.nii.gz"]
        assert [part["stack"] for part in content["Input"]["stacks"]] == ["tra", "sag"]
        assert content["SHA256"] == hashlib.sha256(volume.read_bytes()).hexdigest()
        assert content["Output"]["shape"] == list(nibabel.load(volume).shape)
        assert content["GeneratedBy"] == [{"Name": "GLADE", "Version": "1.2.3"}]
        assert content["Settings"] == {"version": "1.2.3"}
        is_residual = volume.parent.name == "study_residual"
        assert content["SpacingBetweenSlices"] == content["SliceThickness"] == (4 if is_residual else 1)
        assert content["Acquisition"]["slice_spacing_mm"] == 4
        assert content["Resolution"] == ("the slices of the stack" if is_residual else "isotropic, 1 mm")
    described = {volume.name: content["Description"] for volume, content in found.items()}
    assert len(set(described.values())) == len(POSTFIXES) + 1  # both residuals are of one kind
    assert "moves rigidly" in described["study_uncertainty.nii.gz"]


def test_what_is_chosen_is_written_and_more_is_added(tmp_path: Path):
    made = []

    def call(*write: str) -> list[str]:
        row = run([named(["tra", "cor"])], tmp_path, lambda c: made.append(c.name) or stack(c.name), write)["study"]
        assert {path.name for path in (tmp_path / "study").iterdir()} == {Path(file).name for file in row["files"]}
        return [Path(file).name for file in row["files"]]

    volume = ["study_glade.json", "study_glade.nii.gz"]
    assert call("volume") == volume
    assert call("residual") == [*volume, "study_residual"]
    assert made == ["tra", "cor"] * 2
    assert call("residual", "volume") == [*volume, "study_residual"]
    assert made == ["tra", "cor"] * 2
    assert call("coverage") == ["study_coverage.json", "study_coverage.nii.gz", *volume, "study_residual"]
    assert {path.name for path in (tmp_path / "study/study_residual").iterdir()} == {
        f"{name}{end}" for name in ("tra", "cor") for end in (".json", ".nii.gz")
    }


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_study_that_is_stopped_leaves_nothing_and_begins_again(tmp_path: Path, number: int):
    code = (
        "import os, pathlib, signal, sys; from tests.stacks.test_workflow import named, run, stack\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell lets jobs in the background ignore it
        "def make(case): return stack('tra') if case.name == 'tra' else os.kill(os.getpid(), int(sys.argv[2]))\n"
        "run([named(['tra', 'cor'])], pathlib.Path(sys.argv[1]), make)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path), str(number)], cwd=ROOT, capture_output=True)
    assert done.returncode == -number
    assert [path.name for path in tmp_path.iterdir()] == [".glade"]
    assert [path.name for path in (tmp_path / ".glade").iterdir()] == [".lock"]  # no note of a killed process
    assert run([named(["tra", "cor"])], tmp_path, lambda case: stack(case.name))["study"]["status"] == "done"


def test_what_the_record_warns_of_is_logged_as_warnings(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    def make(case: Case) -> Stack:
        return stack(case.name, truth=body() if case.name == "tra" else body().flip(1))

    row = run([named(["tra", "cor"], {"t1": "2 slices, 5 are needed"})], tmp_path, make)["study"]
    logged = [line.message for line in caplog.records if line.levelname == "WARNING"]
    assert sum("times their noise away from what the stacks agree on" in warning for warning in row["warnings"]) == 2
    for warning in row["warnings"]:
        line = "t1: left out: 2 slices, 5 are needed" if "left out" in warning else f"study: {warning}"
        assert logged.count(line) == 1


def test_the_residual_of_a_study_is_that_of_its_worst_stack(tmp_path: Path):
    def make(case: Case) -> Stack:
        made = stack(case.name)
        if case.name == "cor":
            made.slices[:, ::2] += 25.0  # stripes that no other stack has
        return made

    row = run([named(["tra", "cor", "sag"])], tmp_path, make)["study"]
    of_stacks = {part["stack"]: part["residual_over_noise"] for part in row["input"]["stacks"]}
    assert of_stacks["cor"] > 2 * max(of_stacks["tra"], of_stacks["sag"])
    assert row["residual_over_noise"] == pytest.approx(of_stacks["cor"])
    residual = nibabel.load(tmp_path / "study" / "study_residual" / "cor.nii.gz").get_fdata()
    slices = make(Case("cor", ())).slices.numpy()
    gain = row["input"]["stacks"][1]["intensity"]["gain"]
    assert row["residual"] == pytest.approx(np.linalg.norm(residual) / np.linalg.norm(gain * slices), rel=0.05)


def test_one_stack_alone_is_processed_and_one_line_says_that_fuse_needs_two(tmp_path: Path, caplog):
    row = run([named(["tra"])], tmp_path, lambda case: stack(case.name))["study"]
    (warning,) = row["warnings"]
    assert (
        "only one stack is used, tra, and fuse needs two: the result is that of the ordinary path (glade -i)" in warning
    )
    assert [line.message for line in caplog.records if line.levelname == "WARNING"] == [f"study: {warning}"]
    assert row["status"] == "done"


def test_one_stack_given_twice_is_used_once(tmp_path: Path):
    row = run([named(["tra", "again", "cor"])], tmp_path, lambda c: stack("tra" if c.name == "again" else c.name))[
        "study"
    ]
    assert [part["stack"] for part in row["input"]["stacks"]] == ["tra", "cor"]
    assert "the same image as tra" in row["input"]["stacks_left_out"]["again"]


def test_a_stack_that_is_refused_is_left_out_and_a_study_without_any_is_refused(tmp_path: Path):
    def make(case: Case) -> Stack:
        if case.name in ("tra", "sag"):
            return stack(case.name)
        raise Refusal(f"{case.name}: 2 slices, 5 are needed")

    rows = run([named(["cor", "tra", "sag"]), Study(Case("other", (), stacks=(Case("x", ()),)))], tmp_path, make)
    assert rows["study"]["input"]["stacks_left_out"] == {"cor": "2 slices, 5 are needed"}
    assert rows["other"]["status"] == "refused"
    assert "none of the stacks can be used: x: 2 slices" in rows["other"]["reason"]
    assert not (tmp_path / "other").exists()


def test_a_named_reference_that_is_refused_is_not_replaced_by_the_next_stack(tmp_path: Path):
    def make(case: Case) -> Stack:
        if case.name == "cor":
            raise Refusal("2 slices, 5 are needed")
        return stack(case.name)

    row = run([replace(named(["cor", "tra", "sag"]), reference="cor")], tmp_path, make)["study"]
    assert row["status"] == "refused"
    assert "reference cor: 2 slices, 5 are needed" in row["reason"]


@pytest.fixture(scope="module")
def dicom(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A DICOM study of two stacks, and OUT."""
    folder, out = tmp_path_factory.mktemp("dicom"), tmp_path_factory.mktemp("out")
    for number, name in enumerate(("tra", "cor"), start=1):
        made = stack(name)
        write_series(
            folder / name,
            made.slices.numpy().clip(0).round(),
            made.slice_grid.affine,
            series_description=f"t2 tse {name}",
            series_number=number,
        )
    planes = iter(("tra", "cor"))
    assert run(find_studies(folder), out, lambda _: stack(next(planes))).popitem()[1]["status"] == "done"
    return folder, out


def test_the_derived_series_refers_to_every_image_of_both_stacks(dicom: tuple[Path, Path]):
    folder, out = dicom
    sources = [pydicom.dcmread(path) for path in folder.rglob("*.dcm")]
    made = [pydicom.dcmread(path) for path in out.rglob("*_glade_dicom/*.dcm")]
    assert len(made) == SIZE
    for image in made:
        assert {item.ReferencedSOPInstanceUID for item in image.SourceImageSequence} == {
            source.SOPInstanceUID for source in sources
        }
        assert {item.SeriesInstanceUID for item in image.ReferencedSeriesSequence} == {
            source.SeriesInstanceUID for source in sources
        }
        assert image.StudyInstanceUID == sources[0].StudyInstanceUID


@pytest.mark.parametrize("reader", [itk_read, pydicom_read, highdicom_read])
def test_the_derived_series_has_the_voxels_of_the_nifti_volume_where_it_lies(
    dicom: tuple[Path, Path], reader: Callable
):
    _, out = dicom
    files = sorted(str(path) for path in out.rglob("*_glade_dicom/*.dcm"))
    (path,) = out.rglob("*_glade.nii.gz")
    volume = nibabel.load(path)
    stored = float(pydicom.dcmread(files[0]).get("RescaleSlope", 1))
    found = same_place(volume.get_fdata(), volume.affine, *reader(files))
    assert found <= 0.51 * (stored + float(volume.dataobj.slope))


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy and dcentvfy of dicom3tools")
def test_dciodvfy_and_dcentvfy_find_no_error_that_the_stacks_have_not(dicom: tuple[Path, Path]):
    folder, out = dicom

    def errors(command: list[str], files: list[Path]) -> set[str]:
        report = subprocess.run([*command, *map(str, files)], capture_output=True, text=True, check=False)
        lines = (report.stdout + report.stderr).splitlines()
        assert lines  # of each file at least its kind, of a study what it found
        return {line for line in lines if line.startswith("Error")}

    sources, derived = sorted(folder.rglob("*.dcm")), sorted(out.rglob("*_glade_dicom/*.dcm"))
    valid = ["dciodvfy", "-new"]
    assert set().union(*(errors(valid, [file]) for file in derived)) <= errors(valid, sources[:1])
    study = subprocess.run(["dcentvfy", *map(str, sources + derived)], capture_output=True, text=True, check=False)
    assert study.stderr == ""
    assert study.returncode == 0


def test_a_stack_that_was_left_out_is_no_source_of_the_derived_series(tmp_path: Path):
    for number, name in enumerate(("tra", "cor", "sag"), start=1):
        made = stack(name)
        values = made.slices.numpy().clip(0).round()
        write_series(tmp_path / name, values, made.slice_grid.affine, series_number=number)

    def make(case: Case) -> Stack:
        number = case.volume.frames[0].series_number
        if number == 1:
            raise Refusal("2 slices, 5 are needed")
        return stack("cor" if number == 2 else "sag")

    assert run(find_studies(tmp_path), tmp_path / "out", make).popitem()[1]["status"] == "done"
    series = {pydicom.dcmread(path).SeriesInstanceUID: path.parent.name for path in tmp_path.glob("*/*.dcm")}
    for path in (tmp_path / "out").rglob("*_glade_dicom/*.dcm"):
        referenced = pydicom.dcmread(path).ReferencedSeriesSequence
        assert [series[item.SeriesInstanceUID] for item in referenced] == ["cor", "sag"]


@pytest.mark.parametrize("sharpness", [0.0, 0.5])
def test_the_record_names_the_weights_of_the_stacks_and_the_uncertainty(tmp_path: Path, sharpness: float):
    models = ROOT / "models"
    own = tmp_path / "own.pt"
    shutil.copy(models / "model.pt", own)
    parser = ConfigParser(ConfigParser.load_config_file(ROOT / "configs" / "stacks.yaml"))
    parser.update(
        {
            "bundle_root": str(ROOT),
            "output_dir": str(tmp_path / "out"),
            "inference": {"sharpness": sharpness, "weights_path": str(own)},
        }
    )
    record = parser.get_parsed_content("record")
    assert record.weights_sha256 == sha256_of(own)
    assert record.settings["uncertainty_sha256"] == sha256_of(models / "uncertainty_stacks.json")
    sharp = sha256_of(models / "model_sharp.pt") if sharpness else None
    assert record.settings["sharp_weights_sha256"] == sharp
    provenance = parser.get_parsed_content("saving").dicom_writer.provenance
    assert provenance.sharp_weights_sha256 == (sharp or "")
    assert provenance.sharpness == sharpness


@pytest.mark.slow
def test_the_workflow_runs_on_files(tmp_path: Path):
    scans = tmp_path / "scans"
    scans.mkdir()
    for name in ("tra", "cor"):
        made = stack(name)
        nibabel.save(nibabel.Nifti1Image(made.slices.numpy(), made.slice_grid.affine), scans / f"body_{name}.nii.gz")
    command = [sys.executable, "-m", "monai.bundle", "run", "stacks", "--config_file", "configs/stacks.yaml"]
    given = [
        "--dataset_dir",
        str(scans),
        "--output_dir",
        str(tmp_path / "out"),
        "--inference",
        "{'views': [0], 'rotations_deg': [0]}",
        "--write",
        "all",
    ]
    done = subprocess.run([*command, *given], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "out" / "summary.json").read_text())["cases"]
    assert row["case"] == "body"
    assert [part["stack"] for part in row["input"]["stacks"]] == ["body_cor", "body_tra"]
    volume = nibabel.load(tmp_path / "out" / "body" / "body_glade.nii.gz")
    assert volume.shape == (SIZE,) * 3
    assert np.isfinite(volume.get_fdata()).all()
    assert "body_cor as acquired" in (tmp_path / "out" / "body" / "body_report.html").read_text()
    assert "body/body_report.html" in (tmp_path / "out" / "overview.html").read_text()
