"""Seconds for a small scan while the other cores are busy, and while they are not: does waiting cost anything?

    python -m benchmarks.busy [--rounds 7] [--states idle busy]

The phantom, 40 x 40 x 30 voxels of 2 mm made from slices of 6 mm, in a process of its own each time: by `glade`, by
`glade --threads 1`, and where the machine is idle by `monai.bundle run inference` too, whose threads spin while they
wait unless the environment says otherwise. Busy: an endless loop on every core but one. The ways are taken in turn, and
ratios are of runs of one round, since the speed of a shared machine drifts. Seconds are those of the case in
summary.json, without start-up.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from scripts.phantom.files import make_scan, write_scan
from scripts.run.threads import NUMBERS, WAITING

ROOT = Path(__file__).resolve().parents[1]
GLADE, SINGLE, MONAI = "glade", "glade --threads 1", "monai.bundle run inference"
LIMIT = 1.5  # of the time of a single thread on a busy machine


def seconds(way: str, scan: Path, out: Path) -> float:
    """Run the inference one way in a process of its own; return the seconds of its case."""
    if way == MONAI:
        command = ["-m", "monai.bundle", "run", "inference", "--config_file", str(ROOT / "configs" / "inference.yaml")]
        command += ["--dataset_dir", str(scan), "--output_dir", str(out)]
    else:
        command = ["-m", "glade", "-i", str(scan), "-o", str(out), *way.split()[1:]]
    plain = {name: value for name, value in os.environ.items() if name not in (*NUMBERS, *WAITING)}
    subprocess.run([sys.executable, *command], cwd=ROOT, env=plain, check=True, stdout=subprocess.DEVNULL)
    (row,) = json.loads((out / "summary.json").read_text(encoding="utf-8"))["cases"]
    return row["seconds"]


@contextmanager
def busy(cores: Sequence[int]) -> Iterator[None]:
    """Keep cores busy while the block runs."""
    loops = [multiprocessing.get_context("spawn").Process(target=_loop, args=(core,), daemon=True) for core in cores]
    for loop in loops:
        loop.start()
    try:
        yield
    finally:
        for loop in loops:
            loop.terminate()
            loop.join()


def _loop(core: int) -> None:
    os.sched_setaffinity(0, {core})
    while True:
        pass


def main() -> None:
    """Time all ways, idle and busy, and print the medians and ratios."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.busy", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--states", nargs="+", choices=("idle", "busy"), default=("idle", "busy"))
    options = parser.parse_args()
    rounds = options.rounds
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        scan, _ = write_scan(make_scan((40, 40, 30), spacing_mm=2.0, slice_spacing_mm=6.0), Path(folder))
        for state in options.states:
            taken = cores[1:] if state == "busy" else ()
            ways = (GLADE, SINGLE) if taken else (GLADE, SINGLE, MONAI)
            with busy(taken):
                times = _rounds(ways, rounds, scan, Path(folder) / state)
            sys.stdout.write(f"{len(cores)} cores, {len(taken)} of them kept busy; {rounds} rounds\n")
            for way, found in times.items():
                spread = f"{min(found):.1f} to {max(found):.1f}"
                sys.stdout.write(f"  {way:<30}{statistics.median(found):>8.1f} s   {spread}\n")
            for other in ways[1:]:
                limit = f" (at most {LIMIT} is wanted)" if taken else ""
                ratios = [a / b for a, b in zip(times[GLADE], times[other], strict=True)]
                text = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
                sys.stdout.write(f"  {GLADE} / {other}: {text}{limit}\n")
            sys.stdout.flush()


def _rounds(ways: Sequence[str], rounds: int, scan: Path, folder: Path) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {way: [] for way in ways}
    for n in range(rounds):
        for way, found in times.items():
            found.append(seconds(way, scan, folder / f"{n}-{way}"))
    return times


if __name__ == "__main__":
    main()
