from scripts.dicom.discovery import survey
from scripts.dicom.list import main, table
from scripts.dicom.synthetic_series import write_series

from .conftest import AFFINES, phantom


def test_the_table_lists_every_volume_and_why_it_is_refused(tmp_path, series, capsys):
    write_series(tmp_path / "few", phantom((8, 8, 3)), AFFINES["sagittal"], series_number=2)
    (tmp_path / "notes.txt").write_text("x")
    assert main([str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["series", "case", "size"]
    assert "001_T2_TSE" in lines[1]
    assert "oblique" in lines[1]
    assert "yes (gap of 0.6 mm between slices)" in lines[1]
    assert "no: 3 slices; at least 5 are needed" in lines[2]
    assert lines[3].startswith("2 volume(s), 1 usable; 1 other file(s)")


def test_the_table_names_no_patient(tmp_path, series):
    text = table(survey(tmp_path))
    assert "PHANTOM" not in text.upper()


def test_the_exit_code_is_0_where_a_volume_is_usable(tmp_path, capsys):
    assert main([str(tmp_path)]) == 1
    assert main([]) == 2
    assert "PATH" in capsys.readouterr().out


def test_pixel_sizes_are_in_the_order_of_the_matrix_size(tmp_path):
    write_series(tmp_path, phantom((36, 30, 7)), AFFINES["non-square pixels"])  # columns 1.3 mm apart, rows 0.7 mm
    assert table(survey(tmp_path)).splitlines()[1].split()[2:4] == ["36x30x7", "1.3x0.7"]
