"""The page of a study of two stacks: the viewer shows each of them where it lies."""

import json
from dataclasses import replace

import numpy as np
import pytest

from scripts.reports.overview import RunOverview
from scripts.reports.stacks_report import StacksReport, in_reference, scene_of
from scripts.run.record import RunRecord
from scripts.stacks.fusion import Fusion
from scripts.stacks.registration import no_motion
from scripts.stacks.workflow import SaveStudy, StudyRun

from ..chromium import WEBGL, Chromium, require_chromium
from ..stacks.made import FACTOR, SIZE, stack
from ..stacks.test_workflow import MadeStacks, named
from .page_checks import check_page
from .test_viewer import GRAY_TOLERANCE, Screen, probes

NAMES = ["tra", "sag"]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """OUT of a run of two stacks with a report, and what it shows of them."""
    out = tmp_path_factory.mktemp("out")
    record = RunRecord(out, {}, write=["report"])
    fusion, fused = Fusion(registration=False), []
    saving = SaveStudy(out, None, record.replacing, StacksReport(record))
    run = StudyRun([named(NAMES)], record, MadeStacks(lambda case: stack(case.name)), fusion, saving)
    run.fusion = lambda stacks: fused.append(fusion(stacks)) or fused[-1]
    run.run()
    record.conclude(RunOverview())
    return out, fused[0]


def test_the_page_and_the_overview_are_written_with_the_volumes(study):
    out, _ = study
    row = json.loads((out / "summary.json").read_text())["cases"][0]
    assert "study/study_report.html" in row["files"]
    page = check_page(out / "study" / "study_report.html")
    for words in ("Made from 2 stacks", "40 × 40 × 10 voxels of 1 × 1 × 4 mm", "without the network"):  # noqa: RUF001
        assert words in page.text
    assert "input of the network" not in page.text
    ratios = [part["residual_over_noise"] for part in row["input"]["stacks"]]
    assert f"{max(ratios):.2f} of their noise" in page.text
    assert "of the stack with the largest" in page.text
    assert all(f"{ratio:.2f}" in page.text for ratio in ratios)
    assert len(check_page(out / "overview.html").all("img")) == 1


@pytest.mark.slow
def test_both_stacks_are_drawn_at_their_own_voxels(study, tmp_path):
    """World and array axes agree, so the slices at a voxel are written down here by hand."""
    require_chromium()
    out, fused = study
    slices = {part.stack.case.name: part.observation.slices.numpy() for part in fused.stacks}
    expected = {
        "tra": np.repeat(slices["tra"], FACTOR, axis=2),
        "sag": np.repeat(slices["sag"].transpose(2, 0, 1), FACTOR, axis=0),  # its axes are y, z, x
    }
    low, high = scene_of("study", fused).shown
    with Chromium(tmp_path / "browser", 1400, 1100, WEBGL) as browser:
        browser.open(out / "study" / "study_report.html")
        screen = Screen(browser)
        screen.settled()
        content = browser.js("JSON.parse(document.getElementById('viewer-content').textContent)")
        images = [image["name"] for image in content["images"]]
        assert images == ["tra as acquired", "sag as acquired", "cubic", "GLADE"]
        first = np.round(np.reshape(content["affine"], (4, 4))[:3, 3] + (SIZE - 1) / 2).astype(int)  # voxel of the box
        browser.js("document.getElementById('viewer-stage').scrollIntoView()")
        screen.choose("left", "0")
        screen.choose("right", "1")
        pixels = screen.pixels()
        for side, name in (("left", "tra"), ("right", "sag")):
            found = [one for axis in probes(screen, side).values() for one in axis]
            wanted = np.array([expected[name][tuple(np.add(voxel, first))] for _, _, voxel in found])
            seen = np.array([pixels[y, x, 0] for x, y, _ in found])
            grays = 255 * np.clip((wanted - low) / (high - low), 0, 1)
            bright = grays > 20
            assert bright.sum() > 30
            assert np.mean(np.abs(seen - grays)[bright] <= GRAY_TOLERANCE) > 0.9, name  # letters cover some


def test_a_stack_that_moved_is_shown_in_the_frame_of_the_reference(study):
    _, fused = study
    part = fused.stacks[1]
    moved = np.eye(4)
    cosine, sine = np.cos(0.2), np.sin(0.2)
    moved[:2, :2] = [[cosine, -sine], [sine, cosine]]
    moved[:3, 3] = (2.0, -3.0, 5.0)  # RAS mm of the reference -> of the stack
    grid = in_reference(replace(part, motion=replace(no_motion(), matrix=moved)))
    there = part.stack.slice_grid.world_mm((3, 7, 2))
    np.testing.assert_allclose(moved @ [*grid.world_mm((3, 7, 2)), 1], [*there, 1], atol=1e-9)
