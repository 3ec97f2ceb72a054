"""Compare the weights with earlier ones on the cases of the benchmark: the table `change` of docs/research.md.

    git show COMMIT:docs/tables/cases.csv > EARLIER.csv
    python -m benchmarks.change EARLIER.csv

Reads docs/tables/cases.csv, which `benchmarks.fidelity --tables cases` writes, and the same file of an earlier commit.
Cases that one of them lacks, or has without one of the measures, are left out. PSNR and SSIM are gains over consistent
cubic in the same evaluation.
"""

import argparse
import re
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import fmean

from scripts.evaluation.method_names import CONSISTENT, GLADE

from .adaptation import MEASURED
from .fidelity import ASKED, CASES, MEASURES
from .tables import DOCS, TABLES, publish, read_rows

TABLE = "change"
PAGE = DOCS.with_name("research.md")
PROTOCOL = re.compile(r"_(\d+x_.*)$")  # the end of a case name: factor, profile and what else is special
ASKED_FOR, ALL = f"{', '.join(ASKED[0])}x {', '.join(ASKED[1])}", "all"  # rows of several protocols
ASKED_ONES = {f"{factor}x {profile}" for factor, profile in product(*ASKED)}
GAINS = ("psnr", "ssim")


def scores(rows: Sequence[Mapping[str, str]]) -> dict[tuple[str, str, str], float]:
    """Return (case, method, measure) -> value of the methods of GLADE; a measure of `GAINS` is a gain."""
    found = {(row["case"], row["method"]): row for row in rows if all(row[measure] for measure in MEASURED)}
    return {
        (case, method, measure): float(row[measure])
        - (float(found[case, CONSISTENT][measure]) if measure in GAINS else 0.0)
        for (case, method), row in found.items()
        for measure in MEASURED
        if method.startswith(GLADE) and (case, CONSISTENT) in found
    }


def change_rows(earlier: Sequence[Mapping[str, str]], now: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Return a row for each protocol and method, and for all protocols: means before and now, and the least change."""
    before, after = scores(earlier), scores(now)
    groups: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for case, method, measure in before.keys() & after.keys():
        pair = before[case, method, measure], after[case, method, measure]
        own = PROTOCOL.search(case).group(1).replace("_", " ")
        for protocol in (own, *([ASKED_FOR] if own in ASKED_ONES else []), ALL):
            groups[protocol, method][measure].append(pair)
    rows = []
    for (protocol, method), found in sorted(groups.items(), key=lambda item: (item[0][0] in (ASKED_FOR, ALL), item[0])):
        row = {"protocol": protocol, "method": method, "cases": str(len(found["psnr"]))}
        for measure in MEASURED:
            pairs = found[measure]
            row |= {f"{measure}_before": f"{fmean(b for b, _ in pairs):.6g}"}
            row |= {f"{measure}_now": f"{fmean(a for _, a in pairs):.6g}"}
        changes = [after_ - before_ for before_, after_ in found["psnr"]]
        row |= {"least_change": f"{min(changes):.6g}", "lower": str(sum(change < 0 for change in changes))}
        rows.append(row)
    return rows


def table_of(rows: Sequence[Mapping[str, str]]) -> str:
    """Return the rows of `change_rows` as a table in Markdown, each measure as before -> now."""
    titles = ["protocol", "method", "cases", *(MEASURES[measure][0] for measure in MEASURED)]
    titles += ["least change of PSNR dB", "cases with a lower PSNR"]
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for row in rows:
        cells = [row["protocol"], row["method"], row["cases"]]
        for measure in MEASURED:
            signed = "+" * (measure in GAINS) + MEASURES[measure][1]
            cells.append(f"{float(row[f'{measure}_before']):{signed}} -> {float(row[f'{measure}_now']):{signed}}")
        lines.append(f"| {' | '.join([*cells, format(float(row['least_change']), '+.2f'), row['lower']])} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write docs/tables/change.csv and the table; return 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("earlier", type=Path)
    options = parser.parse_args(arguments)
    rows = change_rows(read_rows(options.earlier), read_rows(TABLES / f"{CASES}.csv"))
    publish(TABLE, rows, table_of(rows), PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
