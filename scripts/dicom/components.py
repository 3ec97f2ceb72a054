"""What the pixels of an image are: magnitude, phase, real, imaginary, or a map computed from other images.

A map (a ratio, a relaxation time, a projection ...) has no acquired slices whose mean a result could keep. The
functions return words of this module only, never text from the header, as ImageType may hold free text.
"""

import re
from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.uid import ParametricMapStorage

from .elements import first_of, items_of, text_of, texts_of

GE_COMPONENTS = {1: "phase", 2: "real", 3: "imaginary"}
"""Values of GE's private attribute (0043,102F). 0 (magnitude) is left out, so that ImageType can still name a map."""
COMPONENT_WORDS = {
    "magnitude": ("M", "MAGNITUDE"),
    "phase": ("P", "PHASE", "VELOCITY"),
    "real": ("R", "REAL"),
    "imaginary": ("I", "IMAGINARY"),
}
NOT_A_PHASE_IMAGE = re.compile(
    r"(?<![A-Z])(IN|OPP|OPPOSED|OPPOSING|OPPOSITE|OUT|OUT[\W_]*OF|ANTI|ARTERIAL|VENOUS|PORTAL|PORTAL[\W_]*VENOUS|DELAYED|"
    r"LATE|EARLY|EQUILIBRIUM|HEPATOBILIARY|TRANSITIONAL|NATIVE|DYNAMIC|MULTI|CARDIAC|RESPIRATORY)[\W_]*PHASES?(?![A-Z])"
)
"""Names that end in PHASE but belong to magnitude images: of Dixon echoes, of contrast agents, of the heart."""

MAP_ENDINGS = ("MAP", "MAPS", "FRACTION", "FRAC", "PERCENT", "RATIO")
"""A word of ImageType that ends so names a map: T1MAP, QMAP, FAT_FRACTION, FATFRAC ..."""
MAP_WORDS = frozenset(
    " ".join(
        (
            # diffusion
            "ADC EADC DADC IADC EXPADC EXPONENTIAL COLFA GFA TENSOR KURTOSIS ANISOTROPY DIFFUSIVITY",
            # perfusion and permeability
            "TTP MTT CBF CBV TMAX PBP GBP KTRANS KEP IAUC AUC IAUGC PEI WASHIN WASHOUT BAT LEAKAGE CVR",
            # quantities, fat and iron
            "PDFF FATPCT R2STAR QSM STIFFNESS ELASTOGRAM QUANT QUANTITATIVE RELAXOMETRY PARAMETRIC MTR MTSAT MWF",
            # projections and arithmetic
            "MIP MNIP MINIP MAXIP MINMIP PROJECTION SUBTRACTION SUBTRACT SUBTRACTED DIFFERENCE",
            "STDDEV VARIANCE TTEST ZSCORE",
            "STATISTIC STATISTICS SEGMENTATION MASK",
        )
    ).split()
)
"""Words of ImageType that name a map; each may begin with one of `MAP_PREFIXES`."""
MAP_PREFIXES = ("R", "N", "Q", "REL", "NORM", "CORR", "RELC")
"""Relative, normalised, quantitative, corrected for leakage: RCBV, RELCBF, RELCCBV."""
MAP_VALUES = frozenset("FA MD AD RD RA MK AK RK VE VP AT ATT FF WF PF T0 R1 R2 R2S EXP SUB B1 SD".split())  # noqa: SIM905
"""Values 3 and 4 of ImageType that name a map; they are too short to mean one as a word of a longer value."""
DERIVED_MAP_VALUES = frozenset("T1 T2 T2S T2STAR".split())  # noqa: SIM905
"""Value 4 of the ImageType of a DERIVED image that names a relaxation time; as value 3 it names a contrast."""
JOINED = frozenset("MINIP MAXIP MNIP MIP TTEST ZSCORE R2STAR STDDEV COLFA WASHIN WASHOUT TMAX KTRANS".split())  # noqa: SIM905
"""Words that vendors also write apart: MIN IP, MAX_IP, T-TEST."""

PROJECTIONS = frozenset("MAX_IP MIN_IP VOLUME_RENDER SURFACE_RENDER CURVED_MPR".split())  # noqa: SIM905
"""Values of VolumeBasedCalculationTechnique (PS3.3, C.8.16.2.1.3) of images that show several slices at once."""
UNITS = re.compile(
    r"%|PCT|PERCENT|PP[MB]|K?HZ|U?T|[MUK]?PA|M?S|M?SEC(ONDS?)?|USEC|1/M?S(EC)?|/M?S|M?S-1|S\^-1|RAD(IANS?)?|DEG(REES?)?|"
    r"CEL|K|[CM]M/S(EC)?|(10E?[\^*]?-?\d+[ .*]*)?[UM]M2/S(EC)?|M?L/.+|MGML|MG/ML|MMOL/.+|Z_EFF|ED|EDW"
)
"""Units of physical quantities in RescaleType or in a real-world value mapping; the signal of MR has arbitrary units.

US is not among them: in RescaleType it means "unspecified" (PS3.3, C.11.1.1.2)."""


def component_of(dataset: Dataset, kind: list[Dataset], groups: list[Dataset], ge_type: float | None) -> str:
    """Return "magnitude", "phase", "real", "imaginary", or "map (...)"; magnitude where the header is silent.

    ComplexImageComponent counts before words, except that MAGNITUDE is also what a computed map states.

    Args:
        dataset: header of the file.
        kind: items that may hold FrameType or ImageType of the frame, and ComplexImageComponent.
        groups: functional groups of the frame; none in a classic file.
        ge_type: GE's private attribute (0043,102F).
    """
    stated = (first_of(kind, "ComplexImageComponent", text_of) or "").upper()
    if stated in ("PHASE", "REAL", "IMAGINARY"):
        return stated.lower()
    if ge_type is not None and int(ge_type) in GE_COMPONENTS:
        return GE_COMPONENTS[int(ge_type)]
    image_type = first_of(kind, "FrameType", _upper_texts) or first_of(kind, "ImageType", _upper_texts) or ()
    if text_of(dataset, "SOPClassUID") == ParametricMapStorage:
        return "map (parametric map)"
    if (first_of(kind, "VolumeBasedCalculationTechnique", text_of) or "").upper() in PROJECTIONS:
        return "map (projection)"
    named = map_name(image_type)
    if named:
        return f"map ({named})"
    component = "magnitude" if stated == "MAGNITUDE" else component_name(image_type)
    if component == "magnitude" and _has_units(dataset, groups):
        return "map (values have a physical unit)"
    return component


def map_name(image_type: Sequence[str]) -> str | None:
    """Return the word that says that an image is a computed map; None for any other image.

    Args:
        image_type: values of ImageType in upper case (PS3.3, C.7.6.1.1.2 and C.8.3.1.1.1).

    >>> map_name(["DERIVED", "PRIMARY", "DIXON", "FAT_FRACTION"]), map_name(["DERIVED", "PRIMARY", "QMAP", "T1"])
    ('FRACTION', 'MAP')
    >>> map_name(["ORIGINAL", "PRIMARY", "T1", "NONE"])
    """
    for number, value in enumerate(image_type[2:], start=3):
        words = _words(value)
        joined = "".join(words)
        for word in [*words, *([joined] if joined in JOINED else [])]:
            for ending in MAP_ENDINGS:
                if word.endswith(ending):
                    return ending.removesuffix("S")
            if word in MAP_WORDS:
                return word
            for prefix in MAP_PREFIXES:
                if word.startswith(prefix) and word.removeprefix(prefix) in MAP_WORDS:
                    return word.removeprefix(prefix)
        if number <= 4 and joined in MAP_VALUES:
            return joined
        if number == 4 and image_type[0] == "DERIVED" and joined in DERIVED_MAP_VALUES:
            return joined
    return None


def component_name(image_type: Sequence[str]) -> str:
    """Return the component that ImageType names in vendors' spellings; magnitude where it names none.

    >>> component_name(["ORIGINAL", "PRIMARY", "SW_P_FFE"]), component_name(["DERIVED", "PRIMARY", "OPP_PHASE"])
    ('phase', 'magnitude')
    """
    for value in image_type[2:]:
        # Siemens writes M, P; Philips M_FFE, SW_P_FFE, R_IR, PHASE CONTRAST M: the last word counts before the first.
        words = _words(NOT_A_PHASE_IMAGE.sub("", value))
        for word in (words[-1], words[0], words[1] if len(words) > 2 else "") if words else ():
            for name, spellings in COMPONENT_WORDS.items():
                if word in spellings:
                    return name
    return "magnitude"


def _words(value: str) -> list[str]:
    return [word for word in re.split(r"[\W_]+", value) if word]


def _upper_texts(dataset: Dataset, keyword: str) -> list[str] | None:
    values = texts_of(dataset, keyword)
    return values and [value.upper() for value in values]


def _has_units(dataset: Dataset, groups: list[Dataset]) -> bool:
    """Whether RescaleType, or a real-world value mapping, gives the values a physical unit (PS3.3, C.7.6.16.2.11)."""
    rescale = [item for group in groups for item in items_of(group, "PixelValueTransformationSequence")[:1]]
    units = [text_of(item, "RescaleType") for item in (*rescale, dataset)]
    mappings = [item for holder in (*groups, dataset) for item in items_of(holder, "RealWorldValueMappingSequence")]
    codes = [code for item in mappings for code in items_of(item, "MeasurementUnitsCodeSequence")[:1]]
    units += [text_of(code, "CodeValue") for code in codes]
    return any(UNITS.fullmatch(unit.upper()) for unit in units if unit)
