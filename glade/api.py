"""Isotropic volumes from Python: an image in, images out, by the bundle's inference workflow; no files are written."""

import copy
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.transforms import SaveImaged
from nibabel.nifti1 import Nifti1Image
from nibabel.spatialimages import SpatialImage
from numpy.typing import ArrayLike

from glade.scripts.data.case import Case, unique_names
from glade.scripts.data.readers import image_name
from glade.scripts.data.saving import nifti_image
from glade.scripts.geometry.errors import Refusal, counted, refusal_of
from glade.scripts.geometry.files import plain
from glade.scripts.run.keys import refuse_unknown_keys
from glade.scripts.run.record import DONE, CaseEntry
from glade.scripts.run.steps import Steps
from glade.scripts.run.threads import ComputingTime
from glade.scripts.stacks.study import Study, find_studies
from glade.scripts.stacks.workflow import as_row, data_of, fuse_study, warnings_of

from .location import STACKS
from .workflow import bundle_parser, input_of, refuse_absent_device

OF_THE_SCAN = ("slice_thickness_mm", "slice_profile", "through_plane_axis")  # arguments of each call
OF_THE_COMMAND = (  # about files
    "dataset_dir",
    "output_dir",
    "keep_names",
    "adapt",
    "redo",
    "write",
    "like",
    "dicom_plane",
    "bids_dir",
)
OPTION = re.compile(r"(?<!\S)--(?=[a-z_]+\b)")  # before the name of a setting
VOLUMES = {"volume": "pred", "added_detail": "added_detail", "uncertainty": "uncertainty"}  # by key of the workflow

logger = logging.getLogger(__name__)

Scan = str | PathLike[str] | SpatialImage | ArrayLike
Stack = str | PathLike[str] | SpatialImage


@dataclass(frozen=True)
class Result:
    """What becomes of a scan.

    Attributes:
        volume: the isotropic volume, float32, in the scan's own units and orientation.
        added_detail: what the network put into the part that the slices leave open, likewise.
        uncertainty: half-width that holds the error in 90 % of voxels, in the scan's units, likewise.
        record: geometry, protocol and where each value came from, warnings, residual, settings, checksum of the
            weights, seconds; as a row of summary.json.
    """

    volume: Nifti1Image
    added_detail: Nifti1Image
    uncertainty: Nifti1Image
    record: dict[str, Any]


class SuperResolver:
    """Make isotropic volumes of scans, one after the other, with weights that are loaded once.

    `import glade` comes before `import torch`: only then do torch's threads soon sleep while they wait, without which a
    scan takes many times as long where other programs run too.

    Args:
        device: "cpu", "cuda", "cuda:1"; None: a GPU where there is one.
        progress: show what a call does: the lines of the command, and a bar on a terminal.
        settings: any setting of configs/inference.yaml that is not about files, as sharpness=0.

    Raises:
        Refusal: if there is no such setting, device or file of weights.

    >>> import numpy as np
    >>> resolver = SuperResolver(device="cpu", sharpness=0.0, views=[1], rotations_deg=[0])
    >>> ball = np.linalg.norm(np.indices((24, 24, 8)).T * (1, 1, 3) - 12, axis=-1).T < 9
    >>> result = resolver(1000.0 * ball, affine=np.diag([1, 1, 3, 1]), slice_profile="gauss")
    >>> result.volume.shape, result.record["protocol"]["profile"]
    ((24, 24, 24), 'gauss')
    """

    def __init__(self, device: str | None = None, *, progress: bool = False, **settings: Any):
        refuse_absent_device(device)
        parser = bundle_parser({})
        refuse_unknown_keys(settings, parser.get())
        _refuse_of_the_command(settings)
        self._progress = progress
        self._overrides = {**settings, "inferer::progress": progress}
        if device is not None:
            self._overrides["device"] = f"$torch.device('{device}')"
        self._config = parser.get()
        with _plain_refusals(), torch.random.fork_rng(devices=[]):  # layers draw their initial weights
            built = self._parser({})
            self._network = built.get_parsed_content("network")
            self._device = built.get_parsed_content("device")
            self._overrides["sharpness"] = built.get_parsed_content("sharpness")  # its default reads the weights again

    def __call__(
        self,
        scan: Scan,
        affine: ArrayLike | None = None,
        *,
        slice_thickness_mm: float | None = None,
        slice_profile: str | None = None,
        through_plane_axis: int | None = None,
        frame: int | None = None,
    ) -> Result:
        """Return the isotropic volume of a scan.

        Args:
            scan: path of a NIfTI file or DICOM series, an image of nibabel, or an array (X, Y, Z) with its affine.
            affine: 4 x 4, from voxels to RAS mm; of an array only.
            slice_thickness_mm: FWHM of the slice profile; None: from DICOM or a BIDS sidecar, else the slice spacing.
            slice_profile: "rect", "slr", "gauss" or "fourier"; None: by the acquisition, where it is known.
            through_plane_axis: array axis across the slices; None: DICOM's slices, else the largest spacing.
            frame: which volume (from 0) of a 4-D scan.

        Raises:
            Refusal: if the scan cannot be processed rightly; the line says why.
        """
        with _log_shown() if self._progress else nullcontext():
            return self._result(scan, affine, frame, (slice_thickness_mm, slice_profile, through_plane_axis))

    def _result(self, scan: Scan, affine: ArrayLike | None, frame: int | None, of_scan: Sequence[Any]) -> Result:
        given = dict(zip(OF_THE_SCAN, of_scan, strict=True))
        parser = self._parser({key: value for key, value in given.items() if value is not None})
        case, source = _item(scan, affine, frame, parser)
        with _plain_refusals(case.label), torch.random.fork_rng(devices=[]):
            entry = CaseEntry(parser.get_parsed_content("record"), case)
            entry.describe_input()
            data = parser.get_parsed_content("preprocessing")({"case": case, "image": source})
            entry.loaded(data["image"])
            image = data["image"].to(self._device)
            with ComputingTime() as computing:
                predictions = parser.get_parsed_content("inferer")(image[None], self._network)[0]
            finish = parser.get_parsed_content("postprocessing").transforms
            finish = Steps([step for step in finish if not isinstance(step, SaveImaged)])
            data = finish({**data, "image": image, "pred": predictions})
        row = entry.snapshot(data["pred"])
        row.status = DONE
        logger.info("%s: done in %.1f s", case.label, row.seconds)
        hint = computing.hint(torch.get_num_threads(), os.environ)
        if hint and self._device.type == "cpu":
            logger.warning(hint)
        if not case.files:
            row.input["fingerprint"] = None  # that of no files
        volumes = {name: nifti_image(data[key]) for name, key in VOLUMES.items()}
        return Result(**volumes, record=plain(row.as_row()))

    def _parser(self, overrides: Mapping[str, Any]) -> ConfigParser:
        parser = ConfigParser(copy.deepcopy(self._config))
        parser.update({**self._overrides, **overrides})
        return parser


@dataclass(frozen=True)
class FusedResult(Result):
    """What becomes of several stacks of a study, on one grid and in the units of the reference.

    Attributes:
        volume, added_detail, uncertainty: as of one scan; the added detail is what no stack determines.
        coverage: number of stacks that see a voxel.
        record: of each stack its registration, gain, noise and residual; what was left out and why; warnings.
    """

    coverage: Nifti1Image


def fuse(
    stacks: Sequence[str | PathLike[str] | SpatialImage],
    device: str | None = None,
    *,
    progress: bool = False,
    **settings: Any,
) -> FusedResult:
    """Return one isotropic volume of several stacks of one contrast and one session.

    Args:
        stacks: paths of NIfTI files or DICOM series, or images of nibabel; the first is the reference.
        device: "cpu", "cuda", "cuda:1"; None: a GPU where there is one.
        progress: show what is done: the lines of the command, and bars on a terminal.
        settings: of configs/stacks.yaml, as field_of_view="union".

    Raises:
        Refusal: if ITK is missing, or stacks or a setting cannot be used; the line says why.

    >>> import nibabel, numpy
    >>> ball = 1000 * (numpy.linalg.norm(numpy.indices((24, 24, 24)).T - 11.5, axis=-1) < 8).astype("float32")
    >>> axial = nibabel.Nifti1Image(ball.reshape(24, 24, 6, 4).mean(3), numpy.diag([1, 1, 4, 1]))
    >>> coronal = nibabel.Nifti1Image(ball.reshape(24, 6, 4, 24).mean(2), numpy.diag([1, 4, 1, 1]))
    >>> quick = {"sharpness": 0.0, "views": [1], "rotations_deg": [0]}
    >>> fused = fuse([axial, coronal], device="cpu", registration=False, inference=quick)
    >>> fused.volume.shape, int(fused.coverage.get_fdata().max()), len(fused.record["stacks"])
    ((24, 24, 24), 2, 2)
    """
    refuse_absent_device(device)
    refuse_unknown_keys(settings, bundle_parser({}, STACKS).get())
    _refuse_of_the_command(settings)
    if device is not None:
        settings["device"] = f"$torch.device('{device}')"
    with _log_shown() if progress else nullcontext():
        return _fused(stacks, {**settings, "progress": progress})


def _fused(stacks: Sequence[Stack], settings: Mapping[str, Any]) -> FusedResult:
    study, images = _study(stacks, settings.get("reference"))
    with _plain_refusals(study.case.name), torch.random.fork_rng(devices=[]):
        parser = bundle_parser(settings, STACKS)
        single = parser.get_parsed_content("single")
        single.load()
        fused, left_out = fuse_study(study, single, parser.get_parsed_content("fusion"), images=images)
    data = data_of(study.case, fused)
    volumes = {name: nifti_image(data[key]) for name, key in {**VOLUMES, "coverage": "coverage"}.items()}
    record = {**as_row(fused, left_out), "warnings": warnings_of(fused, left_out)}
    return FusedResult(**volumes, record=plain(record))


def _study(stacks: Sequence[Stack], reference: str | None) -> tuple[Study, list[SpatialImage] | None]:
    """The study, and the images of stacks that are no files."""
    if isinstance(stacks, (str, PathLike)):
        stacks = [stacks]
    if not stacks:
        raise Refusal("stacks: give at least one path or image")
    if all(isinstance(stack, (str, PathLike)) for stack in stacks):
        studies = find_studies([str(stack) for stack in stacks], reference=reference)
        if len(studies) > 1:
            names = ", ".join(study.case.name for study in studies)
            raise Refusal(f"the stacks are {len(studies)} studies or contrasts ({names}): give those of one")
        return studies[0], None
    if not all(isinstance(stack, SpatialImage) for stack in stacks):
        raise Refusal("stacks must all be paths or all be images of nibabel")
    cases = unique_names(Case(image_name(stack), ()) for stack in stacks)
    order = sorted(range(len(cases)), key=lambda index: cases[index].name != reference)
    if reference is not None and cases[order[0]].name != reference:
        raise Refusal(f"reference: there is no stack {reference}: have {', '.join(case.name for case in cases)}")
    named = tuple(cases[index] for index in order)
    return Study(Case("study", (), stacks=named), reference=reference), [stacks[index] for index in order]


def super_resolve(scan: Scan, affine: ArrayLike | None = None, **options: Any) -> Result:
    """Return the isotropic volume of one scan; for several, a `SuperResolver` loads the weights once.

    Args:
        scan: path of a NIfTI file or DICOM series, an image of nibabel, or an array (X, Y, Z) with its affine.
        affine: 4 x 4, from voxels to RAS mm; of an array only.
        options: arguments of `SuperResolver` and of its call.

    Raises:
        Refusal: if the scan or a setting cannot be used; the line says why.

    >>> import nibabel, numpy
    >>> ball = numpy.linalg.norm(numpy.indices((24, 24, 8)).T * (1, 1, 3) - 12, axis=-1).T < 9
    >>> scan = nibabel.Nifti1Image(1000 * ball.astype("int16"), numpy.diag([1, 1, 3, 1]))
    >>> result = super_resolve(scan, slice_thickness_mm=3.0, device="cpu", views=[1], rotations_deg=[0])
    >>> result.volume.shape, result.record["output"]["spacing_mm"]
    ((24, 24, 24), [1.0, 1.0, 1.0])
    """
    of_call = {key: options.pop(key) for key in (*OF_THE_SCAN, "frame") if key in options}
    return SuperResolver(**options)(scan, affine, **of_call)


def _item(
    scan: Scan, affine: ArrayLike | None, frame: int | None, workflow: ConfigParser
) -> tuple[Case, Case | SpatialImage]:
    """The case, and what the first step of preprocessing reads: the case itself where it has files."""
    if isinstance(scan, (str, PathLike)):
        if affine is not None:
            raise Refusal(f"{scan}: a file has its affine in the header: leave affine out")
        with _plain_refusals():
            case = _only_case(scan, frame, workflow)
        return case, case
    name = image_name(scan) if isinstance(scan, SpatialImage) else "array"
    scan = scan if isinstance(scan, SpatialImage) else np.asarray(scan)
    if frame is not None:
        if len(scan.shape) != 4 or not 0 <= frame < scan.shape[3]:
            raise Refusal(f"{name}: its shape is {scan.shape}, there is no frame {frame}: correct frame")
        scan = (scan.slicer if isinstance(scan, SpatialImage) else scan)[..., frame]
    if isinstance(scan, SpatialImage):
        if affine is not None:
            raise Refusal(f"{name}: an image has its affine already: leave affine out")
        return Case(name, (), frame=frame), scan
    matrix = None if affine is None else np.asarray(affine, dtype=np.float64)
    if matrix is None or matrix.shape != (4, 4):
        raise Refusal("an array needs its affine, 4 x 4, from voxels to RAS mm: give affine")
    return Case(name, (), frame=frame), SpatialImage(scan, matrix)


def _only_case(path: str | PathLike[str], frame: int | None, workflow: ConfigParser) -> Case:
    """The scan at a path, of several the only one that inference would process."""
    workflow.update({"dataset_dir": str(Path(path).absolute()), "frames": "all" if frame is None else frame})
    cases = workflow.get_parsed_content("cases")
    preprocessing = workflow.get_parsed_content("preprocessing")
    if len(cases) == 1:
        if cases[0].refusal:
            raise Refusal(cases[0].refusal)
        return cases[0]
    usable, reasons = [], {}
    for case in cases:
        image, reasons[case.name] = input_of(case, preprocessing)
        usable += [case] if image is not None else []
        if len(usable) > 1:  # the rest need not be read
            choice = "the path of one of them" if usable[0].frame is None else "a frame, or the path of one scan"
            raise Refusal(
                f"{path} holds {counted(len(cases), 'scan')}, more than one of them usable "
                f"({', '.join(case.name for case in usable)} ...): give {choice}"
            )
    if not usable:
        first = cases[0].name
        raise Refusal(f"none of the {len(cases)} scans in {path} is usable; {first}: {reasons[first]}")
    return usable[0]


def _refuse_of_the_command(settings: Mapping[str, Any]) -> None:
    for name in settings:
        if name in OF_THE_COMMAND:
            raise Refusal(f"{name} is about files, which are not written here: use the command glade, or leave it out")


@contextmanager
def _log_shown() -> Iterator[None]:
    """Let this package log what it does, on standard error where the program has set up no log."""
    package = logging.getLogger("glade")
    level, handler = package.level, logging.NullHandler() if package.hasHandlers() else logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    package.setLevel(min(logging.INFO, package.getEffectiveLevel()))
    package.addHandler(handler)
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(level)


@contextmanager
def _plain_refusals(name: str = "") -> Iterator[None]:
    """Raise a Refusal that MONAI wrapped in errors of its own as itself, with the name of the scan.

    What is an option of the command, as --slice_thickness_mm, is an argument here.
    """
    try:
        yield
    except Exception as error:
        refusal = refusal_of(error)
        if refusal is None:
            raise
        line = OPTION.sub("", str(refusal))
        raise Refusal(line if name in line else f"{name}: {line}") from error
