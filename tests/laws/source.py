"""The code of the bundle as syntax trees, for the laws that read it."""

import ast
from collections.abc import Iterator

from tests.conftest import ROOT

ROOMS = ("geometry", "physics", "data", "learning", "judging", "clinic")


def modules(*rooms: str) -> Iterator[tuple[str, ast.Module]]:
    """Path below the root and syntax tree of every module of the rooms; of all of scripts/ by default."""
    for folder in [f"scripts/{room}" for room in rooms] or ["scripts"]:
        files = sorted((ROOT / folder).rglob("*.py"))
        if not files:
            raise FileNotFoundError(f"{folder} holds no module: a law that reads nothing proves nothing")
        for file in files:
            yield file.relative_to(ROOT).as_posix(), ast.parse(file.read_text(encoding="utf-8"))


def constant_names(statement: ast.stmt) -> list[str]:
    """The names that an assignment gives values to."""
    targets = getattr(statement, "targets", None) or [getattr(statement, "target", None)]
    return [name.id for target in targets if target for name in ast.walk(target) if isinstance(name, ast.Name)]
