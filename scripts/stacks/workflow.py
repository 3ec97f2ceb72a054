"""The workflow of `run stacks`: each study through single stacks, fusion and saving, inside the run record."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import ImageWriter, MetaTensor
from nibabel.spatialimages import SpatialImage

from ..data.case import DICOM, Case
from ..data.outputs import DICOM_SERIES, OUTPUTS_OF_STACKS, REPORT_PAGE, VOLUME, chosen_outputs
from ..data.saving import (
    ADDED_DETAIL,
    COVERAGE,
    RESIDUAL,
    RESULT,
    UNCERTAINTY,
    case_folder,
    volume_name,
    write_nifti,
    write_series,
    write_sidecar,
    write_volume,
)
from ..data.transforms import OriginalOrientationd
from ..geometry.errors import Refusal, one_line, refusal_of
from ..geometry.grid import Grid
from ..geometry.progress import Progress
from ..run.processes import ends_on_sigterm
from ..run.record import CaseEntry, RunRecord
from .fusion import Fused, Fusion
from .stack import SingleStackInference, Stack
from .study import Study

VOLUMES = {"pred": RESULT, "added_detail": ADDED_DETAIL, "uncertainty": UNCERTAINTY, "coverage": COVERAGE}
"""Keys of the volumes that are saved, and the postfixes of their files."""

logger = logging.getLogger(__name__)


class StudyRun:
    """Process studies one after the other; one that is refused or fails does not stop the others.

    Args:
        studies: as `find_studies` returns them.
        record: of the run.
        single: makes the volume of each stack alone.
        fusion: of the stacks.
        saving: writes the volumes of a data item, as `SaveStudy`.
        progress: show how many studies are done, as a bar or in the log.
    """

    def __init__(
        self,
        studies: Sequence[Study],
        record: RunRecord,
        single: SingleStackInference,
        fusion: Fusion,
        saving: Callable[[Mapping], Any],
        progress: bool = False,
    ):
        self.studies, self.record = list(studies), record
        self.single, self.fusion, self.saving = single, fusion, saving
        self.progress = progress

    def run(self) -> None:
        """Process all studies.

        Raises:
            Refusal: before the first one, if the output folder cannot be written to or there are no weights.
        """
        self.record.open()
        self.single.load()
        order = self.record.in_turn([study.case for study in self.studies])
        shown = self.progress and len(self.studies) > 1  # of one study, its own stages say more
        with ends_on_sigterm():
            for index in Progress(order, shown, total=len(self.studies), desc="studies", unit="study"):
                study = self.studies[index]
                with self.record.case(study.case) as entry:
                    if entry.to_do:
                        self._process(study, entry)

    def _process(self, study: Study, entry: CaseEntry) -> None:
        fused, left_out = fuse_study(study, self.single, self.fusion, lambda first: _loaded(entry, first))
        entry.row.input |= as_row(fused, left_out)
        entry.row.warnings += warnings_of(fused, left_out)
        item = data_of(study.case, fused)
        self.saving(item)
        entry.done(item["pred"])


def _loaded(entry: CaseEntry, first: Stack) -> None:
    entry.loaded(MetaTensor(first.volume[None], meta=dict(first.meta)))


def fuse_study(
    study: Study,
    single: SingleStackInference,
    fusion: Fusion,
    began: Callable[[Stack], Any] | None = None,
    images: Sequence[SpatialImage | None] | None = None,
) -> tuple[Fused, dict[str, str]]:
    """Return the fused volume of a study, and the name of each stack that was left out with the reason.

    Args:
        study: its stacks, the reference first.
        single: makes the volume of each stack alone.
        fusion: of the stacks.
        began: called with the reference before the fusion begins.
        images: of each stack, where it has no file.

    Raises:
        Refusal: if no stack can be used, or not the named reference, or the fusion would need too much memory.
    """
    left_out = dict(study.left_out)
    for name, reason in left_out.items():
        _say_left_out(name, reason)
    stacks: list[Stack] = []
    given = zip(study.stacks, images or [None] * len(study.stacks), strict=True)
    for number, (case, image) in enumerate(given, start=1):
        logger.info("%s: stack %d of %d, alone through the network", case.name, number, len(study.stacks))
        try:
            stack = single(case, image)
            twin = next((other for other in stacks if _same(stack, other)), None)
            if twin is not None:
                raise Refusal(f"the same image as {twin.case.name}: give each stack once")
            stacks.append(stack)
        except Exception as error:
            refusal = refusal_of(error)
            if refusal is None:
                raise
            left_out[case.name] = one_line(str(refusal)).removeprefix(f"{case.label}: ")
            if case.name == study.reference:
                raise Refusal(f"reference {case.name}: {left_out[case.name]}") from error
            _say_left_out(case.name, left_out[case.name])
    if not stacks:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise Refusal(f"none of the stacks can be used: {reasons}")
    if began is not None:
        began(stacks[0])
    fused = fusion(stacks)
    for warning in fused.warnings:
        logger.warning("%s: %s", study.case.name, warning)
    return fused, left_out | fused.left_out


def _say_left_out(name: str, reason: str) -> None:
    logger.warning("%s: left out: %s", name, reason)


def as_row(fused: Fused, left_out: Mapping[str, str]) -> dict[str, Any]:
    """Return what the run record says of a study."""
    return {
        "stacks": fused.as_rows(),
        "stacks_left_out": dict(left_out),
        "expected_error_of_prior": fused.tau,
        "iterations": fused.iterations,
    }


def warnings_of(fused: Fused, left_out: Mapping[str, str]) -> list[str]:
    """Return the sentences that the run record warns with."""
    return [*fused.warnings, *(f"{name} left out: {why}" for name, why in left_out.items())]


class SaveStudy:
    """Write OUT/<study>/<study>_<postfix>.nii.gz and, in a folder <study>_residual, the residual of each stack.

    A JSON file beside each of them describes it. The residuals lie on the slices of their stacks. For DICOM a derived
    series is written as well. All files are written or none.

    Args:
        output_dir: OUT.
        dicom_writer: as for `SaveImageCased`.
        replacing: as for `case_folder`.
        report: writes a page about the study, called with the data and the folder that is being filled; None: no page.
        describe: as for `SaveImageCased`; for a residual it is called with the protocol of its stack too.
        write: names of `OUTPUTS_OF_STACKS` that are written; None: all.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike,
        dicom_writer: ImageWriter | None = None,
        replacing: Callable[[Case, list[str]], Any] | None = None,
        report: Callable[[Mapping, Path], Any] | None = None,
        describe: Callable[..., Mapping[str, Any]] | None = None,
        write: Sequence[str] | None = None,
    ):
        self.output_dir, self.dicom_writer = Path(output_dir), dicom_writer
        self.write = OUTPUTS_OF_STACKS if write is None else chosen_outputs(write, OUTPUTS_OF_STACKS)
        self.replacing, self.report, self.describe = replacing, report, describe

    def __call__(self, data: Mapping) -> None:
        """Write the volumes of `VOLUMES` and the residuals of data["fused"] for the case data["case"].

        Raises:
            OSError: if they cannot be written; nothing half-written is left.
        """
        case, fused = data["case"], data["fused"]
        with case_folder(self.output_dir, case, self.replacing) as folder:
            for key, postfix in VOLUMES.items():
                if (VOLUME if postfix == RESULT else postfix) in self.write:
                    path = folder / volume_name(case.name, postfix)
                    write_volume(data[key], path, postfix)
                    self._describe(path, case, postfix, data[key])
            if RESIDUAL in self.write:
                self._write_residuals(case, fused, folder / f"{case.name}_{RESIDUAL}")
            if case.format == DICOM and self.dicom_writer is not None and DICOM_SERIES in self.write:
                write_series(self.dicom_writer, data["pred"], case, folder)
            if self.report is not None and REPORT_PAGE in self.write:
                self.report(data, folder)

    def _write_residuals(self, case: Case, fused: Fused, folder: Path) -> None:
        folder.mkdir()
        for part in fused.stacks:
            volume = _volume(part.residual, part.stack.slice_grid, part.stack.meta)
            volume = OriginalOrientationd(RESIDUAL)({RESIDUAL: volume})[RESIDUAL]
            path = folder / f"{part.stack.case.name}.nii.gz"
            write_nifti(volume, path)
            self._describe(path, case, RESIDUAL, volume, part.stack.protocol)

    def _describe(self, path: Path, case: Case, *of_volume: Any) -> None:
        if self.describe is not None:
            write_sidecar(path, self.describe(case, *of_volume))


def data_of(case: Case, fused: Fused) -> dict[str, Any]:
    """Return the data item that is saved: the volumes in the orientation of the reference, and what they come from.

    A stack that was left out is no source of the result. The residuals in the meta are those of the stack that has the
    largest, so that they hide none; `Fused.as_rows` has that of each stack.
    """
    reference = fused.stacks[0]
    used = tuple(part.stack.case for part in fused.stacks)
    files = tuple(dict.fromkeys(file for stack in used for file in stack.files))
    case = replace(case, files=files, volume=used[0].volume, stacks=used)
    meta = {
        **reference.stack.meta,
        "residual": max(part.residual_over_slices for part in fused.stacks),
        "residual_over_noise": max(part.residual_over_noise for part in fused.stacks),
    }
    values = (fused.volume, fused.added_detail, fused.uncertainty, fused.coverage)
    item = {key: _volume(value, fused.grid, meta) for key, value in zip(VOLUMES, values, strict=True)}
    return {**OriginalOrientationd(list(VOLUMES))(item), "case": case, "fused": fused}


def _same(first: Stack, second: Stack) -> bool:
    alike = first.slices.shape == second.slices.shape and np.allclose(first.grid.affine, second.grid.affine)
    return alike and torch.equal(first.slices, second.slices)


def _volume(values: torch.Tensor, grid: Grid, meta: Mapping) -> MetaTensor:
    volume = MetaTensor(values[None], meta=dict(meta))
    volume.affine = torch.as_tensor(np.array(grid.affine))
    return volume
