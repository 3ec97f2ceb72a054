"""The bundle works with MONAI's own commands: verify, export, load."""

import json
import re
import shutil
import subprocess
import sys
import textwrap

import monai.bundle
import pytest
import torch
from monai.bundle import ConfigParser

from tests.workflows.tiny_inference import ROOT, TINY, tiny_generator

CONFIG, META = str(ROOT / "configs" / "inference.yaml"), str(ROOT / "configs" / "metadata.json")
TINY_DEF = {"_target_": "scripts.learning.generator.Generator", **TINY}


def test_inference_json_equals_inference_yaml():
    assert ConfigParser.load_config_file(str(ROOT / "configs" / "inference.json")) == ConfigParser.load_config_file(
        CONFIG
    ), "run `make json`"


def test_network_input_and_output_are_those_of_the_metadata():
    monai.bundle.verify_net_in_out("network_def", meta_file=META, config_file=CONFIG, device="cpu", n=4)


@pytest.mark.filterwarnings("ignore")
def test_export_to_torchscript_gives_the_same_prediction(tmp_path):
    network = tiny_generator()
    torch.save(network.state_dict(), tmp_path / "model.pt")
    monai.bundle.ckpt_export(
        "network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(tmp_path / "model.pt"),
        meta_file=META,
        config_file=CONFIG,
        network_def=TINY_DEF,
    )
    exported, metadata, _ = monai.data.load_net_with_metadata(tmp_path / "model.ts")
    x = torch.rand(2, 7, 30, 44)
    assert torch.allclose(exported(x), network(x), atol=1e-6)
    assert metadata["name"].startswith("GLADE")


def test_the_documented_way_to_load_the_network_works_from_any_folder(tmp_path):
    text = (ROOT / "apps" / "zoo" / "README.md").read_text(encoding="utf-8")
    (block,) = (part for part in re.split(r"\n(?=\S)", text) if "monai.bundle.load(" in part and "    import" in part)
    code = textwrap.dedent(block[block.index("    import") :]).replace("/path/to/glade", str(ROOT))
    check = f"{code}\nimport torch\nprint(type(network).__name__, network(torch.rand(1, 7, 5, 16, 16)).shape)"
    ended = subprocess.run([sys.executable, "-c", check], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "VolumeGenerator torch.Size([1, 1, 5, 16, 16])"


@pytest.mark.filterwarnings("ignore")
def test_bundle_loads_by_name(tmp_path, monkeypatch):
    """As MONAI users load it: from a folder of bundles, by name; the result is the network with its weights."""
    bundle = tmp_path / "bundles" / "glade"
    (bundle / "models").mkdir(parents=True)
    shutil.copytree(ROOT / "configs", bundle / "configs")
    config = json.loads((bundle / "configs" / "inference.json").read_text())
    config["network_def"] = TINY_DEF
    (bundle / "configs" / "inference.json").write_text(json.dumps(config))
    torch.save(tiny_generator().state_dict(), bundle / "models" / "model.pt")
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT)])
    network = monai.bundle.load(
        "glade", bundle_dir=str(tmp_path / "bundles"), workflow_type="inference", source="monaihosting"
    )
    x = torch.rand(1, 7, 16, 16)
    assert torch.allclose(network(x), tiny_generator()(x), atol=1e-6)
