"""Size of pages with a viewer, and the time until it is drawn: the demo's scans, and a volume of 320 x 320 x 190.

Run: make demo; python -m benchmarks.viewer. It writes docs/tables/viewer.csv and the table of docs/reports.md. It needs
Chromium, which computes WebGL by the processor here; with a graphics processor a viewer is ready much earlier.
"""

import argparse
import base64
import io
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from scripts.data.saving import REPORT, VIEWER
from scripts.evaluation.method_names import CUBIC, GLADE
from scripts.phantom.files import make_scan
from scripts.physics.acquisition import SliceGeometry
from scripts.physics.interpolation import CubicInterpolation
from scripts.reports.scene import Scene
from scripts.reports.viewer import viewer_of, write_viewer
from tests.chromium import WEBGL, Chromium

from .dicom_page import machine
from .tables import ROOT, publish

PAGE = ROOT / "docs" / "reports.md"
LARGE, FACTOR, SPACING_MM = (320, 320, 190), 5, 1.2
WINDOW = 1400, 1100  # CSS pixels
PATIENCE_S = 900
DARK, DRAWN = 40, 0.02  # of 255; share of a pane's pixels that are brighter when it is drawn
BYTES = 1_000_000  # of a MB
TITLES = ("scan", "voxels shown", "page", "until it is drawn", "load")


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--demo", type=Path, default=ROOT / "out" / "demo", help="output_dir of the demo")
    demo = parser.parse_args().demo.resolve()
    with tempfile.TemporaryDirectory() as name:
        rows = [measured(viewer_page(report), Path(name)) for report in sorted(demo.rglob(f"*{REPORT}"))]
        rows.append(measured(large(Path(name)), Path(name)))
    publish("viewer", rows, table_of(rows), PAGE)
    sys.stdout.write(f"{machine()}\n{table_of(rows)}\n")


def table_of(rows: Sequence[Mapping[str, str]]) -> str:
    """Return the table of docs/reports.md."""
    lines = [f"| {' | '.join(row.values())} |" for row in rows]
    return "\n".join([f"| {' | '.join(TITLES)} |", "|---" * len(TITLES) + "|", *lines])


def viewer_page(report: Path) -> Path:
    """Return the page that has the viewer of a report: the report, or the file beside it."""
    beside = report.with_name(f"{report.name.removesuffix(REPORT)}{VIEWER}")
    return beside if beside.is_file() else report


def measured(page: Path, folder: Path) -> dict[str, str]:
    """Open a page with a viewer; return a row of the table.

    Raises:
        TimeoutError: if nothing is drawn.
    """
    name, is_alone = page.name.removesuffix(REPORT).removesuffix(VIEWER), page.name.endswith(VIEWER)
    with Chromium(folder / f"browser of {name}", *WINDOW, WEBGL) as browser:
        begun = time.monotonic()
        browser.open(page)
        browser.wait("document.body.dataset.viewer === 'ready'", PATIENCE_S)
        browser.js("document.getElementById('viewer-stage').scrollIntoView()")
        while not all(share > DRAWN for share in bright_shares(browser)):
            if time.monotonic() - begun > PATIENCE_S:
                raise TimeoutError(f"{page.name}: nothing is drawn after {PATIENCE_S} s")
        seconds = time.monotonic() - begun
        shape = browser.js("JSON.parse(document.getElementById('viewer-content').textContent).shape")
    return {
        "scan": name,
        "voxels": " x ".join(map(str, shape)),
        "page": f"{page.stat().st_size / BYTES:.1f} MB" + (", beside the report" if is_alone else ""),
        "seconds": f"{seconds:.0f} s",
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def bright_shares(browser: Chromium) -> Iterator[float]:
    """Yield the share of pixels on the screen that are not dark, for each of the viewer's two panes."""
    png = base64.b64decode(browser.call("Page.captureScreenshot", format="png")["data"])
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("L"))
    for side in ("left", "right"):
        box = browser.js(
            f"(b => [b.left, b.top, b.right, b.bottom])(document.getElementById('viewer-canvas-{side}')"
            ".getBoundingClientRect())"
        )
        left, top, right, bottom = (max(round(value), 0) for value in box)
        yield float((pixels[top:bottom, left:right] > DARK).mean())


def large(folder: Path) -> Path:
    """Write the viewer of a phantom of `LARGE` voxels; its result is half way from cubic interpolation to the truth."""
    scan = make_scan(LARGE, SPACING_MM, FACTOR * SPACING_MM)
    geometry = SliceGeometry(LARGE[2], LARGE[2] // FACTOR, FACTOR, FACTOR)
    cubic = CubicInterpolation(geometry)(torch.from_numpy(scan.slices)).numpy()
    added = (scan.truth - cubic) / 2
    scene = Scene(
        case="a large volume",
        grid=scan.truth_grid,
        through_plane_axis=2,
        slice_spacing_mm=FACTOR * SPACING_MM,
        slices=(scan.slices, scan.slices_grid),
        methods={CUBIC: cubic, GLADE: cubic + added},
        added_detail=added,
        uncertainty=np.abs(added),
    )
    return write_viewer(folder / f"{scene.case}{VIEWER}", viewer_of(scene), "")


if __name__ == "__main__":
    main()
