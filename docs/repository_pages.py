"""Sphinx extension: pages that show files of the repository, with links that lead to the site's pages.

A page shows a file where it says `<!-- shows: CONTRIBUTING.md -->`, a path below the root of the repository.
"""

import posixpath
import re
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
DOCS = "docs"
SHOWS = re.compile(r"<!-- shows: (\S+) -->")
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")


def setup(app: Sphinx) -> dict:
    """Fill in the files and lead the links when a page is read."""
    app.connect("source-read", fill_in)
    app.connect("autodoc-process-docstring", escape_bars)
    return {"parallel_read_safe": True}


def fill_in(app: Sphinx, docname: str, source: list[str]) -> None:
    """Replace the content of a page by that with its file, and with links from where the page is."""
    pages = pages_of(Path(app.srcdir))
    shown = SHOWS.search(source[0])
    if shown:
        text = relinked((ROOT / shown[1]).read_text("utf-8"), shown[1], docname, pages)
        source[0] = source[0].replace(shown[0], text)
    else:
        source[0] = relinked(source[0], f"{DOCS}/{docname}.md", docname, pages)


def pages_of(folder: Path) -> dict[str, str]:
    """Return {file of the repository: page that shows it}, paths below the root and below docs/."""
    pages = {}
    for page in folder.rglob("*.md"):
        name = page.relative_to(folder).as_posix()
        pages[f"{DOCS}/{name}"] = name
        if shown := SHOWS.search(page.read_text("utf-8")):
            pages[shown[1]] = name
    return pages


def relinked(markdown: str, source: str, docname: str, pages: dict[str, str]) -> str:
    """Return Markdown whose links lead to pages of the site; a link to anything that is not there becomes its text.

    Args:
        markdown: the text.
        source: path of its file below the root of the repository.
        docname: the page that shows it, below docs/.
        pages: {file of the repository: page}.

    >>> pages = {"docs/physics.md": "physics.md"}
    >>> relinked("[P](docs/physics.md#p), [this](Makefile)", "README.md", "start/index", pages)
    '[P](../physics.md#p), this'
    """
    here = posixpath.dirname(docname)

    def link(match: re.Match) -> str:
        image, text, target, anchor = match.groups(default="")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        page = pages.get(path)
        if page is None and path.startswith(f"{DOCS}/") and (ROOT / path).is_file():
            page = posixpath.relpath(path, DOCS)
        return f"{image}[{text}]({posixpath.relpath(page, here or '.')}{anchor})" if page else text

    return LINK.sub(link, markdown)


def escape_bars(_app: Sphinx, _what: str, _name: str, _object: object, _options: object, lines: list[str]) -> None:
    """Keep |x|, an absolute value, from being read as a substitution of reStructuredText."""
    lines[:] = [line if line.lstrip().startswith(">>>") else line.replace("|", "\\|") for line in lines]
