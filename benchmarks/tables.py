"""The tables of docs/: their data are stored as CSV files, the tables themselves in pages between two markers."""

import csv
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs" / "README.md"
TABLES = ROOT / "docs" / "tables"
END = "<!-- end -->"


def scans_that_fit(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """Return the NIfTI files of a folder whose names begin as one of some patterns says, by name.

    Raises:
        SystemExit: with a line that says so, if there is none.
    """
    names = sorted(path.name for path in folder.glob("*.nii.gz"))
    found = [folder / name for name in names if any(fnmatch(name, f"{pattern}*") for pattern in patterns)]
    if not found:
        fact = f"{len(names)} files *.nii.gz, none fits --patterns {' '.join(patterns)}"
        raise SystemExit(f"{folder}: holds {fact}: give another folder or other patterns")
    return found


def publish(table: str, rows: Sequence[Mapping], content: str, page: Path, tables: Path = TABLES) -> None:
    """Write the rows to TABLES/<table>.csv and their Markdown between the markers in a page.

    Raises:
        SystemExit: with a line that says so, if there are no rows: the table stays as it is.
    """
    if not rows:
        raise SystemExit(f"{table}: nothing was measured, the table stays as it is: give other scans or cases")
    tables.mkdir(exist_ok=True)
    write_rows(rows, tables / f"{table}.csv")
    page.write_text(with_table(page.read_text(encoding="utf-8"), table, content), encoding="utf-8")


def with_table(text: str, table: str, content: str) -> str:
    """Return the document with the content between the markers of a table; unchanged if it has no such markers.

    Raises:
        ValueError: if the second marker is missing.

    >>> print(with_table("<!-- table: a -->old<!-- end -->", "a", "new"))
    <!-- table: a -->
    new
    <!-- end -->
    """
    start = f"<!-- table: {table} -->"
    before, found, rest = text.partition(start)
    if not found:
        return text
    _, ended, after = rest.partition(END)
    if not ended:
        raise ValueError(f"{start} has no {END}")
    return f"{before}{start}\n{content}\n{END}{after}"


def write_rows(rows: Sequence[Mapping], path: Path) -> None:
    """Write rows with the same keys as a CSV file, with six digits; NaN becomes an empty cell."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _written(value) for key, value in row.items()} for row in rows)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file as they are written; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _written(value):
    if not isinstance(value, float):
        return value
    return "" if value != value else f"{value:.6g}"
