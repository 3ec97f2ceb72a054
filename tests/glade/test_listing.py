"""`glade list`: where every scan lies, what it is, and what inference would say of it."""

import json

import monai.bundle
import numpy as np
import pydicom
import pytest

from glade import cli
from scripts.dicom.synthetic_series import write_series

from ..data.test_slice_profile import scan as texture
from ..data.thick_scans import voxels, write_scan
from ..dicom.conftest import AFFINES, phantom
from ..workflows.tiny_inference import write_config


def rows(capsys, *paths) -> tuple[int, list[list[str]]]:
    code = cli.main(["list", *map(str, paths)])
    lines = capsys.readouterr().out.splitlines()
    starts = [lines[0].index(name) for name in lines[0].split()]
    return code, [[line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)] for line in lines[1:-1]]


@pytest.fixture
def study(tmp_path):
    """DICOM and NIfTI, usable and not, at several depths."""
    folder = tmp_path / "study"
    write_series(folder / "one/a", phantom(), AFFINES["oblique"], slice_thickness_mm=3.0)
    write_series(folder / "few", phantom((8, 8, 3)), AFFINES["sagittal"], series_number=2)
    write_scan(folder / "nifti/knee.nii.gz")
    write_scan(folder / "nifti/cube.nii.gz", voxels((20, 20, 20)), spacing=(1, 1, 1))
    write_scan(folder / "nifti/flat.nii.gz", np.full((20, 20, 8), 5, np.int16))
    (folder / "notes.txt").write_text("x")
    return folder


def test_every_scan_is_listed_with_its_place_and_its_verdict(study, capsys):
    code, found = rows(capsys, study)
    assert code == 0
    by_case = {row[2]: row for row in found}
    assert set(by_case) == {"knee", "cube", "flat", "001_T2_TSE", "002_T2_TSE"}
    assert by_case["knee"][:2] == ["nifti", "knee.nii.gz"]
    assert by_case["knee"][4:8] == ["24x20x8", "1x1x4", "-", "axial"]  # NIfTI has no slice thickness
    assert by_case["knee"][8].startswith("yes (hardly anything but noise")
    assert "; noise (share of the intensity scale)" in by_case["knee"][8]
    assert by_case["cube"][8].startswith("no: ")
    assert by_case["flat"][8].startswith("no: constant volume")
    assert by_case["001_T2_TSE"][:2] == ["one/a", f"series 1, {phantom().shape[2]} files"]
    assert "oblique" in by_case["001_T2_TSE"][7]
    assert by_case["001_T2_TSE"][8].startswith("yes (")
    assert "gap of 0.6 mm" in by_case["001_T2_TSE"][8]
    assert by_case["002_T2_TSE"][8] == "no: 3 slices; at least 5 are needed"
    assert cli.main(["list", str(study)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "5 scans, 2 usable"


def test_the_verdict_is_that_of_inference(study, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    with pytest.raises(SystemExit):
        monai.bundle.run(
            "inference",
            config_file=write_config(tmp_path),
            logging_file=False,
            dataset_dir=str(study),
            output_dir=str(tmp_path / "out"),
            views=[1],
            rotations_deg=[0],
        )
    capsys.readouterr()
    _, found = rows(capsys, study)
    summary = {row["case"]: row for row in json.loads((tmp_path / "out/summary.json").read_text())["cases"]}
    assert {row[2] for row in found} == set(summary)
    for row in found:
        assert row[8].startswith("yes") == (summary[row[2]]["status"] == "done")
        if summary[row[2]]["reason"]:
            assert row[8].removeprefix("no: ") in summary[row[2]]["reason"]
        assert all(warning in row[8] for warning in summary[row[2]]["warnings"])


def test_a_series_without_a_description_is_described_by_its_sequence(tmp_path, capsys):
    header = {"ScanningSequence": ["SE", "SECRET"], "RepetitionTime": "4000", "EchoTime": "101"}
    write_series(tmp_path / "a", phantom(), AFFINES["oblique"], series_description="", header=header)
    for file in (tmp_path / "a").iterdir():
        dataset = pydicom.dcmread(file)
        assert not dataset.get("ProtocolName")
    (row,) = rows(capsys, tmp_path)[1]
    assert "spin echo, TR 4000 ms, TE 101 ms" in row[3]
    assert "SECRET" not in " ".join(row)


def test_folders_stand_under_the_path_that_was_given_where_there_are_several(study, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, found = rows(capsys, "study/nifti", "study/one")
    assert {row[0] for row in found} == {str(study / "nifti"), str(study / "one/a")}


def test_folders_are_relative_to_a_path_with_dots(study, capsys, monkeypatch):
    monkeypatch.chdir(study / "one")
    assert {row[0] for row in rows(capsys, "../nifti")[1]} == {"."}


def test_one_file_of_a_series_offers_its_folder(study, capsys):
    file = sorted((study / "one/a").iterdir())[3]
    code, (row,) = rows(capsys, file)
    assert code == 1
    assert row[8] == f"no: {file.name} is one of {phantom().shape[2]} files of a volume: give its folder"


def test_the_thickness_is_that_of_header_or_sidecar_and_an_estimate_is_marked(tmp_path, capsys):
    slices = 1000 + 100 * texture(profile="gauss", thickness_mm=5.1)["image"].numpy()[0]
    for name, sidecar in (("a", {"SliceThickness": 5.0}), ("b", {"MRAcquisitionType": "2D"}), ("c", {})):
        write_scan(tmp_path / f"{name}.nii.gz", slices, spacing=(1.5, 1.5, 6.0))
        (tmp_path / f"{name}.json").write_text(json.dumps(sidecar))
    found = {row[2]: row[6] for row in rows(capsys, tmp_path)[1]}
    assert (found["a"], found["c"]) == ("5", "-")
    value, word = found["b"].split()
    assert float(value) == pytest.approx(5.1, rel=0.1)
    assert word == "estimated"


def test_nothing_usable_and_nothing_at_all_end_with_code_1_and_a_line(tmp_path, capsys):
    write_series(tmp_path / "few", phantom((8, 8, 3)), AFFINES["sagittal"])
    assert cli.main(["list", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-1] == "1 scan, 0 usable"
    assert shown.err.splitlines()[1:] == ["no scan is usable: the last column says why"]  # after "loading"
    (tmp_path / "empty").mkdir()
    assert cli.main(["list", str(tmp_path / "empty")]) == 1
    shown = capsys.readouterr()
    (line,) = shown.err.splitlines()[1:]
    assert line.startswith("refused: no NIfTI file")
    assert shown.out == ""
    assert cli.main(["list", str(tmp_path / "absent")]) == 1
