"""What a header tells of the encoding through a 3-D slab: partitions measured against slices reconstructed.

DICOM has no attribute for slices interpolated by zero-filling: AcquisitionMatrix and PercentSampling speak of the plane
alone. Three places tell it all the same, each where it is there; where none is, only a SliceThickness above the spacing
does, and a header that states the reconstructed distance as the thickness cannot be told from a true one.
"""

import re

from pydicom.dataset import Dataset
from pydicom.tag import Tag

from .elements import PRIVATE_TAGS, first_of, integer_of, items_of, number_of, private_of, text_of, value_of
from .files import DamagedError, read_dataset
from .gate import ZERO_FILL_RATIO

GE_FACTORS = (2, 4)
"""Slices per acquired location that GE's reconstruction offers (ZIP 2, ZIP 4); other ratios mean other things."""
SIEMENS_PROTOCOL = ("SIEMENS CSA HEADER", 0x0029, 0x1020)
SIEMENS_RESOLUTION = re.compile(rb"sKSpace\.dSliceResolution\s*=\s*(\d?\.\d{1,12})\b")
ALONG_SLICES = ("SLICE_SELECT", "COMBINATION")

TAGS = [
    *(Tag(name) for name in ("SharedFunctionalGroupsSequence", "SpecificCharacterSet")),
    *(Tag(group, element) for group, element in ((0x0029, 0x0010), (0x0029, 0x1020))),
    *PRIVATE_TAGS,
]


def zero_filling(file: str, slices: int) -> tuple[float, str] | None:
    """How many slices of a 3-D acquisition were reconstructed of each partition that was measured.

    Args:
        file: any file of the volume.
        slices: number of slices of the volume.

    Returns:
        The ratio, above 1, and the attribute that tells it; None where nothing in the header speaks of zero-filling.
    """
    try:
        dataset = read_dataset(file, TAGS)
    except DamagedError:
        return None
    found = _of_ge(dataset, slices) or _of_siemens(dataset) or _of_enhanced(dataset, slices)
    return found if found and found[0] > ZERO_FILL_RATIO else None


def _of_ge(dataset: Dataset, slices: int) -> tuple[float, str] | None:
    """GE counts the locations that were measured (as read by dcm2niix, its issue 373)."""
    locations = private_of(dataset, "ge_locations")
    if isinstance(locations, float) and locations > 0 and slices / locations in GE_FACTORS:
        return slices / locations, "GE LocationsInAcquisition"
    return None


def _of_siemens(dataset: Dataset) -> tuple[float, str] | None:
    """Siemens states the slice resolution, measured over reconstructed, in the protocol's text."""
    creator, group, element = SIEMENS_PROTOCOL
    protocol = value_of(dataset, Tag(group, element))
    if not isinstance(protocol, bytes) or (text_of(dataset, Tag(group, 0x0010)) or "").upper() != creator:
        return None
    stated = SIEMENS_RESOLUTION.search(protocol)
    resolution = float(stated[1]) if stated else 0.0
    return (1 / resolution, "Siemens dSliceResolution") if 0 < resolution < 1 else None


def _of_enhanced(dataset: Dataset, slices: int) -> tuple[float, str] | None:
    """Enhanced files count the encoding steps (PS3.3, C.8.13.5.3), those left out by other means as well."""
    shared = items_of(dataset, "SharedFunctionalGroupsSequence")[:1]
    steps = first_of(_groups(shared, "MRFOVGeometrySequence"), "MRAcquisitionPhaseEncodingStepsOutOfPlane", integer_of)
    if steps is None or steps < 2:
        return None
    modifier = _groups(shared, "MRModifierSequence")
    partial = first_of(modifier, "PartialFourier", text_of) == "YES"
    halved = partial and first_of(modifier, "PartialFourierDirection", text_of) in (*ALONG_SLICES, None)
    reduced = (first_of(modifier, "ParallelReductionFactorOutOfPlane", number_of) or 1.0) > 1
    return None if halved or reduced else (slices / steps, "MRAcquisitionPhaseEncodingStepsOutOfPlane")


def _groups(shared: list[Dataset], sequence: str) -> list[Dataset]:
    return [item for group in shared for item in items_of(group, sequence)[:1]]
