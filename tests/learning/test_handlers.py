import pytest
import torch
from ignite.engine import Engine, Events

from scripts.geometry.errors import Refusal
from scripts.learning.handlers import BestModel, Checkpoints, PauseAfter, save_atomically


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
    Checkpoints(str(tmp_path), {"G": network}, BestModel(network, str(tmp_path / "model.pt"))).attach(engine)
    with pytest.raises(Refusal, match=r"last\.pt cannot be written \(No space left on device\)"):
        engine.run([0], max_epochs=3)
    assert torch.load(tmp_path / "last.pt")["trainer"]["iteration"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


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
