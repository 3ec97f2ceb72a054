"""The workflow of `run stacks`: each study through single stacks, fusion and saving, inside the run record."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from ..data.case import Case
from ..data.saving import write_nifti
from ..data.transforms import OriginalOrientationd
from ..geometry.errors import Refusal, one_line, refusal_of
from ..geometry.grid import Grid
from ..run.fingerprints import location_hash
from ..run.record import CaseEntry, RunRecord
from .fusion import Fused, Fusion
from .stack import SingleStackInference, Stack
from .study import Study

VOLUMES = ("pred", "added_detail", "confidence", "coverage")  # keys that are saved
RESIDUAL = "residual"  # begins the postfix of the residual of each stack

logger = logging.getLogger(__name__)


class StudyRun:
    """Process studies one after the other; one that is refused or fails does not stop the others.

    Args:
        studies: as `find_studies` returns them.
        record: of the run.
        single: makes the volume of each stack alone.
        fusion: of the stacks.
        saving: transform that writes the volumes of `VOLUMES` of a data item with its case.
    """

    def __init__(
        self,
        studies: Sequence[Study],
        record: RunRecord,
        single: SingleStackInference,
        fusion: Fusion,
        saving: Callable[[Mapping], Any],
    ):
        self.studies, self.record = list(studies), record
        self.single, self.fusion, self.saving = single, fusion, saving

    def run(self) -> None:
        """Process all studies.

        Raises:
            Refusal: before the first one, if the output folder cannot be written to or there are no weights.
        """
        self.record.open()
        self.single.load()
        locations = {location_hash(study.case) for study in self.studies}
        for index in self.record.in_turn([study.case for study in self.studies]):
            study = self.studies[index]
            with self.record.case(study.case, locations) as entry:
                if entry.to_do:
                    self._process(study, entry)

    def _process(self, study: Study, entry: CaseEntry) -> None:
        left_out = dict(study.left_out)
        stacks = self._stacks(study, left_out)
        if not stacks:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
            raise Refusal(f"none of the stacks can be used: {reasons}")
        first = stacks[0]
        entry.loaded(MetaTensor(first.volume[None], meta=dict(first.meta)))
        fused = self.fusion(stacks)
        left_out |= fused.left_out
        entry.row.input |= {
            "stacks": fused.as_rows(),
            "stacks_left_out": left_out,
            "expected_error_of_prior": fused.tau,
            "iterations": fused.iterations,
        }
        entry.row.warnings += [*fused.warnings, *(f"{name} left out: {why}" for name, why in left_out.items())]
        item = data_of(study.case, fused)
        self.saving(item)
        entry.done(item["pred"])

    def _stacks(self, study: Study, left_out: dict[str, str]) -> list[Stack]:
        stacks: list[Stack] = []
        for case in study.stacks:
            try:
                stack = self.single(case)
                twin = next((other for other in stacks if _same(stack, other)), None)
                if twin is not None:
                    raise Refusal(f"the same image as {twin.case.name}: give each stack once")
                stacks.append(stack)
            except Exception as error:
                refusal = refusal_of(error)
                if refusal is None:
                    raise
                left_out[case.name] = one_line(str(refusal)).removeprefix(f"{case.label}: ")
                logger.warning("%s: left out: %s", case.name, left_out[case.name])
        return stacks


class ResidualFiles:
    """Writer of the residual of each stack, on its own slices: <case>_residual_<stack>.nii.gz, beside the volumes."""

    def __call__(self, data: Mapping, folder: Path) -> None:
        """Write the residuals of data["fused"] into the folder of the case."""
        fused: Fused = data["fused"]
        for part in fused.stacks:
            volume = _volume(fused.residual(part), part.stack.slice_grid, part.stack.meta)
            volume = OriginalOrientationd(RESIDUAL)({RESIDUAL: volume})[RESIDUAL]
            write_nifti(volume, folder / f"{data['case'].name}_{RESIDUAL}_{part.stack.case.name}.nii.gz")


def data_of(case: Case, fused: Fused) -> dict[str, Any]:
    """Return the data item that is saved: the volumes in the orientation of the reference, and what they come from."""
    reference = fused.stacks[0]
    residual = reference.observation.residual(fused.volume)
    meta = {
        **reference.stack.meta,
        "residual": float(residual.norm() / reference.observation.slices.norm()),
        "residual_over_noise": reference.observation.residual_rms(fused.volume) / reference.observation.sigma,
    }
    values = (fused.volume, fused.added_detail, fused.confidence, fused.coverage)
    item = {key: _volume(value, fused.grid, meta) for key, value in zip(VOLUMES, values, strict=True)}
    return {**OriginalOrientationd(VOLUMES)(item), "case": case, "fused": fused}


def _same(first: Stack, second: Stack) -> bool:
    alike = first.slices.shape == second.slices.shape and np.allclose(first.grid.affine, second.grid.affine)
    return alike and torch.equal(first.slices, second.slices)


def _volume(values: torch.Tensor, grid: Grid, meta: Mapping) -> MetaTensor:
    volume = MetaTensor(values[None], meta=dict(meta))
    volume.affine = torch.as_tensor(np.array(grid.affine))
    return volume
