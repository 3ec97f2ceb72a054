"""The page that the demo leaves: its table and its pictures in one plain HTML file."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>GLADE demo</title>
<style>body{{background:#101214;color:#f2f2f2;font:15px/1.5 sans-serif;margin:2rem auto;max-width:1500px}}
pre{{font:13px/1.5 monospace;overflow-x:auto}}img{{max-width:100%}}</style></head>
<body><h1>GLADE demo</h1>
<p>Through-plane detail is synthesised by a network: not for diagnosis.</p>
<pre>{table}</pre>
{pictures}
</body></html>
"""


def write_page(path: Path, lines: Sequence[str], pictures: Sequence[Path]) -> Path:
    """Write the page; pictures are linked relative to it."""
    figures = "\n".join(
        f'<h2>{escape(picture.stem)}</h2>\n<img src="{escape(picture.relative_to(path.parent).as_posix())}" '
        f'alt="{escape(picture.stem)} in three views">'
        for picture in pictures
    )
    path.write_text(PAGE.format(table=escape("\n".join(lines)), pictures=figures), encoding="utf-8")
    return path
