"""The configs of the bundle as MONAI reads them, for the contract tests."""

from collections.abc import Iterator

from monai.bundle import ConfigParser

from tests.conftest import ROOT

CONFIGS = sorted(p.name for p in (ROOT / "configs").glob("*.yaml"))
OVERLAYS = {
    "paper.yaml": "train.yaml",
    "paper_small.yaml": "train.yaml",
    "shipped.yaml": "train.yaml",
    "finish.yaml": "train.yaml",
    "sharp.yaml": "train.yaml",
    "adapt.yaml": "train.yaml",
    "volumes.yaml": "train.yaml",
    "multi_gpu.yaml": "train.yaml",
}
BASES = [name for name in CONFIGS if name not in OVERLAYS]


def load(name: str) -> dict:
    """One file, as it stands."""
    return ConfigParser.load_config_file(ROOT / "configs" / name)


def resolved(name: str) -> dict:
    """The config with its macros put in, on top of what it is an overlay of."""
    files = [ROOT / "configs" / n for n in (OVERLAYS.get(name), name) if n]
    parser = ConfigParser(ConfigParser.load_config_files(files))
    parser.resolve_macro_and_relative_ids()
    return parser.get()


def walk(part, path: tuple = ()) -> Iterator[tuple[tuple, object]]:
    """(path, value) of everything in a config, from the outside in."""
    yield path, part
    items = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for key, value in items:
        yield from walk(value, (*path, key))
