"""Weights adapted to the scans at hand before these are super-resolved, by the training workflow in its own process."""

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import ignite.distributed as idist

from ..geometry.refusal import Refusal

OVERLAYS = ("train.yaml", "adapt.yaml")
RECORD = "adapted_from.json"
LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # the training is a process by itself
logger = logging.getLogger(__name__)


def adapt_weights(
    bundle_root: str,
    dataset_dir: str,
    weights_path: str,
    adapted_path: str,
    settings: Mapping,
    inputs: Sequence[str | None] = (),
    redo: bool = False,
) -> None:
    """Fine-tunes weights on the scans' own planes (configs/adapt.yaml); an earlier call's, of the same, are kept.

    Args:
        bundle_root: folder of the bundle.
        dataset_dir: the scans: one, or a study.
        weights_path: the weights to start from.
        adapted_path: where the adapted ones go, whole or not at all: OUT/adapted/model.pt. The training's log and a
            record of what they were adapted from lie beside it, the training itself in a folder of its own.
        settings: of the training, such as {"slice_profile": "rect"}; None values are left to the configuration.
        inputs: fingerprints of scans and weights: with others, or other settings, an earlier adaptation is another's.
        redo: adapt again.

    Raises:
        Refusal: if the training did not end well; its log is named.
    """
    if idist.get_rank() == 0:
        told = {key: value for key, value in settings.items() if value is not None}
        _adapt(Path(bundle_root).resolve(), dataset_dir, weights_path, Path(adapted_path).resolve(), told, inputs, redo)
    idist.barrier()


def _adapt(
    root: Path, dataset_dir: str, weights_path: str, target: Path, settings: Mapping, inputs: Sequence, redo: bool
) -> None:
    record, training = target.with_name(RECORD), target.with_name("training")
    made_from = json.dumps({"inputs": list(inputs), "settings": dict(settings)}, indent=1, sort_keys=True, default=str)
    if not redo and target.is_file() and record.is_file() and record.read_text(encoding="utf-8") == made_from:
        logger.info("weights adapted by an earlier call are used: %s", target)
        return
    shutil.rmtree(training, ignore_errors=True)
    training.mkdir(parents=True)
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
    log = target.parent / "adaptation.log"
    alone = {name: value for name, value in os.environ.items() if name not in LAUNCHER}
    with log.open("w", encoding="utf-8") as file:
        code = subprocess.run(
            command, cwd=root, env=alone, check=False, stdout=file, stderr=subprocess.STDOUT
        ).returncode
    if code or not (training / target.name).is_file():
        raise Refusal(f"the weights could not be adapted (exit code {code}): {log} says why; or leave --adapt out")
    record.unlink(missing_ok=True)
    (training / target.name).replace(target)
    record.write_text(made_from, encoding="utf-8")
    for line in log.read_text(encoding="utf-8").splitlines():
        if "began with:" in line:
            logger.info("adapted: %s", line.partition("INFO ")[2] or line)
