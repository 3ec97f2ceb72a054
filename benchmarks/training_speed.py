"""Iterations per second of the paper's training, here and in the PyTorch code of the CycleGAN authors.

    python -m benchmarks.training_speed --reference FOLDER [--rounds 15]

FOLDER: a checkout of the authors' code that holds models/cycle_gan_model.py with `normG` among its options (their
contrastive-unpaired-translation repository has it). Both take one 92 x 92 patch at a time, with the ResNet of
9 blocks and 64 channels and the 70 x 70 PatchGAN discriminators of configs/paper.yaml: theirs in float32, its default,
ours in float32 and in the precision of `precision: auto` on this machine. Without --reference only ours are timed.
"""

import argparse
import statistics
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path

import nibabel
import numpy as np
import torch
from monai.bundle import ConfigParser

from scripts.geometry.grid import Grid
from scripts.learning.precision import precision_on
from scripts.phantom.abdomen import abdomen

ROOT = Path(__file__).resolve().parents[1]
PAPER = [str(ROOT / "configs" / name) for name in ("train.yaml", "paper.yaml")]
SPACING_MM, SLICE_MM = 2.0, 6.0
PEOPLE = 3  # one of them is held back


def write_scans(folder: Path) -> None:
    """Write thick-slice phantom scans that are large enough for 92 x 92 patches."""
    for person in range(PEOPLE):
        affine = np.diag([SPACING_MM, SPACING_MM, SLICE_MM, 1.0])
        affine[:3, 3] = -110, -110, -100
        nibabel.save(
            nibabel.Nifti1Image(abdomen(Grid((112, 112, 34), affine), person), affine), folder / f"{person}.nii"
        )


def ours(folder: Path, precision: str):
    """Return the trainer of train.yaml and paper.yaml, and one batch of its loader."""
    parser = ConfigParser(ConfigParser.load_config_files(PAPER))
    settings = {"bundle_root": str(ROOT), "dataset_dir": str(folder), "output_dir": str(folder / "out")}
    settings |= {"precision": precision, "patches_per_epoch": 4, "held_back": 1 / PEOPLE}
    for key, value in settings.items():
        parser[key] = value
    parser["network_def"]["_target_"] = "scripts.learning.resnet.ResnetGenerator"
    trainer = parser.get_parsed_content("train::trainer")
    return trainer, next(iter(trainer.data_loader))


def reference(folder: Path, device: torch.device):
    """Return the authors' model with their defaults for CycleGAN: ResNet of 9 blocks, PatchGAN, least squares."""
    sys.path.insert(0, str(folder))
    from models.cycle_gan_model import CycleGANModel

    options = Namespace(
        gpu_ids=[device.index or 0] if device.type == "cuda" else [],
        isTrain=True, checkpoints_dir=".", name="speed", preprocess="none", direction="AtoB",
        input_nc=1, output_nc=1, ngf=64, ndf=64, netG="resnet_9blocks", netD="basic", n_layers_D=3,
        normG="instance", normD="instance", no_dropout=True, no_antialias=True, no_antialias_up=True,
        init_type="normal", init_gain=0.02, gan_mode="lsgan", pool_size=50, lr=2e-4, beta1=0.5,
        lambda_A=10.0, lambda_B=10.0, lambda_identity=0.0, amp=False,
    )  # fmt: skip
    return CycleGANModel(options)


def seconds(step: Callable[[], object], device: torch.device) -> float:
    """Return the time of one step; on a GPU, until its kernels have finished."""
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def interleaved(steps: Mapping[str, Callable[[], object]], device: torch.device, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each step, round after round; the first two rounds are not counted."""
    found = {name: [] for name in steps}
    for number in range(rounds + 2):
        for name, step in steps.items():
            took = seconds(step, device)
            if number >= 2:
                found[name].append(took)
    return found


def main() -> int:
    """Time the steps and print a table; return 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    auto = str(precision_on("cuda" if torch.cuda.is_available() else "cpu", "auto")).removeprefix("torch.")
    with tempfile.TemporaryDirectory() as folder:
        write_scans(Path(folder))
        steps, device = {}, None
        for name, precision in {"GLADE float32": "float32", f"GLADE {auto}": auto}.items():
            trainer, batch = ours(Path(folder), precision)
            trainer.state.iteration, device = 1, torch.device(trainer._device)
            steps[name] = lambda trainer=trainer, batch=batch: trainer._iteration(trainer, batch)
        if options.reference is not None:
            model = reference(options.reference.resolve(), device)
            model.set_input({"A": batch["blurred"] * 2 - 1, "B": batch["sharp"] * 2 - 1, "A_paths": "", "B_paths": ""})
            steps["reference float32"] = model.optimize_parameters
        times = interleaved(steps, device, options.rounds)
    first = times.get("reference float32")
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    lines = [f"{hardware}, {options.rounds} rounds; median seconds an iteration, median ratio to the reference"]
    for name, took in times.items():
        ratio = "" if first is None else f"{statistics.median(a / b for a, b in zip(first, took, strict=True)):.2f} x"
        lines.append(f"{name:20} {statistics.median(took):8.3f} s  {1 / statistics.median(took):6.2f} /s  {ratio}")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
