"""Pages rendered from jinja2 templates: everything is escaped, and no path of the machine reaches a page."""

# ruff: noqa: RUF001, the page has typographic minus, dash and multiplication signs
import math
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from .libraries import Embedded, csp_hash

TEMPLATES = Path(__file__).with_name("templates")
WORD = r"[^\s'\",:;()\[\]{}=\\/]+"
# an absolute path of Unix or Windows, or its address, but neither 1/mm nor a/b; its last part is kept. Folders may have
# spaces in their names, but no option of a command line, as --n
ABSOLUTE = re.compile(
    r"(?<![\w.\-/\\<])(?:file:/+(?:[A-Za-z]:[\\/])?|[A-Za-z]:[\\/]|~?/|\\\\)"
    rf"(?:{WORD}(?: +(?!-\S){WORD})*[\\/])*({WORD})"
)
NOT_SET = "–"


class Cell(NamedTuple):
    """A table cell with a small second line.

    Attributes:
        text: the value.
        small: the second line; empty for none.
        bold: set off from the other cells.
    """

    text: str
    small: str = ""
    bold: bool = False


class Table(NamedTuple):
    """A table whose first column names its rows.

    Attributes:
        caption: what it shows.
        head: titles of the columns, texts or `Cell`s.
        rows: texts or `Cell`s; the first of each row is its header.
        marked: row headers that are set off.
        kind: "wide" for smaller letters, "words" for cells of text, or empty.
    """

    caption: str
    head: Sequence[str | Cell]
    rows: Sequence[Sequence[str | Cell]]
    marked: Collection[str] = ()
    kind: str = ""


def render(
    template: str,
    scripts: Sequence[str] = (),
    styles: Sequence[str] = (),
    libraries: Sequence[Embedded] = (),
    **content,
) -> str:
    """Render a page from a template.

    A page without scripts may run none; one with scripts may run these and the libraries alone: its content security
    policy has their hashes.

    Args:
        template: its file name in scripts/reports/templates.
        scripts: file names of scripts beside the templates, run at the end of the page in this order.
        styles: file names of style sheets beside the templates.
        libraries: that the scripts start.
        content: the template's variables; one that is missing is an error.
    """
    texts = [own_text(name) for name in scripts]
    hashes = [*(csp_hash(text.encode()) for text in texts), *(library.csp_hash for library in libraries)]
    return ENVIRONMENT.get_template(template).render(
        headings=[],
        scripts=texts,
        styles=[own_text(name) for name in styles],
        script_policy=f"; script-src {' '.join(hashes)}" if hashes else "",
        **content,
    )


def own_text(name: str) -> str:
    """Return the text of a script or style sheet that stands beside the templates."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


def without_paths(text: str) -> str:
    """Shorten each absolute path in a text to its last part, because pages are sent to other people.

    >>> without_paths("cannot read /home/somebody/knee.nii.gz: 3 errors/mm")
    'cannot read …/knee.nii.gz: 3 errors/mm'
    """
    return ABSOLUTE.sub(r"…/\1", text)


def identifier(name: str) -> str:
    """Turn a heading into the id of its element.

    >>> identifier("Readers' study")
    'readers-study'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def percent(share: float) -> str:
    """Write a share in percent with two significant digits.

    >>> percent(0.0123), percent(0.2), percent(1.5e-7)
    ('1.2 %', '20 %', '0.000015 %')
    """
    if not share:
        return "0 %"
    places = max(1 - math.floor(math.log10(abs(100 * share))), 0)
    return f"{100 * share:.{places}f} %"


def setting(value) -> str:
    """Write the value of a setting as one would type it.

    >>> setting({"factor": 4, "profile": "rect", "noise": None})
    'factor 4, profile rect, noise –'
    """
    if value is None:
        return NOT_SET
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {setting(part)}" for key, part in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return "; ".join(setting(part) for part in value) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def settings(values: Mapping) -> list[tuple[str, str]]:
    """Name and written value of each setting, for a list of definitions.

    >>> settings({"slice_profile": "rect", "adapt": False})
    [('slice profile', 'rect'), ('adapt', 'no')]
    """
    return [(name.replace("_", " "), setting(value)) for name, value in values.items()]


def _shown(value):
    """What a template writes for an expression: nothing for None, texts without paths, markup as it is."""
    if value is None:
        return ""
    return value if hasattr(value, "__html__") else without_paths(str(value))


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        extensions=["jinja2.ext.do"],
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"identifier": identifier, "percent": percent}
    return environment


ENVIRONMENT = _environment()
