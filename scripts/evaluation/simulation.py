"""Simulated thick-slice acquisitions of a near-isotropic scan, one stack or several; its own voxels are the truth."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

from ..geometry.checks import is_axis, is_number
from ..geometry.errors import Refusal
from ..geometry.grid import AXES, Grid
from ..physics.acquisition import Acquisition, SliceGeometry
from ..physics.measurement import simulate_slices
from ..physics.profile import ACQUISITION_OF_PROFILE, PROFILES
from ..physics.protocol import FEWEST_SLICES

INTENSITY_PERCENTILES = (0.5, 99.5)  # their difference is the unit of the noise, as in configs/inference.yaml
TOLERANCE = 1e-9  # for rounding
ORDER = 5  # of the splines that move the truth
LEAST_SHARE = 0.3  # of the largest motion
SECOND_STACK = 2


@dataclass(frozen=True)
class SimulatedProtocol:
    """One simulated acquisition.

    Attributes:
        factor: slice spacing in voxels of the truth, a real number above 1.
        profile: "rect", "slr", "gauss" or "fourier": the slice profile of the simulation.
        thickness_over_spacing: below 1 a gap between the slices, above 1 an overlap.
        assumed_profile: the profile that the methods assume; None: the true one.
        noise: standard deviation of Rician noise on the slices, on the intensity scale (0 to 1).
        stacks: axes of the scan in RAS order across which the stacks of a study have their slices, the reference first;
            None: one stack.
        factors: of each of these stacks, where they differ; the first is `factor`.
        motion: largest rotation in degrees and largest shift in mm of the other stacks against the reference.
        name: of the protocol within the name of a case; None: made of the other values.

    >>> SimulatedProtocol(4, "gauss", assumed_profile="rect").label
    '4x_gauss_as-rect'
    """

    factor: float
    profile: str
    thickness_over_spacing: float = 1.0
    assumed_profile: str | None = None
    noise: float = 0.0
    stacks: Sequence[int] | None = None
    factors: Sequence[float] | None = None
    motion: Sequence[float] = (0.0, 0.0)
    name: str | None = None

    def __post_init__(self):
        if self.stacks is not None and not (
            isinstance(self.stacks, list | tuple) and len(self.stacks) > 1 and all(map(is_axis, self.stacks))
        ):
            raise Refusal(f"protocols: stacks must be two or more of the axes 0, 1 and 2, got {self.stacks!r}")
        if not isinstance(self.motion, list | tuple) or len(self.motion) != len(("degrees", "mm")):
            raise Refusal(f"protocols: motion must be two numbers, degrees and mm, got {self.motion!r}")
        if self.factors is not None and (len(self.factors) != len(self.stacks or ()) or self.factors[0] != self.factor):
            raise Refusal(
                f"protocols: factors must be one for each of the stacks, the first of them factor, got {self}"
            )
        if any(self.motion) and self.stacks is None:
            raise Refusal(f"protocols: motion is that between the stacks of a study: give stacks too, got {self}")
        for value, least, what in (
            *((factor, 1 + TOLERANCE, "factor must be above 1") for factor in (self.factor, *(self.factors or ()))),
            *((size, 0, "motion must not be negative") for size in self.motion),
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
        parts += [f"stacks{'-'.join(map(str, self.stacks))}"] if self.stacks else []
        parts += [f"factors{'-'.join(f'{factor:g}' for factor in self.factors)}"] if self.factors else []
        parts += ["moved{:g}deg{:g}mm".format(*self.motion)] if any(self.motion) else []
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
    made = _acquired(lines, grid, axis, geometry, protocol.noise * float(high - low), zlib.crc32(case.encode()))
    shape = [*grid.shape]
    shape[axis] = size
    kept = np.ascontiguousarray(np.moveaxis(lines, -1, axis))
    return made, (kept, Grid(tuple(shape), np.array(grid.affine)))


def simulate_others(
    truth: np.ndarray, grid: Grid, protocol: SimulatedProtocol, case: str
) -> list[tuple[np.ndarray, Grid]]:
    """Simulate the stacks of a study beside the reference, which `simulate` makes; return each with its grid.

    The person has moved between the stacks, by a draw of its own for each case and stack.

    Args:
        truth: (X, Y, Z).
        grid: of the truth; its voxels are taken as cubes.
        protocol: of the acquisition, with `stacks`.
        case: name of the case; it seeds noise and motion.
    """
    source = MovedScan.of(truth, cubes(grid))
    low, high = np.percentile(truth, INTENSITY_PERCENTILES)
    axes, factors = protocol.stacks or (), protocol.factors or [protocol.factor] * len(protocol.stacks or ())
    made = []
    for number, (axis, factor) in enumerate(zip(axes[1:], factors[1:], strict=True), start=SECOND_STACK):
        seed = zlib.crc32(f"{case} {number}".encode())
        motion = random_motion(np.random.default_rng(seed), *protocol.motion, source.grid.centre_mm)
        thickness = factor * protocol.thickness_over_spacing
        noise = protocol.noise * float(high - low)
        made.append(source.stack(source.grid, axis, factor, noise, motion, seed, thickness, protocol.profile))
    return made


@dataclass(frozen=True)
class MovedScan:
    """A volume on cubic voxels that can be acquired after a motion.

    Attributes:
        values: (X, Y, Z).
        coefficients: of the spline through them.
        grid: of both.
    """

    values: np.ndarray
    coefficients: np.ndarray
    grid: Grid

    @classmethod
    def of(cls, values: np.ndarray, grid: Grid) -> "MovedScan":
        """Return the volume with the coefficients of its spline."""
        return cls(values, ndimage.spline_filter(values, ORDER, np.float32, "nearest"), grid)

    def stack(
        self,
        grid: Grid,
        axis: int,
        factor: float,
        noise: float,
        motion: np.ndarray,
        seed: int,
        thickness_voxels: float | None = None,
        profile: str = "rect",
    ) -> tuple[np.ndarray, Grid]:
        """Return slices of the moved volume, in the place where they would lie without motion, and their grid.

        The volume is interpolated at the moved voxels, not by the resampling of a method that is measured by them.

        Args:
            grid: field of view of the stack, on voxels of the size of the volume's.
            axis: across the slices.
            factor: slice spacing in voxels.
            noise: standard deviation, in the units of the volume.
            motion: 4 x 4, RAS mm of the stack -> RAS mm of the volume.
            seed: of the noise.
            thickness_voxels: of the slices; None: their spacing.
            profile: of the slices.
        """
        count = int((grid.shape[axis] + TOLERANCE) / factor)
        shape = list(grid.shape)
        shape[axis] = int(count * factor + 0.5)
        index = np.linalg.inv(self.grid.affine) @ motion @ grid.affine
        places = np.tensordot(index[:AXES, :AXES], np.indices(shape), 1) + index[:AXES, AXES, None, None, None]
        moved = ndimage.map_coordinates(self.coefficients, places, order=ORDER, mode="nearest", prefilter=False)
        geometry = SliceGeometry(shape[axis], count, factor, thickness_voxels or factor, profile)
        lines = np.ascontiguousarray(np.moveaxis(moved.astype(np.float32), axis, -1))
        return _acquired(lines, grid, axis, geometry, noise, seed)


def random_motion(
    random: np.random.Generator, largest_deg: float, largest_mm: float, centre_mm: Sequence[float] = (0.0, 0.0, 0.0)
) -> np.ndarray:
    """Return a rigid motion, 4 x 4 in RAS mm, of at least 0.3 times the largest size.

    Args:
        random: draws it.
        largest_deg: of the rotation about `centre_mm`.
        largest_mm: of the shift of `centre_mm`.
        centre_mm: centre of the rotation, RAS.
    """
    motion = np.eye(AXES + 1)
    turn, shift = (vector / np.linalg.norm(vector) for vector in random.standard_normal((2, AXES)))
    degrees, millimetres = random.uniform(LEAST_SHARE, 1, 2) * (largest_deg, largest_mm)
    motion[:AXES, :AXES] = Rotation.from_rotvec(degrees * turn, degrees=True).as_matrix()
    motion[:AXES, AXES] = millimetres * shift + centre_mm - motion[:AXES, :AXES] @ centre_mm
    return motion


def _acquired(
    lines: np.ndarray, grid: Grid, axis: int, geometry: SliceGeometry, noise: float, seed: int
) -> tuple[np.ndarray, Grid]:
    """The slices of a volume with its through-plane axis last, in its own order of axes, and their grid."""
    generator = torch.Generator().manual_seed(seed)
    slices = simulate_slices(Acquisition(geometry), torch.from_numpy(lines), noise, generator).numpy()
    affine = np.array(grid.affine)
    affine[:AXES, AXES] += affine[:AXES, axis] * geometry.first_slice_voxels
    affine[:AXES, axis] *= geometry.slice_spacing_voxels
    made = np.ascontiguousarray(np.moveaxis(slices, -1, axis))
    return made, Grid(made.shape, affine)
