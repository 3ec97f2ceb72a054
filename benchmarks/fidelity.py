"""Write the tables of docs/README.md from the files of an evaluation.

    python -m benchmarks.fidelity SCANS --factors 3 4 6 --profiles rect gauss --output_dir out/fidelity
    python -m benchmarks.fidelity --evaluation out/evaluation [--tables real cross_plane paper]

The first runs configs/evaluate.yaml on the near-isotropic scans of a folder (further options override keys of that
file), the second takes a finished evaluation. Both keep the data of each table in docs/tables/*.csv and write the table
between its markers in docs/README.md, that of all cases in docs/cases.md.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import fmean

from scripts.data.discovery import file_stem
from scripts.evaluation.layout import EvaluationFolder
from scripts.evaluation.method_names import CONSISTENT, GLADE
from scripts.evaluation.scores import Row, read_scores
from scripts.evaluation.statistics import POOLED, REAL, SIMULATED, Statistic, read_statistics
from scripts.reports.explained import ordered

from .tables import DOCS, ROOT, TABLES, publish

MEASURES = {  # metric -> title, format
    "psnr": ("PSNR dB", ".2f"),
    "ssim": ("SSIM", ".3f"),
    "high_band_energy": ("high-band energy", ".3f"),
    "high_band_error": ("high-band error", ".3f"),
    "pique": ("PIQUE", ".1f"),
    "slice_period_modulation": ("slice modulation", ".3f"),
    "slice_period_stripes": ("slice stripes", ".3f"),
    "uncertainty_coverage": ("uncertainty coverage", ".3f"),
    "uncertainty_rank_correlation": ("uncertainty correlation", ".2f"),
    "sharpness_closed": ("relative edge sharpness", ".2f"),
    "spectrum_closed": ("relative fine detail", ".2f"),
    "residual": ("residual", ".1e"),
    "cross_plane_correlation": ("local correlation", ".3f"),
    "cross_plane_coherence": ("high-band coherence", ".3f"),
}
FIDELITY = ("psnr", "ssim", "high_band_energy", "high_band_error")
SLICES = ("slice_period_modulation", "slice_period_stripes")
UNCERTAINTY = ("uncertainty_coverage", "uncertainty_rank_correlation")
COLUMNS = {  # table -> its metrics
    "fidelity": (*FIDELITY, "pique", *SLICES, *UNCERTAINTY, "residual"),
    "real": ("pique", "sharpness_closed", "spectrum_closed", *SLICES, "residual"),
    "sharpness": (*FIDELITY, *SLICES, "pique", *UNCERTAINTY),  # of held-back scans, at further values of the sharpness
    "peers": (*FIDELITY, "pique", "residual"),  # of an evaluation with --pairs and --others
    "cross_plane": ("cross_plane_correlation", "cross_plane_coherence"),
}
PAPER = "paper"  # the measures of the paper, case by case
PAPER_CASES = "abdomen"
PAPER_BORDER = {  # across an organ's border
    "border_raw": ("edge sharpness 1/mm, raw", ".3f"),
    "border_polynomial": ("polynomial", ".3f"),
    "border_sigmoid": ("sigmoid", ".3f"),
    "border_rise_mm": ("10-90 % mm", ".2f"),
    "border_overshoot": ("overshoot", ".2f"),
}
CASES = "cases"  # all simulated cases: docs/cases.md
PAGES = {CASES: "cases.md"}  # tables that are not in docs/README.md
CASES_SHOWN = ("psnr", "ssim", "high_band_error", "high_band_energy", *UNCERTAINTY)
PAPER_COLUMNS = ("pique", "sharpness_closed", *PAPER_BORDER)
BENCHMARK = ("fidelity", "real", "cross_plane")  # the tables of an evaluation of the benchmark
SIMPLE = ("nearest", "linear")  # shown for pooled protocols only
DIFFERENCE = {  # table -> the metric whose difference to consistent cubic is its last column
    "fidelity": "psnr",
    "sharpness": "psnr",
    "peers": "psnr",
    "real": "sharpness_closed",
    "cross_plane": "cross_plane_coherence",
}

ASKED = ("3", "4", "6"), ("rect", "gauss", "fourier")  # the targets of the project are means over these


def with_mean_of_asked(rows: Sequence[Statistic]) -> list[Statistic]:
    """Return the rows and, where all nine protocols of `ASKED` have the same number of scans, the means over them."""
    nine = set(product(*ASKED))
    groups: dict[tuple, list[Statistic]] = {}
    for row in rows:
        if (row.factor, row.profile) in nine:
            groups.setdefault((row.method, row.metric, row.against), []).append(row)
    whole = [group for group in groups.values() if len(group) == len(nine) and len({row.n for row in group}) == 1]
    named = {"factor": ", ".join(ASKED[0]), "profile": ", ".join(ASKED[1])}
    nothing = dict.fromkeys(("low", "high", "p"), float("nan"))
    return [*rows, *(group[0]._replace(**named, **nothing, mean=fmean(r.mean for r in group)) for group in whole)]


def belongs(found: Statistic, table: str) -> bool:
    """Return whether a statistic belongs to a table."""
    if found.metric not in COLUMNS[table] or found.axis or found.against not in ("", CONSISTENT):
        return False
    if found.factor != POOLED:
        return table == "fidelity"
    return found.profile == (SIMULATED if table in ("fidelity", "sharpness", "peers") else REAL)


def _order(group: tuple[str, str]) -> tuple[bool, str, float]:
    """Where a row of (factors, profiles) belongs: by profile, then by factor; the pooled ones at the end."""
    factors, profiles = group
    return factors == POOLED, profiles, 0.0 if factors == POOLED else float(factors.split(",")[0])


def table_of(rows: Sequence[Statistic], table: str) -> str:
    """Return a table in Markdown: for each protocol and method the means over n scans and the difference to cubic."""
    measured, key = {row.metric for row in rows}, DIFFERENCE[table]
    columns = {metric: MEASURES[metric] for metric in COLUMNS[table] if metric in measured or metric not in UNCERTAINTY}
    titles = ["protocol", "n", "method", *(title for title, _ in columns.values())]
    titles.append(f"{columns[key][0]} over {CONSISTENT}")
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    rows = with_mean_of_asked(rows)
    groups = sorted({(r.factor, r.profile) for r in rows}, key=_order)
    if len(groups) == 2 and groups[-1][0] == POOLED:  # one protocol: the pooled rows would repeat it
        groups.pop()
    for factor, profile in groups:
        here = [r for r in rows if (r.factor, r.profile) == (factor, profile)]
        means = {(r.method, r.metric): r for r in here if not r.against}
        gains = {r.method: r for r in here if r.against == CONSISTENT and r.metric == key}
        methods = ordered(r.method for r in here if factor == POOLED or r.method not in SIMPLE)
        name = f"{profile}, pooled" if factor == POOLED else f"{factor}x {profile}"
        for method in methods:
            cells = [means.get((method, metric)) for metric in columns]
            count = max((c.n for c in cells if c is not None), default=0)
            values = [
                "-" if c is None else format(c.mean, form) for c, (_, form) in zip(cells, columns.values(), strict=True)
            ]
            gain = "" if method not in gains else _gain(gains[method], columns[key][1])
            lines.append(f"| {name} | {count} | {method} | {' | '.join(values)} | {gain} |")
            name = ""
    return "\n".join(lines)


def _gain(found: Statistic, form: str) -> str:
    interval = "" if found.low != found.low else f" [{found.low:+{form}}, {found.high:+{form}}]"  # NaN for one scan
    p = "" if found.p != found.p else f", p {found.p:.2g}"
    return f"{found.mean:+{form}}{interval}{p}"


def paper_rows(scores: Sequence[Row]) -> list[dict[str, str]]:
    """Return the rows of the paper's Table 1 for public scans: abdomens, and cases with the border of an organ."""
    border = {s.case for s in scores if s.metric.startswith("border_")}
    cases = {s.case for s in scores if s.case in border or PAPER_CASES in s.case}
    return method_rows([s for s in scores if s.case in cases], PAPER_COLUMNS)


def method_rows(scores: Sequence[Row], columns: Iterable[str]) -> list[dict[str, str]]:
    """Return a row for each case and method but nearest and linear; a value that a case lacks is empty."""
    found = {(s.case, s.method, s.metric): s.value for s in scores if not s.axis or s.metric in PAPER_BORDER}
    methods = ordered({s.method for s in scores} - set(SIMPLE))
    evaluated = {(case, method) for case, method, _ in found}
    return [
        {"case": case, "method": method}
        | {k: f"{found[case, method, k]:.6g}" if (case, method, k) in found else "" for k in columns}
        for case in sorted({case for case, _ in evaluated})
        for method in methods
        if (case, method) in evaluated
    ]


def method_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Return the rows of `method_rows` as a table in Markdown."""
    columns = {k: (PAPER_BORDER | MEASURES)[k] for k in rows[0] if k not in {"case", "method"}}
    lines = [
        f"| scan | method | {' | '.join(title for title, _ in columns.values())} |",
        "|" + "---|" * (2 + len(columns)),
    ]
    before = None
    for row in rows:
        cells = [format(float(row[k]), form) if row[k] else "-" for k, (_, form) in columns.items()]
        lines.append(f"| {'' if row['case'] == before else row['case']} | {row['method']} | {' | '.join(cells)} |")
        before = row["case"]
    return "\n".join(lines)


def case_rows(scores: Sequence[Row]) -> list[dict[str, str]]:
    """Return `method_rows` of the simulated cases, which have a PSNR."""
    simulated = {s.case for s in scores if s.metric == "psnr"}
    return method_rows([s for s in scores if s.case in simulated], CASES_SHOWN)


def case_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Return a table in Markdown of the simulated cases: scores of consistent cubic, and the gains of GLADE over it."""
    by_case: dict[str, dict[str, Mapping[str, str]]] = {}
    for row in rows:
        by_case.setdefault(row["case"], {})[row["method"]] = row
    ours = [m for m in ordered({row["method"] for row in rows}) if m.startswith(GLADE)]
    titles = ["case", f"{CONSISTENT}: PSNR dB", "SSIM", "high-band error"]
    of_each = {"psnr": "PSNR dB", "ssim": "SSIM", "high_band_error": "error", "high_band_energy": "energy"}
    own = {"uncertainty_coverage": "coverage", "uncertainty_rank_correlation": "uncertainty correlation"}
    of_each |= {metric: title for metric, title in own.items() if any(row.get(metric) for row in rows)}
    titles += [f"{method}: {title}" for method in ours for title in of_each.values()]
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for case, methods in by_case.items():
        base = methods[CONSISTENT]
        cells = [case, *(_cell(base, metric) for metric in FIDELITY if metric != "high_band_energy")]
        for method in ours:
            row = methods.get(method, {})
            cells += [_cell(row, metric, base if metric in ("psnr", "ssim") else None) for metric in of_each]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(row: Mapping[str, str], metric: str, base: Mapping[str, str] | None = None) -> str:
    """Return a score as text, or its difference to the score in `base`."""
    if not row.get(metric):
        return "-"
    form = MEASURES[metric][1]
    return format(float(row[metric]), form) if base is None else f"{float(row[metric]) - float(base[metric]):+{form}}"


def write_tables(
    evaluation: Path, docs: Path = DOCS, tables: Path = TABLES, names: Sequence[str] = BENCHMARK
) -> list[str]:
    """Write the data of the tables as CSV and the tables into the pages; return the names of those written."""
    found, written = [_rounded(row) for row in read_statistics(EvaluationFolder(evaluation).statistics)], []
    for table in (name for name in names if name in COLUMNS):
        own = [row for row in found if belongs(row, table)]
        if own:
            publish(table, [row._asdict() for row in own], table_of(own, table), docs, tables)
            written.append(table)
    scores = read_scores(EvaluationFolder(evaluation).scores) if {PAPER, CASES} & set(names) else []
    by_case = {
        PAPER: (paper_rows, method_table),
        CASES: (case_rows, case_table),
    }
    for table in (name for name in by_case if name in names):
        rows_of, markdown = by_case[table]
        if rows := rows_of(scores):
            publish(table, rows, markdown(rows), docs.with_name(PAGES.get(table, docs.name)), tables)
            written.append(table)
    return written


def _rounded(row: Statistic) -> Statistic:
    """Round to the digits of the CSV, so that the table equals one made from the CSV."""
    return row._replace(**{k: float(f"{v:.6g}") for k, v in row._asdict().items() if isinstance(v, float)})


def evaluate(scans: Path, pattern: str, protocols: Sequence[tuple[float, str]], out: Path, more: Sequence[str]) -> int:
    """Run the evaluation workflow on the scans that match the pattern and return its exit code."""
    command = bundle(
        "evaluation",
        ["configs/evaluate.yaml"],
        dataset_dir=scans.resolve(),
        output_dir=out.resolve(),
        exclude=[file_stem(file) for file in sorted(scans.glob("*.nii*")) if not file.match(pattern)],
        protocols=[{"factor": factor, "profile": profile} for factor, profile in protocols],
    )
    return subprocess.run([*command, *more], cwd=ROOT, check=False).returncode


def bundle(run_id: str, configs: Sequence[str | Path], **settings) -> list[str]:
    """Return the command that runs a workflow of the bundle; run it in the root of the repository."""
    command = [sys.executable, "-m", "monai.bundle", "run", run_id, "--config_file", str([str(c) for c in configs])]
    return command + [part for key, value in settings.items() for part in (f"--{key}", str(value))]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the evaluation unless one is given, write the tables and return the evaluation's exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scans", type=Path, nargs="?")
    parser.add_argument("--evaluation", type=Path, help="output_dir of a finished evaluation")
    parser.add_argument("--pattern", default="iso_*.nii.gz")
    parser.add_argument("--factors", type=float, nargs="+", default=[4])
    parser.add_argument("--profiles", nargs="+", default=["rect"])
    parser.add_argument("--tables", nargs="+", choices=[*COLUMNS, PAPER, CASES], default=list(BENCHMARK))
    parser.add_argument("--output_dir", type=Path, default=Path("out/fidelity"))
    options, overrides = parser.parse_known_args(arguments)
    code, out = 0, options.evaluation
    if out is None:
        if options.scans is None:
            parser.error("give SCANS or --evaluation")
        out = options.output_dir
        protocols = list(product(options.factors, options.profiles))
        code = evaluate(options.scans, options.pattern, protocols, out, overrides)
    written = write_tables(out, names=options.tables)
    sys.stdout.write(f"tables written: {', '.join(written) or 'none'}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
