"""What becomes of planes, lesions and stripes at the factors that scanners make, with other weights beside.

    python -m benchmarks.factors BENCHMARK TRAINING_SCANS [--before WEIGHTS]

Thick slices are simulated from the scans under `measure` in benchmarks/uncertainty.yaml (the benchmark), processed as
`run inference --sharpness 0` does, and compared with the truth: the table `factors` of docs/research.md, and
docs/images/factors.png with a plane of one scan at every factor. A round lesion of 7 mm is put into the first scan
under `fit`, a head held back from training; its width is that of the difference to the result without it. WEIGHTS is
a file of other weights, for more rows and pictures, by default with the number of predictions and the detail gain of
the generator of planes.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np

from scripts.data.transforms import grid_of, with_grid
from scripts.evaluation.simulation import SimulatedProtocol
from scripts.geometry.errors import Refusal
from scripts.metrics.fidelity import psnr
from scripts.metrics.spectrum import high_band, slice_period_artefact

from .pictures import IMAGES, Panel, draw_panels
from .tables import DOCS, TABLES, with_table, write_rows
from .uncertainty import Simulation, Workflow, plan_of_scans, put_lesion

FACTORS = (4.0, 6.0, 8.0, 12.0, 15.0)
LESION_FACTORS = (4.0, 6.0, 8.3, 12.0)
CROP = (48, 96, 140)  # voxels, the through-plane axis last
PICTURED = "brain_t1_uih"
NEAR_NYQUIST = 0.5 / 0.4  # as a factor: frequencies above 0.4 cycles per voxel
PAGE = DOCS.with_name("research.md")
Row = dict[str, str | float]
Results = dict[str, np.ndarray]


def results_of(simulation: Simulation, workflows: Mapping[str, Workflow]) -> tuple[Results, np.ndarray, np.ndarray]:
    """Return volume by method, the truth on their scale, and the body.

    The methods are the cubic and the consistent cubic interpolation, and the result of each of the workflows.
    """
    found: Results = {}
    for name, workflow in workflows.items():
        data, truth, body = workflow.prepared(simulation)
        if not found:
            image = data["image"]
            unchanged = {**data, "pred": with_grid(image.as_tensor().clone(), grid_of(image), image.meta)}
            found["cubic"] = image.as_tensor()[0].numpy()
            found["consistent cubic"] = workflow.result(unchanged, 1)["pred"].as_tensor()[0].numpy()
        found[name] = workflow.result(data, len(data["pred"]))["pred"].as_tensor()[0].numpy()
    return found, truth.numpy(), body


def row_of(volume: np.ndarray, truth: np.ndarray, body: np.ndarray, factor: float) -> Row:
    """The measures of a volume; without stripes where there are too few slices for them."""
    try:
        stripes: float = slice_period_artefact(volume, factor, -1, body).stripes
    except Refusal:
        stripes = float("nan")
    return {
        "psnr": psnr(volume, truth, body),
        "energy": high_band(volume, truth, factor, -1, body).energy,
        "energy near Nyquist": high_band(volume, truth, NEAR_NYQUIST, -1, body).energy,
        "stripes": stripes,
    }


def width_mm(profile: np.ndarray, spacing_mm: float) -> float:
    """Full width at half maximum of the peak of a profile, mm, interpolated linearly between voxels.

    >>> width_mm(np.array([0, 0, 1, 2, 1, 0, 0]), spacing_mm=1.5)
    3.0
    """
    peak = int(np.argmax(profile))
    half = profile[peak] / 2
    ends = []
    for side in (profile[peak:], profile[peak::-1]):
        below = np.flatnonzero(side <= half)
        if not len(below):
            return float("nan")
        last = int(below[0])
        ends.append(last - (half - side[last]) / (side[last - 1] - side[last]))
    return float(sum(ends) * spacing_mm)


def lesion_rows(scans: Path, workflows: Mapping[str, Workflow]) -> Iterator[Row]:
    """Yield the width of the lesion along the through-plane axis, of every factor and method."""
    part = plan_of_scans()["fit"]
    name, settings = next(iter(part["scans"].items()))
    for factor in LESION_FACTORS:
        protocol = SimulatedProtocol(factor, "rect", name=f"lesion_{factor:g}x")
        healthy, ill = (Simulation(name, settings, protocol, scans, part["crop"]) for _ in range(2))
        centre = put_lesion(*ill.truth)
        (before, truth, _), (after, changed, _) = results_of(healthy, workflows), results_of(ill, workflows)
        scale = float(ill.truth[1].spacing_mm[0])
        line = (centre[0], centre[1], slice(None))
        yield {"factor": factor, "method": "truth", "lesion mm": width_mm((changed - truth)[line], scale)}
        for method, volume in after.items():
            yield {"factor": factor, "method": method, "lesion mm": width_mm((volume - before[method])[line], scale)}


def table_of(rows: Sequence[Row], lesions: Sequence[Row]) -> str:
    """The table: a line for each factor and method, means over the scans."""
    widths = {(row["factor"], row["method"]): float(row["lesion mm"]) for row in lesions}
    lines = [
        "| factor | method | PSNR dB over consistent cubic, mean and least | high-band energy | near Nyquist "
        "| stripes | lesion of 7 mm, width mm |",
        "|---|---|---|---|---|---|---|",
    ]
    for factor, method in dict.fromkeys((row["factor"], row["method"]) for row in rows):
        own = [row for row in rows if (row["factor"], row["method"]) == (factor, method)]
        gains = [float(row["gain"]) for row in own]
        width = next((w for (f, m), w in widths.items() if m == method and abs(f - float(factor)) < 1), float("nan"))
        cells = [
            f"{factor:g}x",
            str(method),
            f"{fmean(gains):+.2f}, {min(gains):+.2f}" if np.isfinite(gains[0]) else "",
        ]
        for name in ("energy", "energy near Nyquist", "stripes"):
            values = [float(row[name]) for row in own if np.isfinite(float(row[name]))]
            cells.append(f"{fmean(values):.3f}" if values else "-")
        lines.append(f"| {' | '.join([*cells, f'{width:.1f}' if np.isfinite(width) else '-'])} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, draw and write the table, and return 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scans", type=Path, help="folder of the benchmark")
    parser.add_argument("training_scans", type=Path, help="folder of the scan that the lesion is put into")
    parser.add_argument("--before", type=Path, help="file of other weights")
    parser.add_argument("--rotations_before", type=float, nargs="+", default=[0.0, 45.0], help="used with them")
    parser.add_argument("--gain_before", type=float, default=1.225, help="detail gain used with them")
    options = parser.parse_args(arguments)
    workflows = {"GLADE": Workflow(None, 0.0)}
    if options.before:
        settings = {
            "weights_path": str(options.before),
            "rotations_deg": options.rotations_before,
            "detail_gain": options.gain_before,
        }
        workflows = {"GLADE before": Workflow(None, 0.0, settings), **workflows}
    rows, panels = [], []
    for factor in FACTORS:
        for name, settings in plan_of_scans()["measure"]["scans"].items():
            simulation = Simulation(name, settings, SimulatedProtocol(factor, "rect"), options.scans, CROP)
            found, truth, body = results_of(simulation, workflows)
            base = psnr(found["consistent cubic"], truth, body)
            for method, volume in {**found, "truth": truth}.items():
                row = row_of(volume, truth, body, factor)
                gain = float(row["psnr"]) - base
                rows.append({"scan": name, "factor": factor, "method": method, **row, "gain": gain})
            if name == PICTURED:
                shown = {f"cubic, {factor:g}x": found["cubic"], **{m: found[m] for m in workflows}, "truth": truth}
                panels.append({m: Panel(v[truth.shape[0] // 2], high=1.1) for m, v in shown.items()})
            sys.stderr.write(f"{name}, {factor:g}x: done\n")
    lesions = list(lesion_rows(options.training_scans, workflows))
    write_rows(rows, TABLES / "factors.csv")
    write_rows(lesions, TABLES / "factors_lesion.csv")
    content = table_of(rows, lesions)
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), "factors", content), encoding="utf-8")
    draw_panels(panels, IMAGES / "factors.png")
    sys.stdout.write(content + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
