"""The scans of an evaluation: thick ones as they are, simulated ones with their truth, written once for all methods."""

import glob
import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from nibabel.orientations import io_orientation

from ..data.case import Case, safe_name, unique_names
from ..data.discovery import find_nifti
from ..data.saving import nifti_bytes
from ..data.sidecar import file_stem
from ..data.transforms import grid_of
from ..geometry.checks import is_axis
from ..geometry.errors import Refusal
from ..geometry.files import atomic_file, write_text
from ..geometry.grid import AXES, Grid
from ..geometry.orientation import Reorientation
from .cases import EvaluatedCase
from .layout import EvaluationFolder
from .record import EvaluationRecord, read_record
from .simulation import SimulatedProtocol, simulate, simulate_others

TAKEN_OVER = (  # of a case of an earlier evaluation that was simulated
    "source",
    "factor",
    "profile",
    "assumed_profile",
    "protocol",
    "thickness_over_spacing",
    "noise",
    "slice_thickness_mm",
)
THICK, TRUE = "_thick", "_truth"  # how the names of a pair of files end
RIGHT, ANTERIOR, SUPERIOR = range(AXES)

logger = logging.getLogger(__name__)


def find_pairs(folder: str | Path | None) -> list[tuple[Case, Case | None]]:
    """Find thick scans whose truth is stored with them.

    A pair is <case>_thick.nii.gz and <case>_truth.nii.gz, or scans/<case>.nii.gz and truth/<case>.nii.gz. The second is
    how an evaluation stores them, so that its output folder can be evaluated again.

    Args:
        folder: to look in; None gives no pair.

    Returns:
        For each pair the case of the thick scan and that of the truth; a <case>_thick.nii.gz without a truth is a case
        with a refusal, and None.

    Raises:
        Refusal: if there is no such folder, no pair in it, or a file holds several volumes.
    """
    if folder is None:
        return []
    root = Path(folder)
    if not root.is_dir():
        raise Refusal(f"pairs: there is no folder {root}: give one with <case>_thick.nii.gz and <case>_truth.nii.gz")
    earlier, pairs, alone = EvaluationFolder(root), {}, []
    for file in sorted((*root.glob(f"*{THICK}.nii*"), *earlier.scans.glob("*.nii*"))):
        stem = file_stem(file)
        if file.parent == root:
            name = stem.removesuffix(THICK)
            truths = root.glob(f"{glob.escape(name)}{TRUE}.nii*")
        else:
            name, truths = stem, (f for f in earlier.truth.glob("*.nii*") if file_stem(f) == stem)
        truth = next(iter(sorted(truths)), None)
        if truth is not None:
            pairs[name] = (file, truth)
        elif file.parent == root:
            reason = (
                f"{file.name}: there is no {name}{TRUE}.nii.gz beside it: add it, or give the scan by --dataset_dir"
            )
            alone.append((Case(name, (file,), refusal=reason), None))
    if not pairs:
        raise Refusal(f"pairs: {root} holds no <case>_thick.nii.gz with <case>_truth.nii.gz, nor scans/ with truth/")
    thick = unique_names(replace(_single(file), name=name) for name, (file, _) in pairs.items())
    return [*zip(thick, (_single(truth) for _, truth in pairs.values()), strict=True), *alone]


class EvaluationScans:
    """Step that writes OUT/scans/<case>.nii.gz with a sidecar, and OUT/truth/<case>.nii.gz where the truth is known.

    From a near-isotropic scan, put in RAS order, thick slices are simulated with every protocol; of a protocol with
    several stacks the first is the scan, and all of them go to OUT/stacks/<case>. Any other scan is taken as it is. A
    file that is there already with the same content is not written again, so that the inference recognises what it has
    done.

    Args:
        cases: as `find_nifti` and `find_series` return them.
        load: transform from `Case.as_item()` to a dict with the scan under "image", such as `LoadImageCased`.
        record: of the evaluation.
        protocols: entries as `SimulatedProtocol.of` takes them.
        thin_axis: of a near-isotropic scan in RAS order: 0, 1 or 2 becomes the through-plane axis.
        exclude: patterns of names of scans that are left out.
        pairs: thick scans with their truth, as `find_pairs` returns them.

    Raises:
        Refusal: if `thin_axis` or a protocol is not valid, two protocols share a name, or no scan is left.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        load: Callable,
        record: EvaluationRecord,
        protocols: Sequence[Mapping],
        thin_axis: int = SUPERIOR,
        exclude: Sequence[str] = (),
        pairs: Sequence[tuple[Case, Case | None]] = (),
    ):
        if not is_axis(thin_axis):
            raise Refusal(f"thin_axis must be 0, 1 or 2 (right, anterior, superior), got {thin_axis!r}")
        self.load, self.record, self.thin_axis = load, record, thin_axis
        self.protocols = [SimulatedProtocol.of(settings) for settings in protocols]
        labels = [protocol.label for protocol in self.protocols]
        if len(set(labels)) < len(labels):
            raise Refusal(f"protocols: two have the same name ({', '.join(sorted(labels))}): give each a name")
        scans = [*((case, None) for case in cases), *pairs]
        self.scans = [pair for pair in scans if not any(fnmatch(pair[0].name, pattern) for pattern in exclude)]
        if not self.scans:
            raise Refusal("there is no scan to evaluate: give --dataset_dir or --pairs")

    def run(self) -> None:
        """Write the scans of all cases; one that cannot be used is recorded as failed."""
        folder = self.record.folder
        for part in (folder.scans, folder.truth):
            part.mkdir(parents=True, exist_ok=True)
        earlier = self._earlier()
        for case, truth in self.scans:
            try:
                self._write(case, truth)
            except Exception as error:  # noqa: BLE001 - one faulty scan must not stop the others
                self.record.failed(case.name, error)
        for name in earlier - set(self.record.cases):  # of an earlier call with other settings
            for file in (folder.scan_file(name), folder.sidecar_file(name), folder.truth_file(name)):
                file.unlink(missing_ok=True)
            shutil.rmtree(folder.stack_folder(name), ignore_errors=True)
        self.record.write()

    def _earlier(self) -> set[str]:
        """Names of the cases of an earlier call."""
        try:
            return set(read_record(self.record.folder.root).names)
        except Refusal:
            return set()

    def _write(self, case: Case, truth: Case | None) -> None:
        scan, name = self._loaded(case), case.name
        grid = grid_of(scan)
        if truth is None and grid.is_near_isotropic:
            self._simulate(name, scan, grid)
            return
        true_volume = None if truth is None else self._loaded(truth)
        described = {} if truth is None else _of_earlier(case)
        self.record.begin(EvaluatedCase(name, truth=truth is not None, **described))
        self._save(self.record.folder.scan_file(name), scan, _sidecar(scan))
        if true_volume is not None:
            _replace(self.record.folder.truth_file(name), true_volume)

    def _loaded(self, case: Case) -> MetaTensor:
        if case.refusal:
            raise Refusal(case.refusal)
        return self.load(case.as_item())["image"]

    def _simulate(self, source: str, scan: MetaTensor, grid: Grid) -> None:
        upward = int(np.flatnonzero(io_orientation(grid.affine)[:, 0] == SUPERIOR)[0])
        to_ras = Reorientation.through_plane_last(grid, upward)  # the others are in the order R, A already
        values, grid = to_ras.apply(scan.as_tensor())[0].numpy(), to_ras.apply_grid(grid)
        for protocol in self.protocols:
            name = safe_name(f"{source}_{protocol.label}")
            try:
                axis = self.thin_axis if protocol.stacks is None else protocol.stacks[0]
                thick, truth = simulate(values, grid, axis, protocol, name)
                spacing_mm = float(thick[1].spacing_mm[axis])
                case = EvaluatedCase(
                    name,
                    source=source,
                    truth=True,
                    factor=protocol.factor,
                    profile=protocol.profile,
                    assumed_profile=protocol.stated_profile,
                    protocol=protocol.kind,
                    thickness_over_spacing=protocol.thickness_over_spacing,
                    noise=protocol.noise,
                    stacks=None if protocol.stacks is None else list(protocol.stacks),
                    slice_thickness_mm=spacing_mm * protocol.thickness_over_spacing,
                )
                self.record.begin(case)
                self._save(self.record.folder.scan_file(name), _volume(*thick), protocol.sidecar(spacing_mm))
                _replace(self.record.folder.truth_file(name), _volume(*truth))
                if protocol.stacks is not None:
                    self._save_stacks(name, protocol, [thick, *simulate_others(values, grid, protocol, name)])
            except Exception as error:  # noqa: BLE001 - one impossible protocol must not stop the others
                self.record.failed(name, error)

    def _save_stacks(self, name: str, protocol: SimulatedProtocol, stacks: Sequence[tuple[np.ndarray, Grid]]) -> None:
        for number, (stack, axis) in enumerate(zip(stacks, protocol.stacks or (), strict=True), start=1):
            sidecar = protocol.sidecar(float(stack[1].spacing_mm[axis]))
            self._save(self.record.folder.stack_file(name, number), _volume(*stack), sidecar)

    def _save(self, path: Path, scan: MetaTensor, sidecar: Mapping) -> None:
        """Write a scan and its sidecar."""
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, scan)
        beside = path.with_name(f"{file_stem(path)}.json")
        text = json.dumps(sidecar, indent=1, sort_keys=True) + "\n"
        if not beside.is_file() or beside.read_text(encoding="utf-8") != text:
            write_text(beside, text)


def _of_earlier(case: Case) -> dict:
    """What cases.json of an earlier evaluation says of a scan in its folder scans, if the scan was simulated there."""
    file = case.files[0]
    root = file.parent.parent
    if file.parent != EvaluationFolder(root).scans:
        return {}
    try:
        rows = {row.name: row for row in read_record(root).cases}
    except Refusal:  # a folder that is laid out alike
        return {}
    row = rows.get(file_stem(file))
    return {} if row is None or row.source == row.name else {key: getattr(row, key) for key in TAKEN_OVER}


def _replace(path: Path, volume: MetaTensor) -> None:
    """Write a volume unless the same one is there: a new time of the file would make the inference do it again."""
    content = nifti_bytes(volume)
    if not (path.is_file() and path.read_bytes() == content):
        with atomic_file(path) as temporary:
            temporary.write_bytes(content)


def _volume(values: np.ndarray, grid: Grid) -> MetaTensor:
    return MetaTensor(torch.from_numpy(values)[None], affine=torch.from_numpy(np.array(grid.affine)))


def _sidecar(scan: MetaTensor) -> dict:
    """What header or sidecar of a thick scan stated, for the copy in OUT/scans."""
    stated = {
        "SliceThickness": scan.meta.get("slice_thickness_mm"),
        "MRAcquisitionType": scan.meta.get("acquisition_type"),
    }
    return {key: value for key, value in stated.items() if value is not None}


def _single(file: Path) -> Case:
    """The case of a file that holds one volume."""
    found = find_nifti(file)
    if len(found) != 1:
        raise Refusal(f"{file.name}: holds {len(found)} volumes: split it first")
    return found[0]
