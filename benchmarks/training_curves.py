"""Curves of finished trainings from their TensorBoard events: PSNR on held-back planes and every loss term.

    python -m benchmarks.training_curves "faithful weights=runs/train" "sharp weights=runs/sharp"

Writes the points to docs/tables/training.csv, where those of other trainings stay, and draws all of them in
docs/images/training.png, one row for each training.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from .tables import ROOT, read_rows, write_rows

mpl.use("Agg")
import matplotlib.pyplot as plt  # after the choice of a backend without a screen

TABLE, PICTURE = ROOT / "docs" / "tables" / "training.csv", ROOT / "docs" / "images" / "training.png"
VALIDATION, LOSS = "val_psnr", "loss/"
INTERVALS = 40  # points of a loss curve: single iterations vary a lot, since each simulates another protocol
EVERYTHING = {"scalars": 0, "images": 1}  # kept of an event file; 0 means all, and images cannot be switched off


class Point(NamedTuple):
    """A validation, or the mean of a loss term over an interval of a training that ends with an iteration."""

    training: str
    metric: str
    iteration: int
    value: float


def curves(training: str, folder: Path) -> list[Point]:
    """Return the validations of a training and its losses in `INTERVALS`.

    Validations are numbered by epoch in the event files; they get the iteration of the last loss written before them.

    Args:
        training: name of the training in the table.
        folder: the output_dir of the training, with its event files.

    Raises:
        ValueError: if there are no losses or no validation in the folder.
    """
    events = EventAccumulator(str(folder), EVERYTHING).Reload()
    tags = events.Tags()["scalars"]
    losses = {tag.removeprefix(LOSS): events.Scalars(tag) for tag in tags if tag.startswith(LOSS)}
    if not losses or VALIDATION not in tags:
        raise ValueError(f"{folder}: no events of a training: give the output_dir of one")
    every = [event for series in losses.values() for event in series]
    points = [
        Point(training, VALIDATION, max(e.step for e in every if e.wall_time <= event.wall_time), event.value)
        for event in events.Scalars(VALIDATION)
    ]
    length = max(1, -(-max(event.step for event in every) // INTERVALS))
    for name, series in losses.items():
        intervals = defaultdict(list)
        for event in series:
            intervals[-(-event.step // length)].append(event.value)
        points += [Point(training, name, number * length, float(np.mean(v))) for number, v in intervals.items()]
    return points


def draw(points: Sequence[Point], path: Path) -> None:
    """Draw one row for each training: validations on the left, loss terms on the right."""
    trainings = list(dict.fromkeys(point.training for point in points))
    figure, cells = plt.subplots(
        len(trainings), 2, figsize=(10, 3.2 * len(trainings)), squeeze=False, layout="constrained"
    )
    for (left, right), training in zip(cells, trainings, strict=True):
        metrics = list(dict.fromkeys(p.metric for p in points if p.training == training))
        for metric in metrics:
            found = sorted((p.iteration, p.value) for p in points if (p.training, p.metric) == (training, metric))
            axis = left if metric == VALIDATION else right
            axis.plot(*zip(*found, strict=True), label=metric, marker=".")
        left.set(title=f"{training}: held-back planes", xlabel="iterations", ylabel="PSNR, dB")
        right.set(title=f"{training}: loss", xlabel="iterations", yscale="log")
        right.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)
        for axis in (left, right):
            axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def kept(table: Path) -> list[Point]:
    """Return the points of an earlier call; none where there is no table."""
    return [
        Point(row["training"], row["metric"], int(row["iteration"]), float(row["value"])) for row in read_rows(table)
    ]


def write(trainings: Mapping[str, Path], table: Path = TABLE, picture: Path = PICTURE) -> int:
    """Write table and picture, these trainings after others that the table holds; return the number of points."""
    points = [point for point in kept(table) if point.training not in trainings]
    points += [point for name, folder in trainings.items() for point in curves(name, folder)]
    write_rows([point._asdict() for point in points], table)
    draw(points, picture)
    return len(points)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write table and picture; return 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trainings", nargs="+", metavar="NAME=OUTPUT")
    named = (given.partition("=") for given in parser.parse_args(arguments).trainings)
    count = write({name: Path(folder) for name, _, folder in named})
    sys.stdout.write(f"{count} points in {TABLE.relative_to(ROOT)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
