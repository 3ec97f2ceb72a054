"""Write the output of a benchmark into docs/dicom.md, with the date and the kind of machine.

`python -m benchmarks.dicom_folders SCANS | python -m benchmarks.dicom_page dicom_folders`

The text goes between `<!-- begin NAME -->` and `<!-- end NAME -->`.
"""

import os
import re
import sys
from datetime import datetime
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "dicom.md"


def machine() -> str:
    """Return the kind of processor and its number of cores (Linux), without the name of the computer."""
    info = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return f"{model[1].strip() if model else 'unknown processor'}, {os.cpu_count()} cores"


def filled(page: str, name: str, text: str, about: str) -> str:
    """Return the page with one section replaced.

    Raises:
        ValueError: the page has no such section.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    if page.count(begin) != 1 or page.count(end) != 1:
        raise ValueError(f"{PAGE.name} has no section {name}")
    before, rest = page.split(begin)
    return f"{before}{begin}\n{about}\n\n```text\n{text.strip()}\n```\n{end}{rest.split(end)[1]}"


def main(arguments: list[str]) -> int:
    """Replace the section by standard input; the exit code is 1 where that is empty."""
    text = sys.stdin.read()
    if len(arguments) != 1 or not text.strip():
        sys.stdout.write(f"{__doc__}\n")
        return 1
    about = f"`python -m benchmarks.{arguments[0]}`, {datetime.now():%Y-%m-%d}, {machine()}:"
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), arguments[0], text, about), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
