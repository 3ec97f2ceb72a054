"""Licences of the packages that this bundle needs: `python -m apps.zoo.licences` lists them.

What is installed counts: the packages that pyproject.toml asks for, those that they ask for, and so on.
"""

import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
FAMILIES = {
    "Apache": r"apache",
    "BSD": r"bsd|kiwi licensing",
    "MIT": r"\bmit\b|mit-cmu",
    "PSF": r"psf|python software foundation|matplotlib",
    "Zlib": r"zlib",
    "ISC": r"\bisc\b|iscl",
    "public domain": r"cc0|0bsd|unlicense",
    "MPL": r"mpl|mozilla public",
    "LGPL": r"lgpl|lesser general public",
    "GPL": r"(?<![la])gpl|(?<!lesser )(?<!affero )general public",
    "AGPL": r"agpl|affero",
}
"""Kinds of licence, and how packages write them."""
GROUPS = ("dependencies", "train", "evaluate", "stacks", "formats", "dev")
"""What pyproject.toml asks for, and its optional groups."""
ACCEPTED = {"Apache", "BSD", "MIT", "PSF", "Zlib", "ISC", "public domain", "MPL"}
"""Permissive ones, and MPL, whose conditions hold for its own files alone: they are used unchanged."""

READ = {"docutils": "public domain and BSD; GPL-3 for tools/editors/emacs alone, which is not installed (COPYING.rst)"}
"""Packages whose own words name more licences than hold for what is installed, and what reading them showed."""


@dataclass(frozen=True)
class Licence:
    """What a package states about its licence.

    Attributes:
        package: its name.
        version: its version.
        stated: the licence expression, else the classifiers, else the beginning of the licence text.
        families: the kinds of `FAMILIES` that it names; empty where it names none.
    """

    package: str
    version: str
    stated: str
    families: frozenset[str]

    @property
    def accepted(self) -> bool:
        """Whether the package states a licence, and only accepted ones, or reading it has shown so."""
        return self.package in READ or (bool(self.families) and self.families <= ACCEPTED)


def requirements(group: str) -> list[Requirement]:
    """Return the requirements of pyproject.toml: "dependencies", or an optional group such as "dev"."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    return [Requirement(text) for text in project.get(group) or project["optional-dependencies"][group]]


def closure(asked: Iterable[Requirement]) -> list[str]:
    """Return the installed packages among those asked for, those that they ask for, and so on."""
    seen: set[str] = set()
    waiting = list(asked)
    while waiting:
        name = canonicalize_name(waiting.pop().name)
        if name in seen:
            continue
        try:
            needs = [Requirement(text) for text in importlib.metadata.requires(name) or []]
        except importlib.metadata.PackageNotFoundError:
            continue
        seen.add(name)
        waiting += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return sorted(seen)


def families(text: str) -> frozenset[str]:
    """Return the kinds of licence that a text names.

    >>> sorted(families("MPL-2.0 AND MIT")), sorted(families("GNU General Public License v3 (GPLv3)"))
    (['MIT', 'MPL'], ['GPL'])
    """
    return frozenset(name for name, pattern in FAMILIES.items() if re.search(pattern, text.lower()))


def licence_of(package: str) -> Licence:
    """Return what an installed package states about its licence."""
    about = importlib.metadata.metadata(package)
    classifiers = [text for text in about.get_all("Classifier") or [] if text.startswith("License ::")]
    text = about.get("License") or ""
    parts = (about.get("License-Expression") or "", "; ".join(c.rpartition(":: ")[2] for c in classifiers), text)
    stated = next((part for part in parts if part), "")
    # The whole of the first two: some packages state a licence here and another one there.
    named = families(" ".join([*parts[:2], text.splitlines()[0] if text else ""])) or families(text)
    return Licence(package, about["Version"], " ".join(stated.split())[:60], named)


def main() -> int:
    """Print the licences of all packages; the exit code is 1 where one is not accepted."""
    needed = set(closure(requirements("dependencies")))
    refused = 0
    for package in closure([found for group in GROUPS for found in requirements(group)]):
        found = licence_of(package)
        refused += not found.accepted
        use = "needed" if package in needed else "development"
        mark = "" if found.accepted else "  <- not accepted"
        sys.stdout.write(f"{use:12} {package:26} {found.version:14} {found.stated}{mark}\n")
    return int(refused > 0)


if __name__ == "__main__":
    sys.exit(main())
