"""The page that readers get: one file with its images packed in it, which loads nothing and sends nothing."""

import hashlib
import json
from collections.abc import Mapping

from ..reports.libraries import csp_hash
from ..reports.pages import own_text, render

UNPACK, SCRIPT, STYLE = "unpack.js", "study_page.js", "study_page.css"  # beside the templates


def digest(content: Mapping) -> str:
    """Return the SHA-256 of plain values; the order of their keys does not matter.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def page_of(payload: Mapping) -> str:
    """Render the page with the study in it; its content security policy allows no connection and no other script."""
    style, script = own_text(STYLE), own_text(SCRIPT) + own_text(UNPACK)
    study = {**payload, "items": [{k: v for k, v in item.items() if k != "data"} for item in payload["items"]]}
    return render(
        "study_page.html",
        title=payload["title"],
        style=style,
        style_hash=csp_hash(style.encode()),
        script=script,
        script_hash=csp_hash(script.encode()),
        study=study,
        images=payload["items"],
    )
