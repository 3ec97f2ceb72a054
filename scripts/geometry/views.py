"""The anatomical views: their axes in a volume in RAS order, in the radiological display convention."""

from typing import NamedTuple


class View(NamedTuple):
    """Axes of an array in RAS order (0 right, 1 anterior, 2 superior) and the letters at the edges of the image.

    Attributes:
        fixed: axis perpendicular to the plane.
        across: horizontal axis of the image, in either direction.
        up: vertical axis, from the bottom to the top of the image.
        letters: anatomical letters at the left, right, top and bottom edge.

    >>> VIEWS["axial"]
    View(fixed=2, across=0, up=1, letters='RLAP')
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
