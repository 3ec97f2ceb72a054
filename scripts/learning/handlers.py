"""Handlers of the training workflow that neither MONAI nor Ignite has."""

import logging
import shutil
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.handlers import BasicTimeProfiler, Checkpoint
from monai.engines import Evaluator
from monai.handlers import TensorBoardHandler
from PIL import Image, ImageDraw
from torch.utils.tensorboard import SummaryWriter

from ..geometry.checks import is_whole
from ..geometry.checksums import require_intact
from ..geometry.errors import Refusal
from ..geometry.files import atomic_file, remove_temporary, temporary_names
from ..geometry.progress import Progress

logger = logging.getLogger(__name__)
LEAST_GAIN_DB = 0.1  # over interpolation alone; below it the weights have learnt next to nothing
LONG_WAIT = 0.2  # share of an epoch's time
SHORTEST_S = 1e-9  # seconds; keeps an epoch that took no measurable time from dividing by 0
LAST, BEST = "last.pt", "best.pt"  # the checkpoints: of the latest epoch, and of the best validation
ADDED_LATER = {"early_stop"}  # what checkpoints of earlier versions lack; then it begins anew


class SetEpoch:
    """Handler that gives the epoch's number to the patch dataset, so that its patches depend on it and the seed alone.

    Args:
        dataset: has `set_epoch`.
    """

    def __init__(self, dataset):
        self.dataset = dataset

    def attach(self, engine: Engine) -> None:
        """Call `set_epoch` when an epoch starts."""
        engine.add_event_handler(Events.EPOCH_STARTED, lambda e: self.dataset.set_epoch(e.state.epoch))


def write_losses(engine: Engine, writer: SummaryWriter) -> None:
    """Write the loss terms and learning rates of an iteration; MONAI's TensorBoardStatsHandler calls it.

    Args:
        engine: the trainer; its output are the losses by name, its `optimizers` have the learning rates.
        writer: writer of the event file.
    """
    for name, value in engine.state.output.items():
        writer.add_scalar(f"loss/{name}", value, engine.state.iteration)
    for name, optimizer in engine.optimizers.items():
        writer.add_scalar(f"learning_rate/{name}", optimizer.param_groups[0]["lr"], engine.state.iteration)
    writer.flush()


class PlanesToTensorBoard(TensorBoardHandler):
    """Handler that writes planes of a validation's last batch side by side, labelled: slices, prediction, truth.

    MONAI's TensorBoardImageHandler shows one plane and scales each image by itself, so grey values cannot be compared.

    Args:
        log_dir: folder of the event files.
        planes: number of planes, one below the other.
    """

    PANELS = {
        "interpolated": "image",
        "prediction": "pred",
        "truth": "label",
    }  # label: key of the output
    LABEL_PIXELS = 14  # height of the strip with a label

    def __init__(self, log_dir: str, planes: int = 4):
        super().__init__(log_dir=log_dir)
        self.planes = planes

    def attach(self, engine: Engine) -> None:
        """Write when the evaluator has run."""
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _write(self, engine: Engine) -> None:
        panels = []
        for label, key in self.PANELS.items():
            images = [_middle_plane(item[key]) for item in engine.state.output[: self.planes]]
            planes = torch.cat(images, dim=-2).clamp(0, 1).cpu()
            panels.append(torch.cat([self._label(label, planes.shape[-1]), planes.float()], dim=-2))
        self._writer.add_image("validation/planes", torch.cat(panels, dim=-1), engine.state.epoch)
        self._writer.flush()

    def _label(self, text: str, columns: int) -> torch.Tensor:
        """A black strip (1, LABEL_PIXELS, columns) with white text."""
        strip = Image.new("L", (columns, self.LABEL_PIXELS))
        ImageDraw.Draw(strip).text((2, 1), text, fill=255)
        return torch.from_numpy(np.asarray(strip) / np.float32(255))[None]


def _middle_plane(image: torch.Tensor) -> torch.Tensor:
    """The middle plane (1, H, W) of a volume (1, P, H, W); a plane as it is."""
    return image[:, image.shape[1] // 2] if image.dim() == 4 else image


class ShowProgress:
    """Handler that shows how many iterations of an epoch are done, with the losses, as a bar or as lines of the log.

    Args:
        show: False for neither, as in all processes but the first.
    """

    def __init__(self, show: bool = True):
        self.show = show

    def attach(self, engine: Engine) -> None:
        """Start a count with every epoch."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._count)
        engine.add_event_handler(Events.EPOCH_COMPLETED | Events.COMPLETED | Events.TERMINATE, self._stop)

    def _start(self, engine: Engine) -> None:
        epoch = f"epoch {engine.state.epoch} of {engine.state.max_epochs}"
        self.progress = Progress(total=engine.state.epoch_length, show=self.show, desc=epoch, leave=False)

    def _count(self, engine: Engine) -> None:
        self.progress.set_postfix({name: f"{value:.3g}" for name, value in engine.state.output.items()}, refresh=False)
        self.progress.update()

    def _stop(self, engine: Engine) -> None:
        self.progress.close()


class WarmUpAverage:
    """Handler that lets the running average of weights follow quickly at first: momentum max(m, 9 / (10 + iterations)).

    Without it the average of a short training is still close to its random start. The formula is that of TensorFlow's
    ExponentialMovingAverage with `num_updates`, whose decay is min(1 - m, (1 + n) / (10 + n)). It depends on the
    iteration alone, so a resumed training continues exactly.

    Args:
        momentum: share of the new weights in the average, m, reached after 9 / m iterations.
        name: attribute of the engine's state that Ignite's EMAHandler reads.
    """

    def __init__(self, momentum: float, name: str = "ema_momentum"):
        self.momentum, self.name = momentum, name

    def attach(self, engine: Engine) -> None:
        """Set the momentum before each iteration."""
        engine.add_event_handler(Events.ITERATION_STARTED, self._set)

    def _set(self, engine: Engine) -> None:
        setattr(engine.state, self.name, max(self.momentum, 9 / (10 + engine.state.iteration)))


class LogDataWait:
    """Handler that warns after an epoch in which iterations waited long for patches (Ignite's time profiler)."""

    def __init__(self):
        self.profiler = BasicTimeProfiler()

    def attach(self, engine: Engine) -> None:
        """Attach the profiler and the log line."""
        self.profiler.attach(engine)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._log)

    def _log(self, engine: Engine) -> None:
        done = slice((engine.state.epoch - 1) * engine.state.epoch_length, engine.state.iteration)
        loading = float(self.profiler.dataflow_times[done].sum())
        computing = float(self.profiler.processing_times[done].sum())
        share = loading / max(loading + computing, SHORTEST_S)
        level, remedy = (logging.WARNING, ": raise --num_workers") if share > LONG_WAIT else (logging.DEBUG, "")
        logger.log(level, "epoch %d: %.0f %% of the time waited for data%s", engine.state.epoch, 100 * share, remedy)


class CheckWeightsInSync:
    """Handler that checks after each epoch that all processes hold the same weights; idle in a single process.

    Args:
        networks: {name: network}.
    """

    def __init__(self, networks: Mapping[str, torch.nn.Module]):
        self.networks = dict(networks)

    def attach(self, engine: Engine) -> None:
        """Check when an epoch is over, before anything is saved."""
        if idist.get_world_size() > 1:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._check)

    def _check(self, engine: Engine) -> None:
        for name, network in self.networks.items():
            own = torch.stack([parameter.detach().double().sum() for parameter in network.parameters()])
            if not all(torch.equal(own, other) for other in idist.all_gather(own[None])):
                raise Refusal(f"the processes hold different weights of {name} after epoch {engine.state.epoch}: stop")


class StopAfter:
    """Handler that ends the training at a time limit, without finishing the epoch.

    Where several processes train together, the clock of the first one counts, so that all end after the same iteration.
    (Each process of Ignite's TimeLimit has its own clock.)

    Args:
        minutes: time from the start of training.

    Raises:
        Refusal: if the limit is not more than 0.
    """

    def __init__(self, minutes: float):
        if not minutes > 0:
            raise Refusal(f"the time limit must be more than 0 minutes, got {minutes}")
        self.minutes = minutes

    def attach(self, engine: Engine) -> None:
        """Start the clock when training starts."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._stop)

    def _start(self, engine: Engine) -> None:
        self.started = time.monotonic()

    def _stop(self, engine: Engine) -> None:
        is_over = idist.broadcast(float(time.monotonic() - self.started > 60 * self.minutes), src=0)
        if is_over:
            logger.info("the time limit of %g minutes is reached", self.minutes)
            engine.terminate()


class PauseAfter:
    """Handler that ends a call after some epochs, with their checkpoint written; the schedule is not shortened.

    Args:
        epochs: epochs of this call.

    Raises:
        Refusal: if there is less than one.
    """

    def __init__(self, epochs: int):
        if epochs < 1:
            raise Refusal(f"pause_after must be 1 epoch at least, got {epochs}")
        self.epochs, self.first = epochs, 0

    def attach(self, engine: Engine) -> None:
        """Count from the epoch that the training resumes from."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._pause)

    def _start(self, engine: Engine) -> None:
        self.first, engine.state.paused = engine.state.epoch, False

    def _pause(self, engine: Engine) -> None:
        if self.first + self.epochs <= engine.state.epoch < engine.state.max_epochs:
            engine.state.paused = True
            engine.terminate()  # the other handlers of this event still run: validation, checkpoint


class ValidateFirst:
    """Handler that validates before the first iteration, so that the best weights may be the initial ones.

    Args:
        validator: the evaluator.
        best: keeps the best weights.
    """

    def __init__(self, validator, best: "BestModel"):
        self.validator, self.best = validator, best
        self.initial_value: float | None = None  # unknown to a training that is resumed

    def attach(self, engine: Engine) -> None:
        """Validate when training starts; log at its end whether anything better was found."""
        engine.add_event_handler(Events.STARTED, self._validate)
        engine.add_event_handler(Events.COMPLETED, self._log)

    def _validate(self, engine: Engine) -> None:
        if engine.state.epoch == 0:
            self.validator.run(1)
            self.best.epoch, self.initial_value = 0, self.best.value

    def _log(self, engine: Engine) -> None:
        if self.initial_value is None:
            return
        gain = self.best.value - self.initial_value
        found = f"improved by {gain:.3f}, epoch {self.best.epoch}" if gain > 0 else "not improved: kept as they were"
        logger.info("the weights this training began with: %s", found)


class CheckOutcome:
    """Handler that checks after a training that it wrote weights, and warns if they hardly differ from interpolation.

    Args:
        best: keeps the best weights.
        interval: epochs between validations.

    Raises:
        Refusal: if there is no such interval.
    """

    def __init__(self, best: "BestModel", interval: int = 1):
        if not is_whole(interval, 1):
            raise Refusal(f"val_interval must be a whole number of epochs from 1, got {interval!r}")
        self.best, self.interval = best, interval

    def attach(self, engine: Engine) -> None:
        """Check when training ends, by its length or by a time limit, but not where `PauseAfter` pauses it."""
        engine.add_event_handler(Events.STARTED, self._require_last)
        engine.add_event_handler(Events.COMPLETED, self._check)

    def _require_last(self, engine: Engine) -> None:
        """Weights are kept after a validation alone: those of the last epochs would be lost without a word."""
        if engine.state.max_epochs % self.interval:
            raise Refusal(
                f"val_interval must divide max_epochs = {engine.state.max_epochs}, so that the last epoch is validated "
                f"and its weights can be kept, got {self.interval}"
            )

    def _check(self, engine: Engine) -> None:
        if getattr(engine.state, "paused", False):
            return
        if self.best.value == float("-inf"):
            raise Refusal(
                f"no weights were written: the training ended in epoch {engine.state.epoch}, before its validation: "
                f"give more minutes, or fewer patches_per_epoch"
            )
        if not self.best.latest and self.best.gain < LEAST_GAIN_DB:
            logger.warning(
                "%s is hardly better than interpolation (%+.3f dB on the validation patches): train for more epochs",
                self.best.path,
                self.best.gain,
            )


class BestModel:
    """Handler that keeps the bare weights of a network at each best validation yet, also in a training that is resumed.

    Args:
        network: the network whose weights are kept.
        path: the file; it is replaced completely or not at all.
        interpolation: the same validation of the interpolated planes, without a network; run once, as a baseline.
        latest: keep the weights of every validation instead. An adversarial term lowers the validated fidelity by
            design, so the best weights would be the first ones.
    """

    def __init__(self, network: torch.nn.Module, path: str, interpolation: Evaluator, latest: bool = False):
        self.network, self.path, self.interpolation, self.latest = network, Path(path), interpolation, latest
        self.value, self.epoch, self.gain = float("-inf"), 0, float("-inf")

    def attach(self, engine: Engine) -> None:
        """Compare the evaluator's key metric when it has run."""
        engine.add_event_handler(Events.COMPLETED, self._keep)

    def _keep(self, engine: Engine) -> None:
        name = engine.state.key_metric_name
        value = float(engine.state.metrics[name])
        better = value > self.value or self.latest
        kept = f"saved in {self.path}" if better else f"the best is still epoch {self.epoch} with {self.value:.3f}"
        if not self.interpolation.state.metrics:  # the validation patches are the same each time
            self.interpolation.run()
        gain = value - float(self.interpolation.state.metrics[name])
        logger.info("epoch %d: %s %.3f dB, %+.3f over interpolation; %s", engine.state.epoch, name, value, gain, kept)
        if better:
            self.value, self.epoch, self.gain = value, engine.state.epoch, gain
            save_atomically({name: tensor.cpu() for name, tensor in self.network.state_dict().items()}, self.path)

    def state_dict(self) -> dict:
        """Return the best value, its epoch and its gain over interpolation."""
        return {"value": self.value, "epoch": self.epoch, "gain": self.gain}

    def load_state_dict(self, state: Mapping) -> None:
        """Continue from `state_dict`."""
        self.value, self.epoch, self.gain = float(state["value"]), int(state["epoch"]), float(state["gain"])


class Checkpoints:
    """Handler that saves the whole training after each epoch (last.pt) and each best one (best.pt), to resume exactly.

    Where several processes train together, the first one saves; all of them resume with its pools of earlier generated
    planes (`HistoryPool`), the only part in which they differ. That training continues soundly, but not exactly.

    Args:
        folder: folder of the files; each is replaced completely or not at all.
        objects: {name: anything with `state_dict` and `load_state_dict`}; the trainer is added when attached.
        best: has the epoch of the best validation; it is saved too.
    """

    def __init__(self, folder: str, objects: Mapping[str, object], best: BestModel):
        self.folder, self.objects, self.best = Path(folder), {**objects, "best": best}, best

    def attach(self, engine: Engine) -> None:
        """Save when an epoch and its validation are over."""
        self.objects |= {"trainer": engine, "scaling": engine.scaling}
        engine.add_event_handler(Events.EPOCH_COMPLETED, Checkpoint(self.objects, self._save, filename_pattern=LAST))
        engine.add_event_handler(Events.STARTED, self._tidy)

    def resume(self, engine: Engine, path: str | None) -> None:
        """Load a file that this class wrote; None starts a new training.

        Raises:
            Refusal: if the file is missing, damaged, or does not fit what is trained; if a new training would replace
                the files of an earlier one; if the best weights so far are not in the folder.
        """
        if path is None:
            if (self.folder / LAST).exists():
                raise Refusal(
                    f"{self.folder} holds a training: continue it with --resume {self.folder / LAST}, "
                    f"or give another --output_dir"
                )
            return
        if not Path(path).is_file():
            raise Refusal(f"{path}: no such checkpoint to resume from; leave --resume out to start anew")
        if (self.folder / LAST).exists() and Path(path).resolve().parent != self.folder.resolve():
            raise Refusal(
                f"{self.folder} holds another training than {path}, which would replace it: give another --output_dir"
            )
        epochs, length = engine.state.max_epochs, len(engine.data_loader)
        require_intact(path)
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
            for name, thing in self.objects.items():
                if name in ADDED_LATER and name not in saved:
                    continue
                thing.load_state_dict(saved[name])
        except Exception as error:
            reason = _first_line(error)
            raise Refusal(
                f"{path} does not fit what is trained ({reason}): resume with the configs that it was made with"
            ) from error
        if engine.state.epoch >= epochs:
            raise Refusal(
                f"{path} is trained to epoch {engine.state.epoch} already: give a larger --max_epochs than {epochs}"
            )
        if engine.state.epoch_length != length:
            raise Refusal(
                f"{path} has {engine.state.epoch_length} iterations an epoch, this training {length}: "
                f"keep batch_size, patches_per_epoch and the number of processes"
            )
        if self.best.value > float("-inf") and not self.best.latest and not self.best.path.is_file():
            raise Refusal(
                f"{self.best.path}: not there: the best weights so far, of epoch {self.best.epoch}: copy it and {BEST} "
                f"from the folder that {path} was written to, or continue in that folder (--output_dir)"
            )
        engine.state.max_epochs = epochs

    def _save(self, checkpoint: Mapping, filename: str, metadata: Mapping | None = None) -> None:
        # Ignite's Checkpoint would delete the earlier file before writing, were it given a DiskSaver itself
        copies = [self.folder / BEST] if self.best.epoch == self.objects["trainer"].state.epoch else []
        save_atomically(checkpoint, self.folder / filename, *copies)

    def _tidy(self) -> None:
        """Remove what killed trainings left of the writing of these files."""
        if idist.get_rank() == 0 and self.folder.is_dir():
            for path, name in temporary_names(self.folder).items():
                if name in (LAST, BEST, self.best.path.name):
                    remove_temporary(path)


def save_atomically(content: Mapping, path: Path, *copies: Path) -> None:
    """Write a file in the first process: completely, or the earlier file stays.

    Args:
        content: what torch.save takes.
        path: the file; its folder is made where needed.
        copies: files that get the same content. All are written before any is replaced, `path` last, so that a process
            that is killed leaves no `path` that is newer than its copies.

    Raises:
        Refusal: if it cannot be written, as on a full disk.
    """
    if idist.get_rank() != 0:
        return
    try:
        with suppress(FileExistsError):  # a file of this name is no folder, which the writing says
            path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as files:
            first, *others = [files.enter_context(atomic_file(file)) for file in (path, *copies)]
            with first.open("wb") as opened:
                torch.save(content, opened)
            for other in others:
                shutil.copyfile(first, other)
    except (OSError, RuntimeError) as error:  # torch raises RuntimeError where the disk is full
        reason = getattr(error, "strerror", None) or f"{_first_line(error)}; is the disk full?"
        raise Refusal(
            f"{path} cannot be written ({reason}): the earlier file is kept; free some space, then use --resume"
        ) from error


def _first_line(error: Exception) -> str:
    """The first line of an error's message, or its kind where the message is empty."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
