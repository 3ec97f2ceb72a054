"""The readers' answers: their files, checked against the sealed key and unblinded with it."""

import json
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..geometry.checks import is_number, is_whole
from ..geometry.errors import Refusal
from .page import digest
from .reader_study import KEY

KIND = "reader-study answers"  # as the page writes it
HEADS = ("warning", "study", "page_sha256", "key_sha256")  # entries of the key that its own hash leaves out
READER = re.compile(r"[A-Z0-9][A-Z0-9_-]{0,15}")  # as the page asks for it
AGAIN = "let the reader open the same page in the same browser and save again"

logger = logging.getLogger(__name__)


class Rating(NamedTuple):
    """One line of study_scores.csv: a reader's mark for one showing of an image, and the method that made the image."""

    reader: str
    case: str
    method: str
    plane: int
    question: str
    value: int
    item: str
    duplicate_of: str
    seconds: float | None


@dataclass(frozen=True)
class Answers:
    """The usable ratings of all readers, and a line for each file that cannot be used."""

    ratings: Sequence[Rating]
    left_out: Sequence[str]


def read_key(study_dir: str | Path) -> dict:
    """Read the sealed key of a study.

    Raises:
        Refusal: if there is no key, or it was changed after the study was made.
    """
    path = Path(study_dir) / KEY
    try:
        key = json.loads(path.read_text(encoding="utf-8"))
        sealed = {name: value for name, value in key.items() if name not in HEADS}
        whole = digest(sealed) == key["key_sha256"] and bool(sealed["items"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refusal(f"{path}: no readable key: give the output folder of the study") from error
    if not whole:
        raise Refusal(f"{path}: was changed since it was written: restore the key that was made with the page")
    return key


def read_answers(answers: str | Path, key: Mapping, allow_incomplete: bool) -> Answers:
    """Read and check the readers' files.

    Args:
        answers: the folder of the files, or one file.
        key: of the study.
        allow_incomplete: whether to use the marks of incomplete files and to leave out unusable files with a line in
            the log. Otherwise any such file stops the scoring.

    Raises:
        Refusal: with the name of every file that cannot be used, the reason and the remedy.
    """
    source = Path(answers)
    paths = sorted(source.glob("*.json")) if source.is_dir() else [source]
    if not paths or not all(path.is_file() for path in paths):
        raise Refusal(f"{source}: no answers (*.json) there: collect the readers' files in one folder")
    files, reasons = {}, {}
    for path in paths:
        try:
            files[path.name] = _checked(path, key)
        except Refusal as refusal:
            reasons[path.name] = str(refusal)
    readers = Counter(file["reader"] for file in files.values())
    for name, file in list(files.items()):
        if readers[file["reader"]] > 1:
            reasons[name] = f"reader {file['reader']} has {readers[file['reader']]} files: keep the last one saved"
            del files[name]
    partial = {name: missing for name, file in files.items() if (missing := _missing(file, key))}
    for name, missing in partial.items():
        line = f"incomplete, {missing} marks are missing: {AGAIN}, or give --allow_incomplete true"
        if allow_incomplete:
            logger.warning("%s: %s marks are missing: the other marks are used", name, missing)
        else:
            reasons[name] = line
    lines = [f"{name}: {reasons[name]}" for name in sorted(reasons)]
    if lines and not allow_incomplete:
        raise Refusal("answers cannot be scored: " + "; ".join(lines))
    for line in lines:
        logger.warning("left out: %s", line)
    ratings = [rating for file in files.values() for rating in _unblinded(file, key)]
    if not ratings:
        raise Refusal(f"{source}: none of its files can be scored: " + "; ".join(lines or ["they have no marks"]))
    return Answers(ratings, lines)


def _checked(path: Path, key: Mapping) -> dict:
    try:
        file = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Refusal(f"cannot be read: damaged, or not a JSON file: {AGAIN}") from error
    if not isinstance(file, dict) or file.get("kind") != KIND or not isinstance(file.get("answers"), list):
        raise Refusal("is not a file that the page saved: remove it from the folder")
    if file.get("study") != key["study"]:
        raise Refusal(f"is of study {file.get('study')!r}, the key of {key['study']!r}: score it with its own key")
    if file.get("key_sha256") != key["key_sha256"] or file.get("page_sha256") != key["page_sha256"]:
        raise Refusal("its page and this key do not belong together: score it with the key made with that page")
    if not isinstance(file.get("reader"), str) or not READER.fullmatch(file["reader"]):
        raise Refusal(f"{file.get('reader')!r} is no reader code: {AGAIN}")
    known = {item["item"] for item in key["items"]}
    seen = set()
    for answer in file["answers"]:
        item = answer.get("item") if isinstance(answer, dict) else None
        if not isinstance(item, str) or item not in known:
            raise Refusal(f"has an image that is not of this study: {AGAIN}")
        if item in seen:
            raise Refusal(f"answers image {item} twice: {AGAIN}")
        seen.add(item)
        _check_scores(answer, key)
    return file


def _check_scores(answer: Mapping, key: Mapping) -> None:
    scores, top = answer.get("scores"), len(key["levels"])
    if not isinstance(scores, dict) or not set(scores) <= set(key["questions"]):
        raise Refusal(f"image {answer['item']}: has no answers to this study's questions: {AGAIN}")
    for question, value in scores.items():
        if not is_whole(value, 1) or value > top:
            raise Refusal(f"image {answer['item']}: {question} is {value!r}, not one of 1 to {top}: {AGAIN}")


def _missing(file: Mapping, key: Mapping) -> int:
    return len(key["items"]) * len(key["questions"]) - sum(len(answer["scores"]) for answer in file["answers"])


def _unblinded(file: Mapping, key: Mapping) -> list[Rating]:
    given = {answer["item"]: answer for answer in file["answers"]}
    found = []
    for item in key["items"]:
        answer = given.get(item["item"], {"scores": {}})
        seconds = answer.get("seconds")
        timed = float(seconds) if is_number(seconds) else None
        what = (file["reader"], item["case"], item["method"], item["plane"])
        found += [
            Rating(*what, question, answer["scores"][question], item["item"], item["duplicate_of"] or "", timed)
            for question in key["questions"]
            if question in answer["scores"]
        ]
    return found
