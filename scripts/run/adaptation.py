"""Weights adapted to the scans at hand before these are super-resolved, by the training workflow in its own process."""

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import ignite.distributed as idist

from ..data.case import Case
from ..geometry.errors import Refusal
from .fingerprints import fingerprint, fingerprint_of_files

OVERLAYS = ("train.yaml", "adapt.yaml")
WEIGHTS = "model.pt"  # what a training calls them
RECORD = "adapted_from.json"
LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # the training is a process by itself
logger = logging.getLogger(__name__)


def adapt_weights(
    bundle_root: str,
    dataset_dir: str,
    weights_path: str,
    adapted_path: str,
    settings: Mapping,
    cases: Sequence[Case],
    redo: bool = False,
) -> None:
    """Fine-tunes weights on the scans' own planes (configs/adapt.yaml); an earlier call's, of the same, are kept.

    Args:
        bundle_root: folder of the bundle.
        dataset_dir: the scans: one, or a study.
        weights_path: the weights to start from.
        adapted_path: where the adapted ones go, whole or not at all: OUT/adapted/model.pt. The training's log and a
            record of what they were adapted from lie beside it.
        settings: of the training, such as {"slice_profile": "rect"}; None values are left to the configuration.
        cases: the scans as cases.
        redo: adapt again.

    Raises:
        Refusal: if the training did not end well; its log is named.
    """
    if idist.get_rank() == 0:
        told = {key: value for key, value in settings.items() if value is not None}
        inputs = [fingerprint_of_files([Path(weights_path)]), *map(fingerprint, cases)]
        target = Path(adapted_path).resolve()
        record = json.dumps({"inputs": inputs, "settings": told}, indent=1, sort_keys=True, default=str)
        if not redo and _is_adapted(target, record):
            logger.info("weights adapted by an earlier call are used: %s", adapted_path)
        else:
            _adapt(Path(bundle_root).resolve(), dataset_dir, weights_path, target, told, record)
    idist.barrier()


def _is_adapted(target: Path, record: str) -> bool:
    before = target.with_name(RECORD)
    return target.is_file() and before.is_file() and before.read_text(encoding="utf-8") == record


def _adapt(root: Path, dataset_dir: str, weights_path: str, target: Path, settings: Mapping, record: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    log = target.with_name("adaptation.log")
    alone = {name: value for name, value in os.environ.items() if name not in LAUNCHER}
    with tempfile.TemporaryDirectory(prefix=".adapting-", dir=target.parent) as training:
        told = {
            "dataset_dir": Path(dataset_dir).resolve(),
            "output_dir": training,
            "start_from": Path(weights_path).resolve(),
            **settings,
        }
        configs = str([str(root / "configs" / name) for name in OVERLAYS])
        command = [sys.executable, "-m", "monai.bundle", "run", "training", "--config_file", configs]
        command += [part for key, value in told.items() for part in (f"--{key}", str(value))]
        logger.info("adapting the weights to %s, up to 10 minutes", dataset_dir)
        with log.open("w", encoding="utf-8") as file:
            ended = subprocess.run(command, cwd=root, env=alone, check=False, stdout=file, stderr=subprocess.STDOUT)
        adapted = Path(training) / WEIGHTS
        if ended.returncode or not adapted.is_file():
            raise Refusal(
                f"the weights could not be adapted (exit code {ended.returncode}): {log} says why; or leave --adapt out"
            )
        target.with_name(RECORD).unlink(missing_ok=True)  # until the new one: what is there is not what it says
        adapted.replace(target)
        target.with_name(RECORD).write_text(record, encoding="utf-8")
    for line in log.read_text(encoding="utf-8").splitlines():
        if "began with:" in line:
            logger.info("adapted: %s", line.partition("INFO ")[2] or line)
