"""Law 1, direction: geometry <- physics <- {data, learning, judging, clinic}; neighbours meet in YAML alone."""

import ast
import importlib
import os
import random
import sys

import numpy as np
import pytest
import torch

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
EXCEPTIONS = {("scripts/judging/figures.py", "nibabel")}  # turns a picture's axes to R, A, S


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


def test_importing_every_module_has_no_side_effect(monkeypatch, tmp_path):
    names = [path.removesuffix(".py").replace("/", ".") for path, _ in modules() if "__init__" not in path]
    for name in names:
        importlib.import_module(name)  # their libraries may do what they like
    for name in [n for n in sys.modules if n.split(".")[0] == "scripts"]:
        monkeypatch.delitem(sys.modules, name)  # as MONAI Label does at each step
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    done, watching = [], [True]
    sys.addaudithook(lambda event, of: done.append((event, of[0])) if watching and acts(event, of) else None)
    threads, chance, numpy_chance = torch.get_num_threads(), random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        try:
            torch.manual_seed(271828)  # a state that nothing else would set: the first import has been once already
            np.random.seed(271828)  # noqa: NPY002 the global one is what is looked at
            random.seed(271828)
            torch.set_num_threads(threads + 2)
            before = state()
            for name in names:
                importlib.import_module(name)
                changed = [what for what, value in state().items() if value != before[what]]
                assert (changed, done) == ([], []), f"importing {name} has a side effect"
        finally:
            watching.clear()
            torch.set_num_threads(threads)
            random.setstate(chance)
            np.random.set_state(numpy_chance)  # noqa: NPY002


def acts(event: str, of: tuple) -> bool:
    if event == "open":
        return any(c in (of[1] or "") for c in "wax+") or bool(of[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    return event in ("os.putenv", "os.unsetenv", "os.mkdir", "os.remove", "os.rename", "subprocess.Popen")


def state() -> dict:
    return {
        "random": random.getstate(),
        "numpy.random": np.random.get_state()[1].tobytes(),  # noqa: NPY002
        "torch.random": torch.get_rng_state().numpy().tobytes(),
        "threads": torch.get_num_threads(),
        "CUDA": torch.cuda.is_initialized(),
    }
