from pathlib import Path

import numpy as np
import pytest

from scripts.data.case import Case
from scripts.dicom.discovery import find_series
from scripts.dicom.synthetic_series import write_series
from scripts.geometry.errors import Refusal
from scripts.learning.split import split_by_person


def cases(*names, refusal=None) -> list[Case]:
    return [Case(name, (Path(f"/scans/{name}.nii.gz"),), refusal=refusal) for name in names]


def test_a_person_is_only_on_one_side():
    found = cases(*(f"sub-{n:02d}_run-{r}" for n in range(20) for r in (1, 2)))
    for seed in range(10):
        split = split_by_person(found, 0.1, seed)
        sides = [{case.name[:6] for case in split[side]} for side in ("training", "validation")]
        assert not sides[0] & sides[1]
        assert len(sides[1]) == 2  # a tenth of 20 persons
        assert len(split["training"]) + len(split["validation"]) == 40


def test_named_persons_and_exclusions_count():
    found = cases("knee_a", "knee_b", "head", "foot", "bad")
    for seed in range(10):
        split = split_by_person(found, 0.4, seed, same_person=[["knee_*"]], exclude=["bad"])
        names = [[case.name for case in split[side]] for side in ("training", "validation")]
        assert "bad" not in names[0] + names[1]
        assert all(("knee_a" in side) == ("knee_b" in side) for side in names)


def test_named_scans_are_held_back_with_all_others_of_the_person():
    found = cases("knee_a", "knee_b", "head", "foot")
    for seed in range(5):
        split = split_by_person(found, ["knee_b", "f*"], seed, same_person=[["knee_*"]])
        assert [case.name for case in split["validation"]] == ["knee_a", "knee_b", "foot"]
        assert [case.name for case in split["training"]] == ["head"]


def test_frames_of_a_file_stay_together():
    frames = [Case(f"dyn_f{n}", (Path("/scans/dyn.nii.gz"),), frame=n) for n in range(9)]
    for seed in range(5):
        split = split_by_person(frames + cases("a", "b", "c"), 0.3, seed)
        sides = [{case.files for case in split[side]} for side in ("training", "validation")]
        assert not sides[0] & sides[1]


def test_series_and_volumes_of_one_dicom_study_stay_together(tmp_path):
    volume = 100 + 50 * np.random.default_rng(0).random((16, 16, 6))
    for person in range(3):
        for number in (1, 2):
            folder = tmp_path / f"{person}{number}"
            write_series(folder, volume, np.diag([1.0, 1.0, 4.0, 1.0]), series_number=number, seed=person)
    found = find_series(tmp_path)
    assert len(found) == 6
    for seed in range(5):
        split = split_by_person(found, 0.3, seed)
        sides = [{case.volume.study for case in split[side]} for side in ("training", "validation")]
        assert [len(side) for side in sides] == [2, 1]
        assert not sides[0] & sides[1]
        assert len(split["validation"]) == 2


def test_one_pattern_needs_no_list():
    split = split_by_person(cases("knee_a", "knee_b", "head", "foot"), "knee_*", 0, exclude="f*")
    assert [case.name for case in split["validation"]] == ["knee_a", "knee_b"]
    assert [case.name for case in split["training"]] == ["head"]


def test_refused_cases_are_left_out():
    split = split_by_person(cases("a", "b") + cases("c", refusal="2-D"), 0, 0)
    assert {case.name for case in split["training"]} == {"a", "b"}
    assert split["validation"] == split["training"]  # held_back 0: there are no others


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"held_back": 1.0}, "held_back must be from 0 to below 1"),
        ({"held_back": ["hip*"]}, r"'hip\*' fits none of the 2 cases"),
        ({"held_back": ["*"]}, "none is left to train on"),
        ({"exclude": ["hip*"]}, r"'hip\*' fits none of the 2 cases"),
        ({"held_back": 0.9}, "none is left to train on"),
        ({"held_back": "hip*"}, r"'hip\*' fits none of the 2 cases"),
        ({"same_person": ["a", "b"]}, r"same_person must be a list of lists, one for each person, got \['a', 'b'\]"),
        ({"same_person": "a"}, "same_person must be a list of lists"),
    ],
)
def test_a_split_that_cannot_be_is_refused(settings, words):
    with pytest.raises(Refusal, match=words):
        split_by_person(cases("a", "b"), **{"held_back": 0.5, "seed": 0} | settings)
