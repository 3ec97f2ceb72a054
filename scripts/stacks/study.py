"""Which stacks of an input belong together: named NIfTI files, or the series of a DICOM study with one contrast."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile

from ..data.case import DICOM, Case, safe_name, unique_names
from ..data.discovery import find_nifti, require_cases
from ..dicom.discovery import Volume, find_series
from ..dicom.elements import number_of, text_of
from ..dicom.files import read_dataset
from ..geometry.errors import Refusal
from ..geometry.folders import Inputs

ECHO_TIME_TOLERANCE = 0.15  # relative; stacks of one contrast differ by what fits their geometry
REPETITION_TIME_TOLERANCE = 0.5  # the number of slices decides it
INVERSION_TIME_TOLERANCE = 0.1
STUDY = "study"  # name of one whose stacks' names have nothing in common

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Study:
    """Stacks that are fused into one volume.

    Attributes:
        case: of the result: its name, its stacks and their files, and for DICOM the volume of the reference.
        left_out: name of each stack that cannot belong to it, and why.
        reference: name of the stack that must stay in place; None: the first that can be used.
    """

    case: Case
    left_out: dict[str, str] = field(default_factory=dict)
    reference: str | None = None

    @property
    def stacks(self) -> tuple[Case, ...]:
        """The cases of the stacks, the reference first; none where all of them are refused."""
        return self.case.stacks


@dataclass(frozen=True)
class Contrast:
    """What decides the contrast of a DICOM series, and whose body it shows; None or "" where the header is silent.

    Attributes:
        patient: PatientID; compared, never written anywhere.
        study: StudyInstanceUID.
        frame_of_reference: FrameOfReferenceUID.
        sequence: ScanningSequence, such as SE or GR.
        echo_time_ms: EchoTime.
        repetition_time_ms: RepetitionTime.
        inversion_time_ms: InversionTime.
        agent: whether a contrast agent is named.
    """

    patient: str
    study: str
    frame_of_reference: str
    sequence: str
    echo_time_ms: float | None
    repetition_time_ms: float | None
    inversion_time_ms: float | None
    agent: bool

    @classmethod
    def of(cls, volume: Volume) -> "Contrast":
        """Read it from the header of the first slice."""
        first = volume.frames[0]
        header = read_dataset(first.file)
        return cls(
            patient=text_of(header, "PatientID") or "",
            study=first.study,
            frame_of_reference=first.frame_of_reference,
            sequence=str(header.get("ScanningSequence") or ""),
            echo_time_ms=first.echo_time_ms,
            repetition_time_ms=number_of(header, "RepetitionTime"),
            inversion_time_ms=number_of(header, "InversionTime"),
            agent=bool(text_of(header, "ContrastBolusAgent")),
        )

    def difference(self, other: "Contrast") -> str | None:
        """Return why two series do not belong together, in a few words; None if they may.

        >>> t2 = Contrast("a", "1", "1", "SE", 100.0, 4000.0, None, False)
        >>> t2.difference(replace(t2, echo_time_ms=12.0))
        'another contrast: echo time 12 ms, not 100 ms'
        """
        for name, what in (
            ("patient", "another person"),
            ("study", "another study"),
            ("frame_of_reference", "another frame of reference: the patient may have moved to another position"),
        ):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine and theirs and mine != theirs:
                return what
        if self.sequence and other.sequence and self.sequence != other.sequence:
            return f"another contrast: sequence {other.sequence}, not {self.sequence}"
        for name, what, tolerance in (
            ("echo_time_ms", "echo time", ECHO_TIME_TOLERANCE),
            ("repetition_time_ms", "repetition time", REPETITION_TIME_TOLERANCE),
            ("inversion_time_ms", "inversion time", INVERSION_TIME_TOLERANCE),
        ):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine and theirs and abs(theirs - mine) > tolerance * max(mine, theirs):
                return f"another contrast: {what} {theirs:g} ms, not {mine:g} ms"
        if self.agent != other.agent:
            return "another contrast: only one of the two names a contrast agent"
        return None


def find_studies(dataset_dir: Inputs, keep_names: bool | str = False, reference: str | None = None) -> list[Study]:
    """Find the stacks at one or several paths and decide which of them are fused.

    All NIfTI files form one study, since their headers do not say who is seen: the user names those that belong
    together. DICOM volumes form a study where person, study, frame of reference and contrast agree.

    Args:
        dataset_dir: a folder, or a list of files and folders.
        keep_names: as for `find_series`.
        reference: name of the stack that stays in place; None: the first, in the order given.

    Raises:
        Refusal: if there is no scan, none of this name, or the named one cannot be used.
    """
    found = require_cases(find_nifti(dataset_dir) + find_series(dataset_dir, keep_names), dataset_dir)
    if reference is not None and all(case.name != reference for case in found):
        names = ", ".join(case.name for case in found)
        raise Refusal(f"reference: there is no stack {reference}: have {names}")
    found.sort(key=lambda case: case.name != reference)
    dicom = [case for case in found if case.format == DICOM]
    nifti = [case for case in found if case.format != DICOM]
    groups = ([nifti] if nifti else []) + _groups_of_dicom([case for case in dicom if not case.refusal])
    several = [group for group in groups if len(group) > 1] or groups[:1]
    alone = {group[0].name for group in groups if group not in several}
    if reference is not None and found[0].refusal:
        raise Refusal(f"reference {reference}: {found[0].refusal}")
    if reference in alone:
        raise Refusal(f"reference {reference}: no other stack of its contrast")
    for name in sorted(alone):
        logger.info("%s: no other stack of its contrast", name)
    refused = [case for case in dicom if case.refusal]
    studies = [_study(group, [case for case in refused if _same_study(case, group[0])]) for group in several]
    for case in refused if studies else []:
        if not any(_same_study(case, group[0]) for group in several):
            logger.warning("%s: refused: %s", case.name, case.refusal)
    if not studies:  # every stack is refused: the reasons must not be lost
        studies = [Study(replace(case, name=safe_name(case.name))) for case in dicom]
    named = unique_names(study.case for study in studies)
    return [replace(study, case=case, reference=reference) for study, case in zip(studies, named, strict=True)]


def _groups_of_dicom(cases: Sequence[Case]) -> list[list[Case]]:
    """Cases that have the contrast of the first of their group."""
    groups: list[tuple[Contrast, list[Case]]] = []
    for case in cases:
        own = Contrast.of(case.volume)
        for contrast, group in groups:
            reason = contrast.difference(own)
            if reason is None:
                group.append(case)
                break
            logger.info("%s: not fused with %s: %s", case.name, group[0].name, reason)
        else:
            groups.append((own, [case]))
    return [group for _, group in groups]


def _same_study(case: Case, other: Case) -> bool:
    """Whether both are DICOM volumes of one StudyInstanceUID; False where it is not known."""
    first, second = (part.volume.study if part.volume is not None else "" for part in (case, other))
    return bool(first) and first == second


def _study(group: Sequence[Case], refused: Sequence[Case]) -> Study:
    usable = [case for case in group if not case.refusal]
    left_out = {case.name: str(case.refusal) for case in (*refused, *group) if case.refusal}
    if not usable:
        return Study(replace(group[0], name=_common_name(group)), left_out)
    first = usable[0]
    files = tuple(dict.fromkeys(file for case in usable for file in case.files))
    return Study(replace(first, name=_common_name(usable), files=files, frame=None, stacks=tuple(usable)), left_out)


def _common_name(group: Sequence[Case]) -> str:
    """The words that the names of all stacks begin with; in names of files a word may also end with its digits.

    So prostate0218tra and prostate0218cor have prostate0218 in common, but scan_10 and scan_11 have scan alone. Names
    of DICOM series, which discovery has made, are cut between words.

    >>> def common(*names):
    ...     return _common_name([Case(name, ()) for name in names])
    >>> common("pelvis_p1tra", "pelvis_p1cor"), common("scan_10", "scan_11"), common("cor", "sag")
    ('pelvis_p1', 'scan', 'study')
    """
    names = [case.name for case in group]
    if len(names) == 1:
        return names[0]
    end = "(?=_)" if any("_" in name for name in names) else "(?=-)"
    if group[0].format != DICOM:
        end += r"|(?<=\d)(?=\D)"
    alike = takewhile(lambda words: len(set(words)) == 1, zip(*(re.split(end, name) for name in names), strict=False))
    return "".join(words[0] for words in alike).strip("_-.") or STUDY
