"""The JavaScript libraries that stand inside pages: pinned by version and hash, compressed for the page."""

import base64
import hashlib
import zlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ..geometry.errors import Refusal

VENDOR = Path(__file__).with_name("vendor")
LEVEL = 9  # of the compression: a library is compressed once in a process


class Library(NamedTuple):
    """A published file of a JavaScript library, unchanged, kept in scripts/reports/vendor with its licence.

    Attributes:
        name: its folder in vendor.
        version: that was published.
        file: its name.
        sha256: of the file, hexadecimal.
    """

    name: str
    version: str
    file: str
    sha256: str


NIIVUE = Library(
    "niivue", "0.69.0", "niivue.umd.js", "47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af"
)
CHARTJS = Library(
    "chartjs", "4.5.1", "chart.umd.min.js", "48444a82d4edcb5bec0f1965faacdde18d9c17db3063d042abada2f705c9f54a"
)
LIBRARIES = (NIIVUE, CHARTJS)


class Embedded(NamedTuple):
    """A library as it stands in a page.

    Attributes:
        name: of the library.
        version: of the library.
        licence: its text.
        data: the file, compressed with zlib, in base 64.
        csp_hash: source expression that allows it in a content security policy.
    """

    name: str
    version: str
    licence: str
    data: str
    csp_hash: str


@cache
def embedded(library: Library) -> Embedded:
    """Read a library, check its hash and compress it.

    Raises:
        Refusal: if the file is not there or is not the published one.
    """
    path = VENDOR / library.name / library.file
    try:
        content = path.read_bytes()
        licence = path.with_name("LICENSE").read_text(encoding="utf-8")
    except OSError as error:
        raise Refusal(f"{path}: cannot be read: restore scripts/reports/vendor, see its README.md") from error
    if hashlib.sha256(content).hexdigest() != library.sha256:
        raise Refusal(
            f"{path}: is not {library.name} {library.version} as published: restore it, see the "
            "README.md of scripts/reports/vendor"
        )
    data = base64.b64encode(zlib.compress(content, LEVEL)).decode("ascii")
    return Embedded(library.name, library.version, licence, data, csp_hash(content))


def csp_hash(script: bytes) -> str:
    """Return the source expression that allows an inline script or style in a content security policy.

    >>> csp_hash(b"")
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
    """
    return f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode('ascii')}'"
