"""The bundle that this code belongs to: its folder and its version."""

import json

from ..geometry.checksums import BUNDLE, METADATA


def find_bundle() -> str:
    """Return the folder of the bundle, with configs, models and scripts, wherever the command was started."""
    return str(BUNDLE)


def bundle_version() -> str:
    """Return the version in configs/metadata.json."""
    return str(json.loads(METADATA.read_text(encoding="utf-8"))["version"])
