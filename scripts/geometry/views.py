"""The anatomical views: which axes of a volume in RAS order they show, and how radiologists hang them."""

from typing import NamedTuple


class View(NamedTuple):
    """Axes of an array in RAS order (0 right, 1 anterior, 2 superior) and the letters at the picture's edges.

    Attributes:
        fixed: axis perpendicular to the plane.
        across: axis from left to right of the picture, or against it.
        up: axis from bottom to top of the picture.
        letters: anatomical letters at the left, right, top and bottom edge.
    """

    fixed: int
    across: int
    up: int
    letters: str


VIEWS = {
    "sagittal": View(0, 1, 2, "APSI"),
    "coronal": View(1, 0, 2, "RLSI"),
    "axial": View(2, 0, 1, "RLAP"),
}
