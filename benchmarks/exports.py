"""Compare the trained network, folded, in bfloat16, as TorchScript and as ONNX on the same volumes: seconds and error.

    python -m benchmarks.exports [SCAN] [--batches 4 --rounds 7]

The shipped weights on some planes of a scan (by default docs/example), as the inferer of configs/inference.yaml passes
them to the network. Each round runs every form once and ratios are taken within a round; other work on the machine
hardly affects CPU seconds. The error is that of the added detail (prediction minus input), relative to the trained
network in float32. The cost of a whole volume: `python -m benchmarks.cpu_cost`.
"""

import argparse
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import torch
from monai.bundle import ConfigParser

from apps.zoo.exports import BUNDLE, CONFIG, shipped_generator, to_onnx, to_torchscript

Form = Callable[[torch.Tensor], torch.Tensor]
AS_TRAINED = "as trained"
PLANES = 8  # of each volume


class _Recorder:
    """Stands in for a generator of volumes and keeps what the inferer passes to it."""

    spatial_dims = 3

    def __init__(self):
        self.seen: list[torch.Tensor] = []

    def __call__(self, x: torch.Tensor, statistics: torch.Tensor) -> torch.Tensor:
        self.seen.append(x.clone())
        return x[:, :1]


def volumes_of(scan: Path, batches: int) -> list[torch.Tensor]:
    """Return volumes (1, channels, PLANES, H, W) of neighbouring planes from the middle of what the inferer passes."""
    parser = ConfigParser()
    parser.read_config(CONFIG)
    parser.update({"bundle_root": str(BUNDLE), "dataset_dir": str(scan)})
    volume, recorder = parser.get_parsed_content("dataset")[0]["image"], _Recorder()
    parser.get_parsed_content("inferer")(volume[None], recorder)
    whole = recorder.seen[0]
    first = max(0, (whole.shape[2] - batches * PLANES) // 2)
    return [part.contiguous() for part in whole[:, :, first:].split(PLANES, dim=2)[:batches]]


def forms(folder: Path) -> dict[str, Form]:
    """Return every form of the network by name, the trained one first."""
    network = shipped_generator()
    folded = network.folded().to(memory_format=torch.channels_last)
    to_torchscript(network, folder / "model.ts")
    to_onnx(network, folder / "model.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads would count as CPU time
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def in_bfloat16(form: Form) -> Form:
        return torch.autocast("cpu", dtype=torch.bfloat16)(form)

    return {
        AS_TRAINED: network,
        "folded": folded,
        "TorchScript": torch.jit.load(folder / "model.ts"),
        "ONNX, onnxruntime": lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0]),
        "as trained, bfloat16": in_bfloat16(network),
        "folded, bfloat16": in_bfloat16(folded),  # what the inferer runs with precision bfloat16
    }


def detail(form: Form, batches: list[torch.Tensor]) -> torch.Tensor:
    """Return the detail that a form of the network adds to the volumes, flattened."""
    return torch.cat([(form(x).float() - x[:, :1]).flatten() for x in batches])


def seconds(form: Form, batches: list[torch.Tensor]) -> float:
    """Return the CPU seconds of all batches."""
    begun = time.process_time()
    for x in batches:
        form(x)
    return time.process_time() - begun


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exports", description=__doc__.splitlines()[0])
    parser.add_argument("scan", type=Path, nargs="?", default=BUNDLE / "docs" / "example")
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    logging.disable(logging.INFO)  # MONAI logs its arguments
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        batches, every = volumes_of(options.scan, options.batches), forms(Path(folder))
        details = {name: detail(form, batches) for name, form in every.items()}
        spent = {name: [] for name in every}
        for _ in range(options.rounds):
            for name, form in every.items():
                spent[name].append(seconds(form, batches))
    exact, size = details[AS_TRAINED], " and ".join(sorted({" x ".join(map(str, x.shape[2:])) for x in batches}))
    lines = [
        f"{len(batches)} volumes of {size}, {options.rounds} rounds, {torch.get_num_threads()} threads; "
        f"bfloat16 in the processor: {torch.cpu._is_avx512_bf16_supported()}",
        "| network | CPU seconds, median | times as fast, median (range) | error, norm | error, largest |",
        "|---|---|---|---|---|",
    ]
    for name, taken in spent.items():
        ratios = [reference / mine for reference, mine in zip(spent[AS_TRAINED], taken, strict=True)]
        error = details[name] - exact
        lines.append(
            f"| {name} | {statistics.median(taken):.3f} "
            f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) "
            f"| {error.norm() / exact.norm():.1e} | {error.abs().max() / exact.abs().max():.1e} |"
        )
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
