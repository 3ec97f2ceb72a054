"""Which scans are taken, by which protocol: what the header says, what a setting says, and what is refused."""

import logging
from collections.abc import Hashable, Mapping
from pathlib import Path

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from ..geometry.checks import is_axis, is_positive, is_whole
from ..geometry.errors import Refusal
from ..geometry.grid import SPACING_TIE, Grid
from ..physics.profile import PROFILE_OF_ACQUISITION, PROFILES
from ..physics.protocol import FEWEST_SLICES
from .transforms import grid_of

AUTO = "auto"
THICKEST = 2.0  # times the spacing; beyond it the slices overlap by more than half, which no protocol asks for
REASONS = "refusal_reasons"  # meta key by which Protocold hands its reasons to Acceptd
STATED_SPACING_DISAGREEMENT = 0.02  # relative; between SpacingBetweenSlices and the affine

logger = logging.getLogger(__name__)


class Protocold(MapTransform):
    """Decides the through-plane axis, the slice thickness and the slice profile, and says where each came from.

    A setting goes before the header, the header before the rule. Axis: else DICOM's, else that of the largest
    spacing. Thickness: else DICOM's or the sidecar's, else the spacing. Profile: else fourier for a 3-D acquisition,
    gauss for 2-D, rect where nothing is known (DESIGN.md, section 2). Writes a plain dict meta["protocol"]:
    through_plane_axis, slice_spacing_mm, slice_thickness_mm, profile, axis_source, thickness_source, profile_source,
    and notes where the reader left some (zero-filled partitions, gaps, tags that disagree).

    What speaks against the scan is left in the meta for `Acceptd`, which must follow: it names all reasons at once.

    Args:
        keys: keys of scans, MetaTensors of shape (1, X, Y, Z).
        through_plane_axis: "auto", 0, 1 or 2.
        slice_thickness_mm: FWHM of the slice profile, mm; None: from the header.
        slice_profile: "auto", "rect", "gauss" or "fourier".
        near_isotropic: True for training: a scan that is nearly isotropic has no through-plane axis and gets no
            protocol; all its planes are sharp. False: it is refused like any scan with nothing to do.
        allow_missing_keys: as in MONAI.

    Raises:
        Refusal: if a setting has no such value.
    """

    def __init__(
        self,
        keys: KeysCollection,
        through_plane_axis: str | int = AUTO,
        slice_thickness_mm: float | None = None,
        slice_profile: str = AUTO,
        near_isotropic: bool = False,
        allow_missing_keys: bool = False,
    ):
        super().__init__(keys, allow_missing_keys)
        if through_plane_axis != AUTO and not is_axis(through_plane_axis):
            raise Refusal(f"through_plane_axis must be auto, 0, 1 or 2, got {through_plane_axis!r}")
        if slice_profile not in (AUTO, *PROFILES):
            raise Refusal(f"slice_profile must be auto, {', '.join(PROFILES)}, got {slice_profile!r}")
        if slice_thickness_mm is not None and not is_positive(slice_thickness_mm):
            raise Refusal(f"slice_thickness_mm must be a positive number of mm or null, got {slice_thickness_mm!r}")
        self.through_plane_axis = through_plane_axis
        self.slice_thickness_mm = slice_thickness_mm
        self.slice_profile = slice_profile
        self.near_isotropic = near_isotropic

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """The case with meta["protocol"], or with reasons against it for `Acceptd`."""
        d = dict(data)
        for key in self.key_iterator(d):
            meta, reasons = d[key].meta, []
            if self.near_isotropic and _is_near_isotropic(d[key]):
                continue
            try:
                meta["protocol"] = protocol = self._protocol(_grid(d[key]), meta)
            except Refusal as refusal:  # Acceptd adds what else is wrong with the scan
                reasons.append(str(refusal))
            else:
                reasons += _reasons_of_protocol(protocol)
                _log(scan_name(d, key), protocol, meta.get("stated_slice_spacing_mm"))
            if reasons:
                meta[REASONS] = reasons
        return d

    def _protocol(self, grid: Grid, meta: Mapping) -> dict:
        axis, axis_source = self._axis(grid, meta)
        spacing_mm = float(grid.spacing_mm[axis])
        if self.slice_thickness_mm is not None:
            thickness_mm, thickness_source = float(self.slice_thickness_mm), "setting slice_thickness_mm"
        elif meta.get("slice_thickness_mm") is not None:
            thickness_mm, thickness_source = float(meta["slice_thickness_mm"]), meta.get("thickness_source", "header")
        else:
            thickness_mm, thickness_source = spacing_mm, "unknown, taken equal to the slice spacing"
        profile, profile_source = self._profile(meta)
        found = {
            "through_plane_axis": axis,
            "slice_spacing_mm": spacing_mm,
            "slice_thickness_mm": thickness_mm,
            "profile": profile,
            "axis_source": axis_source,
            "thickness_source": thickness_source,
            "profile_source": profile_source,
        }
        return found | ({"notes": meta["geometry_notes"]} if meta.get("geometry_notes") else {})

    def _axis(self, grid: Grid, meta: Mapping) -> tuple[int, str]:
        if self.through_plane_axis != AUTO:
            return int(self.through_plane_axis), "setting through_plane_axis"
        if meta.get("through_plane_axis") is not None:
            return int(meta["through_plane_axis"]), "slices as stored"
        if grid.is_near_isotropic:
            raise Refusal(
                f"already isotropic or nearly so ({_by(grid.spacing_mm)} mm): nothing to do; "
                f"set through_plane_axis to insist"
            )
        return grid.through_plane_axis(), "largest spacing"

    def _profile(self, meta: Mapping) -> tuple[str, str]:
        if self.slice_profile != AUTO:
            return self.slice_profile, "setting slice_profile"
        kind = meta.get("acquisition_type")
        if kind in PROFILE_OF_ACQUISITION:
            return PROFILE_OF_ACQUISITION[kind], f"{kind} acquisition ({meta.get('acquisition_type_source', 'header')})"
        return "rect", "acquisition type unknown"


class Acceptd(MapTransform):
    """Takes a scan or refuses it with every reason at once; comes after `Protocold`.

    Args:
        keys: keys of scans, MetaTensors of shape (1, X, Y, Z).
        smallest_window_voxels: the smallest plane edge that the network takes; the isotropic volume must have it.
        isotropic_spacing_mm: voxel size of the result, mm; None: the smaller in-plane spacing.
        fewest_slices: a scan of fewer says too little about what lies between them.
        allow_missing_keys: as in MONAI.

    Raises:
        Refusal: if a setting has no such value.
    """

    def __init__(
        self,
        keys: KeysCollection,
        smallest_window_voxels: int = 1,
        isotropic_spacing_mm: float | None = None,
        fewest_slices: int = FEWEST_SLICES,
        allow_missing_keys: bool = False,
    ):
        super().__init__(keys, allow_missing_keys)
        for name, value in (("smallest_window_voxels", smallest_window_voxels), ("fewest_slices", fewest_slices)):
            if not is_whole(value, 1):
                raise Refusal(f"{name} must be a positive whole number, got {value!r}")
        if isotropic_spacing_mm is not None and not is_positive(isotropic_spacing_mm):
            raise Refusal(f"isotropic_spacing_mm must be a positive number of mm or null, got {isotropic_spacing_mm!r}")
        self.smallest_window_voxels = smallest_window_voxels
        self.isotropic_spacing_mm = isotropic_spacing_mm
        self.fewest_slices = fewest_slices

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """The case as it came.

        Raises:
            Refusal: if anything speaks against the scan; the line names the file and each reason.
        """
        d = dict(data)
        for key in self.key_iterator(d):
            scan = d[key]
            reasons = [*_reasons_of_voxels(scan), *scan.meta.pop(REASONS, [])]
            if scan.ndim == 4 and "protocol" in scan.meta:
                reasons += self._reasons_of_grid(_grid(scan), scan.meta["protocol"]["through_plane_axis"])
            elif not reasons and not _is_near_isotropic(scan):  # else nothing would have looked at its geometry
                raise KeyError("no protocol in the meta: Protocold must come before Acceptd")
            if reasons:
                raise Refusal(f"{scan_name(d, key)}: {'; '.join(reasons)}")
        return d

    def _reasons_of_grid(self, grid: Grid, axis: int) -> list[str]:
        reasons = []
        if grid.shape[axis] < self.fewest_slices:
            reasons.append(f"{grid.shape[axis]} slices along axis {axis}: at least {self.fewest_slices} are needed")
        target_mm = self.isotropic_spacing_mm or float(np.delete(grid.spacing_mm, axis).min())
        if grid.spacing_mm[axis] < target_mm * (1 + SPACING_TIE):
            reasons.append(
                f"slices {grid.spacing_mm[axis]:.3g} mm apart (spacings {_by(grid.spacing_mm)} mm) are no thicker than "
                f"the isotropic {target_mm:.3g} mm: nothing to do"
            )
        result = grid.isotropic(target_mm).shape
        if min(result) < self.smallest_window_voxels:
            reasons.append(
                f"too small: {_by(result)} isotropic voxels, the network's smallest window is "
                f"{self.smallest_window_voxels}: give a larger field of view"
            )
        return reasons


def scan_name(case: Mapping, key: Hashable) -> str:
    """How a message names the scan: the NIfTI file (and frame), or the case's name for a DICOM series."""
    file = Path(str(case[key].meta.get("filename_or_obj", "scan"))).name
    if case.get("format") == "dicom":
        return str(case.get("case", file))
    return file if case.get("frame") is None else f"{file}, frame {int(case['frame'])}"


def _grid(scan: torch.Tensor) -> Grid:
    if scan.ndim != 4:
        raise Refusal(f"not one 3-D volume but of shape {tuple(scan.shape[1:])}: give the whole volume of slices")
    return grid_of(scan)


def _is_near_isotropic(scan: torch.Tensor) -> bool:
    return scan.ndim == 4 and _grid(scan).is_near_isotropic


def _reasons_of_voxels(scan: torch.Tensor) -> list[str]:
    voxels = scan.as_tensor()
    unusable = int((~torch.isfinite(voxels)).sum())
    if unusable:
        return [f"{unusable} voxels are NaN or infinite: repair the scan"]
    if voxels.numel() and voxels.min() == voxels.max():
        return [f"constant volume (every voxel is {float(voxels.min()):g}): give a scan with an image in it"]
    return []


def _reasons_of_protocol(protocol: Mapping) -> list[str]:
    thickness_mm, spacing_mm = protocol["slice_thickness_mm"], protocol["slice_spacing_mm"]
    source = protocol["thickness_source"]
    if not is_positive(thickness_mm):
        return [f"slice thickness {thickness_mm:g} mm ({source}) is not positive: set slice_thickness_mm"]
    if thickness_mm > THICKEST * spacing_mm * (1 + STATED_SPACING_DISAGREEMENT):
        return [
            f"slice thickness {thickness_mm:g} mm ({source}) is over {THICKEST:g} x the slice spacing "
            f"{spacing_mm:.4g} mm: set slice_thickness_mm"
        ]
    return []


def _log(name: str, protocol: Mapping, stated_spacing_mm: float | None) -> None:
    logger.info(
        "%s: through-plane axis %d (%s), slice spacing %.4g mm (affine), thickness %.4g mm (%s), profile %s (%s)",
        name,
        protocol["through_plane_axis"],
        protocol["axis_source"],
        protocol["slice_spacing_mm"],
        protocol["slice_thickness_mm"],
        protocol["thickness_source"],
        protocol["profile"],
        protocol["profile_source"],
    )
    spacing_mm = protocol["slice_spacing_mm"]
    if stated_spacing_mm is not None and abs(stated_spacing_mm / spacing_mm - 1) > STATED_SPACING_DISAGREEMENT:
        logger.warning(
            "%s: the sidecar says %.4g mm between slices, the affine %.4g mm; the affine is used",
            name,
            stated_spacing_mm,
            spacing_mm,
        )


def _by(values) -> str:
    return " x ".join(f"{v:.3g}" for v in values)
