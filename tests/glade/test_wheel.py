"""The wheel in an environment of its own: one package, one command, from any folder, results as in the checkout.

The environment borrows torch and the other dependencies from the one that runs the tests.
"""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from scripts.phantom.files import make_scan, write_scan
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
QUICK = {"views": "[1]", "rotations_deg": "[0]"}  # a quarter of the time


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Path:
    """Its folder; the wheel is built as `make wheel` builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT], check=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env")
    # a .pth file puts a folder behind everything installed here; site's own files in it are not read
    (packages(folder / "env") / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    python = folder / "env/bin/python"
    subprocess.run([*pip, "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
    return folder / "env"


def packages(environment: Path) -> Path:
    return next(environment.glob("lib/python*/site-packages"))


@pytest.fixture(scope="module")
def scan(tmp_path_factory) -> Path:
    phantom = make_scan((32, 32, 32), spacing_mm=3.0, slice_spacing_mm=6.0)
    return write_scan(phantom, tmp_path_factory.mktemp("phantom"))[0]


def run(*command, cwd: Path, code: int = 0) -> subprocess.CompletedProcess:
    """The command in a folder that is no bundle, without what the tests put on Python's path."""
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(list(map(str, command)), cwd=cwd, env=alone, capture_output=True, text=True, check=False)
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended


def results(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.rglob("*.nii.gz")}


def test_nothing_but_glade_lands_in_site_packages(environment):
    found = {path.name for path in packages(environment).iterdir()} - {"borrowed.pth"}
    assert "glade" in found
    assert [name for name in found if name != "glade" and not name.startswith("glade_mri-")] == []
    bundle = packages(environment) / "glade" / "bundle"
    assert {path.name for path in bundle.iterdir()} == {
        "configs",
        "models",
        "scripts",
        "metadata.json",
        "LICENSE",
        "docs",
    }


def test_the_command_works_from_any_folder_and_gives_what_monai_bundle_gives(environment, scan, tmp_path):
    settings = [part for key, value in QUICK.items() for part in ("--set", f"{key}={value}")]
    glade = environment / "bin" / "glade"
    assert run(glade, "--version", cwd=tmp_path).stdout.startswith("glade, version ")
    run(glade, "-i", scan, "-o", "out", *settings, cwd=tmp_path)
    assert json.loads((tmp_path / "out/summary.json").read_text())["counts"] == {"done": 1}
    config = packages(environment) / "glade/bundle/configs/inference.yaml"
    for name, root in (("installed", config), ("checkout", ROOT / "configs/inference.yaml")):
        overrides = [part for key, value in QUICK.items() for part in (f"--{key}", value)]
        monai = [environment / "bin/python", "-m", "monai.bundle", "run", "inference", "--config_file", root]
        run(*monai, "--dataset_dir", scan, "--output_dir", name, *overrides, cwd=tmp_path)
        assert len(results(tmp_path / name)) == 3
        assert results(tmp_path / name) == results(tmp_path / "out")


def test_a_wrong_path_is_refused(environment, tmp_path):
    ended = run(environment / "bin" / "glade", "-i", "nothing", "-o", "out", cwd=tmp_path, code=1)
    assert ended.stderr.startswith("refused: no such file or folder: ")


def test_a_package_of_the_user_that_is_called_scripts_is_not_in_the_way(environment, scan, tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "__init__.py").write_text("OWN = True\n")
    code = (
        "import glade, scripts, sys\n"
        "result = glade.super_resolve(sys.argv[1], views=[1], rotations_deg=[0])\n"
        "assert scripts.OWN and 'scripts.run' not in sys.modules\n"
        "print(result.volume.shape)"
    )
    assert run(environment / "bin/python", "-c", code, scan, cwd=tmp_path).stdout.strip() == "(32, 32, 32)"
