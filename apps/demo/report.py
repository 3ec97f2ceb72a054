"""The page and the printed table of the demo, made from the files of the inference."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.data.case import DICOM
from scripts.data.saving import ADDED_DETAIL, UNCERTAINTY, volume_file
from scripts.data.transforms import grid_of
from scripts.evaluation.baselines import Baselines
from scripts.evaluation.measures import OF_TRUTH
from scripts.evaluation.method_names import CONSISTENT, CUBIC, GLADE, INPUT
from scripts.evaluation.volumes import on_grid, read_volume
from scripts.reports.case_report import ReportedCase, write_case_report
from scripts.reports.explained import explained, number
from scripts.reports.overview import OverviewRow, write_overview
from scripts.reports.scene import Scene
from scripts.run.record import DONE, Row, read_summary

from .scans import EXAMPLE_PIXELS, PHANTOM_POINT_MM

PHANTOM = "A phantom whose truth is known: thick slices were simulated from it, and every method is compared with it."
EXAMPLE = (
    f"A real scan, docs/example, cut to the middle {EXAMPLE_PIXELS} by {EXAMPLE_PIXELS} pixels of each slice so that "
    "the demo is quick; all of its slices are used."
)
GAP = "  "  # between the columns of a printed table


def report(
    config: Path,
    scan: Path,
    results: Path,
    page: Path,
    truth: Path | None,
    say: Callable[[str], object] = str,
) -> list[str]:
    """Write a page about each case of this run and one about all of them; return the lines of the tables.

    Args:
        config: configs/inference.yaml.
        scan: the input of the inference.
        results: its output_dir.
        page: the HTML file about all of them, in a folder above `results`; those of the cases go to their volumes.
        truth: of the phantom, which is the DICOM case; None for the user's own scans.
        say: called with each step before it begins.
    """
    made: dict[str, Baselines] = {}

    def baselines(row: Row) -> Baselines:
        """With the settings that made the result, which as a rule all cases share."""
        settings = json.dumps(row.settings, sort_keys=True)
        if settings not in made:
            made[settings] = Baselines(config, scan, row.settings)
        return made[settings]

    rows = [row for row in read_summary(results) if row.case in baselines(row).cases]  # others are of an earlier run
    refused = [row for row in rows if row.status != DONE]
    cases, pages = [], {}
    for row in rows:
        if row.status == DONE:
            say(f"measuring and drawing {row.case}")
            true = truth if row.input["format"] == DICOM else None
            description = None if truth is None else PHANTOM if true else EXAMPLE
            cases.append(ReportedCase(row, scene(row, baselines(row), results, true), description))
            pages[row.case] = write_case_report(results / row.case, cases[-1])
    described = {case.row.case: case.description for case in cases}
    of_cases = [OverviewRow.of(row, pages.get(row.case), page.parent, described.get(row.case)) for row in rows]
    write_overview(page, of_cases, "GLADE: demo")
    lines = [line for case in cases if case.scene.truth is not None for line in _against_truth(case)]
    lines += [""] if lines else []
    lines += aligned([("scan", "acquired", "made", "residual", "seconds"), *map(_row, cases)], words=3) if cases else []
    return lines + [f"{row.case}: {row.status}: {row.reason}" for row in refused]


def scene(row: Row, baselines: Baselines, results: Path, truth: Path | None) -> Scene:
    """Return the volumes of a finished case: interpolated here, or read from the files of the inference."""
    interpolated = baselines(row.case, (INPUT, CUBIC))
    result, grid = read_volume(volume_file(results, row.case))
    added = read_volume(volume_file(results, row.case, ADDED_DETAIL))[0]
    cubic = interpolated[CUBIC]
    return Scene(
        case=row.case,
        grid=grid,
        through_plane_axis=row.protocol.through_plane_axis,
        slice_spacing_mm=row.protocol.slice_spacing_mm,
        slices=(interpolated[INPUT][0].numpy(), grid_of(interpolated[INPUT])),
        methods={CUBIC: on_grid(cubic[0].numpy(), grid_of(cubic), grid), CONSISTENT: result - added, GLADE: result},
        truth=None if truth is None else on_grid(*read_volume(truth), grid),
        added_detail=added,
        uncertainty=read_volume(volume_file(results, row.case, UNCERTAINTY))[0],
        point_mm=None if truth is None else PHANTOM_POINT_MM,
    )


def _against_truth(case: ReportedCase) -> list[str]:
    """The lines about the phantom: each method against the truth."""
    scores = {
        method: [s for s in found if not s.axis and not s.metric.endswith(OF_TRUTH)]
        for method, found in case.scores.items()
    }
    names = {s.metric: explained(s.metric).title for found in scores.values() for s in found}
    values = {(method, s.metric): number(s.value, s.metric) for method, found in scores.items() for s in found}
    rows = [[title, *(values.get((method, metric), "-") for method in scores)] for metric, title in names.items()]
    return [f"{case.row.case}, the phantom, against its truth:", *aligned([["", *scores], *rows])]


def aligned(rows: Sequence[Sequence[str]], words: int = 1) -> list[str]:
    """Return rows of text as lines with columns of equal width.

    Args:
        rows: cells, as many in each.
        words: columns that are aligned at the left, the first ones; the others hold numbers.

    >>> aligned([("scan", "seconds"), ("knee", "9.5"), ("shoulder", "12.0")])
    ['scan      seconds', 'knee          9.5', 'shoulder     12.0']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        GAP.join(
            cell.ljust(width) if index < words else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _row(case: ReportedCase) -> tuple[str, ...]:
    row = case.row
    name = row.case if case.scene.truth is None else f"{row.case} (phantom)"
    residual = "-" if row.residual is None else f"{row.residual:.1e}"
    return name, _size(row.input), _size(row.output), residual, f"{row.seconds:.1f}"


def _size(grid: Mapping[str, Any]) -> str:
    """Voxels and spacing of a grid; one number where the spacing is the same in all directions."""
    spacing = [f"{s:.3g}" for s in grid["spacing_mm"]]
    return (
        f"{' x '.join(map(str, grid['shape']))} of {' x '.join(spacing if len(set(spacing)) > 1 else spacing[:1])} mm"
    )
