"""The variants of the paper's recipe on held-back scans while they are trained: figures, curves and pictures.

    python -m benchmarks.paper_progress SCANS [--output_dir runs/arms] [--only NAME ...]  # measures
    python -m benchmarks.paper_progress --table  # draws the curves and writes the page

SCANS is shared/data/train and --output_dir that of benchmarks.paper_arms. The generator of each variant (its last step
and its running average) makes planes as configs/paper.yaml does: one view, no projection. Measured are

- PIQUE, and the steepness of the edges along the through-plane axis, both with the window of the interpolated scan;
- the residual ||A v - b|| / ||b|| and the correlation with the interpolated scan inside the body, which is negative
  where a generator inverts the contrast;
- the grid artefact: power of the added detail at periods of 2 and 4 pixels over the power nearby, dB;
- where sharp planes of a held-back scan serve as truth (4x thicker, rect): PSNR inside the body, without and with P.

The benchmark is never read: `benchmarks.reproduction` evaluates it once, when training has ended.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor

from scripts.data.discovery import find_nifti
from scripts.data.transforms import geometry_of, grid_of
from scripts.learning.inferer import OrthogonalInferer
from scripts.learning.resnet import ResnetGenerator
from scripts.metrics.fidelity import psnr
from scripts.metrics.pique import pique_of_planes, shared_window
from scripts.metrics.residual import relative_residual
from scripts.metrics.sharpness import axis_sharpness, scale_window
from scripts.physics.acquisition import Acquisition, SliceGeometry
from scripts.physics.measurement import Measurement

from .paper_arms import ARMS, CENTRAL, INVERTED, SECOND_SEED, epochs_done
from .tables import DOCS, ROOT, TABLES, publish, read_rows, with_table

mpl.use("Agg")
import matplotlib.pyplot as plt  # after the choice of a backend without a screen

TABLE = "paper_progress"
EFFECT = "paper_effect"  # a table of the page, made of the same CSV file
PAGE = DOCS.with_name("paper.md")
CURVES = ROOT / "docs" / "images" / "paper_progress.png"
CONFIGS = [str(ROOT / "configs" / name) for name in ("train.yaml", "paper.yaml", "paper_small.yaml")]
SCANS = {  # begin of a case name: what is measured on it
    "fetus_t2_coronal_mial": "held back",
    "abdomen_gre_coronal_ukat-philips2-e1": "held back",
    "pelvis_t2_coronal_prostatex0000": "trained on",
}
TRUTH = "fetus_t2_coronal_mial"  # its sharp planes are large enough to be made 4 times thicker
FACTOR = 4
BODY = 0.1  # of the intensity scale
LEAST_BODY = 0.2  # share of body in a plane that is measured
PLANES = 24  # of a scan are measured, evenly spread over the body
LAST = "last step"  # the weights that the paper uses, and the pictures and curves show
WEIGHTS = {LAST: "G", "running average": "ema"}  # keys of last.pt
INTERPOLATED = "cubic"
CURVE_OF = ("PIQUE", "edges 1/mm", "residual", "grid artefact dB")
SHOWN = ("PIQUE", "edges 1/mm", "residual", "correlation", "grid artefact dB", "PSNR dB", "PSNR dB with P")


class Point(NamedTuple):
    """A measure of a variant on a scan after a number of patches; 0 patches for the interpolated scan."""

    run: str
    patches: int
    weights: str
    scan: str
    measure: str
    value: float


def generators(folder: Path) -> dict[str, ResnetGenerator]:
    """Return the generator of a run's last checkpoint by the kind of its weights."""
    saved = torch.load(folder / "last.pt", map_location="cpu", weights_only=True)
    found = {}
    for kind, key in WEIGHTS.items():
        found[kind] = ConfigParser(network_definition(folder.name)).get_parsed_content().eval()
        found[kind].load_state_dict(saved[key])
    return found


def network_definition(run: str) -> dict:
    """Return the `network_def` of a run, whose name is that of its variant and may end with a seed, as in paper-5."""
    config = ConfigParser(ConfigParser.load_config_files(CONFIGS))
    config.update({key: value for key, value in ARMS[run.split("-")[0]].items() if key.startswith("network_def")})
    return config["network_def"]


def prepared(folder: Path) -> dict[str, Mapping[str, MetaTensor]]:
    """Return {"image": U b, "slices": b} of each scan of `SCANS`; of either only some planes along the first axis."""
    parser = ConfigParser(ConfigParser.load_config_file(str(ROOT / "configs" / "inference.yaml")))
    parser["bundle_root"] = str(ROOT)
    transform, found = parser.get_parsed_content("preprocessing"), {}
    for case in find_nifti(str(folder)):
        if case.name.startswith(tuple(SCANS)):
            scan = transform(case.as_item())
            body = np.flatnonzero((scan["slices"].as_tensor()[0] > BODY).float().mean((1, 2)) > LEAST_BODY)
            some = body[np.linspace(0, len(body) - 1, min(PLANES, len(body))).round().astype(int)]
            found[case.name] = {key: scan[key][:, some] for key in ("image", "slices")}
    return found


def measures(planes: np.ndarray, scan: Mapping[str, MetaTensor]) -> dict[str, float]:
    """Return the measures that need no truth.

    Args:
        planes: (planes, rows, through-plane), intensity scale.
        scan: an item of `prepared`, the same planes.
    """
    cubic, slices = (scan[key].as_tensor()[0].numpy() for key in ("image", "slices"))
    body, added = cubic > BODY, planes - cubic
    return {
        "PIQUE": float(pique_of_planes(planes, 0, shared_window(cubic, body), body).mean()),
        "edges 1/mm": axis_sharpness(planes, grid_of(scan["image"]).spacing_mm, 2, body, scale_window(cubic, body)),
        "residual": relative_residual(planes, slices, Acquisition(geometry_of(scan["image"]))),
        "correlation": float(np.corrcoef(planes[body], cubic[body])[0, 1]),
        "grid artefact dB": grid_artefact(added) if added.any() else float("nan"),
    }


def grid_artefact(added: np.ndarray) -> float:
    """Return the power at periods of 2 and 4 pixels over the median power around it, dB; the largest of these peaks.

    Transposed convolutions leave such a pattern (Odena et al. 2016, doi:10.23915/distill.00003).

    >>> random = np.random.default_rng(0).standard_normal((8, 64, 64))
    >>> grid_artefact(random) < 6 < grid_artefact(random + np.tile([0.5, -0.5], 32))
    True
    """
    rows, columns = (size // 4 * 4 for size in added.shape[1:])
    part = added[:, :rows, :columns]
    part = (part - part.mean((1, 2), keepdims=True)) * np.hanning(rows)[:, None] * np.hanning(columns)
    power = np.square(np.abs(np.fft.fft2(part))).mean(0)

    def around(row: int, column: int, reach: int) -> np.ndarray:
        steps = np.arange(-reach, reach + 1)
        return power[np.ix_((row + steps) % rows, (column + steps) % columns)]

    peaks = [(r, c) for r in (0, rows // 4, rows // 2) for c in (0, columns // 4, columns // 2) if (r, c) != (0, 0)]
    return max(float(10 * np.log10(around(*peak, 1).max() / np.median(around(*peak, 8)))) for peak in peaks)


def truth_measures(name: str, network: ResnetGenerator | None, scan: Mapping[str, MetaTensor]) -> dict[str, float]:
    """Return the PSNR inside the body of sharp planes that were made `FACTOR` times thicker along their last axis.

    Args:
        name: of the case; others than `TRUTH` have no such measure.
        network: the generator; None for cubic interpolation.
        scan: an item of `prepared`; each of its slices is a sharp plane (planes, rows).
    """
    if not name.startswith(TRUTH):
        return {}
    slices = scan["slices"]
    truth = slices.as_tensor()[0].permute(2, 0, 1)[:, None].float()
    truth = truth[(truth > BODY).float().mean((1, 2, 3)) > LEAST_BODY]
    count = truth.shape[-1] // FACTOR
    measured = Measurement.simulate(truth, SliceGeometry(truth.shape[-1], count, FACTOR, FACTOR))
    image = measured.image
    if network is not None:
        with torch.no_grad():
            image = torch.cat([network(x[None]) for x in measured.with_conditioning(image)])
    planes = {"PSNR dB": image, "PSNR dB with P": measured.project(image)}
    return {name: psnr(v[:, 0], truth[:, 0], truth[:, 0] > BODY, data_range=1.0) for name, v in planes.items()}


def measure(scans: Path, runs: Sequence[Path]) -> tuple[list[Point], dict[str, dict[str, np.ndarray]]]:
    """Return the measures of all runs on all scans, and a plane of each scan by run for the pictures."""
    inferer = OrthogonalInferer(views=(1,), batch=1)
    an_epoch = ConfigParser.load_config_files(CONFIGS)["patches_per_epoch"]
    trained = {folder: (epochs_done(folder) * an_epoch, generators(folder)) for folder in runs}
    points, pictures = [], {}
    for name, scan in prepared(scans).items():
        cubic = scan["image"].as_tensor()[0].numpy()
        pictures[name] = {INTERPOLATED: cubic[len(cubic) // 2]}
        found = {(INTERPOLATED, 0, ""): measures(cubic, scan) | truth_measures(name, None, scan)}
        for folder, (patches, networks) in trained.items():
            for kind, network in networks.items():
                planes = inferer(scan["image"][None], network).as_tensor()[0, 0].numpy()
                found[folder.name, patches, kind] = measures(planes, scan) | truth_measures(name, network, scan)
                if kind == LAST:
                    pictures[name][f"{folder.name}, {patches:,} patches"] = planes[len(planes) // 2]
        points += [Point(*who, name, measure, value) for who, row in found.items() for measure, value in row.items()]
    return points, pictures


def draw_planes(shown: Mapping[str, np.ndarray], path: Path, title: str) -> None:
    """Draw planes side by side, the through-plane axis from left to right, and below what was added to the first."""
    first = next(iter(shown.values()))
    height = 2.6 * len(first) / first.shape[1]
    figure, cells = plt.subplots(2, len(shown), figsize=(2.6 * len(shown), 2 * height + 1), layout="constrained")
    for (upper, lower), (name, plane) in zip(cells.T, shown.items(), strict=True):
        upper.imshow(plane, cmap="gray", vmin=-0.05, vmax=1.05, interpolation="nearest")
        lower.imshow(plane - first, cmap="RdBu_r", vmin=-0.3, vmax=0.3, interpolation="nearest")
        upper.set_title(name, fontsize=8)
        for cell in (upper, lower):
            cell.set(xticks=[], yticks=[])
    figure.suptitle(title, fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_curves(points: Sequence[Point], path: Path) -> None:
    """Draw each measure of `CURVE_OF` over the patches trained on: a row a scan, a line a variant; cubic is dashed."""
    figure, cells = plt.subplots(
        len(SCANS), len(CURVE_OF), figsize=(3.6 * len(CURVE_OF), 2.6 * len(SCANS)), squeeze=False, layout="constrained"
    )
    lines: dict[tuple, dict[int, float]] = defaultdict(dict)
    for point in points:
        if point.weights in {"", LAST} and point.run != INVERTED:  # whose residual would hide the others
            lines[point.scan, point.measure, point.run][point.patches] = point.value
    for row, (begin, use) in zip(cells, SCANS.items(), strict=True):
        for cell, name in zip(row, CURVE_OF, strict=True):
            for (scan, measure, run), line in lines.items():
                if not scan.startswith(begin) or measure != name:
                    continue
                if run == INTERPOLATED:
                    cell.axhline(next(iter(line.values())), color="gray", linestyle="--", label=run)
                else:
                    cell.plot(*zip(*sorted(line.items()), strict=True), marker=".", label=run)
            cell.set_title(f"{begin} ({use})" if cell is row[0] else "", fontsize=8, loc="left")
            cell.set_ylabel(name)
            cell.grid(alpha=0.3)
    for cell in cells[-1]:
        cell.set_xlabel("patches trained on")
    lines_and_names = cells[0, 0].get_legend_handles_labels()
    figure.legend(*lines_and_names, loc="outside lower center", ncols=len(lines_and_names[0]), fontsize=8)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def kept(table: Path) -> list[Point]:
    """Return the points of earlier calls."""
    rows = (Point(**row) for row in read_rows(table))
    return [p._replace(patches=int(p.patches), value=float(p.value or "nan")) for p in rows]


def as_table(points: Sequence[Point]) -> str:
    """Return the latest measures as Markdown: a row a scan and variant, the last step and the running average."""
    latest: dict[tuple[str, str, str], dict] = defaultdict(dict)
    for point in sorted(points, key=lambda p: p.patches):
        latest[point.scan, point.run, point.weights] |= {point.measure: point.value, "patches": point.patches}
    lines = [f"| scan | variant | weights | patches | {' | '.join(SHOWN)} |", "|---" * (4 + len(SHOWN)) + "|"]
    for (scan, run, weights), found in sorted(latest.items(), key=lambda item: (item[0][0], item[1]["patches"] > 0)):
        values = [f"{found[m]:.3g}" if found.get(m) == found.get(m, np.nan) else "-" for m in SHOWN]
        lines.append(f"| {scan} | {run} | {weights} | {found['patches'] or ''} | {' | '.join(values)} |")
    return "\n".join(lines)


def effect_table(points: Sequence[Point]) -> str:
    """Return what gradient mapping changes, `paper` less `none`, as Markdown: a row a scan and measure.

    At the end of each seed, and the mean and standard deviation over the checkpoints of the second half of the
    training, of all seeds: at each of them both variants have seen the same patches.
    """
    value = {p[:-1]: p.value for p in points if p.weights == LAST}
    last = max(p.patches for p in points)
    suffixes = {"first seed": "", "second seed": f"-{SECOND_SEED}"}
    without, with_it = CENTRAL
    lines = ["| scan | measure | without, at the end | first seed | second seed | mean and SD of checkpoints | n |"]
    lines.append("|---" * 7 + "|")
    for scan, measure in dict.fromkeys((p.scan, p.measure) for p in points if p.weights == LAST):

        def difference(suffix: str, patches: int, scan: str = scan, measure: str = measure) -> float:
            both = (value.get((name + suffix, patches, LAST, scan, measure), np.nan) for name in (with_it, without))
            return float(np.subtract(*both))

        halves = sorted({p.patches for p in points if 2 * p.patches >= last})
        late = [d for suffix in suffixes.values() for patches in halves if (d := difference(suffix, patches)) == d]
        if not late:
            continue
        ends = [difference(suffix, last) for suffix in suffixes.values()]
        cells = [f"{value[without, last, LAST, scan, measure]:.3g}", *("-" if d != d else f"{d:+.2g}" for d in ends)]
        spread = f" ± {np.std(late, ddof=1):.2g}" if len(late) > 1 else ""
        lines.append(f"| {scan} | {measure} | {' | '.join(cells)} | {np.mean(late):+.2g}{spread} | {len(late)} |")
    return "\n".join(lines)


def write_page(points: Sequence[Point]) -> None:
    """Write the CSV file, both tables of the page and the curves."""
    publish(TABLE, [point._asdict() for point in points], as_table(points), PAGE)
    PAGE.write_text(with_table(PAGE.read_text("utf-8"), EFFECT, effect_table(points)), encoding="utf-8")
    draw_curves(points, CURVES)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, add to the table, draw; return 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scans", type=Path, nargs="?")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/arms"))
    parser.add_argument("--pictures", type=Path, help="folder of the pictures of planes; by default --output_dir")
    parser.add_argument("--only", nargs="*", help="names of runs")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    options = parser.parse_args(arguments)
    points = kept(TABLES / f"{TABLE}.csv")
    if not options.table:
        if options.scans is None:
            parser.error("give SCANS, or --table")
        folders = [path.parent for path in sorted(options.output_dir.glob("*/last.pt"))]
        found, pictures = measure(options.scans, [f for f in folders if f.name in (options.only or [f.name])])
        known = {point[:-1]: point for point in (*points, *found)}  # a state that is measured again replaces itself
        points = list(known.values())
        for name, shown in pictures.items():
            path = (options.pictures or options.output_dir) / f"{name}.png"
            draw_planes(shown, path, f"{name}: planes from -0.05 to 1.05, added detail from -0.3 to 0.3")
    write_page(points)
    sys.stdout.write(f"{len(points)} points in docs/tables/{TABLE}.csv\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
