"""Headers of DICOM images, one `Frame` per image plane; neither pixels nor patient attributes are kept.

A classic file holds one image plane, an enhanced multi-frame file one per frame (PS3.3, C.7.6.16).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import EnhancedMRImageStorage

from .elements import (
    PRIVATE_TAGS,
    finite,
    first_of,
    first_private_of,
    functional_groups,
    integer_of,
    items_of,
    macro_items,
    number_of,
    numbers_of,
    positive_of,
    private_of,
    text_of,
    texts_of,
)
from .files import DamagedError, quiet, read_dataset

MAX_REMEMBERED = 8192
"""Number of files whose frames stay in memory, about 2 KiB each."""

KEYWORDS = (
    "SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID SeriesNumber SeriesDescription ProtocolName "
    "Modality Manufacturer ImageType ComplexImageComponent Rows Columns SamplesPerPixel PhotometricInterpretation "
    "NumberOfFrames PixelSpacing ImageOrientationPatient ImagePositionPatient SliceThickness SpacingBetweenSlices "
    "MRAcquisitionType EchoTime EchoNumbers TemporalPositionIdentifier TemporalPositionIndex DiffusionBValue "
    "InstanceNumber AcquisitionDate FrameOfReferenceUID ModalityLUTSequence "
    "ContributingEquipmentSequence SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence PatientName "
    "PatientID"
)
"""Attributes that are parsed; the patient's name and number only to remove them from the series description."""
REPEAT_MACROS = {
    "InversionTime": None,
    "InversionTimes": "MRModifierSequence",
    "FlipAngle": "MRTimingAndRelatedParametersSequence",
    "RepetitionTime": "MRTimingAndRelatedParametersSequence",
    "MagnetizationTransfer": "MRModifierSequence",
    "T2Preparation": "MRModifierSequence",
    "NominalCardiacTriggerDelayTime": "CardiacSynchronizationSequence",
    "NominalPercentageOfCardiacPhase": "CardiacSynchronizationSequence",
    "NominalRespiratoryTriggerDelayTime": "RespiratorySynchronizationSequence",
    "TriggerTime": None,
    "TemporalPositionTimeOffset": "TemporalPositionSequence",
    "DiffusionGradientOrientation": "MRDiffusionSequence",
    "DiffusionDirectionality": "MRDiffusionSequence",
    "VelocityEncodingDirection": "MRVelocityEncodingSequence",
    "ASLContext": "MRArterialSpinLabelingSequence",
    "ReceiveCoilName": "MRReceiveCoilSequence",
    "SequenceName": None,
    "AcquisitionNumber": None,
    "FrameAcquisitionNumber": "FrameContentSequence",
    "AcquisitionTime": None,
    "FrameAcquisitionDateTime": "FrameContentSequence",
    "FrameReferenceDateTime": "FrameContentSequence",
    "AcquisitionDateTime": None,
    "ContentTime": None,
}
"""Attributes that may distinguish the images at one position, and the functional group that holds each in an enhanced
image (PS3.3, C.7.6.16.2 and C.8.13.5); on some scanners they vary from slice to slice too."""

TAGS = [*(Tag(keyword) for keyword in (*KEYWORDS.split(), *REPEAT_MACROS)), *PRIVATE_TAGS]

UNCOUNTED = 1
"""Number of images that is assumed for a mosaic whose header does not state it."""
GE_COMPONENTS = {1: "phase", 2: "real", 3: "imaginary"}
"""Values of GE's private attribute (0043,102F). 0 (magnitude) is left out, so that ImageType can still name a map."""
COMPONENT_WORDS = {
    "magnitude": ("M", "MAGNITUDE"),
    "phase": ("P", "PHASE", "VELOCITY"),
    "real": ("R", "REAL"),
    "imaginary": ("I", "IMAGINARY"),
}
MAPS = {"ADC", "EADC", "FA", "COLFA", "TENSOR", "FIELD_MAP", "PROJECTION IMAGE", "MIP", "MNIP", "SUBTRACTION", "STDDEV"}
"""Values of ImageType of images that were computed from others, such as diffusion maps and projections."""
GE_SEVERAL_DIRECTIONS = 1e9
"""GE adds this number to a b-value that belongs to several directions."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One image plane as its header describes it; directions and positions in LPS coordinates.

    Fields that are not listed here hold the DICOM attribute of that name; a text is "" where the attribute is absent.

    Attributes:
        index: frame within an enhanced file, from 0; None in a file of one plane.
        frames_in_file: NumberOfFrames.
        enhanced: whether the file is an enhanced multi-frame object.
        component: "magnitude", "phase", "real", "imaginary" or "map (...)".
        pixel_spacing_mm: distance of rows, distance of columns.
        orientation: direction cosines of a row, then of a column.
        position_mm: centre of the first pixel.
        slice_spacing_tag_mm: SpacingBetweenSlices.
        acquisition_type: MRAcquisitionType, "2D" or "3D".
        b_value: diffusion weighting in s/mm2, from the public or a vendor's attribute.
        stack: StackID.
        mosaic_images: number of slices in a Siemens mosaic; 0 for any other image.
        has_lookup_table: whether values go through a ModalityLUTSequence.
        made_by_glade: whether GLADE is among the contributing equipment.
        repeats: keyword and value of each of `REPEAT_MACROS`, of each number of DimensionIndexValues and of the
            vendors' diffusion attributes, where the header has them; times are in seconds.
    """

    file: str
    index: int | None
    frames_in_file: int
    enhanced: bool
    sop_class: str
    sop_instance: str
    study: str
    series: str
    frame_of_reference: str
    series_number: int | None
    description: str
    modality: str
    manufacturer: str
    image_type: tuple[str, ...]
    component: str
    rows: int
    columns: int
    samples: int
    photometric: str
    pixel_spacing_mm: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    position_mm: tuple[float, ...] | None
    slice_thickness_mm: float | None
    slice_spacing_tag_mm: float | None
    acquisition_type: str | None
    echo_time_ms: float | None
    echo_number: int | None
    temporal_position: int | None
    b_value: float | None
    stack: str
    instance_number: int | None
    mosaic_images: int
    has_lookup_table: bool
    made_by_glade: bool
    repeats: tuple[tuple[str, float | str], ...]


def read_frames(path: str | Path) -> tuple[Frame, ...]:
    """Return all image planes of one DICOM file; an unchanged file is parsed only once.

    Args:
        path: file that begins as DICOM.

    Returns:
        One `Frame` for a classic image, one per frame for an enhanced image, none for an object without an image.

    Raises:
        DamagedError: the file cannot be parsed.
    """
    try:
        status = Path(path).stat()
    except OSError:
        raise DamagedError("the file cannot be opened") from None
    return _read_frames(str(path), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=MAX_REMEMBERED)
def _read_frames(path: str, mtime_ns: int, size: int) -> tuple[Frame, ...]:  # noqa: ARG001 (the cache's key)
    """Cached because discovery, reader and writer need the same headers; time and size change with the file."""
    dataset = read_dataset(path, TAGS)
    try:
        with quiet():
            return tuple(_frames(path, dataset))
    except DamagedError:
        raise
    except Exception as error:  # noqa: BLE001 - in a damaged file any attribute may be of any type
        raise DamagedError(f"not readable as DICOM ({type(error).__name__})") from None


def _frames(path: str, dataset: Dataset) -> Iterator[Frame]:
    rows, columns = integer_of(dataset, "Rows"), integer_of(dataset, "Columns")
    if not rows or not columns:
        if text_of(dataset, "SOPClassUID") is None and not getattr(dataset, "file_meta", {}).get(
            "MediaStorageSOPClassUID"
        ):
            raise DamagedError("no SOPClassUID")
        return
    per_frame = items_of(dataset, "PerFrameFunctionalGroupsSequence")
    shared = functional_groups(dataset, None)
    count = integer_of(dataset, "NumberOfFrames") or 1
    if len(per_frame) != count or count < 2:
        # One frame only: a forged NumberOfFrames would otherwise make billions.
        yield _frame(path, dataset, [*per_frame[:1], *shared] if count == 1 else shared, None, count)
        return
    for index, groups in enumerate(per_frame):
        yield _frame(path, dataset, [groups, *shared], index, count)


def _frame(path: str, dataset: Dataset, groups: list[Dataset], index: int | None, count: int) -> Frame:
    measures = macro_items(groups, "PixelMeasuresSequence", dataset)
    plane = macro_items(groups, "PlaneOrientationSequence", dataset)
    # A position outside the functional groups belongs to the first frame only.
    position = macro_items(groups, "PlanePositionSequence", dataset if count == 1 else None)
    content = macro_items(groups, "FrameContentSequence", dataset)
    echo = macro_items(groups, "MREchoSequence", dataset)
    kind = macro_items(groups, "MRImageFrameTypeSequence", dataset)
    diffusion = macro_items(groups, "MRDiffusionSequence", dataset)
    image_type = tuple(first_of(kind, "FrameType", texts_of) or first_of(kind, "ImageType", texts_of) or ())
    return Frame(
        file=path,
        index=index,
        frames_in_file=count,
        enhanced=bool(groups) or dataset.get("SOPClassUID") == EnhancedMRImageStorage,
        sop_class=text_of(dataset, "SOPClassUID") or "",
        sop_instance=text_of(dataset, "SOPInstanceUID") or "",
        study=text_of(dataset, "StudyInstanceUID") or "",
        series=text_of(dataset, "SeriesInstanceUID") or "",
        frame_of_reference=text_of(dataset, "FrameOfReferenceUID") or "",
        series_number=integer_of(dataset, "SeriesNumber"),
        description=_description(dataset),
        modality=text_of(dataset, "Modality") or "",
        manufacturer=text_of(dataset, "Manufacturer") or "",
        image_type=image_type,
        component=_component(kind, image_type, first_private_of(dataset, "ge_type")),
        rows=integer_of(dataset, "Rows") or 0,
        columns=integer_of(dataset, "Columns") or 0,
        samples=integer_of(dataset, "SamplesPerPixel") or 1,
        photometric=text_of(dataset, "PhotometricInterpretation") or "",
        pixel_spacing_mm=first_of(measures, "PixelSpacing", lambda d, k: numbers_of(d, k, 2)),
        orientation=first_of(plane, "ImageOrientationPatient", lambda d, k: numbers_of(d, k, 6)),
        position_mm=first_of(position, "ImagePositionPatient", lambda d, k: numbers_of(d, k, 3)),
        slice_thickness_mm=first_of(measures, "SliceThickness", positive_of),
        slice_spacing_tag_mm=first_of(measures, "SpacingBetweenSlices", positive_of),
        acquisition_type=text_of(dataset, "MRAcquisitionType"),
        echo_time_ms=first_of(echo, "EffectiveEchoTime", number_of) or first_of([dataset], "EchoTime", number_of),
        echo_number=integer_of(dataset, "EchoNumbers"),
        temporal_position=first_of(content, "TemporalPositionIndex", integer_of)
        or integer_of(dataset, "TemporalPositionIdentifier"),
        b_value=_b_value(dataset, diffusion),
        stack=first_of(content, "StackID", text_of) or "",
        instance_number=integer_of(dataset, "InstanceNumber") if index is None else index + 1,
        mosaic_images=_mosaic_images(dataset, image_type),
        has_lookup_table=bool(items_of(dataset, "ModalityLUTSequence")),
        made_by_glade=any(
            (text_of(item, "Manufacturer") or "").startswith("GLADE")
            for item in items_of(dataset, "ContributingEquipmentSequence")
        ),
        repeats=tuple(_repeats(dataset, groups, content)),
    )


def _repeats(dataset: Dataset, groups: list[Dataset], content: list[Dataset]) -> Iterator[tuple[str, float | str]]:
    """Yield keyword and value of every attribute that may distinguish this image from others at its position."""
    for keyword, macro in REPEAT_MACROS.items():
        items = macro_items(groups, macro, dataset) if macro else [dataset]
        if keyword == "DiffusionGradientOrientation":
            items = [inner for item in items for inner in (*items_of(item, "DiffusionGradientDirectionSequence"), item)]
        text = first_of(items, keyword, text_of)
        if text is None:
            continue
        if keyword.endswith("Time") and keyword.startswith(("Acquisition", "Frame", "Content")):
            day = text_of(dataset, "AcquisitionDate") if keyword == "AcquisitionTime" else None
            value = seconds(text if "DateTime" in keyword else (day or "") + text)
        else:
            value = finite(text)
        yield keyword, text if value is None else value
    number = integer_of(dataset, "InstanceNumber")
    if groups and number is not None and (integer_of(dataset, "NumberOfFrames") or 1) > 1:
        yield "FileInstanceNumber", float(number)
    for number, value in enumerate(first_of(content, "DimensionIndexValues", texts_of) or [], start=1):
        yield f"DimensionIndexValues {number}", finite(value) or 0.0
    for name in ("siemens_direction", "ge_b_value"):
        value = private_of(dataset, name)
        if value is not None:
            yield name, str(value)


def seconds(text: str) -> float | None:
    """Return a date and time (DT) or a time (TM) of PS3.5, 6.2 in seconds; None where it is neither.

    Offsets from UTC are ignored, as one series is written with one of them.

    >>> seconds("101500.5"), seconds("20200102000001") - seconds("20200101235959")
    (36900.5, 2.0)
    """
    match = re.fullmatch(r"(?:(\d{4})\D?(\d\d)\D?(\d\d))?(\d\d):?(\d\d)?:?(\d\d)?(\.\d{1,6})?(?:[+-]\d{4})?", text)
    if match is None:
        return None
    try:
        day = date(*map(int, match.groups()[:3])).toordinal() if match[1] else 0
    except ValueError:
        return None
    hours, minutes, whole, fraction = (float(part or 0) for part in match.groups()[3:])
    return 86400.0 * day + 3600 * hours + 60 * minutes + whole + fraction


def _component(kind: list[Dataset], image_type: tuple[str, ...], ge_type: float | None) -> str:
    """Return magnitude, phase, real, imaginary, or the name of a computed map; magnitude where the header is silent."""
    stated = (first_of(kind, "ComplexImageComponent", text_of) or "").upper()
    if stated in ("PHASE", "REAL", "IMAGINARY"):
        return stated.lower()
    if ge_type is not None and int(ge_type) in GE_COMPONENTS:
        return GE_COMPONENTS[int(ge_type)]
    for value in image_type[2:]:
        if value.upper() in MAPS or "MAP" in re.split(r"[\s_]+", value.upper()):
            return f"map ({value})"
    for value in image_type[2:]:
        # Siemens writes M, P; Philips M_FFE, SW_P_FFE, R_IR, PHASE CONTRAST M: the last word counts before the first.
        words = re.split(r"[\s_]+", value.upper())
        for word in (words[-1], words[0], words[1] if len(words) > 2 else ""):
            for name, spellings in COMPONENT_WORDS.items():
                if word in spellings:
                    return name
    return "magnitude"


def _b_value(dataset: Dataset, diffusion: list[Dataset]) -> float | None:
    value = first_of(diffusion, "DiffusionBValue", number_of)
    if value is not None:
        return value
    for name in ("siemens_b_value", "philips_b_value", "uih_b_value", "ge_b_value"):
        value = first_private_of(dataset, name)
        if value is not None and value >= 0:
            return value % GE_SEVERAL_DIRECTIONS
    return None


def _mosaic_images(dataset: Dataset, image_type: tuple[str, ...]) -> int:
    if "MOSAIC" not in image_type:
        return 0
    count = private_of(dataset, "siemens_mosaic_images")
    return int(count) if isinstance(count, int | float) and 0 < count < 10_000 else UNCOUNTED


def _description(dataset: Dataset) -> str:
    """Return SeriesDescription or ProtocolName without the words that are or contain the patient's name or number."""
    text = text_of(dataset, "SeriesDescription") or text_of(dataset, "ProtocolName") or ""
    person = f"{text_of(dataset, 'PatientName') or ''} {text_of(dataset, 'PatientID') or ''}".lower()
    words = {word for word in re.split(r"[\W_]+", person) if len(word) > 2 or (len(word) == 2 and word.isalpha())}
    inside = {word for word in words if len(word) > 3}  # also removed where a description writes several words as one
    kept = [
        part
        for part in re.split(r"([\W_]+)", text)
        if part.lower() not in words and not any(word in part.lower() for word in inside)
    ]
    return "".join(kept).strip()
