"""Checks of every page, with an HTML parser and, if installed, with a browser."""

import base64
import hashlib
import re
import shutil
import subprocess
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

VOID = {"meta", "img", "br", "hr", "input"}
TELEPHONE = 390  # pixels


class Reader(HTMLParser):
    """Checks that elements are closed, and keeps tags, attributes and text."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == [], f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all(self, *names) -> list[dict]:
        return [attributes for tag, attributes in self.tags if tag in names]


def check_page(path: Path) -> Reader:
    """Checks that a page is well-formed, self-contained and accessible; returns its content."""
    source = path.read_text(encoding="utf-8")
    reader = Reader(source)
    assert (
        re.findall(r"https?:|//\w", re.sub(r"base64,[^\"]*|<script type=\"text/plain\".*?</script>", "", source)) == []
    )
    assert reader.all("link", "iframe", "object", "form") == []
    check_scripts(source, reader)
    assert [a for _, attributes in reader.tags for a in attributes if a.startswith("on")] == []
    policy = next(m["content"] for m in reader.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    identifiers = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(set(identifiers)) == len(identifiers)
    anchors = [a["href"] for a in reader.all("a")]
    assert {a[1:] for a in anchors if a.startswith("#")} <= set(identifiers)
    beside = [unquote(a) for a in anchors if not a.startswith("#")]
    assert [a for a in beside if not (path.parent / a).is_file()] == []
    assert all(image["alt"] and image["src"].startswith("data:image/") for image in reader.all("img"))
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in reader.all("svg"))
    assert all(cell.get("scope") in ("col", "row") for cell in reader.all("th"))
    assert "no medical device" in reader.text
    assert "synthesised" in reader.text
    assert not list(path.parent.glob(".*partial"))
    return reader


def check_scripts(source: str, reader: Reader) -> None:
    """Checks that only the page's own scripts may run: inline, each with its hash in the content security policy."""
    own = [attributes for attributes in reader.all("script") if "type" not in attributes]
    assert all(not attributes for attributes in own)
    texts = re.findall("<script>(.*?)</script>", source, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
    policy = next(m["content"] for m in reader.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    allowed = re.findall(r"'sha256-([^']*)'", policy)
    assert len(texts) == len(own)
    assert set(hashes) <= set(allowed)
    assert "unsafe" not in policy.replace("style-src 'unsafe-inline'", "")
    assert "connect-src" not in policy


BROKEN_WORDS = """(() => {
  const broken = [];
  for (const part of document.querySelectorAll("th, dt, figcaption, h1, h2, h3, h4")) {
    const walk = document.createTreeWalker(part, NodeFilter.SHOW_TEXT), range = document.createRange();
    while (walk.nextNode()) for (const word of walk.currentNode.data.matchAll(/[^\\s-]+/g)) {
      range.setStart(walk.currentNode, word.index); range.setEnd(walk.currentNode, word.index + word[0].length);
      if (new Set([...range.getClientRects()].map(box => box.top)).size > 1) broken.push(word[0]);
    }
  }
  return broken;
})()"""
"""JavaScript: the words of headings that a line break divides."""


def in_browser(page: Path, folder: Path) -> tuple[str, str]:
    """Opens the page in Chromium at the width of a telephone; returns "width widest-content" and the log."""
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("needs chromium on PATH")
    source = page.read_text(encoding="utf-8").replace("<details", "<details open")  # folded parts must fit as well
    frame = f'<iframe id="f" style="border:0;width:{TELEPHONE}px;height:800px" srcdoc="{escape(source)}"></iframe>'
    measure = "const d=document.getElementById('f').contentDocument.documentElement;"
    measure += "document.title=d.clientWidth+' '+d.scrollWidth"
    copy = folder / "probe.html"
    copy.write_text(f'<body onload="{measure}">{frame}</body>', encoding="utf-8")
    options = [
        "--headless",
        "--hide-scrollbars",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--no-first-run",
    ]
    options += ["--disable-component-update", "--disable-sync", f"--user-data-dir={folder / 'browser'}"]
    options += ["--enable-logging=stderr", "--log-level=0", "--dump-dom"]
    done = subprocess.run(
        [browser, *options, f"file://{copy}"], capture_output=True, text=True, timeout=120, check=True
    )
    return re.search("<title>(.*?)</title>", done.stdout).group(1), done.stderr
