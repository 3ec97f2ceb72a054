"""What a volume costs on this CPU: seconds, peak memory, and the share of the processor's convolution rate.

    python -m benchmarks.cpu_cost [--weights_path ...]

The phantom at the paper's protocol, 256 x 256 x 45 at 1.3 x 1.3 x 6 mm, both views, by `monai.bundle run inference` in
a process of its own. The convolution rate is measured in the same run, before and after, on the trunk's own layer.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from monai.bundle import ConfigParser
from torch.utils.flop_counter import FlopCounterMode

from scripts.data.phantom_files import make_scan, write_scan

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "inference.yaml"


def convolution_rate(channels: int) -> float:
    """GFLOP/s of a 3 x 3 convolution, float32, channels last, all threads: the median of some runs."""
    layer = torch.nn.Conv2d(channels, channels, 3, padding=1).to(memory_format=torch.channels_last)
    x = torch.rand(8, channels, 128, 104).to(memory_format=torch.channels_last)
    rates = []
    with torch.no_grad():
        for _ in range(12):
            begun = time.perf_counter()
            layer(x)
            rates.append(2 * x.numel() * channels * 9 / (time.perf_counter() - begun) / 1e9)
    return statistics.median(rates[2:])


def main() -> None:
    """Make the phantom, run, measure, print."""
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
        command = [sys.executable, "-m", "monai.bundle", "run", "inference", "--config_file", str(CONFIG)]
        command += ["--dataset_dir", str(work / "scans"), "--output_dir", str(work / "results"), *sys.argv[1:]]
        begun = time.perf_counter()
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wall = time.perf_counter() - begun
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        after = convolution_rate(channels)
        (row,) = json.loads((work / "results" / "summary.json").read_text())["cases"]
    shape = row["output"]["shape"]
    plane = torch.rand(1, 1 + network.told_channels, 64, 64)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(plane)
    per_pixel = counter.get_total_flops() / 64**2
    total = per_pixel * 2 * shape[0] * shape[1] * shape[2]
    rate = (before + after) / 2
    lines = [
        f"output {' x '.join(map(str, shape))}, {row['seconds']:.1f} s for the case, {wall:.1f} s with start-up",
        f"peak memory {peak:.2f} GiB",
        f"network {per_pixel / 2e3:.0f} thousand multiply-adds a pixel; whole planes would be {total / 1e12:.2f} TFLOP",
        f"convolution rate {before:.0f} before, {after:.0f} GFLOP/s after; "
        f"share reached {total / row['seconds'] / 1e9 / rate:.0%} (over 100 %: air outside the body is not computed)",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
