"""Which images a derived slice comes from (PS3.3, C.7.6.1 and C.12.1)."""

from collections.abc import Sequence

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from .discovery import Volume
from .headers import Frame
from .uids import uid_from

MAX_REFERENCES = 128
"""As many source images are named in every derived one; more would outweigh its pixels ..."""
NEAREST_REFERENCES = 32
"""... and then as many are, the nearest ones."""
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")


def references(source: Volume, position_mm: np.ndarray) -> Dataset:
    """SourceImageSequence and ReferencedSeriesSequence of a derived slice.

    Args:
        source: the volume it derives from; all its images are named, or the nearest where there are very many.
        position_mm: LPS position of the slice.
    """
    frames = list(source.frames)
    if len(frames) > MAX_REFERENCES:
        normal = source.stack.affine[:3, 2] * (-1, -1, 1)
        normal /= np.linalg.norm(normal)
        distance = [abs((np.array(frame.position_mm) - position_mm) @ normal) for frame in frames]
        frames = [frames[i] for i in sorted(np.argsort(distance, kind="stable")[:NEAREST_REFERENCES])]
    named = Dataset()
    named.SourceImageSequence = [_reference(group, True) for group in _by_instance(frames)]
    series = Dataset()
    series.SeriesInstanceUID = frames[0].series or uid_from("series of", frames[0].sop_instance)
    series.ReferencedInstanceSequence = [_reference(group, False) for group in _by_instance(frames)]
    named.ReferencedSeriesSequence = [series]
    return named


def _by_instance(frames: Sequence[Frame]) -> list[list[Frame]]:
    groups: dict[str, list[Frame]] = {}
    for frame in frames:
        groups.setdefault(frame.sop_instance or frame.file, []).append(frame)
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
    """A code as the item of a code sequence (PS3.3, 8.8)."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item
