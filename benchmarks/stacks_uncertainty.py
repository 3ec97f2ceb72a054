"""Fit, calibrate and measure the uncertainty of fused stacks on simulated studies, whose true volumes are known.

    python -m benchmarks.stacks_uncertainty fit SCANS
    python -m benchmarks.stacks_uncertainty measure BENCHMARK

`fit` is to be run whenever the weights change. It simulates the studies under `stacks` in benchmarks/uncertainty.yaml,
fuses one, two and three stacks of each by the settings of configs/stacks.yaml, and writes
models/uncertainty_stacks.json. Each person is then left out in turn, which gives the table
`stacks_uncertainty_held_back` of docs/uncertainty.md. `measure` uses the model as it is on the benchmark.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
import torch

from scripts.data.uncertainty import read_model
from scripts.evaluation.calibration import ErrorSample, fit_scale, half_widths
from scripts.geometry.checksums import sha256_of
from scripts.geometry.files import write_json
from scripts.metrics.mask import body_mask
from scripts.metrics.uncertainty import coverage, rank_correlation
from scripts.physics.uncertainty import COMBINED, Scale, UncertaintyModel
from scripts.stacks.fusion import Fused, Fusion
from scripts.stacks.uncertainty import mean_factor

from .stacks import SimulatedSlices, isotropic_stacks, simulated_slices
from .tables import DOCS, ROOT, publish
from .uncertainty import VOXELS, plan_of_scans

MODEL = ROOT / "models" / "uncertainty_stacks.json"
WEIGHTS = ROOT / "models" / "model.pt"
PAGE = DOCS.with_name("uncertainty.md")
UNTOLD = (0.5, 0.7)  # motion of stacks that are not registered, at most, degrees and mm
MOVED = (2.0, 2.0)
COUNTS = (1, 2, 3)
TARGETS = (0.8, 0.97)
Row = dict[str, str | float]


def samples_of(path: Path, person: str, protocol: Mapping, size: int) -> dict[int, ErrorSample]:
    """Return voxels of the body with their errors, by the number of fused stacks."""
    registered = protocol.get("registered", True)
    made = simulated_slices(
        path, protocol["factor"], protocol["noise"], size, protocol["profile"], MOVED if registered else UNTOLD
    )
    fusion = Fusion(registration=registered)
    stacks = isotropic_stacks(made)
    return {count: _sample(made, fusion(stacks[:count]), person, protocol, registered) for count in COUNTS}


def _sample(made: SimulatedSlices, fused: Fused, person: str, protocol: Mapping, calibrates: bool) -> ErrorSample:
    """Voxels of the field of view that the fused volume and the truth share; both have the same first voxel."""
    shared = tuple(slice(min(sizes)) for sizes in zip(fused.grid.shape, made.grid.shape, strict=True))
    if not np.allclose(fused.grid.affine, made.grid.affine, atol=1e-4):
        raise ValueError("the fused volume lies elsewhere than the truth")
    truth = made.truth[shared]
    seen = body_mask(truth) & (fused.coverage[shared] == len(fused.stacks)).numpy()
    inside = np.flatnonzero(seen)
    chosen = np.random.default_rng(0).choice(inside, min(VOXELS, len(inside)), replace=False)
    unit = fused.stacks[0].stack.intensity_range
    error = np.abs(fused.volume[shared].numpy() - truth).ravel()[chosen] / unit
    return ErrorSample(
        person,
        round(mean_factor([part.stack.geometry for part in fused.stacks]), 3),
        protocol["profile"],
        calibrates,
        {name: value[shared].numpy().ravel()[chosen] for name, value in fused.features.items()},
        error.astype(np.float64),
    )


def studies(part: str, folder: Path) -> Iterator[tuple[str, str, Mapping, dict[int, ErrorSample]]]:
    """Yield name, person, protocol and samples of every study of a part of the plan."""
    plan = plan_of_scans()["stacks"]
    for protocol in plan["protocols"]:
        for name, person in plan[part].items():
            sys.stdout.write(f"{name} {kind(protocol)}\n")
            sys.stdout.flush()
            yield name, person, protocol, samples_of(folder / f"{name}.nii.gz", person, protocol, plan["crop"])


def kind(protocol: Mapping) -> str:
    """Return what a protocol is called in the tables."""
    words = [f"{protocol['factor']:g}x {protocol['profile']}", f"noise {protocol['noise']:g}"]
    return ", ".join(words + ["not registered"] * (not protocol.get("registered", True)))


def row_of(name: str, protocol: Mapping, sample: ErrorSample, scale: Scale) -> Row:
    """Return coverage and rank correlation of calibrated half-widths, and the coverage of the combined ones."""
    widths, error = half_widths(scale, sample)[:, None], sample.error[:, None]
    truth = np.zeros_like(error)
    return {
        "scan": name,
        "protocol": kind(protocol),
        "stacks": scale.predictions,
        "coverage": coverage(widths, error, truth),
        "combined_coverage": coverage(np.asarray(sample.features[COMBINED])[:, None], error, truth),
        "rank_correlation": rank_correlation(widths, error, truth),
        "half_width": float(widths.mean()),
        "error_rms": float(np.sqrt((error**2).mean())),
    }


def table_of(rows: Sequence[Row]) -> str:
    """Return a Markdown table: a line for each number of stacks and protocol, with mean and range over the scans."""
    titles = ["stacks", "protocol", "n", "coverage", "before calibration", "rank correlation", "half-width / error"]
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for stacks, protocol in dict.fromkeys((row["stacks"], row["protocol"]) for row in rows):
        own = [row for row in rows if (row["stacks"], row["protocol"]) == (stacks, protocol)]
        ranges = [_range(own, key, 100.0, "{:.1f}") + " %" for key in ("coverage", "combined_coverage")]
        ranges.append(_range(own, "rank_correlation", 1.0, "{:.2f}"))
        ratio = fmean(float(row["half_width"]) / float(row["error_rms"]) for row in own)
        lines.append(f"| {' | '.join([str(stacks), str(protocol), str(len(own)), *ranges, f'{ratio:.2f}'])} |")
    low, high = TARGETS
    bad = [
        f"{row['scan']}, {row['stacks']} stacks, {row['protocol']} ({100 * float(row['coverage']):.1f} %)"
        for row in rows
        if not low <= float(row["coverage"]) <= high
    ]
    return "\n".join(
        [*lines, "", f"Outside {low:.0%} to {high:.0%}: {'; '.join(bad) or 'none'}; {len(bad)} of {len(rows)}."]
    )


def _range(rows: Sequence[Row], key: str, factor: float, form: str) -> str:
    values = [factor * float(row[key]) for row in rows]
    mean, low, high = (form.format(value) for value in (fmean(values), min(values), max(values)))
    return f"{mean} [{low}, {high}]"


def fit(folder: Path) -> None:
    """Fit and calibrate the model, write it, and the table with each person left out in turn."""
    found = list(studies("fit", folder))
    scales = [fit_scale([samples[count] for *_, samples in found], count) for count in COUNTS]
    notes = {name: person for name, person, *_ in found}
    write_json(MODEL, UncertaintyModel(scales, [sha256_of(WEIGHTS)], 0.0, notes).as_json())
    rows = []
    for count in COUNTS:
        for name, person, protocol, samples in found:
            others = [other[count] for _, someone, _, other in found if someone != person]
            rows.append(row_of(name, protocol, samples[count], fit_scale(others, count)))
    publish("stacks_uncertainty_held_back", rows, table_of(rows), PAGE)
    sys.stdout.write(table_of(rows) + "\n")


def measure(folder: Path) -> None:
    """Measure the model as it is, and write the table."""
    model = read_model(MODEL)
    found = list(studies("measure", folder))
    rows = [
        row_of(name, protocol, samples[count], model.scale_for(count))
        for count in COUNTS
        for name, _, protocol, samples in found
    ]
    publish("stacks_uncertainty", rows, table_of(rows), PAGE)
    sys.stdout.write(table_of(rows) + "\n")


def main() -> None:
    """Fit or measure."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.stacks_uncertainty", description=__doc__.splitlines()[0]
    )
    parser.add_argument("kind", choices=("fit", "measure"))
    parser.add_argument("scans", type=Path)
    options = parser.parse_args()
    (fit if options.kind == "fit" else measure)(options.scans)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
