"""Measure the cost of a volume on this CPU in float32 and bfloat16: seconds, memory, difference of the results.

    python -m benchmarks.cpu_cost [--weights_path ...]

The phantom with the paper's protocol, 256 x 256 x 45 voxels of 1.3 x 1.3 x 6 mm, by `monai.bundle run inference` in a
separate process for each precision. CPU seconds are those of the process, all threads together; other work on the
machine affects them much less than the wall time. The rate of a convolution as in the network's blocks is measured
before and after. Further arguments are passed to the inference. It uses a CUDA device if
there is one; the seconds for the case are then those of the GPU; `--device "$torch.device('cpu')"` measures the CPU.
"""

import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import torch
from monai.bundle import ConfigParser
from torch.utils.flop_counter import FlopCounterMode

from scripts.learning.inferer import sees_volumes
from scripts.learning.rotation import InPlaneRotation
from scripts.phantom.files import make_scan, write_scan
from scripts.run.record import Row, read_summary

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "inference.yaml"
PRECISIONS = ("float32", "bfloat16")
PIXELS = 64  # rows and columns of the planes on which multiply-adds are counted
PLANES = 8  # of the volume on which they are counted, where the generator sees volumes


@dataclass(frozen=True)
class Cost:
    """Cost of one inference.

    Attributes:
        row: of the case.
        wall: elapsed seconds, with start-up.
        cpu: CPU seconds of all threads, with start-up.
        peak: peak memory, GiB.
    """

    row: Row
    wall: float
    cpu: float
    peak: float


def convolution_rate(channels: int) -> float:
    """Return GFLOP/s of a 3 x 3 convolution, float32, channels last, all threads; the median of ten runs."""
    layer = torch.nn.Conv2d(channels, channels, 3, padding=1).to(memory_format=torch.channels_last)
    x = torch.rand(8, channels, 128, 104).to(memory_format=torch.channels_last)
    rates = []
    with torch.no_grad():
        for _ in range(12):
            begun = time.perf_counter()
            layer(x)
            rates.append(2 * x.numel() * channels * 9 / (time.perf_counter() - begun) / 1e9)
    return statistics.median(rates[2:])


def run(scans: Path, results: Path, precision: str) -> Cost:
    """Run one inference in a separate process.

    Raises:
        SystemExit: the inference failed.
    """
    command = [sys.executable, "-m", "monai.bundle", "run", "inference", "--config_file", str(CONFIG)]
    command += ["--dataset_dir", str(scans), "--output_dir", str(results), "--precision", precision, *sys.argv[1:]]
    begun = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begun
    if status:
        raise SystemExit(f"the inference in {precision} failed: {' '.join(command)}")
    (row,) = read_summary(results)
    return Cost(row, wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20)


def difference(results: Path, postfix: str) -> float:
    """Return the relative difference (norms) between both precisions of one volume of the result."""
    exact, fast = (
        nibabel.load(next((results / precision).glob(f"*/*_{postfix}.nii.gz"))).get_fdata(dtype=np.float32)
        for precision in PRECISIONS
    )
    return float(np.linalg.norm(fast - exact) / np.linalg.norm(exact))


def multiply_adds(network: torch.nn.Module) -> float:
    """Return the multiply-adds of a generator per voxel of one prediction."""
    channels = 1 + getattr(network, "conditioning_channels", 0)
    shape = (PLANES, PIXELS, PIXELS) if sees_volumes(network) else (PIXELS, PIXELS)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.rand(1, channels, *shape))
    return counter.get_total_flops() / 2 / math.prod(shape)


def main() -> None:
    """Make the phantom, run both precisions and print the costs."""
    parser = ConfigParser()
    parser.read_config(CONFIG)
    network = parser.get_parsed_content("network_def").eval()
    channels = network.head.out_channels
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        scan = make_scan((256, 256, 208), spacing_mm=1.3, slice_spacing_mm=6, profile="fourier", noise_sigma=8, seed=0)
        write_scan(scan, work)
        del scan
        before = convolution_rate(channels)
        costs = {precision: run(work / "scans", work / "results" / precision, precision) for precision in PRECISIONS}
        after = convolution_rate(channels)
        errors = {
            postfix: difference(work / "results", postfix) for postfix in ("added_detail", "glade", "uncertainty")
        }
    per_pixel = 2 * multiply_adds(network)
    shape, settings = costs["float32"].row.output["shape"], costs["float32"].row.settings
    planes = [math.prod(InPlaneRotation(degrees, shape).rotated_shape) for degrees in settings["rotations_deg"]]
    total = per_pixel * len(settings["views"]) * sum(planes) * shape[2]
    lines = [
        f"output {' x '.join(map(str, shape))}; {torch.get_num_threads()} threads; bfloat16 in the processor: "
        f"{torch.cpu._is_avx512_bf16_supported()}, AMX: {torch.cpu._is_amx_tile_supported()}"
    ]
    lines += [
        f"{precision}: {cost.row.seconds:.1f} s for the case, {cost.wall:.1f} s with start-up, "
        f"{cost.cpu:.1f} CPU seconds; peak memory {cost.peak:.2f} GiB"
        for precision, cost in costs.items()
    ]
    exact, fast = costs["float32"], costs["bfloat16"]
    lines += [
        f"bfloat16 is {exact.row.seconds / fast.row.seconds:.2f} times as fast for the case, "
        f"{exact.cpu / fast.cpu:.2f} times in CPU seconds with start-up; relative difference: "
        + ", ".join(f"{postfix} {error:.1e}" for postfix, error in errors.items()),
        f"network {per_pixel / 2e3:.0f} thousand multiply-adds per voxel; whole planes: {total / 1e12:.2f} TFLOP",
        f"convolution rate {before:.0f} before, {after:.0f} GFLOP/s after (float32); share reached in float32 "
        f"{total / exact.row.seconds / 1e9 / ((before + after) / 2):.0%} "
        "(planes are cropped to the body, so the true share is lower)",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
