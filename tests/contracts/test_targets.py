"""configs: every target is there and takes its arguments; MONAI finds what it looks for."""

import inspect
import pydoc
import sys

import pytest
from monai.bundle import ComponentLocator, ConfigComponent, ConfigWorkflow

from tests.conftest import ROOT

from ..data.thick_scans import voxels, write_scan
from .config_files import CONFIGS, resolved, walk

LOCATOR = ComponentLocator()
FEW = {"study.yaml": 2, "stacks.yaml": 7}  # targets; every other config has more than ten


@pytest.fixture(autouse=True)
def here(monkeypatch):
    monkeypatch.chdir(ROOT)  # train.yaml takes the generator from configs/inference.yaml
    monkeypatch.setattr(sys, "path", list(sys.path))


def target_of(component: dict):
    """What MONAI would call: a bare name among its own classes and functions, else the full path."""
    return pydoc.locate(ConfigComponent(component, locator=LOCATOR).resolve_module_name(), forceload=0)


def bind(target, arguments: dict) -> None:
    """Raises TypeError where the arguments do not fit; what a class takes as **kwargs must fit its parent."""
    if not inspect.isclass(target):
        inspect.signature(target).bind(**arguments)
        return
    constructors = [vars(step)["__init__"] for step in inspect.getmro(target) if "__init__" in vars(step)]
    inspect.signature(constructors[0]).bind("self", **arguments)
    for constructor in constructors:
        parameters = inspect.signature(constructor).parameters.values()
        inspect.signature(constructor).bind_partial("self", **arguments)
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return
        arguments = {k: v for k, v in arguments.items() if k not in {p.name for p in parameters}}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_target_takes_its_arguments(name):
    seen = 0
    for path, part in walk(resolved(name)):
        if isinstance(part, dict) and "_target_" in part:
            where, target = "::".join(map(str, path)), target_of(part)
            assert callable(target), f"{name}, {where}: there is no {part['_target_']}"
            arguments = {key: value for key, value in part.items() if key not in ConfigComponent.non_arg_keys}
            try:
                bind(target, arguments)
            except TypeError as error:
                pytest.fail(f"{name}, {where}: {part['_target_']}: {error}")
            seen += 1
    assert seen >= FEW.get(name, 11)


@pytest.mark.parametrize(("name", "kind"), [("inference.yaml", "inference"), ("train.yaml", "train")])
def test_monai_finds_every_property_where_it_looks(name, kind, tmp_path):
    for seed, spacing in enumerate([(1, 1, 4), (1, 1, 4), (1, 1, 1), (1, 1, 1)]):
        write_scan(tmp_path / f"scans/{spacing[2]}_{seed}.nii.gz", voxels(seed=seed), spacing)
    settings = {"dataset_dir": str(tmp_path / "scans"), "output_dir": str(tmp_path), "device": "$torch.device('cpu')"}
    workflow = ConfigWorkflow(f"configs/{name}", workflow_type=kind, logging_file=False, **settings)
    workflow.initialize()
    assert workflow.check_properties() == []
