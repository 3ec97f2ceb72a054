"""The command with a generator that a test can afford."""

import os
import sys

import pytest
import yaml

from glade import cli

from ..workflows.tiny_inference import write_config


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """The shipped workflow with the tiny generator, for the command and for `monai.bundle run`."""
    config = write_config(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(os, "environ", os.environ.copy())
    overlay = yaml.safe_load((tmp_path / "tiny.yaml").read_text())
    overlay.pop("inferer::_target_")
    overlay["network_def"]["_target_"] = f"glade.{overlay['network_def']['_target_']}"
    run = cli._run
    monkeypatch.setattr(cli, "_run", lambda config, overrides, *more: run(config, {**overlay, **overrides}, *more))
    return config
