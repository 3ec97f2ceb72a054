"""one truth: versions, packages and the network's data format are the same wherever they stand."""

import json
import re
import tomllib

import pytest
import torch
import yaml
from monai.bundle import ConfigParser

from tests.conftest import ROOT

METADATA = json.loads((ROOT / "configs/metadata.json").read_text(encoding="utf-8"))
OWN_KEY = {"monai": "monai_version", "torch": "pytorch_version", "numpy": "numpy_version"}  # the schema names them
TEXTS = ("schema", "version", *OWN_KEY.values(), "task", "description", "authors", "copyright")
TENSOR = {"type": str, "format": str, "num_channels": int, "spatial_shape": list, "dtype": str, "value_range": list}


def test_the_version_is_the_same_everywhere():
    version = METADATA["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## \[([^\]]+)\]", changelog, re.MULTILINE)[1] == version
    assert str(yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"]) == version
    assert version in METADATA["changelog"]
    assert "version" in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dynamic"]


def test_packages_are_those_pinned():
    pins = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    named = {package: METADATA[key] for package, key in OWN_KEY.items()} | METADATA["required_packages_version"]
    assert dict(pin.split("==") for pin in pins) == named


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
    assert (list(form["inputs"]), list(form["outputs"])) == (["image"], ["pred"])  # MONAI's commands look for these
    for tensor in (form["inputs"]["image"], form["outputs"]["pred"]):
        assert {key: type(tensor[key]) for key in TENSOR} == TENSOR
        assert list(tensor["channel_def"]) == [str(c) for c in range(tensor["num_channels"])]


@pytest.mark.parametrize("n", [8, 11])
def test_the_data_format_is_true_to_the_network(n):
    image, pred = (METADATA["network_data_format"][s][t] for s, t in (("inputs", "image"), ("outputs", "pred")))
    network = ConfigParser(ConfigParser.load_config_file(ROOT / "configs/inference.yaml")["network_def"])
    network = network.get_parsed_content("").eval()
    torch.nn.init.normal_(network.tail.weight)  # zero at first: the answer would be the input
    x = torch.rand(1, image["num_channels"], *shape(image, n), dtype=getattr(torch, image["dtype"]), requires_grad=True)
    y = network(x)
    assert tuple(y.shape) == (1, pred["num_channels"], *shape(pred, n))
    assert y.dtype == getattr(torch, pred["dtype"])
    y.square().sum().backward()
    assert (x.grad.abs().amax(dim=(0, 2, 3)) > 0).all(), "a channel that the network does not look at"


def shape(tensor: dict, n: int) -> list[int]:
    """Sizes like 8 or "2*n", at some n."""
    sizes = [re.fullmatch(r"(\d+)(\*n)?", str(size)) for size in tensor["spatial_shape"]]
    assert all(sizes), tensor["spatial_shape"]
    return [int(size[1]) * (n if size[2] else 1) for size in sizes]
