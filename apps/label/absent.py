"""Stand-ins for packages that MONAI Label imports and this app never calls; calling one raises an error.

torchvision, wanted for two drawing functions, brings a second torch where the installed one is not the newest;
pydicom-seg, wanted for segmentations, forbids the numpy and pydicom of this bundle.
"""

import importlib.machinery
import sys
from types import ModuleType

ABSENT = {"torchvision": (), "torchvision.utils": ("make_grid", "save_image"), "pydicom_seg": ()}


def stand_in() -> None:
    """Register the stand-ins in sys.modules; a package that is already imported is kept."""
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
