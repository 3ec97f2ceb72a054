from pathlib import Path

import pytest

from scripts.geometry.files import atomic_file, atomic_folder, plain, write_json, write_text


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


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "series"
    target.mkdir()
    (target / "old").touch()
    with atomic_folder(target) as folder:
        (folder / "new").touch()
        assert (target / "old").exists()
    assert names_in(target) == ["new"]
    assert names_in(tmp_path) == ["series"]


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
