"""Rigid registration of two volumes of one body by ITK, with the quality that was reached."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation
from scipy.special import entr

from ..geometry.errors import Refusal
from ..geometry.grid import AXES, Grid
from ..physics.rigid import RigidResampling

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
BINS = 32  # of the joint histogram, along each axis
SAMPLES = 30_000  # voxels of the fixed volume at which it is filled, at most
SEED = 1
LEVELS = ((4, 1.0), (2, 0.5), (1, 0.25))  # shrink factor, which is also the sigma in voxels; first step in mm
LAST_STEP_MM = 1e-4
FLAT = 1e-8  # gradient of the information, at which there is nothing left to gain
STEPS = 200  # of each level, at most
LARGEST_DEG = 20.0  # between stacks of one session; more is another position of the patient
LARGEST_MM = 30.0
LEAST_OVERLAP = 0.1  # of the smaller of the two volumes
MEASURABLE = 1e-3  # a smaller difference of two normalised mutual informations says nothing
SMOOTH_VOXELS = 1.0  # Gaussian sigma before two volumes are compared
FINEST_MM = 1.0  # voxels on which two volumes are compared; half of it found the same transform in five times the time
PROBES = 20  # points along each axis that tell how far two fields of view overlap
FEWEST_SHARED = 1000  # voxels of the overlap; fewer share much information by chance
LEAST_CORRELATION = 0.5  # inside the overlap afterwards; below, the registration has failed
LEAST_INFORMATION = 1.02  # likewise, where the contrasts may differ


@dataclass(frozen=True)
class Registration:
    """A rigid transform, RAS mm of the fixed volume -> RAS mm of the moving one, and how good it is.

    Attributes:
        matrix: 4 x 4.
        angle_deg: of the rotation.
        shift_mm: of the centre of the fixed volume.
        correlation: of the two volumes inside their overlap afterwards.
        correlation_before: without the transform.
        information: normalised mutual information inside the overlap afterwards, from 1 where the two volumes are
            unrelated to 2 where each determines the other.
        overlap: share of the smaller volume's voxels that lies inside the other one.
    """

    matrix: np.ndarray
    angle_deg: float
    shift_mm: float
    correlation: float
    correlation_before: float
    information: float
    overlap: float

    def check(self, same_contrast: bool = True) -> None:
        """Make sure that the registration has succeeded.

        Args:
            same_contrast: False where the contrasts may differ, so that the correlation says little.

        Raises:
            Refusal: on a motion that no session has, or volumes that are unlike each other afterwards.
        """
        if self.angle_deg > LARGEST_DEG or self.shift_mm > LARGEST_MM:
            raise Refusal(
                f"the registration failed: it found {self.angle_deg:.1f} degrees and {self.shift_mm:.1f} mm of motion, "
                f"more than {LARGEST_DEG:g} degrees or {LARGEST_MM:g} mm between stacks of one session"
            )
        if same_contrast and self.correlation < LEAST_CORRELATION:
            raise Refusal(
                f"the registration failed: the correlation afterwards is {self.correlation:.2f}, "
                f"at least {LEAST_CORRELATION:g} is needed"
            )
        if not same_contrast and self.information < LEAST_INFORMATION:
            raise Refusal(
                f"the registration failed: the normalised mutual information afterwards is {self.information:.3f}, "
                f"at least {LEAST_INFORMATION:g} is needed"
            )

    def as_row(self) -> dict:
        """The fields for a row of the run record."""
        return {**asdict(self), "matrix": self.matrix.round(6).tolist()}


def no_motion() -> Registration:
    """Return the registration of the reference with itself."""
    return Registration(np.eye(AXES + 1), 0.0, 0.0, 1.0, 1.0, 2.0, 1.0)


def register(
    fixed: np.ndarray,
    fixed_grid: Grid,
    moving: np.ndarray,
    moving_grid: Grid,
    stepped: Callable[[], Any] | None = None,
) -> Registration:
    """Find the rigid transform under which the two volumes share the most information.

    Mattes' mutual information (Mattes et al. 2003, IEEE Trans Med Imaging 22:120) at three resolutions, by gradient
    descent with regular steps, from no motion at all, on voxels of at least 1 mm. A resolution at which the normalised
    mutual information (Studholme et al. 1999, Pattern Recognition 32:71) of the smoothed volumes falls is left out. It
    does not need the same intensities in both volumes. One thread and a fixed random draw: the same volumes always give
    the same transform.

    Args:
        fixed: (X, Y, Z).
        fixed_grid: its grid.
        moving: (X, Y, Z) of any size.
        moving_grid: its grid.
        stepped: called after each of the resolutions, `LEVELS`.

    Raises:
        Refusal: if the volumes hardly overlap. Whether it has succeeded, `Registration.check` says.
    """
    overlap = _overlap(fixed_grid, moving_grid)
    if overlap < LEAST_OVERLAP:
        raise Refusal(
            f"{overlap:.0%} of the field of view are shared, at least {LEAST_OVERLAP:.0%} are needed: "
            f"give stacks of the same part of the body"
        )
    (fixed, fixed_grid), (moving, moving_grid) = _coarse(fixed, fixed_grid), _coarse(moving, moving_grid)
    images = _image(fixed, fixed_grid), _image(moving, moving_grid)
    # smooth: else interpolation, which lowers noise, would make any motion look better than none
    fixed, moving = (ndimage.gaussian_filter(v.astype(np.float32), SMOOTH_VOXELS) for v in (fixed, moving))
    matrix = np.eye(AXES + 1)
    before = _shared(fixed, fixed_grid, moving, moving_grid, matrix)
    information, moved = _information(*before), False
    try:
        for shrink, first_step_mm in LEVELS:
            finer = _refined(*images, matrix, fixed_grid.centre_mm, shrink, first_step_mm)
            reached = _information(*_shared(fixed, fixed_grid, moving, moving_grid, finer))
            if reached > information + (-MEASURABLE if moved else MEASURABLE):  # else no motion, or astray
                matrix, information, moved = finer, reached, True
            if stepped is not None:
                stepped()
    except RuntimeError as error:  # ITK: all samples map outside the moving volume
        raise Refusal("the registration failed: the volumes have nothing in common where they overlap") from error
    found = Registration(
        matrix,
        float(np.degrees(Rotation.from_matrix(matrix[:AXES, :AXES]).magnitude())),
        float(np.linalg.norm(matrix[:AXES, :AXES] @ fixed_grid.centre_mm + matrix[:AXES, AXES] - fixed_grid.centre_mm)),
        _correlation(*_shared(fixed, fixed_grid, moving, moving_grid, matrix)),
        _correlation(*before),
        information,
        overlap,
    )
    return found


def _coarse(volume: np.ndarray, grid: Grid) -> tuple[np.ndarray, Grid]:
    """The volume on voxels of at least `FINEST_MM`."""
    coarse = grid.resampled(np.maximum(grid.spacing_mm, FINEST_MM))
    if coarse.shape == grid.shape:
        return volume, grid
    values = torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32))
    return RigidResampling(grid, coarse)(values).numpy(), coarse


def _refined(
    fixed: Any, moving: Any, start: np.ndarray, centre_mm: np.ndarray, shrink: int, first_step_mm: float
) -> np.ndarray:
    """The transform, 4 x 4 in RAS mm, that a descent from `start` finds at one resolution."""
    itk = _itk()
    transform = _transform(start, centre_mm)
    kind = type(fixed)
    metric = itk.MattesMutualInformationImageToImageMetricv4[kind, kind].New()
    metric.SetNumberOfHistogramBins(BINS)
    metric.SetMaximumNumberOfWorkUnits(1)
    scales = itk.RegistrationParameterScalesFromPhysicalShift[type(metric)].New()
    scales.SetMetric(metric)
    optimiser = itk.RegularStepGradientDescentOptimizerv4[itk.D].New()
    optimiser.SetScalesEstimator(scales)
    optimiser.SetDoEstimateLearningRateOnce(False)
    optimiser.SetDoEstimateLearningRateAtEachIteration(False)
    optimiser.SetLearningRate(first_step_mm)
    optimiser.SetMinimumStepLength(LAST_STEP_MM)
    optimiser.SetGradientMagnitudeTolerance(FLAT)
    optimiser.SetNumberOfIterations(STEPS)
    optimiser.SetReturnBestParametersAndValue(True)
    method = itk.ImageRegistrationMethodv4[kind, kind].New()
    method.SetFixedImage(fixed)
    method.SetMovingImage(moving)
    method.SetMetric(metric)
    method.SetOptimizer(optimiser)
    method.SetInitialTransform(transform)
    method.InPlaceOn()
    method.SetNumberOfLevels(1)
    method.SetShrinkFactorsPerLevel([shrink])
    method.SetSmoothingSigmasPerLevel([float(shrink)])
    method.SetSmoothingSigmasAreSpecifiedInPhysicalUnits(False)
    method.MetricSamplingReinitializeSeed(SEED)
    method.SetMetricSamplingStrategy(itk.ImageRegistrationMethodv4Enums.MetricSamplingStrategy_RANDOM)
    voxels = float(np.prod(itk.size(fixed))) / shrink**AXES
    method.SetMetricSamplingPercentagePerLevel([min(1.0, SAMPLES / voxels)])
    method.Update()
    return _matrix(transform)


def _image(values: np.ndarray, grid: Grid) -> Any:
    """The ITK image of a volume: axes reversed in memory, LPS mm."""
    itk = _itk()
    image = itk.image_from_array(np.ascontiguousarray(values.T, dtype=np.float32))
    affine = RAS_TO_LPS @ grid.affine
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetOrigin(affine[:AXES, AXES].tolist())
    image.SetDirection(itk.matrix_from_array(affine[:AXES, :AXES] / grid.spacing_mm))
    return image


def _transform(matrix: np.ndarray, centre_mm: np.ndarray) -> Any:
    """The ITK transform of a matrix, which turns about a centre; both in RAS mm."""
    itk = _itk()
    transform = itk.Euler3DTransform[itk.D].New()
    transform.SetCenter((RAS_TO_LPS[:AXES, :AXES] @ centre_mm).tolist())
    lps = RAS_TO_LPS @ matrix @ RAS_TO_LPS
    transform.SetMatrix(itk.matrix_from_array(lps[:AXES, :AXES]))
    transform.SetOffset(lps[:AXES, AXES].tolist())
    return transform


def _matrix(transform: Any) -> np.ndarray:
    """4 x 4 in RAS mm of an ITK transform in LPS mm."""
    matrix = np.eye(AXES + 1)
    matrix[:AXES, :AXES] = _itk().array_from_matrix(transform.GetMatrix())
    matrix[:AXES, AXES] = list(transform.GetOffset())
    return RAS_TO_LPS @ matrix @ RAS_TO_LPS


def _overlap(first: Grid, second: Grid) -> float:
    """Share of the smaller field of view that lies inside the other one."""
    small, large = sorted((first, second), key=lambda grid: float(np.prod(np.array(grid.shape) * grid.spacing_mm)))
    lines = [(np.arange(PROBES) + 0.5) / PROBES * n - 0.5 for n in small.shape]
    points = small.world_mm(np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1))
    return float(_inside(_index(points, large), large.shape).mean())


def _shared(
    fixed: np.ndarray, fixed_grid: Grid, moving: np.ndarray, moving_grid: Grid, matrix: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The values of both volumes at a regular choice of the fixed voxels inside the overlap; none where it is small."""
    stride = max(1, round((fixed.size / SAMPLES) ** (1 / AXES)))
    index = np.stack(np.meshgrid(*(np.arange(0, n, stride) for n in fixed.shape), indexing="ij"), axis=-1)
    points = fixed_grid.world_mm(index.reshape(-1, AXES)) @ matrix[:AXES, :AXES].T + matrix[:AXES, AXES]
    places = _index(points, moving_grid)
    inside = _inside(places, moving_grid.shape)
    if inside.sum() < FEWEST_SHARED:
        return np.zeros(0), np.zeros(0)
    there = ndimage.map_coordinates(moving, places[inside].T, order=1, mode="nearest")  # up to half a voxel outside
    return fixed[tuple(index.reshape(-1, AXES)[inside].T)], there


def _correlation(here: np.ndarray, there: np.ndarray) -> float:
    """Pearson's correlation; 0 where there are no values, or equal ones."""
    if here.size == 0 or min(here.std(), there.std()) == 0:
        return 0.0
    return float(np.corrcoef(here, there)[0, 1])


def _information(here: np.ndarray, there: np.ndarray) -> float:
    """Normalised mutual information, (H(here) + H(there)) / H(here, there); 1 where there are no values, or equal ones.

    It does not fall where one contrast is another function of the tissue than the other, as a correlation does.
    """
    if here.size == 0 or min(here.std(), there.std()) == 0:
        return 1.0
    joint = np.histogram2d(here, there, BINS)[0] / here.size
    entropies = [float(entr(shares).sum()) for shares in (joint.sum(axis=0), joint.sum(axis=1), joint)]
    return (entropies[0] + entropies[1]) / entropies[2]


def _index(points_mm: np.ndarray, grid: Grid) -> np.ndarray:
    """Voxel indices of points, (..., 3)."""
    inverse = np.linalg.inv(grid.affine)
    return points_mm @ inverse[:AXES, :AXES].T + inverse[:AXES, AXES]


def _inside(index: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    return ((index >= -0.5) & (index <= np.array(shape) - 0.5)).all(axis=-1)


def _itk() -> ModuleType:
    """ITK, which takes seconds to load and is needed for registration alone.

    Raises:
        Refusal: if it is not installed.
    """
    try:
        import itk

        _ = itk.ImageRegistrationMethodv4
    except (ImportError, AttributeError) as error:
        raise Refusal("registration needs ITK: pip install 'glade-mri[stacks]'") from error
    return itk
