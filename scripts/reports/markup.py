"""HTML from values: everything is escaped unless it is already markup, and no path of the machine gets in."""

# ruff: noqa: RUF001, the page has typographic minus, dash and multiplication signs
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

TEMPLATE = "page.html"  # beside this module
VOID = {"img", "br", "hr", "meta"}
# an absolute path of Unix or Windows, but neither 1/mm nor a/b; its last part stays
ABSOLUTE = re.compile(
    r"(?<![\w.\-/\\<])(?:[A-Za-z]:[\\/]|~?/|\\\\)(?:[^\s'\",:;()\[\]{}=\\/]+[\\/])*([^\s'\",:;()\[\]{}=\\/]+)"
)
NOT_SHOWN = "–"


class Markup(str):
    """Text that is HTML already."""


def element(name: str, *children, **attributes) -> Markup:
    """One HTML element; children that are no `Markup` are escaped, None and False are left out.

    Args:
        name: of the element.
        children: texts, numbers, Markup or lists of them.
        attributes: True writes the bare name; `class_` and `for_` stand for class and for; `aria_label` for aria-label.
    """
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return Markup(f"<{name}{written}>" if name in VOID else f"<{name}{written}>{joined(*children)}</{name}>")


def joined(*children) -> Markup:
    """The children one after the other, as HTML."""
    parts = []
    for child in children:
        if isinstance(child, Markup):
            parts.append(child)
        elif isinstance(child, (list, tuple)):
            parts.append(joined(*child))
        elif child is not None and child is not False:
            parts.append(escape(without_paths(str(child))))
    return Markup("".join(parts))


def without_paths(text: str) -> str:
    """The text with every absolute path cut down to its last part: a page may travel further than the machine."""
    return ABSOLUTE.sub(r"…/\1", text)


def table(
    caption, head: Sequence, rows: Iterable[Sequence], marked: Iterable[str] = (), kind: str | None = None
) -> Markup:
    """A table whose first column names the rows; it scrolls sideways by itself where the screen is narrow.

    Args:
        caption: what it shows.
        head: titles of the columns.
        rows: the first cell of each is its header.
        marked: row headers that are set off.
        kind: "wide" for smaller letters, "words" for cells of text.
    """
    marked = set(marked)
    titles = element("tr", [element("th", title, scope="col") for title in head])
    body = [
        element(
            "tr",
            element("th", row[0], scope="row"),
            [element("td", cell) for cell in row[1:]],
            class_="marked" if row[0] in marked else None,
        )
        for row in rows
    ]
    inner = element(
        "table",
        element("caption", caption),
        element("thead", titles),
        element("tbody", body),
        class_=kind,
    )
    return element("div", inner, class_="scroll", tabindex="0", role="region", aria_label=_plain(caption))


def details(title, *children, opened: bool = False, **attributes) -> Markup:
    """A part that can be folded; printed open."""
    return element("details", element("summary", title), *children, open=opened, **attributes)


def definitions(pairs: Iterable[tuple]) -> Markup:
    """A list of names and what they are; pairs whose value is None are left out."""
    kept = [(name, value) for name, value in pairs if value is not None]
    return element("dl", [element("div", element("dt", name), element("dd", value)) for name, value in kept])


def section(identifier: str, title: str, *children) -> Markup:
    """A part of the page with a heading of its own."""
    return element("section", element("h2", title), *children, id=identifier)


def setting(value) -> str:
    """A setting as one would type it."""
    if value is None:
        return NOT_SHOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {setting(part)}" for key, part in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return "; ".join(setting(part) for part in value) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def page(title: str, lead, sections: Mapping[str, Markup]) -> str:
    """The whole page; nothing in it is loaded from anywhere.

    Args:
        title: of the page.
        lead: what stands under the title.
        sections: name in the list of contents -> section, whose id is the name in lower case with hyphens.
    """
    links = [element("a", name, href=f"#{identifier(name)}") for name in sections]
    template = Template(Path(__file__).with_name(TEMPLATE).read_text(encoding="utf-8"))
    body = joined(list(sections.values()))
    return template.substitute(title=escape(title), lead=joined(lead), links=joined(links), body=body)


def identifier(name: str) -> str:
    """A name as the id of an element."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _plain(text) -> str:
    return re.sub(r"<[^>]*>", "", str(text))
