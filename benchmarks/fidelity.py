"""Fidelity against truth: near-isotropic scans, thick slices simulated by `A`, cubic, consistent cubic and GLADE.

    python -m benchmarks.fidelity SCANS --factors 4 --profiles rect --output_dir out/fidelity [--weights_path ...]

SCANS is a folder of near-isotropic NIfTI scans (iso_*). Each is put in RAS order and its voxels are taken as cubes; the
last axis (head-foot) becomes the through-plane one, cropped to whole slices. The thick scans are written to disk, the
shipped workflow runs on them, and all methods are scored on the truth's grid, inside the body mask of the truth.
"""

import argparse
import csv
import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import nibabel
import numpy as np
import torch

from apps.demo.baselines import Baselines
from apps.demo.scores import SCORES, Judge
from scripts.physics.acquisition import Acquisition, SliceGeometry

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "inference.yaml"
METHODS = ("cubic", "consistent cubic", "GLADE")


def simulate(scan: Path, factor: int, profile: str, folder: Path) -> tuple[str, np.ndarray]:
    """Write a thick scan of `factor` voxels a slice, thickness = spacing; returns its name and the truth."""
    image = nibabel.as_closest_canonical(nibabel.load(scan))
    truth = np.asarray(image.dataobj, dtype=np.float32)
    truth = truth[..., : truth.shape[2] // factor * factor]
    count = truth.shape[2] // factor
    A = Acquisition(SliceGeometry(truth.shape[2], count, factor, factor, profile))
    thick = A(torch.from_numpy(truth)).numpy()
    name = f"{scan.name.removesuffix('.nii.gz')}_{factor}x_{profile}"
    affine = np.diag([1.0, 1.0, factor, 1.0])
    affine[2, 3] = (factor - 1) / 2
    nibabel.save(nibabel.Nifti1Image(thick, affine), folder / f"{name}.nii.gz")
    return name, truth


def main() -> None:
    """Simulate, run, score, print and write fidelity.csv."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scans", type=Path)
    parser.add_argument("--pattern", default="iso_*.nii.gz")
    parser.add_argument("--factors", type=int, nargs="+", default=[4])
    parser.add_argument("--profiles", nargs="+", default=["rect"])
    parser.add_argument("--output_dir", type=Path, default=Path("out/fidelity"))
    options, overrides = parser.parse_known_args()
    rows = []
    for factor, profile in product(options.factors, options.profiles):
        work = options.output_dir.resolve() / f"{factor}x_{profile}"
        (work / "scans").mkdir(parents=True, exist_ok=True)
        truths = dict(simulate(s, factor, profile, work / "scans") for s in sorted(options.scans.glob(options.pattern)))
        settings = ["--through_plane_axis", "2", "--slice_profile", profile, *overrides]
        command = [sys.executable, "-m", "monai.bundle", "run", "inference", "--config_file", str(CONFIG)]
        command += ["--dataset_dir", str(work / "scans"), "--output_dir", str(work / "results"), *settings]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        baselines = Baselines(CONFIG, work / "scans", {"through_plane_axis": 2, "slice_profile": profile})
        summary = json.loads((work / "results" / "summary.json").read_text())
        seconds = {row["case"]: row["seconds"] for row in summary["cases"]}
        for name, truth in truths.items():
            judge = Judge(truth, axis=2, factor=factor)
            _, cubic, consistent = (v[0].numpy() for v in baselines(name))
            result = nibabel.load(work / "results" / name / f"{name}_glade.nii.gz").get_fdata(dtype=np.float32)
            for method, volume in zip(METHODS, (cubic, consistent, result), strict=True):
                scores = judge(volume)
                rows.append({"case": name, "method": method, **dict(zip(SCORES, scores, strict=True))})
                line = "  ".join(f"{score} {value:.3f}" for score, value in zip(SCORES, scores, strict=True))
                sys.stdout.write(f"{name:40s} {method:17s} {line}\n")
            sys.stdout.write(f"{name:40s} {seconds[name]:.0f} s\n")
    with (options.output_dir / "fidelity.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
