"""The bundle that this code belongs to: its folder and its version."""

import json
from pathlib import Path

BUNDLE = Path(__file__).resolve().parents[2]


def find_bundle() -> str:
    """Return the folder of the bundle, with configs, models and scripts, wherever the command was started."""
    return str(BUNDLE)


def bundle_version() -> str:
    """Return the version in configs/metadata.json."""
    metadata = (BUNDLE / "configs" / "metadata.json").read_text(encoding="utf-8")
    return str(json.loads(metadata)["version"])
