"""Every command of README and tutorials that is meant to be pasted runs: blocks marked `sh` and `python`.

Blocks marked `console` are not run: they take long, or need more than a scan. Of these, and of the commands that other
pages show, it is checked that target, module, config and settings exist.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec

import nibabel
import numpy as np
import pytest
from monai.bundle import ConfigParser

from glade import cli
from scripts.dicom.synthetic_series import write_series
from scripts.run.keys import literal, refuse_unknown_keys
from tests.conftest import ROOT

PAGES = ["README.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs" / "tutorial").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KINDS = {"sh", "python", "console"}
EVERY_PAGE = [
    "CONTRIBUTING.md",
    "SECURITY.md",
    *sorted({*PAGES, *(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))}),
]
COMMAND = re.compile(r"^(?: {4})?(?:\$ )?((?:python3? -m|glade|make|torchrun) .*)$", re.MULTILINE)
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


def commands(page: str) -> list[list[str]]:
    """The commands of a page, in words; lines that a backslash continues are one."""
    text = (ROOT / page).read_text("utf-8").replace("\\\n", " ")
    return [[word for word in shlex.split(line, comments=True) if word != "..."] for line in COMMAND.findall(text)]


def problem(command: list[str]) -> str | None:
    """What is wrong with a command, as far as its names tell."""
    if command[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return next((f"no target {w}" for w in command[1:] if "=" not in w and w not in targets), None)
    if command[0] == "glade":
        group = cli.commands.commands
        named = group.get(command[1], group[cli.DEFAULT])
        known = {option.replace("_", "-") for part in named.params for option in part.opts} | {
            "--help",
            "--version",
            "-h",
        }
        return next(
            (f"no option {w}" for w in command[1:] if w.startswith("-") and w.replace("_", "-") not in known), None
        )
    command = command[command.index("-m") + 1 :]
    if command[:2] != ["monai.bundle", "run"]:
        return None if find_spec(command[0]) else f"no module {command[0]}"
    given = {w.removeprefix("--"): v for w, v in zip(command, [*command[1:], ""], strict=True) if w.startswith("--")}
    files = literal(given.pop("config_file"))
    written = given.pop(command[2], None)  # a workflow may stand on the command line itself
    config = ConfigParser.load_config_files([ROOT / name for name in ([files] if isinstance(files, str) else files)])
    refuse_unknown_keys(given, config)
    return None if command[2] in config or written else f"no workflow {command[2]}"


@pytest.mark.parametrize("page", [page for page in EVERY_PAGE if commands(page)])
def test_what_a_command_names_is_there(page):
    found = {
        " ".join(command): problem(command)
        for command in commands(page)
        if "--config_file" in command or "monai.bundle" not in command
    }
    assert {command: wrong for command, wrong in found.items() if wrong} == {}


def test_most_pages_with_commands_are_checked():
    assert len([page for page in EVERY_PAGE if commands(page)]) >= 10
