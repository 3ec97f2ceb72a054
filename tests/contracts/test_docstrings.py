"""No docstring is a copy of another, and parameters that are lengths end in their unit."""

import ast
from collections import defaultdict

from .source import modules

LENGTHS = ("spacing", "thickness", "gap")
UNITS = ("_mm", "_voxels")
WITHOUT_UNIT = {  # a ratio of two lengths; where a value comes from
    ("scripts/data/acceptance.py", "ScanProtocol", "thickness_source"),
    ("scripts/physics/protocol.py", "ProtocolRange", "thickness_over_spacing"),
    ("scripts/evaluation/cases.py", "EvaluatedCase", "thickness_over_spacing"),
    ("scripts/evaluation/simulation.py", "SimulatedProtocol", "thickness_over_spacing"),
    ("scripts/physics/profile.py", "transfer", "thickness_over_spacing"),
    ("scripts/physics/profile_estimate.py", "ProfileEstimate", "thickness_over_spacing"),
    ("scripts/physics/profile_estimate.py", "fit_profiles", "thickness_over_spacing"),
}
DEFINITIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def definitions(node: ast.AST, path: str, public: bool = True):
    """Yield (path, name, public, node) of classes, functions and methods, without functions inside functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, DEFINITIONS):
            seen = public and not child.name.startswith("_")
            yield path, child.name, seen, child
            if isinstance(child, ast.ClassDef):
                yield from definitions(child, f"{path}: {child.name}", seen)


def test_no_long_docstring_occurs_twice():
    places = defaultdict(list)
    for path, tree in modules():
        places[ast.get_docstring(tree) or ""].append(path)
        for where, name, _, node in definitions(tree, path):
            places[ast.get_docstring(node) or ""].append(f"{where}: {name}")
    assert [found for text, found in places.items() if "\n" in text and len(found) > 1] == []


def parameters(node: ast.AST):
    """Names of a function's parameters, or of a class's fields and of its constructor's parameters."""
    if isinstance(node, ast.ClassDef):
        for child in node.body:
            if isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
                yield child.target.id
            elif isinstance(child, ast.FunctionDef) and child.name == "__init__":
                yield from parameters(child)
    else:
        given = node.args
        yield from (a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs))


def test_lengths_end_in_their_unit():
    found = set()
    for path, tree in modules():
        for where, name, seen, node in definitions(tree, path):
            if seen:
                lengths = {p for p in parameters(node) if any(word in p for word in LENGTHS)}
                found |= {(where, name, p) for p in lengths if not p.endswith(UNITS)}
    assert found == WITHOUT_UNIT
