"""BIDS data sets: which scans to take (BIDS specification 1.10); imports nothing that takes time to load."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..geometry.errors import Refusal, printable
from .case import SUFFIXES
from .sidecar import ROOT, file_stem

DATATYPE = "anat"
NOT_MAGNITUDE = {"phase", "real", "imag"}  # values of the entity part
DERIVED = {"desc", "res"}  # entities of derivatives, which no acquired scan has
NO_SCANS = re.compile(r"(mask|map|UNIT1)$")  # suffixes of what is computed, not acquired


@dataclass(frozen=True)
class BidsFile:
    """A file of a BIDS data set.

    Attributes:
        path: relative to the data set.
        entities: as sub, ses, acq and so on with their values, in the order of the name.
        suffix: as T2w.
    """

    path: Path
    entities: dict[str, str]
    suffix: str

    @classmethod
    def of(cls, path: Path) -> "BidsFile | None":
        """Return the file with this path relative to the data set; None where its name is not one of BIDS.

        >>> file = BidsFile.of(Path("sub-01/anat/sub-01_acq-cor_T2w.nii.gz"))
        >>> file.entities, file.suffix
        ({'sub': '01', 'acq': 'cor'}, 'T2w')
        """
        *pairs, suffix = file_stem(path).split("_")
        entities = dict(pair.split("-", 1) for pair in pairs if "-" in pair)
        whole = len(entities) == len(pairs) and "sub" in entities and suffix.isalnum()
        return cls(path, entities, suffix) if whole else None


def bids_scans(
    dataset: str | os.PathLike[str],
    participants: Sequence[str] | None = None,
    sessions: Sequence[str] | None = None,
) -> list[Path]:
    """Return the anatomical scans of a BIDS data set: magnitude images, neither masks, computed maps nor derivatives.

    Args:
        dataset: its top folder.
        participants: labels, with or without "sub-"; None: all.
        sessions: labels, with or without "ses-"; None: all, and scans without a session.

    Raises:
        Refusal: if this is no BIDS data set, it has none of the participants or sessions, or no such scan.
    """
    top = Path(dataset)
    if not (top / ROOT).is_file():
        raise Refusal(f"{top}: no BIDS data set, {ROOT} is missing: give the top folder of one")
    people = _chosen(top, "sub", participants, [folder.name for folder in top.glob("sub-*") if folder.is_dir()])
    found = [file for person in people for file in _scans_of(top, top / person)]
    if sessions is not None:
        there = sorted({f"ses-{file.entities['ses']}" for file in found if "ses" in file.entities})
        wanted = _chosen(top, "ses", sessions, there)
        found = [file for file in found if f"ses-{file.entities.get('ses')}" in wanted]
    if not found:
        raise Refusal(f"{top}: no anatomical NIfTI scan of {', '.join(people) or 'any participant'}: check the labels")
    return [top / file.path for file in found]


def _scans_of(top: Path, person: Path) -> list[BidsFile]:
    folders = [person / DATATYPE, *sorted(person.glob(f"ses-*/{DATATYPE}"))]
    paths = [path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir())]
    files = [BidsFile.of(path.relative_to(top)) for path in paths if path.name.endswith(SUFFIXES)]
    return [
        file
        for file in files
        if file is not None
        and file.entities.get("part") not in NOT_MAGNITUDE
        and not DERIVED & file.entities.keys()
        and not NO_SCANS.search(file.suffix)
    ]


def _chosen(top: Path, entity: str, labels: Sequence[str] | None, there: Sequence[str]) -> list[str]:
    """The folders or entities of the labels."""
    if labels is None:
        return sorted(there)
    wanted = [f"{entity}-{label.removeprefix(f'{entity}-')}" for label in labels]
    absent = [name for name in wanted if name not in there]
    if absent:
        names = printable(", ".join(sorted(there)) or "none")
        raise Refusal(f"{top}: no {printable(', '.join(absent))}: there are {names}")
    return sorted(set(wanted))
