"""Scans that are given twice, by a link or as an identical copy: one of them is processed."""

import filecmp
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

from .case import Case
from .sidecar import sidecars_of

SAMPLE_BYTES = 4096  # of the beginning, middle and end of a file: what differs in them needs no comparison

logger = logging.getLogger(__name__)


def without_copies(cases: Sequence[Case]) -> list[Case]:
    """Return the cases whose files are no copies of those of an earlier case; a warning names each copy.

    Copies are links to the same file, and files of the same bytes with the same sidecars.

    Args:
        cases: of NIfTI, NRRD, MetaImage or MGH files; all frames of a file are copies or none.
    """
    firsts: dict[tuple, list[tuple[Path, ...]]] = {}
    left_out: set[tuple[Path, ...]] = set()
    names: dict[tuple[Path, ...], str] = {}
    for case in cases:
        names.setdefault(case.files, case.name)  # that of the first frame
    for files, name in names.items():
        try:
            known = firsts.setdefault(_key(files), [])
            first = next((other for other in known if _same(other, files)), None)
        except OSError:  # the reader says why it cannot be read
            continue
        if first is None:
            known.append(files)
        else:
            left_out.add(files)
            logger.warning("%s is the same scan as %s: it is processed once", name, names[first])
    return [case for case in cases if case.files not in left_out]


def _key(files: Sequence[Path]) -> tuple:
    """What copies have in common; it is quick to find."""
    found = []
    for file in files:
        size = file.stat().st_size
        with file.open("rb") as content:
            samples = []
            for start in (0, size // 2, max(0, size - SAMPLE_BYTES)):
                content.seek(start)
                samples.append(content.read(SAMPLE_BYTES))
        found.append((size, hashlib.sha256(b"".join(samples)).digest()))
    return tuple(found)


def _same(one: Sequence[Path], other: Sequence[Path]) -> bool:
    all_of_one, all_of_other = ([*files, *sidecars_of(files[0])] for files in (one, other))
    return len(all_of_one) == len(all_of_other) and all(
        a.samefile(b) or filecmp.cmp(a, b, shallow=False) for a, b in zip(all_of_one, all_of_other, strict=True)
    )
