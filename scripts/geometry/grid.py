"""A grid of voxels in the world: its shape and its affine, and the one rule that makes it isotropic."""

from dataclasses import dataclass
from itertools import product

import numpy as np

from .errors import Refusal

AXES = 3
SPACING_TIE = 0.05  # relative; below this difference two spacings do not tell which axis is the through-plane one
NEAR_ISOTROPIC = 1.25  # largest over smallest spacing up to which the planes of all three directions count as sharp
ORTHOGONALITY_TOLERANCE = 1e-3  # cosine between two axes; nibabel's own rounding of a qform stays far below


@dataclass(frozen=True, eq=False)
class Grid:
    """Voxel grid of a volume: shape (X, Y, Z) in voxels and a 4 x 4 affine, voxel centres to RAS mm.

    Attributes:
        shape: number of voxels along each array axis.
        affine: 4 x 4, float64; maps the homogeneous voxel index (i, j, k, 1) to the centre of that voxel in RAS mm.

    Raises:
        Refusal: if the affine is not a finite, invertible 4 x 4 matrix with perpendicular axes.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    def __post_init__(self):
        affine = np.array(self.affine, dtype=np.float64)
        shape = tuple(int(n) for n in self.shape)
        if affine.shape != (AXES + 1, AXES + 1) or not np.isfinite(affine).all():
            raise Refusal(f"affine must be a finite 4 x 4 matrix, got shape {affine.shape}: correct the header")
        if len(shape) != AXES or min(shape) < 1:
            raise Refusal(f"a grid needs three positive sizes, got {shape}: give a 3-D volume")
        spacing = np.linalg.norm(affine[:AXES, :AXES], axis=0)
        if spacing.min() <= 0 or abs(np.linalg.det(affine[:AXES, :AXES] / spacing)) < ORTHOGONALITY_TOLERANCE:
            raise Refusal("the affine is singular (an axis has no length or two axes coincide): correct the header")
        cosines = affine[:AXES, :AXES] / spacing
        if np.abs(cosines.T @ cosines - np.eye(AXES)).max() > ORTHOGONALITY_TOLERANCE:
            raise Refusal("the axes of the affine are not perpendicular (shear, gantry tilt): resample to a box first")
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", shape)

    @property
    def spacing_mm(self) -> np.ndarray:
        """Distance of neighbouring voxel centres along each array axis, shape (3,), mm."""
        return np.linalg.norm(self.affine[:AXES, :AXES], axis=0)

    @property
    def is_near_isotropic(self) -> bool:
        """Whether the planes of all three directions count as sharp."""
        return bool(self.spacing_mm.max() <= NEAR_ISOTROPIC * self.spacing_mm.min())

    @property
    def centre_mm(self) -> np.ndarray:
        """Centre of the field of view, shape (3,), RAS mm."""
        return self.world_mm((np.array(self.shape) - 1) / 2)

    def world_mm(self, index) -> np.ndarray:
        """World position, RAS mm, of a (fractional) voxel index of shape (..., 3)."""
        return np.asarray(index, dtype=np.float64) @ self.affine[:AXES, :AXES].T + self.affine[:AXES, AXES]

    def corners_mm(self) -> np.ndarray:
        """The 8 outer corners of the field of view (voxel edges, not centres), shape (8, 3), RAS mm."""
        return self.world_mm(
            [
                [n - 0.5 if far else -0.5 for n, far in zip(self.shape, fars, strict=True)]
                for fars in product((False, True), repeat=AXES)
            ]
        )

    def through_plane_axis(self, setting: int | str = "auto") -> int:
        """The array axis across the acquired slices.

        Args:
            setting: 0, 1 or 2 states it; "auto" takes the axis of the largest spacing.

        Raises:
            Refusal: if the setting is no axis, or no single axis has the largest spacing.
        """
        if setting != "auto":
            if setting not in (0, 1, 2):
                raise Refusal(f"through_plane_axis must be auto, 0, 1 or 2, got {setting!r}")
            return int(setting)
        order = np.argsort(self.spacing_mm)
        second, largest = self.spacing_mm[order[1:]]
        if largest < second * (1 + SPACING_TIE):
            spacings = " x ".join(f"{s:.3g}" for s in self.spacing_mm)
            raise Refusal(
                f"the through-plane axis cannot be told from the spacings {spacings} mm: "
                f"set through_plane_axis to 0, 1 or 2"
            )
        return int(order[2])

    def resampled(self, spacing_mm) -> "Grid":
        """The grid with other spacings on the same field of view, rounded to whole voxels about the same centre.

        Along each axis n = round(N * old / new), at least 1; the centre of the field of view stays where it is, so
        either outer edge moves by at most half a new voxel.

        Args:
            spacing_mm: one number or three, mm.
        """
        new = np.broadcast_to(np.asarray(spacing_mm, dtype=np.float64), (AXES,))
        if not (np.isfinite(new).all() and (new > 0).all()):
            raise Refusal(f"spacing must be positive, got {spacing_mm} mm")
        extent = np.array(self.shape) * self.spacing_mm
        shape = np.maximum(1, np.floor(extent / new + 0.5).astype(int))
        affine = np.eye(AXES + 1)
        affine[:AXES, :AXES] = self.affine[:AXES, :AXES] / self.spacing_mm * new
        affine[:AXES, AXES] = self.centre_mm - affine[:AXES, :AXES] @ ((shape - 1) / 2)
        return Grid(tuple(shape), affine)

    def isotropic(self, spacing_mm: float | None = None, through_plane_axis: int | str = "auto") -> "Grid":
        """The isotropic grid on this field of view.

        Args:
            spacing_mm: the voxel size; by default the smaller of the two in-plane spacings.
            through_plane_axis: as in `through_plane_axis`.
        """
        if spacing_mm is None:
            spacing_mm = np.delete(self.spacing_mm, self.through_plane_axis(through_plane_axis)).min()
        return self.resampled(spacing_mm)
