import pytest

from scripts.geometry.files import write_whole


def test_a_file_is_replaced_as_a_whole_with_its_permissions(tmp_path):
    path = tmp_path / "key.json"
    path.write_text("old", encoding="utf-8")
    (tmp_path / ".key.json.partial").write_text("left over, and longer", encoding="utf-8")
    assert write_whole(path, "new", mode=0o600) == path
    assert path.read_text(encoding="utf-8") == "new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "page.html"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "half \ud800")
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]
