"""Ablation: trains the arms of ablation.yaml and evaluates them on scans that no arm was trained on.

    python -m benchmarks.ablation SCANS --output_dir out/ablation    # SCANS: training scans; an hour, resumable
    python -m benchmarks.ablation SCANS --arms wide deep             # only these arms
    python -m benchmarks.ablation --table out/ablation               # the tables and the plot of docs/ablation.md

An arm with weights and scores in OUT is not repeated; a table is written once all of its arms are finished. The
benchmark scans are not used.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import nibabel
import numpy as np
import yaml
from monai.bundle import ConfigParser

from scripts.data.discovery import file_stem
from scripts.evaluation.layout import EvaluationFolder
from scripts.evaluation.method_names import CONSISTENT, CUBIC, GLADE
from scripts.evaluation.scores import read_scores

from . import cpu_cost
from .fidelity import MEASURES, bundle
from .tables import ROOT, publish

mpl.use("Agg")
import matplotlib.pyplot as plt  # after the choice of a backend without a screen

PLAN = Path(__file__).with_suffix(".yaml")
DOCS = ROOT / "docs"
NAME = "ablation"  # of the page, its table, CSV and plot
PAPER = ["configs/train.yaml", "configs/paper.yaml"]
INTERPOLATIONS = (CUBIC, CONSISTENT)
SIMULATED = ("psnr", "ssim", "high_band_error", "high_band_energy")
SEARCH = "search"  # the second table: arms that change one thing of another
COST = "multiply_adds"
COLUMNS = {metric: MEASURES[metric] for metric in (*SIMULATED, "spectrum_closed", "pique")}  # the last two: real slices


def cumulative(arms: Sequence[Mapping]) -> list[dict]:
    """Return the arms, each with the settings of all arms above it.

    >>> cumulative([{"training": {"a": 1}}, {"training": {"b": 2}}])[1]["training"]
    {'a': 1, 'b': 2}
    """
    training, inference, found = {}, {}, []
    for arm in arms:
        training = training | arm.get("training", {})
        inference = inference | arm.get("inference", {})
        found.append({**arm, "training": training, "inference": inference})
    return found


def searching(arms: Sequence[Mapping], plain: Sequence[Mapping]) -> list[dict]:
    """Return the arms of the search, each with the settings of its base."""
    known = {arm["name"]: arm for arm in plain}
    return [
        {**arm} | {part: known[arm["base"]][part] | arm.get(part, {}) for part in ("training", "inference")}
        for arm in arms
    ]


def multiply_adds(arm: Mapping) -> float:
    """Return the thousand multiply-adds per pixel and view of the arm's G."""
    parser = ConfigParser({"network_def": arm["training"]["network_def"]})
    network = parser.get_parsed_content("network_def").eval()
    return cpu_cost.multiply_adds(network) / 1e3


def hold_out(scans: Path, held_out: Mapping, folder: Path) -> None:
    """Copy the scans for evaluation to a folder, the near-isotropic one cropped about its centre."""
    folder.mkdir(parents=True, exist_ok=True)
    image = nibabel.load(scans / held_out["iso"])
    first = [max(0, (n - held_out["crop_voxels"]) // 2) for n in image.shape]
    crop = image.slicer[tuple(slice(f, f + held_out["crop_voxels"]) for f in first)]
    nibabel.save(crop, folder / held_out["iso"])
    (folder / held_out["aniso"]).write_bytes((scans / held_out["aniso"]).read_bytes())


def run(command: Sequence[str], log: Path) -> None:
    """Run a workflow in a process of its own, with its output in a file.

    Raises:
        RuntimeError: if its exit code is not 0.
    """
    with log.open("w", encoding="utf-8") as file:
        code = subprocess.run(command, cwd=ROOT, check=False, stdout=file, stderr=subprocess.STDOUT).returncode
    if code:
        raise RuntimeError(f"exit code {code}: see {log}")


def folder_of(arm: Mapping, out: Path) -> Path:
    """Return OUT/<arm>."""
    return out / arm["name"].replace(" ", "_")


def evaluation_of(arm: Mapping, out: Path) -> EvaluationFolder:
    """Return the output of the arm's evaluation."""
    return EvaluationFolder(folder_of(arm, out) / "evaluation")


def train_and_evaluate(arm: Mapping, plan: Mapping, scans: Path, held: Path, out: Path) -> None:
    """Train and evaluate an arm in OUT/<arm>: both overlays, training/model.pt, evaluation/scores.csv."""
    folder = folder_of(arm, out)
    folder.mkdir(parents=True, exist_ok=True)
    weights, evaluation = folder / "training" / "model.pt", evaluation_of(arm, out)
    exclude = [f"*{file_stem(plan['held_out'][kind])}*" for kind in ("iso", "aniso")]
    training, inference = folder / "training.yaml", folder / "inference.yaml"
    _write(training, {**plan["budget"], **arm["training"], "exclude": exclude})
    _write(inference, {**arm["inference"], "weights_path": str(weights)})
    if not weights.is_file():
        given = {"dataset_dir": scans, "output_dir": weights.parent}
        run(bundle("training", [*PAPER, training], **given), folder / "training.log")
    if not evaluation.scores.is_file():
        given = {
            "dataset_dir": held,
            "output_dir": evaluation.root,
            "inference_config": [str(ROOT / "configs" / "inference.yaml"), str(inference)],
            "protocols": plan["protocols"],
            "interpolations": list(INTERPOLATIONS),
            "report": False,
        }
        run(bundle("evaluation", ["configs/evaluate.yaml"], **given), folder / "evaluation.log")


def _write(path: Path, settings: Mapping) -> None:
    path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")


def collected(plan: Mapping, arms: Sequence[Mapping], out: Path, interpolations: bool) -> list[dict]:
    """Return a row for each arm, after those of the interpolations if asked for: means of the metrics over cases.

    The list is empty if an arm is not finished.
    """
    rows, real = [], file_stem(plan["held_out"]["aniso"])
    paths = {arm["name"]: evaluation_of(arm, out).scores for arm in arms}
    if not all(path.is_file() for path in paths.values()):
        return []
    for arm in arms:
        scores = read_scores(paths[arm["name"]])
        for method in (*INTERPOLATIONS, GLADE) if interpolations and not rows else (GLADE,):
            own = method == GLADE
            row = {"arm": arm["name"] if own else method, "adds": arm["adds"] if own else ""}
            for metric in COLUMNS:
                values = [
                    s.value
                    for s in scores
                    if (s.method, s.metric, s.axis) == (method, metric, "")
                    and (s.case != real) == (metric in SIMULATED)
                ]
                row[metric] = float(np.mean(values)) if values else float("nan")
            rows.append(row)
    return rows


def table_of(rows: Sequence[Mapping]) -> str:
    """Return the rows as a Markdown table; those of the search have their cost too."""
    columns = {k: v for k, v in (COLUMNS | {COST: ("thousand multiply-adds a pixel", ".0f")}).items() if k in rows[0]}
    changes = "what it changes" if COST in columns else "what it adds to the arm above"
    titles = ["arm", *(title for title, _ in columns.values()), changes]
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for row in rows:
        cells = [format(float(row[metric]), form) for metric, (_, form) in columns.items()]
        lines.append(f"| {row['arm']} | {' | '.join(cells)} | {row['adds']} |")
    return "\n".join(lines)


def plot(rows: Sequence[Mapping], path: Path) -> None:
    """Plot fidelity against sharpness, a point for each arm; colour and shape distinguish arms close to each other."""
    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    colours = plt.get_cmap("turbo")(np.linspace(0.05, 0.95, len(rows)))
    for number, (row, colour) in enumerate(zip(rows, colours, strict=True)):
        interpolation = row["arm"] in INTERPOLATIONS
        where = float(row["high_band_energy"]), float(row["psnr"])
        shape = (
            {"color": "0.4", "marker": "x+"[number % 2]}
            if interpolation
            else {"color": colour, "marker": "os^D"[number % 4]}
        )
        axes.scatter(*where, s=60, label=row["arm"], zorder=3, **shape)
    axes.set(xlabel="high-band energy, result / truth (1: as much detail as the truth)", ylabel="PSNR, dB")
    axes.margins(0.1)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def write_docs(plan: Mapping, out: Path, docs: Path = DOCS) -> list[str]:
    """Write CSV and table of docs/ablation.md for each list of finished arms, and the plot; return their names."""
    base = next(arm for arm in plan["arms"] if arm["name"] == plan[SEARCH][0]["base"])
    searched = [base, *plan[SEARCH]]
    found = {
        NAME: collected(plan, plan["arms"], out, interpolations=True),
        SEARCH: collected(plan, searched, out, interpolations=False),
    }
    for row, arm in zip(found[SEARCH], searched, strict=False):  # no rows if an arm is not finished
        row[COST] = multiply_adds(arm)
    for name, rows in found.items():
        if rows:
            publish(name, rows, table_of(rows), docs / f"{NAME}.md", docs / "tables")
    if found[NAME]:
        plot(found[NAME], docs / "images" / f"{NAME}.png")
    return [name for name, rows in found.items() if rows]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and evaluate if asked for, then write the tables; return the number of failed arms."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "scans", type=Path, nargs="?", help="folder of the training scans, the held-out ones among them"
    )
    parser.add_argument("--output_dir", type=Path, default=Path("out/ablation"))
    parser.add_argument("--arms", nargs="+", help="names of arms: only these")
    parser.add_argument("--table", type=Path, help="OUT of finished arms: only write the tables")
    options = parser.parse_args(arguments)
    plan = yaml.safe_load(PLAN.read_text(encoding="utf-8"))
    plan["arms"] = cumulative(plan["arms"])
    plan[SEARCH] = searching(plan[SEARCH], plan["arms"])
    if options.table is not None:
        sys.stdout.write(f"tables written: {', '.join(write_docs(plan, options.table)) or 'none'}\n")
        return 0
    if options.scans is None:
        parser.error("give SCANS or --table OUT")
    out = options.output_dir.resolve()
    hold_out(options.scans, plan["held_out"], out / "held_out")
    every, failed = [*plan["arms"], *plan[SEARCH]], 0
    unknown = set(options.arms or ()) - {arm["name"] for arm in every}
    if unknown:
        parser.error(f"no arm is called {', '.join(sorted(unknown))}")
    for arm in (arm for arm in every if options.arms is None or arm["name"] in options.arms):
        start = time.monotonic()
        try:
            train_and_evaluate(arm, plan, options.scans.resolve(), out / "held_out", out)
        except RuntimeError as error:  # the other arms do not depend on this one
            failed += 1
            sys.stderr.write(f"{arm['name']}: {error}\n")
        sys.stdout.write(f"{arm['name']}: {time.monotonic() - start:.0f} s\n")
        sys.stdout.flush()
    return failed


if __name__ == "__main__":
    sys.exit(main())
