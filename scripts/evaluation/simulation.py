"""Thick acquisitions simulated from a near-isotropic scan, whose own voxels are then the truth."""

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

INTENSITY_PERCENTILES = (0.5, 99.5)  # their distance is the scale that noise is given on, as in configs/inference.yaml
SAME = 1e-9


@dataclass(frozen=True)
class SimulatedProtocol:
    """One simulated acquisition.

    Attributes:
        factor: slice spacing in voxels of the truth, a real number above 1.
        profile: "rect", "gauss" or "fourier": how the slices are made.
        thickness_over_spacing: under 1 a gap between the slices, over 1 an overlap.
        assumed_profile: what the methods are told; None: the true one.
        noise: standard deviation of Rician noise on the slices, on the intensity scale (0 to 1).
        name: in the name of the case; None: made of the other values.
    """

    factor: float
    profile: str
    thickness_over_spacing: float = 1.0
    assumed_profile: str | None = None
    noise: float = 0.0
    name: str | None = None

    def __post_init__(self):
        for value, least, what in (
            (self.factor, 1 + SAME, "factor must be above 1"),
            (self.thickness_over_spacing, SAME, "thickness_over_spacing must be positive"),
            (self.noise, 0, "noise must not be negative"),
        ):
            if not (is_number(value) and value >= least):
                raise Refusal(f"protocols: {what}, got {value!r}")
        for profile in (self.profile, self.stated_profile):
            if profile not in PROFILES:
                raise Refusal(f"protocols: profile must be one of {', '.join(PROFILES)}, got {profile!r}")

    @classmethod
    def of(cls, settings: Mapping) -> "SimulatedProtocol":
        """From an entry of the YAML.

        Raises:
            Refusal: on a key or a value that does not exist.
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
        """The profile that the methods are told."""
        return self.profile if self.assumed_profile is None else self.assumed_profile

    @property
    def label(self) -> str:
        """As in the name of a case: 4x_rect, 4x_gauss_as-rect_noise0.03."""
        return f"{self.factor:g}x_{self.kind}".replace(" ", "_") if self.name is None else str(self.name)

    @property
    def kind(self) -> str:
        """The profile and what else sets it apart: "rect", "gauss as-rect", "rect thickness0.8", "rect noise0.03"."""
        parts = [self.profile]
        parts += [f"thickness{self.thickness_over_spacing:g}"] if self.thickness_over_spacing != 1 else []
        parts += [f"as-{self.stated_profile}"] if self.stated_profile != self.profile else []
        parts += [f"noise{self.noise:g}"] if self.noise else []
        return " ".join(parts)

    def sidecar(self, slice_spacing_mm: float) -> dict:
        """What a BIDS sidecar tells the methods: thickness, and the profile through the type of acquisition."""
        told = {
            "Modality": "MR",
            "SliceThickness": round(slice_spacing_mm * self.thickness_over_spacing, 6),
            "SpacingBetweenSlices": round(slice_spacing_mm, 6),
        }
        kind = ACQUISITION_OF_PROFILE.get(self.stated_profile)
        return told if kind is None else {**told, "MRAcquisitionType": kind}


def cubes(grid: Grid) -> Grid:
    """The grid with its voxels taken as cubes of the same volume, about the same centre: no voxel is interpolated.

    Near-isotropic scans have spacings a little apart; a simulation needs one voxel size.
    """
    spacing_mm = float(np.prod(grid.spacing_mm)) ** (1 / AXES)
    affine = np.array(grid.affine)
    affine[:AXES, :AXES] *= spacing_mm / grid.spacing_mm
    affine[:AXES, AXES] = grid.centre_mm - affine[:AXES, :AXES] @ ((np.array(grid.shape) - 1) / 2)
    return Grid(grid.shape, affine)


def simulate(
    truth: np.ndarray, grid: Grid, axis: int, protocol: SimulatedProtocol, case: str
) -> tuple[tuple[np.ndarray, Grid], tuple[np.ndarray, Grid]]:
    """The thick slices of a truth, and the truth cropped to whole slices, each with its grid.

    Args:
        truth: (X, Y, Z).
        grid: of the truth; its voxels are taken as cubes.
        axis: the array axis to thin; becomes the through-plane one.
        protocol: of the acquisition.
        case: name of the case; the noise is drawn by it, so that it is the same in every run.

    Raises:
        Refusal: if the truth is not finite or holds too few slices.
    """
    if not np.isfinite(truth).all():
        raise Refusal(f"{case}: voxels are NaN or infinite: repair the scan")
    grid = cubes(grid)
    count = int((grid.shape[axis] + SAME) / protocol.factor)
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
