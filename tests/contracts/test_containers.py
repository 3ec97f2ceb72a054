"""Dockerfile and apptainer.def, which cannot be built here: every file and package that they name is there."""

import json
import re
import shlex
import tomllib

import pytest
from dockerfile_parse import DockerfileParser

from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
WHEEL = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
PIP = re.compile(r"/opt/glade/bin/pip install .*")
PYTHON = re.compile(r'python-version: "([\d.]+)"')


@pytest.fixture(scope="module")
def docker(tmp_path_factory):
    """The instructions of Dockerfile: [(name, value)]; the parser may write its file, so it gets a copy."""
    copy = tmp_path_factory.mktemp("docker") / "Dockerfile"
    copy.write_text((ROOT / "Dockerfile").read_text("utf-8"))
    return [(part["instruction"], part["value"]) for part in DockerfileParser(str(copy)).structure]


@pytest.fixture(scope="module")
def apptainer():
    """The sections of apptainer.def, by name: its lines."""
    head, *sections = re.split(r"^%", (ROOT / "apptainer.def").read_text("utf-8"), flags=re.MULTILINE)
    found = {"head": [line for line in head.splitlines() if line and not line.startswith("#")]}
    for section in sections:
        name, *lines = section.splitlines()
        found[name] = [line.strip() for line in "\n".join(lines).replace("\\\n", " ").splitlines() if line.strip()]
    return found


def values(docker, name):
    return [value for instruction, value in docker if instruction == name]


def copied(docker) -> set[str]:
    """What the build takes from the checkout; what one stage takes from another is left out."""
    lines = [shlex.split(value) for value in values(docker, "COPY") if "--from" not in value]
    return {source for *sources, _ in lines for source in sources}


def steps(lines) -> list[str]:
    """The installations by pip, in one spelling."""
    text = [re.sub(r"\s+", " ", found[0]) for line in lines if (found := PIP.search(line))]
    return [re.sub(r"\$\{TORCH\}|\{\{ TORCH \}\}", "TORCH", line) for line in text]


def test_every_file_that_the_package_is_built_of_is_copied(docker):
    needed = {*WHEEL["packages"], *WHEEL["force-include"], PROJECT["project"]["readme"], "pyproject.toml"}
    needed |= {*PROJECT["project"]["license-files"], PROJECT["tool"]["hatch"]["version"]["path"]}
    found = copied(docker)
    assert {name for name in needed if not {name, name.split("/")[0]} & found} == set()
    assert {name for name in found if not (ROOT / name).exists()} == set()


def test_the_build_sees_what_it_copies_and_no_other_file(docker):
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == copied(docker)


def test_it_runs_as_no_root_and_begins_with_glade(docker):
    last = [index for index, (name, _) in enumerate(docker) if name == "FROM"][-1]
    assert values(docker[last:], "USER")[-1] not in ("root", "0")
    assert json.loads(values(docker, "ENTRYPOINT")[-1]) == ["glade"]
    assert "glade" in PROJECT["project"]["scripts"]


def test_both_install_the_same_extras_at_the_locked_versions(docker, apptainer):
    found = steps(values(docker, "RUN"))
    assert found == steps(apptainer["post"])
    assert len(found) == 2
    extras = re.search(r"\.\[(.*)\]", found[-1])[1].split(",")
    assert set(extras) == set(PROJECT["project"]["optional-dependencies"]) - {"dev"}
    assert "--constraint requirements.lock" in found[-1]
    assert len(re.findall("^torch==", (ROOT / "requirements.lock").read_text(), re.MULTILINE)) == 1


def test_both_begin_with_the_python_that_is_tested(docker, apptainer):
    (tested,) = PYTHON.findall((ROOT / ".github/workflows/ci.yml").read_text())
    assert f"PYTHON={tested}" in values(docker, "ARG")
    assert f"PYTHON={tested}" in apptainer["arguments"]
    assert "TORCH=cpu" in values(docker, "ARG")
    assert "TORCH=cpu" in apptainer["arguments"]


def test_apptainer_takes_the_same_files_and_begins_with_glade(docker, apptainer):
    pairs = [line.split() for line in apptainer["files"]]
    assert {source for source, _ in pairs} == copied(docker)
    assert [(source, target) for source, target in pairs if target != f"/src/{source}"] == []
    assert apptainer["runscript"] == ['exec glade "$@"']
