"""The shipped inference workflow with a generator so small that a test can afford it."""

import os
import signal
from pathlib import Path

import torch
import yaml

from scripts.learning.generator import Generator
from scripts.learning.inferer import OrthogonalInferer

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "configs" / "inference.yaml"
TINY = {"channels": 4, "blocks": 1, "fold": [2, 2], "conditioning_channels": 6}


class KillingInferer(OrthogonalInferer):
    """The shipped inferer; kills its own process at the scan that the variable KILL_AT names."""

    def __call__(self, inputs, network, *args, **kwargs):
        """As `OrthogonalInferer`."""
        if os.environ.get("KILL_AT") and os.environ["KILL_AT"] in str(inputs.meta["filename_or_obj"]):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(inputs, network, *args, **kwargs)


def tiny_generator() -> Generator:
    """Adds a little detail, always the same."""
    torch.manual_seed(0)
    network = Generator(**TINY)
    torch.nn.init.normal_(network.tail.weight, std=0.02)
    return network.eval()


def write_config(folder: Path) -> list[str]:
    """Config files of the shipped workflow with the tiny generator's weights in place."""
    weights = folder / "tiny.pt"
    torch.save(tiny_generator().state_dict(), weights)
    overlay = folder / "tiny.yaml"
    content = {
        "network_def": {"_target_": "scripts.learning.generator.Generator", **TINY},
        "weights_path": str(weights),
        "device": "$torch.device('cpu')",
        "inferer::_target_": "tests.workflows.tiny_inference.KillingInferer",
    }
    overlay.write_text(yaml.safe_dump(content))
    return [str(SHIPPED), str(overlay)]
