"""Paths that cannot be looked up are refused in one line."""

import os

import pytest

from glade.cli import refuse_unwritable
from scripts.geometry.errors import Refusal
from scripts.geometry.folders import existing_paths


def test_a_name_that_is_too_long_is_refused():
    with pytest.raises(Refusal, match=r"cannot be looked up \(file name too long\): give another path"):
        existing_paths("a" * 300)


def test_an_output_folder_whose_name_is_too_long_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"cannot be looked up \(file name too long\): give another path"):
        refuse_unwritable(tmp_path / ("a" * 300))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user here")
def test_a_folder_that_must_not_be_entered_is_refused(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o700)
    os.seteuid(65534)
    try:
        with pytest.raises(Refusal, match=r"cannot be looked up \(permission denied\)"):
            existing_paths(tmp_path / "closed/scan.nii")
    finally:
        os.seteuid(0)
