"""The variants of the paper's recipe, trained by benchmarks.paper_arms, beside interpolation and GLADE.

    python -m benchmarks.reproduction ARMS BENCHMARK HEADS [--output_dir out/paper]
    python -m benchmarks.reproduction --table out/paper     # only docs/paper.md, its pictures and table

ARMS is the --output_dir of benchmarks.paper_arms. BENCHMARK is shared/data/benchmark: its abdomens and the coronal
pelvis are evaluated (real thick slices, no truth), and a head of HEADS, shared/data/train, with simulated 4x slices
(with its truth, but an anatomy that was not trained on; no abdomen with a truth is public). The weights are those of
the last step, as in the paper. The predictions of `paper`, of each seed, are evaluated a second time with P, which
removes what contradicts the slices. Rows of the table of runs that are not in ARMS stay as they are.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel
import numpy as np
import torch

from scripts.data.discovery import file_stem
from scripts.data.saving import volume_file
from scripts.evaluation.layout import EvaluationFolder
from scripts.evaluation.method_names import CONSISTENT, CUBIC, GLADE
from scripts.evaluation.scores import read_scores
from scripts.reports.explained import ordered

from .ablation import run
from .fidelity import bundle, method_rows, method_table
from .paper_progress import LAST, PAGE, WEIGHTS, network_definition
from .pictures import CONTRADICTING, IMAGES, across, draw, read_volume
from .tables import TABLES, publish, read_rows

TABLE = "reproduction"
MEASURED = (
    "pique",
    "sharpness_closed",
    "border_polynomial",
    "residual",
    "psnr",
    "ssim",
    "high_band_energy",
    "high_band_error",
)

PATTERNS = ("aniso_abdomen_*", "aniso_pelvis_t2_*cor.*")  # of the benchmark's scans
HEAD = "brain_t1_saganon.nii.gz"
PROTOCOLS = [{"factor": 4, "profile": "rect"}]
RECIPE = "paper"  # begins the names of the runs of the recipe as printed
AND_P = " and P"  # ends the name of a variant whose planes are projected
BORDERS = {"*prostatex0218cor*": {"seed_mm": [37.1, 21.6, 26.2]}}  # inside the bladder, RAS mm
SHOWN = ("none", "paper", "components", "demodulated-8", "resized-1")  # a run of each variant that keeps the contrast
NOT_SHOWN = "*abdomen*"  # the repositories of these scans do not say under which licence the images may be shown
SIDE_MM = 160.0  # of the pictures


def final_weights(arms: Path, out: Path) -> dict[str, Path]:
    """Write the generator of the last step of each run to OUT/weights and return the files by the name of the run."""
    folder, written = out / "weights", {}
    folder.mkdir(exist_ok=True)
    for checkpoint in sorted(arms.glob("*/last.pt")):
        run_name = checkpoint.parent.name
        written[run_name] = folder / f"{run_name}.pt"
        torch.save(torch.load(checkpoint, map_location="cpu", weights_only=True)[WEIGHTS[LAST]], written[run_name])
    return written


def evaluation_of(out: Path) -> EvaluationFolder:
    """Return the output of the evaluation."""
    return EvaluationFolder(out / "evaluation")


def evaluate(benchmark: Path, heads: Path, weights: Mapping[str, Path], out: Path) -> None:
    """Evaluate GLADE, and each variant of the recipe, on the same slices, in OUT/evaluation."""
    scans = out / "scans"
    scans.mkdir(exist_ok=True)
    for path in [heads / HEAD, *(path for pattern in PATTERNS for path in benchmark.glob(pattern))]:
        (scans / path.name).write_bytes(path.read_bytes())
    evaluation = {
        "dataset_dir": scans,
        "output_dir": evaluation_of(out).root,
        "protocols": PROTOCOLS,
        "interpolations": [CUBIC, CONSISTENT],
        "borders": BORDERS,
        "report": False,
    }
    run(bundle("evaluation", ["configs/evaluate.yaml"], **evaluation), out / "slices.log")
    projected = {name + AND_P: file for name, file in weights.items() if name.startswith(RECIPE)}
    runs = {**weights, **projected}
    for name, file in runs.items():
        given = {
            "dataset_dir": evaluation_of(out).scans,
            "output_dir": out / name,
            "weights_path": file,
            "consistent": name.endswith(AND_P),
            "network_def": network_definition(file.stem),
            "views": [1],
            "rotations_deg": [0],
            "sharpness": 0,
        }
        run(bundle("inference", ["configs/inference.yaml"], **given), out / f"{name}.log")
    evaluation["others"] = {name: str(out / name) for name in runs}
    run(bundle("evaluation", ["configs/evaluate.yaml"], **evaluation), out / "evaluation.log")


def write_table(out: Path) -> None:
    """Write the table of the page; variants that only an earlier call evaluated keep their rows."""
    rows = method_rows(read_scores(evaluation_of(out).scores), MEASURED)
    evaluated = {row["method"] for row in rows}
    rows += [row for row in read_rows(TABLES / f"{TABLE}.csv") if row["method"] not in evaluated]
    methods = ordered({row["method"] for row in rows})
    rows.sort(key=lambda row: (row["case"], methods.index(row["method"])))
    publish(TABLE, rows, method_table(rows), PAGE)


def show(out: Path) -> None:
    """Draw paper-<n>.png for each case: cubic, every variant, what of `paper` contradicts the slices, GLADE, truth.

    The runs `SHOWN` are drawn; without any of them the pictures stay as they are.
    """
    evaluation = evaluation_of(out)
    variants = [name for name in SHOWN if (out / "weights" / f"{name}.pt").is_file()]
    if not variants:
        return
    files = (file for file in sorted(evaluation.method_folder(CUBIC).glob("*.nii.gz")) if not file.match(NOT_SHOWN))
    for number, path in enumerate(files, 1):
        case = file_stem(path)
        volumes = {CUBIC: read_volume(path)}
        volumes |= {name: read_volume(volume_file(out / name, case)) for name in variants}
        if RECIPE in variants:
            made, affine = volumes[RECIPE]
            volumes[CONTRADICTING] = made - read_volume(volume_file(out / (RECIPE + AND_P), case))[0], affine
        volumes[GLADE] = read_volume(evaluation.inference_file(GLADE, case))
        truth = evaluation.truth_file(case)
        if truth.is_file():
            volumes["truth"] = read_volume(truth)
        thick = nibabel.load(evaluation.scan_file(case))
        axis = int(np.argmax(thick.header.get_zooms()[:3]))
        draw(volumes, IMAGES / f"paper-{number}.png", across(thick.affine, axis), case, SIDE_MM)


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate if that is not done, then write the page; return 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("arms", type=Path, nargs="?")
    parser.add_argument("benchmark", type=Path, nargs="?")
    parser.add_argument("heads", type=Path, nargs="?")
    parser.add_argument("--output_dir", type=Path, default=Path("out/paper"))
    parser.add_argument("--table", type=Path, help="OUT of an earlier call: only write the page")
    options = parser.parse_args(arguments)
    out = (options.table or options.output_dir).resolve()
    if options.table is None:
        if options.heads is None:
            parser.error("give ARMS, BENCHMARK and HEADS, or --table OUT")
        out.mkdir(parents=True, exist_ok=True)
        evaluate(options.benchmark, options.heads, final_weights(options.arms, out), out)
    write_table(out)
    show(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
