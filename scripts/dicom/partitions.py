"""Zero-filling of a 3-D acquisition: how many slices were reconstructed per measured partition.

DICOM has no attribute for it: AcquisitionMatrix and PercentSampling describe the image plane only. GE, Siemens and
enhanced files state it elsewhere. Without any of these, zero-filling shows only in a SliceThickness above the slice
spacing; where a header states the reconstructed spacing as the thickness, it cannot be detected.
"""

import re

from pydicom.dataset import Dataset
from pydicom.tag import Tag

from .elements import (
    PRIVATE_TAGS,
    first_of,
    functional_groups,
    integer_of,
    macro_items,
    number_of,
    private_of,
    text_of,
    value_of,
)
from .files import DamagedError, read_dataset
from .gate import ZERO_FILL_RATIO

GE_FACTORS = (2, 4)
"""Slices per acquired location that GE's reconstruction offers (ZIP 2, ZIP 4); other ratios have other causes."""
SIEMENS_CREATOR = Tag(0x0029, 0x0010)
SIEMENS_PROTOCOL = Tag(0x0029, 0x1020)
"""Element of Siemens' CSA header that holds the protocol as text."""
SIEMENS_RESOLUTION = re.compile(rb"sKSpace\.dSliceResolution\s*=\s*(\d?\.\d{1,12})\b")
ALONG_SLICES = ("SLICE_SELECT", "COMBINATION")

TAGS = [
    *(Tag(keyword) for keyword in ("SharedFunctionalGroupsSequence", "SpecificCharacterSet")),
    *(SIEMENS_CREATOR, SIEMENS_PROTOCOL),
    *PRIVATE_TAGS,
]


def zero_filling(file: str, slices: int) -> tuple[float, str] | None:
    """Return how many slices of a 3-D acquisition were reconstructed per measured partition.

    Args:
        file: any file of the volume.
        slices: number of slices of the volume.

    Returns:
        The ratio, above 1, and the attribute that states it; None where the header does not state zero-filling.
    """
    try:
        dataset = read_dataset(file, TAGS)
    except DamagedError:
        return None
    found = _ge(dataset, slices) or _siemens(dataset) or _enhanced(dataset, slices)
    return found if found and found[0] > ZERO_FILL_RATIO else None


def _ge(dataset: Dataset, slices: int) -> tuple[float, str] | None:
    """Compare with GE's number of measured locations (as dcm2niix does, its issue 373)."""
    locations = private_of(dataset, "ge_locations")
    if isinstance(locations, float) and locations > 0 and slices / locations in GE_FACTORS:
        return slices / locations, "GE LocationsInAcquisition"
    return None


def _siemens(dataset: Dataset) -> tuple[float, str] | None:
    """Read the slice resolution, measured over reconstructed, from Siemens' protocol text."""
    protocol = value_of(dataset, SIEMENS_PROTOCOL)
    if not isinstance(protocol, bytes) or (text_of(dataset, SIEMENS_CREATOR) or "").upper() != "SIEMENS CSA HEADER":
        return None
    stated = SIEMENS_RESOLUTION.search(protocol)
    resolution = float(stated[1]) if stated else 0.0
    return (1 / resolution, "Siemens dSliceResolution") if 0 < resolution < 1 else None


def _enhanced(dataset: Dataset, slices: int) -> tuple[float, str] | None:
    """Compare with the encoding steps of an enhanced file (PS3.3, C.8.13.5.3).

    Steps that partial Fourier or parallel imaging left out are missing from that number too; it is not used then.
    """
    shared = functional_groups(dataset, None)
    geometry = macro_items(shared, "MRFOVGeometrySequence")
    steps = first_of(geometry, "MRAcquisitionPhaseEncodingStepsOutOfPlane", integer_of)
    if steps is None or steps < 2:
        return None
    modifier = macro_items(shared, "MRModifierSequence")
    partial = first_of(modifier, "PartialFourier", text_of) == "YES"
    halved = partial and first_of(modifier, "PartialFourierDirection", text_of) in (*ALONG_SLICES, None)
    reduced = (first_of(modifier, "ParallelReductionFactorOutOfPlane", number_of) or 1.0) > 1
    return None if halved or reduced else (slices / steps, "MRAcquisitionPhaseEncodingStepsOutOfPlane")
