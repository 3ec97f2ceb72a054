import logging

import pytest

from scripts.geometry import progress
from scripts.geometry.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass, by hand."""
    now = [0.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    return now


def lines_of(caplog):
    return [record.getMessage() for record in caplog.records if record.name == progress.__name__]


def test_without_a_terminal_there_is_a_line_at_most_every_30_seconds(caplog, clock, capsys):
    with caplog.at_level(logging.INFO), Progress(total=200, desc="planes") as bar:
        for _ in range(200):
            clock[0] += 1.0
            bar.update(1)
    assert lines_of(caplog) == [
        f"planes: {done} of 200 after {done // 60:02}:{done % 60:02}, about {left // 60:02}:{left % 60:02} left"
        for done, left in ((30, 170), (60, 140), (90, 110), (120, 80), (150, 50), (180, 20))
    ]
    assert capsys.readouterr() == ("", "")


def test_short_work_and_hidden_work_write_nothing(caplog, clock, capsys):
    with caplog.at_level(logging.INFO):
        for _ in Progress(range(29), desc="cases"):
            clock[0] += 1.0
        for _ in Progress(range(100), desc="cases", show=False):
            clock[0] += 1.0
    assert lines_of(caplog) == []
    assert capsys.readouterr() == ("", "")


def test_a_loop_of_unknown_length_says_what_is_done(caplog, clock):
    with caplog.at_level(logging.INFO):
        for _ in Progress(iter(range(40)), desc="cases"):
            clock[0] += 1.0
    assert lines_of(caplog) == ["cases: 30 after 00:30"]


def test_on_a_terminal_there_is_a_bar(caplog, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with caplog.at_level(logging.INFO):
        assert list(Progress(range(3), desc="cases")) == [0, 1, 2]
    assert lines_of(caplog) == []
    assert "3/3" in capsys.readouterr().err
