"""docs/dicom.md: every table in it was written by its command."""

import re

import pytest

from benchmarks.dicom_page import PAGE, filled


def test_every_table_of_the_page_is_filled_by_its_command():
    page = PAGE.read_text(encoding="utf-8")
    names = re.findall(r"<!-- begin (\w+) -->", page)
    assert names == ["dicom_folders", "dicom_oracles", "dicom_fuzz", "nifti_fuzz", "dicom_speed"]
    for name in names:
        section = page.split(f"<!-- begin {name} -->")[1].split(f"<!-- end {name} -->")[0]
        assert re.search(rf"`python -m benchmarks\.{name}`, \d{{4}}-\d\d-\d\d, .+ cores:", section), name


def test_a_section_is_replaced_and_an_unknown_one_refused():
    page = "a\n<!-- begin x -->\nold\n<!-- end x -->\nb"
    assert filled(page, "x", "new\n", "today:") == (
        "a\n<!-- begin x -->\ntoday:\n\n```text\nnew\n```\n<!-- end x -->\nb"
    )
    with pytest.raises(ValueError, match="no section y"):
        filled(page, "y", "new", "today:")
