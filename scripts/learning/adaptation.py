"""Weights adapted to the scans at hand before these are super-resolved, by the training workflow in its own process."""

import logging
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import ignite.distributed as idist

from ..geometry.refusal import Refusal

OVERLAYS = ("train.yaml", "adapt.yaml")
logger = logging.getLogger(__name__)


def adapt_weights(
    bundle_root: str, dataset_dir: str, weights_path: str, adapted_path: str, settings: Mapping, redo: bool = False
) -> None:
    """Fine-tunes weights on the scans' own planes (configs/adapt.yaml); what is there from an earlier call is kept.

    Args:
        bundle_root: folder of the bundle.
        dataset_dir: the scans: one, or a study.
        weights_path: the weights to start from.
        adapted_path: where the adapted ones go: OUT/adapted/model.pt; the training's log and checkpoints lie beside it.
        settings: of the training, such as {"slice_profile": "rect"}; None values are left to the configuration.
        redo: adapt again.

    Raises:
        Refusal: if the training did not end well; its log is named.
    """
    if idist.get_rank() == 0:
        _adapt(Path(bundle_root), dataset_dir, weights_path, adapted_path, settings, redo)
    idist.barrier()


def _adapt(root: Path, dataset_dir: str, weights_path: str, adapted_path: str, settings: Mapping, redo: bool) -> None:
    root, target = root.resolve(), Path(adapted_path).resolve()
    if target.is_file() and not redo:
        logger.info("weights adapted by an earlier call are used: %s", adapted_path)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    told = {
        "dataset_dir": Path(dataset_dir).resolve(),
        "output_dir": target.parent,
        "start_from": Path(weights_path).resolve(),
        **{key: value for key, value in settings.items() if value is not None},
    }
    configs = str([str(root / "configs" / name) for name in OVERLAYS])
    command = [sys.executable, "-m", "monai.bundle", "run", "training", "--config_file", configs]
    command += [part for key, value in told.items() for part in (f"--{key}", str(value))]
    logger.info("adapting the weights to %s, up to 10 minutes", dataset_dir)
    log = target.parent / "adaptation.log"
    with log.open("w", encoding="utf-8") as file:
        code = subprocess.run(command, cwd=root, check=False, stdout=file, stderr=subprocess.STDOUT).returncode
    if code or not target.is_file():
        raise Refusal(f"the weights could not be adapted (exit code {code}): {log} says why; or leave --adapt out")
    for line in log.read_text(encoding="utf-8").splitlines():
        if "began with:" in line:
            logger.info("adapted: %s", line.partition("INFO ")[2] or line)
