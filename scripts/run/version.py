"""The version of this bundle, from configs/metadata.json."""

import json
from pathlib import Path

METADATA = Path(__file__).resolve().parents[2] / "configs" / "metadata.json"


def bundle_version() -> str:
    """Return the version in configs/metadata.json."""
    return str(json.loads(METADATA.read_text(encoding="utf-8"))["version"])
