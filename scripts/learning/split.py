"""Split of the cases into training and validation, by person as far as names show who is the same person."""

import logging
import re
from collections.abc import Sequence
from fnmatch import fnmatch

import numpy as np

from ..data.case import Case
from ..geometry.errors import Refusal

logger = logging.getLogger(__name__)
BIDS_SUBJECT = re.compile(r"sub-[A-Za-z0-9]+")


def split_by_person(
    cases: Sequence[Case],
    held_back: float | str | Sequence[str],
    seed: int,
    same_person: Sequence[Sequence[str]] = (),
    exclude: str | Sequence[str] = (),
    held_planes: Sequence[float] | None = None,
) -> dict[str, list]:
    """Split the usable cases into "training" and "validation".

    Cases belong to the same person if they fit the same entry of `same_person`, if their paths have the same BIDS
    subject (sub-...), if they are of one DICOM study, or if they are frames of one file. Every other case counts as a
    person of its own, so NIfTI files of several echoes or series and studies of several days belong into `same_person`.

    Args:
        cases: cases as found; those with a refusal are left out.
        held_back: share of persons held back for validation, 0 to below 1; 0.1 in the paper. With 0 the training
            scans serve for validation too, with a warning in the log. Or patterns of case names, or one: every person
            with a case that fits one is held back, whatever the seed.
        seed: seed of the draw.
        same_person: lists of patterns ("*knee07*") of case names; each list stands for one person.
        exclude: patterns of case names that are not used, or one.
        held_planes: the planes that are held back in place of persons, which is then no reason for a warning; or None.

    Raises:
        Refusal: if a pattern fits no case, `same_person` is no list of lists, or no case is left to train on.

    >>> from pathlib import Path
    >>> cases = [Case(name, (Path(f"{name}.nii.gz"),)) for name in ("sub-1_a", "sub-1_b", "sub-2_a")]
    >>> split = split_by_person(cases, held_back=0.5, seed=0)
    >>> {side: [case.name for case in of_side] for side, of_side in split.items()}
    {'training': ['sub-2_a'], 'validation': ['sub-1_a', 'sub-1_b']}
    """
    share, named = (held_back, []) if isinstance(held_back, int | float) else (0.0, _patterns(held_back))
    exclude = _patterns(exclude)
    if isinstance(same_person, str) or any(isinstance(person, str) for person in same_person):
        raise Refusal(f"same_person must be a list of lists, one for each person, got {same_person!r}")
    if not 0 <= share < 1:
        raise Refusal(f"held_back must be from 0 to below 1, or a list of patterns, got {held_back}")
    names = [case.name for case in cases]
    for pattern in [*named, *exclude, *(pattern for person in same_person for pattern in person)]:
        if not any(fnmatch(name, pattern) for name in names):
            raise Refusal(f"the pattern {pattern!r} fits none of the {len(names)} cases found: correct or drop it")
    usable = [c for c in cases if not c.refusal and not any(fnmatch(c.name, p) for p in exclude)]
    persons: dict[str, list[Case]] = {}
    for case in usable:
        persons.setdefault(_person(case, same_person), []).append(case)
    if named:
        drawn = {name for name, own in persons.items() if any(fnmatch(case.name, p) for case in own for p in named)}
    else:
        order = np.random.default_rng(seed).permutation(sorted(persons))
        drawn = set(order[: int(np.ceil(share * len(order)))])
    if persons.keys() <= drawn:
        raise Refusal(
            f"{len(usable)} usable cases of {len(persons)} persons: none is left to train on; "
            f"add scans, or lower --held_back (0 validates on the training scans)"
        )
    training = [case for person, own in persons.items() if person not in drawn for case in own]
    held = [case for person in persons if person in drawn for case in persons[person]]
    if held or held_planes:
        logger.info("validation on %d scans: %s", len(held or training), _names(held or training))
    else:
        logger.warning("held_back is 0: validation uses the training scans themselves")
    logger.info("training on %d scans: %s", len(training), _names(training))
    return {"training": training, "validation": held or training}


def _patterns(given: str | Sequence[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _names(cases: Sequence[Case]) -> str:
    return ", ".join(sorted(case.label for case in cases))


def _person(case: Case, same_person: Sequence[Sequence[str]]) -> str:
    for number, patterns in enumerate(same_person):
        if any(fnmatch(case.name, pattern) for pattern in patterns):
            return f"person {number}"
    first = str(case.files[0])
    subject = BIDS_SUBJECT.search(first)
    if subject:
        return subject.group()
    if case.volume is not None and case.volume.study:
        return case.volume.study
    return first if case.frame is not None else case.name  # the frames of a file are of one person
