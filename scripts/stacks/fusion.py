"""The fusion of several stacks: registration, intensity matching, prior mean, joint solution, and what is left."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..data.acceptance import THICKNESS_UNKNOWN
from ..geometry.checks import is_number, is_positive
from ..geometry.errors import Refusal, one_line
from ..geometry.grid import AXES, Grid
from ..geometry.progress import Progress
from ..physics.acquisition import Acquisition
from ..physics.joint import (
    JointConsistency,
    JointSolution,
    Observation,
    StackOperator,
    slice_weights,
)
from ..physics.rigid import POINT, RigidResampling, VoxelMeans
from ..physics.uncertainty import COMBINED, UncertaintyModel
from .intensity import IntensityMatch, match_intensity
from .prior import FLOOR, Sampling, directional_mean
from .registration import LEVELS, Registration, no_motion, register
from .stack import Stack
from .uncertainty import fused_half_width, mean_factor, stack_features

EXPECTED_ERROR = 0.04  # of the prior, root mean square, intensity scale: from a held-back person (docs/stacks.md)
SMOOTHNESS = 0.2  # of the prior's errors across the slices of each stack, in slice spacings; as for one stack
LEAST_NOISE = 1e-3  # of the intensity scale: simulated slices without any noise
HALF = 0.5  # share of a voxel that must lie in the field of view
PARALLEL_DEG = 10.0  # between the normals of two stacks that count as one orientation
BYTES_PER_VOXEL = 4
VOLUMES_AT_ONCE = 14  # of the size of the result that the joint solution holds, beside four of each stack
VOLUMES_A_STACK = 6
DISAGREEING = 2.0  # times the noise, from which a stack is warned of
ALONE = (
    "only one stack is used, {}, and fuse needs two: the result is that of the ordinary path (glade -i) with the "
    "settings of fuse, faithful weights unless others are set"
)
COARSE = 0.05  # tolerance of the conjugate gradients for the added detail, which is only looked at

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FusedStack:
    """A stack in the frame of the result.

    Attributes:
        stack: the stack.
        motion: RAS mm of the reference -> RAS mm of this stack.
        match: factors to the intensities of the reference.
        observation: its slices as the joint solution sees them; sigma is noise and disagreement with other stacks.
        noise: standard deviation of their noise alone, same units.
        slice_weights: (N,), below 1 for a slice that contradicts the others.
        residual: b - A T v of the result, (X, Y, N), in the units of the reference; 0 outside the volume.
    """

    stack: Stack
    motion: Registration
    match: IntensityMatch | None
    observation: Observation
    noise: float
    slice_weights: torch.Tensor
    residual: torch.Tensor

    @property
    def residual_over_slices(self) -> float:
        """Root mean square of the residual, as a share of that of the slices."""
        return self.observation.rms(self.residual) / self.observation.rms(self.observation.slices)

    @property
    def residual_over_noise(self) -> float:
        """Root mean square of the residual, as a multiple of the noise of the slices."""
        return self.observation.rms(self.residual) / self.noise

    @property
    def deviation_over_noise(self) -> float:
        """How far its slices are from what the stacks agree on, as a multiple of their noise; 1 where noise is all."""
        return self.observation.sigma / self.noise


@dataclass(frozen=True)
class Fused:
    """What becomes of a study, all in the units of the reference stack.

    Attributes:
        volume: (X, Y, Z).
        prior: the mean of the stacks' volumes from which the joint solution started, likewise.
        added_detail: what the network put where no stack determines the volume, likewise.
        uncertainty: half-width that holds the error in 90 % of voxels, likewise; smaller where stacks overlap.
        features: from which it is estimated, on the intensity scale, see `stack_features`.
        coverage: number of stacks that see a voxel, likewise.
        grid: of these volumes, through-plane axis of the reference last.
        stacks: those that were used, the reference first.
        left_out: name of each stack that was not used, and why.
        tau: expected error of the prior.
        iterations: of the conjugate gradients.
        warnings: sentences for the record.
    """

    volume: torch.Tensor
    prior: torch.Tensor
    added_detail: torch.Tensor
    uncertainty: torch.Tensor
    features: dict[str, torch.Tensor]
    coverage: torch.Tensor
    grid: Grid
    stacks: tuple[FusedStack, ...]
    left_out: dict[str, str]
    tau: float
    iterations: int
    warnings: tuple[str, ...]

    def as_rows(self) -> list[dict]:
        """Return what the run record says of each stack that was used."""
        return [
            {
                "stack": fused.stack.case.name,
                "registration": fused.motion.as_row(),
                "intensity": None if fused.match is None else fused.match.as_row(),
                "noise": fused.stack.noise,
                "deviation_over_noise": fused.deviation_over_noise,
                "residual_over_noise": fused.residual_over_noise,
                "slices_with_less_weight": {
                    int(index): round(float(weight), 3)
                    for index, weight in enumerate(fused.slice_weights)
                    if weight < 1
                },
                "protocol": None if fused.stack.protocol is None else fused.stack.protocol.as_row(),
                "kept_as_it_is": fused.stack.is_near_isotropic,
                "warnings": list(fused.stack.warnings),
            }
            for fused in self.stacks
        ]


class Fusion:
    """Fuse stacks of one contrast and one session into one isotropic volume.

    Args:
        isotropic_spacing_mm: voxel size; None: the finest of the stacks' own.
        field_of_view: "reference" or "union": of the first stack, or of all of them.
        registration: False where the stacks are known to be registered.
        expected_error: of the prior, root mean square, on the intensity scale.
        smoothness: of the prior's errors, in slice spacings.
        floor: of the directional mean.
        memory_gib: refuse a study whose fusion needs more, before it begins.
        progress: show how far registration and joint solution are, as a bar or in the log.
        uncertainty: model of the half-widths; None: those of the stacks, combined as if they were independent.

    Raises:
        Refusal: if a setting has no such value.
    """

    def __init__(
        self,
        isotropic_spacing_mm: float | None = None,
        field_of_view: str = "reference",
        registration: bool = True,
        expected_error: float = EXPECTED_ERROR,
        smoothness: float = SMOOTHNESS,
        floor: float = FLOOR,
        memory_gib: float = 6.0,
        progress: bool = False,
        uncertainty: UncertaintyModel | None = None,
    ):
        if isotropic_spacing_mm is not None and not is_positive(isotropic_spacing_mm):
            raise Refusal(f"isotropic_spacing_mm must be a positive number of mm or null, got {isotropic_spacing_mm!r}")
        if field_of_view not in ("reference", "union"):
            raise Refusal(f"field_of_view must be reference or union, got {field_of_view!r}")
        for name, value in (("expected_error", expected_error), ("memory_gib", memory_gib)):
            if not is_positive(value):
                raise Refusal(f"{name} must be a positive number, got {value!r}")
        if not is_number(smoothness) or smoothness < 0:
            raise Refusal(f"smoothness must be a number of slice spacings from 0 up, got {smoothness!r}")
        if not is_positive(floor) or floor > 1:
            raise Refusal(f"floor must be a number above 0 and at most 1, got {floor!r}")
        self.isotropic_spacing_mm, self.field_of_view, self.registration = (
            isotropic_spacing_mm,
            field_of_view,
            registration,
        )
        self.expected_error, self.smoothness, self.floor = expected_error, smoothness, floor
        self.memory_gib, self.progress, self.uncertainty = memory_gib, progress, uncertainty

    def __call__(self, stacks: Sequence[Stack]) -> Fused:
        """Return the fused volume; a stack that cannot be registered or matched is left out.

        Args:
            stacks: the reference first.

        Raises:
            Refusal: if it would need too much memory.
        """
        motions, left_out = self._registered(stacks)
        while True:  # the grid depends on the stacks that are used: it is made again when one is left out
            used = [stack for stack in stacks if stack.case.name not in left_out]
            grid = self._grid(used, motions)
            self._check_memory(grid, len(used))
            fused, volumes, cubic, coverage = self._placed(used, grid, motions, left_out)
            if len(fused) == len(used):
                return self._solved(fused, grid, volumes, cubic, coverage, left_out)

    def _placed(
        self, stacks: Sequence[Stack], grid: Grid, motions: dict[str, Registration], left_out: dict[str, str]
    ) -> tuple[list[FusedStack], list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]]:
        """Bring stacks into the frame of the result and to the intensities of the first.

        Args:
            stacks: the reference first.
            grid: of the result.
            motions: of each stack, by name.
            left_out: takes the name of a stack that cannot be matched, and why.

        Returns:
            For each stack that can be: itself, its volume, the interpolated one, and where it covers the grid.
        """
        fused, volumes, cubic, coverage = [], [], [], []
        for stack in Progress(stacks, self.progress, desc="stacks in the frame of the reference", leave=False):
            back = RigidResampling(stack.grid, grid, motions[stack.case.name].matrix)
            inside = back.covered(stack.volume.device) > HALF
            volume, interpolated = back(stack.volume), back(stack.interpolated)
            match = None
            if stack is not stacks[0]:
                try:
                    shared = (inside & coverage[0]).cpu().numpy()
                    match = match_intensity(
                        volume.cpu().numpy(), volumes[0].cpu().numpy(), shared, float(grid.spacing_mm[0])
                    )
                except Refusal as refusal:
                    left_out[stack.case.name] = _said(stack, refusal)
                    continue
                factors = torch.from_numpy(match.factors).to(volume)
                volume, interpolated = volume * factors, interpolated * factors
            fused.append(_observed(stack, grid, motions[stack.case.name], match))
            volumes.append(volume)
            cubic.append(interpolated)
            coverage.append(inside)
        return fused, volumes, cubic, coverage

    def _registered(self, stacks: Sequence[Stack]) -> tuple[dict[str, Registration], dict[str, str]]:
        """The motion of each stack by name, and why others are left out."""
        reference = stacks[0]
        motions, left_out = {reference.case.name: no_motion()}, {}
        for number, stack in enumerate(stacks[1:], start=2):
            try:
                if self.registration:
                    logger.info("%s: stack %d of %d, registration", stack.case.name, number, len(stacks))
                motions[stack.case.name] = self._motion(reference, stack)
            except Refusal as refusal:
                left_out[stack.case.name] = _said(stack, refusal)
        return motions, left_out

    def _motion(self, reference: Stack, stack: Stack) -> Registration:
        if not self.registration:
            return no_motion()
        pair = (x for s in (reference, stack) for x in (s.volume.cpu().numpy(), s.grid))
        what = f"{stack.case.name}, resolutions"
        with Progress(show=self.progress, desc=what, total=len(LEVELS), leave=False) as bar:
            motion = register(*pair, bar.update)
        motion.check()
        logger.info(
            "%s: moved by %.2f degrees and %.2f mm against %s, correlation %.3f",
            stack.case.name,
            motion.angle_deg,
            motion.shift_mm,
            reference.case.name,
            motion.correlation,
        )
        return motion

    def _grid(self, stacks: Sequence[Stack], motions: dict[str, Registration]) -> Grid:
        """The isotropic grid of the result, along the axes of the reference."""
        reference = stacks[0].grid
        spacing = self.isotropic_spacing_mm or float(min(stack.grid.spacing_mm.min() for stack in stacks))
        if self.field_of_view == "union":
            reference = _enlarged(reference, [(stack.grid, motions[stack.case.name].matrix) for stack in stacks])
        return reference.resampled(spacing)

    def _check_memory(self, grid: Grid, count: int) -> None:
        volumes = VOLUMES_AT_ONCE + VOLUMES_A_STACK * count
        needed = float(np.prod(grid.shape)) * BYTES_PER_VOXEL * volumes / 2**30
        if needed > self.memory_gib:
            shape = " x ".join(map(str, grid.shape))
            raise Refusal(
                f"{count} stacks on {shape} voxels need about {needed:.1f} GiB, memory_gib is {self.memory_gib:g}: "
                f"set a larger isotropic_spacing_mm or memory_gib"
            )

    def _solved(
        self,
        fused: list[FusedStack],
        grid: Grid,
        volumes: list[torch.Tensor],
        cubic: list[torch.Tensor],
        coverage: list[torch.Tensor],
        left_out: dict[str, str],
    ) -> Fused:
        if len(fused) == 1:
            return self._alone(fused[0], grid, volumes[0], cubic[0], coverage[0], left_out)
        logger.info("prior mean of %d stacks on %d x %d x %d voxels", len(fused), *grid.shape)
        samplings = [_samplings(part.stack, grid, part.motion) for part in fused]
        prior, without_network = (
            directional_mean(parts, coverage, samplings, self.floor) for parts in (volumes, cubic)
        )
        tau = self.expected_error * fused[0].stack.intensity_range
        predicted = [part.observation.operator(prior) for part in fused]
        across = [axes[0] for axes, part in zip(samplings, fused, strict=True) if not part.stack.is_near_isotropic]
        smoothness = np.zeros(AXES)
        for slices in across:
            smoothness = np.maximum(smoothness, self.smoothness * slices.spacing_voxels * np.abs(slices.direction))
        solve = JointConsistency(tau, smoothness.round(6).tolist())
        fused = [_weighted(part, slices, solve) for part, slices in zip(fused, predicted, strict=True)]
        stacks = [part.observation for part in fused]
        solution = self._steps("joint solution", solve, prior, stacks, predicted)
        fused = [replace(part, residual=left) for part, left in zip(fused, solution.residuals, strict=True)]
        silent = [replace(stack, slices=torch.zeros_like(stack.slices)) for stack in stacks]
        # the solution is affine in the prior: what the network adds to it is the solution for its part, without slices
        coarse = JointConsistency(tau, solve.smoothness_voxels, tolerance=COARSE)
        added = self._steps("added detail", coarse, prior - without_network, silent).volume
        logger.info("uncertainty and residuals")
        number = _number(coverage)
        features = _features(fused, grid, solution.volume, volumes, coverage)
        return Fused(
            volume=solution.volume,
            prior=prior,
            added_detail=added,
            uncertainty=self._half_width(fused, features, number),
            features=features,
            coverage=number,
            grid=grid,
            stacks=tuple(fused),
            left_out=left_out,
            tau=tau,
            iterations=solution.iterations,
            warnings=tuple(_warnings(across, fused, solution)),
        )

    def _steps(
        self,
        what: str,
        solve: JointConsistency,
        prior: torch.Tensor,
        stacks: Sequence[Observation],
        predicted: Sequence[torch.Tensor] | None = None,
    ) -> JointSolution:
        logger.info("%s", what)
        with Progress(show=self.progress, desc=f"{what}, steps", leave=False) as bar:
            bar.set_postfix_str(f"at most {solve.iterations}", refresh=False)  # it ends when it has converged
            return solve(prior, stacks, predicted, bar.update)

    def _alone(
        self,
        part: FusedStack,
        grid: Grid,
        volume: torch.Tensor,
        interpolated: torch.Tensor,
        inside: torch.Tensor,
        left_out: dict[str, str],
    ) -> Fused:
        """One stack: the result is that of the ordinary path, which has weighed its noise already.

        Raises:
            Refusal: if it is near-isotropic, as the ordinary path refuses it.
        """
        if part.stack.is_near_isotropic:
            raise Refusal(
                f"only {part.stack.case.name} can be used, which is already isotropic or nearly so: nothing to do; "
                f"give --inference::through_plane_axis 0, 1 or 2 to process it anyway"
            )
        part = replace(part, residual=part.observation.residual(part.observation.operator(volume)))
        number = _number([inside])
        features = _features([part], grid, volume, [volume], [inside])
        return Fused(
            volume=volume,
            prior=volume,
            added_detail=volume - interpolated,
            uncertainty=self._half_width([part], features, number),
            features=features,
            coverage=number,
            grid=grid,
            stacks=(part,),
            left_out=left_out,
            tau=0.0,
            iterations=0,
            warnings=(ALONE.format(part.stack.case.name),),
        )

    def _half_width(
        self, fused: Sequence[FusedStack], features: dict[str, torch.Tensor], coverage: torch.Tensor
    ) -> torch.Tensor:
        """The half-width (X, Y, Z) in the units of the reference; where no stack is, its intensity range."""
        reference = fused[0].stack
        if self.uncertainty is None:
            half_width = torch.where(coverage > 0, features[COMBINED], 1.0)
        else:
            factor = mean_factor([part.stack.geometry for part in fused])
            half_width = fused_half_width(self.uncertainty, features, coverage, reference.geometry.profile, factor)
        return half_width * reference.intensity_range


def _said(stack: Stack, refusal: Refusal) -> str:
    reason = one_line(str(refusal))
    logger.warning("%s: left out: %s", stack.case.name, reason)
    return reason


def _observed(stack: Stack, grid: Grid, motion: Registration, match: IntensityMatch | None) -> FusedStack:
    """The slices of a stack, at the intensities of the reference, with the operator that acquires them."""
    back = np.linalg.inv(motion.matrix)  # RAS mm of the stack -> RAS mm of the reference
    operator = StackOperator(Acquisition(stack.geometry), VoxelMeans(grid, stack.grid, back))
    inside = operator.covered(stack.slices.device)
    slices, noise = stack.slices, max(stack.noise, LEAST_NOISE * stack.intensity_range)
    if match is not None:
        factors = torch.where(inside, operator(torch.from_numpy(match.factors).to(slices)), match.gain)
        slices, noise = slices * factors, noise * match.gain
    observation = Observation(operator, slices, noise, inside.to(slices.dtype))
    return FusedStack(stack, motion, match, observation, noise, torch.ones(operator.shape[-1]), slices)


def _weighted(fused: FusedStack, predicted: torch.Tensor, solve: JointConsistency) -> FusedStack:
    """The same with less weight for slices that contradict the prior, and for a stack that does so as a whole."""
    seen = fused.observation
    weights = slice_weights(seen, predicted)
    bad = [f"{index} ({float(weight):.2f})" for index, weight in enumerate(weights) if weight < 1]
    if bad:
        logger.warning("%s: slices with less weight: %s", fused.stack.case.name, ", ".join(bad))
    weighted = replace(seen, weights=seen.weights * weights)
    sigma = solve.deviation_of_slices(weighted, predicted)
    return replace(fused, observation=replace(weighted, sigma=sigma), noise=seen.sigma, slice_weights=weights.cpu())


def _samplings(stack: Stack, grid: Grid, motion: Registration) -> list[Sampling]:
    """How a stack samples the frame of the result: across its slices first, then along pixels larger than its voxels.

    A near-isotropic scan samples along all of its axes.
    """
    in_world = motion.matrix[:AXES, :AXES].T @ stack.slice_grid.affine[:AXES, :AXES]
    in_voxels = np.linalg.solve(grid.affine[:AXES, :AXES], in_world).T
    spacings = np.linalg.norm(in_voxels, axis=1)
    axes = zip(in_voxels / spacings[:, None], map(float, spacings), strict=True)
    *pixels, across = (Sampling(direction, spacing) for direction, spacing in axes)
    if stack.is_near_isotropic:
        return [*pixels, across]
    slices = stack.geometry
    thickness = across.spacing_voxels * slices.slice_thickness_voxels / slices.slice_spacing_voxels
    across = replace(across, thickness_voxels=thickness, profile=slices.profile)
    return [across, *(pixel for pixel in pixels if pixel.spacing_voxels > POINT)]


def _number(coverage: Sequence[torch.Tensor]) -> torch.Tensor:
    """How many stacks see a voxel, (X, Y, Z) of float32."""
    return torch.stack([inside.to(torch.float32) for inside in coverage]).sum(dim=0)


def _features(
    fused: Sequence[FusedStack],
    grid: Grid,
    volume: torch.Tensor,
    volumes: Sequence[torch.Tensor],
    coverage: Sequence[torch.Tensor],
) -> dict[str, torch.Tensor]:
    """What the uncertainty is estimated from, on the intensity scale of the reference."""
    unit = fused[0].stack.intensity_range
    half_widths = []
    for part in fused:
        back = RigidResampling(part.stack.grid, grid, part.motion.matrix)
        gain = 1.0 if part.match is None else part.match.gain
        half_widths.append(gain / unit * back(part.stack.uncertainty))
    return stack_features(volume / unit, [other / unit for other in volumes], half_widths, coverage)


def _enlarged(reference: Grid, others: Sequence[tuple[Grid, np.ndarray]]) -> Grid:
    """The grid of the reference, made larger in whole voxels until it holds the fields of view of all."""
    low, high = np.zeros(AXES), np.array(reference.shape, dtype=np.float64)
    inverse = np.linalg.inv(reference.affine)
    for grid, motion in others:
        sides = [(-0.5, n - 0.5) for n in grid.shape]
        corners = grid.world_mm(np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, AXES))
        back = np.linalg.inv(motion)
        corners = corners @ back[:AXES, :AXES].T + back[:AXES, AXES]
        index = corners @ inverse[:AXES, :AXES].T + inverse[:AXES, AXES] + 0.5
        low, high = np.minimum(low, index.min(axis=0)), np.maximum(high, index.max(axis=0))
    low, high = np.floor(low + HALF).astype(int), np.ceil(high - HALF).astype(int)
    affine = np.array(reference.affine)
    affine[:AXES, AXES] = reference.world_mm(low)
    first, second, third = (int(n) for n in high - low)
    return Grid((first, second, third), affine)


def _disagrees(part: FusedStack) -> str:
    """The warning about a stack that contradicts the others, and what to do."""
    protocol = part.stack.protocol
    unknown = protocol is not None and protocol.thickness_source == THICKNESS_UNKNOWN
    thickness = ", or give its slice thickness, which is not known (SliceThickness in a JSON file beside it)" * unknown
    return (
        f"{part.stack.case.name}: its slices are {part.deviation_over_noise:.1f} times their noise away from what the "
        f"stacks agree on, and are trusted less for it: motion that is not rigid, fat displaced by chemical shift, "
        f"another contrast or a wrong slice thickness: look at this stack for motion and leave it out if you see "
        f"any{thickness}"
    )


def _warnings(across: list[Sampling], fused: list[FusedStack], solution: JointSolution) -> list[str]:
    warnings = [_disagrees(part) for part in fused if part.deviation_over_noise > DISAGREEING]
    if not solution.converged:
        warnings.append(f"the joint solution had not converged after {solution.iterations} steps")
    cosines = [abs(float(across[0].direction @ other.direction)) for other in across[1:]]
    if len(across) == len(fused) and min(cosines) > np.cos(np.radians(PARALLEL_DEG)):
        warnings.append(
            "all stacks have one orientation: together they sample it more finely and lower the noise, "
            "but detail across the slices is measured only where the stacks are offset"
        )
    return warnings
