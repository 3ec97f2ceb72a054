"""The page that readers get: one file, its images packed in it, closed to the network."""

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Mapping
from html import escape
from pathlib import Path

import numpy as np


def packed(stack: np.ndarray) -> str:
    """12-bit planes as text: differences of neighbouring pixels, low bytes then high bytes, deflated, base 64.

    Lossless; the page undoes it. Differences of smooth images deflate to half of what the values do.

    Args:
        stack: (planes, rows, columns), uint16.
    """
    steps = np.diff(stack.ravel(), prepend=np.uint16(0)).astype("<u2")  # modulo 2^16
    split = np.concatenate([steps & 0xFF, steps >> 8]).astype(np.uint8)
    return base64.b64encode(zlib.compress(split.tobytes(), 9)).decode("ascii")


def digest(content: Mapping) -> str:
    """SHA-256 of plain values, whatever the order of their keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def page_of(payload: Mapping) -> str:
    """The page: the template with the study in it, closed to the network by a content security policy."""
    template = Path(__file__).with_name("study_page.html").read_text(encoding="utf-8")
    inline = {
        kind: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for kind, text in re.findall(r"<(style|script)>(.*?)</\1>", template, re.DOTALL)
    }
    policy = "default-src 'none'; base-uri 'none'; form-action 'none'; " + "; ".join(
        f"{kind}-src 'sha256-{code}'" for kind, code in inline.items()
    )
    images = "\n".join(
        f'<script type="text/plain" id="image-{item["id"]}">{item["data"]}</script>' for item in payload["items"]
    )
    lean = {**payload, "items": [{k: v for k, v in i.items() if k != "data"} for i in payload["items"]]}
    parts = {
        "@POLICY@": policy,
        "@TITLE@": escape(payload["title"]),
        "@STUDY@": json.dumps(lean, ensure_ascii=True).replace("<", "\\u003c"),
        "@IMAGES@": images,
    }
    return re.sub("|".join(parts), lambda found: parts[found[0]], template)
