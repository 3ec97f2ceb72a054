"""The page that readers get: one file with its images packed in it, which loads nothing and sends nothing."""

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping

import numpy as np

from ..reports.pages import TEMPLATES, render


def packed(stack: np.ndarray) -> str:
    """Compress 12-bit planes to text: differences of neighbouring pixels, low bytes, high bytes, zlib, base 64.

    Lossless; the page's script restores the planes. Differences compress to half the size of the values.

    Args:
        stack: (planes, rows, columns), uint16.

    >>> list(zlib.decompress(base64.b64decode(packed(np.array([[[1, 2], [3, 300]]], np.uint16)))))
    [1, 1, 1, 41, 0, 0, 0, 1]
    """
    steps = np.diff(stack.ravel(), prepend=np.uint16(0)).astype("<u2")  # modulo 2^16
    split = np.concatenate([steps & 0xFF, steps >> 8]).astype(np.uint8)
    return base64.b64encode(zlib.compress(split.tobytes(), 9)).decode("ascii")


def digest(content: Mapping) -> str:
    """Return the SHA-256 of plain values; the order of their keys does not matter.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def page_of(payload: Mapping) -> str:
    """Render the page with the study in it; its content security policy allows no connection and no other script."""
    style, script = ((TEMPLATES / f"study_page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    study = {**payload, "items": [{k: v for k, v in item.items() if k != "data"} for item in payload["items"]]}
    return render(
        "study_page.html",
        title=payload["title"],
        style=style,
        style_sha256=_base64_sha256(style),
        script=script,
        script_sha256=_base64_sha256(script),
        study=study,
        images=payload["items"],
    )


def _base64_sha256(text: str) -> str:
    """The hash of an inline style or script as a content security policy states it."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
