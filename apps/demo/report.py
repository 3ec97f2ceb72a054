"""The page and the printed table of the demo, made from the files of the inference."""

from collections.abc import Sequence
from pathlib import Path

from fire.parser import DefaultParseValue

from scripts.data.case import DICOM
from scripts.data.saving import ADDED_DETAIL, CONFIDENCE, volume_file
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
COLUMNS = 24  # characters of a measure in the printed table


def report(
    config: Path, scan: Path, results: Path, page: Path, truth: Path | None, overrides: Sequence[str] = ()
) -> list[str]:
    """Write a page about each case of this run and one about all of them; return the lines of the table.

    Args:
        config: configs/inference.yaml.
        scan: the input of the inference.
        results: its output_dir.
        page: the HTML file about all of them; those of the cases go beside it.
        truth: of the phantom, which is the DICOM case; None for the user's own scans.
        overrides: of the configuration, as on the command line.
    """
    baselines = Baselines(config, scan, parsed(overrides))
    rows = [row for row in read_summary(results) if row.case in baselines.cases]  # others are of an earlier run
    refused = [row for row in rows if row.status != DONE]
    cases, pages = [], {}
    for row in rows:
        if row.status == DONE:
            true = truth if row.input["format"] == DICOM else None
            description = None if truth is None else PHANTOM if true else EXAMPLE
            cases.append(ReportedCase(row, scene(row, baselines, results, true), description))
            pages[row.case] = write_case_report(page.parent, cases[-1])
    write_overview(page, [OverviewRow.of(row, pages.get(row.case), page.parent) for row in rows], "GLADE: demo")
    lines = [line for case in cases if case.scene.truth is not None for line in _against_truth(case)]
    lines += [""] if lines else []
    lines.append(f"{'scan':<34}{'acquired':<42}{'made':<40}{'residual':>10}{'seconds':>9}")
    lines += [_row(case.row) for case in cases]
    return lines + [f"{row.case}: {row.status}: {row.reason}" for row in refused]


def parsed(overrides: Sequence[str]) -> dict:
    """Parse overrides of the command line as MONAI does: --key value or --key=value.

    >>> parsed(["--sharpness=0.5", "--views", "[0, 1]"])
    {'sharpness': 0.5, 'views': [0, 1]}
    """
    words = [word for text in overrides for word in (text.split("=", 1) if text.startswith("--") else [text])]
    return {key.lstrip("-"): DefaultParseValue(value) for key, value in zip(words[::2], words[1::2], strict=False)}


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
        confidence=read_volume(volume_file(results, row.case, CONFIDENCE))[0],
        point_mm=None if truth is None else PHANTOM_POINT_MM,
    )


def _against_truth(case: ReportedCase) -> list[str]:
    """The lines about the phantom: each method against the truth."""
    scores = {
        method: [s for s in found if not s.axis and not s.metric.endswith(OF_TRUTH)]
        for method, found in case.scores.items()
    }
    first = next(iter(scores.values()), [])
    lines = [f"{'phantom against its truth':<34}" + "".join(f"{explained(s.metric).title:>{COLUMNS}}" for s in first)]
    for method, found in scores.items():
        lines.append(f"{method:<34}" + "".join(f"{number(s.value, s.metric):>{COLUMNS}}" for s in found))
    return lines


def _row(row: Row) -> str:
    acquired, made = (
        f"{' x '.join(map(str, grid['shape']))}, {' x '.join(f'{s:.3g}' for s in grid['spacing_mm'])} mm"
        for grid in (row.input, row.output)
    )
    residual = "-" if row.residual is None else f"{row.residual:.1e}"
    return f"{row.case:<34}{acquired:<42}{made:<40}{residual:>10}{row.seconds:>9.1f}"
