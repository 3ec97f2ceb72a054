"""errors: nothing is asserted, printed or swallowed; what a user can cause is a Refusal."""

import ast

from .source import modules

RAISED = {  # what each package may raise by name; a Refusal is a ValueError, a bare one is the programmer's error
    "geometry": {"Refusal"},
    "physics": {"ValueError"},
    "data": {"Refusal", "OSError"},  # a disk that is full
    "dicom": {"Refusal", "DamagedError"},  # one file of a series; discovery makes a refusal of it
    "phantom": {"Refusal"},
    "metrics": {"Refusal", "ValueError"},
    "learning": {"Refusal"},
    "run": {"Refusal", "SystemExit"},  # the exit code of a run
    "evaluation": {"Refusal", "ValueError", "SystemExit"},
    "reports": {"Refusal", "ValueError"},
    "study": {"Refusal", "ValueError"},
}
EXCEPTIONS = {
    ("scripts/learning/losses.py", "ValueError"),  # a loss is used outside the workflow as well
    ("scripts/data/saving.py", "ValueError"),  # postfixes and keys differ in number: as above
}
ALWAYS = {"NotImplementedError"}  # an abstract method
BROAD = {"Exception", "BaseException"}


def broad(handler: ast.ExceptHandler) -> bool:
    kinds = [node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)] if handler.type else []
    return handler.type is None or bool(BROAD & set(kinds))


def offences(node: ast.AST):
    if isinstance(node, ast.Assert):
        yield "assert"
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "builtins.print", "pprint"):
        yield "print"
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
        yield from ("suppress of everything" for a in node.args if ast.unparse(a) in BROAD)
    if isinstance(node, ast.ExceptHandler):
        if node.type is None:
            yield "bare except"
        if broad(node) and all(isinstance(statement, ast.Pass | ast.Continue) for statement in node.body):
            yield "an exception of any kind is swallowed"


def test_nothing_is_asserted_printed_or_swallowed():
    found = [f"{path}:{n.lineno}: {what}" for path, tree in modules() for n in ast.walk(tree) for what in offences(n)]
    assert found == []


def test_standard_output_belongs_to_command_line_modules():
    found = []
    for path, tree in modules():
        uses = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and ast.unparse(n) == "sys.stdout"]
        is_command = any(isinstance(n, ast.If) and "__name__" in ast.unparse(n.test) for n in tree.body)
        found += [f"{path}:{n.lineno}" for n in uses if not is_command]
    assert found == []


def raises():
    """(path, line, name of the exception, the call or None) of every raise of a new exception."""
    for path, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                yield path, node.lineno, ast.unparse(node.exc.func), node.exc
            elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Name) and node.exc.id[0].isupper():
                yield path, node.lineno, node.exc.id, None


def test_what_a_user_can_cause_is_a_refusal():
    found = [(path, line, name) for path, line, name, _ in raises() if name not in RAISED[path.split("/")[1]] | ALWAYS]
    unknown = [f"{path}:{line}: raises {name}" for path, line, name in found if (path, name) not in EXCEPTIONS]
    assert unknown == []
    assert {(path, name) for path, _, name in found} == EXCEPTIONS, "an exception is no longer needed"


def test_refusals_are_one_line_of_text():
    found = []
    for path, line, name, call in raises():
        if name == "Refusal":
            texts = [n.value for n in ast.walk(call) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
            if not call.args or any("\n" in text for text in texts):
                found.append(f"{path}:{line}")
    assert found == []
