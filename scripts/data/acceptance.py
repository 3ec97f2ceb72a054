"""Acceptance of a scan: the acquisition protocol by setting, header or rule, and every reason to refuse the scan."""

import logging
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from ..geometry.checks import is_axis, is_positive, is_whole
from ..geometry.errors import Refusal
from ..geometry.grid import SPACING_TIE, Grid
from ..physics.profile import PROFILE_OF_ACQUISITION, PROFILES
from ..physics.protocol import FEWEST_SLICES, Protocol
from .case import scan_name
from .trained_range import add_warnings
from .transforms import ACQUIRED, STORED, grid_of

AUTO = "auto"
THICKNESS_UNKNOWN = "unknown, taken equal to the slice spacing"
TYPE_UNKNOWN = "acquisition type unknown"
THICKEST = 2.0  # times the spacing; beyond it slices overlap by more than half, which no protocol asks for
IMPLAUSIBLE_THICKNESS = 100.0  # times the spacing; likewise above it
THINNEST = 0.1  # times the spacing; below it the thickness is more likely in another unit
PLAUSIBLE_SPACING_MM = (0.01, 50.0)  # from microscopy of small animals to survey scans
LARGEST_POSITION_MM = 1e5  # from the origin of the scanner; single precision in the result's header suffices up to here
PLAUSIBLE_MM = f"{PLAUSIBLE_SPACING_MM[0]:g} to {PLAUSIBLE_SPACING_MM[1]:g} mm"
LARGEST_INTENSITY = 1e15  # sums of squares over all voxels stay within single precision up to here
LARGEST_FACTOR = 32.0  # spacing of the scan over voxel size of the result; finer voxels hold nothing more
LARGEST_RESULT_VOXELS = 300_000_000  # 1024 x 1024 x 286: hours on a CPU
BASE_GIB, BYTES_PER_VOXEL = 0.8, 75  # peak memory: of program and network, and for each voxel of a result
STATED_SPACING_DISAGREEMENT = 0.02  # relative; between SpacingBetweenSlices and the affine

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScanProtocol:
    """How a scan was acquired, and where each value comes from.

    Attributes:
        through_plane_axis: array axis across the slices.
        slice_spacing_mm: centre to centre, from the affine.
        slice_thickness_mm: FWHM of the slice profile.
        profile: "rect", "slr", "gauss" or "fourier".
        axis_source: setting, header or rule that gave the axis.
        thickness_source: likewise for the thickness.
        profile_source: likewise for the profile.
        notes: what the reader noticed (zero-filled partitions, gaps, attributes that disagree); None for nothing.
    """

    through_plane_axis: int
    slice_spacing_mm: float
    slice_thickness_mm: float
    profile: str
    axis_source: str
    thickness_source: str
    profile_source: str
    notes: str | None = None

    @property
    def protocol(self) -> Protocol:
        """Spacing, thickness and profile, as the physics takes them."""
        return Protocol(self.slice_spacing_mm, self.slice_thickness_mm, self.profile)

    def as_row(self) -> dict:
        """The fields for a row of the run record; notes only where there are any."""
        row = asdict(self)
        return row if self.notes else {key: value for key, value in row.items() if key != "notes"}

    def reasons(self) -> list[str]:
        """Every reason why slices cannot have been acquired so."""
        thickness_mm, spacing_mm, source = self.slice_thickness_mm, self.slice_spacing_mm, self.thickness_source
        if not is_positive(thickness_mm):
            return [f"slice thickness {thickness_mm:g} mm ({source}) is not positive: give --slice_thickness_mm"]
        if thickness_mm < THINNEST * spacing_mm or thickness_mm > IMPLAUSIBLE_THICKNESS * spacing_mm:
            return [
                f"slice thickness {thickness_mm:g} mm ({source}) is implausible for slices {spacing_mm:.4g} mm apart: "
                f"is it in another unit than mm? Correct it or give --slice_thickness_mm"
            ]
        if thickness_mm > THICKEST * spacing_mm * (1 + STATED_SPACING_DISAGREEMENT):
            return [
                f"slice thickness {thickness_mm:g} mm ({source}) is over {THICKEST:g} x the slice spacing "
                f"{spacing_mm:.4g} mm: give --slice_thickness_mm"
            ]
        return []


class AcceptScand(MapTransform):
    """Decide how a scan was acquired, and accept it or refuse it with every reason at once.

    A setting takes precedence over the header, the header over the rule. Axis: else the slices of the DICOM series,
    else the axis of the largest spacing. Thickness: else from DICOM or the BIDS sidecar, else the slice spacing.
    Profile: else fourier for a 3-D acquisition, gauss for 2-D, rect where the type is unknown (docs/physics.md).
    Inference replaces an assumed thickness by an estimate (`EstimateProfiled`).
    Writes meta["protocol"], a `ScanProtocol`.

    Args:
        keys: scans, MetaTensors of shape (1, X, Y, Z).
        through_plane_axis: "auto", 0, 1 or 2.
        slice_thickness_mm: FWHM of the slice profile, mm; None: from the header.
        slice_profile: "auto", "rect", "slr", "gauss" or "fourier".
        near_isotropic: True for training: a nearly isotropic scan has no through-plane axis and gets no protocol; all
            its planes are sharp. False: it is refused, since there is nothing to do.
        smallest_window_voxels: the smallest plane edge that the network takes; the isotropic volume must have it.
        isotropic_spacing_mm: voxel size of the result, mm; "stored" or "acquired": the smaller in-plane spacing.
        fewest_slices: a scan with fewer slices is refused.
        largest_result_voxels: a scan whose isotropic volume would have more voxels is refused.
        allow_missing_keys: as in MONAI.

    Raises:
        Refusal: if a setting has no such value.

    >>> affine = torch.diag(torch.tensor([1.0, 1, 6, 1]))
    >>> scan = MetaTensor(torch.rand(1, 20, 20, 5), affine=affine, meta={"acquisition_type": "2D"})
    >>> protocol = AcceptScand("image")({"image": scan})["image"].meta["protocol"]
    >>> protocol.slice_spacing_mm, protocol.profile, protocol.thickness_source
    (6.0, 'gauss', 'unknown, taken equal to the slice spacing')
    """

    def __init__(
        self,
        keys: KeysCollection,
        through_plane_axis: str | int = AUTO,
        slice_thickness_mm: float | None = None,
        slice_profile: str = AUTO,
        near_isotropic: bool = False,
        smallest_window_voxels: int = 1,
        isotropic_spacing_mm: float | str = STORED,
        fewest_slices: int = FEWEST_SLICES,
        largest_result_voxels: int = LARGEST_RESULT_VOXELS,
        allow_missing_keys: bool = False,
    ):
        super().__init__(keys, allow_missing_keys)
        if through_plane_axis != AUTO and not is_axis(through_plane_axis):
            raise Refusal(f"through_plane_axis must be auto, 0, 1 or 2, got {through_plane_axis!r}")
        if slice_profile not in (AUTO, *PROFILES):
            raise Refusal(f"slice_profile must be auto, {', '.join(PROFILES)}, got {slice_profile!r}")
        for name, value, words in (
            ("slice_thickness_mm", slice_thickness_mm, (None,)),
            ("isotropic_spacing_mm", isotropic_spacing_mm, (STORED, ACQUIRED)),
        ):
            if value not in words and not is_positive(value):
                choices = ", ".join("null" if word is None else word for word in words)
                raise Refusal(f"{name} must be a positive number of mm or {choices}, got {value!r}")
        if is_positive(isotropic_spacing_mm) and not _is_plausible(isotropic_spacing_mm):
            raise Refusal(f"isotropic_spacing_mm must be {PLAUSIBLE_MM}, got {isotropic_spacing_mm!r}")
        for name, value in (
            ("smallest_window_voxels", smallest_window_voxels),
            ("fewest_slices", fewest_slices),
            ("largest_result_voxels", largest_result_voxels),
        ):
            if not is_whole(value, 1):
                raise Refusal(f"{name} must be a positive whole number, got {value!r}")
        self.through_plane_axis = through_plane_axis
        self.slice_thickness_mm = slice_thickness_mm
        self.slice_profile = slice_profile
        self.near_isotropic = near_isotropic
        self.smallest_window_voxels = smallest_window_voxels
        self.isotropic_spacing_mm = None if isinstance(isotropic_spacing_mm, str) else isotropic_spacing_mm
        self.fewest_slices = fewest_slices
        self.largest_result_voxels = largest_result_voxels

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The data with meta["protocol"] in every key.

        Raises:
            Refusal: the line names the file and each reason.
        """
        d = dict(data)
        for key in self.key_iterator(d):
            reasons = _reasons_of_voxels(d[key])
            if d[key].ndim != 4:
                shape = tuple(d[key].shape[1:])
                reasons.append(f"not one 3-D volume but of shape {shape}: give the whole volume of slices")
            else:
                reasons += self._reasons_of_protocol(d[key], scan_name(d, key))
                add_warnings(d, key, _spacing_warnings(d[key].meta), logger)
            if reasons:
                raise Refusal(f"{scan_name(d, key)}: {'; '.join(reasons)}")
        return d

    def _reasons_of_protocol(self, scan: Any, name: str) -> list[str]:
        """Decide the protocol, log it and store it in meta["protocol"]; return the reasons to refuse the scan."""
        try:
            grid = grid_of(scan)
            if not all(map(_is_plausible, grid.spacing_mm)):
                return [
                    f"voxels of {_by(grid.spacing_mm)} mm are implausible (expected {PLAUSIBLE_MM}): "
                    f"is the unit of length wrong? Correct the header"
                ]
            if np.abs(grid.centre_mm).max() > LARGEST_POSITION_MM:
                return [
                    f"the scan lies {np.abs(grid.centre_mm).max():.3g} mm from the origin (at most "
                    f"{LARGEST_POSITION_MM:g}): correct the position in the header"
                ]
            if self.near_isotropic and grid.is_near_isotropic:
                return []
            protocol = self._protocol(grid, scan.meta)
        except Refusal as refusal:
            return [str(refusal)]
        scan.meta["protocol"] = protocol
        result = grid.isotropic(self._target_mm(grid, protocol.through_plane_axis)).shape
        _log(name, protocol, result)
        return [*protocol.reasons(), *self._reasons_of_grid(grid, protocol.through_plane_axis)]

    def _protocol(self, grid: Grid, meta: Mapping) -> ScanProtocol:
        axis, axis_source = self._axis(grid, meta)
        spacing_mm = float(grid.spacing_mm[axis])
        if self.slice_thickness_mm is not None:
            thickness_mm, thickness_source = float(self.slice_thickness_mm), "setting slice_thickness_mm"
        elif meta.get("slice_thickness_mm") is not None:
            thickness_mm, thickness_source = float(meta["slice_thickness_mm"]), meta.get("thickness_source", "header")
        else:
            thickness_mm, thickness_source = spacing_mm, THICKNESS_UNKNOWN
        profile, profile_source = self._profile(meta)
        return ScanProtocol(
            through_plane_axis=axis,
            slice_spacing_mm=spacing_mm,
            slice_thickness_mm=thickness_mm,
            profile=profile,
            axis_source=axis_source,
            thickness_source=thickness_source,
            profile_source=profile_source,
            notes=meta.get("geometry_notes") or None,
        )

    def _axis(self, grid: Grid, meta: Mapping) -> tuple[int, str]:
        if self.through_plane_axis != AUTO:
            return int(self.through_plane_axis), "setting through_plane_axis"
        if meta.get("through_plane_axis") is not None:
            return int(meta["through_plane_axis"]), "slices as stored"
        if grid.is_near_isotropic:
            target_mm = self.isotropic_spacing_mm or float(grid.spacing_mm.min())
            anyway = ""
            if grid.spacing_mm.max() >= target_mm * (1 + SPACING_TIE):  # else every axis would be refused
                anyway = "; give --through_plane_axis 0, 1 or 2 to process it anyway"
            raise Refusal(f"already isotropic or nearly so ({_by(grid.spacing_mm)} mm): nothing to do{anyway}")
        return grid.through_plane_axis(), "largest spacing"

    def _profile(self, meta: Mapping) -> tuple[str, str]:
        if self.slice_profile != AUTO:
            return self.slice_profile, "setting slice_profile"
        kind = meta.get("acquisition_type")
        if kind in PROFILE_OF_ACQUISITION:
            return PROFILE_OF_ACQUISITION[kind], f"{kind} acquisition ({meta.get('acquisition_type_source', 'header')})"
        return "rect", TYPE_UNKNOWN

    def _reasons_of_grid(self, grid: Grid, axis: int) -> list[str]:
        reasons = []
        if grid.shape[axis] < self.fewest_slices:
            reasons.append(f"{grid.shape[axis]} slices along axis {axis}: at least {self.fewest_slices} are needed")
        target_mm = self._target_mm(grid, axis)
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
        coarsest_mm = float(grid.spacing_mm.max())
        if coarsest_mm / target_mm > LARGEST_FACTOR * (1 + STATED_SPACING_DISAGREEMENT):
            reasons.append(
                f"voxels of {target_mm:.3g} mm are {coarsest_mm / target_mm:.3g} times finer than {coarsest_mm:.3g} mm "
                f"(at most {LARGEST_FACTOR:g}): give --isotropic_spacing_mm {coarsest_mm / LARGEST_FACTOR:.3g} or more"
            )
        if math.prod(result) > self.largest_result_voxels:
            reasons.append(
                f"the result of {' x '.join(map(str, result))} voxels would take about {memory_gib(result):.3g} GiB of "
                f"memory (at most {self.largest_result_voxels:.3g} voxels): give a larger --isotropic_spacing_mm, or "
                f"a larger --largest_result_voxels where there is so much memory"
            )
        return reasons

    def _target_mm(self, grid: Grid, axis: int) -> float:
        """Voxel size of the result: the setting, else the smaller in-plane spacing."""
        return self.isotropic_spacing_mm or float(np.delete(grid.spacing_mm, axis).min())


def memory_gib(shape: Sequence[int]) -> float:
    """Return about how much memory a result of this shape takes while it is made, GiB; measured with two predictions.

    >>> round(memory_gib((256, 256, 208)), 1)
    1.8
    """
    return BASE_GIB + math.prod(shape) * BYTES_PER_VOXEL / 2**30


def _reasons_of_voxels(scan: MetaTensor) -> list[str]:
    voxels = scan.as_tensor()
    unusable = int((~torch.isfinite(voxels)).sum())
    if unusable:
        return [f"{unusable} voxels are NaN or infinite: repair the scan"]
    if not voxels.numel():
        return []
    low, high = float(voxels.min()), float(voxels.max())
    if low == high:
        return [f"constant volume (every voxel is {low:g}): give a scan with an image in it"]
    largest = max(-low, high)
    if largest > LARGEST_INTENSITY:
        return [f"intensities up to {largest:.3g} (at most {LARGEST_INTENSITY:g}): repair these voxels or divide all"]
    return []


def _log(name: str, protocol: ScanProtocol, result: Sequence[int]) -> None:
    logger.info(
        "%s: through-plane axis %d (%s), slice spacing %.4g mm (affine), thickness %.4g mm (%s), profile %s (%s); "
        "result %s voxels, about %.1f GiB of memory",
        name,
        protocol.through_plane_axis,
        protocol.axis_source,
        protocol.slice_spacing_mm,
        protocol.slice_thickness_mm,
        protocol.thickness_source,
        protocol.profile,
        protocol.profile_source,
        " x ".join(map(str, result)),
        memory_gib(result),
    )


def _spacing_warnings(meta: Mapping) -> list[str]:
    """A sentence where the sidecar states another slice spacing than the affine."""
    protocol, stated_mm = meta.get("protocol"), meta.get("stated_slice_spacing_mm")
    if protocol is None or stated_mm is None:
        return []
    spacing_mm = protocol.slice_spacing_mm
    if abs(stated_mm / spacing_mm - 1) <= STATED_SPACING_DISAGREEMENT:
        return []
    return [f"the sidecar says {stated_mm:.4g} mm between slices, the affine {spacing_mm:.4g} mm; the affine is used"]


def _is_plausible(spacing_mm: float) -> bool:
    low, high = PLAUSIBLE_SPACING_MM
    return low <= spacing_mm <= high


def _by(values: Any) -> str:
    return " x ".join(f"{v:.3g}" for v in values)
