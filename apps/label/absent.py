"""Stand-ins for packages that MONAI Label imports and that this app never calls.

torchvision, wanted for two drawing functions, brings a second torch where the installed one is not the newest;
pydicom-seg, wanted for segmentations, forbids the numpy and pydicom of this bundle. Whoever calls a stand-in is told.
"""

import importlib.machinery
import sys
from types import ModuleType

ABSENT = {"torchvision": (), "torchvision.utils": ("make_grid", "save_image"), "pydicom_seg": ()}


def stand_in() -> None:
    """Puts the stand-ins where `import` looks first; a package that is there already is left alone."""
    for name, functions in ABSENT.items():
        if name in sys.modules:
            continue
        module = ModuleType(name, f"Stand-in for {name}, which is not installed.")
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        for function in functions:
            setattr(module, function, _missing(f"{name}.{function}"))
        sys.modules[name] = module


def _missing(name: str):
    def refuse(*_, **__):
        raise RuntimeError(f"{name} is not installed in this environment: GLADE's Label app does not need it")

    return refuse
