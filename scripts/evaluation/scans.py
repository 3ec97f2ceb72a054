"""The scans of an evaluation: thick ones as they are, simulated ones with their truth, written for every method."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from nibabel.orientations import io_orientation

from ..data.case import Case, safe_name, unique_names
from ..data.discovery import file_stem, find_nifti
from ..data.saving import nifti_bytes
from ..data.transforms import grid_of
from ..geometry.checks import is_axis
from ..geometry.errors import Refusal
from ..geometry.files import atomic_file
from ..geometry.grid import AXES, Grid
from ..geometry.orientation import Reorientation
from .record import CASES_FILE, EvaluationRecord
from .simulation import SimulatedProtocol, simulate

THICK, TRUE = "_thick", "_truth"  # how the files of a pair end
SCANS, TRUTH = "scans", "truth"  # folders of OUT
RIGHT, ANTERIOR, SUPERIOR = range(AXES)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PairedCase(Case):
    """A thick scan with its known truth.

    Attributes:
        truth: NIfTI file of the truth.
    """

    truth: Path | None = None


def find_pairs(folder: str | Path | None) -> list[PairedCase]:
    """Thick scans that lie beside their truth: <case>_thick.nii.gz and <case>_truth.nii.gz, or scans/ and truth/.

    The second is how an evaluation leaves them, so that its OUT can be judged again as pairs.

    Args:
        folder: to look in; None gives no case.

    Returns:
        One case a pair.

    Raises:
        Refusal: if there is no such folder or no pair in it.
    """
    if folder is None:
        return []
    root = Path(folder)
    if not root.is_dir():
        raise Refusal(f"pairs: there is no folder {root}: give one with <case>_thick.nii.gz and <case>_truth.nii.gz")
    pairs = {}
    for file in sorted((*root.glob(f"*{THICK}.nii*"), *(root / SCANS).glob("*.nii*"))):
        stem = file_stem(file)
        if file.parent == root:
            name, truths = stem.removesuffix(THICK), root.glob(f"{stem.removesuffix(THICK)}{TRUE}.nii*")
        else:
            name, truths = stem, (f for f in (root / TRUTH).glob("*.nii*") if file_stem(f) == stem)
        truth = next(iter(sorted(truths)), None)
        if truth is not None:
            pairs[name] = (file, truth)
    if not pairs:
        raise Refusal(f"pairs: {root} holds no <case>_thick.nii.gz with <case>_truth.nii.gz, nor scans/ with truth/")
    return unique_names(
        PairedCase(**{**vars(_only(find_nifti(file))), "name": name}, truth=truth)
        for name, (file, truth) in pairs.items()
    )


class EvaluationScans:
    """Writes OUT/scans/<case>.nii.gz with a sidecar, and OUT/truth/<case>.nii.gz where there is a truth.

    A near-isotropic scan is put in RAS order and thinned by every protocol; any other is taken as it is. What is
    already there and the same is left untouched, so that the inference knows what it has done.

    Args:
        cases: as `find_nifti`, `find_series` and `find_pairs` give them.
        load: transform from a case dict to one with its scan, such as `LoadImageCased`.
        record: of the evaluation.
        output_dir: OUT.
        protocols: entries as `SimulatedProtocol.of` takes them.
        thin_axis: of a near-isotropic scan in RAS order: 0, 1 or 2 becomes the through-plane axis.
        exclude: patterns of case names, before they are thinned, that are left out.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        load: Callable,
        record: EvaluationRecord,
        output_dir: str | Path,
        protocols: Sequence[Mapping],
        thin_axis: int = SUPERIOR,
        exclude: Sequence[str] = (),
    ):
        if not is_axis(thin_axis):
            raise Refusal(f"thin_axis must be 0, 1 or 2 (right, anterior, superior), got {thin_axis!r}")
        self.cases = [case for case in cases if not any(fnmatch(case.name, pattern) for pattern in exclude)]
        self.load, self.record, self.thin_axis = load, record, thin_axis
        self.output_dir = Path(output_dir)
        self.protocols = [SimulatedProtocol.of(settings) for settings in protocols]
        labels = [protocol.label for protocol in self.protocols]
        if len(set(labels)) < len(labels):
            raise Refusal(f"protocols: two are called the same ({', '.join(sorted(labels))}): give them a name each")

    def write(self) -> None:
        """Writes the scans of all cases; one that cannot be used is listed as failed."""
        if not self.cases:
            raise Refusal("there is no scan to evaluate: set dataset_dir or pairs")
        for part in (SCANS, TRUTH):
            (self.output_dir / part).mkdir(parents=True, exist_ok=True)
        earlier = self._earlier()
        for case in self.cases:
            try:
                self._write(case)
            except Exception as error:  # noqa: BLE001 - one faulty case must not stop the others
                self.record.failed(case.name, error)
        for name in earlier - set(self.record.rows):  # of an earlier call with other settings
            for file in self.output_dir.glob(f"*/{name}.*"):
                if file.parent.name in (SCANS, TRUTH):
                    file.unlink()
        self.record.write()

    def _earlier(self) -> set[str]:
        try:
            rows = json.loads((self.output_dir / CASES_FILE).read_text(encoding="utf-8"))["cases"]
            return {str(row["case"]) for row in rows}
        except (OSError, ValueError, KeyError, TypeError):  # no earlier call
            return set()

    def _write(self, case: Case) -> None:
        if case.refusal:
            raise Refusal(case.refusal)
        scan = self.load(case.as_item())["image"]
        grid = grid_of(scan)
        if isinstance(case, PairedCase):
            truth = self.load({"image": case.truth})["image"]
            self.record.begin(case.name, truth=True, noise=None)
            self._save(case.name, scan, _sidecar(scan))
            self._replace(TRUTH, case.name, truth)
        elif grid.is_near_isotropic:
            self._simulate(case.name, scan, grid)
        else:
            self.record.begin(case.name)
            self._save(case.name, scan, _sidecar(scan))

    def _simulate(self, source: str, scan: MetaTensor, grid: Grid) -> None:
        upward = int(np.flatnonzero(io_orientation(grid.affine)[:, 0] == SUPERIOR)[0])
        turn = Reorientation.through_plane_last(grid, upward)  # the others are in the order R, A already
        values, grid = turn.apply(scan.as_tensor())[0].numpy(), turn.apply_grid(grid)
        for protocol in self.protocols:
            name = safe_name(f"{source}_{protocol.label}")
            try:
                thick, truth = simulate(values, grid, self.thin_axis, protocol, name)
                spacing_mm = float(thick[1].spacing_mm[self.thin_axis])
                self.record.begin(
                    name,
                    source=source,
                    truth=True,
                    factor=protocol.factor,
                    profile=protocol.profile,
                    assumed_profile=protocol.stated_profile,
                    protocol=protocol.kind,
                    thickness_over_spacing=protocol.thickness_over_spacing,
                    noise=protocol.noise,
                    slice_thickness_mm=spacing_mm * protocol.thickness_over_spacing,
                )
                self._save(name, _volume(*thick), protocol.sidecar(spacing_mm))
                self._replace(TRUTH, name, _volume(*truth))
            except Exception as error:  # noqa: BLE001 - one faulty case must not stop the others
                self.record.failed(name, error)

    def _save(self, name: str, scan: MetaTensor, sidecar: Mapping) -> None:
        self._replace(SCANS, name, scan)
        path = self.output_dir / SCANS / f"{name}.json"
        text = json.dumps(sidecar, indent=1, sort_keys=True) + "\n"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")

    def _replace(self, part: str, name: str, volume: MetaTensor) -> None:
        """Writes a volume, unless the same is there: a new time would make the inference do it again."""
        path = self.output_dir / part / f"{name}.nii.gz"
        content = nifti_bytes(volume)
        if not (path.is_file() and path.read_bytes() == content):
            with atomic_file(path) as temporary:
                temporary.write_bytes(content)


def _volume(values: np.ndarray, grid: Grid) -> MetaTensor:
    return MetaTensor(torch.from_numpy(values)[None], affine=torch.from_numpy(np.array(grid.affine)))


def _sidecar(scan: MetaTensor) -> dict:
    """What the header or sidecar of a thick scan said, for the copy in OUT/scans."""
    told = {
        "SliceThickness": scan.meta.get("slice_thickness_mm"),
        "MRAcquisitionType": scan.meta.get("acquisition_type"),
    }
    return {key: value for key, value in told.items() if value is not None}


def _only(found: list[Case]) -> Case:
    if len(found) != 1:
        raise Refusal(f"{found[0].files[0].name}: holds {len(found)} volumes: split it first")
    return found[0]
