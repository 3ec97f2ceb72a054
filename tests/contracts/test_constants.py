"""A number in physics, learning, metrics, evaluation, reports or study has a name or is a setting."""

import ast

import pytest

from .source import constant_names, modules

PLAIN = {0.0, 0.5, 1.0, 2.0}  # a negative one is a minus sign before it
CHECKED = ("geometry", "physics", "learning", "metrics", "evaluation", "reports", "study")


def named(tree: ast.Module) -> set[int]:
    """Nodes within UPPER_CASE constants of the module."""
    found = set()
    for statement in tree.body:
        names = constant_names(statement) if isinstance(statement, ast.Assign | ast.AnnAssign) else []
        if names and all(name.isupper() for name in names):
            found |= {id(node) for node in ast.walk(statement)}
    return found


def explained(tree: ast.Module) -> set[int]:
    """Nodes within the defaults of parameters and fields that a docstring lists."""
    found = set()
    for scope in ast.walk(tree):
        if isinstance(scope, ast.ClassDef):
            pairs = [(n.target.id, n.value) for n in scope.body if isinstance(n, ast.AnnAssign) and n.value]
            for init in (n for n in scope.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"):
                pairs += defaults(init)
        elif isinstance(scope, ast.FunctionDef):
            pairs = defaults(scope)
        else:
            continue
        text = ast.get_docstring(scope) or ""
        found |= {id(node) for name, value in pairs if f"{name}:" in text for node in ast.walk(value)}
    return found


def defaults(function: ast.FunctionDef) -> list[tuple[str, ast.expr]]:
    given = function.args
    placed = [a.arg for a in (*given.posonlyargs, *given.args)]
    pairs = list(zip(placed[len(placed) - len(given.defaults) :], given.defaults, strict=True))
    return pairs + [(a.arg, d) for a, d in zip(given.kwonlyargs, given.kw_defaults, strict=True) if d is not None]


@pytest.mark.parametrize("package", CHECKED)
def test_every_number_has_a_name(package):
    found = []
    for path, tree in modules(package):
        allowed = named(tree) | explained(tree)
        for node in ast.walk(tree):
            number = isinstance(node, ast.Constant) and isinstance(node.value, float)
            if number and node.value not in PLAIN and id(node) not in allowed:
                found.append(f"{path}:{node.lineno}: {node.value}")
    assert found == []
