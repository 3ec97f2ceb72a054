"""Header of a derived series: the attributes kept from the source, and its provenance (PS3.3, C.7.6.1, C.12.1)."""

import re
from datetime import datetime, timedelta, timezone

import numpy as np
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.tag import BaseTag, Tag
from pydicom.uid import MRImageStorage
from pydicom.valuerep import DS

from ..dicom.description import described, plane_of
from ..dicom.discovery import Volume
from ..dicom.elements import (
    MAX_TEXT,
    decimal_string,
    first_number_of,
    first_of,
    functional_groups,
    macro_items,
    number_of,
    text_of,
    texts_of,
    value_of,
)
from ..dicom.files import quiet, read_dataset
from ..dicom.headers import Frame
from ..dicom.pixels import rescale_of
from ..dicom.uids import uid_from
from .provenance import Provenance
from .references import code_item

MAKER = "GLADE"
NOTICE = "GLADE SR synthesised"
"""Beginning of SeriesDescription, which the list of a viewer shows even in a narrow column."""
NAMES_OF_SERIES = ("SeriesDescription", "ProtocolName", "SequenceName", "PulseSequenceName")
"""The first of these that the source states is the rest of it; else kind of sequence and times, else the plane."""
SERIES_NUMBER_OFFSET = 90_000
SERIES_NUMBERS = range(-(2**31), 2**31)
"""Values of SeriesNumber: those of value representation IS (PS3.5, 6.2)."""
MAX_ZONE_HOURS = 14
WINDOW_PERCENTILES = (0.5, 99.5)
WINDOW_SAMPLES = 1_000_000
"""Number of voxels, about, that the percentiles are taken of."""

KEPT_BY_MODULE = {
    "study": (
        "StudyInstanceUID StudyDate StudyTime StudyID StudyDescription AccessionNumber ReferringPhysicianName "
        "PhysiciansOfRecord NameOfPhysiciansReadingStudy AdmittingDiagnosesDescription PatientState "
        "IssuerOfAccessionNumberSequence ProcedureCodeSequence TimezoneOffsetFromUTC"
    ),
    "series": (
        "BodyPartExamined Laterality ImageLaterality PatientPosition ProtocolName PerformedProcedureStepID "
        "PerformedProcedureStepDescription PerformedProcedureStepStartDate PerformedProcedureStepStartTime"
    ),
    "frame of reference": "FrameOfReferenceUID PositionReferenceIndicator",
    "equipment": (
        "Manufacturer ManufacturerModelName InstitutionName InstitutionAddress InstitutionalDepartmentName StationName "
        "DeviceSerialNumber SoftwareVersions"
    ),
    "acquisition": (
        "AcquisitionDate AcquisitionTime ScanningSequence SequenceVariant ScanOptions MRAcquisitionType SequenceName "
        "AngioFlag RepetitionTime EchoTime InversionTime TriggerTime NumberOfAverages ImagingFrequency ImagedNucleus "
        "EchoNumbers MagneticFieldStrength EchoTrainLength PixelBandwidth FlipAngle ReceiveCoilName TransmitCoilName "
        "ContrastBolusAgent ContrastBolusRoute DiffusionBValue"
    ),
}
"""Attributes that are copied where all source images agree; none is private or describes the acquired grid."""
KEPT = " ".join(KEPT_BY_MODULE.values()).split()
KEPT_GROUPS = (0x0010, 0x0012)
"""Groups of the patient and the clinical trial: copied whole, as they must agree within a study."""
LOSSY = ("LossyImageCompressionRatio", "LossyImageCompressionMethod")
IDENTIFYING = ("BurnedInAnnotation", "RecognizableVisualFeatures")
"""Attributes that warn of a person who can be recognised in the pixels (PS3.3, C.7.6.1)."""

MAY_BE_EMPTY = [
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PositionReferenceIndicator",
    "Manufacturer",
    "PatientPosition",
    "ScanOptions",
    "MRAcquisitionType",
    "RepetitionTime",
    "EchoTime",
    "EchoTrainLength",
]
"""Type 2 attributes of the MR Image IOD: always present, empty where the source has no value."""
EMPTY_IF = {"TriggerTime": ("ScanOptions", {"CG", "PPG"}), "InversionTime": ("ScanningSequence", {"IR"})}
"""Type 2C attributes (PS3.3, C.8.3.1): present, if need be empty, where another attribute has one of these values."""

FROM_GROUPS = {
    "RepetitionTime": ("MRTimingAndRelatedParametersSequence", "RepetitionTime"),
    "FlipAngle": ("MRTimingAndRelatedParametersSequence", "FlipAngle"),
    "EchoTrainLength": ("MRTimingAndRelatedParametersSequence", "EchoTrainLength"),
    "EchoTime": ("MREchoSequence", "EffectiveEchoTime"),
    "NumberOfAverages": ("MRAveragesSequence", "NumberOfAverages"),
    "PixelBandwidth": ("MRImagingModifierSequence", "PixelBandwidth"),
    "InversionTime": ("MRModifierSequence", "InversionTimes"),
    "DiffusionBValue": ("MRDiffusionSequence", "DiffusionBValue"),
    "ReceiveCoilName": ("MRReceiveCoilSequence", "ReceiveCoilName"),
    "ImageLaterality": ("FrameAnatomySequence", "FrameLaterality"),
}
"""Where an enhanced file holds the attributes of a classic header: functional group macro, attribute."""
KINDS = {
    "ScanningSequence": {
        "EchoPulseSequence": {"SPIN": "SE", "GRADIENT": "GR", "BOTH": "SE GR"},
        "InversionRecovery": {"YES": "IR"},
        "EchoPlanarPulseSequence": {"YES": "EP"},
    },
    "SequenceVariant": {
        "SegmentedKSpaceTraversal": {"PARTIAL": "SK"},
        "MagnetizationTransfer": {"ON_RESONANCE": "MTC", "OFF_RESONANCE": "MTC"},
        "SteadyStatePulseSequence": {
            "FREE_PRECESSION": "SS",
            "TRANSVERSE": "SS",
            "LONGITUDINAL": "SS",
            "TIME_REVERSED": "TRSS",
        },
        "Spoiling": {"RF": "SP", "GRADIENT": "SP", "RF_AND_GRADIENT": "SP"},
        "InversionRecovery": {"YES": "MP"},
        "OversamplingPhase": {"2D": "OSP", "3D": "OSP", "2D_3D": "OSP"},
    },
}
"""Values of a classic header (PS3.3, C.8.3.1), by attribute and value of an enhanced one (C.8.13.4, C.8.13.5)."""
SIDES = ("R", "L", "U", "B")
"""Values of ImageLaterality and of FrameLaterality: right, left, unpaired, both."""
PAIRED = (
    "ACJOINT ADRENAL ANKLE ARM AXILLA BREAST CALF CLAVICLE EAR ELBOW EXTREMITY EYE FEMUR FIBULA FINGER FOOT FOREARM "
    "HAND HIP HUMERUS IAC KIDNEY KNEE LEG LOWEREXTREMITY LOWERLEG LUNG ORBIT OVARY PAROTID PATELLA RADIUS RADIUSULNA "
    "RIB SCAPULA SCJOINT SHOULDER SIJOINT TESTIS THIGH THUMB TIBIA TIBIAFIBULA TMJ TOE ULNA UPPERARM UPPEREXTREMITY "
    "WRIST ZYGOMA"
)
"""Values of BodyPartExamined (PS3.16, annex L) that name a part of which there are two or more, one on each side."""

LOSSY_METHODS = {
    "1.2.840.10008.1.2.4.50": "ISO_10918_1",
    "1.2.840.10008.1.2.4.51": "ISO_10918_1",
    "1.2.840.10008.1.2.4.81": "ISO_14495_1",
    "1.2.840.10008.1.2.4.91": "ISO_15444_1",
}
SPATIAL_RESAMPLING = Code("113085", "DCM", "Spatial resampling")
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")


def derived_header(
    source: Volume, volume: np.ndarray, provenance: Provenance, created: datetime
) -> tuple[Dataset, bool]:
    """Return the elements that all slices of a derived series share, apart from geometry, pixels and UIDs.

    Args:
        source: the volume that the series is derived from.
        volume: (columns, rows, slices), the voxels that will be written.
        provenance: software and weights that made the volume.
        created: time of the result.

    Returns:
        The header, and whether the source stores its values without a rescale.

    Raises:
        DamagedError: a header of the source cannot be read.
    """
    middle = source.frames[len(source.frames) // 2]
    base = read_dataset(middle.file)
    header = Dataset()
    with quiet():
        _keep(header, base, source)
        if middle.enhanced:
            _keep_from_groups(header, base, source)
        _keep_from_frames(header, source)
        _complete(header, source, created)
        _describe(header, base, source, volume.shape[2])
        _add_equipment(header, source, provenance, created)
        header.WindowCenter, header.WindowWidth = _window(header, base, middle, volume)
        identity = rescale_of(base, middle) == (1.0, 0.0)
    return header, identity


def _keep(header: Dataset, base: Dataset, source: Volume) -> None:
    """Copy what all source images agree on, the record of a lossy compression, and warnings about the pixels."""
    if "SpecificCharacterSet" in base:
        header.SpecificCharacterSet = base.SpecificCharacterSet
    tags = [Tag(keyword) for keyword in KEPT] + [tag for tag in base.keys() if tag.group in KEPT_GROUPS]  # noqa: SIM118
    kept = {tag: base[tag] for tag in tags if _is_readable(base, tag)}
    lossy: Dataset | None = None
    tags += [Tag(keyword) for keyword in ("LossyImageCompression", *LOSSY, *IDENTIFYING)]
    stated: dict[str, set[str]] = {keyword: set() for keyword in IDENTIFYING}
    for file in dict.fromkeys(frame.file for frame in source.frames):
        other = read_dataset(file, tags)
        kept = {tag: e for tag, e in kept.items() if tag in other and value_of(other, tag) == e.value}
        for keyword in IDENTIFYING:
            stated[keyword].add((text_of(other, keyword) or "").upper())
        syntax = str(other.file_meta.get("TransferSyntaxUID", "")) if hasattr(other, "file_meta") else ""
        if text_of(other, "LossyImageCompression") == "01" or syntax in LOSSY_METHODS:
            lossy = other
            lossy.LossyImageCompression = "01"
            if "LossyImageCompressionMethod" not in lossy and syntax in LOSSY_METHODS:
                lossy.LossyImageCompressionMethod = LOSSY_METHODS[syntax]
    for element in kept.values():
        header.add(DataElement(element.tag, element.VR, element.value))
    header.remove_private_tags()
    for keyword, values in stated.items():
        # YES of one image holds for the result; NO needs the statement of all; else nothing is claimed.
        if "YES" in values or values == {"NO"}:
            setattr(header, keyword, "YES" if "YES" in values else "NO")
    header.LossyImageCompression = "00" if lossy is None else "01"
    for keyword in LOSSY if lossy is not None else ():
        if keyword in lossy:
            header.add(DataElement(lossy[keyword].tag, lossy[keyword].VR, lossy[keyword].value))


def _is_readable(dataset: Dataset, tag: BaseTag) -> bool:
    """Whether an attribute is there and its value is of its kind; one that is not counts as absent."""
    try:
        return tag in dataset and DataElement(tag, dataset[tag].VR, dataset[tag].value) is not None
    except Exception:  # noqa: BLE001 - pydicom converts here, and damaged bytes may raise anything
        return False


def _keep_from_groups(header: Dataset, base: Dataset, source: Volume) -> None:
    """Copy from the functional groups of an enhanced image what a classic one has at the top; all frames must agree."""
    groups = _groups_of(source)
    for keyword, (sequence, attribute) in FROM_GROUPS.items():
        value = _agreed(groups, sequence, attribute)
        if value is not None and keyword not in header:
            header.add(_element(keyword, value))
    for keyword, meanings in KINDS.items():
        stated = {attribute: _agreed(groups, "MRModifierSequence", attribute, base) for attribute in meanings}
        kinds = [kind for attribute, value in stated.items() for kind in meanings[attribute].get(value, "").split()]
        if kinds and keyword not in header:
            setattr(header, keyword, kinds)
    nucleus = text_of(base, "ResonantNucleus")
    if "ImagedNucleus" not in header and nucleus:
        header.ImagedNucleus = nucleus


def _groups_of(source: Volume) -> list[list[Dataset]]:
    """Return the functional groups of each frame, its own first."""
    tags = [Tag("SharedFunctionalGroupsSequence"), Tag("PerFrameFunctionalGroupsSequence")]
    files = {file: read_dataset(file, tags) for file in source.files}
    return [functional_groups(files[frame.file], frame.index or 0) for frame in source.frames]


def _agreed(
    groups: list[list[Dataset]], sequence: str, attribute: str, top: Dataset | None = None
) -> float | str | None:
    """Return the text or number on which all frames agree, in the macro or else in `top`; None where there is none."""
    convert = text_of if dictionary_VR(attribute) in ("CS", "SH") else number_of
    values = {first_of(macro_items(own, sequence, top), attribute, convert) for own in groups}
    return values.pop() if len(values) == 1 else None


def _keep_from_frames(header: Dataset, source: Volume) -> None:
    """State the b-value, which may be a vendor's, and the temporal position where all slices have the same."""
    b_value, *others = {frame.b_value for frame in source.frames}
    # A vendor's 0 stands in scans without diffusion weighting too; it means something beside another b-value.
    known = b_value or (b_value == 0 and "b0" in source.differences)
    if "DiffusionBValue" not in header and known and not others:
        header.DiffusionBValue = b_value
    position, *others = {frame.temporal_position for frame in source.frames}
    if position is not None and not others:
        header.TemporalPositionIdentifier = str(position)


def _element(keyword: str, value: float | str) -> DataElement:
    """Return an element with a text or a number; IS and DS store a number as text (PS3.5, 6.2)."""
    vr = dictionary_VR(keyword)
    as_text = {"IS": lambda number: str(int(number)), "DS": decimal_string}
    return DataElement(Tag(keyword), vr, as_text[vr](value) if vr in as_text else value)


def _complete(header: Dataset, source: Volume, created: datetime) -> None:
    """Add what the MR Image IOD requires beyond the source, mark the image as derived, and date it."""
    for keyword in MAY_BE_EMPTY:
        if keyword not in header:
            setattr(header, keyword, None if keyword in ("RepetitionTime", "EchoTime", "EchoTrainLength") else "")
    first = source.frames[0]
    defaults = {
        "StudyInstanceUID": first.study or uid_from("study of", first.series, first.sop_instance),
        "FrameOfReferenceUID": uid_from("frame of reference of", first.study, first.series, first.sop_instance),
        "ScanningSequence": "RM",  # "research mode", as the sequence is unknown
        "SequenceVariant": "NONE",
    }
    for keyword, value in defaults.items():
        if not header.get(keyword):
            setattr(header, keyword, value)
    for keyword, (attribute, kinds) in EMPTY_IF.items():
        if keyword not in header and kinds & {*(texts_of(header, attribute) or ())}:
            setattr(header, keyword, None)
    _complete_side(header)
    header.Modality, header.SOPClassUID = "MR", MRImageStorage
    header.ImageType = ["DERIVED", "SECONDARY", "OTHER", "RESAMPLED"]
    header.SeriesNumber = str(derived_number(first.series_number or 0))
    header.AcquisitionNumber = None
    created = created.astimezone(_zone(header))
    date, time = created.strftime("%Y%m%d"), created.strftime("%H%M%S")
    header.SeriesDate = header.ContentDate = header.InstanceCreationDate = date
    header.SeriesTime = header.ContentTime = header.InstanceCreationTime = time


def derived_number(number: int) -> int:
    """Return the SeriesNumber of a series derived from one with this number: in the range of IS, and another one.

    >>> derived_number(6), derived_number(2**31 - 1), derived_number(10**12)
    (90006, 2147393647, 90000)
    """
    near = (number + SERIES_NUMBER_OFFSET, number - SERIES_NUMBER_OFFSET)
    return next((candidate for candidate in near if candidate in SERIES_NUMBERS), SERIES_NUMBER_OFFSET)


def _complete_side(header: Dataset) -> None:
    """State the side once, of the images or of the series; empty where it must be known but is not (PS3.3, C.7.3.1)."""
    if text_of(header, "ImageLaterality") in SIDES:
        header.pop("Laterality", None)
        return
    header.pop("ImageLaterality", None)
    part = (text_of(header, "BodyPartExamined") or "").upper()
    if "Laterality" not in header and (not part or part in PAIRED.split()):
        header.Laterality = ""


def _zone(header: Dataset) -> timezone | None:
    """Return the time zone that the header states (PS3.3, C.12.1.1.8); None (this computer's) where it states none."""
    stated = re.fullmatch(r"([+-])(\d\d)([0-5]\d)", text_of(header, "TimezoneOffsetFromUTC") or "")
    if not stated or int(stated[2]) > MAX_ZONE_HOURS:
        return None
    offset = timedelta(hours=int(stated[2]), minutes=int(stated[3]))
    return timezone(offset if stated[1] == "+" else -offset)


def _describe(header: Dataset, base: Dataset, source: Volume, slices: int) -> None:
    """Describe the processing in plain words, in attributes that viewers show."""
    named = [text_of(base, keyword) for keyword in NAMES_OF_SERIES]
    words = [text for text in (*named, described(source), plane_of(source)) if text not in (None, "-")]
    description = words[0] if words else "MR"
    end = "".join(f" {difference}" for difference in source.differences)
    start = f"{NOTICE}: {description}"[: max(MAX_TEXT - len(end), len(NOTICE))].rstrip()
    header.SeriesDescription = f"{start}{end}"[:MAX_TEXT]
    spacing = source.stack.slice_spacing_mm
    header.DerivationDescription = (
        f"Super-resolution by {MAKER}: {len(source.frames)} acquired slices, {spacing:.4g} mm apart, made into "
        f"{slices} slices. Through-plane detail finer than the acquired slices is synthesised by a neural network: "
        "it is plausible, not measured. Findings must be checked in the source images."
    )
    header.DerivationCodeSequence = [code_item(SPATIAL_RESAMPLING)]


def _add_equipment(header: Dataset, source: Volume, provenance: Provenance, created: datetime) -> None:
    """Add this bundle to the equipment that contributed (PS3.3, C.12.1.1.5)."""
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [code_item(PROCESSING_EQUIPMENT)]
    item.Manufacturer = MAKER
    item.ManufacturerModelName = f"{MAKER} MONAI bundle"
    item.SoftwareVersions = provenance.software_versions or ""
    item.ContributionDateTime = created.astimezone(_zone(header)).strftime("%Y%m%d%H%M%S")
    item.ContributionDescription = (
        f"Super-resolution of {len(source.frames)} slices; weights SHA-256 {provenance.weights or 'not stated'}"
    )
    header.ContributingEquipmentSequence = [item]


def _window(header: Dataset, base: Dataset, frame: Frame, volume: np.ndarray) -> tuple[DS, DS]:
    """Return centre and width of the source's first window, or of most values where it has none that still fits."""
    items = macro_items(functional_groups(base, frame.index or 0), "FrameVOILUTSequence", base)
    center, width = (first_of(items, key, first_number_of) for key in ("WindowCenter", "WindowWidth"))
    linear = (first_of(items, "VOILUTFunction", text_of) or "LINEAR") == "LINEAR"
    if center is None or width is None or width < 1 or not linear or frame.photometric == "MONOCHROME1":
        step = max(volume.size // WINDOW_SAMPLES, 1)
        low, high = np.percentile(volume.reshape(-1)[::step], WINDOW_PERCENTILES)
        center, width = (low + high) / 2, high - low
        if width < 1:  # below the least width of the function LINEAR (PS3.3, C.11.2.1.2)
            header.VOILUTFunction = "LINEAR_EXACT"
            width = max(width, 1e-6)
    return decimal_string(center), decimal_string(width)
