"""Adaptation of the weights to the scans of a run, by the training workflow in a process of its own."""

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import ignite.distributed as idist

from ..data.case import Case
from ..geometry.errors import Refusal
from ..geometry.files import write_text
from ..geometry.folders import Inputs, input_paths
from ..geometry.progress import SECONDS_BETWEEN_LINES
from .child import run_child
from .fingerprints import fingerprint, fingerprint_of_files
from .locks import OutputLock
from .threads import thread_settings

OVERLAYS = ("train.yaml", "adapt.yaml")
WEIGHTS = "model.pt"  # the file name in a training's output_dir
RECORD = "adapted_from.json"
LIMIT = "10 minutes"  # the time limit of configs/adapt.yaml, loading included
TRAINING = ".adapting-"  # how the folder of a training begins
# Variables of torchrun; the training runs in a single process and must not see them
LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
logger = logging.getLogger(__name__)


def adapt_weights(
    bundle_root: str,
    dataset_dir: Inputs,
    weights_path: str,
    adapted_path: str,
    settings: Mapping,
    cases: Sequence[Case],
    redo: bool = False,
) -> None:
    """Fine-tune weights on the scans' own planes (configs/adapt.yaml), unless an earlier call has done the same.

    Args:
        bundle_root: folder of the bundle.
        dataset_dir: the scans: a single one, or those of a study; one path or several.
        weights_path: the initial weights.
        adapted_path: file of the adapted weights, OUT/adapted/model.pt, written completely or not at all. The log of
            the training and a record of its inputs and settings are written beside it.
        settings: settings of the training, such as {"slice_profile": "rect"}; those that are None keep the values of
            the configuration.
        cases: the scans as cases.
        redo: adapt again in any case; else adapted weights of an earlier call for the same scans, initial weights and
            settings are used.

    Raises:
        Refusal: if the training failed; the message names its log.
    """
    if idist.get_rank() == 0:
        given = {key: value for key, value in settings.items() if value is not None}
        inputs = [fingerprint_of_files([Path(weights_path)]), *map(fingerprint, cases)]
        target = Path(adapted_path).resolve()
        record = json.dumps({"inputs": inputs, "settings": given}, indent=1, sort_keys=True, default=str)
        with _one_at_a_time(target.parent):
            if not redo and _is_adapted(target, record):
                logger.info("using the weights that an earlier call adapted: %s", adapted_path)
            else:
                _adapt(Path(bundle_root).resolve(), dataset_dir, weights_path, target, given, record)
    idist.barrier()


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Wait for another run that adapts weights in this folder; remove what killed ones left there."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = OutputLock(folder / ".lock")
    if not lock.acquire(wait=False):
        logger.info("waiting for another run that adapts weights in %s", folder)
        lock.acquire()
    try:
        for training in folder.glob(f"{TRAINING}*"):
            shutil.rmtree(training, ignore_errors=True)
        yield
    finally:
        lock.end()


def _is_adapted(target: Path, record: str) -> bool:
    before = target.with_name(RECORD)
    return target.is_file() and before.is_file() and before.read_text(encoding="utf-8") == record


def _adapt(root: Path, dataset_dir: Inputs, weights_path: str, target: Path, settings: Mapping, record: str) -> None:
    log = target.with_name("adaptation.log")
    scans = [str(path.resolve()) for path in input_paths(dataset_dir)]
    alone = {name: value for name, value in os.environ.items() if name not in LAUNCHER}
    alone |= thread_settings(alone)
    with tempfile.TemporaryDirectory(prefix=TRAINING, dir=target.parent) as training:
        overrides = {
            "dataset_dir": scans[0] if len(scans) == 1 else scans,
            "output_dir": training,
            "start_from": Path(weights_path).resolve(),
            **settings,
        }
        configs = str([str(root / "configs" / name) for name in OVERLAYS])
        command = [sys.executable, "-m", "monai.bundle", "run", "training", "--config_file", configs]
        command += [part for key, value in overrides.items() for part in (f"--{key}", str(value))]
        logger.info("adapting the weights to %s, which takes up to %s", ", ".join(scans), LIMIT)
        with log.open("w", encoding="utf-8") as file, _progress(log):
            code = run_child(command, cwd=root, env=alone, stdout=file, stderr=subprocess.STDOUT)
        adapted = Path(training) / WEIGHTS
        if code or not adapted.is_file():
            raise Refusal(
                f"the weights could not be adapted (exit code {code}): see {log} for the reason, or leave --adapt out"
            )
        target.with_name(RECORD).unlink(missing_ok=True)  # it does not describe the new weights
        adapted.replace(target)
        write_text(target.with_name(RECORD), record)
    for line in _lines(log, "began with:"):
        logger.info("adapted: %s", line)


@contextmanager
def _progress(log: Path) -> Iterator[None]:
    """Say twice a minute how far the training is that writes this log, a process without a terminal of its own."""
    ended, begun = threading.Event(), time.monotonic()

    def follow() -> None:
        while not ended.wait(SECONDS_BETWEEN_LINES):
            minutes, seconds = divmod(round(time.monotonic() - begun), 60)
            last = [f": {line}" for line in _lines(log, "epoch ")[-1:]]
            logger.info("adapting the weights, %02d:%02d of up to %s%s", minutes, seconds, LIMIT, *last or [""])

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _lines(log: Path, words: str) -> list[str]:
    """The messages in a log that contain these words, without time and level."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line.partition("INFO ")[2] or line for line in lines if words in line]
