"""Names of settings: an override whose name no config has is refused; imports nothing that takes time to load."""

import ast
import difflib
from collections.abc import Mapping
from typing import Any

from ..geometry.errors import Refusal

SEPARATOR = "::"
PATHS = ("_dir", "_path")  # suffixes of settings that are paths
OF_ANOTHER_CONFIG = "inference"  # of stacks.yaml: settings of inference.yaml, which are checked with that config


def refuse_unknown_keys(overrides: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Refuse overrides of settings that a config does not have; MONAI would add them without a word.

    Args:
        overrides: name of each setting, as a, a::b or a#b, and its value as on the command line; None where unknown.
        config: content of the config files.

    Raises:
        Refusal: if a name is unknown (with the nearest one that exists), or a path is given as a bare number.

    >>> refuse_unknown_keys({"sharpnes": "0"}, {"sharpness": 0.5})
    Traceback (most recent call last):
    ...
    scripts.geometry.errors.Refusal: no setting is called sharpnes: did you mean sharpness?
    """
    for key, value in overrides.items():
        _check_key(key.removeprefix("+").replace("#", SEPARATOR), config)
        if key.endswith(PATHS) and isinstance(literal(value), (int, float)):
            raise Refusal(f"{key} is a path, and {value} is read as a number: write ./{value}")


def _check_key(key: str, config: Mapping) -> None:
    """Refuse a key like a::b::c that does not exist; a new argument of a `_target_` is left to that target."""
    level, path = config, []
    for part in key.split(SEPARATOR):
        if isinstance(level, Mapping):
            if part not in level:
                if "_target_" in level or path == [OF_ANOTHER_CONFIG]:
                    return
                near = difflib.get_close_matches(part, [str(k) for k in level], n=1)
                of_config = "the config lists them (glade --print-config shows it)"
                hint = f"did you mean {SEPARATOR.join([*path, near[0]])}?" if near else of_config
                raise Refusal(f"no setting is called {key}: {hint}")
            level = level[part]
        elif isinstance(level, list):
            if not part.isdigit() or int(part) >= len(level):
                raise Refusal(f"no setting is called {key}: {SEPARATOR.join(path)} has the items 0 to {len(level) - 1}")
            level = level[int(part)]
        else:  # a reference or a plain value: MONAI itself complains of what is below it
            return
        path.append(part)


def literal(text: Any) -> Any:
    """Return the Python value that a text is written as; any other text as it is.

    >>> literal("['a', 'b']"), literal("paper.yaml")
    (['a', 'b'], 'paper.yaml')
    """
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError):
        return text
