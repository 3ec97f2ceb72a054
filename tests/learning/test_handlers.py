import io
import itertools
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from scripts.geometry.errors import Refusal
from scripts.learning.handlers import (
    BestModel,
    CheckOutcome,
    Checkpoints,
    PauseAfter,
    PlanesToTensorBoard,
    StopAfter,
    WarmUpAverage,
    save_atomically,
)


def test_a_checkpoint_that_cannot_be_written_leaves_the_earlier_one(tmp_path, monkeypatch):
    path = tmp_path / "run" / "last.pt"
    save_atomically({"epoch": torch.tensor(1)}, path)

    def full(content, file):
        file.write(b"half of it")
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 5322112 vs 5322000")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(
        Refusal, match=r"last\.pt cannot be written \(.*unexpected pos.*; is the disk full\?\): the earlier file is"
    ):
        save_atomically({"epoch": torch.tensor(2)}, path)
    assert torch.load(path)["epoch"] == 1
    assert list(path.parent.iterdir()) == [path]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(Refusal, match=r"cannot be written \(Not a directory\)"):
        save_atomically({}, tmp_path / "run" / "last.pt")


def test_an_error_without_a_message_is_named_by_its_kind(tmp_path, monkeypatch):
    def silent(content, file):
        raise RuntimeError

    monkeypatch.setattr(torch, "save", silent)
    with pytest.raises(Refusal, match=r"cannot be written \(RuntimeError; is the disk full\?\)"):
        save_atomically({}, tmp_path / "last.pt")


def test_a_full_disk_ends_the_training_and_keeps_the_earlier_checkpoint(tmp_path, monkeypatch):
    save = torch.save

    def full_at_the_second_epoch(content, file):
        if content["trainer"]["iteration"] > 1:
            raise OSError(28, "No space left on device")
        save(content, file)

    monkeypatch.setattr(torch, "save", full_at_the_second_epoch)
    engine = Engine(lambda *_: None)
    engine.scaling = torch.amp.GradScaler("cpu", enabled=False)
    network = torch.nn.Linear(1, 1)
    best = BestModel(network, str(tmp_path / "model.pt"), interpolation=Engine(lambda *_: None))
    Checkpoints(str(tmp_path), {"G": network}, best).attach(engine)
    with pytest.raises(Refusal, match=r"last\.pt cannot be written \(No space left on device\)"):
        engine.run([0], max_epochs=3)
    assert torch.load(tmp_path / "last.pt")["trainer"]["iteration"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


class Killed(BaseException):
    """As if the process were killed."""


@pytest.mark.parametrize("replaced", range(6))
def test_the_best_checkpoint_is_never_older_than_the_last_one_says(tmp_path, monkeypatch, replaced):
    """A training of three epochs, the first and the third the best, is killed after any of its replacements."""
    engine = Engine(lambda *_: None)
    engine.scaling = torch.amp.GradScaler("cpu", enabled=False)
    network = torch.nn.Linear(1, 1)
    best = BestModel(network, str(tmp_path / "model.pt"), interpolation=Engine(lambda *_: None))
    engine.add_event_handler(
        Events.EPOCH_COMPLETED(event_filter=lambda _, epoch: epoch != 2),
        lambda e: setattr(best, "epoch", e.state.epoch),
    )
    Checkpoints(str(tmp_path), {"G": network}, best).attach(engine)
    done, replace = [], Path.replace

    def replace_until_killed(path, target):
        if len(done) == replaced:
            raise Killed
        done.append(target.name)
        return replace(path, target)

    with monkeypatch.context() as during, pytest.raises(Killed) if replaced < 5 else nullcontext():
        during.setattr(Path, "replace", replace_until_killed)
        engine.run([0], max_epochs=3)
    assert done == ["best.pt", "last.pt", "last.pt", "best.pt", "last.pt"][:replaced]
    if (tmp_path / "last.pt").exists():
        last, kept = torch.load(tmp_path / "last.pt"), torch.load(tmp_path / "best.pt")
        assert kept["best"]["epoch"] == kept["trainer"]["iteration"] >= last["best"]["epoch"]


def test_what_killed_trainings_left_is_removed_when_one_starts(tmp_path):
    for name in (".last.pt.0123abcd.partial", ".model.pt.0123abcd.partial", ".other.pt.0123abcd.partial"):
        (tmp_path / name).write_text("half")
    engine = Engine(lambda *_: None)
    engine.scaling = torch.amp.GradScaler("cpu", enabled=False)
    network = torch.nn.Linear(1, 1)
    best = BestModel(network, str(tmp_path / "model.pt"), interpolation=Engine(lambda *_: None))
    Checkpoints(str(tmp_path), {"G": network}, best).attach(engine)
    engine.run([0], max_epochs=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.pt.0123abcd.partial", "last.pt"]


def test_a_call_pauses_after_its_epochs_and_the_next_resumes():
    epochs, state = [], None
    for _ in range(3):
        engine = Engine(lambda _engine, _batch: None)
        PauseAfter(2).attach(engine)
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: epochs.append(e.state.epoch))  # as a checkpoint
        if state is not None:
            engine.load_state_dict(state)
        engine.run([0, 1, 2], max_epochs=5)
        state = engine.state_dict()
        epochs.append("pause")
    assert epochs == [1, 2, "pause", 3, 4, "pause", 5, "pause"]


def test_a_call_of_no_epoch_is_refused():
    with pytest.raises(Refusal, match="1 epoch at least"):
        PauseAfter(0)


def validation(value: float) -> Engine:
    """Return an evaluator that finds a PSNR of `value`, as MONAI's evaluators report theirs."""
    engine = Engine(lambda *_: None)
    engine.state.key_metric_name = "val_psnr"
    engine.add_event_handler(Events.COMPLETED, lambda e: e.state.metrics.update(val_psnr=value))
    engine.run, run = lambda *_: run([0]), engine.run
    return engine


@pytest.mark.parametrize(
    ("psnr", "latest", "warned"), [(30.05, False, True), (30.5, False, False), (29.0, True, False)]
)
def test_weights_that_hardly_differ_from_interpolation_are_warned_of(tmp_path, caplog, psnr, latest, warned):
    best = BestModel(torch.nn.Linear(1, 1), str(tmp_path / "model.pt"), validation(30.0), latest)
    validator, trainer = validation(psnr), Engine(lambda *_: None)
    best.attach(validator)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda _: validator.run())
    CheckOutcome(best).attach(trainer)
    with caplog.at_level("INFO"):
        trainer.run([0, 1])
    assert f"val_psnr {psnr:.3f} dB, {psnr - 30:+.3f} over interpolation; saved in" in caplog.text
    assert ("hardly better than interpolation" in caplog.text) == warned


def test_a_time_limit_within_the_first_epoch_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("scripts.learning.handlers.time.monotonic", itertools.count(0, 40).__next__)
    best = BestModel(torch.nn.Linear(1, 1), str(tmp_path / "model.pt"), validation(30.0))
    trainer = Engine(lambda *_: None)
    StopAfter(1).attach(trainer)
    CheckOutcome(best).attach(trainer)
    with pytest.raises(Refusal, match=r"no weights were written: .* give more minutes, or fewer patches_per_epoch"):
        trainer.run(range(100))
    assert trainer.state.iteration < 10


def test_a_last_epoch_without_a_validation_is_refused(tmp_path):
    best = BestModel(torch.nn.Linear(1, 1), str(tmp_path / "model.pt"), validation(30.0))
    trainer = Engine(lambda *_: None)
    CheckOutcome(best, interval=2).attach(trainer)
    with pytest.raises(Refusal, match=r"val_interval must divide max_epochs = 3, .* got 2"):
        trainer.run([0], max_epochs=3)
    assert trainer.state.iteration == 0
    with pytest.raises(Refusal, match="val_interval must be a whole number of epochs from 1, got 0"):
        CheckOutcome(best, interval=0)


@pytest.mark.parametrize("first_is_over", [False, True])
def test_the_clock_of_the_first_process_decides_for_all(monkeypatch, first_is_over):
    own_time = itertools.count(0, 1 if first_is_over else 1000).__next__
    monkeypatch.setattr("scripts.learning.handlers.time.monotonic", own_time)
    monkeypatch.setattr("scripts.learning.handlers.idist.broadcast", lambda _own, **_: float(first_is_over))
    trainer = Engine(lambda *_: None)
    StopAfter(1).attach(trainer)
    trainer.run(range(5))
    assert trainer.state.iteration == (1 if first_is_over else 5)


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_pause_before_the_first_validation_is_no_failure(tmp_path, epochs):
    best = BestModel(torch.nn.Linear(1, 1), str(tmp_path / "model.pt"), validation(30.0))
    trainer = Engine(lambda *_: None)
    PauseAfter(epochs).attach(trainer)
    CheckOutcome(best).attach(trainer)
    if epochs == 1:
        trainer.run([0], max_epochs=2)
        assert trainer.state.epoch == 1
    else:  # that is the end of the training
        with pytest.raises(Refusal, match="no weights were written"):
            trainer.run([0], max_epochs=2)


def test_the_running_average_follows_a_short_training():
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(network.weight)
    ema, momenta = EMAHandler(network, momentum=0.001), []

    def train(engine, _):
        momenta.append(engine.state.ema_momentum)
        with torch.no_grad():
            network.weight += 1

    engine = Engine(train)
    WarmUpAverage(0.001).attach(engine)
    ema.attach(engine)
    engine.run([0], max_epochs=30)
    assert momenta[0] == pytest.approx(9 / 11)
    assert 25 < float(ema.ema_model.weight) < 30  # at 0.001 throughout it would be 0.46
    engine.run([0], max_epochs=9_000)
    assert momenta[-1] == 0.001


def test_planes_are_written_side_by_side_with_labels(tmp_path):
    planes = {"image": torch.zeros(1, 20, 80), "pred": torch.full((1, 20, 80), 0.5), "label": torch.ones(1, 20, 80)}
    evaluator = Engine(lambda *_: [planes] * 3)
    handler = PlanesToTensorBoard(str(tmp_path), planes=2)
    handler.attach(evaluator)
    evaluator.run([0])
    handler.close()
    events = EventAccumulator(str(tmp_path), size_guidance={"images": 0}).Reload()
    (shown,) = events.Images("validation/planes")
    picture = np.asarray(Image.open(io.BytesIO(shown.encoded_image_string)).convert("L"))
    assert picture.shape == (PlanesToTensorBoard.LABEL_PIXELS + 2 * 20, 3 * 80)
    label, below = picture[: PlanesToTensorBoard.LABEL_PIXELS], picture[PlanesToTensorBoard.LABEL_PIXELS :]
    assert [int(panel.mean()) for panel in np.split(below, 3, axis=1)] == [0, 127, 255]
    assert all(panel.max() > 200 for panel in np.split(label, 3, axis=1))  # text


@pytest.mark.parametrize("latest", [False, True])
def test_a_training_is_not_resumed_without_its_best_weights(tmp_path, latest):
    """In another folder than before, or where the checkpoint alone was copied, nothing would hold the best weights."""

    def checkpoints(folder):
        best = BestModel(torch.nn.Linear(1, 1), str(tmp_path / folder / "model.pt"), validation(30.0), latest)
        best.value, best.epoch = 31.0, 1
        found, engine = Checkpoints(str(tmp_path / folder), {}, best), Engine(lambda *_: None)
        engine.scaling = torch.amp.GradScaler("cpu", enabled=False)
        found.attach(engine)
        return found, engine

    _, engine = checkpoints("before")
    engine.run([0], max_epochs=1)
    path = str(tmp_path / "before" / "last.pt")
    found, engine = checkpoints("after")
    engine.data_loader, engine.state.max_epochs = [0], 2
    line = r"after/model.pt: not there: .* of epoch 1: copy it"
    with nullcontext() if latest else pytest.raises(Refusal, match=line):
        found.resume(engine, path)
    (tmp_path / "after").mkdir()
    (tmp_path / "after" / "model.pt").touch()
    engine.state.max_epochs = 2
    found.resume(engine, path)


@pytest.mark.parametrize("name", ["last.pt", "best.pt"])
def test_a_damaged_checkpoint_is_not_resumed_from(tmp_path, name):
    network = torch.nn.Linear(30, 20)
    checkpoints = Checkpoints(
        str(tmp_path), {"G": network}, BestModel(network, str(tmp_path / "model.pt"), validation(30.0))
    )
    engine = Engine(lambda *_: None)
    engine.scaling = torch.amp.GradScaler("cpu", enabled=False)
    checkpoints.attach(engine)
    engine.run([0], max_epochs=1)
    engine.data_loader, engine.state.max_epochs = [0], 2
    path = tmp_path / "last.pt"
    content = bytearray(path.read_bytes())
    place = content.index(network.weight.detach().numpy().tobytes())
    (tmp_path / name).write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(Refusal, match=rf"{name}: damaged \(the checksum of .* does not match\)"):
        checkpoints.resume(engine, str(tmp_path / name))
