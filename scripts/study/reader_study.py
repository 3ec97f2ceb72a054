"""The readers' study: planes drawn and shuffled with a seed, one blinded page for readers, and the sealed key."""

import logging
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..geometry.checks import is_number, is_whole
from ..geometry.errors import Refusal
from ..geometry.files import write_json, write_text
from ..geometry.views import VIEWS
from ..reports.packing import packed
from .page import digest, page_of
from .volumes import StudyCase, StudyVolumes, load, spread_planes

PAGE, KEY = "study.html", "key.json"
LEVELS = 5  # of the Likert scale: the keys 1 to 5
STORED_MAX = 4095  # 12 bits: finer than any screen, so that the window can be narrowed
IN_PLANE = [1, 2]  # axes of an image along which neighbours are subtracted before it is compressed
HEADROOM = 0.5  # share of the window's width that is stored beyond it on each side, so that readers can widen it
ORDERS = 50  # shuffles tried to find one that keeps images of the same plane apart
WARNING = "SEALED KEY of a readers' study: it names the method behind each image. Never give it to a reader."
LARGE_PAGE_BYTES = 80 * 2**20  # above this a phone or tablet may not open the page

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Item:
    """One showing of one image, a method's plane of a case. `duplicate_of`: its first showing; None if it is that."""

    item: str
    case: str
    method: str
    plane: int
    duplicate_of: str | None = None


class ReaderStudy:
    """Make STUDY/study.html, which is for the readers, and STUDY/key.json, which they must not see.

    Args:
        cases: with the methods' files, from `evaluation_cases` or `folder_cases`.
        output_dir: STUDY.
        view: "sagittal", "coronal" or "axial".
        planes: number of planes of each case.
        body_share: smallest area of the body in a drawn plane, as a share of the largest.
        neighbours: planes on either side that the slider reaches.
        margin_mm: width of the image around the body, mm.
        duplicates: share of the images that are shown twice.
        apart: smallest number of other images between two of the same plane, if there are enough.
        seed: of all random draws; None: a random one, which is stored in the key.
        window_percentiles: of the body over all methods, which give a case's window; None: that of its evaluation.
        title: of the page.
        questions: id -> {"title", "text"}, and "levels" where a question has its own.
        levels: names of the five levels, from worst to best, of the other questions.

    Raises:
        Refusal: on a setting that is not valid, or a text that would reveal a method to readers.
    """

    def __init__(
        self,
        cases: Sequence[StudyCase],
        output_dir: str | Path,
        *,
        view: str,
        planes: int,
        body_share: float,
        neighbours: int,
        margin_mm: float,
        duplicates: float,
        apart: int,
        seed: int | None,
        window_percentiles: Sequence[float] | None,
        title: str,
        questions: Mapping[str, Mapping[str, str | Sequence[str]]],
        levels: Sequence[str],
    ):
        self.cases, self.output_dir = list(cases), Path(output_dir)
        self.view, self.planes, self.body_share = view, planes, body_share
        self.neighbours, self.margin_mm, self.window_percentiles = neighbours, margin_mm, window_percentiles
        self.duplicates, self.apart = duplicates, apart
        self.seed = secrets.randbits(64) if seed is None else seed
        self.title, self.questions, self.levels = title, questions, list(levels)
        self.methods = list(dict.fromkeys(method for case in self.cases for method in case.files))
        self._check()

    def write(self) -> Path:
        """Write page and key; return the page's path.

        Raises:
            Refusal: if there is a study already, or a case cannot be shown.
        """
        if (self.output_dir / KEY).exists():
            raise Refusal(
                f"{self.output_dir / KEY}: a study is there already, its key is kept: give another --output_dir"
            )
        rng = np.random.default_rng(self.seed)
        items, images = [], {}
        for case in self.cases:
            volumes = load(case, self.view, self.window_percentiles)
            try:
                drawn = spread_planes(volumes.body.sum(axis=(1, 2)), self.planes, self.body_share, rng)
            except Refusal as refusal:
                raise Refusal(f"{case.name}: {refusal}") from refusal
            for plane in drawn:
                images |= {(case.name, m, plane): self._image(volumes, m, plane) for m in case.files}
                items += [Item(_random_name(rng), case.name, method, plane) for method in case.files]
        items = self._ordered(self._with_duplicates(items, rng), rng)
        key, page = self._key_and_page(items, images)
        self.output_dir.mkdir(parents=True, exist_ok=True)
        write_json(self.output_dir / KEY, key, mode=0o600)
        write_text(self.output_dir / PAGE, page)
        size = len(page.encode())
        logger.info("%s: %d images, %.1f MiB", self.output_dir / PAGE, len(items), size / 2**20)
        logger.info("%s: sealed key, not for readers; give readers only %s", self.output_dir / KEY, PAGE)
        if size > LARGE_PAGE_BYTES:
            logger.warning("%s is large: choose fewer cases or neighbours if it is to open on tablets", PAGE)
        return self.output_dir / PAGE

    def _check(self) -> None:
        rules = {
            "view": (self.view in VIEWS, f"one of {', '.join(VIEWS)}"),
            "planes": (is_whole(self.planes, 1), "a whole number from 1"),
            "neighbours": (is_whole(self.neighbours), "a whole number from 0"),
            "duplicates": (is_number(self.duplicates) and 0 <= self.duplicates <= 1, "a share from 0 to 1"),
            "body_share": (is_number(self.body_share) and 0 < self.body_share <= 1, "a share above 0, at most 1"),
            "margin_mm": (is_number(self.margin_mm) and self.margin_mm >= 0, "a length from 0 mm"),
            "window_percentiles": (
                self.window_percentiles is None or _are_percentiles(self.window_percentiles),
                "null or two percentiles, 0 <= low < high <= 100",
            ),
            "apart": (is_whole(self.apart), "a whole number from 0"),
            "seed": (is_whole(self.seed), "null or a whole number from 0"),
            "levels": (len(self.levels) == LEVELS, f"{LEVELS} names, from worst to best"),
            "questions": (
                isinstance(self.questions, Mapping)
                and bool(self.questions)
                and all(isinstance(q, Mapping) and {"title", "text"} <= set(q) for q in self.questions.values()),
                "id: {title, text} of each question",
            ),
        }
        for name, (holds, rule) in rules.items():
            if not holds:
                raise Refusal(f"{name} must be {rule}, got {getattr(self, name)!r}")
        for name, question in self.questions.items():
            own = question.get("levels", self.levels)
            if isinstance(own, str) or len(own) != LEVELS:
                raise Refusal(f"levels of question {name} must be {LEVELS} names, from worst to best, got {own!r}")
        if len(self.methods) < 2:
            raise Refusal(f"a study compares at least two methods, got {', '.join(self.methods) or 'none'}: name more")
        texts: list = [self.title, *self.levels, *self.questions]  # ids of questions stand in the page too
        for question in self.questions.values():
            for part in question.values():
                texts += part if isinstance(part, (list, tuple)) else [part]
        for name in (*self.methods, *(case.name for case in self.cases)):
            word = rf"(?<![^\W_]){re.escape(name)}(?![^\W_])"
            if any(re.search(word, str(text), re.IGNORECASE) for text in texts):
                raise Refusal(
                    f"title, questions or levels contain {name!r}, which reveals a method or case: use other words"
                )

    def _with_duplicates(self, items: list[Item], rng: np.random.Generator) -> list[Item]:
        """The items and, for a random share of them, a second showing."""
        count = int(np.rint(self.duplicates * len(items)))
        again = [items[i] for i in rng.permutation(len(items))[:count]]
        return items + [Item(_random_name(rng), i.case, i.method, i.plane, i.item) for i in again]

    def _ordered(self, items: list[Item], rng: np.random.Generator) -> list[Item]:
        """The first shuffle with images of one plane at least `apart`, or the best of ORDERS shuffles."""
        best, furthest = items, -1
        for _ in range(ORDERS):
            order = spaced([items[i] for i in rng.permutation(len(items))], self.apart)
            distance = closest(order)
            if distance > furthest:
                best, furthest = order, distance
            if furthest > self.apart:
                break
        else:
            logger.warning(
                "only %d other images lie between some two of the same plane, not %d: too few images",
                furthest - 1,
                self.apart,
            )
        return _shown_first(best)

    def _image(self, volumes: StudyVolumes, method: str, plane: int) -> dict:
        """A plane and its neighbours, cut to the body and packed, with the geometry that the page needs."""
        count = len(volumes.body)
        first, last = max(0, plane - self.neighbours), min(count, plane + self.neighbours + 1)
        rows, columns = (self._frame(volumes, axis) for axis in (1, 2))
        low, high = volumes.window
        stack = volumes.planes[method][first:last, rows, columns]
        whole = (1 + 2 * HEADROOM) * (high - low)
        stored = np.rint(np.clip((stack - low) / whole + HEADROOM / (1 + 2 * HEADROOM), 0, 1) * STORED_MAX)
        return {
            "shape": list(stack.shape),
            "pixel_mm": [round(mm, 6) for mm in volumes.pixel_mm],
            "centre": plane - first,
            "letters": volumes.letters,
            "data": packed(stored.astype(np.uint16), IN_PLANE).data,
        }

    def _frame(self, volumes: StudyVolumes, axis: int) -> slice:
        """The rows or columns of a case that contain its body and a margin: the same for all methods."""
        inside = np.flatnonzero(volumes.body.any(axis=tuple(a for a in range(volumes.body.ndim) if a != axis)))
        margin = int(np.ceil(self.margin_mm / volumes.pixel_mm[axis - 1]))
        return slice(max(0, int(inside[0]) - margin), int(inside[-1]) + 1 + margin)

    def _key_and_page(self, items: Sequence[Item], images: Mapping) -> tuple[dict, str]:
        sealed = {
            "seed": self.seed,
            "view": self.view,
            "methods": self.methods,
            "questions": self.questions,
            "levels": self.levels,
            "items": [asdict(item) for item in items],
        }
        key_sha256 = digest(sealed)
        low = STORED_MAX * HEADROOM / (1 + 2 * HEADROOM)
        payload = {
            "study": key_sha256[:12],
            "title": self.title,
            "key_sha256": key_sha256,
            "questions": [{"id": name, **question} for name, question in self.questions.items()],
            "levels": self.levels,
            "stored_max": STORED_MAX,
            "axes": IN_PLANE,
            "window": [round(low), round(STORED_MAX - low)],
            "items": [{"id": item.item, **images[item.case, item.method, item.plane]} for item in items],
        }
        payload["page_sha256"] = digest(payload)
        heads = {"study": payload["study"], "page_sha256": payload["page_sha256"], "key_sha256": key_sha256}
        return {"warning": WARNING, **heads, **sealed}, page_of(payload)


def closest(order: Sequence[Item]) -> int:
    """Return the smallest distance in the order between two items that show the same plane of the same case.

    >>> closest([Item("a", "knee", "cubic", 1), Item("b", "knee", "cubic", 2), Item("c", "knee", "GLADE", 1)])
    2
    """
    last, least = {}, len(order)
    for position, item in enumerate(order):
        what = (item.case, item.plane)
        if what in last:
            least = min(least, position - last[what])
        last[what] = position
    return least


def spaced(order: Sequence[Item], apart: int) -> list[Item]:
    """Delay each item whose plane was among the last `apart` shown, as far as that is possible.

    >>> order = [Item("a", "knee", "cubic", 1), Item("b", "knee", "GLADE", 1), Item("c", "knee", "cubic", 2)]
    >>> [item.item for item in spaced(order, 1)]
    ['a', 'c', 'b']
    """
    waiting, shown = list(order), []
    while waiting:
        recent = {(item.case, item.plane) for item in shown[max(0, len(shown) - apart) :]}
        free = (n for n, item in enumerate(waiting) if (item.case, item.plane) not in recent)
        shown.append(waiting.pop(next(free, 0)))
    return shown


def _shown_first(order: Sequence[Item]) -> list[Item]:
    """The same order, in which the later of two showings of one image is the duplicate."""
    first, found = {}, []
    for item in order:
        what = (item.case, item.method, item.plane)
        found.append(Item(item.item, *what, first.get(what)))
        first.setdefault(what, item.item)
    return found


def _are_percentiles(given) -> bool:
    if isinstance(given, str) or not isinstance(given, Sequence) or not all(is_number(value) for value in given):
        return False
    return len(given) == 2 and 0 <= given[0] < given[1] <= 100


def _random_name(rng: np.random.Generator) -> str:
    """A random name of eight hexadecimal digits, which reveals nothing about the image."""
    return rng.bytes(4).hex()
