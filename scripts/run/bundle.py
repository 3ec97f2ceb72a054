"""The bundle that this code belongs to: its folder and its version."""

import json
import re
from collections.abc import Mapping
from typing import Any

from ..geometry.checksums import BUNDLE, METADATA

PACKAGE = __name__.removesuffix(".run.bundle")  # scripts; glade.scripts where the command glade imports it
SCRIPTS = re.compile(r"^(\$from |\$import |)scripts\.")  # as `_target_` and imports name the bundle's code


def find_bundle() -> str:
    """Return the folder of the bundle, with configs, models and scripts, wherever the command was started."""
    return str(BUNDLE)


def bundle_version() -> str:
    """Return the version in configs/metadata.json."""
    return str(json.loads(METADATA.read_text(encoding="utf-8"))["version"])


def in_this_package(part: Any) -> Any:
    """Return a part of a config with the bundle's code under the name under which this module was imported.

    >>> in_this_package({"_target_": "scripts.learning.generator.Generator"})
    {'_target_': 'scripts.learning.generator.Generator'}
    """
    if isinstance(part, Mapping):
        return {key: in_this_package(value) for key, value in part.items()}
    if isinstance(part, list):
        return [in_this_package(value) for value in part]
    return SCRIPTS.sub(rf"\1{PACKAGE}.", part) if isinstance(part, str) else part
