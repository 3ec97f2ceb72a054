"""The readers' study end to end: made, answered by keyboard in a browser, saved and scored."""

import csv
import json
import subprocess
import sys

import monai.bundle
import numpy as np
import pytest

from tests.chromium import Chromium, require_chromium, until
from tests.conftest import ROOT
from tests.study.study_files import CASES, METHODS, payload, stack, write_methods

CONFIG = str(ROOT / "configs/study.yaml")
QUESTIONS = ("quality", "artefacts")
PREFERENCE = {METHODS[0]: {"quality": 2, "artefacts": 5}, METHODS[1]: {"quality": 4, "artefacts": 3}}
SHOWN = "document.getElementById('image').dataset.drawn"


def run(name: str, **settings) -> None:
    monai.bundle.run(name, config_file=CONFIG, logging_file=False, **settings)


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study made by the shipped workflow: 2 cases, 2 methods, 2 planes, 2 duplicates."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    volumes = write_methods(tmp_path / "volumes")
    given = {"planes": 2, "duplicates": 0.25, "neighbours": 2, "seed": 3}
    run("study", volumes=volumes, output_dir=str(tmp_path / "study"), **given)
    return tmp_path / "study"


def known(item: dict, question: str) -> int:
    """The simulated reader's mark: that of the method, one more for quality in the second case."""
    return PREFERENCE[item["method"]][question] + (question == "quality" and item["case"] == CASES[1])


def scores(folder) -> dict:
    with (folder / "study_statistics.csv").open() as file:
        rows = csv.DictReader(file)
        return {(r["measure"], r["question"], r["method"]): float(r["value"] or "nan") for r in rows if not r["reader"]}


def test_a_reader_in_a_browser_gets_exactly_the_scores_given(study, tmp_path):
    require_chromium()
    items = {i["item"]: i for i in json.loads((study / "key.json").read_text())["items"]}
    with Chromium(tmp_path / "browser") as browser:
        browser.open(study / "study.html")
        browser.wait("document.activeElement.id === 'reader'")
        for letter in "r7":
            browser.key(letter)
        browser.key("Enter")
        for number, order in enumerate(payload(study / "study.html")["items"]):
            shown = browser.wait(f"({SHOWN} || '').startsWith('{order['id']}') && {SHOWN}")
            assert shown.split()[1] == str(order["centre"])
            if number == 1:
                looks_around(browser, study, order)
            browser.key("ArrowRight")  # no effect: nothing is answered yet
            for question in QUESTIONS:
                browser.key(str(known(items[order["id"]], question)))
            if number == 3:  # the page is reloaded: the answers are still there
                browser.reload()
                browser.wait("document.activeElement.id === 'reader'")
                assert browser.js("document.getElementById('reader').value") == ""
                for letter in "r7":
                    browser.key(letter)
                assert f"4 of {len(items)} images" in browser.wait("document.getElementById('found').textContent")
                browser.key("Enter")
                browser.wait(f"({SHOWN} || '').startsWith('{order['id']}')")
                assert browser.js("document.querySelectorAll('[aria-pressed=true]').length") == len(QUESTIONS)
            if number == 4:  # back to the image before and forth again
                browser.key("ArrowLeft")
                browser.wait(f"!({SHOWN}).startsWith('{order['id']}')")
                browser.key("Enter")
                browser.wait(f"({SHOWN}).startsWith('{order['id']}')")
            browser.key("ArrowRight" if number % 2 else "Enter")
        browser.wait("document.activeElement.id === 'export'")
        browser.key("Enter")
        (saved,) = until(lambda: list(browser.downloads.glob("answers_*_R7.json")))
        until(lambda: saved.read_text().endswith("}"))
        browser.js("document.getElementById('clear').click()")  # for the next reader
        assert browser.js("[document.getElementById('reader').value, localStorage.length]") == ["", 0]
        assert browser.js("performance.getEntriesByType('resource').length") == 0
        assert {url.split(":")[0] for url in browser.requests} <= {"file", "blob"}
    answers = json.loads(saved.read_text())
    assert answers["complete"]
    assert 0 < sum(a["seconds"] for a in answers["answers"]) < 60
    assert {a["item"]: a["scores"] for a in answers["answers"]} == {
        name: {q: known(item, q) for q in QUESTIONS} for name, item in items.items()
    }
    run("study_scores", output_dir=str(study), answers=str(browser.downloads))
    found = scores(study)
    for method, marks in PREFERENCE.items():  # four images a method; the second case one better in quality
        assert found["mean", "quality", method] == marks["quality"] + 0.5
        assert found["sd", "quality", method] == pytest.approx(np.std([0, 0, 1, 1], ddof=1))
        assert (found["mean", "artefacts", method], found["sd", "artefacts", method]) == (marks["artefacts"], 0)
    assert found["difference", "quality", METHODS[1]] == 2
    assert found["difference", "artefacts", METHODS[1]] == -2


def looks_around(browser: Chromium, study, order: dict) -> None:
    """Keys and mouse change plane, zoom and window; the image keeps its true proportions and its pixel values."""
    wide, high = map(float, browser.js(SHOWN).split()[2:])
    (_, rows, columns), (down, across) = order["shape"], order["pixel_mm"]
    assert wide / high == pytest.approx(columns * across / (rows * down), rel=0.01)
    expected = stack(study / "study.html", order)[order["centre"]]
    low, top = payload(study / "study.html")["window"]
    grey = np.clip(255 * (expected - low) / (top - low), 0, 255)
    drawn = browser.js("Array.from(plate.getContext('2d').getImageData(0, 0, plate.width, plate.height).data)")
    assert np.abs(np.array(drawn).reshape(rows, columns, 4)[..., 0] - grey).max() <= 1
    browser.key("ArrowUp")
    browser.wait(f"{SHOWN}.split(' ')[1] === '{order['centre'] + 1}'")
    browser.key("+")
    browser.wait(f"Number({SHOWN}.split(' ')[2]) > {wide * 1.2}")
    browser.drag((400, 400), (500, 400))
    browser.wait("Math.abs(view.window - 140) < 1")
    browser.key("w")
    browser.wait("Math.abs(view.window - 145) < 1")
    browser.key("0")
    browser.wait(f"{SHOWN} === '{order['id']} {order['centre']} {wide:.1f} {high:.1f}' && view.window === 100")


def test_the_page_fits_desktop_tablet_and_phone(study, tmp_path):
    require_chromium()
    with Chromium(tmp_path / "browser") as browser:
        for width, height in ((1280, 800), (820, 1180), (390, 844), (844, 390)):
            browser.size(width, height, mobile=width < 1000)
            browser.open(study / "study.html")
            browser.wait("document.activeElement.matches('#reader, #go')")
            browser.js("document.getElementById('reader').value = 'R1'; document.getElementById('go').click()")
            browser.wait(SHOWN)
            fits(browser, width, height)


def fits(browser: Chromium, width: int, height: int) -> None:
    """Everything is on the screen, no button is too small for a finger, and answering moves nothing."""
    boxes = "[...document.querySelectorAll('#rating > div, button')].filter(e => e.offsetWidth > 1)"
    boxes = browser.js(f"{boxes}.map(e => [e.id || e.title, Object.values(e.getBoundingClientRect().toJSON())])")
    assert len(boxes) > 15
    for name, (x, y, wide, high, *_) in boxes:
        inside = x >= 0 and y >= 0 and x + wide <= width + 0.5 and y + high <= height + 0.5
        assert inside, f"{name} at {x}, {y}, {wide} x {high} is not on a screen of {width} x {height}"
        assert min(wide, high) >= 38, f"{name} is too small for a finger"
    layout = (
        "JSON.stringify(['stage', 'questions', 'nav'].map(i => document.getElementById(i).getBoundingClientRect()))"
    )
    before = browser.js(layout)
    browser.key("3")
    browser.js("document.getElementById('window').click()")
    assert browser.js(layout) == before
    assert browser.js("document.getElementById('stage').offsetHeight") > 0.4 * height


@pytest.mark.slow  # a process of its own
def test_the_command_refuses_in_one_line(tmp_path):
    command = [sys.executable, "-m", "monai.bundle", "run", "study_scores", "--config_file", CONFIG]
    command += ["--output_dir", str(tmp_path), "--answers", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if "refused" in line] == [
        f"refused: {tmp_path / 'key.json'}: no readable key: give the output folder of the study"
    ]
    assert "Traceback" not in done.stderr
