"""Headers of DICOM images, one `Frame` per image plane; neither pixels nor patient attributes are kept.

A classic file holds one image plane, an enhanced multi-frame file one per frame (PS3.3, C.7.6.16).
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import lru_cache, partial
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import UID, EnhancedMRImageStorage

from .components import component_of
from .elements import (
    PRIVATE_TAGS,
    finite,
    first_of,
    first_private_of,
    functional_groups,
    integer_of,
    is_unreadable,
    items_of,
    macro_items,
    number_of,
    numbers_of,
    positive_of,
    private_of,
    text_of,
    texts_of,
)
from .files import UNDEFINED_LENGTH, DamagedError, Extent, UnavailableError, quiet, read_header
from .protocol_words import protocol_words

MAX_REMEMBERED = 8192
"""Number of files whose frames stay in memory, about 2 KiB each."""

KEYWORDS = (
    "SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID SeriesNumber SeriesDescription ProtocolName "
    "Modality Manufacturer ImageType ComplexImageComponent Rows Columns SamplesPerPixel PhotometricInterpretation "
    "BitsAllocated NumberOfFrames PixelSpacing ImageOrientationPatient ImagePositionPatient SliceThickness "
    "SpacingBetweenSlices MRAcquisitionType EchoTime EchoNumbers TemporalPositionIdentifier TemporalPositionIndex "
    "DiffusionBValue InstanceNumber AcquisitionDate FrameOfReferenceUID ModalityLUTSequence "
    "ContributingEquipmentSequence SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence PatientName "
    "PatientID IssuerOfPatientID RescaleType RealWorldValueMappingSequence VolumeBasedCalculationTechnique "
    "AcquisitionMatrix ImagesInAcquisition"
)
"""Attributes that are parsed; the patient's name and number only to leave their words out of case names, and to see
whether images are of one patient."""
NUMBERS = {
    "PixelSpacing": 2,
    "ImageOrientationPatient": 6,
    "ImagePositionPatient": 3,
    "SliceThickness": 1,
    "EchoTime": 1,
}
"""Attributes of which it is known whether they are absent or cannot be read, and how many numbers each has."""
DESCRIPTIONS = ("SeriesDescription", "ProtocolName")
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

PIXEL_DATA = 0x7FE00010
STORAGE = "1.2.840.10008.5.1.4.1.1."
"""Beginning of the SOP classes of stored objects that DICOM defines; those of vendors begin otherwise."""
BITS_ALLOCATED = (1, 8, 16, 32)
"""Values of BitsAllocated of which the length of the pixels is known here; others are refused when they are read."""
UNCOUNTED = 1
"""Number of images that is assumed for a mosaic whose header does not state it."""
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
        words: the protocol words of the series description.
        description: hash of the series description, which may name the patient, so it is only compared.
        patient: hashes of PatientID and of IssuerOfPatientID, which are only compared too; "" for one that is absent.
        component: "magnitude", "phase", "real", "imaginary" or "map (...)".
        pixel_spacing_mm: distance of rows, distance of columns.
        orientation: direction cosines of a row, then of a column.
        position_mm: centre of the first pixel.
        slice_spacing_tag_mm: SpacingBetweenSlices.
        acquisition_type: MRAcquisitionType, "2D" or "3D".
        acquisition_matrix: AcquisitionMatrix: frequency rows, frequency columns, phase rows, phase columns.
        b_value: diffusion weighting in s/mm2, from the public or a vendor's attribute.
        stack: StackID.
        mosaic_images: number of slices in a Siemens mosaic; 0 for any other image.
        has_lookup_table: whether values go through a ModalityLUTSequence.
        unreadable: of `NUMBERS`, those that have a value but not the numbers that they must have.
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
    words: str
    description: str
    patient: tuple[str, str]
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
    acquisition_matrix: tuple[float, ...] | None
    echo_time_ms: float | None
    echo_number: int | None
    temporal_position: int | None
    b_value: float | None
    stack: str
    instance_number: int | None
    images_in_acquisition: int | None
    mosaic_images: int
    has_lookup_table: bool
    unreadable: tuple[str, ...]
    made_by_glade: bool
    repeats: tuple[tuple[str, float | str], ...]


def read_frames(path: str | Path) -> tuple[Frame, ...]:
    """Return all image planes of one DICOM file; an unchanged file is parsed only once.

    Args:
        path: file that begins as DICOM.

    Returns:
        One `Frame` for a classic image, one per frame for an enhanced image, none for an object without an image.

    Raises:
        DamagedError: the file cannot be opened or parsed.
    """
    try:
        status = Path(path).stat()
    except OSError as error:
        raise UnavailableError(error) from None
    return _read_frames(str(path), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=MAX_REMEMBERED)
def _read_frames(path: str, mtime_ns: int, size: int) -> tuple[Frame, ...]:  # noqa: ARG001 (the cache's key)
    """Cached because discovery, reader and writer need the same headers; time and size change with the file."""
    dataset, extent = read_header(path, TAGS)
    try:
        with quiet():
            problem = "the file is truncated within its header" if extent.truncated else None
            if problem is None and not _is_image(dataset, extent):
                return ()
            problem = problem or _pixel_problem(dataset, extent)
            if problem is None:
                return tuple(_frames(path, dataset))
    except Exception as error:  # noqa: BLE001 - in a damaged file any attribute may be of any type
        problem = f"not readable as DICOM ({type(error).__name__})"
    damaged = DamagedError(problem)
    with quiet():
        damaged.series = text_of(dataset, "SeriesInstanceUID") or ""
    raise damaged


def _is_image(dataset: Dataset, extent: Extent) -> bool:
    """Return whether a file holds, or should hold, an image.

    It does by its SOP class, or where it states no class, as in old archives and damaged headers. Files of other
    classes (raw data, spectra, reports, private classes) only do where they have a size and pixels.
    """
    meta = getattr(dataset, "file_meta", None)
    stated = text_of(dataset, "SOPClassUID") or (meta and text_of(meta, "MediaStorageSOPClassUID")) or ""
    if not re.fullmatch(r"[0-9.]+", stated) or (stated.startswith(STORAGE) and UID(stated).name == stated):
        return True  # no class, or one whose digits are damaged
    sized = bool(integer_of(dataset, "Rows") and integer_of(dataset, "Columns"))
    return "Image Storage" in UID(stated).name or (sized and extent.pixels is not None)


def _pixel_problem(dataset: Dataset, extent: Extent) -> str | None:
    """Return what is wrong with the pixels of an image as far as its header and its length show; None where nothing is.

    Uncompressed pixels must have rows x columns x samples x frames x bytes, and at most one byte of padding.
    """
    rows, columns, pixels = integer_of(dataset, "Rows"), integer_of(dataset, "Columns"), extent.pixels
    if not rows or not columns or rows < 0 or columns < 0:
        return "an image without Rows or Columns"
    if pixels is None:
        return "an image without pixels (no PixelData)"
    frames = integer_of(dataset, "NumberOfFrames") or 1
    if pixels.length == UNDEFINED_LENGTH:
        if pixels.fragments is not None and not 0 <= pixels.fragments >= frames:
            return "pixels are truncated"
        return None
    if pixels.available is not None and pixels.length > pixels.available:
        return "pixels are truncated"
    if pixels.tag == PIXEL_DATA and not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return length_problem(dataset, pixels.length)
    return None


def length_problem(dataset: Dataset, length: int) -> str | None:
    """Return why uncompressed pixels of a length in bytes do not fit the size that the header states; None if they do.

    >>> dataset = Dataset()
    >>> dataset.Rows, dataset.Columns, dataset.BitsAllocated = 31, 32, 16
    >>> length_problem(dataset, 31 * 32 * 2)
    >>> length_problem(dataset, 32 * 32 * 2)
    'pixels have 2048 bytes, 1984 are needed for 31 rows x 32 columns x 1 frame'
    """
    rows, columns = integer_of(dataset, "Rows") or 0, integer_of(dataset, "Columns") or 0
    frames, samples = integer_of(dataset, "NumberOfFrames") or 1, integer_of(dataset, "SamplesPerPixel") or 1
    bits = integer_of(dataset, "BitsAllocated")
    if (
        bits not in BITS_ALLOCATED or text_of(dataset, "PhotometricInterpretation") == "YBR_FULL_422"
    ):  # two pixels share their colour
        return None
    needed = (rows * columns * samples * frames * bits + 7) // 8
    if needed <= length <= needed + needed % 2:
        return None
    truncated = "pixels are truncated: they" if length < needed else "pixels"
    size = f"{rows} rows x {columns} columns x {frames} frame{'s'[: frames != 1]}"
    return f"{truncated} have {length} bytes, {needed} are needed for {size}"


def _frames(path: str, dataset: Dataset) -> Iterator[Frame]:
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
    holders = {
        "PixelSpacing": measures,
        "ImageOrientationPatient": plane,
        "ImagePositionPatient": position,
        "SliceThickness": measures,
        "EchoTime": [dataset],
    }
    found = {
        name: first_of(items, name, partial(numbers_of, count=NUMBERS[name]) if NUMBERS[name] > 1 else number_of)
        for name, items in holders.items()
    }
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
        words=_words(dataset),
        description=_digest(next(filter(None, (text_of(dataset, keyword) for keyword in DESCRIPTIONS)), "")),
        patient=(_digest(text_of(dataset, "PatientID") or ""), _digest(text_of(dataset, "IssuerOfPatientID") or "")),
        modality=text_of(dataset, "Modality") or "",
        manufacturer=text_of(dataset, "Manufacturer") or "",
        image_type=image_type,
        component=component_of(dataset, kind, groups, first_private_of(dataset, "ge_type")),
        rows=integer_of(dataset, "Rows") or 0,
        columns=integer_of(dataset, "Columns") or 0,
        samples=integer_of(dataset, "SamplesPerPixel") or 1,
        photometric=text_of(dataset, "PhotometricInterpretation") or "",
        pixel_spacing_mm=found["PixelSpacing"],
        orientation=found["ImageOrientationPatient"],
        position_mm=found["ImagePositionPatient"],
        slice_thickness_mm=first_of(measures, "SliceThickness", positive_of),
        slice_spacing_tag_mm=first_of(measures, "SpacingBetweenSlices", positive_of),
        acquisition_type=text_of(dataset, "MRAcquisitionType"),
        acquisition_matrix=numbers_of(dataset, "AcquisitionMatrix", 4),
        echo_time_ms=first_of(echo, "EffectiveEchoTime", number_of) or found["EchoTime"],
        echo_number=integer_of(dataset, "EchoNumbers"),
        temporal_position=first_of(content, "TemporalPositionIndex", integer_of)
        or integer_of(dataset, "TemporalPositionIdentifier"),
        b_value=_b_value(dataset, diffusion),
        stack=first_of(content, "StackID", text_of) or "",
        instance_number=integer_of(dataset, "InstanceNumber") if index is None else index + 1,
        images_in_acquisition=integer_of(dataset, "ImagesInAcquisition"),
        mosaic_images=_mosaic_images(dataset, image_type),
        has_lookup_table=bool(items_of(dataset, "ModalityLUTSequence")),
        unreadable=tuple(
            name
            for name, value in found.items()
            if value is None and any(is_unreadable(item, name) for item in holders[name])
        ),
        made_by_glade=is_made_by_glade(dataset),
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


def _words(dataset: Dataset) -> str:
    """Return the protocol words of SeriesDescription, or where it has none those of ProtocolName."""
    person = [text_of(dataset, keyword) or "" for keyword in ("PatientName", "PatientID")]
    found = (protocol_words(text_of(dataset, keyword) or "", person) for keyword in DESCRIPTIONS)
    return next(filter(None, found), "")


def is_made_by_glade(dataset: Dataset) -> bool:
    """Return whether GLADE is among the contributing equipment of an image."""
    equipment = items_of(dataset, "ContributingEquipmentSequence")
    return any((text_of(item, "Manufacturer") or "").startswith("GLADE") for item in equipment)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16] if text else ""
