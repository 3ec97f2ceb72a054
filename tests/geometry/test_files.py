import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from scripts.geometry import files
from scripts.geometry.files import (
    atomic_file,
    atomic_folder,
    plain,
    remove_temporary,
    temporary_names,
    write_json,
    write_text,
)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_as_a_whole_with_its_permissions(tmp_path):
    path = tmp_path / "key.json"
    path.write_text("old", encoding="utf-8")
    assert write_text(path, "new", mode=0o600) == path
    assert path.read_text(encoding="utf-8") == "new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_has_the_permissions_that_open_would_give(tmp_path):
    (tmp_path / "by_open").write_text("", encoding="utf-8")
    path = write_text(tmp_path / "by_us", "")
    assert path.stat().st_mode == (tmp_path / "by_open").stat().st_mode


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "page.html"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "half \ud800")
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_file_do_not_share_a_temporary_name(tmp_path):
    with atomic_file(tmp_path / "a") as first, atomic_file(tmp_path / "a") as second:
        assert first != second
        first.write_text("first", encoding="utf-8")
        second.write_text("second", encoding="utf-8")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "first"  # the inner one ended first


def test_a_long_name_is_written_too(tmp_path):
    path = tmp_path / ("n" * 240)
    write_text(path, "x")
    assert names_in(tmp_path) == [path.name]


@pytest.fixture(params=["one step", "two steps"])
def steps(request, monkeypatch):
    """Both ways to replace a folder: as Linux can, and as other systems can."""
    if request.param == "two steps":
        monkeypatch.setattr(files, "_exchange", lambda *_: False)
    return request.param


def test_a_folder_is_replaced_as_a_whole(tmp_path, steps):
    target = tmp_path / "series"
    target.mkdir()
    (target / "old").touch()
    with atomic_folder(target) as folder:
        (folder / "new").touch()
        assert (target / "old").exists()
    assert names_in(target) == ["new"]
    assert names_in(tmp_path) == ["series"]


@pytest.mark.skipif(sys.platform != "linux", reason="an exchange in one step is Linux's")
def test_two_folders_are_exchanged_in_one_step(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert files._exchange(tmp_path / "a", tmp_path / "b")
    assert names_in(tmp_path / "a") == ["b"]
    assert not files._exchange(tmp_path / "a", tmp_path / "c")


def test_a_link_to_a_folder_is_replaced_and_the_folder_stays(tmp_path, steps):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "old").touch()
    (tmp_path / "series").symlink_to("elsewhere")
    with atomic_folder(tmp_path / "series") as folder:
        (folder / "new").touch()
    assert names_in(tmp_path / "series") == ["new"]
    assert names_in(tmp_path) == ["elsewhere", "series"]
    assert names_in(tmp_path / "elsewhere") == ["old"]


def test_a_file_in_place_of_the_folder_stays(tmp_path, steps):
    (tmp_path / "series").write_text("a file is in the way", encoding="utf-8")
    with pytest.raises(NotADirectoryError), atomic_folder(tmp_path / "series") as folder:
        (folder / "new").touch()
    assert names_in(tmp_path) == ["series"]
    assert (tmp_path / "series").is_file()


class Killed(BaseException):
    """As if the process were killed: nothing tidies up."""


@pytest.mark.parametrize("at", [1, 2])
def test_a_process_killed_while_it_replaces_a_folder_loses_neither(tmp_path, monkeypatch, at):
    """In two steps: before each of the renames, and after both."""
    target, renamed, rename = tmp_path / "series", [], Path.rename
    target.mkdir()
    (target / "old").touch()

    def rename_until_killed(path, other):
        renamed.append(path)
        if len(renamed) > at:
            raise Killed
        rename(path, other)

    monkeypatch.setattr(files, "_exchange", lambda *_: False)
    monkeypatch.setattr(files, "_remove", lambda _: None)
    with monkeypatch.context() as during, pytest.raises(Killed) if at == 1 else nullcontext():
        during.setattr(Path, "rename", rename_until_killed)
        with atomic_folder(target) as folder:
            (folder / "new").touch()
    monkeypatch.undo()
    assert set(temporary_names(tmp_path).values()) == {"series"}
    for path in temporary_names(tmp_path):
        remove_temporary(path)
    assert names_in(tmp_path) == ["series"]
    assert names_in(target) == (["old"] if at == 1 else ["new"])


def test_only_our_own_temporary_names_are_known(tmp_path):
    (tmp_path / ".movie.partial").touch()
    (tmp_path / "a.0123abcd.partial").touch()
    with atomic_file(tmp_path / "a.json") as file:
        assert temporary_names(tmp_path) == {file: "a.json"}


def test_a_folder_that_fails_leaves_what_was_there(tmp_path):
    target = tmp_path / "series"
    target.mkdir()
    (target / "old").touch()
    with pytest.raises(FileNotFoundError), atomic_folder(target) as folder:
        (folder / "no such folder" / "new").touch()
    assert names_in(target) == ["old"]
    assert names_in(tmp_path) == ["series"]


def test_json_holds_no_number_that_is_not_finite(tmp_path):
    write_json(tmp_path / "a.json", {"a": float("nan"), 1: (2.0,)})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n "a": null,\n "1": [\n  2.0\n ]\n}\n'
    assert plain({"path": tmp_path}) == {"path": str(tmp_path)}
