"""Law 1, direction: geometry <- physics <- {data, learning, judging, clinic}; neighbours meet in YAML alone."""

import ast
import sys

import pytest

from tests.conftest import ROOT

from .source import ROOMS, modules

BELOW = {
    "geometry": set(),
    "physics": {"geometry"},
    "data": {"geometry", "physics"},
    "learning": {"geometry", "physics"},
    "judging": {"geometry", "physics"},
    "clinic": {"geometry", "physics", "data"},
}
OUTSIDE = {
    "geometry": {"numpy", "nibabel", "torch"},
    "physics": {"numpy", "scipy", "torch"},
    "data": {"numpy", "torch", "monai", "nibabel", "ignite", "tqdm", "filelock"},
    "learning": {"numpy", "torch", "monai", "ignite", "tqdm"},  # TensorBoard through torch.utils
    "judging": {"numpy", "scipy", "torch", "monai", "ignite", "skimage", "matplotlib"},
    "clinic": {"numpy", "torch", "monai", "pydicom"},
}
EXCEPTIONS = {
    ("scripts/reports/figures.py", "nibabel"),  # turns a picture's axes to R, A, S
    ("scripts/evaluation/volumes.py", "nibabel"),  # reads what is judged: files, whoever wrote them
}


def imported(path: str, tree: ast.Module):
    """(relative?, dotted name as seen from the root) of every import, those inside functions too."""
    package = path.split("/")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((False, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *filter(None, [node.module])])
            beneath = [f"{name}.{alias.name}" for alias in node.names] if node.level and not node.module else [name]
            yield from ((node.level > 0, dotted) for dotted in beneath)


def test_rooms_are_the_known_ones_and_their_init_files_are_empty():
    found = {p.name for p in (ROOT / "scripts").iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert found == set(ROOMS)
    assert [path for path, tree in modules() if path.endswith("__init__.py") and tree.body] == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_those_below_it_and_its_own_libraries(room):
    offenders, used = [], set()
    for path, tree in modules(room):
        for relative, name in imported(path, tree):
            first, *rest = name.split(".")
            if relative:
                if first != "scripts" or not rest or rest[0] not in {room} | BELOW[room]:
                    offenders.append(f"{path} imports {name}, which is not below {room}")
            elif first in ("scripts", "apps", "tests", "benchmarks"):
                offenders.append(f"{path} imports {name}: inside scripts/ relatively and never from above")
            elif first not in sys.stdlib_module_names | OUTSIDE[room]:
                used.add((path, first))
    offenders += [f"{path} imports {name}, not a library of {room}" for path, name in sorted(used - EXCEPTIONS)]
    assert offenders == []
    stale = {(path, name) for path, name in EXCEPTIONS if path.split("/")[1] == room} - used
    assert not stale, f"no longer needed: {stale}"
