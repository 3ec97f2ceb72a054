"""Errors that a user can cause are a Refusal of one line; nothing is suppressed, and only commands print."""

import ast
import re

from tests.conftest import ROOT

from .config_files import CONFIGS, load
from .source import modules

RAISED = {  # what each package may raise by name; Refusal for a user's mistake, plain ValueError for a programmer's
    "geometry": {"Refusal"},
    "physics": {"ValueError"},
    "data": {"Refusal", "OSError"},  # OSError: a full disk
    "dicom": {
        "Refusal",
        "DamagedError",
        "UnavailableError",
    },  # of one file; discovery turns it into a refusal of the series
    "derived_series": {"Refusal"},
    "phantom": {"Refusal"},
    "metrics": {"Refusal", "ValueError"},
    "learning": {"Refusal"},
    "stacks": {"Refusal"},
    "run": {"Refusal", "SystemExit"},  # SystemExit: the exit code of a run
    "evaluation": {"Refusal", "ValueError", "SystemExit"},
    "reports": {"Refusal", "ValueError"},
    "study": {"Refusal", "ValueError"},
}
EXCEPTIONS = {
    ("scripts/data/bids_names.py", "ValueError"),  # a case that this object did not find: a mistake of the caller
    ("scripts/stacks/prior.py", "ValueError"),  # arrays in, arrays out
    ("scripts/physics/protocol.py", "Refusal"),  # the ranges to train on are settings
    ("scripts/learning/losses.py", "ValueError"),  # losses are used outside of the workflow too
    ("scripts/data/nifti.py", "ValueError"),  # as nibabel raises for damaged files; its callers refuse the scan
    ("scripts/data/saving.py", "ValueError"),  # postfixes and keys differ in number: a mistake of the YAML's author
}
ALWAYS = {"NotImplementedError"}  # an abstract method
BROAD = {"Exception", "BaseException"}


def test_no_exception_of_any_kind_is_suppressed():
    """Ruff finds broad handlers (BLE001, S110, S112) but not `contextlib.suppress(Exception)`."""
    calls = ((path, node) for path, tree in modules() for node in ast.walk(tree) if isinstance(node, ast.Call))
    found = [
        f"{path}:{call.lineno}"
        for path, call in calls
        if ast.unparse(call.func).endswith("suppress") and BROAD & {ast.unparse(argument) for argument in call.args}
    ]
    assert found == []


def test_a_broad_handler_states_its_reason():
    lines = [(path, line) for path in (ROOT / "scripts").rglob("*.py") for line in path.read_text("utf-8").splitlines()]
    assert [str(path) for path, line in lines if re.search(r"noqa:.*BLE001(?! - \w)", line)] == []


def test_standard_output_belongs_to_command_line_modules():
    found = []
    for path, tree in modules():
        uses = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and ast.unparse(n) == "sys.stdout"]
        is_command = any(isinstance(n, ast.If) and "__name__" in ast.unparse(n.test) for n in tree.body)
        found += [f"{path}:{n.lineno}" for n in uses if not is_command]
    assert found == []


def messages():
    """(path, line, text) of every string in the code of the bundle that is no docstring."""
    for path, tree in modules():
        documented = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented:
                yield path, node.lineno, node.value


def test_messages_name_settings_as_options():
    """`give --views`, not `set views`: `monai.bundle run` and the command `glade` take every setting as an option."""
    keys = {key for name in CONFIGS for key in load(name) if "_" in key}
    verbs = r"\b(?:set|give|correct|check|choose|raise|lower)(?: an?| the)?(?: larger| smaller| other| another)? "
    bare = re.compile(rf"{verbs}({'|'.join(sorted(keys))})\b|\bredo true\b", re.IGNORECASE)
    found = [f"{path}:{line}: {text}" for path, line, text in messages() if bare.search(text)]
    assert [line for line in found if not line.startswith("scripts/stacks/")] == []


def test_every_option_that_a_message_names_is_a_setting():
    known = {key for name in CONFIGS for key in load(name)} | {"config_file", "nproc_per_node"}  # of MONAI, torchrun
    own = {path for path, tree in modules() if "argparse" in ast.unparse(tree)}  # modules with options of their own
    named = [
        (f"{path}:{line}: --{option}", option)
        for path, line, text in messages()
        for option in re.findall(r"(?<!glade )--([a-z]\w+)", text)
        if path not in own and not path.startswith("scripts/reports/")  # colours of a page begin so too
    ]
    assert len(named) > 15
    assert [place for place, option in named if option not in known] == []


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
    assert {(path, name) for path, _, name in found} == EXCEPTIONS, "remove the entry: it is no longer raised"


def test_refusals_are_one_line_of_text():
    found = []
    for path, line, name, call in raises():
        if name == "Refusal":
            texts = [n.value for n in ast.walk(call) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
            if not call.args or any("\n" in text for text in texts):
                found.append(f"{path}:{line}")
    assert found == []
