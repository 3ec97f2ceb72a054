"""What a DICOM file says about its images, read without its pixels and without the patient's attributes.

One `Frame` per image plane: of a classic file one, of an enhanced multi-frame file one per frame (PS3.3, C.7.6.16).
"""

import math
import re
import stat
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian, EnhancedMRImageStorage

MAX_INFLATED_BYTES = 2**27
"""A deflated file may grow to this size in memory, no further (decompression bombs)."""
MAX_TEXT = 64
"""Longest text kept of one attribute (the limit of LO, PS3.5, 6.2)."""
MAX_REMEMBERED = 8192
"""Files whose header stays in memory, about 2 KiB each."""
CHUNK_BYTES = 2**20
PREAMBLE_BYTES = 128

KEYWORDS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "ProtocolName",
    "Modality",
    "Manufacturer",
    "ImageType",
    "ComplexImageComponent",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "PixelSpacing",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "SliceThickness",
    "SpacingBetweenSlices",
    "MRAcquisitionType",
    "EchoTime",
    "EchoNumbers",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "DiffusionBValue",
    "InstanceNumber",
    "AcquisitionNumber",
    "DiffusionGradientOrientation",
    "TriggerTime",
    "InversionTime",
    "FlipAngle",
    "RepetitionTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "ContentTime",
    "FrameOfReferenceUID",
    "ModalityLUTSequence",
    "ContributingEquipmentSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "PatientName",
    "PatientID",
]

PRIVATE = {
    "ge_type": ("GEMS_PARM_01", 0x0043, 0x102F),
    "ge_b_value": ("GEMS_PARM_01", 0x0043, 0x1039),
    "siemens_b_value": ("SIEMENS MR HEADER", 0x0019, 0x100C),
    "siemens_direction": ("SIEMENS MR HEADER", 0x0019, 0x100E),
    "siemens_mosaic_images": ("SIEMENS MR HEADER", 0x0019, 0x100A),
    "philips_b_value": ("PHILIPS IMAGING DD 001", 0x2001, 0x1003),
    "uih_b_value": ("IMAGE PRIVATE HEADER", 0x0065, 0x1009),
}
"""Vendors' own attributes that tell volumes of one series apart: creator (upper case), group, element in block 10."""

TAGS = [Tag(keyword) for keyword in KEYWORDS] + [
    tag for _, group, element in PRIVATE.values() for tag in (Tag(group, 0x0010), Tag(group, element))
]

TAG_OF = {keyword: Tag(keyword) for keyword in KEYWORDS}
"""Looking a keyword up costs more than looking its attribute up."""

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

GE_COMPONENTS = {0: "magnitude", 1: "phase", 2: "real", 3: "imaginary"}


class DamagedError(ValueError):
    """A file that begins as DICOM and cannot be read on: one line, without any attribute's value."""


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


def looks_like_dicom(path: Path) -> bool:
    """Whether a regular file begins as DICOM: the prefix DICM (PS3.10, 7.1), or a first element of group 2 or 8.

    Raises:
        DamagedError: the file cannot be opened, so nobody knows.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with path.open("rb") as file:
            head = file.read(PREAMBLE_BYTES + 4)
    except FileNotFoundError:
        return False
    except OSError:
        raise DamagedError("the file cannot be opened") from None
    if head[PREAMBLE_BYTES:] == b"DICM":
        return True
    # Files without preamble, as old archives hold them: element (0002,00xx) or (0008,00xx), a VR or a short length.
    if len(head) < 12 or head[:2] not in (b"\x08\x00", b"\x02\x00", b"\x00\x08"):
        return False
    big = head[:2] == b"\x00\x08"
    element = int.from_bytes(head[2:4], "big" if big else "little")
    return element <= 0x0018 and (re.match(rb"[A-Z]{2}", head[4:6]) is not None or head[6:8] == b"\x00\x00")


def read_dataset(path: str | Path, tags: list | None = None) -> Dataset:
    """Header of a DICOM file, read without its pixels.

    Args:
        path: a file that `looks_like_dicom`.
        tags: only these attributes are kept in memory; all when None.

    Raises:
        DamagedError: pydicom cannot parse the file, or it inflates beyond `MAX_INFLATED_BYTES`.
    """
    try:
        with quiet():
            _bound_deflated(path)
            return pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=tags)
    except DamagedError:
        raise
    # Damaged bytes raise whatever the spot that meets them raises (KeyError, struct.error, RecursionError ...); its
    # text may quote the bytes, hence the patient, and is not passed on.
    except Exception as error:
        raise DamagedError(f"not readable as DICOM ({type(error).__name__})") from None


@contextmanager
def quiet() -> Iterator[None]:
    """Context in which pydicom neither judges values nor warns: its warnings quote them, names included."""
    disabled = pydicom.config.logger.disabled
    pydicom.config.logger.disabled = True
    try:
        with pydicom.config.disable_value_validation(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        pydicom.config.logger.disabled = disabled


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
    except Exception as error:  # as above: any attribute may be of any kind in a damaged file
        raise DamagedError(f"not readable as DICOM ({type(error).__name__})") from None


def _bound_deflated(path: str | Path) -> None:
    """Refuses a deflated file that grows beyond the bound, before pydicom inflates it whole."""
    with Path(path).open("rb") as file:
        head = file.read(PREAMBLE_BYTES + 4)
        if head[PREAMBLE_BYTES:] != b"DICM":
            return
        try:
            meta = pydicom.filereader._read_file_meta_info(file)
        except Exception:  # dcmread will say what is wrong
            return
        if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            return
        inflater, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while chunk := file.read(CHUNK_BYTES):
            while chunk:
                total += len(inflater.decompress(chunk, CHUNK_BYTES))
                chunk = inflater.unconsumed_tail
                if total > MAX_INFLATED_BYTES:
                    raise DamagedError(f"deflated file grows beyond {MAX_INFLATED_BYTES >> 20} MiB")


def _frames(path: str, dataset: Dataset) -> Iterator[Frame]:
    rows, columns = _integer(dataset, "Rows"), _integer(dataset, "Columns")
    if not rows or not columns:
        if _text(dataset, "SOPClassUID") is None and not getattr(dataset, "file_meta", {}).get(
            "MediaStorageSOPClassUID"
        ):
            raise DamagedError("no SOPClassUID")
        return
    per_frame = _items(dataset, "PerFrameFunctionalGroupsSequence")
    shared = _items(dataset, "SharedFunctionalGroupsSequence")[:1]
    count = _integer(dataset, "NumberOfFrames") or 1
    if len(per_frame) != count or count < 2:
        # A forged NumberOfFrames makes one record, not a billion.
        yield _frame(path, dataset, [*per_frame[:1], *shared] if count == 1 else shared, None, count)
        return
    for index, groups in enumerate(per_frame):
        yield _frame(path, dataset, [groups, *shared], index, count)


def _frame(path: str, dataset: Dataset, groups: list[Dataset], index: int | None, count: int) -> Frame:
    measures = _places(groups, "PixelMeasuresSequence", dataset)
    plane = _places(groups, "PlaneOrientationSequence", dataset)
    # Outside of the functional groups a position can only be that of the first frame.
    position = _places(groups, "PlanePositionSequence", dataset if count == 1 else None)
    content = _places(groups, "FrameContentSequence", dataset)
    echo = _places(groups, "MREchoSequence", dataset)
    kind = _places(groups, "MRImageFrameTypeSequence", dataset)
    diffusion = _places(groups, "MRDiffusionSequence", dataset)
    image_type = tuple(_first(kind, "FrameType", _texts) or _first(kind, "ImageType", _texts) or ())
    repeats = [_first([dataset, *diffusion], keyword, _text) or "" for keyword in REPEAT_KEYWORDS]
    gradient = [item for d in diffusion for item in _items(d, "DiffusionGradientDirectionSequence")]
    repeats.append(_first(gradient, "DiffusionGradientOrientation", _text) or "")
    repeats.append(str(_private(dataset, "siemens_direction")))
    repeats.append(str(_private(dataset, "ge_b_value")))
    return Frame(
        file=path,
        index=index,
        frames_in_file=count,
        enhanced=bool(groups) or dataset.get("SOPClassUID") == EnhancedMRImageStorage,
        sop_class=_text(dataset, "SOPClassUID") or "",
        sop_instance=_text(dataset, "SOPInstanceUID") or "",
        study=_text(dataset, "StudyInstanceUID") or "",
        series=_text(dataset, "SeriesInstanceUID") or "",
        frame_of_reference=_text(dataset, "FrameOfReferenceUID") or "",
        series_number=_integer(dataset, "SeriesNumber"),
        description=_description(dataset),
        modality=_text(dataset, "Modality") or "",
        manufacturer=_text(dataset, "Manufacturer") or "",
        image_type=image_type,
        component=_component(kind, image_type, _private(dataset, "ge_type")),
        rows=_integer(dataset, "Rows") or 0,
        columns=_integer(dataset, "Columns") or 0,
        samples=_integer(dataset, "SamplesPerPixel") or 1,
        photometric=_text(dataset, "PhotometricInterpretation") or "",
        pixel_spacing_mm=_first(measures, "PixelSpacing", lambda d, k: _numbers(d, k, 2)),
        orientation=_first(plane, "ImageOrientationPatient", lambda d, k: _numbers(d, k, 6)),
        position_mm=_first(position, "ImagePositionPatient", lambda d, k: _numbers(d, k, 3)),
        slice_thickness_mm=_first(measures, "SliceThickness", _positive),
        slice_spacing_tag_mm=_first(measures, "SpacingBetweenSlices", _positive),
        acquisition_type=_text(dataset, "MRAcquisitionType"),
        echo_time_ms=_first(echo, "EffectiveEchoTime", _number) or _first([dataset], "EchoTime", _number),
        echo_number=_integer(dataset, "EchoNumbers"),
        temporal_position=_first(content, "TemporalPositionIndex", _integer)
        or _integer(dataset, "TemporalPositionIdentifier"),
        b_value=_b_value(dataset, diffusion),
        stack=_first(content, "StackID", _text) or "",
        instance_number=_integer(dataset, "InstanceNumber") if index is None else index + 1,
        mosaic_images=_mosaic_images(dataset, image_type),
        has_lookup_table=bool(_items(dataset, "ModalityLUTSequence")),
        made_by_glade=any(
            (_text(item, "Manufacturer") or "").startswith("GLADE")
            for item in _items(dataset, "ContributingEquipmentSequence")
        ),
        repeats=tuple(repeats),
    )


def _component(kind: list[Dataset], image_type: tuple[str, ...], ge_type: Any) -> str:
    """Magnitude, phase, real, imaginary, or the name of a computed map; magnitude where nothing else is said."""
    stated = (_first(kind, "ComplexImageComponent", _text) or "").upper()
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
    value = _first(diffusion, "DiffusionBValue", _number)
    if value is not None:
        return value
    for name in ("siemens_b_value", "philips_b_value", "uih_b_value", "ge_b_value"):
        value = _private(dataset, name)
        if isinstance(value, list):
            value = value[0] if value else None
        if isinstance(value, int | float) and math.isfinite(value) and value >= 0:
            return float(value) % 1e9  # GE adds 1e9 to mark a b-value of several directions
    return None


def _mosaic_images(dataset: Dataset, image_type: tuple[str, ...]) -> int:
    if "MOSAIC" not in image_type:
        return 0
    count = _private(dataset, "siemens_mosaic_images")
    return int(count) if isinstance(count, int | float) and 0 < count < 10_000 else 1


def _description(dataset: Dataset) -> str:
    """SeriesDescription or ProtocolName, less every word that is part of the patient's name or number."""
    text = _text(dataset, "SeriesDescription") or _text(dataset, "ProtocolName") or ""
    person = f"{_text(dataset, 'PatientName') or ''} {_text(dataset, 'PatientID') or ''}".lower()
    words = {word for word in re.split(r"[\W_]+", person) if len(word) > 2}
    kept = [part for part in re.split(r"([\W_]+)", text) if part.lower() not in words]
    return "".join(kept).strip()


def _private(dataset: Dataset, name: str) -> Any:
    """Number or numbers of a vendor's attribute, None where absent; bytes of VR UN are tried as text."""
    creator, group, element = PRIVATE[name]
    if (_text(dataset, Tag(group, 0x0010)) or "").upper() != creator:
        return None
    value = _value(dataset, Tag(group, element))
    if isinstance(value, bytes):
        try:
            numbers = [float(part) for part in value.decode("ascii").strip(" \0").split("\\")]
        except ValueError:
            return None
        return numbers if len(numbers) > 1 else numbers[0]
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_float(part) for part in value if _float(part) is not None]
    return _float(value)


def _value(dataset: Dataset, key: Any) -> Any:
    try:
        tag = TAG_OF.get(key, key)
        return dataset[tag].value if tag in dataset else None
    except Exception:  # an attribute that cannot be read counts as absent; the gate then refuses what it needs
        return None


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    value = _value(dataset, keyword)
    return [item for item in value if isinstance(item, Dataset)] if isinstance(value, pydicom.Sequence) else []


def _places(groups: list[Dataset], sequence: str, fallback: Dataset | None) -> list[Dataset]:
    """Where an attribute may stand: the frame's functional group, the shared one, the top of the file."""
    found = [item for group in groups for item in _items(group, sequence)[:1]]
    return found if fallback is None else [*found, fallback]


def _first(places: list[Dataset], keyword: str, convert: Any) -> Any:
    for place in places:
        value = convert(place, keyword)
        if value is not None:
            return value
    return None


def _text(dataset: Dataset, key: Any) -> str | None:
    value = _value(dataset, key)
    text = "" if value is None else str(value).strip(" \0\t\r\n")
    return text[:MAX_TEXT] or None


def _texts(dataset: Dataset, keyword: str) -> list[str] | None:
    value = _value(dataset, keyword)
    if value is None or value == "":
        return None
    values = [value] if isinstance(value, str) else list(value)
    return [str(v).strip()[:MAX_TEXT] for v in values[:16]]


def _float(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _number(dataset: Dataset, keyword: str) -> float | None:
    return _float(_value(dataset, keyword))


def _positive(dataset: Dataset, keyword: str) -> float | None:
    number = _number(dataset, keyword)
    return number if number is not None and number > 0 else None


def _integer(dataset: Dataset, keyword: str) -> int | None:
    number = _number(dataset, keyword)
    return None if number is None else int(number)


def _numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    value = _value(dataset, keyword)
    if value is None or isinstance(value, str | bytes):
        return None
    try:
        numbers = tuple(_float(part) for part in value)
    except TypeError:
        return None
    return numbers if len(numbers) == count and None not in numbers else None
