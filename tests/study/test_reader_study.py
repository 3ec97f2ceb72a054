"""The readers' study: blinded, shuffled by a seed, the same frame and window for all methods, a sealed key."""

import json
import re
import stat
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from scripts.geometry.errors import Refusal
from scripts.study.reader_study import Item, ReaderStudy, closest, spaced
from scripts.study.volumes import (
    StudyCase,
    evaluation_cases,
    folder_cases,
    load,
    spread_planes,
    warn_of_one_person,
)

from .study_files import CASES, METHODS, SETTINGS, SHAPE, body, payload, stack, write_methods, write_volume


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    return write_methods(tmp_path_factory.mktemp("volumes"))


@pytest.fixture(scope="module")
def made(volumes, tmp_path_factory):
    """Page and key of one study."""
    folder = tmp_path_factory.mktemp("study")
    page = ReaderStudy(folder_cases(volumes, "*"), folder, **SETTINGS).write()
    return page, json.loads((folder / "key.json").read_text())


def test_the_page_names_no_method_and_no_case(made):
    text = made[0].read_text().lower()
    for name in (*METHODS, *CASES, *(word for method in METHODS for word in method.split())):
        assert name.lower() not in text
    for word in ("glade", "cubic", "linear", "nearest", "truth", "/tmp", ".nii"):
        assert word not in re.sub(r'id="image-[^<]*<', "", text), word


def test_items_of_the_page_hold_only_their_image(made):
    page, key = made
    items = payload(page)["items"]
    assert all(re.fullmatch("[0-9a-f]{8}", item["id"]) for item in items)
    assert len({item["id"] for item in items}) == len(items) == len(key["items"])
    assert all(set(item) == {"id", "shape", "pixel_mm", "centre", "letters"} for item in items)


def test_methods_share_size_frame_and_window(made):
    page, key = made
    of = {item["id"]: item for item in payload(page)["items"]}
    shown = {}
    for item in key["items"]:
        drawn = of[item["item"]]
        shown.setdefault((item["case"], item["plane"]), set()).add(json.dumps({**drawn, "id": ""}))
        assert drawn["pixel_mm"] == [4.0, 3.0]  # height, width of a sagittal plane
    assert len(shown) == 6
    assert all(len(kinds) == 1 for kinds in shown.values())


def test_methods_keep_their_difference_in_the_shared_window(volumes, made):
    """The second method is a tenth brighter, which a window for each method would hide."""
    page, key = made
    case = folder_cases(volumes, CASES[0])[0]
    low, high = load(case, "sagittal", [1.0, 99.0]).window
    found = {}
    for item in payload(page)["items"]:
        sealed = next(i for i in key["items"] if i["item"] == item["id"])
        if sealed["case"] == CASES[0]:
            own = stack(page, item) / 4095 * 2 * (high - low) + low - (high - low) / 2
            found[sealed["method"], sealed["plane"]] = own
    for plane in {plane for _, plane in found}:
        one, other = (found[method, plane] for method in METHODS)
        tissue = one > 50
        assert np.median(other[tissue] / one[tissue]) == pytest.approx(1.1, abs=0.01)


def test_the_image_is_oriented_as_radiologists_view_it(made):
    """Anterior left, superior at the top: the bright corner of the body is at the upper left."""
    page, _ = made
    items = payload(page)["items"]
    assert {item["letters"] for item in items} == {"APSI"}
    plane = max((stack(page, item)[item["centre"]] for item in items), key=np.std)  # not one at the rim of the body
    rows, columns = np.nonzero(plane > 0.9 * plane.max())
    assert rows.mean() < 0.4 * plane.shape[0]
    assert columns.mean() < 0.4 * plane.shape[1]


def test_the_key_is_sealed_and_belongs_to_the_page(made):
    page, key = made
    path = page.with_name("key.json")
    assert "Never give it to a reader" in path.read_text().splitlines()[1]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    content = payload(page)
    assert [content[name] for name in ("study", "key_sha256", "page_sha256")] == [
        key[name] for name in ("study", "key_sha256", "page_sha256")
    ]
    assert "seed" not in content


def test_every_plane_is_shown_by_every_method_once_and_some_twice(made):
    items = made[1]["items"]
    first = [i for i in items if i["duplicate_of"] is None]
    assert len(first) == 2 * len(METHODS) * 3
    assert len({(i["case"], i["method"], i["plane"]) for i in first}) == len(first)
    assert len(items) - len(first) == 3  # a quarter
    position = {item["item"]: n for n, item in enumerate(items)}
    for item in items:
        if item["duplicate_of"] is not None:
            same = items[position[item["duplicate_of"]]]
            assert position[item["item"]] > position[item["duplicate_of"]]
            assert [same[k] for k in ("case", "method", "plane")] == [item[k] for k in ("case", "method", "plane")]


def test_images_of_one_plane_do_not_follow_each_other(made):
    shown = [(i["case"], i["plane"]) for i in made[1]["items"]]
    assert all(a != b for a, b in pairwise(shown))
    assert closest([Item(n, "c", "m", p) for n, p in zip("abcd", (1, 2, 3, 1), strict=True)]) == 3


def test_spacing_a_shuffle_keeps_every_image():
    items = [Item(f"{m}{p}", "c", m, p) for m in "abc" for p in range(12)]
    for seed in range(5):
        order = [items[n] for n in np.random.default_rng(seed).permutation(len(items))]
        assert closest(order) < 6
        assert closest(spaced(order[:24], 2)) > 2
        assert sorted(i.item for i in spaced(order, 5)) == sorted(i.item for i in items)
    assert spaced(items[:3], 0) == items[:3]
    assert len(spaced([items[0]] * 3, 5)) == 3


def test_the_same_seed_gives_the_same_files_and_another_seed_other_files(volumes, made, tmp_path):
    def files(name, seed):
        ReaderStudy(folder_cases(volumes, "*"), tmp_path / name, **{**SETTINGS, "seed": seed}).write()
        return [(tmp_path / name / file).read_bytes() for file in ("study.html", "key.json")]

    again = files("again", SETTINGS["seed"])
    assert again == [made[0].read_bytes(), made[0].with_name("key.json").read_bytes()]
    other, random = files("other", 6), files("random", None)
    assert len({again[1], other[1], random[1]}) == 3
    order = [[i["case"] + i["method"] + str(i["plane"]) for i in json.loads(f[1])["items"]] for f in (again, other)]
    assert order[0] != order[1]


def test_the_page_cannot_use_the_network(made):
    text = made[0].read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert "default-src 'none'" in policy
    assert re.findall(r"(?:script|style)-src 'sha256-[^']{44}'", policy)
    assert not re.search(r"(?:https?:)?//[a-z]|unsafe|<link|<img|@import|url\(", re.sub(r'id="image-[^<]*<', "", text))


def test_what_one_method_does_not_cover_is_black_in_all(tmp_path):
    write_volume(tmp_path / "a/scan.nii.gz", body(0))
    write_volume(tmp_path / "b/scan.nii.gz", body(0)[:, :, :20])
    found = load(folder_cases({"a": tmp_path / "a", "b": tmp_path / "b"}, "*")[0], "sagittal", [1.0, 99.0])
    rows = [np.flatnonzero(planes.std(axis=(0, 2)) > 0) for planes in found.planes.values()]
    assert rows[0].tolist() == rows[1].tolist()
    assert found.planes["a"].shape == (SHAPE[0], SHAPE[2], SHAPE[1])


def test_a_dim_body_with_bright_spots_does_not_open_nearly_black(tmp_path):
    values = body(0)
    values[10:24, 8:24, 8:10] = 4000  # an eighth of the body, as bright as fat beside muscle
    write_volume(tmp_path / "a.nii.gz", values)
    case = StudyCase("a", {"one": tmp_path / "a.nii.gz"})
    loaded = load(case, "sagittal", [1.0, 99.0])
    low, high = loaded.window
    median = float(np.median(loaded.planes["one"][loaded.body]))
    assert (median - low) / (high - low) == pytest.approx(0.25, abs=0.01)
    assert high < 1000


def test_two_acquisitions_of_one_scan_are_warned_of(caplog):
    files = {"one": Path("x")}
    alone = [StudyCase("knee_4x", files, None, "knee"), StudyCase("hip_4x", files, None, "hip"), StudyCase("c", files)]
    warn_of_one_person(alone)
    assert caplog.text == ""
    warn_of_one_person([*alone, StudyCase("knee_6x", files, None, "knee")])
    assert "knee_4x, knee_6x are acquisitions of one scan, knee" in caplog.text
    assert "hip" not in caplog.text


def test_a_question_has_its_own_names_of_levels(volumes, tmp_path):
    names = ["not at all", "slightly", "moderately", "fairly", "completely"]
    questions = {name: dict(question) for name, question in SETTINGS["questions"].items()}
    last = list(questions)[-1]
    questions[last]["levels"] = names
    page = ReaderStudy(folder_cases(volumes, "*"), tmp_path, **{**SETTINGS, "questions": questions}).write()
    assert payload(page)["questions"][-1]["levels"] == names
    assert "levels" not in payload(page)["questions"][0]
    questions[last]["levels"] = names[:3]
    with pytest.raises(Refusal, match=f"levels of question {last} must be 5 names"):
        ReaderStudy(folder_cases(volumes, "*"), tmp_path / "b", **{**SETTINGS, "questions": questions})


def test_planes_are_spread_over_the_body():
    areas = np.array([0, 1, 9, 10, 10, 10, 10, 10, 9, 0])
    for seed in range(20):
        drawn = spread_planes(areas, 3, 0.5, np.random.default_rng(seed))
        assert [d in band for d, band in zip(drawn, ({2, 3}, {4, 5, 6}, {7, 8}), strict=True)] == [True] * 3
    with pytest.raises(Refusal, match="7 planes lie inside the body, 8 are asked for"):
        spread_planes(areas, 8, 0.5, np.random.default_rng(0))


def test_cases_of_an_evaluation(tmp_path):
    write_volume(tmp_path / "methods/cubic/one.nii.gz", body(0))
    write_volume(tmp_path / "methods/GLADE/one/one_glade.nii.gz", body(0))
    write_volume(tmp_path / "methods/GLADE/one/one_uncertainty.nii.gz", body(0))
    write_volume(tmp_path / "truth/one.nii.gz", body(0))
    write_volume(tmp_path / "peer/one_UniRes.nii.gz", body(0))
    write_volume(tmp_path / "methods/linear/one.nii.gz", body(0))
    write_volume(tmp_path / "methods/nearest/one.nii.gz", body(0))  # of an earlier call
    ended = {method: {"status": "done"} for method in ("cubic", "GLADE", "UniRes")}
    ended["linear"] = {"status": "failed", "reason": "another scan"}
    rows = [
        {"case": "one", "status": "done", "window": [3, 200.5], "methods": ended},
        {"case": "two", "status": "failed", "reason": "no slices"},
    ]
    record = {"settings": {"others": {"UniRes": str(tmp_path / "peer")}}, "cases": rows}
    (tmp_path / "cases.json").write_text(json.dumps(record))
    (case,) = evaluation_cases(tmp_path, ["cubic", "GLADE", "UniRes", "truth"], "*")
    assert (case.name, case.window) == ("one", (3.0, 200.5))
    assert [path.parent.name for path in case.files.values()] == ["cubic", "one", "peer", "truth"]
    assert load(case, "coronal", None).window == (3.0, 200.5)
    assert load(case, "coronal", [1.0, 99.0]).window != (3.0, 200.5)
    for patterns, methods, said in (
        ("two", ["cubic"], "none of the cases"),
        ("x*", ["cubic"], "no case fits x\\*; there are .* one, two"),
        ("*", ["cubic", "nearest"], "one: there is no result of nearest: the evaluation did not"),
        ("*", ["cubic", "linear"], "one: there is no result of linear: another scan"),
    ):
        with pytest.raises(Refusal, match=said):
            evaluation_cases(tmp_path, methods, patterns)
    with pytest.raises(Refusal, match=r"no readable cases\.json"):
        evaluation_cases(tmp_path / "methods", ["cubic"], "*")


def test_cases_of_folders_go_by_their_shortest_name(tmp_path):
    for name in ("pat1_glade", "pat1_b_glade", "pat1_b_uncertainty"):
        write_volume(tmp_path / "a" / f"{name}.nii.gz", body(0))
    for name in ("pat1", "pat1_b"):
        write_volume(tmp_path / "b" / f"{name}.nii.gz", body(0))
    cases = folder_cases(f"a={tmp_path / 'a'},b={tmp_path / 'b'}", "*")
    assert {case.name: [path.name for path in case.files.values()] for case in cases} == {
        "pat1": ["pat1_glade.nii.gz", "pat1.nii.gz"],
        "pat1_b": ["pat1_b_glade.nii.gz", "pat1_b.nii.gz"],
    }


def test_results_of_two_runs_are_compared(tmp_path):
    """Two folders that `run inference` wrote, of two sharpnesses say, and one of plain files."""
    for run in ("faithful", "sharp"):
        for case in CASES:
            for postfix in ("glade", "added_detail"):
                write_volume(tmp_path / run / case / f"{case}_{postfix}.nii.gz", body(0))
    write_volume(tmp_path / "peer" / f"{CASES[0]}_peer.nii.gz", body(0))
    folders = {run: str(tmp_path / run) for run in ("faithful", "sharp")}
    found = {case.name: list(case.files.values()) for case in folder_cases(folders, "*")}
    assert found == {
        case: [tmp_path / run / case / f"{case}_glade.nii.gz" for run in ("faithful", "sharp")] for case in CASES
    }
    (case,) = folder_cases(folders | {"peer": str(tmp_path / "peer")}, CASES[0])
    assert [path.name for path in case.files.values()] == [
        *(f"{CASES[0]}_glade.nii.gz",) * 2,
        f"{CASES[0]}_peer.nii.gz",
    ]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"view": "oblique"}, "view must be one of"),
        ({"window_percentiles": None}, "give --window_percentiles"),
        ({"planes": 0}, "planes must be"),
        ({"planes": 33}, "quokka_1: .* planes lie inside the body, 33"),
        ({"neighbours": 1.5}, "neighbours must be"),
        ({"duplicates": 15}, "duplicates must be a share"),
        ({"body_share": 0}, "body_share must be"),
        ({"margin_mm": -1}, "margin_mm must be"),
        ({"apart": -1}, "apart must be"),
        ({"seed": -1}, "seed must be"),
        ({"duplicates": "few"}, "duplicates must be a share from 0 to 1, got 'few'"),
        ({"window_percentiles": [99, 1]}, "window_percentiles must be null or two percentiles"),
        ({"window_percentiles": [0, 120]}, "window_percentiles must be"),
        ({"window_percentiles": [1]}, "window_percentiles must be"),
        ({"questions": ["quality"]}, "questions must be id"),
        ({"questions": {"quality": "How good?"}}, "questions must be id"),
        ({"questions": {"zebra_quality": {"title": "Quality", "text": "How good?"}}}, "contain 'zebra'"),
        ({"questions": {"q": {"title": "Quality", "text": "How good?", "note": "of okapi blend"}}}, "'okapi blend'"),
        ({"levels": ["bad", "good"]}, "levels must be 5 names"),
        ({"questions": {"quality": {"title": "Quality"}}}, "questions must be"),
        ({"title": "Zebra against the rest"}, "contain 'zebra', which reveals a method or case"),
        ({"title": "What of quokka_2?"}, "contain 'quokka_2', which reveals a method or case"),
    ],
)
def test_settings_that_are_not_valid_are_refused(volumes, tmp_path, settings, said):
    with pytest.raises(Refusal, match=said):
        ReaderStudy(folder_cases(volumes, "*"), tmp_path, **{**SETTINGS, **settings}).write()
    assert not list(tmp_path.iterdir())


def test_a_single_method_is_refused_and_a_key_is_never_overwritten(volumes, made):
    with pytest.raises(Refusal, match="at least two methods"):
        ReaderStudy(folder_cases({"zebra": volumes["zebra"]}, "*"), made[0].parent, **SETTINGS)
    with pytest.raises(Refusal, match=r"key\.json: a study is there already"):
        ReaderStudy(folder_cases(volumes, "*"), made[0].parent, **SETTINGS).write()
