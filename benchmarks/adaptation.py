"""Benefit of adaptation to one scan: each case of an evaluation again, with weights adapted to this case.

    python -m benchmarks.adaptation --evaluation OUT [--cases '*4x_rect'] [--output_dir out/adaptation]
    python -m benchmarks.adaptation --evaluation OUT --table out/adaptation

OUT is the output of an evaluation with simulated cases and the faithful weights (--sharpness_values "[0,1]"). Each case
that fits the pattern is evaluated again by configs/evaluate.yaml with `adapt` and sharpness 0, in a folder of its own,
and compared with the result of the shipped weights; the table is written to docs/README.md. Finished cases are kept.
"""

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

from scripts.evaluation.layout import EvaluationFolder
from scripts.evaluation.method_names import CONSISTENT, CUBIC, GLADE, glade_at
from scripts.evaluation.record import read_record
from scripts.evaluation.scores import read_scores

from .fidelity import MEASURES, bundle
from .tables import DOCS, ROOT, publish

ADAPTATION = "adaptation"  # the table
FAITHFUL = glade_at(0)
MEASURED = ("psnr", "ssim", "high_band_error", "high_band_energy")


def simulated_cases(evaluation: Path, pattern: str) -> list[str]:
    """Return the names of the cases with a truth that fit a pattern."""
    truth_file = EvaluationFolder(evaluation).truth_file
    return [name for name in read_record(evaluation).names if truth_file(name).is_file() and fnmatch(name, pattern)]


def adapt_and_evaluate(case: str, cases: Sequence[str], evaluation: Path, out: Path) -> int:
    """Evaluate one case with weights adapted to it, in OUT/<case>; return the exit code."""
    command = bundle(
        "evaluation",
        ["configs/evaluate.yaml"],
        pairs=evaluation.resolve(),
        exclude=[other for other in cases if other != case],
        output_dir=(out / case).resolve(),
        inference={"adapt": True, "sharpness": 0},
        interpolations=[CUBIC, CONSISTENT],
        report=False,
    )
    with (out / f"{case}.log").open("w", encoding="utf-8") as log:
        return subprocess.run(command, cwd=ROOT, check=False, stdout=log, stderr=subprocess.STDOUT).returncode


def collected(cases: Sequence[str], evaluation: Path, out: Path) -> list[dict[str, str]]:
    """Return a row for each finished case: consistent cubic, the shipped weights, the adapted weights.

    A case without the scores of one of them, since it failed, is left out with a line.
    """
    rows, before = [], _scores(evaluation)
    for case in cases:
        if not EvaluationFolder(out / case).scores.is_file():
            continue
        after = _scores(out / case)
        compared = ("cubic", before, CONSISTENT), ("shipped", before, FAITHFUL), ("adapted", after, GLADE)
        failed = [name for name, scores, method in compared if not all((case, method, m) in scores for m in MEASURED)]
        if failed:
            sys.stderr.write(f"{case}: left out: no scores of {', '.join(failed)}\n")
            continue
        values = {"seconds": read_record(out / case).cases[0].methods[GLADE].seconds}
        for name, scores, method in compared:
            values |= {f"{name}_{metric}": scores[case, method, metric] for metric in MEASURED}
        rows.append({"case": case} | {key: f"{value:.6g}" for key, value in values.items()})
    return rows


def _scores(evaluation: Path) -> dict[tuple[str, str, str], float]:
    rows = read_scores(EvaluationFolder(evaluation).scores)
    return {(s.case, s.method, s.metric): s.value for s in rows if not s.axis and s.metric in MEASURED}


def table_of(rows: Sequence[Mapping[str, str]]) -> str:
    """Return the rows and their mean as a Markdown table."""
    titles = ["case", "shipped: PSNR dB over consistent cubic", "adapted: PSNR dB over consistent cubic"]
    titles += [f"{name}: {MEASURES[metric][0]}" for metric in MEASURED[1:] for name in ("shipped", "adapted")]
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    cells = [[float(row[f"{n}_psnr"]) - float(row["cubic_psnr"]) for n in ("shipped", "adapted")] for row in rows]
    for row, own in zip(rows, cells, strict=True):
        own += [float(row[f"{name}_{metric}"]) for metric in MEASURED[1:] for name in ("shipped", "adapted")]
    forms = ["+.2f"] * 2 + [MEASURES[metric][1] for metric in MEASURED[1:] for _ in range(2)]
    named = zip(
        [row["case"] for row in rows] + ["mean"],
        [*cells, [sum(c) / len(c) for c in zip(*cells, strict=True)]],
        strict=True,
    )
    lines += [f"| {name} | {' | '.join(map(format, values, forms))} |" for name, values in named]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Adapt and evaluate the cases that are missing, then write the table; return the number of failed cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--evaluation", type=Path, required=True)
    parser.add_argument("--cases", default="*4x_rect", help="pattern of case names")
    parser.add_argument("--output_dir", type=Path, default=Path("out/adaptation"))
    parser.add_argument("--table", type=Path, help="output_dir of finished cases: only write the table")
    options = parser.parse_args(arguments)
    cases, failed = simulated_cases(options.evaluation, "*"), 0
    out = options.table or options.output_dir
    out.mkdir(parents=True, exist_ok=True)
    for case in (c for c in cases if options.table is None and fnmatch(c, options.cases)):
        finished = EvaluationFolder(out / case).scores.is_file()
        if not finished and adapt_and_evaluate(case, cases, options.evaluation, out):
            failed += 1
            sys.stderr.write(f"{case}: failed, see {out / case}.log\n")
    rows = collected(cases, options.evaluation, out)
    if rows:
        publish(ADAPTATION, rows, table_of(rows), DOCS)
    sys.stdout.write(f"{len(rows)} cases in the table\n")
    return failed


if __name__ == "__main__":
    sys.exit(main())
