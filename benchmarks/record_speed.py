"""Time and memory that the record of a run takes for 1,000, 10,000 and 100,000 cases.

`python -m benchmarks.record_speed [CASES ...]`

No image is read and no network runs: each case is begun, gets a small file as its result, and ends as done. Printed are
the seconds of processor time for all cases, for a second call that finds all of them done, and for one merge of
summary.json, and the memory of the process beyond that of its libraries. Each number of cases has a process of its own.
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

import torch
from monai.data import MetaTensor

from scripts.data.case import Case
from scripts.data.saving import case_folder
from scripts.run.record import RunRecord

from .memory import peak_bytes

CASES = (1_000, 10_000, 100_000)


def main() -> None:
    """Measure and print a line for each number of cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", type=int, default=CASES)
    say("cases | process all, s | ms a case | find all done, s | merge, s | summary.json, MB | more memory, MB")
    for count in parser.parse_args().cases:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            say(pool.apply(measure, (count,)))


def say(line: str) -> None:
    """Write a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def measure(count: int) -> str:
    """Return the line of one number of cases."""
    pred = MetaTensor(torch.zeros(1, 4, 4, 4), affine=torch.eye(4, dtype=torch.float64))
    cases = [Case(f"study_{index:06d}_T2_TSE_cor", ()) for index in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        memory = peak_bytes() / 2**20
        first, seconds = timed(lambda: process(Path(folder), cases, pred))
        second, again = timed(lambda: process(Path(folder), cases, pred))
        if (first.counts["done"], second.counts["kept"]) != (count, count):
            raise RuntimeError(f"{first.counts}, {second.counts}: all cases should be done, then kept")
        _, merge = timed(second.merge)
        megabytes = (Path(folder) / "summary.json").stat().st_size / 1e6
    numbers = [f"{seconds:.1f}", f"{1000 * seconds / count:.2f}", f"{again:.1f}", f"{merge:.2f}", f"{megabytes:.1f}"]
    return " | ".join([str(count), *numbers, f"{peak_bytes() / 2**20 - memory:.0f}"])


def process(output_dir: Path, cases: list[Case], pred: MetaTensor) -> RunRecord:
    """Run a record over the cases; return it."""
    record = RunRecord(output_dir, {"sharpness": 0.5, "views": [0, 1], "detail": 1.0})
    record.open()
    for index in record.in_turn(cases):
        with record.case(cases[index]) as entry:
            if entry.to_do:
                with case_folder(output_dir, cases[index], record.replacing) as result:
                    (result / f"{cases[index].name}_glade.nii.gz").write_bytes(b"x")
                entry.done(pred)
    record.conclude()
    return record


def timed(work):
    """Return what the work returns, and its seconds of processor time."""
    begun = time.process_time()
    return work(), time.process_time() - begun


if __name__ == "__main__":
    main()
