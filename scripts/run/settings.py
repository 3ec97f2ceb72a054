"""Settings given on the command line: unknown ones are errors, and a `Refusal` that ends a run is shown as one line."""

import inspect
import io
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import monai.bundle
from monai.bundle import ConfigParser, ConfigWorkflow

from ..geometry.checks import flag
from ..geometry.errors import INTERRUPTED, Refusal, one_line, refusal_of
from .keys import literal, refuse_unknown_keys
from .record import CHANGED

ENTRY = ("monai", "bundle", "__main__.py")  # how `python -m monai.bundle` names itself in sys.argv
COMMANDS = ("run", "run_workflow")
STRICT = "MONAI_FAIL_ON_DUPLICATE_CONFIG"

logger = logging.getLogger(__name__)


def refuse_unknown_overrides(argv: Sequence[str] | None = None) -> None:
    """Refuse an override of `python -m monai.bundle run` that no config file has: MONAI accepts --tpyo 3 silently.

    Put it first in the run list: MONAI puts the bundle on sys.path only after `initialize`. Outside the command line
    (Python API, MONAI Label, tests) it does nothing. It also makes a key that occurs twice in a config file an error.

    Args:
        argv: the command line, by default this process's.

    Raises:
        Refusal: if a key is unknown (with the nearest one that exists), or stands twice in a file; if a path is given
            as a bare number; if a setting that has a value is given as None, which MONAI ignores.
    """
    argv = sys.argv if argv is None else argv
    if not _is_bundle_command(argv):
        return
    given = _options(argv[2:])
    own = _own_options()
    files = given.get("config_file")
    overrides = [key for key in given if key not in own]
    if "args_file" in given:
        more = ConfigParser.load_config_file(given["args_file"])
        files = files or more.get("config_file")
        overrides += [key for key in more if key not in own]
    if not files:
        return
    config = _load_strictly(literal(files))
    refuse_unknown_keys({key: given.get(key) for key in overrides}, config)
    for key in (key for key in overrides if given.get(key) == "None"):
        if ConfigParser(config).get(key.removeprefix("+")) is not None:
            raise Refusal(f"--{key} None: MONAI leaves a setting as it is that is given as None: write --{key} '$None'")


def redo_mode(value: bool | str) -> bool | str:
    """Return the setting `redo`: True, False, or "changed" for what was done with other settings or weights.

    Raises:
        Refusal: if it is none of these.

    >>> redo_mode("true"), redo_mode("changed")
    (True, 'changed')
    """
    return CHANGED if value == CHANGED else flag(value, "redo")


def show_refusals_in_one_line() -> None:
    """Let a `Refusal` or Ctrl-C that ends `python -m monai.bundle run` be shown as one line; errors keep a traceback.

    Replaces sys.excepthook of this process; the exit code stays 1, and 130 after Ctrl-C. Letters that the encoding of
    the log lacks are written as escapes. Outside the command line it does nothing.
    """
    if _is_bundle_command(sys.argv):
        sys.excepthook = _excepthook
        for handler in logging.getLogger().handlers:
            stream = getattr(handler, "stream", None)
            if isinstance(stream, io.TextIOWrapper) and not stream.closed:
                # else a log line with such a letter is lost to a traceback
                stream.reconfigure(errors="backslashreplace")


def _is_bundle_command(argv: Sequence[str]) -> bool:
    return Path(argv[0]).parts[-3:] == ENTRY and len(argv) > 1 and argv[1] in COMMANDS


def _load_strictly(files: str | Sequence[str]) -> dict:
    """The merged config files; a key that occurs twice in one of them is refused."""
    before = os.environ.get(STRICT)
    os.environ[STRICT] = "1"
    try:
        return ConfigParser.load_config_files(files)
    except ValueError as error:  # only duplicate keys can fail here: MONAI has already parsed these files
        raise Refusal(f"{files}: {one_line(str(error))}: keep one of them") from error
    finally:
        if before is None:
            del os.environ[STRICT]
        else:
            os.environ[STRICT] = before


def _options(arguments: Sequence[str]) -> dict[str, str]:
    """The --key value, --key=value and -key value of a command line, read as Fire reads them."""
    options = {}
    for index, token in enumerate(arguments):
        if token == "--":  # what follows is for Fire itself
            break
        if token.startswith("--") or (token.startswith("-") and token[1:2].isalpha()):
            key, equals, value = token.lstrip("-").partition("=")
            following = arguments[index + 1] if index + 1 < len(arguments) else ""
            options[key.replace("-", "_")] = value if equals else following
    return options


def _own_options() -> set[str]:
    """The options of the command itself, from MONAI's own signatures."""
    functions = (monai.bundle.run, monai.bundle.create_workflow, ConfigWorkflow.__init__)
    return {name for function in functions for name in inspect.signature(function).parameters} - {"override", "self"}


def _excepthook(kind, error, trace) -> None:
    """Show a Refusal as its line, whatever error MONAI wrapped it in."""
    refusal = refusal_of(error)
    if isinstance(error, KeyboardInterrupt):  # Python itself ends with exit code 130
        sys.stderr.write(f"\n{INTERRUPTED}\n")
    elif refusal is None:
        sys.__excepthook__(kind, error, trace)
    else:
        logger.debug("refused here", exc_info=error)
        sys.stderr.write(f"refused: {one_line(str(refusal))}\n")
