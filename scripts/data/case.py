"""`Case`: one scan to process, made once by discovery and handed unchanged to loader, reader, record and writer."""

import re
import sys
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..geometry.errors import printable

NIFTI, DICOM = "nifti", "dicom"
SUFFIXES = (".nii.gz", ".nii")  # of NIfTI files
SUMMARY = "summary.json"  # what a run says of all its cases
OVERVIEW = "overview.html"  # the page about all cases, where reports are written
RESERVED = (SUMMARY, OVERVIEW, "adapted")  # what a run itself writes into OUT
LONGEST_NAME = 120  # bytes; suffixes must fit within the 255 of common file systems


@dataclass(frozen=True)
class Case:
    """One volume of the input.

    Attributes:
        name: unique within a run; names the folder of its results.
        files: files of the image; for DICOM in slice order. Empty where they are unknown.
        format: "dicom", or "nifti", which stands for NRRD, MetaImage and MGH too: which reader reads it.
        frame: index (from 0) of the volume in a 4-D NIfTI file; None for a 3-D file and for DICOM.
        volume: what DICOM discovery found (`scripts.dicom.discovery.Volume`), so that nothing is searched for again.
        stacks: where a result comes from stacks: their cases, the reference first; `files` are those of all of them.
        refusal: why the scan cannot be used, in one line; None for a usable one.
        shares_file_name: whether another file of the run has the same name in another folder.
    """

    name: str
    files: tuple[Path, ...]
    format: str = NIFTI
    frame: int | None = None
    volume: Any = field(default=None, compare=False)  # holds arrays, which cannot be compared or hashed
    stacks: tuple["Case", ...] = ()
    refusal: str | None = None
    shares_file_name: bool = False

    @property
    def more_volumes(self) -> tuple[Any, ...]:
        """What DICOM discovery found of the stacks beside the reference, whose volume is `volume`."""
        return tuple(stack.volume for stack in self.stacks[1:])

    @property
    def label(self) -> str:
        """How messages name the scan: the NIfTI file and its frame; the case's name where the file's tells too little.

        That is for DICOM, and where another file of the run has the same name.

        >>> Case("dwi_f03", (Path("scans/dwi.nii.gz"),), frame=3).label
        'dwi.nii.gz, frame 3'
        >>> Case("b_dwi_f03", (Path("scans/b/dwi.nii.gz"),), frame=3, shares_file_name=True).label
        'b_dwi_f03'
        """
        return self.name if self.format == DICOM or self.shares_file_name else self.file_and_frame

    @property
    def file_and_frame(self) -> str:
        """The name of the first file, and the frame; the case's name where there is no file."""
        if not self.files:
            return self.name
        file = printable(self.files[0].name)
        return file if self.frame is None else f"{file}, frame {self.frame}"

    def as_item(self) -> dict[str, "Case"]:
        """The data item that MONAI transforms start from; `LoadImageCased` replaces "image" by the volume."""
        return {"case": self, "image": self}


class UniqueNames:
    """Make names differ even where capitals do not count; of equal names the first is kept, the next gets `_2`.

    The time is linear in the number of names, also where all are equal.

    >>> unique = UniqueNames()
    >>> [unique(name) for name in ("Knee", "knee", "Knee", "knee_2")]
    ['Knee', 'knee_2', 'Knee_3', 'knee_2_2']
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}  # of each name given away, how often it was asked for

    def __call__(self, name: str) -> str:
        """Return the name, or the name with the next free number."""
        key = unique = name.casefold()
        suffix = ""
        while unique in self._counts:
            self._counts[key] += 1
            suffix = f"_{self._counts[key]}"
            unique = key + suffix
        self._counts[unique] = 1
        return name + suffix


def unique_names(cases: Iterable[Case]) -> list[Case]:
    """Return the cases with safe names that differ even where capitals do not count; the first keeps its name.

    They know whether another of them has a file of the same name in another folder.

    >>> [case.name for case in unique_names([Case("Knee", ()), Case("knee", ())])]
    ['Knee', 'knee_2']
    """
    unique, cases = UniqueNames(), list(cases)
    places: dict[str, set[Path]] = defaultdict(set)
    for case in cases:
        for file in _named_by(case):
            places[file.name.casefold()].add(file)
    return [
        replace(
            case,
            name=unique(safe_name(case.name)),
            shares_file_name=any(len(places[file.name.casefold()]) > 1 for file in _named_by(case)),
        )
        for case in cases
    ]


def _named_by(case: Case) -> tuple[Path, ...]:
    """The file after which messages could name a case; none for DICOM, whose series have the same names of files."""
    return () if case.format == DICOM else case.files[:1]


def safe_name(text: str) -> str:
    r"""Return the text as a file name: letters, digits, dot, dash, plus, underscore; not hidden, not too long.

    Bytes that are no UTF-8, and letters that file names cannot hold under the locale of this process, become "_".

    >>> safe_name("../T2 (cor)"), safe_name("T2\udcff_cor")
    ('T2_cor', 'T2__cor')
    """
    encoding = sys.getfilesystemencoding()
    known = text.encode(encoding, "replace").decode(encoding)
    name = re.sub(r"[^\w.+-]+", "_", known).strip("._") or "scan"
    name = name.encode()[:LONGEST_NAME].decode(errors="ignore")
    return f"scan_{name}" if name.casefold() in RESERVED else name


def scan_name(data: Mapping, key: Hashable) -> str:
    """Return how messages name the scan of a data item: as its case does, else the file that was read."""
    case = data.get("case")
    if isinstance(case, Case):
        return case.label
    return printable(Path(str(data[key].meta.get("filename_or_obj", "scan"))).name)
