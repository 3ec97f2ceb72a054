"""Header of a derived series: what it keeps of its source, what it says of its making (PS3.3, C.7.6.1 and C.12.1)."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.tag import Tag
from pydicom.uid import MRImageStorage
from pydicom.valuerep import DS

from .discovery import Volume
from .elements import first_of, items_of, number_of, text_of, texts_of
from .files import quiet, read_dataset
from .headers import Frame
from .pixels import rescale_of
from .references import code_item
from .uids import uid_from

MAKER = "GLADE"
NOTICE = "GLADE SR synthesised"
"""Head of SeriesDescription: what a viewer's list shows of it even where the column is narrow."""
SERIES_NUMBER_OFFSET = 90_000
MAX_ZONE_HOURS = 14
WINDOW_PERCENTILES = (0.5, 99.5)

KEPT_BY_MODULE = {
    "study": (
        "StudyInstanceUID StudyDate StudyTime StudyID StudyDescription AccessionNumber ReferringPhysicianName "
        "PhysiciansOfRecord NameOfPhysiciansReadingStudy AdmittingDiagnosesDescription PatientState "
        "IssuerOfAccessionNumberSequence ProcedureCodeSequence TimezoneOffsetFromUTC"
    ),
    "series": (
        "BodyPartExamined Laterality PatientPosition ProtocolName PerformedProcedureStepID "
        "PerformedProcedureStepDescription PerformedProcedureStepStartDate PerformedProcedureStepStartTime"
    ),
    "frame of reference": "FrameOfReferenceUID PositionReferenceIndicator",
    "equipment": (
        "Manufacturer ManufacturerModelName InstitutionName InstitutionAddress InstitutionalDepartmentName StationName "
        "DeviceSerialNumber SoftwareVersions"
    ),
    "acquisition": (
        "AcquisitionDate AcquisitionTime ScanningSequence SequenceVariant ScanOptions MRAcquisitionType SequenceName "
        "AngioFlag RepetitionTime EchoTime InversionTime NumberOfAverages ImagingFrequency ImagedNucleus EchoNumbers "
        "MagneticFieldStrength EchoTrainLength PixelBandwidth FlipAngle ReceiveCoilName TransmitCoilName "
        "ContrastBolusAgent ContrastBolusRoute DiffusionBValue"
    ),
}
"""Attributes copied where all source images agree on them; nothing private, nothing that describes the old grid."""
KEPT = " ".join(KEPT_BY_MODULE.values()).split()
KEPT_GROUPS = (0x0010, 0x0012)
"""Everything about the patient and the clinical trial is kept as it is, for it must agree within the study."""
LOSSY = ("LossyImageCompressionRatio", "LossyImageCompressionMethod")

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
"""Type 2 attributes of the MR Image IOD: present, empty where the source has none."""

FROM_GROUPS = {
    "RepetitionTime": ("MRTimingAndRelatedParametersSequence", "RepetitionTime"),
    "FlipAngle": ("MRTimingAndRelatedParametersSequence", "FlipAngle"),
    "EchoTrainLength": ("MRTimingAndRelatedParametersSequence", "EchoTrainLength"),
    "EchoTime": ("MREchoSequence", "EffectiveEchoTime"),
    "NumberOfAverages": ("MRAveragesSequence", "NumberOfAverages"),
    "PixelBandwidth": ("MRImagingModifierSequence", "PixelBandwidth"),
}
"""Where an enhanced file keeps what a classic header needs: functional group, attribute."""
SEQUENCE_FAMILIES = {"SPIN": "SE", "GRADIENT": "GR", "BOTH": ["SE", "GR"]}

LOSSY_METHODS = {
    "1.2.840.10008.1.2.4.50": "ISO_10918_1",
    "1.2.840.10008.1.2.4.51": "ISO_10918_1",
    "1.2.840.10008.1.2.4.81": "ISO_14495_1",
    "1.2.840.10008.1.2.4.91": "ISO_15444_1",
}
SPATIAL_RESAMPLING = Code("113085", "DCM", "Spatial resampling")
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")


def derived_header(
    source: Volume, volume: np.ndarray, software_version: str, weights_checksum: str, created: datetime
) -> tuple[Dataset, bool]:
    """What all slices of a derived series share, less geometry, pixels and UIDs of their own.

    Args:
        source: the volume that the series derives from.
        volume: (columns, rows, slices), the voxels that will be written.
        software_version: version of this bundle.
        weights_checksum: SHA-256 of the weights, in hexadecimal digits; of mixed weights both, and how.
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
            _keep_from_groups(header, base, middle)
        _complete(header, source, created)
        _describe(header, base, source, volume.shape[2])
        _sign(header, source, software_version, weights_checksum, created)
        header.WindowCenter, header.WindowWidth = _window(header, base, middle, volume)
        identity = rescale_of(base, middle) == (1.0, 0.0)
    return header, identity


def _keep(header: Dataset, base: Dataset, source: Volume) -> None:
    """Copies what the source's images agree on; a lossy past stays known."""
    if "SpecificCharacterSet" in base:
        header.SpecificCharacterSet = base.SpecificCharacterSet
    tags = [Tag(keyword) for keyword in KEPT] + [tag for tag in base.keys() if tag.group in KEPT_GROUPS]  # noqa: SIM118
    kept = {tag: base[tag] for tag in tags if tag in base}
    lossy: Dataset | None = None
    tags += [Tag(keyword) for keyword in ("LossyImageCompression", *LOSSY)]
    for file in dict.fromkeys(frame.file for frame in source.frames):
        other = read_dataset(file, tags)
        kept = {tag: e for tag, e in kept.items() if tag in other and other[tag].value == e.value}
        syntax = str(other.file_meta.get("TransferSyntaxUID", "")) if hasattr(other, "file_meta") else ""
        if text_of(other, "LossyImageCompression") == "01" or syntax in LOSSY_METHODS:
            lossy = other
            lossy.LossyImageCompression = "01"
            if "LossyImageCompressionMethod" not in lossy and syntax in LOSSY_METHODS:
                lossy.LossyImageCompressionMethod = LOSSY_METHODS[syntax]
    for element in kept.values():
        header.add(DataElement(element.tag, element.VR, element.value))
    header.remove_private_tags()
    header.LossyImageCompression = "00" if lossy is None else "01"
    for keyword in LOSSY if lossy is not None else ():
        if keyword in lossy:
            header.add(DataElement(lossy[keyword].tag, lossy[keyword].VR, lossy[keyword].value))


def _keep_from_groups(header: Dataset, base: Dataset, frame: Frame) -> None:
    """Takes from the functional groups of an enhanced image what a classic one has at the top."""
    groups = _groups(base, frame)
    for keyword, (sequence, attribute) in FROM_GROUPS.items():
        value = first_of([item for group in groups for item in items_of(group, sequence)[:1]], attribute, number_of)
        if value is not None and keyword not in header:
            setattr(header, keyword, str(int(value)) if keyword == "EchoTrainLength" else DS(value, auto_format=True))
    family = text_of(base, "EchoPulseSequence")
    if "ScanningSequence" not in header and family in SEQUENCE_FAMILIES:
        header.ScanningSequence = SEQUENCE_FAMILIES[family]
    nucleus = text_of(base, "ResonantNucleus")
    if "ImagedNucleus" not in header and nucleus:
        header.ImagedNucleus = nucleus


def _groups(base: Dataset, frame: Frame) -> list[Dataset]:
    per_frame = items_of(base, "PerFrameFunctionalGroupsSequence")
    own = per_frame[frame.index : frame.index + 1] if frame.index is not None else []
    return [*own, *items_of(base, "SharedFunctionalGroupsSequence")[:1]]


def _complete(header: Dataset, source: Volume, created: datetime) -> None:
    """Fills in what the MR Image IOD asks for, says what is new, and dates it."""
    for keyword in MAY_BE_EMPTY:
        if keyword not in header:
            setattr(header, keyword, None if keyword in ("RepetitionTime", "EchoTime", "EchoTrainLength") else "")
    first = source.frames[0]
    defaults = {
        "StudyInstanceUID": first.study or uid_from("study of", first.series, first.sop_instance),
        "FrameOfReferenceUID": uid_from("frame of reference of", first.study, first.series, first.sop_instance),
        "ScanningSequence": "RM",  # research mode: unknown
        "SequenceVariant": "NONE",
    }
    for keyword, value in defaults.items():
        if not header.get(keyword):
            setattr(header, keyword, value)
    if "Laterality" not in header and not header.get("BodyPartExamined"):
        header.Laterality = ""  # unknown, as nothing says that the part is unpaired (PS3.3, C.7.3.1)
    header.Modality, header.SOPClassUID = "MR", MRImageStorage
    header.ImageType = ["DERIVED", "SECONDARY", "OTHER", "RESAMPLED"]
    header.BurnedInAnnotation = "NO"
    header.SeriesNumber = str((first.series_number or 0) + SERIES_NUMBER_OFFSET)
    header.AcquisitionNumber = None
    created = created.astimezone(_zone(header))
    date, time = created.strftime("%Y%m%d"), created.strftime("%H%M%S")
    header.SeriesDate = header.ContentDate = header.InstanceCreationDate = date
    header.SeriesTime = header.ContentTime = header.InstanceCreationTime = time


def _zone(header: Dataset) -> timezone | None:
    """Zone in which the header's times are (PS3.3, C.12.1.1.8); None, for this computer's, where it names none."""
    stated = re.fullmatch(r"([+-])(\d\d)([0-5]\d)", text_of(header, "TimezoneOffsetFromUTC") or "")
    if not stated or int(stated[2]) > MAX_ZONE_HOURS:
        return None
    offset = timedelta(hours=int(stated[2]), minutes=int(stated[3]))
    return timezone(offset if stated[1] == "+" else -offset)


def _describe(header: Dataset, base: Dataset, source: Volume, slices: int) -> None:
    """Says in plain words what was done, where a viewer shows it."""
    description = str(base.get("SeriesDescription") or base.get("ProtocolName") or "").strip()
    header.SeriesDescription = f"{NOTICE}: {description}"[:64].rstrip(": ")
    spacing = source.stack.slice_spacing_mm
    header.DerivationDescription = (
        f"Super-resolution by {MAKER}: {len(source.frames)} acquired slices, {spacing:.4g} mm apart, made into "
        f"{slices} slices. Through-plane detail finer than the acquired slices is synthesised by a neural network: "
        "it is plausible, not measured. Findings must be checked in the source images."
    )
    header.DerivationCodeSequence = [code_item(SPATIAL_RESAMPLING)]


def _sign(header: Dataset, source: Volume, version: str, weights: str, created: datetime) -> None:
    """Adds this bundle to the equipment that contributed (PS3.3, C.12.1.1.5)."""
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [code_item(PROCESSING_EQUIPMENT)]
    item.Manufacturer = MAKER
    item.ManufacturerModelName = f"{MAKER} MONAI bundle"
    dial = weights.partition(" at ")[2]
    told = (version, f"weights {weights[:16]}" if weights else "", f"sharpness {dial}" if dial else "")
    item.SoftwareVersions = [value[:64] for value in told if value] or ""
    item.ContributionDateTime = created.astimezone(_zone(header)).strftime("%Y%m%d%H%M%S")
    item.ContributionDescription = (
        f"Super-resolution of {len(source.frames)} slices; weights SHA-256 {weights or 'not stated'}"
    )
    header.ContributingEquipmentSequence = [item]


def _window(header: Dataset, base: Dataset, frame: Frame, volume: np.ndarray) -> tuple[DS, DS]:
    """The source's first window, or what holds most of the values where there is none to trust."""
    places = [item for group in _groups(base, frame) for item in items_of(group, "FrameVOILUTSequence")[:1]]
    center, width = (first_of([*places, base], key, _first_number) for key in ("WindowCenter", "WindowWidth"))
    linear = (first_of([*places, base], "VOILUTFunction", text_of) or "LINEAR") == "LINEAR"
    if center is None or width is None or width < 1 or not linear or frame.photometric == "MONOCHROME1":
        step = max(volume.size // 1_000_000, 1)
        low, high = np.percentile(volume.reshape(-1)[::step], WINDOW_PERCENTILES)
        center, width = (low + high) / 2, high - low
        if width < 1:
            header.VOILUTFunction = "LINEAR_EXACT"
            width = max(width, 1e-6)
    return DS(float(center), auto_format=True), DS(float(width), auto_format=True)


def _first_number(dataset: Dataset, keyword: str) -> float | None:
    texts = _all_texts(dataset, keyword)
    try:
        return float(texts[0]) if texts else None
    except ValueError:
        return None


def _all_texts(dataset: Dataset, keyword: str) -> Sequence[str]:
    element: Any = dataset.get(keyword)
    if element is None or element == "":
        return ()
    return (str(element),) if isinstance(element, str | int | float) else (texts_of(dataset, keyword) or ())
