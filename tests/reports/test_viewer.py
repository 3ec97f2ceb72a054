"""The viewer in Chromium: what stands on the screen is compared with the volumes that the page was made from."""

import base64
import hashlib
import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from scripts.geometry.errors import Refusal
from scripts.geometry.grid import Grid
from scripts.physics.acquisition import Acquisition, SliceGeometry
from scripts.physics.interpolation import CubicInterpolation
from scripts.reports import libraries, viewer
from scripts.reports.libraries import LIBRARIES, embedded
from scripts.reports.scene import Scene
from scripts.reports.viewer import viewer_of, write_viewer

from ..chromium import WEBGL, Chromium, require_chromium

SHAPE, FACTOR = (44, 40, 48), 4
CORONAL = np.array([[-1.5, 0, 0, 33], [0, 0, 1.5, -36], [0, -1.5, 0, 30], [0, 0, 0, 1]])  # axes to left, foot, front
THICK = CORONAL @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, FACTOR, (FACTOR - 1) / 2], [0, 0, 0, 1]])
WINDOW = (0.0, 1000.0)
pytestmark = pytest.mark.slow
GRAY_TOLERANCE = 4  # of 255: half a step of the stored image, and the rounding of a colour map
PATIENCE_S = 240  # until the viewer is ready: its shaders are compiled and drawn by the processor
CROSSHAIR = (255, 209, 74)


def made_scene(**more) -> Scene:
    """A textured body in air; the truth, its slices and their interpolation are made by the physics."""
    rng = np.random.default_rng(0)
    inside = np.linalg.norm((np.indices(SHAPE) - np.reshape(SHAPE, (3, 1, 1, 1)) / 2).reshape(3, -1), axis=0) < 19
    texture = ndimage.gaussian_filter(rng.normal(size=SHAPE), 1.2)
    truth = ((500 + 1100 * texture).clip(60, 940) * inside.reshape(SHAPE)).astype(np.float32)
    geometry = SliceGeometry(SHAPE[2], SHAPE[2] // FACTOR, FACTOR, FACTOR)
    slices = Acquisition(geometry)(torch.from_numpy(truth))
    cubic = CubicInterpolation(geometry)(slices).numpy()
    result = (0.6 * truth + 0.4 * cubic).astype(np.float32)
    thick = Grid((*SHAPE[:2], SHAPE[2] // FACTOR), THICK)
    fixed = {"case": "phantom", "grid": Grid(SHAPE, CORONAL), "through_plane_axis": 2, "slice_spacing_mm": 6.0}
    fixed |= {"slices": (slices.numpy(), thick), "methods": {"cubic": cubic, "GLADE": result}, "truth": truth}
    fixed |= {
        "added_detail": 3 * (result - cubic),
        "uncertainty": 250 * inside.reshape(SHAPE).astype(np.float32),
        "window": WINDOW,
    }
    return Scene(**{**fixed, **more})


def in_ras(values: np.ndarray) -> np.ndarray:
    """The array with axes to right, front and head: worked out by hand from CORONAL."""
    return values.transpose(0, 2, 1)[::-1, :, ::-1]


def written(scene: Scene, path):
    return write_viewer(path, viewer_of(scene), "report.html")


@pytest.fixture(scope="module")
def scene():
    return made_scene()


@pytest.fixture(scope="module")
def page(scene, tmp_path_factory):
    return written(scene, tmp_path_factory.mktemp("viewer") / "viewer.html")


class Screen:
    """The viewer in a browser: where its panes stand, what is on the screen, what it says under the pointer."""

    def __init__(self, browser: Chromium):
        self.browser = browser

    def settled(self) -> None:
        self.browser.wait("document.body.dataset.viewer === 'ready'", PATIENCE_S)
        self.browser.js("new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))")

    def pane(self, side: str) -> tuple[float, float, float, float]:
        box = f"document.getElementById('viewer-canvas-{side}').getBoundingClientRect()"
        return tuple(self.browser.js(f"(b => [b.left, b.top, b.width, b.height])({box})"))

    def choose(self, control: str, value) -> None:
        element = f"document.getElementById('viewer-{control}')"
        kind = "'change'" if self.browser.js(f"{element}.tagName") == "SELECT" else "'input'"
        self.browser.js(f"{element}.value = {value!r}; {element}.dispatchEvent(new Event({kind}))")
        self.settled()

    def pixels(self) -> np.ndarray:
        self.settled()
        png = base64.b64decode(self.browser.call("Page.captureScreenshot", format="png")["data"])
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)

    def voxels(self, points: list[tuple[float, float]]) -> list[tuple[int, ...] | None]:
        """The voxels that the viewer names when the pointer moves over these points; None outside the images."""
        move = """points => points.map(([x, y]) => {
            const box = document.getElementById('viewer-reading'), stage = document.getElementById('viewer-stage');
            box.dataset.voxel = '';
            stage.dispatchEvent(new PointerEvent('pointermove', { clientX: x, clientY: y, pointerType: 'mouse' }));
            return box.dataset.voxel; })"""
        return [tuple(map(int, v.split())) if v else None for v in self.browser.js(f"({move})({json.dumps(points)})")]

    def reading(self) -> str:
        return self.browser.js("document.getElementById('viewer-reading').textContent")


@pytest.fixture(scope="module")
def screen(page, tmp_path_factory):
    require_chromium()
    with Chromium(tmp_path_factory.mktemp("browser"), 1400, 1100, WEBGL) as browser:
        browser.open(page)
        screen = Screen(browser)
        screen.settled()
        yield screen


@pytest.fixture(autouse=True)
def at_first(request):
    """Each test finds the viewer as it opens."""
    if "screen" in request.fixturenames:
        screen = request.getfixturevalue("screen")
        screen.browser.js("document.getElementById('viewer-sides').click()")
        screen.browser.js("document.getElementById('viewer-reset').click()")
        screen.choose("left", "0")
        screen.choose("right", "2")
        screen.choose("overlay", "-1")


def shown_part(scene: Scene) -> tuple[slice, ...]:
    """The box of voxels that the page has, in RAS order: the body and 10 mm about it."""
    body = in_ras(scene.body)
    parts = []
    for axis, size in enumerate(body.shape):
        inside = np.flatnonzero(body.any(axis=tuple(a for a in range(3) if a != axis)))
        parts.append(slice(max(inside[0] - 7, 0), min(inside[-1] + 8, size)))  # 7 voxels of 1.5 mm hold 10 mm
    return tuple(parts)


def gray(value: float) -> float:
    low, high = WINDOW
    return 255 * np.clip((value - low) / (high - low), 0, 1)


def probes(screen: Screen, side: str, margin: int = 2) -> dict[int, list[tuple[float, float, tuple[int, ...]]]]:
    """Points of a pane away from the crosshair, with their voxels: fixed axis of their plane -> points.

    They are `margin` pixels or more from the edges of their voxels.
    """
    left, top, wide, high = screen.pane(side)
    home = screen.browser.js("JSON.parse(document.getElementById('viewer-content').textContent).point")
    columns, rows = (
        np.linspace(left + 12, left + wide - 12, 37).round(),
        np.linspace(top + 40, top + high - 12, 29).round(),
    )
    points = [(float(x), float(y)) for x in columns for y in rows]
    near = range(-margin, margin + 1)
    lists = [screen.voxels(points), *(screen.voxels([(x + d, y + d) for x, y in points]) for d in near if d)]
    found = {0: [], 1: [], 2: []}
    for (x, y), (voxel, *others) in zip(points, zip(*lists, strict=True), strict=True):
        fixed = [] if voxel is None else [axis for axis in range(3) if voxel[axis] == home[axis]]
        if (
            all(other == voxel for other in others)
            and len(fixed) == 1
            and min(abs(voxel[a] - home[a]) for a in range(3) if a != fixed[0]) > 2
        ):
            found[fixed[0]].append((int(x), int(y), voxel))
    return found


def test_the_screen_shows_the_voxels_of_the_volumes_in_all_three_planes(screen, scene):
    part = shown_part(scene)
    volumes = {"left": np.repeat(scene.slices[0], FACTOR, axis=2), "right": scene.methods["GLADE"]}
    pixels = screen.pixels()
    for side, values in volumes.items():
        expected = in_ras(values)[part]
        found = probes(screen, side, margin=0)
        for axis in range(3):
            bright = [one for one in found[axis] if expected[one[2]] > 100]
            assert len(bright) >= 3, f"{side}, axis {axis}"
            right = [abs(pixels[y, x] - gray(expected[voxel])).max() <= GRAY_TOLERANCE for x, y, voxel in bright]
            assert np.mean(right) > 0.95, f"{side}, axis {axis}"  # letters at the edges cover some points


def test_the_pointer_is_told_position_and_values_in_the_scans_units(screen, scene):
    part = shown_part(scene)
    x, y, voxel = probes(screen, "right")[1][0]
    screen.browser.move(x, y)
    screen.browser.wait(f"document.getElementById('viewer-reading').dataset.voxel === '{' '.join(map(str, voxel))}'")
    said = screen.reading().replace("−", "-")  # noqa: RUF001
    ras = np.diag([1.5, 1.5, 1.5])
    first = np.array([33 - 1.5 * (SHAPE[0] - 1), -36.0, 30 - 1.5 * (SHAPE[1] - 1)])  # of the whole volume in RAS order
    at = first + ras @ (np.array(voxel) + [p.start for p in part])
    assert [float(v) for v in re.search(r"RAS mm ([-\d.]+), ([-\d.]+), ([-\d.]+)", said).groups()] == pytest.approx(
        at, abs=0.06
    )
    for name, values in (
        ("as acquired", np.repeat(scene.slices[0], FACTOR, axis=2)),
        ("GLADE", scene.methods["GLADE"]),
    ):
        value, step = map(float, re.search(rf"{name} [≤≥ ]*([-\d.]+) \(in steps of ([\d.]+)\)", said).groups())
        assert value == pytest.approx(in_ras(values)[part][voxel], abs=step / 2 + 0.6), name


def test_the_cubic_interpolation_made_in_the_page_is_that_of_the_scene(screen, scene):
    screen.choose("left", "1")
    expected, pixels = in_ras(scene.methods["cubic"])[shown_part(scene)], screen.pixels()
    found = [one for axis in probes(screen, "left", margin=0).values() for one in axis]
    assert len(found) > 20
    for x, y, voxel in found:
        assert pixels[y, x] == pytest.approx(gray(expected[voxel]), abs=GRAY_TOLERANCE)


def crosshair(screen: Screen, pixels: np.ndarray, side: str) -> np.ndarray:
    left, top, wide, high = map(round, screen.pane(side))
    return np.abs(pixels[top : top + high, left : left + wide] - CROSSHAIR).max(axis=2) < 40


def test_a_click_moves_both_crosshairs_alike(screen):
    x, y, voxel = probes(screen, "left")[2][0]
    before = crosshair(screen, screen.pixels(), "right")
    screen.browser.drag((x, y), (x, y), steps=1)
    pixels = screen.pixels()
    left, right = crosshair(screen, pixels, "left"), crosshair(screen, pixels, "right")
    assert left.sum() > 100
    np.testing.assert_array_equal(left, right)
    assert (before != right).any()
    assert screen.browser.js("document.getElementById('viewer-reading').dataset.voxel") == " ".join(map(str, voxel))


def test_arrow_keys_and_page_keys_move_the_crosshair(screen):
    screen.browser.js("document.getElementById('viewer-stage').focus()")
    where = "document.getElementById('viewer-reading').dataset.voxel"
    start = [int(i) for i in screen.browser.js(where).split()]
    for key, (axis, step) in {"ArrowLeft": (0, 1), "ArrowUp": (1, 1), "PageDown": (2, -1)}.items():
        screen.browser.js(
            f"document.getElementById('viewer-stage').dispatchEvent(new KeyboardEvent('keydown', {{key: '{key}'}}))"
        )
        start[axis] += step
        screen.settled()
        assert screen.browser.js(where) == " ".join(map(str, start)), key


def test_the_curtain_shows_the_left_image_on_its_left(screen, scene):
    part = shown_part(scene)
    expected = {
        "left": in_ras(np.repeat(scene.slices[0], FACTOR, axis=2))[part],
        "right": in_ras(scene.methods["GLADE"])[part],
    }
    screen.browser.js("document.getElementById('viewer-swipe').click()")
    screen.settled()
    found = [one for axis in probes(screen, "left").values() for one in axis]
    apart = [(x, y, v) for x, y, v in found if abs(gray(expected["left"][v]) - gray(expected["right"][v])) > 40]
    assert len(apart) >= 3
    for place, side in ((98, "left"), (2, "right")):
        screen.choose("curtain", str(place))
        pixels = screen.pixels()
        near = [abs(pixels[y, x] - gray(expected[side][v])).max() <= GRAY_TOLERANCE for x, y, v in apart]
        assert np.mean(near) > 0.9, side  # some points lie at the very edge of a plane, beyond the curtain
    screen.choose("curtain", "50")
    line = screen.browser.js(
        "(b => [b.left, b.top + 20])(document.querySelector('.viewer .line').getBoundingClientRect())"
    )
    screen.browser.drag(tuple(line), (line[0] - 60, line[1]))
    screen.settled()
    assert float(screen.browser.js("document.getElementById('viewer-curtain').value")) < 45


def test_on_a_telephone_a_finger_moves_the_crosshair_and_the_curtain(page, tmp_path):
    require_chromium()
    with Chromium(tmp_path / "browser", 390, 844, WEBGL) as browser:
        browser.size(390, 844, mobile=True)
        browser.open(page)
        screen = Screen(browser)
        screen.settled()
        browser.js("document.getElementById('viewer-stage').scrollIntoView()")
        assert browser.js("document.documentElement.scrollWidth") <= 390
        where = "document.getElementById('viewer-reading').dataset.voxel"
        at_first, scrolled = browser.js(where), browser.js("window.scrollY")
        (x, y, voxel), (u, v, other), *_ = probes(screen, "left", margin=0)[1][::7]
        browser.touch((x, y), (x, y))
        screen.settled()
        assert browser.js(where) == " ".join(map(str, voxel)) != at_first
        browser.touch((x, y), (u, v))
        screen.settled()
        assert browser.js(where) == " ".join(map(str, other)) != " ".join(map(str, voxel))
        browser.js("document.getElementById('viewer-swipe').click()")
        browser.js("document.getElementById('viewer-stage').scrollIntoView()")
        screen.settled()
        line = "(b => [b.left, b.top + 20])(document.querySelector('.viewer .line').getBoundingClientRect())"
        x, y = browser.js(line)
        browser.touch((x, y), (x - 40, y))
        screen.settled()
        assert browser.js(line)[0] == pytest.approx(x - 40, abs=2)
        assert float(browser.js("document.getElementById('viewer-curtain').value")) < 45
        assert browser.js("window.scrollY") >= scrolled  # the finger moves the curtain, not the page


def test_overlays_switch_and_fade(screen, scene):
    inside = ndimage.binary_erosion(in_ras(scene.uncertainty)[shown_part(scene)] > 0, iterations=2)
    spots = [(x, y) for x, y, v in probes(screen, "right")[1] if inside[v]]

    def colourful() -> float:
        pixels = screen.pixels()
        return float(np.mean([np.ptp(pixels[y, x]) > 25 for x, y in spots]))

    assert colourful() == 0
    screen.choose("overlay", "1")  # uncertainty: the top of its colour map everywhere in the body
    assert colourful() == 1
    assert "uncertainty 250" in screen.reading()
    screen.choose("opacity", "0")
    assert colourful() == 0
    screen.choose("opacity", "0.6")
    screen.choose("overlay", "0")  # added detail: red above 0, blue below, nothing near 0
    detail, pixels = in_ras(scene.added_detail)[shown_part(scene)], screen.pixels()
    coronal = probes(screen, "right")[1]
    places = [(pixels[y, x, 0] - pixels[y, x, 2], detail[v] / scene.detail_span) for x, y, v in coronal]
    assert min(redness for redness, value in places if value > 0.5) > 25
    assert max(redness for redness, value in places if value < -0.5) < -25
    assert max(abs(redness) for redness, value in places if abs(value) < 0.1) < 15
    assert "added detail" in screen.reading()
    assert screen.browser.js("document.getElementById('viewer-colours').hidden") is False
    screen.choose("overlay", "2")  # the right image minus the left one
    assert "difference" in screen.reading()
    screen.choose("overlay", "-1")
    assert screen.browser.js("document.getElementById('viewer-colours').hidden") is True


def test_the_window_changes_both_images(screen):
    before = screen.pixels()
    screen.choose("high", "400")
    after = screen.pixels()
    for side in ("left", "right"):
        left, top, wide, high = map(round, screen.pane(side))
        part = np.s_[top : top + high, left : left + wide]
        assert after[part].mean() > before[part].mean() + 10


def test_the_viewer_asks_nobody_for_anything(screen, page):
    assert {address.split(":")[0] for address in screen.browser.requests} <= {"file", "data"}
    text = page.read_text(encoding="utf-8")
    policy = re.search('Content-Security-Policy" content="([^"]*)"', text).group(1)
    assert policy.startswith("default-src 'none'")
    scripts = re.search("script-src ([^;]*)", policy).group(1).split()
    assert len(scripts) == 3  # the two of a viewer, and NiiVue
    assert all(one.startswith("'sha256-") for one in scripts)
    assert "connect-src" not in policy


def test_an_oblique_second_stack_is_shown_where_it_lies(scene, tmp_path):
    """Another stack, sagittal, whose values are its x position: each voxel of the viewer shows the nearest slice."""
    sagittal = np.array([[0, 0, 6.0, -30], [2.0, 0, 0, -34], [0, 2.0, 0, -28], [0, 0, 0, 1]])
    ramp = np.broadcast_to(100.0 * np.arange(11), (36, 30, 11)).astype(np.float32)
    stacked = made_scene(stacks={"sagittal T2": (ramp, Grid(ramp.shape, sagittal))})
    names = [image.name for image in viewer_of(stacked).images]
    assert "sagittal T2 as acquired" in names
    require_chromium()
    with Chromium(tmp_path / "browser", 1400, 1100, WEBGL) as browser:
        browser.open(written(stacked, tmp_path / "stacks.html"))
        screen = Screen(browser)
        screen.settled()
        screen.choose("right", str(names.index("sagittal T2 as acquired")))
        pixels, part = screen.pixels(), shown_part(stacked)
        found = [one for axis in probes(screen, "right").values() for one in axis]
        for x, y, voxel in found:
            mm = 33 - 1.5 * (SHAPE[0] - 1) + 1.5 * (voxel[0] + part[0].start)
            index = (mm + 30) / 6
            if abs(index % 1 - 0.5) > 0.05 and 0 <= round(index) < 11 and pixels[y, x].max() > 0:
                assert pixels[y, x] == pytest.approx(gray(100.0 * round(index)), abs=GRAY_TOLERANCE)


def test_without_webgl_the_page_says_so(page, tmp_path):
    require_chromium()
    with Chromium(tmp_path / "browser", flags=["--disable-3d-apis"]) as browser:
        browser.open(page)
        browser.wait("document.body.dataset.viewer === 'absent'", PATIENCE_S)
        assert browser.js("document.getElementById('viewer-box').hidden") is True
        said = browser.js("document.getElementById('viewer-state').textContent")
        assert "WebGL 2" in said
        assert "pictures on this page" in said


def test_images_have_12_bits_where_they_fit_and_8_where_they_do_not(scene, monkeypatch):
    fine = viewer_of(scene)
    assert fine.bits == 12
    monkeypatch.setattr(viewer, "VOLUMES_BYTES", fine.bytes // 2)
    coarse = viewer_of(scene)
    assert coarse.bits == 8
    assert coarse.bytes < fine.bytes


def test_a_cubic_volume_that_is_not_that_of_the_slices_is_stored(scene):
    other = made_scene(methods={**scene.methods, "cubic": scene.methods["cubic"] + 30 * scene.body})
    image = next(image for image in viewer_of(other).images if image.name == "cubic")
    assert image.weights is None


def test_a_library_that_is_not_the_published_one_is_refused(tmp_path, monkeypatch):
    for library in LIBRARIES:
        path = libraries.VENDOR / library.name / library.file
        assert hashlib.sha256(path.read_bytes()).hexdigest() == library.sha256
        assert (
            "Copyright" in path.with_name("LICENSE").read_text() or "copyright" in path.with_name("LICENSE").read_text()
        )
        assert f"| {library.version} |" in (libraries.VENDOR / "README.md").read_text()
    monkeypatch.setattr(libraries, "VENDOR", tmp_path)
    (tmp_path / "niivue").mkdir()
    (tmp_path / "niivue" / "LICENSE").write_text("x")
    (tmp_path / "niivue" / LIBRARIES[0].file).write_text("another")
    embedded.cache_clear()
    with pytest.raises(Refusal, match=r"is not niivue .* as published"):
        embedded(LIBRARIES[0])
    embedded.cache_clear()
