"""Who made a result: this bundle and its version, from the one place that holds it."""

import json
from pathlib import Path

METADATA = Path(__file__).resolve().parents[2] / "configs" / "metadata.json"


def bundle_version() -> str:
    """The version in configs/metadata.json."""
    return str(json.loads(METADATA.read_text(encoding="utf-8"))["version"])
