"""The paper's recipe on public abdominal scans: trained, evaluated beside GLADE, and shown where it adds false detail.

    python -m benchmarks.reproduction TRAIN BENCHMARK [--output_dir out/paper] [--max_epochs 2] [--minutes 40]
    python -m benchmarks.reproduction --table out/paper     # only docs/paper.md, its pictures and table

TRAIN is shared/data/train: its abdomens are trained on by configs/train.yaml and paper.yaml. BENCHMARK is
shared/data/benchmark: its abdomens are evaluated (real thick slices, no truth), and a head of TRAIN with simulated 4x
slices (with its truth, but an anatomy that was not trained on; no abdomen with a truth is public). The weights stay in
OUT. Their predictions are evaluated twice: without and with P, which removes what contradicts the slices.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np

from scripts.data.discovery import file_stem, find_nifti
from scripts.data.saving import volume_file
from scripts.evaluation.layout import EvaluationFolder
from scripts.evaluation.method_names import CONSISTENT, CUBIC, GLADE

from .ablation import PAPER, run
from .fidelity import REPRODUCTION, bundle, write_tables
from .pictures import DENIED, IMAGES, across, draw, read_volume
from .tables import ROOT

PATTERN = "*abdomen_*"  # of the scans for training and evaluation; those of mice are named mouse-abdomen
MOUSE = "mouse*"
HEAD = "brain_t1_saganon.nii.gz"
PROTOCOLS = [{"factor": 4, "profile": "rect"}]
ALONE, PROJECTED = "paper", "paper and P"
SIDE_MM = 160.0  # of the pictures


def others_than(folder: Path, pattern: str) -> list[str]:
    """Return the names of the scans of a folder that do not fit a pattern."""
    names = [case.name for case in find_nifti(str(folder))]
    return [name for name in names if not Path(name).match(pattern) or Path(name).match(MOUSE)]


def train(scans: Path, out: Path, settings: Sequence[str]) -> Path:
    """Train OUT/training/model.pt by paper.yaml; the latest weights are kept, as in the paper."""
    weights = out / "training" / "model.pt"
    if not weights.is_file():
        given = {
            "dataset_dir": scans.resolve(),
            "output_dir": weights.parent,
            "exclude": others_than(scans, PATTERN),
            "same_person": [["*siemens1*"], ["*siemens2*"]],
            "keep_latest": True,
            "precision": "auto",
        }
        run([*bundle("training", PAPER, **given), *settings], out / "training.log")
    return weights


def evaluation_of(out: Path) -> EvaluationFolder:
    """Return the output of the evaluation."""
    return EvaluationFolder(out / "evaluation")


def evaluate(scans: Path, benchmark: Path, weights: Path, out: Path) -> None:
    """Evaluate GLADE, and the paper's weights with and without P, on the same slices, in OUT/evaluation."""
    held = out / "held"
    held.mkdir(exist_ok=True)
    for path in [scans / HEAD, *sorted(benchmark.glob(f"{PATTERN}.nii*"))]:
        (held / path.name).write_bytes(path.read_bytes())
    evaluation = {
        "dataset_dir": held,
        "output_dir": evaluation_of(out).root,
        "protocols": PROTOCOLS,
        "interpolations": [CUBIC, CONSISTENT],
        "report": False,
    }
    run(bundle("evaluation", ["configs/evaluate.yaml"], **evaluation), out / "slices.log")
    for name, consistent in ((ALONE, False), (PROJECTED, True)):
        given = {
            "dataset_dir": evaluation_of(out).scans,
            "output_dir": out / name,
            "weights_path": weights,
            "consistent": consistent,
            "network_def": "%configs/paper.yaml::network_def",
            "views": [1],
            "rotations_deg": [0],
        }
        run(bundle("inference", ["configs/inference.yaml"], **given), out / f"{name}.log")
    evaluation["others"] = {name: str(out / name) for name in (ALONE, PROJECTED)}
    run(bundle("evaluation", ["configs/evaluate.yaml"], **evaluation), out / "evaluation.log")


def show(out: Path) -> None:
    """Draw paper-<n>.png for each case: cubic, the paper's prediction, what contradicts the slices, GLADE, truth."""
    evaluation = evaluation_of(out)
    for number, path in enumerate(sorted(evaluation.method_folder(CUBIC).glob("*.nii.gz")), 1):
        case = file_stem(path)
        ours = {name: volume_file(out / name, case) for name in (ALONE, PROJECTED)}
        volumes = {CUBIC: read_volume(path), ALONE: read_volume(ours[ALONE])}
        volumes[DENIED] = volumes[ALONE][0] - read_volume(ours[PROJECTED])[0], volumes[ALONE][1]
        volumes[GLADE] = read_volume(evaluation.inference_file(GLADE, case))
        truth = evaluation.truth_file(case)
        if truth.is_file():
            volumes["truth"] = read_volume(truth)
        thick = nibabel.load(evaluation.scan_file(case))
        axis = int(np.argmax(thick.header.get_zooms()[:3]))
        draw(volumes, IMAGES / f"{ALONE}-{number}.png", across(thick.affine, axis), case, SIDE_MM)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and evaluate if that is not done, then write the page; return 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", type=Path, nargs="?")
    parser.add_argument("benchmark", type=Path, nargs="?")
    parser.add_argument("--output_dir", type=Path, default=Path("out/paper"))
    parser.add_argument("--table", type=Path, help="OUT of an earlier call: only write the page")
    options, settings = parser.parse_known_args(arguments)
    out = (options.table or options.output_dir).resolve()
    if options.table is None:
        if options.benchmark is None:
            parser.error("give TRAIN and BENCHMARK, or --table OUT")
        out.mkdir(parents=True, exist_ok=True)
        evaluate(options.train, options.benchmark, train(options.train, out, settings), out)
    written = write_tables(evaluation_of(out).root, ROOT / "docs" / "README.md", names=[REPRODUCTION])
    show(out)
    sys.stdout.write(f"tables written: {', '.join(written) or 'none'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
