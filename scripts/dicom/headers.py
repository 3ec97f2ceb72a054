"""What a DICOM file says about its images, read without its pixels and without the patient's attributes.

One `Frame` per image plane: of a classic file one, of an enhanced multi-frame file one per frame (PS3.3, C.7.6.16).
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import EnhancedMRImageStorage

from .elements import (
    PRIVATE_TAGS,
    first_of,
    integer_of,
    items_of,
    number_of,
    numbers_of,
    places_of,
    positive_of,
    private_of,
    text_of,
    texts_of,
)
from .files import DamagedError, quiet, read_dataset

MAX_REMEMBERED = 8192
"""Files whose header stays in memory, about 2 KiB each."""

NAMES = (
    "SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID SeriesNumber SeriesDescription ProtocolName "
    "Modality Manufacturer ImageType ComplexImageComponent Rows Columns SamplesPerPixel PhotometricInterpretation "
    "NumberOfFrames PixelSpacing ImageOrientationPatient ImagePositionPatient SliceThickness SpacingBetweenSlices "
    "MRAcquisitionType EchoTime EchoNumbers TemporalPositionIdentifier TemporalPositionIndex DiffusionBValue "
    "InstanceNumber AcquisitionNumber DiffusionGradientOrientation TriggerTime InversionTime FlipAngle "
    "RepetitionTime AcquisitionDate AcquisitionTime ContentTime FrameOfReferenceUID ModalityLUTSequence "
    "ContributingEquipmentSequence SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence PatientName "
    "PatientID"
)
KEYWORDS = NAMES.split()

TAGS = [*(Tag(keyword) for keyword in KEYWORDS), *PRIVATE_TAGS]

REPEAT_KEYWORDS = [
    "AcquisitionNumber",
    "DiffusionGradientOrientation",
    "InversionTime",
    "FlipAngle",
    "RepetitionTime",
    "TriggerTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "ContentTime",
]
"""What may number the repeats of one position; each also varies from slice to slice on some scanners."""

UNCOUNTED = 1
"""Images of a mosaic whose header has lost their number."""
GE_COMPONENTS = {0: "magnitude", 1: "phase", 2: "real", 3: "imaginary"}


@dataclass(frozen=True, slots=True)
class Frame:
    """One image plane as its header describes it; lengths in mm, times in ms, directions and positions in LPS."""

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
    repeats: tuple[str, ...]


def read_frames(path: str | Path) -> tuple[Frame, ...]:
    """All image planes of one DICOM file; a file that did not change is parsed once.

    Args:
        path: file that begins as DICOM.

    Returns:
        One frame for a classic image, one a frame for an enhanced one; none for objects without an image.

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
    """Discovery, reading and writing ask for the same headers; `mtime_ns` and `size` tell a changed file."""
    dataset = read_dataset(path, TAGS)
    try:
        with quiet():
            return tuple(_frames(path, dataset))
    except DamagedError:
        raise
    except Exception as error:  # noqa: BLE001 - damaged bytes can raise anything
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
    shared = items_of(dataset, "SharedFunctionalGroupsSequence")[:1]
    count = integer_of(dataset, "NumberOfFrames") or 1
    if len(per_frame) != count or count < 2:
        # A forged NumberOfFrames makes one record, not a billion.
        yield _frame(path, dataset, [*per_frame[:1], *shared] if count == 1 else shared, None, count)
        return
    for index, groups in enumerate(per_frame):
        yield _frame(path, dataset, [groups, *shared], index, count)


def _frame(path: str, dataset: Dataset, groups: list[Dataset], index: int | None, count: int) -> Frame:
    measures = places_of(groups, "PixelMeasuresSequence", dataset)
    plane = places_of(groups, "PlaneOrientationSequence", dataset)
    # Outside of the functional groups a position can only be that of the first frame.
    position = places_of(groups, "PlanePositionSequence", dataset if count == 1 else None)
    content = places_of(groups, "FrameContentSequence", dataset)
    echo = places_of(groups, "MREchoSequence", dataset)
    kind = places_of(groups, "MRImageFrameTypeSequence", dataset)
    diffusion = places_of(groups, "MRDiffusionSequence", dataset)
    image_type = tuple(first_of(kind, "FrameType", texts_of) or first_of(kind, "ImageType", texts_of) or ())
    repeats = [first_of([dataset, *diffusion], keyword, text_of) or "" for keyword in REPEAT_KEYWORDS]
    gradient = [item for d in diffusion for item in items_of(d, "DiffusionGradientDirectionSequence")]
    repeats.append(first_of(gradient, "DiffusionGradientOrientation", text_of) or "")
    repeats.append(str(private_of(dataset, "siemens_direction")))
    repeats.append(str(private_of(dataset, "ge_b_value")))
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
        component=_component(kind, image_type, private_of(dataset, "ge_type")),
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
        repeats=tuple(repeats),
    )


def _component(kind: list[Dataset], image_type: tuple[str, ...], ge_type: Any) -> str:
    """Magnitude, phase, real, imaginary, or the name of a computed map; magnitude where nothing else is said."""
    stated = (first_of(kind, "ComplexImageComponent", text_of) or "").upper()
    if stated in ("PHASE", "REAL", "IMAGINARY"):
        return stated.lower()
    if isinstance(ge_type, list):
        ge_type = ge_type[0] if ge_type else None
    if isinstance(ge_type, int | float) and int(ge_type) in GE_COMPONENTS and int(ge_type):
        return GE_COMPONENTS[int(ge_type)]
    for value in image_type[2:]:
        if value.upper() in MAPS or "MAP" in re.split(r"[\s_]+", value.upper()):
            return f"map ({value})"
    for value in image_type[2:]:
        # Siemens: M, P; Philips: M_FFE, SW_P_FFE, R_IR, PHASE CONTRAST M; the last word wins over the first.
        words = re.split(r"[\s_]+", value.upper())
        for word in (words[-1], words[0], words[1] if len(words) > 2 else ""):
            for name, spellings in COMPONENT_WORDS.items():
                if word in spellings:
                    return name
    return "magnitude"


COMPONENT_WORDS = {
    "magnitude": ("M", "MAGNITUDE"),
    "phase": ("P", "PHASE", "VELOCITY"),
    "real": ("R", "REAL"),
    "imaginary": ("I", "IMAGINARY"),
}
MAPS = {"ADC", "EADC", "FA", "COLFA", "TENSOR", "FIELD_MAP", "PROJECTION IMAGE", "MIP", "MNIP", "SUBTRACTION", "STDDEV"}
"""Values of ImageType for what was computed from images: no acquired slices."""


def _b_value(dataset: Dataset, diffusion: list[Dataset]) -> float | None:
    value = first_of(diffusion, "DiffusionBValue", number_of)
    if value is not None:
        return value
    for name in ("siemens_b_value", "philips_b_value", "uih_b_value", "ge_b_value"):
        value = private_of(dataset, name)
        if isinstance(value, list):
            value = value[0] if value else None
        if isinstance(value, int | float) and math.isfinite(value) and value >= 0:
            return float(value) % 1e9  # GE adds 1e9 to mark a b-value of several directions
    return None


def _mosaic_images(dataset: Dataset, image_type: tuple[str, ...]) -> int:
    if "MOSAIC" not in image_type:
        return 0
    count = private_of(dataset, "siemens_mosaic_images")
    return int(count) if isinstance(count, int | float) and 0 < count < 10_000 else UNCOUNTED


def _description(dataset: Dataset) -> str:
    """SeriesDescription or ProtocolName, less every word that is, or holds, a part of the patient's name or number."""
    text = text_of(dataset, "SeriesDescription") or text_of(dataset, "ProtocolName") or ""
    person = f"{text_of(dataset, 'PatientName') or ''} {text_of(dataset, 'PatientID') or ''}".lower()
    words = {word for word in re.split(r"[\W_]+", person) if len(word) > 2 or (len(word) == 2 and word.isalpha())}
    inside = {word for word in words if len(word) > 3}  # also where a description runs them together
    kept = [
        part
        for part in re.split(r"([\W_]+)", text)
        if part.lower() not in words and not any(word in part.lower() for word in inside)
    ]
    return "".join(kept).strip()
