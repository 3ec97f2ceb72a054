"""Pictures of the documentation: planes across the slices, methods side by side, one window, true proportions.

python -m benchmarks.pictures --demo out/demo/examples       # docs/images/pelvis.png and phantom.png, after `make demo`
python -m benchmarks.pictures --evaluation out/evaluation    # best.png, median.png, worst.png by PSNR gain of GLADE
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import nibabel
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from scripts.data.case import DICOM
from scripts.data.saving import ADDED_DETAIL, UNCERTAINTY, volume_file
from scripts.data.transforms import grid_of
from scripts.evaluation.baselines import Baselines
from scripts.evaluation.layout import EvaluationFolder
from scripts.evaluation.method_names import CONSISTENT, CUBIC, GLADE, INPUT
from scripts.evaluation.record import read_record
from scripts.evaluation.scores import read_scores
from scripts.geometry.views import VIEWS
from scripts.reports.planes import Volume, plane, robust_window
from scripts.run.record import read_summary

mpl.use("Agg")
import matplotlib.pyplot as plt  # after the choice of a backend without a screen

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
INFERENCE = ROOT / "configs" / "inference.yaml"
CONTRADICTING = "contradicts the slices"
SCALES = {  # volumes with colours of their own, up to a quarter of the window, and the lower end over the upper one
    "added detail": ("RdBu_r", -1.0),
    "uncertainty": ("viridis", 0.0),
    CONTRADICTING: ("RdBu_r", -1.0),
}
BESIDE = {"added detail": ADDED_DETAIL, "uncertainty": UNCERTAINTY}  # title -> postfix of a volume beside a result
INTERPOLATED = {"as acquired": INPUT, CUBIC: CUBIC}  # title -> name in `Baselines`
SIDE_MM = 100.0  # of the square shown of a case of the evaluation
WIDTH_INCHES, DOTS_PER_INCH = 14.0, 100
PANELS_INCHES, PANELS_DOTS_PER_INCH = 11.0, 70  # of `draw_panels`


def draw(
    volumes: Mapping[str, Volume], path: Path, views: Sequence[str], title: str, side_mm: float | None = None
) -> None:
    """Draw views as rows and volumes as columns; all grey pictures share the window of the first volume.

    Args:
        volumes: title -> (array (X, Y, Z), affine voxel index -> RAS mm).
        path: of the PNG file.
        views: of "sagittal", "coronal", "axial".
        title: of the figure.
        side_mm: of the square about the centre of the first volume that is shown; by default all of it.
    """
    array, affine = next(iter(volumes.values()))
    point = (affine @ [*((np.array(array.shape) - 1) / 2), 1])[:3]
    window = robust_window(array)
    planes = {(n, view): _middle(*plane(v, view, point), side_mm) for n, v in volumes.items() for view in views}
    heights = [max(p.shape[0] * s[0] for (_, v), (p, s) in planes.items() if v == view) for view in views]
    width = max(p.shape[1] * s[1] for p, s in planes.values())
    cell = WIDTH_INCHES / len(volumes)
    figure, cells = plt.subplots(
        len(views),
        len(volumes),
        squeeze=False,
        figsize=(WIDTH_INCHES, sum(heights) / width * cell + 0.6),
        gridspec_kw={"height_ratios": heights},
        layout="constrained",
    )
    for (name, view), (picture, (high, wide)) in planes.items():
        colours, lowest = SCALES.get(name, ("gray", None))
        reach = 0.25 * (window[1] - window[0])
        low, top = window if lowest is None else (lowest * reach, reach)
        axis = cells[list(views).index(view), list(volumes).index(name)]
        axis.imshow(picture, cmap=colours, vmin=low, vmax=top, aspect=high / wide, interpolation="nearest")
        axis.set(xticks=[], yticks=[])
        if view == views[0]:
            axis.set_title(name, fontsize=11)
        if name == next(iter(volumes)):
            axis.set_ylabel(view, fontsize=10)
    figure.suptitle(title, fontsize=11)
    _save(figure, path, DOTS_PER_INCH)


def _middle(picture: np.ndarray, spacing_mm: tuple[float, float], side_mm: float | None):
    """The central square of a plane, and its spacing; all of the plane if there is no side."""
    if side_mm is not None:
        for axis, (size, spacing) in enumerate(zip(picture.shape, spacing_mm, strict=True)):
            cut = max(0, round((size - side_mm / spacing) / 2))
            picture = picture.take(range(cut, size - cut), axis=axis)
    return picture, spacing_mm


@dataclass(frozen=True)
class Panel:
    """A plane across the slices with its window.

    Attributes:
        values: (in-plane axis, through-plane axis).
        low: value of the darkest colour.
        high: of the brightest.
        colours: of matplotlib.
        through: through-plane over in-plane spacing.
    """

    values: np.ndarray
    low: float = 0.0
    high: float = 1.0
    colours: str = "gray"
    through: float = 1.0


def draw_panels(rows: Sequence[Mapping[str, Panel]], path: Path) -> None:
    """Draw rows of panels, each under its title, the through-plane axis upwards.

    Args:
        rows: title -> panel, in each the same number.
        path: of the PNG file.
    """
    cell = PANELS_INCHES / len(rows[0])
    longest = max(p.values.shape[1] * p.through / p.values.shape[0] for row in rows for p in row.values())
    size = (PANELS_INCHES, len(rows) * (cell * longest + 0.3))
    figure, cells = plt.subplots(len(rows), len(rows[0]), squeeze=False, figsize=size, layout="constrained")
    for row, axes in zip(rows, cells, strict=True):
        for (title, panel), axis in zip(row.items(), axes, strict=True):
            window = {"cmap": panel.colours, "vmin": panel.low, "vmax": panel.high}
            axis.imshow(panel.values.T, origin="lower", aspect=panel.through, interpolation="nearest", **window)
            axis.set_title(title, fontsize=10)
            axis.set(xticks=[], yticks=[])
    _save(figure, path, PANELS_DOTS_PER_INCH)


def _save(figure: Figure, path: Path, dots_per_inch: int) -> None:
    """Write a PNG file with the 256 colours that it needs most, in less than half the bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dots_per_inch)
    plt.close(figure)
    with Image.open(path) as picture:
        reduced = picture.convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    reduced.save(path, optimize=True)


def view_across(affine: np.ndarray, axis: int) -> str:
    """Return the view that shows the planes of slices stacked along an array axis."""
    stacked = int(np.abs(affine[:3, axis]).argmax())
    return next(view for view, (fixed, *_) in VIEWS.items() if fixed == stacked)


def across(affine: np.ndarray, axis: int) -> list[str]:
    """Return the two views that cut across slices stacked along an array axis."""
    return [view for view in VIEWS if view != view_across(affine, axis)]


def of_demo(out: Path) -> None:
    """Draw pelvis.png and phantom.png from the output of `make demo`."""
    baselines = Baselines(INFERENCE, out / "scans")
    for row in read_summary(out / "results"):
        made = baselines(row.case, (INPUT, CUBIC))
        shown = {title: (made[key][0].numpy(), grid_of(made[key]).affine) for title, key in INTERPOLATED.items()}
        phantom = row.input["format"] == DICOM
        truth = {"truth": read_volume(out / "truth" / "phantom_truth.nii.gz")} if phantom else {}
        volumes = shown | {GLADE: read_volume(volume_file(out / "results", row.case))} | truth
        volumes |= _beside(out / "results", row.case)
        views = across(volumes[GLADE][1], row.protocol.through_plane_axis)
        acquired, isotropic = (" x ".join(f"{s:.2g}" for s in grid["spacing_mm"]) for grid in (row.input, row.output))
        picture, sharpness = "phantom" if phantom else "pelvis", row.settings["sharpness"]
        title = f"{picture}: acquired at {acquired} mm, made at {isotropic} mm; sharpness {sharpness:g}"
        draw(volumes, IMAGES / f"{picture}.png", views, title)


def of_evaluation(out: Path) -> None:
    """Draw best.png, median.png and worst.png: simulated cases by the gain of GLADE in PSNR over consistent cubic."""
    psnr = {
        (s.case, s.method): s.value
        for s in read_scores(EvaluationFolder(out).scores)
        if s.metric == "psnr" and not s.axis
    }
    gain = {case: value - psnr[case, CONSISTENT] for (case, method), value in psnr.items() if method == GLADE}
    order = sorted(gain, key=gain.get)
    cases = {c.name: c for c in read_record(out).cases}
    for name, case in (("worst", order[0]), ("median", order[len(order) // 2]), ("best", order[-1])):
        folder = EvaluationFolder(out)
        files = {m: folder.interpolated_file(m, case) for m in (CUBIC, CONSISTENT)}
        volumes = {
            "truth": read_volume(folder.truth_file(case)),
            "as acquired": read_volume(folder.scan_file(case)),
            **{method: read_volume(path) for method, path in files.items()},
            GLADE: read_volume(folder.inference_file(GLADE, case)),
            **_beside(folder.method_folder(GLADE), case),
        }
        views = across(volumes["truth"][1], cases[case].through_plane_axis)
        title = (
            f"{name} of {len(order)}: {case}, {psnr[case, GLADE]:.2f} dB, {gain[case]:+.2f} dB over consistent cubic"
        )
        draw(volumes, IMAGES / f"{name}.png", views, title, SIDE_MM)


def _beside(results: Path, case: str) -> dict[str, Volume]:
    """The other volumes written with a result of GLADE."""
    return {title: read_volume(volume_file(results, case, postfix)) for title, postfix in BESIDE.items()}


def read_volume(path: Path | str) -> Volume:
    """Read array (X, Y, Z) and affine of a NIfTI file."""
    image = nibabel.load(path)
    return np.squeeze(image.get_fdata(dtype=np.float32)), image.affine


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the pictures that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--demo", type=Path)
    parser.add_argument("--evaluation", type=Path)
    options = parser.parse_args(arguments)
    if options.demo is None and options.evaluation is None:
        parser.error("give --demo OUT or --evaluation OUT")
    if options.demo is not None:
        of_demo(options.demo)
    if options.evaluation is not None:
        of_evaluation(options.evaluation)
    return 0


if __name__ == "__main__":
    sys.exit(main())
