"""imports do nothing: no file, no seed, no thread setting, no environment, no GPU."""

import importlib
import os
import random
import sys

import numpy as np
import torch

from .source import modules


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
