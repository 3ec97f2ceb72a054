"""GLADE: isotropic volumes from thick-slice MRI; the command is `glade`, see `glade --help`.

The bundle's own code is imported as `glade.scripts`, so that no other package called scripts gets into its way, nor it
into theirs.
"""

from typing import Any

from .location import ROOT

__path__.append(str(ROOT))  # makes glade.scripts of the bundle's folder scripts
__all__ = ["__version__"]


def __getattr__(name: str) -> Any:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from glade.scripts.run.bundle import bundle_version

    return bundle_version()


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
