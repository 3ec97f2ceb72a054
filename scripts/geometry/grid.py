"""The voxel grid of a volume: its shape, its affine, and the rule for its isotropic version."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .errors import Refusal

AXES = 3
SPACING_TIE = 0.05  # relative; two spacings closer than this do not identify the through-plane axis
NEAR_ISOTROPIC = 1.25  # largest over smallest spacing up to which planes of all three directions count as sharp
ORTHOGONALITY_TOLERANCE = 1e-3  # cosine between two axes; the rounding of a qform is far below


@dataclass(frozen=True, eq=False)
class Grid:
    """Voxel grid of a volume: shape (X, Y, Z) in voxels and a 4 x 4 affine, voxel centres to RAS mm.

    Args:
        shape: number of voxels along each array axis.
        affine: 4 x 4, float64; maps the homogeneous voxel index (i, j, k, 1) to the centre of that voxel in RAS mm.

    Raises:
        Refusal: if the affine is not a finite, invertible 4 x 4 matrix with perpendicular axes.

    >>> thick = Grid((256, 256, 45), np.diag([1.3, 1.3, 6.0, 1.0]))
    >>> thick.spacing_mm
    array([1.3, 1.3, 6. ])
    >>> thick.isotropic().shape
    (256, 256, 208)
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    def __post_init__(self) -> None:
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

    def world_mm(self, index: ArrayLike) -> np.ndarray:
        """Return the world position, RAS mm, of (fractional) voxel indices of shape (..., 3).

        >>> Grid((4, 4, 4), np.diag([2.0, 2.0, 5.0, 1.0])).world_mm((1, 0, 0.5))
        array([2. , 0. , 2.5])
        """
        return np.asarray(index, dtype=np.float64) @ self.affine[:AXES, :AXES].T + self.affine[:AXES, AXES]

    def through_plane_axis(self, setting: int | str = "auto") -> int:
        """Return the array axis across the acquired slices.

        Args:
            setting: 0, 1 or 2: that axis; "auto": the axis of the largest spacing.

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
                f"the through-plane axis is not clear from the spacings {spacings} mm: "
                f"give --through_plane_axis 0, 1 or 2"
            )
        return int(order[2])

    def resampled(self, spacing_mm: float | Sequence[float] | np.ndarray) -> "Grid":
        """Return the grid with other spacings on the same field of view, rounded to whole voxels.

        Along each axis n = round(N * old / new), at least 1. The centre of the field of view is kept, so each outer
        edge moves by at most half a new voxel.

        Args:
            spacing_mm: one number or three, mm.

        Raises:
            Refusal: if a spacing is not positive.

        >>> Grid((10, 10, 4), np.diag([1.0, 1.0, 5.0, 1.0])).resampled((1.0, 1.0, 2.5)).shape
        (10, 10, 8)
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
        """Return the isotropic grid on this field of view.

        Args:
            spacing_mm: the voxel size; None: the smaller of the two in-plane spacings.
            through_plane_axis: 0, 1, 2 or "auto", as in `through_plane_axis`.
        """
        if spacing_mm is None:
            spacing_mm = np.delete(self.spacing_mm, self.through_plane_axis(through_plane_axis)).min()
        return self.resampled(spacing_mm)
