"""Names of the methods that an evaluation compares, as they appear in settings, folders, tables and reports."""

INPUT = "input"  # not a method: the acquired slices themselves, where they are shown beside the methods
NEAREST, LINEAR, CUBIC = "nearest", "linear", "cubic"  # cubic: U b
CONSISTENT = "consistent cubic"  # P(U b), the fair baseline: it explains the acquired slices as GLADE does
GLADE = "GLADE"
STACKS = "GLADE stacks"  # of all stacks of a case; the methods above see the first one

INTERPOLATIONS = (NEAREST, LINEAR, CUBIC, CONSISTENT)
METHOD_ORDER = (*INTERPOLATIONS, GLADE)  # in tables; other methods follow


def glade_at(sharpness: float) -> str:
    """Return the name of GLADE at a sharpness of its own.

    >>> glade_at(0.5)
    'GLADE 0.5'
    """
    return f"{GLADE} {sharpness:g}"
