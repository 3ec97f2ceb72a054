"""The code of the bundle as syntax trees, for the laws that read it."""

import ast
from functools import cache

from tests.conftest import ROOT

ROOMS = ("geometry", "physics", "data", "learning", "judging", "clinic")


@cache
def modules(*rooms: str) -> list[tuple[str, ast.Module]]:
    """Path below the root and syntax tree of every module of the rooms; of all of scripts/ by default."""
    files = [file for room in rooms or ("",) for file in sorted((ROOT / "scripts" / room).rglob("*.py"))]
    if not files:
        raise FileNotFoundError(f"no module in {rooms or 'scripts'}: a law that reads nothing proves nothing")
    return [(file.relative_to(ROOT).as_posix(), ast.parse(file.read_text(encoding="utf-8"))) for file in files]


def constant_names(statement: ast.stmt) -> list[str]:
    """The names that an assignment gives values to."""
    targets = getattr(statement, "targets", None) or [getattr(statement, "target", None)]
    return [name.id for target in targets if target for name in ast.walk(target) if isinstance(name, ast.Name)]
