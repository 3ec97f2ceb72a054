"""Versions, packages and the data format of the network are the same in every file that names them."""

import importlib.metadata
import json
import re
import tomllib

import pytest
import torch
import yaml
from monai.bundle import ConfigParser
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT

METADATA = json.loads((ROOT / "configs/metadata.json").read_text(encoding="utf-8"))
OWN_KEY = {"monai": "monai_version", "torch": "pytorch_version", "numpy": "numpy_version"}  # the schema names them
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = dict(re.findall(r"^([^#\s]+)==(\S+)$", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE))
LOCK = {canonicalize_name(name): version for name, version in LOCK.items()}
UNLOCKED = ("setuptools", "nvidia-", "cuda-", "triton", "pytorch-triton")  # pip's own tool, and what a CUDA torch needs
GROUPS = ("dependencies", "train", "evaluate", "stacks")  # what the workflows of the bundle need
TEXTS = ("schema", "version", *OWN_KEY.values(), "task", "description", "authors", "copyright")
TENSOR = {"type": str, "format": str, "num_channels": int, "spatial_shape": list, "dtype": str, "value_range": list}


def ranges(group: str) -> list[Requirement]:
    """The requirements of pyproject.toml: "dependencies", or an optional group such as "dev"."""
    return [Requirement(text) for text in PROJECT.get(group) or PROJECT["optional-dependencies"][group]]


def test_the_version_is_the_same_everywhere():
    version = METADATA["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## \[(\d[^\]]*)\]", changelog, re.MULTILINE)[1] == version
    assert str(yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"]) == version
    assert version in METADATA["changelog"]
    assert "version" in PROJECT["dynamic"]


def test_metadata_names_the_locked_versions():
    named = {package: METADATA[key] for package, key in OWN_KEY.items()} | METADATA["required_packages_version"]
    asked = [range_ for group in GROUPS for range_ in ranges(group)]
    assert named == {range_.name: LOCK[canonicalize_name(range_.name)] for range_ in asked}


def test_locked_versions_lie_in_their_ranges():
    asked = [range_ for group in (*GROUPS, "dev") for range_ in ranges(group)]
    assert all(len(range_.specifier) == 2 for range_ in asked), "a range has a lowest version and one that is too new"
    outside = [str(range_) for range_ in asked if LOCK[canonicalize_name(range_.name)] not in range_.specifier]
    assert outside == []


def test_the_lock_holds_every_package_in_the_version_installed():
    """The packages asked for, those that they ask for, and so on: `make setup` leaves no version open."""
    missing, seen, waiting = [], set(), [range_ for group in (*GROUPS, "dev") for range_ in ranges(group)]
    while waiting:
        name = canonicalize_name(waiting.pop().name)
        if name in seen or name.startswith(UNLOCKED):
            continue
        seen.add(name)
        installed = importlib.metadata.version(name).partition("+")[0]  # torch: 2.13.0+cpu
        if LOCK.get(name) != installed:
            missing.append(f"{name}=={installed}")
        needs = map(Requirement, importlib.metadata.requires(name) or [])
        waiting += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    assert missing == [], "run `make lock`"


def test_the_lock_names_no_machine_and_no_index():
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()[1:]
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line)] == []


def test_the_top_level_metadata_is_a_link_to_the_one_in_configs():
    link = ROOT / "metadata.json"
    assert link.is_symlink()
    assert link.readlink().as_posix() == "configs/metadata.json"


def test_metadata_has_what_the_newest_schema_asks_for():
    assert METADATA["schema"].endswith("/meta_schema_20240725.json")
    assert [key for key in TEXTS if not isinstance(METADATA.get(key), str) or not METADATA[key]] == []
    for key in ("required_packages_version", "network_data_format", "changelog", "supported_apps"):
        assert isinstance(METADATA[key], dict), key
    assert all(isinstance(line, str) for line in METADATA["references"])
    form = METADATA["network_data_format"]
    assert (list(form["inputs"]), list(form["outputs"])) == (
        ["image"],
        ["pred"],
    )  # MONAI's commands expect them
    for tensor in (form["inputs"]["image"], form["outputs"]["pred"]):
        assert {key: type(tensor[key]) for key in TENSOR} == TENSOR
        assert list(tensor["channel_def"]) == [str(c) for c in range(tensor["num_channels"])]


@pytest.mark.parametrize("n", [8, 11])
def test_the_data_format_is_that_of_the_network(n):
    image, pred = (METADATA["network_data_format"][s][t] for s, t in (("inputs", "image"), ("outputs", "pred")))
    network = ConfigParser(ConfigParser.load_config_file(ROOT / "configs/inference.yaml")["network_def"])
    network = network.get_parsed_content("").eval()
    torch.nn.init.normal_(network.tail.weight)  # initialised to zero: the output would be the input
    x = torch.rand(1, image["num_channels"], *shape(image, n), dtype=getattr(torch, image["dtype"]), requires_grad=True)
    y = network(x)
    assert tuple(y.shape) == (1, pred["num_channels"], *shape(pred, n))
    assert y.dtype == getattr(torch, pred["dtype"])
    y.square().sum().backward()
    assert (x.grad.abs().amax(dim=(0, 2, 3)) > 0).all(), "the network ignores a channel of its input"


def shape(tensor: dict, n: int) -> list[int]:
    """Sizes like 8 or "2*n", at some n."""
    sizes = [re.fullmatch(r"(\d+)(\*n)?", str(size)) for size in tensor["spatial_shape"]]
    assert all(sizes), tensor["spatial_shape"]
    return [int(size[1]) * (n if size[2] else 1) for size in sizes]
