import pytest
import torch

from scripts.geometry.errors import Refusal
from scripts.learning.handlers import save_whole


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    path = tmp_path / "run" / "last.pt"
    save_whole({"epoch": torch.tensor(1)}, path)

    def full(content, file):
        file.write_bytes(b"half of it")
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 5322112 vs 5322000")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(
        Refusal, match=r"last\.pt cannot be written \(.*unexpected pos.*; is the disk full\?\): what was"
    ):
        save_whole({"epoch": torch.tensor(2)}, path)
    assert torch.load(path)["epoch"] == 1
    assert list(path.parent.iterdir()) == [path]


def test_a_checkpoint_needs_a_folder(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(Refusal, match=r"cannot be written \(File exists\)"):
        save_whole({}, tmp_path / "run" / "last.pt")


def test_a_failure_that_says_nothing_is_named_by_its_kind(tmp_path, monkeypatch):
    def silent(content, file):
        raise RuntimeError

    monkeypatch.setattr(torch, "save", silent)
    with pytest.raises(Refusal, match=r"cannot be written \(RuntimeError; is the disk full\?\)"):
        save_whole({}, tmp_path / "last.pt")
