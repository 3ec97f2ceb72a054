import pytest

from scripts.geometry.errors import Refusal
from scripts.run.locks import run_alone


def test_one_training_at_a_time_runs_in_a_folder(tmp_path):
    folder, ran = tmp_path / "runs" / "train", []

    def second():
        ran.append("second")

    def first():
        with pytest.raises(Refusal, match="another process is training there"):
            run_alone(str(folder), second)
        ran.append("first")

    run_alone(str(folder), first)
    run_alone(str(folder), second)
    assert ran == ["first", "second"]
    assert list(folder.iterdir()) == []


def test_a_training_in_a_file_is_refused(tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(Refusal, match="cannot be written to"):
        run_alone(str(tmp_path / "runs"), lambda: None)
