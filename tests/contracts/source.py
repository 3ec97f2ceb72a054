"""The code of the bundle as syntax trees, for the contract tests that read it."""

import ast
from functools import cache

from tests.conftest import ROOT

PACKAGES = (
    "geometry",
    "physics",
    "data",
    "dicom",
    "derived_series",
    "phantom",
    "metrics",
    "learning",
    "stacks",
    "run",
    "evaluation",
    "reports",
    "study",
)


@cache
def modules(*packages: str) -> list[tuple[str, ast.Module]]:
    """Path below the root and syntax tree of every module of the packages; of all of scripts/ by default."""
    files = [file for package in packages or ("",) for file in sorted((ROOT / "scripts" / package).rglob("*.py"))]
    if not files:
        raise FileNotFoundError(f"no module in {packages or 'scripts'}: a test that reads nothing proves nothing")
    return [(file.relative_to(ROOT).as_posix(), ast.parse(file.read_text(encoding="utf-8"))) for file in files]


def constant_names(statement: ast.stmt) -> list[str]:
    """The names that an assignment gives values to."""
    targets = getattr(statement, "targets", None) or [getattr(statement, "target", None)]
    return [name.id for target in targets if target for name in ast.walk(target) if isinstance(name, ast.Name)]
