"""Every command of README and tutorials that is meant to be pasted runs: blocks marked `sh` and `python`.

Blocks marked `console` are shown only: they take long, or need more than a scan.
"""

import os
import re
import shutil
import subprocess
import sys

import nibabel
import numpy as np
import pytest

from scripts.dicom.synthetic_series import write_series
from tests.conftest import ROOT

PAGES = ["README.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs" / "tutorial").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KINDS = {"sh", "python", "console"}
AFFINE = np.diag([1.5, 1.5, 5.0, 1.0])


def blocks(page: str) -> list[tuple[str, str]]:
    return BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))


@pytest.fixture
def folder(tmp_path):
    """A folder as a reader of the tutorials has it: a scan, DICOM files in study, BIDS in data, the command `glade`."""
    x, y, z = np.indices((32, 32, 8)) - np.array([16, 16, 4]).reshape(3, 1, 1, 1)
    ball = 200.0 + 600 * ((x / 12) ** 2 + (y / 10) ** 2 + (z / 3.5) ** 2 < 1)
    volume = np.random.default_rng(0).normal(ball, 5).round().astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(volume, AFFINE), tmp_path / "scan.nii.gz")
    write_series(tmp_path / "study" / "t2", volume, AFFINE)
    bids = tmp_path / "data/sub-01/anat/sub-01_T2w.nii.gz"
    bids.parent.mkdir(parents=True)
    shutil.copy(tmp_path / "scan.nii.gz", bids)
    (tmp_path / "data/dataset_description.json").write_text('{"Name": "Test", "BIDSVersion": "1.10.0"}')
    command = tmp_path / "bin" / "glade"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m glade "$@"\n')
    command.chmod(0o755)
    return tmp_path


def test_every_block_is_of_a_known_kind():
    assert {page: {kind for kind, _ in blocks(page)} - KINDS for page in PAGES} == {page: set() for page in PAGES}
    assert sum(kind in ("sh", "python") for page in PAGES for kind, _ in blocks(page)) >= 9


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if any(kind in ("sh", "python") for kind, _ in blocks(page))])
def test_commands_work_as_pasted(page, folder):
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    scripts = [text for kind, text in blocks(page) if kind == "python"]
    runs = [(["sh", "-e", "-c", text], text) for kind, text in blocks(page) if kind == "sh"]
    if scripts:  # as one session
        runs.append(([sys.executable, "-c", "\n".join(scripts)], "\n".join(scripts)))
    for command, text in runs:
        ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, f"{text}\n{ran.stdout}\n{ran.stderr}"
