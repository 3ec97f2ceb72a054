"""Handlers of the training workflow that neither MONAI nor Ignite has."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from ignite.handlers import BasicTimeProfiler, ProgressBar, TimeLimit
from torch.utils.tensorboard import SummaryWriter

from ..geometry.errors import Refusal

SHORTEST_S = 1e-9  # seconds; keeps an epoch that took no measurable time from dividing by 0


class SetEpoch:
    """Tells the patch dataset which epoch begins, so that an epoch's patches depend on its number and the seed alone.

    Args:
        dataset: has `set_epoch`.
    """

    def __init__(self, dataset):
        self.dataset = dataset

    def attach(self, engine: Engine) -> None:
        """Call `set_epoch` when an epoch starts."""
        engine.add_event_handler(Events.EPOCH_STARTED, lambda e: self.dataset.set_epoch(e.state.epoch))


class ProgressOfLosses:
    """Ignite's progress bar with every named loss of the iteration; on the first rank alone."""

    def attach(self, engine: Engine) -> None:
        """Attach the bar."""
        if idist.get_rank() == 0:
            ProgressBar(persist=True).attach(engine, output_transform=lambda losses: losses)


class LossesToTensorBoard:
    """Writes every named loss and the learning rate of the iteration to TensorBoard; on the first rank alone.

    Args:
        log_dir: folder of the event files.
        optimizers: name to optimiser, whose learning rates are written.
        interval: iterations between two entries.
    """

    def __init__(self, log_dir: str, optimizers: Mapping[str, torch.optim.Optimizer], interval: int = 10):
        self.log_dir, self.optimizers, self.interval = log_dir, dict(optimizers), interval

    def attach(self, engine: Engine) -> None:
        """Open the event file when training starts, and write."""
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.STARTED, self._open)
            engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.interval), self._write)
            engine.add_event_handler(Events.COMPLETED | Events.EXCEPTION_RAISED, self._close)

    def _open(self, engine: Engine) -> None:
        self.writer = SummaryWriter(self.log_dir)

    def _write(self, engine: Engine) -> None:
        for name, value in engine.state.output.items():
            self.writer.add_scalar(f"loss/{name}", value, engine.state.iteration)
        for name, optimizer in self.optimizers.items():
            self.writer.add_scalar(f"learning_rate/{name}", optimizer.param_groups[0]["lr"], engine.state.iteration)

    def _close(self, engine: Engine, error: BaseException | None = None) -> None:
        self.writer.close()
        if error is not None:  # Ignite hands an exception to its handlers instead of raising it
            raise error


class PlanesToTensorBoard:
    """Shows planes of a validation's last batch side by side: U b, the answer, the truth; on the first rank alone.

    Args:
        log_dir: folder of the event files.
        planes: how many, one below the other.
    """

    def __init__(self, log_dir: str, planes: int = 4):
        self.log_dir, self.planes = log_dir, planes

    def attach(self, engine: Engine) -> None:
        """Write when the evaluator has run."""
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.COMPLETED, self._write)

    def _write(self, engine: Engine) -> None:
        shown = engine.state.output[: self.planes]
        rows = [torch.cat([item[key] for key in ("image", "pred", "label")], dim=-1) for item in shown]
        with SummaryWriter(self.log_dir) as writer:
            picture = torch.cat(rows, dim=-2).clamp(0, 1).cpu()
            writer.add_image("validation/interpolated_answer_truth", picture, engine.state.epoch)


class LogDataWait:
    """Logs after each epoch which share of its time the iterations waited for patches (Ignite's time profiler)."""

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
        engine.logger.info(f"epoch {engine.state.epoch}: {share:.1%} of the time waited for data")


class CheckWeightsInSync:
    """Makes sure after each epoch that all processes hold the same weights; for one process it does nothing.

    Args:
        networks: name to network.
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
    """Ends the training when its time is over (Ignite's TimeLimit); the epoch in hand is not finished.

    Args:
        minutes: from the first iteration.
    """

    def __init__(self, minutes: float):
        if not minutes > 0:
            raise Refusal(f"the time limit must be more than 0 minutes, got {minutes}")
        self.minutes = minutes

    def attach(self, engine: Engine) -> None:
        """Start the clock when training starts."""
        seconds = max(1, round(60 * self.minutes))
        engine.add_event_handler(
            Events.STARTED, lambda e: e.add_event_handler(Events.ITERATION_COMPLETED, TimeLimit(seconds))
        )


class ValidateFirst:
    """Validates once before the first iteration, so that weights that were given are among those to choose from.

    Args:
        validator: the evaluator.
        best: keeps the best weights.
    """

    def __init__(self, validator, best: "BestModel"):
        self.validator, self.best = validator, best
        self.begun: float | None = None  # unknown to a training that is resumed

    def attach(self, engine: Engine) -> None:
        """Validate when training starts; say in the end whether anything better was found."""
        engine.add_event_handler(Events.STARTED, self._first)
        engine.add_event_handler(Events.COMPLETED, self._tell)

    def _first(self, engine: Engine) -> None:
        if engine.state.epoch == 0:
            self.validator.run(1)
            self.best.epoch, self.begun = 0, self.best.value

    def _tell(self, engine: Engine) -> None:
        if self.begun is None:
            return
        gain = self.best.value - self.begun
        found = f"improved by {gain:.3f}, epoch {self.best.epoch}" if gain > 0 else "not improved: kept as they were"
        engine.logger.info(f"the weights this training began with: {found}")


class BestModel:
    """Keeps the bare weights of a network whenever a validation is the best so far; remembers it through a resume.

    Args:
        network: the network whose weights are kept.
        path: the file; replaced whole, never half-written.
        latest: keep the weights of every validation instead: an adversary lowers fidelity by design, so the best
            would be the first.
    """

    def __init__(self, network: torch.nn.Module, path: str, latest: bool = False):
        self.network, self.path, self.latest = network, Path(path), latest
        self.value, self.epoch = float("-inf"), 0

    def attach(self, engine: Engine) -> None:
        """Look at the evaluator's key metric when it has run."""
        engine.add_event_handler(Events.COMPLETED, self._keep)

    def _keep(self, engine: Engine) -> None:
        name = engine.state.key_metric_name
        value = float(engine.state.metrics[name])
        engine.logger.info(f"epoch {engine.state.epoch}: {name} {value:.4f}, best before {self.value:.4f}")
        if value > self.value or self.latest:
            self.value, self.epoch = value, engine.state.epoch
            if idist.get_rank() == 0:
                save_whole({name: tensor.cpu() for name, tensor in self.network.state_dict().items()}, self.path)

    def state_dict(self) -> dict:
        """The best value and its epoch."""
        return {"value": self.value, "epoch": self.epoch}

    def load_state_dict(self, state: Mapping) -> None:
        """Continue from `state_dict`."""
        self.value, self.epoch = float(state["value"]), int(state["epoch"])


class Checkpoints:
    """Saves everything after each epoch (last.pt) and after the best one (best.pt), and continues from there exactly.

    Args:
        folder: where the files go; each is replaced whole, never half-written.
        objects: name to anything with `state_dict` and `load_state_dict`; the trainer is added when attached.
        best: knows the epoch of the best validation; one of the objects too.
    """

    def __init__(self, folder: str, objects: Mapping[str, object], best: BestModel):
        self.folder, self.objects, self.best = Path(folder), {**objects, "best": best}, best

    def attach(self, engine: Engine) -> None:
        """Save when an epoch is over, validation included; the first rank writes."""
        self.objects |= {"trainer": engine, "scaling": engine.scaling}
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)

    def resume(self, engine: Engine, path: str | None) -> None:
        """Load a file that this class wrote; None starts anew.

        Raises:
            Refusal: if the file is missing or does not fit what is trained.
        """
        if path is None:
            return
        if not Path(path).is_file():
            raise Refusal(f"{path}: no such checkpoint to resume from; leave --resume out to start anew")
        epochs, length = engine.state.max_epochs, len(engine.data_loader)
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
            for name, thing in self.objects.items():
                thing.load_state_dict(saved[name])
        except Exception as error:
            reason = _first_line(error)
            raise Refusal(
                f"{path} does not fit what is trained ({reason}): resume with the configs that it was made with"
            ) from error
        if engine.state.epoch >= epochs:
            raise Refusal(
                f"{path} is trained to epoch {engine.state.epoch} already: give a larger max_epochs than {epochs}"
            )
        if engine.state.epoch_length != length:
            raise Refusal(
                f"{path} has {engine.state.epoch_length} iterations an epoch, this training {length}: "
                f"keep batch_size, patches_per_epoch and the number of processes"
            )
        engine.state.max_epochs = epochs

    def _save(self, engine: Engine) -> None:
        if idist.get_rank() == 0:
            content = {name: thing.state_dict() for name, thing in self.objects.items()}
            save_whole(content, self.folder / "last.pt")
            if self.best.epoch == engine.state.epoch:
                save_whole(content, self.folder / "best.pt")


def save_whole(content, path: Path) -> None:
    """torch.save under a temporary name, then a rename: the file is whole or the old one.

    Raises:
        Refusal: if it cannot be written, as on a full disk.
    """
    partial = path.with_suffix(path.suffix + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, partial)
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch says RuntimeError where the disk is full
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or f"{_first_line(error)}; is the disk full?"
        raise Refusal(
            f"{path} cannot be written ({reason}): what was there before is kept; make room, then go on with --resume"
        ) from error


def _first_line(error: Exception) -> str:
    """What an error says, shortly; its kind where it says nothing."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
