"""Grouping: which DICOM series belong together, named NIfTI files, names of studies, and the reasons for the others."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from scripts.data.case import DICOM, Case
from scripts.dicom.discovery import find_series
from scripts.dicom.synthetic_series import write_series
from scripts.geometry.errors import Refusal
from scripts.stacks.study import Study, _common_name, find_studies

from .made import ORIENTATIONS

SHAPE = (24, 24, 6)


def affine_of(name: str, shape: tuple = SHAPE) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, list(ORIENTATIONS[name])] * (1, 1, 4)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def series(folder: Path, name: str, number: int, seed: int = 0, **header) -> None:
    values = np.random.default_rng(number).integers(1, 500, SHAPE)
    given = {"EchoTime": 100.0, "RepetitionTime": 4000.0, "ScanningSequence": "SE", **header}
    write_series(
        folder / str(number),
        values,
        affine_of(name),
        series_description=f"t2 tse {name}",
        series_number=number,
        header=given,
        seed=seed,
    )


def numbers(study: Study) -> list[int]:
    return [case.volume.frames[0].series_number for case in study.stacks]


def test_series_of_one_contrast_and_three_orientations_are_one_study(tmp_path: Path):
    for number, name in enumerate(ORIENTATIONS, start=1):
        series(tmp_path, name, number, EchoTime=100.0 + number, RepetitionTime=4000.0 + 500 * number)
    (study,) = find_studies(tmp_path)
    assert numbers(study) == [1, 2, 3]
    assert len(study.case.files) == 3 * SHAPE[2]
    assert study.case.volume is study.stacks[0].volume
    assert study.case.more_volumes == tuple(case.volume for case in study.stacks[1:])


@pytest.mark.parametrize(
    ("header", "line"),
    [
        ({"EchoTime": 12.0}, "echo time 12 ms, not 100 ms"),
        ({"RepetitionTime": 600.0}, "repetition time 600 ms, not 4000 ms"),
        ({"ScanningSequence": "GR"}, "sequence GR, not SE"),
        ({"ContrastBolusAgent": "gadolinium"}, "names a contrast agent"),
        ({"FrameOfReferenceUID": "1.2.3.4"}, "another frame of reference"),
        ({"PatientID": "other"}, "another person"),
        ({"StudyInstanceUID": "1.2.3.5"}, "another study"),
    ],
)
def test_what_does_not_belong_is_said_in_one_line_and_the_others_are_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, header: dict, line: str
):
    series(tmp_path, "tra", 1)
    series(tmp_path, "cor", 2, **header)
    series(tmp_path, "sag", 3)
    with caplog.at_level("INFO"):
        (study,) = find_studies(tmp_path)
    assert numbers(study) == [1, 3]
    assert line in caplog.text
    assert "no other stack of its contrast" in caplog.text


def test_two_contrasts_of_two_stacks_are_two_studies(tmp_path: Path):
    for number, (name, echo_time) in enumerate([("tra", 100.0), ("tra", 12.0), ("sag", 100.0), ("sag", 12.0)], start=1):
        series(tmp_path, name, number, EchoTime=echo_time)
    studies = find_studies(tmp_path)
    assert sorted(numbers(study) for study in studies) == [[1, 3], [2, 4]]
    assert len({study.case.name for study in studies}) == 2


def test_a_series_that_is_refused_is_left_out_with_its_reason(tmp_path: Path):
    series(tmp_path, "tra", 1)
    series(tmp_path, "cor", 2)
    values = np.random.default_rng(0).integers(1, 500, (24, 24, 2))
    write_series(tmp_path / "3", values, affine_of("sag", (24, 24, 2)), series_number=3)
    (study,) = find_studies(tmp_path)
    assert numbers(study) == [1, 2]
    assert len(study.left_out) == 1
    assert "slices" in next(iter(study.left_out.values()))


def test_each_study_names_its_own_refused_series_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    values = np.random.default_rng(0).integers(1, 500, (24, 24, 2))
    for person in (1, 2, 3):
        of_person = {"PatientID": f"p{person}", "StudyInstanceUID": f"1.2.3.{person}"}
        for number, name in enumerate(("tra", "cor") if person < 3 else (), start=10 * person):
            series(tmp_path, name, number, seed=person, **of_person)
        number = 10 * person + 5
        affine = affine_of("sag", (24, 24, 2))
        write_series(tmp_path / str(number), values, affine, series_number=number, seed=person, header=of_person)
    studies = find_studies(tmp_path)
    assert [numbers(study) for study in studies] == [[10, 11], [20, 21]]
    assert [[name.split("_")[0] for name in study.left_out] for study in studies] == [["015"], ["025"]]
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert line.startswith("035")
    assert ": refused: " in line


def test_a_named_reference_that_cannot_be_used_is_refused(tmp_path: Path):
    series(tmp_path, "tra", 1)
    series(tmp_path, "cor", 2, EchoTime=12.0)
    series(tmp_path, "sag", 3)
    write_series(tmp_path / "4", np.ones((24, 24, 2)), affine_of("sag", (24, 24, 2)), series_number=4)
    names = {int(name.split("_")[0]): name for name in _names(tmp_path)}
    (study,) = find_studies(tmp_path, reference=names[3])
    assert (numbers(study), study.reference) == ([3, 1], names[3])
    with pytest.raises(Refusal, match=f"reference {names[2]}: no other stack of its contrast"):
        find_studies(tmp_path, reference=names[2])
    with pytest.raises(Refusal, match=f"reference {names[4]}: .*slices"):
        find_studies(tmp_path, reference=names[4])


def _names(folder: Path) -> list[str]:
    return [case.name for case in find_series(folder)]


def nifti(folder: Path, name: str, plane: str) -> Path:
    path = folder / f"{name}.nii.gz"
    values = np.random.default_rng(len(name)).random(SHAPE).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, affine_of(plane)), path)
    return path


def test_named_files_are_one_study_in_their_order_unless_a_reference_is_named(tmp_path: Path):
    files = [nifti(tmp_path, f"pelvis_t2_{plane}", plane) for plane in ("tra", "cor", "sag")]
    (study,) = find_studies([files[2], files[0]])
    assert sorted(case.name for case in study.stacks) == ["pelvis_t2_sag", "pelvis_t2_tra"]
    assert study.case.name == "pelvis_t2"
    (named,) = find_studies(tmp_path, reference="pelvis_t2_sag")
    assert named.stacks[0].name == "pelvis_t2_sag"
    with pytest.raises(Refusal, match="there is no stack pelvis_t1: have pelvis_t2_cor"):
        find_studies(tmp_path, reference="pelvis_t1")


@pytest.mark.parametrize(
    ("stacks", "name"),
    [
        ([f"aniso_pelvis_t2_prostatex0218{plane}" for plane in ("tra", "cor", "sag")], "aniso_pelvis_t2_prostatex0218"),
        (["pelvis_p1tra", "pelvis_p1cor"], "pelvis_p1"),
        (["pelvis_p1ttra", "pelvis_p1tcor"], "pelvis_p1"),
        (["pelvis-p1-tra", "pelvis-p1-cor"], "pelvis-p1"),
        (["pelvis-tra", "pelvis-cor"], "pelvis"),
        (["sub-01_acq-tra_T2w", "sub-01_acq-cor_T2w"], "sub-01"),
        (["scan_1", "scan_2"], "scan"),
        (["scan_10", "scan_11"], "scan"),
        (["scan_1", "scan_12"], "scan"),
        (["scan_1", "scan_1_cor"], "scan_1"),
        (["img1", "img2"], "study"),
    ],
)
def test_a_study_has_the_words_and_the_whole_numbers_that_its_files_have_in_common(
    tmp_path: Path, stacks: list[str], name: str
):
    (study,) = find_studies([nifti(tmp_path, stack, "tra") for stack in stacks])
    assert study.case.name == name


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (["002_t2_tse_tra", "003_t2_tse_cor"], "study"),
        (["005_t2_TE4", "005_t2_TE4p6"], "005_t2"),  # a decimal point
        (["anna_002_t2_tra", "anna_003_t2_cor"], "anna"),
    ],
)
def test_names_of_dicom_series_are_cut_between_words_alone(names: list[str], name: str):
    assert _common_name([Case(series_name, (), DICOM) for series_name in names]) == name


def test_one_file_is_a_study_of_one_stack(tmp_path: Path):
    (study,) = find_studies(nifti(tmp_path, "knee", "sag"))
    assert [case.name for case in study.stacks] == ["knee"] == [study.case.name]


def test_a_folder_without_a_scan_is_refused(tmp_path: Path):
    with pytest.raises(Refusal):
        find_studies(tmp_path)
