"""Sphinx extension: the page of settings, made from the comments in the workflows' YAML."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sphinx.application import Sphinx

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
PAGE = Path("reference") / "settings.md"
WORKFLOWS = {  # those whose settings are listed
    "Inference": "inference.yaml",
    "Several stacks": "stacks.yaml",
    "Training": "train.yaml",
    "Evaluation": "evaluate.yaml",
    "Reader study": "study.yaml",
}
TABLE = ["", "| key | default | what it does |", "|---|---|---|"]
INTRODUCTION = """# Settings

Every key of a workflow can be given on the command line as `--key value`. A default that begins with `$` is computed,
and `@` refers to another key. This page is made from the comments in `configs/`.
"""
SECTION = re.compile(r"^# -{2,} (.+?) -{2,}\s*$")
KEY = re.compile(r"^([a-z]\w*):(?: +(.*?))??(?: +# (.*))?$")


@dataclass(frozen=True)
class Setting:
    """A key of a workflow.

    Attributes:
        name: the key.
        default: its value as written; "" for a key that has keys below it.
        text: the comment beside it.
    """

    name: str
    default: str
    text: str


def setup(app: Sphinx) -> dict:
    """Write the page before Sphinx looks for pages."""
    app.connect("builder-inited", write_page)
    return {"parallel_read_safe": True}


def write_page(app: Sphinx) -> None:
    """Write the page into the folder of the sources; git ignores it."""
    path, text = Path(app.srcdir) / PAGE, page()
    if not path.is_file() or path.read_text("utf-8") != text:  # else every build would read it anew
        path.write_text(text, "utf-8")


def page() -> str:
    """Return the page: a table for each section of each workflow."""
    lines = [INTRODUCTION]
    for title, file in WORKFLOWS.items():
        lines += [f"## {title}", "", f"`configs/{file}`"]
        for section, settings in sections(CONFIGS / file):
            lines += [
                "",
                f"### {section[0].upper()}{section[1:]}",
                "",
                "| key | default | what it does |",
                "|---|---|---|",
            ]
            lines += [f"| `{s.name}` | {_code(s.default)} | {_cell(s.text)} |" for s in settings]
        lines.append("")
    return "\n".join(lines)


def sections(path: Path) -> Iterator[tuple[str, list[Setting]]]:
    """Give the sections of a workflow with their commented keys; a section without any is left out."""
    title, settings = "general", []
    for line in path.read_text("utf-8").splitlines():
        if heading := SECTION.match(line):
            if settings:
                yield title, settings
            title, settings = heading[1], []
        elif (key := KEY.match(line)) and key[3]:
            settings.append(Setting(key[1], key[2] or "", key[3]))
    if settings:
        yield title, settings


def _code(value: str) -> str:
    return f"`{value}`".replace("|", "\\|") if value else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
