"""GLADE: isotropic volumes from thick-slice MRI, by `super_resolve`, `fuse` or the command `glade`.

The bundle's own code is imported as `glade.scripts`, so that no other package called scripts gets into its way, nor it
into theirs.
"""

from typing import Any

from .location import ROOT

__path__.append(str(ROOT))  # makes glade.scripts of the bundle's folder scripts
__all__ = ["FusedResult", "Refusal", "Result", "SuperResolver", "__version__", "fuse", "super_resolve"]


def __getattr__(name: str) -> Any:
    """Import torch and the rest only when they are needed: `glade --help` is then quick."""
    if name == "__version__":
        from glade.scripts.run.bundle import bundle_version

        return bundle_version()
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
