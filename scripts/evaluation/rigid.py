"""A small rigid alignment of a volume with the slices of another scan of the same body: three angles, three shifts."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from ..geometry.grid import AXES
from .volumes import sample

LARGEST_DEG = 6.0  # between scans of one session; more is another position, not a small motion
LARGEST_MM = 8.0
TRIALS = 600  # of the optimiser
STEP_DEG = 0.5  # of the first simplex
STEP_MM = 1.0
NEAR_ENOUGH = 0.01  # degrees and mm, where the optimiser stops
SAME_LOSS = 1e-6  # of 1 - correlation


@dataclass(frozen=True)
class Rigid:
    """x -> R (x - centre) + centre + shift, in RAS mm.

    Attributes:
        angles_deg: rotation vector (3,), degrees.
        shift_mm: (3,).
        centre_mm: (3,), of the rotation.
    """

    angles_deg: np.ndarray
    shift_mm: np.ndarray
    centre_mm: np.ndarray

    @property
    def matrix(self) -> np.ndarray:
        """4 x 4, RAS mm to RAS mm."""
        made = np.eye(AXES + 1)
        made[:AXES, :AXES] = Rotation.from_rotvec(self.angles_deg, degrees=True).as_matrix()
        made[:AXES, AXES] = self.centre_mm + self.shift_mm - made[:AXES, :AXES] @ self.centre_mm
        return made


def align(moving: np.ndarray, moving_affine: np.ndarray, positions_mm: np.ndarray, fixed: np.ndarray) -> Rigid:
    """Find the rigid motion of positions under which a volume correlates best with another scan's values there.

    Nelder-Mead from no motion at all, on 1 - normalised correlation; angles and shifts are limited to what a patient
    moves within a session.

    Args:
        moving: the volume, (X, Y, Z), smoothed.
        moving_affine: of the volume, to RAS mm.
        positions_mm: (P, 3), RAS mm.
        fixed: values of the other scan there, (P,).
    """
    centre = positions_mm.mean(axis=0)
    inverse = np.linalg.inv(moving_affine)
    fixed = (fixed - fixed.mean()) / fixed.std()
    reach = np.repeat([LARGEST_DEG, LARGEST_MM], AXES)

    def loss(parameters: np.ndarray) -> float:
        step = inverse @ Rigid(parameters[:AXES], parameters[AXES:], centre).matrix
        values = sample(moving, step[:AXES, :AXES] @ positions_mm.T + step[:AXES, AXES:], order=1)
        deviation = float(values.std())
        return 1.0 if not deviation > 0 else 1 - float(((values - values.mean()) * fixed).mean()) / deviation

    steps = np.diag(np.repeat([STEP_DEG, STEP_MM], AXES))
    simplex = np.concatenate([np.zeros((1, 2 * AXES)), steps])
    options = {"initial_simplex": simplex, "maxfev": TRIALS, "xatol": NEAR_ENOUGH, "fatol": SAME_LOSS}
    found = minimize(
        loss, np.zeros(2 * AXES), method="Nelder-Mead", bounds=list(zip(-reach, reach, strict=True)), options=options
    ).x
    return Rigid(found[:AXES], found[AXES:], centre)
