"""GLADE: isotropic volumes from thick-slice MRI, by `super_resolve`, `fuse` or the command `glade`.

The bundle's own code is imported as `glade.scripts`, so that no other package called scripts gets into its way, nor it
into theirs.

Import it before torch: torch reads only when it is loaded how long threads that wait for each other spin, and on a
machine with other work that decides the time of a scan (`glade.scripts.run.threads`).
"""

import os
import sys
from typing import Any

from .location import ROOT

__path__.append(str(ROOT))  # makes glade.scripts of the bundle's folder scripts

if "torch" not in sys.modules:
    from glade.scripts.run.threads import waiting_settings

    os.environ.update(waiting_settings(os.environ))

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
