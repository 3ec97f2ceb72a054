"""The bundle's workflows under the names that their code has inside this package."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.data import MetaTensor

from glade.scripts.data.case import Case
from glade.scripts.geometry.errors import Refusal, reason_of
from glade.scripts.run.bundle import in_this_package

from .location import CONFIG


def bundle_workflow(config: Path, overrides: Mapping[str, Any]) -> ConfigWorkflow:
    """Return a workflow of the bundle as MONAI's; `initialize`, `run` and `finalize` run it.

    Args:
        config: its file in the folder configs.
        overrides: values of settings, as of `monai.bundle run`.
    """
    workflow = ConfigWorkflow(str(config), workflow_type="inference", **overrides)
    workflow.parser.set(in_this_package(workflow.parser.get()))
    return workflow


def bundle_parser(overrides: Mapping[str, Any], config: Path = CONFIG) -> ConfigParser:
    """Return a workflow of the bundle for its parts: network, preprocessing, inferer, postprocessing.

    Args:
        overrides: as above.
        config: as above.
    """
    parser = ConfigParser(ConfigParser.load_config_file(config))
    parser.update(dict(overrides))
    parser.set(in_this_package(parser.get()))
    return parser


def input_of(case: Case, preprocessing: Callable) -> tuple[MetaTensor | None, str]:
    """Return what inference would give the network of a scan, or why it would not process it.

    Args:
        case: one of `cases` of the workflow.
        preprocessing: of the workflow.

    Returns:
        (image (1, X, Y, Z), "") of a usable scan, else (None, the reason in one line).
    """
    if case.refusal:
        return None, case.refusal
    try:
        return preprocessing(case.as_item())["image"], ""
    except Exception as error:  # noqa: BLE001 - as a run, which goes on after a faulty scan
        return None, reason_of(error)[1].removeprefix(f"{case.label}: ")


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
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    try:
        device = torch.device(name)
        found = counts[device.type]
    except (RuntimeError, KeyError) as error:
        raise Refusal(f"device {name}: not one that GLADE computes on: give cpu, cuda, cuda:N or mps") from error
    if not 0 <= (device.index or 0) < found:  # torch makes a negative number of cuda:999
        raise Refusal(
            f"device {name}: torch finds no such GPU: give --device cpu, or install the driver and a torch for it"
        )
