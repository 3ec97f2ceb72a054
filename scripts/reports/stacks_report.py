"""The report of a result that was made from several stacks: the viewer has every stack, where it lies."""

# ruff: noqa: RUF001, the page has typographic minus, dash and multiplication signs

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..evaluation.method_names import CUBIC, GLADE
from ..geometry.grid import AXES, Grid
from ..run.record import RunRecord
from ..stacks.fusion import Fused, FusedStack
from .case_report import ReportedCase, write_case_report
from .overview import size_and_spacing
from .pages import Table
from .scene import Scene

THROUGH_PLANE = 2  # array axis of a fused volume across the slices of the reference
DESCRIPTION = (
    "Made from {} stacks, each moved to where it fits the first, its intensities matched to those of the first. "
    "The pictures, the profile and the spectra below show the slices of the first stack; the viewer has all stacks."
)


class StacksReport:
    """Write <study>_report.html into the folder of a study, for `SaveStudy`, which calls it with the other files.

    Args:
        record: of the run, for the row of the study.
    """

    def __init__(self, record: RunRecord):
        self.record = record

    def __call__(self, data: Mapping, folder: Path) -> Path:
        """Write the page.

        Args:
            data: of the saving: case, pred, fused.
            folder: folder of the study's files.

        Returns:
            The path of the page.
        """
        fused: Fused = data["fused"]
        row = self.record.snapshot(data["case"], data["pred"])
        description = DESCRIPTION.format(len(fused.stacks)) if len(fused.stacks) > 1 else None
        case = ReportedCase(row, scene_of(data["case"].name, fused), description, (_table(fused),))
        return write_case_report(folder, case)


def scene_of(case: str, fused: Fused) -> Scene:
    """Return the volumes of a fused study; "cubic" is the fusion of the stacks' cubic interpolations.

    Args:
        case: name of the study.
        fused: what became of it.
    """
    volume, added = _array(fused.volume), _array(fused.added_detail)
    first, *others = fused.stacks
    return Scene(
        case=case,
        grid=fused.grid,
        through_plane_axis=THROUGH_PLANE,
        slice_spacing_mm=float(first.stack.slice_grid.spacing_mm[THROUGH_PLANE]),
        slices=(_array(first.observation.slices), first.stack.slice_grid),
        methods={CUBIC: volume - added, GLADE: volume},
        added_detail=added,
        uncertainty=_array(fused.uncertainty),
        first_stack=first.stack.case.name,
        stacks={part.stack.case.name: (_array(part.observation.slices), in_reference(part)) for part in others},
    )


def in_reference(part: FusedStack) -> Grid:
    """Return where the slices of a stack lie in the frame of the reference."""
    grid = part.stack.slice_grid
    return Grid(grid.shape, np.linalg.inv(part.motion.matrix) @ grid.affine)


def _table(fused: Fused) -> Table:
    rows = []
    for part in fused.stacks:
        grid = part.stack.slice_grid
        size = size_and_spacing({"shape": grid.shape, "spacing_mm": np.linalg.norm(grid.affine[:AXES, :AXES], axis=0)})
        moved = "–" if part is fused.stacks[0] else f"{part.motion.angle_deg:.2f}°, {part.motion.shift_mm:.2f} mm"
        rows.append((part.stack.case.name, size, moved, f"{part.residual_over_noise:.2f}"))
    head = ("stack", "slices", "moved by", "residual, of its noise")
    caption = "The stacks. A residual of about 1 or less: the result agrees with the slices to within their noise."
    return Table(caption, head, rows)


def _array(values) -> np.ndarray:
    return values.detach().cpu().numpy().astype(np.float32)
