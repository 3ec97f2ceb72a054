"""The generator for programs without this bundle's code: TorchScript and ONNX, its demodulation folded.

    python -m apps.zoo.exports OUT [--sharpness 0]

Both take any number of planes of any size, or volumes where the generator sees volumes, with the channels that
configs/metadata.json describes.
"""

import argparse
import json
import logging
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from monai.bundle import ConfigParser, ckpt_export

from scripts.geometry.errors import Refusal, refusal_of
from scripts.learning.generator import Generator
from scripts.learning.inferer import sees_volumes

BUNDLE = Path(__file__).resolve().parents[2]
CONFIG, METADATA = BUNDLE / "configs" / "inference.yaml", BUNDLE / "configs" / "metadata.json"
INPUT, OUTPUT = "image", "pred"  # as metadata.json calls them
EXAMPLE = (2, 30, 46)  # planes, rows, columns that the tracer sees; the exported network takes others
VOLUMES, PLANES = ("volumes", "across", "rows", "columns"), ("planes", "rows", "columns")


def metadata() -> dict:
    """Return the content of configs/metadata.json."""
    return json.loads(METADATA.read_text(encoding="utf-8"))


def random_input(network: Generator, planes: int, rows: int, columns: int) -> torch.Tensor:
    """Return a random input of a generator with the channels of the metadata; the same every time.

    Returns:
        Planes (planes, channels, rows, columns); for a generator of volumes, one (1, channels, planes, rows, columns).
    """
    channels = metadata()["network_data_format"]["inputs"][INPUT]["num_channels"]
    shown = torch.rand(planes, channels, rows, columns, generator=torch.Generator().manual_seed(0))
    return shown.transpose(0, 1)[None] if sees_volumes(network) else shown


def shipped_generator(sharpness: float | None = None) -> Generator:
    """Return the generator of configs/inference.yaml with its weights, on the CPU, in evaluation mode.

    Args:
        sharpness: 0 to 1; None: the config's.

    Raises:
        Refusal: if the sharpness is outside, or the weights are absent or another network's.
    """
    parser = ConfigParser()
    parser.read_config(CONFIG)
    parser["bundle_root"] = str(BUNDLE)
    parser["device"] = "cpu"
    if sharpness is not None:
        parser["sharpness"] = sharpness
    try:
        return parser.get_parsed_content("network")
    except RuntimeError as error:  # MONAI wraps what an expression raised
        raise refusal_of(error) or error from None


def to_torchscript(network: Generator, path: Path) -> None:
    """Write a TorchScript file with metadata and config inside, by `monai.bundle ckpt_export`.

    The generator hands TorchScript its folded copy (`Generator.__prepare_scriptable__`).
    """
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", (DeprecationWarning, FutureWarning))  # TorchScript's own farewell
        weights = Path(folder) / "model.pt"
        torch.save(network.state_dict(), weights)
        ckpt_export(
            "network_def",
            filepath=str(path),
            ckpt_file=str(weights),
            meta_file=str(METADATA),
            config_file=str(CONFIG),
            bundle_root=str(BUNDLE),
        )


def to_onnx(network: Generator, path: Path) -> None:
    """Write an ONNX file.

    By the exporter that traces: torch.export fixes the sizes of the planes, because the padding depends on them.
    """
    names = VOLUMES if sees_volumes(network) else PLANES
    sizes = {axis if axis == 0 else axis + 1: name for axis, name in enumerate(names)}  # axis 1 holds the channels
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the tracer: that the sizes are traced
        torch.onnx.export(
            network.folded(),
            (random_input(network, *EXAMPLE),),
            str(path),
            dynamo=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: sizes, OUTPUT: sizes},
        )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m apps.zoo.exports", description=__doc__.splitlines()[0])
    parser.add_argument("output_dir", type=Path)
    parser.add_argument("--sharpness", type=float, help="0 to 1; default: the config's")
    options = parser.parse_args()
    logging.disable(logging.INFO)  # MONAI's list of arguments
    try:
        network = shipped_generator(options.sharpness)
        options.output_dir.mkdir(parents=True, exist_ok=True)
    except (Refusal, OSError) as error:
        sys.exit(str(error))
    for name, write in (("model.ts", to_torchscript), ("model.onnx", to_onnx)):
        write(network, options.output_dir / name)
        sys.stdout.write(f"{options.output_dir / name}\n")


if __name__ == "__main__":
    main()
