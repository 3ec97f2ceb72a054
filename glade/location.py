"""Where the bundle lies: inside the installed package, or around it in a checkout of the repository."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
INSTALLED = PACKAGE / "bundle"
ROOT = INSTALLED if (INSTALLED / "configs").is_dir() else PACKAGE.parent
"""The folder with configs, models and scripts."""
CONFIG = ROOT / "configs" / "inference.yaml"
STACKS = ROOT / "configs" / "stacks.yaml"
