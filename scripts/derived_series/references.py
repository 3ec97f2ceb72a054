"""References of a derived slice to its source images (PS3.3, C.7.6.1 and C.12.1)."""

from collections.abc import Sequence

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from ..dicom.discovery import Volume
from ..dicom.gate import RAS_TO_LPS
from ..dicom.headers import Frame

MAX_REFERENCES = 128
"""Most source images that every derived slice refers to; the references to more would be larger than its pixels."""
NEAREST_REFERENCES = 32
"""Number of nearest source images that a derived slice refers to where there are more than `MAX_REFERENCES`."""
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")


def references(sources: Sequence[Volume], position_mm: np.ndarray) -> Dataset:
    """Return SourceImageSequence and ReferencedSeriesSequence of a derived slice.

    An image without SOPClassUID or SOPInstanceUID cannot be referred to, one without SeriesInstanceUID not below its
    series; a sequence that would be empty is left out.

    Args:
        sources: the volumes that the slice is derived from.
        position_mm: LPS position of the slice; it matters only where the nearest source images are chosen.
    """
    count = sum(len(source.frames) for source in sources)
    nearest = [frame for source in sources for frame in _nearest(source, position_mm, count)]
    frames = [frame for frame in nearest if frame.sop_class and frame.sop_instance]
    sequences = Dataset()
    if frames:
        sequences.SourceImageSequence = [_reference(image, True) for image in _by_instance(frames)]
    in_series: dict[str, list[Frame]] = {}
    for frame in frames:
        if frame.series:
            in_series.setdefault(frame.series, []).append(frame)
    if in_series:
        sequences.ReferencedSeriesSequence = [_series(uid, images) for uid, images in in_series.items()]
    return sequences


def _nearest(source: Volume, position_mm: np.ndarray, count: int) -> list[Frame]:
    """The frames of a source that a slice refers to: all of them, or the nearest where `count` is too large."""
    frames = list(source.frames)
    if count > MAX_REFERENCES and len(frames) > NEAREST_REFERENCES:
        normal = (RAS_TO_LPS @ source.stack.affine)[:3, 2]
        normal /= np.linalg.norm(normal)
        distance = [abs((np.array(frame.position_mm) - position_mm) @ normal) for frame in frames]
        frames = [frames[i] for i in sorted(np.argsort(distance, kind="stable")[:NEAREST_REFERENCES])]
    return frames


def _series(uid: str, frames: Sequence[Frame]) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = uid
    series.ReferencedInstanceSequence = [_reference(image, False) for image in _by_instance(frames)]
    return series


def _by_instance(frames: Sequence[Frame]) -> list[list[Frame]]:
    groups: dict[str, list[Frame]] = {}
    for frame in frames:
        groups.setdefault(frame.sop_instance, []).append(frame)
    return list(groups.values())


def _reference(frames: Sequence[Frame], with_purpose: bool) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = frames[0].sop_class
    item.ReferencedSOPInstanceUID = frames[0].sop_instance
    if frames[0].index is not None:
        item.ReferencedFrameNumber = [str(frame.index + 1) for frame in sorted(frames, key=lambda f: f.index)]
    if with_purpose:
        item.PurposeOfReferenceCodeSequence = [code_item(SOURCE_IMAGE)]
        item.SpatialLocationsPreserved = "NO"
    return item


def code_item(code: Code) -> Dataset:
    """Return a code as the item of a code sequence (PS3.3, 8.8).

    >>> code_item(SOURCE_IMAGE).CodeValue
    '121322'
    """
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item
