"""Simulated thick-slice acquisitions of a near-isotropic scan, whose own voxels are then the truth."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from ..geometry.checks import is_number
from ..geometry.errors import Refusal
from ..geometry.grid import AXES, Grid
from ..physics.acquisition import Acquisition, SliceGeometry
from ..physics.measurement import simulate_slices
from ..physics.profile import ACQUISITION_OF_PROFILE, PROFILES
from ..physics.protocol import FEWEST_SLICES

INTENSITY_PERCENTILES = (0.5, 99.5)  # their difference is the unit of the noise, as in configs/inference.yaml
TOLERANCE = 1e-9  # for rounding


@dataclass(frozen=True)
class SimulatedProtocol:
    """One simulated acquisition.

    Attributes:
        factor: slice spacing in voxels of the truth, a real number above 1.
        profile: "rect", "slr", "gauss" or "fourier": the slice profile of the simulation.
        thickness_over_spacing: below 1 a gap between the slices, above 1 an overlap.
        assumed_profile: the profile that the methods assume; None: the true one.
        noise: standard deviation of Rician noise on the slices, on the intensity scale (0 to 1).
        name: of the protocol within the name of a case; None: made of the other values.

    >>> SimulatedProtocol(4, "gauss", assumed_profile="rect").label
    '4x_gauss_as-rect'
    """

    factor: float
    profile: str
    thickness_over_spacing: float = 1.0
    assumed_profile: str | None = None
    noise: float = 0.0
    name: str | None = None

    def __post_init__(self):
        for value, least, what in (
            (self.factor, 1 + TOLERANCE, "factor must be above 1"),
            (self.thickness_over_spacing, TOLERANCE, "thickness_over_spacing must be positive"),
            (self.noise, 0, "noise must not be negative"),
        ):
            if not (is_number(value) and value >= least):
                raise Refusal(f"protocols: {what}, got {value!r}")
        for profile in (self.profile, self.stated_profile):
            if profile not in PROFILES:
                raise Refusal(f"protocols: profile must be one of {', '.join(PROFILES)}, got {profile!r}")

    @classmethod
    def of(cls, settings: Mapping) -> "SimulatedProtocol":
        """Return the protocol of an entry in the YAML.

        Raises:
            Refusal: if a key is unknown or missing, or a value is not valid.
        """
        if not isinstance(settings, Mapping):
            raise Refusal(f"protocols: each entry is a mapping such as {{factor: 4, profile: rect}}, got {settings!r}")
        known = list(cls.__dataclass_fields__)
        unknown = [key for key in settings if key not in known]
        missing = [key for key in ("factor", "profile") if key not in settings]
        if unknown or missing:
            raise Refusal(f"protocols: {settings} has unknown keys {unknown} and lacks {missing}: known are {known}")
        return cls(**settings)

    @property
    def stated_profile(self) -> str:
        """The profile that the methods assume."""
        return self.profile if self.assumed_profile is None else self.assumed_profile

    @property
    def label(self) -> str:
        """The protocol within the name of a case: 4x_rect, 4x_gauss_as-rect_noise0.03."""
        return f"{self.factor:g}x_{self.kind}".replace(" ", "_") if self.name is None else str(self.name)

    @property
    def kind(self) -> str:
        """The profile and whatever else distinguishes the acquisition: "rect", "gauss as-rect", "rect noise0.03"."""
        parts = [self.profile]
        parts += [f"thickness{self.thickness_over_spacing:g}"] if self.thickness_over_spacing != 1 else []
        parts += [f"as-{self.stated_profile}"] if self.stated_profile != self.profile else []
        parts += [f"noise{self.noise:g}"] if self.noise else []
        return " ".join(parts)

    def sidecar(self, slice_spacing_mm: float) -> dict:
        """Return the BIDS sidecar of the thick scan: thickness, and the type of acquisition that implies the profile.

        >>> SimulatedProtocol(4, "rect").sidecar(4.0)
        {'Modality': 'MR', 'SliceThickness': 4.0, 'SpacingBetweenSlices': 4.0}
        """
        stated = {
            "Modality": "MR",
            "SliceThickness": round(slice_spacing_mm * self.thickness_over_spacing, 6),
            "SpacingBetweenSlices": round(slice_spacing_mm, 6),
        }
        kind = ACQUISITION_OF_PROFILE.get(self.stated_profile)
        return stated if kind is None else {**stated, "MRAcquisitionType": kind}


def cubes(grid: Grid) -> Grid:
    """Return the grid with cubic voxels of the same volume, about the same centre; no value is interpolated.

    The spacings of near-isotropic scans differ a little; a simulation needs one voxel size.

    >>> cubes(Grid((10, 10, 10), np.diag([1.0, 1.0, 1.331, 1.0]))).spacing_mm.round(6).tolist()
    [1.1, 1.1, 1.1]
    """
    spacing_mm = float(np.prod(grid.spacing_mm)) ** (1 / AXES)
    affine = np.array(grid.affine)
    affine[:AXES, :AXES] *= spacing_mm / grid.spacing_mm
    affine[:AXES, AXES] = grid.centre_mm - affine[:AXES, :AXES] @ ((np.array(grid.shape) - 1) / 2)
    return Grid(grid.shape, affine)


def simulate(
    truth: np.ndarray, grid: Grid, axis: int, protocol: SimulatedProtocol, case: str
) -> tuple[tuple[np.ndarray, Grid], tuple[np.ndarray, Grid]]:
    """Simulate the thick slices of a true volume; return them and the volume cropped to whole slices, with their grids.

    Args:
        truth: (X, Y, Z).
        grid: of the truth; its voxels are taken as cubes.
        axis: the array axis that becomes the through-plane one.
        protocol: of the acquisition.
        case: name of the case; it seeds the noise, which is therefore the same in every run.

    Raises:
        Refusal: if the truth is not finite or holds too few slices.
    """
    if not np.isfinite(truth).all():
        raise Refusal(f"{case}: voxels are NaN or infinite: repair the scan")
    grid = cubes(grid)
    count = int((grid.shape[axis] + TOLERANCE) / protocol.factor)
    if count < FEWEST_SLICES:
        raise Refusal(f"{case}: holds {count} slices of {protocol.factor:g} voxels, {FEWEST_SLICES} are needed")
    size = int(np.floor(count * protocol.factor + 0.5))
    lines = np.ascontiguousarray(np.moveaxis(truth, axis, -1)[..., :size], dtype=np.float32)
    thickness = protocol.factor * protocol.thickness_over_spacing
    geometry = SliceGeometry(size, count, protocol.factor, thickness, protocol.profile)
    low, high = np.percentile(truth, INTENSITY_PERCENTILES) if protocol.noise > 0 else (0.0, 0.0)
    generator = torch.Generator().manual_seed(zlib.crc32(case.encode()))
    slices = simulate_slices(
        Acquisition(geometry), torch.from_numpy(lines), protocol.noise * float(high - low), generator
    )
    shape = [*grid.shape]
    shape[axis] = size
    thick = np.array(grid.affine)
    thick[:AXES, AXES] += thick[:AXES, axis] * geometry.first_slice_voxels
    thick[:AXES, axis] *= protocol.factor
    made, kept = (np.ascontiguousarray(np.moveaxis(np.asarray(v), -1, axis)) for v in (slices, lines))
    return (made, Grid(made.shape, thick)), (kept, Grid(tuple(shape), np.array(grid.affine)))
