"""The bundle's inference workflow under the names that its code has inside this package."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from glade.scripts.geometry.errors import Refusal

from .location import CONFIG

SCRIPTS = re.compile(r"^(\$from |\$import |)scripts\.")  # as `_target_` and imports name the bundle's code


def inference_workflow(overrides: Mapping[str, Any]) -> ConfigWorkflow:
    """Return configs/inference.yaml as MONAI's workflow; `initialize`, `run` and `finalize` run it.

    Args:
        overrides: values of settings, as of `monai.bundle run inference`.
    """
    workflow = ConfigWorkflow(str(CONFIG), workflow_type="inference", **overrides)
    workflow.parser.set(_renamed(workflow.parser.get()))
    return workflow


def inference_parser(overrides: Mapping[str, Any]) -> ConfigParser:
    """Return configs/inference.yaml for its parts: network, preprocessing, inferer, postprocessing.

    Args:
        overrides: as above.
    """
    parser = ConfigParser(ConfigParser.load_config_file(CONFIG))
    parser.update(dict(overrides))
    parser.set(_renamed(parser.get()))
    return parser


def refuse_absent_device(name: str | None) -> None:
    """Refuse a device that torch cannot use here.

    Args:
        name: "cpu", "cuda", "cuda:1", "mps"; None: that of the config.

    Raises:
        Refusal: if there is none of this name.

    >>> refuse_absent_device("cpu")
    """
    if name is None:
        return
    device = torch.device(name)
    found = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[device.type]
    if (device.index or 0) >= found:
        raise Refusal(
            f"device {name}: torch finds no such GPU: give --device cpu, or install the driver and a torch for it"
        )


def _renamed(part: Any) -> Any:
    """The same part of a config with glade.scripts in place of scripts."""
    if isinstance(part, Mapping):
        return {key: _renamed(value) for key, value in part.items()}
    if isinstance(part, list):
        return [_renamed(value) for value in part]
    return SCRIPTS.sub(r"\1glade.scripts.", part) if isinstance(part, str) else part
