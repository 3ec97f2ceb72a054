"""The scores of an evaluation: one row for each number, collected in one object and stored as tidy CSV."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ..geometry.errors import Refusal
from ..geometry.files import write_text


class Row(NamedTuple):
    """One line of scores.csv.

    Attributes:
        case: name of the case, or of a pair of scans: "<evaluated> against <reference>".
        method: whose result was measured.
        factor: slice spacing over the isotropic spacing.
        profile: the slice profile and whatever else distinguishes the acquisition (`EvaluatedCase.protocol`).
        metric: what was measured.
        axis: array axis that the value belongs to; "" for none.
        value: the number.
        unit: of the value; "1" for none.
    """

    case: str
    method: str
    factor: float | None
    profile: str | None
    metric: str
    axis: str
    value: float
    unit: str


class Scores:
    """All scores of an evaluation, kept for the statistics and written to a file as each step adds its rows.

    An interrupted evaluation thus leaves the scores of the cases that were done.

    Args:
        path: of scores.csv.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.rows: list[Row] = []

    def remove_earlier(self) -> None:
        """Remove the file of an earlier evaluation: its scores are not of this one."""
        self.path.unlink(missing_ok=True)

    def add(self, rows: Iterable[Row]) -> None:
        """Keep rows and write the file anew with them, completely or not at all."""
        self.rows += rows
        write_scores(self.rows, self.path)


def write_scores(rows: Iterable[Row], path: str | Path) -> Path:
    """Write scores as tidy CSV; return the path.

    >>> import tempfile
    >>> row = Row("knee_4x", "GLADE", 4.0, "rect", "psnr", axis="", value=31.25, unit="dB")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_scores([row], Path(folder) / "scores.csv")
    ...     path.read_text().splitlines()[1], read_scores(path) == [row]
    ('knee_4x,GLADE,4.0,rect,psnr,,31.25,dB', True)
    """
    return write_table(Row._fields, rows, path)


def read_scores(path: str | Path) -> list[Row]:
    """Read scores from tidy CSV.

    Raises:
        Refusal: if there is no such file, or its columns or numbers are not those of scores.
    """
    return [
        Row(
            **{
                **line,
                "value": number(line["value"], path),
                "factor": number(line["factor"], path) if line["factor"] else None,
            }
        )
        for line in read_table(Row._fields, path)
    ]


def write_table(fields: Sequence[str], rows: Iterable[NamedTuple], path: str | Path) -> Path:
    """Write rows under their column names as CSV, whole or not at all; None and NaN become empty cells."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = _writer(text)
    writer.writerow(fields)
    writer.writerows(map(_cells, rows))
    return write_text(path, text.getvalue())


def read_table(fields: Sequence[str], path: str | Path) -> list[dict[str, str]]:
    """Read the lines of a CSV file, each as column name -> text.

    Raises:
        Refusal: if there is no such file, or it has other columns.
    """
    path = Path(path)
    if not path.is_file():
        raise Refusal(f"{path.name}: there is no such file: run the evaluation first")
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != tuple(fields):
            raise Refusal(f"{path.name}: the columns must be {', '.join(fields)}")
        lines = list(reader)
    if any(None in line or None in line.values() for line in lines):
        raise Refusal(f"{path.name}: a line has more or fewer cells than columns: run the evaluation again")
    return lines


def number(text: str, path: str | Path) -> float:
    """Read a cell that holds a number.

    Raises:
        Refusal: if it does not; `path` is the file that the message names.
    """
    try:
        return float(text)
    except ValueError as error:
        raise Refusal(f"{Path(path).name}: {text!r} is not a number: run the evaluation again") from error


def _writer(file):
    return csv.writer(file, lineterminator="\n")


def _cells(row: Iterable) -> list:
    return [_cell(value) for value in row]


def _cell(value):
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return repr(float(value)) if isinstance(value, float) else value
