"""repeatable: the same scan, weights and settings give the same files, byte for byte."""

import sys

import monai.bundle
import torch

from ..data.thick_scans import write_scan
from ..workflows.tiny_inference import write_config


def test_two_inferences_give_the_same_files(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    config = write_config(tmp_path)
    write_scan(tmp_path / "scans/scan.nii.gz")
    results = []
    for name in ("first", "second"):
        torch.manual_seed(len(results))  # chance must not come in by the back door
        settings = {"dataset_dir": str(tmp_path / "scans"), "output_dir": str(tmp_path / name)}
        monai.bundle.run("inference", config_file=config, logging_file=False, **settings)
        files = sorted((tmp_path / name / "scan").rglob("*"))
        results.append({file.name: file.read_bytes() for file in files if file.is_file()})
    first, second = results
    volumes = ("glade", "added_detail", "uncertainty")
    assert set(first) == {f"scan_{volume}{end}" for volume in volumes for end in (".nii.gz", ".json")}
    assert first.keys() == second.keys()
    assert [name for name, content in first.items() if second[name] != content] == []
