"""Accept or refuse a stack of slices by its geometry, before any pixel is read.

Pure functions of positions and directions in LPS patient coordinates (mm; PS3.3, C.7.6.2). They collect every reason to
refuse the stack, and notes on what is unusual but usable.
"""

from dataclasses import dataclass

import numpy as np

from ..physics.protocol import FEWEST_SLICES

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From RAS to LPS coordinates in mm, and back: the matrix is its own inverse."""
EVEN_SPACING_TOLERANCE = 0.01
"""Largest deviation of a slice distance from the median distance, relative to it."""
EVEN_SPACING_TOLERANCE_MM = 2e-3
"""The same in mm, for positions that are rounded to three decimals."""
SAME_POSITION_MM = 0.01
"""Slices closer than this along their normal have the same position."""
ORIENTATION_TOLERANCE = 2e-4
"""Largest difference of a direction cosine within a stack: 0.1 mm at the edge of a 500 mm field of view."""
UNIT_TOLERANCE = 1e-3
"""Largest deviation of a direction's length from 1, and of the cosine between rows and columns from 0."""
TILT_TOLERANCE = 5e-4
"""Largest sideways shift of slices relative to their distance along the normal (gantry tilt, shear)."""
TILT_TOLERANCE_MM = 5e-3
"""The same in mm, because rounded positions shift the slices of a short stack by more."""
SPACING_TAG_TOLERANCE = 0.01
"""Relative difference above which a note says that SpacingBetweenSlices contradicts the positions."""
ZERO_FILL_RATIO = 1.05
"""Ratio of thickness to spacing above which slices overlap or partitions are zero-filled."""
ZERO_FILLED = "zero-filled partitions"
"""Beginning of the note that slices are reconstructed closer together than partitions were measured."""
MISSING_SLICE_TOLERANCE = 0.1
"""Largest deviation of a distance from a whole multiple of the median, relative to it, to report missing slices."""
MAX_LENGTH_MM = 1e5
"""No position in a scanner is farther from its centre, and no spacing larger."""
PLAUSIBLE_PIXEL_MM = (0.006, 50.0)
"""Least and largest distance of pixels: from microscopy at 21 T to far beyond the coarsest localizer."""
PLAUSIBLE_SLICE_MM = (0.03, 250.0)
"""Least and largest thickness and distance of slices; a slab of a thick-slice projection may have 200 mm."""
UNITS_MM = {"metres": 1000.0, "micrometres": 0.001}
"""Units that are taken for millimetres by mistake."""
MAX_NAMED = 5
"""Number of positions that a message lists; of further ones it gives the number."""


@dataclass(frozen=True)
class Note:
    """What is unusual about a volume, but usable.

    Attributes:
        text: one line.
        warns: whether it is logged as a warning, because headers contradict each other or images were left out.
    """

    text: str
    warns: bool = False


@dataclass(frozen=True)
class Stack:
    """Geometry of a sorted stack of slices.

    Attributes:
        order: indices that sort the slices along their normal.
        slice_spacing_mm: mean distance of centres; None where it is unknown.
        affine: 4 x 4, (column, row, slice) index to RAS position in mm; None where it is unknown.
        reasons: why the stack is refused; empty for a usable one.
        notes: what is unusual, but usable.
        slice_thickness_mm: FWHM along the normal; None where no header states it.
        stated_by: the attribute that states the thickness.
    """

    order: tuple[int, ...]
    slice_spacing_mm: float | None
    affine: np.ndarray | None
    reasons: tuple[str, ...]
    notes: tuple[Note, ...]
    slice_thickness_mm: float | None = None
    stated_by: str | None = None

    @property
    def noted(self) -> str:
        """All notes in one line; empty for none."""
        return "; ".join(note.text for note in self.notes)


def examine(
    positions_mm: np.ndarray,
    orientations: np.ndarray,
    pixel_spacing_mm: tuple[float, ...],
    *,
    slice_thickness_mm: float | None = None,
    note_of_absence: str = "SliceThickness is absent",
    slice_spacing_tag_mm: float | None = None,
    acquisition_type: str | None = None,
    zero_filling: tuple[float, str] | None = None,
    minimum_slices: int = FEWEST_SLICES,
) -> Stack:
    """Examine the geometry of the slices of one volume, given in any order.

    Args:
        positions_mm: (n, 3), ImagePositionPatient.
        orientations: (n, 6), ImageOrientationPatient.
        pixel_spacing_mm: PixelSpacing: distance of rows, distance of columns.
        slice_thickness_mm: SliceThickness, where known.
        note_of_absence: the note for an unknown slice thickness.
        slice_spacing_tag_mm: SpacingBetweenSlices, where known; a stack of several slices takes the positions' spacing.
        acquisition_type: MRAcquisitionType, where known.
        zero_filling: slices reconstructed per measured partition, and the attribute that states it.
        minimum_slices: fewer are refused.

    >>> positions = np.array([[0, 0, 0], [0, 0, 5], [0, 0, 20], [0, 0, 10]])
    >>> stack = examine(positions, np.tile([1, 0, 0, 0, 1, 0], (4, 1)), (1.0, 1.0), minimum_slices=3)
    >>> stack.order, stack.reasons
    ((0, 1, 3, 2), ('1 slice missing at 15.0 mm from the first: distances 5 to 10 mm',))
    """
    reasons = orientation_reasons(orientations)
    if not np.abs(positions_mm).max() < MAX_LENGTH_MM:
        reasons.append("ImagePositionPatient is beyond any scanner")
    if not 0 < min(pixel_spacing_mm) <= max(pixel_spacing_mm) < MAX_LENGTH_MM:
        reasons.append(f"PixelSpacing {pixel_spacing_mm[0]:g} x {pixel_spacing_mm[1]:g} mm is not possible")
    if reasons:
        return Stack(tuple(range(len(positions_mm))), None, None, tuple(reasons), ())
    row, column, normal = directions(orientations)
    distances = positions_mm @ normal
    order = np.argsort(distances, kind="stable")
    distances, positions_mm = distances[order], positions_mm[order]
    reasons += spacing_reasons(distances) + tilt_reasons(positions_mm, normal)
    if len(distances) < minimum_slices:
        reasons.append(f"{len(distances)} slice{'s'[: len(distances) > 1]}; at least {minimum_slices} are needed")
    if len(distances) > 1:
        spacing = float(distances[-1] - distances[0]) / (len(distances) - 1)
    else:
        spacing = slice_spacing_tag_mm or slice_thickness_mm or 0.0
    affine = None
    if 0 < spacing < MAX_LENGTH_MM:
        affine = stack_affine(positions_mm[0], row, column, normal, (*pixel_spacing_mm, spacing))
    elif not reasons:
        reasons.append("the distance of slices is not known")
    reasons += unit_reasons(pixel_spacing_mm, spacing if len(distances) > 1 else None, slice_thickness_mm)
    thickness, source = measured_thickness(spacing, slice_thickness_mm, zero_filling)
    notes: list[Note] = []
    if not reasons:
        notes += spacing_notes(spacing, slice_spacing_tag_mm)
        absent = [Note(note_of_absence)]
        notes += thickness_notes(spacing, thickness, acquisition_type, zero_filling) if thickness else absent
    order = tuple(int(i) for i in order)
    return Stack(order, spacing or None, affine, tuple(reasons), tuple(notes), thickness, source)


def unit_reasons(
    pixel_spacing_mm: tuple[float, ...], slice_spacing_mm: float | None, slice_thickness_mm: float | None
) -> list[str]:
    """Return why lengths are refused that no scanner makes; a wrong unit is the usual cause.

    Args:
        pixel_spacing_mm: PixelSpacing.
        slice_spacing_mm: distance of slices by their positions; None where it is not known.
        slice_thickness_mm: SliceThickness; None where it is not known.

    >>> unit_reasons((0.8, 0.8), 3.3, 0.003)
    ['SliceThickness 0.003 mm is implausible: is it in metres (3 mm)? Correct the header']
    """
    lengths = [
        ("PixelSpacing", min(pixel_spacing_mm), PLAUSIBLE_PIXEL_MM),
        ("PixelSpacing", max(pixel_spacing_mm), PLAUSIBLE_PIXEL_MM),
        ("distance of slices", slice_spacing_mm, PLAUSIBLE_SLICE_MM),
        ("SliceThickness", slice_thickness_mm, PLAUSIBLE_SLICE_MM),
    ]
    reasons = []
    for name, value, (least, most) in lengths:
        if not value or least <= value <= most:
            continue
        unit = "metres" if value < least else "micrometres"
        in_mm = value * UNITS_MM[unit]
        suspect = f"is it in {unit} ({in_mm:.3g} mm)" if least <= in_mm <= most else "is its unit wrong"
        reasons.append(f"{name} {value:.4g} mm is implausible: {suspect}? Correct the header")
    return list(dict.fromkeys(reasons))


def directions(orientations: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return unit vectors (LPS) along a row, along a column and along the normal of slices of one orientation.

    Args:
        orientations: (n, 6), ImageOrientationPatient of each slice; their mean counts.

    >>> directions(np.array([[1, 0, 0, 0, 1, 0]]))[2]
    array([0., 0., 1.])
    """
    mean = np.mean(orientations, axis=0)
    row = mean[:3] / np.linalg.norm(mean[:3])
    column = mean[3:] - (mean[3:] @ row) * row
    column /= np.linalg.norm(column)
    return row, column, np.cross(row, column)


def orientation_reasons(orientations: np.ndarray) -> list[str]:
    """Return why directions are refused: no unit vectors, not perpendicular, or not the same for all slices."""
    rows, columns = orientations[:, :3], orientations[:, 3:]
    lengths = np.linalg.norm(np.stack([rows, columns]), axis=-1)
    if np.abs(lengths - 1).max() > UNIT_TOLERANCE:
        return [f"ImageOrientationPatient holds a direction of length {lengths.flat[np.abs(lengths - 1).argmax()]:.4g}"]
    skew = np.abs((rows * columns).sum(-1)).max()
    if skew > UNIT_TOLERANCE:
        return [f"rows and columns are not perpendicular (cosine {skew:.4f})"]
    spread = np.ptp(orientations, axis=0).max()
    if spread > ORIENTATION_TOLERANCE:
        return [f"slices are not parallel (direction cosines differ by {spread:.4f})"]
    return []


def spacing_reasons(distances: np.ndarray) -> list[str]:
    """Return why distances are refused: repeated positions, missing slices, or uneven spacing.

    Args:
        distances: (n,) positions along the normal in mm, in ascending order.

    >>> spacing_reasons(np.array([0.0, 4.0, 8.0, 13.0]))
    ['slice distances are uneven: 4 to 5 mm, median 4 mm']
    """
    steps = np.diff(distances)
    same = steps < SAME_POSITION_MM
    if same.any():
        named = _named(distances[:-1][same] - distances[0])
        return [f"{int(same.sum())} slice(s) at a position that is already taken ({named} from the first)"]
    if len(steps) < 2:
        return []
    # The lower of the two middle values: where half of the distances are gaps, the upper one would be a gap.
    median = float(np.sort(steps)[(len(steps) - 1) // 2])
    tolerance = max(EVEN_SPACING_TOLERANCE * median, EVEN_SPACING_TOLERANCE_MM)
    if np.abs(steps - median).max() <= tolerance:
        return []
    multiples = np.rint(steps / median)
    if np.abs(steps / median - multiples).max() <= MISSING_SLICE_TOLERANCE and multiples.min() >= 1:
        missing = [distances[i] + k * median for i in range(len(steps)) for k in range(1, int(min(multiples[i], 1000)))]
        if missing:
            named = _named(np.array(missing) - distances[0])
            return [
                f"{len(missing)} slice{'s'[: len(missing) > 1]} missing at {named} from the first: "
                f"distances {steps.min():.3g} to {steps.max():.3g} mm"
            ]
    return [f"slice distances are uneven: {steps.min():.4g} to {steps.max():.4g} mm, median {median:.4g} mm"]


def tilt_reasons(positions_mm: np.ndarray, normal: np.ndarray) -> list[str]:
    """Return why positions are refused: slices shifted sideways by gantry tilt, shear, or one of them alone."""
    offsets = positions_mm - positions_mm[0]
    along = offsets @ normal
    sideways = np.linalg.norm(offsets - along[:, None] * normal, axis=1)
    worst = int(sideways.argmax())
    if sideways[worst] <= max(TILT_TOLERANCE * float(along[-1]), TILT_TOLERANCE_MM):
        return []
    angle = np.degrees(np.arctan2(sideways[worst], abs(along[worst])))
    return [f"slices are shifted sideways by up to {sideways[worst]:.3g} mm (tilt or shear of {angle:.2g} degrees)"]


def measured_thickness(
    slice_spacing_mm: float, slice_thickness_mm: float | None, zero_filling: tuple[float, str] | None
) -> tuple[float | None, str | None]:
    """Return the thickness of the measured slices or partitions in mm, and the attribute that states it.

    Of zero-filled partitions some headers state the reconstructed spacing as thickness, so the larger of SliceThickness
    and the measured partition is used.

    >>> measured_thickness(2.0, 2.0, (2.0, "GE LocationsInAcquisition"))
    (4.0, 'DICOM GE LocationsInAcquisition')
    """
    if zero_filling and slice_spacing_mm * zero_filling[0] > (slice_thickness_mm or 0.0) * ZERO_FILL_RATIO:
        return slice_spacing_mm * zero_filling[0], f"DICOM {zero_filling[1]}"
    return slice_thickness_mm, slice_thickness_mm and "DICOM SliceThickness"


def spacing_notes(slice_spacing_mm: float, slice_spacing_tag_mm: float | None) -> list[Note]:
    """Return a note where SpacingBetweenSlices contradicts the positions."""
    if slice_spacing_tag_mm and abs(slice_spacing_tag_mm / slice_spacing_mm - 1) > SPACING_TAG_TOLERANCE:
        stated = f"SpacingBetweenSlices says {slice_spacing_tag_mm:g} mm"
        return [Note(f"{stated}, the positions {slice_spacing_mm:.4g} mm: positions win", warns=True)]
    return []


def thickness_notes(
    slice_spacing_mm: float,
    slice_thickness_mm: float,
    acquisition_type: str | None,
    zero_filling: tuple[float, str] | None = None,
) -> list[Note]:
    """Return a note on a gap, an overlap, or zero-filled partitions.

    >>> thickness_notes(5.0, 4.0, "2D")
    [Note(text='gap of 1 mm between slices', warns=False)]
    """
    sizes = f"thickness {slice_thickness_mm:.4g} mm at a spacing of {slice_spacing_mm:.4g} mm"
    if zero_filling:
        measured = f"{zero_filling[0]:.3g} slices of each one measured ({zero_filling[1]})"
        return [Note(f"{ZERO_FILLED}: {measured}, {sizes}", warns=True)]
    if slice_thickness_mm > ZERO_FILL_RATIO * slice_spacing_mm:
        partitions = acquisition_type == "3D"
        return [Note(f"{ZERO_FILLED if partitions else 'overlapping slices'}: {sizes}", warns=partitions)]
    if slice_spacing_mm > ZERO_FILL_RATIO * slice_thickness_mm:
        return [Note(f"gap of {slice_spacing_mm - slice_thickness_mm:.3g} mm between slices")]
    return []


def stack_affine(
    first_mm: np.ndarray, row: np.ndarray, column: np.ndarray, normal: np.ndarray, spacing_mm: tuple[float, ...]
) -> np.ndarray:
    """Return the affine (4 x 4) from voxel (column, row, slice) to RAS mm, by PS3.3, equation C.7.6.2.1-1.

    Args:
        first_mm: LPS centre of the first voxel of the first slice.
        row: LPS unit vector along a row (direction of increasing column index).
        column: LPS unit vector along a column (direction of increasing row index).
        normal: LPS unit vector from slice to slice.
        spacing_mm: distance of rows, of columns, of slices.
    """
    affine = np.eye(4)
    affine[:3, 0] = row * spacing_mm[1]
    affine[:3, 1] = column * spacing_mm[0]
    affine[:3, 2] = normal * spacing_mm[2]
    affine[:3, 3] = first_mm
    return RAS_TO_LPS @ affine


def _named(values_mm: np.ndarray) -> str:
    text = ", ".join(f"{value:.1f}" for value in values_mm[:MAX_NAMED])
    more = len(values_mm) - MAX_NAMED
    return f"{text} mm" + (f" and {more} more" if more > 0 else "")
