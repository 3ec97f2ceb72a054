"""Tiny volumes of two methods for the tests of the readers' study, and a reader of pages independent of the code."""

import base64
import json
import re
import zlib
from pathlib import Path

import nibabel
import numpy as np

METHODS = ("zebra", "okapi blend")
CASES = ("quokka_1", "quokka_2")
SPACING_MM = (2.0, 3.0, 4.0)  # non-square pixels
SHAPE = (34, 32, 30)
QUESTIONS = {"quality": {"title": "Quality", "text": "How good?"}, "artefacts": {"title": "Artefacts", "text": "Sure?"}}
SETTINGS = {
    "view": "sagittal",
    "planes": 3,
    "body_share": 0.5,
    "neighbours": 2,
    "margin_mm": 3.0,
    "duplicates": 0.25,
    "apart": 1,
    "seed": 5,
    "window_percentiles": [1.0, 99.0],
    "title": "A study",
    "questions": QUESTIONS,
    "levels": ["poor (non-diagnostic)", "fair", "moderate", "good", "excellent (diagnostic)"],
}


def body(seed: int) -> np.ndarray:
    """A box of tissue with texture; the corner towards anterior, superior is bright."""
    values = np.zeros(SHAPE, np.float32)
    values[10:24, 8:24, 8:22] = 100 + 20 * np.random.default_rng(seed).random((14, 16, 14))
    values[10:24, 20:24, 19:22] = 300
    return values


def write_volume(path: Path, values: np.ndarray, spacing_mm=SPACING_MM, reoriented: bool = False) -> Path:
    """In RAS order, or with axes in another order and direction at the same world coordinates."""
    image = nibabel.Nifti1Image(values.astype(np.float32), np.diag([*spacing_mm, 1.0]))
    if reoriented:
        image = image.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path


def write_methods(folder: Path) -> dict[str, str]:
    """Both cases by both methods; the second method is brighter and stored in another orientation."""
    for number, case in enumerate(CASES):
        write_volume(folder / METHODS[0] / f"{case}.nii.gz", body(number))
        write_volume(folder / METHODS[1] / f"{case}_out.nii.gz", body(number) * 1.1, reoriented=True)
    return {method: str(folder / method) for method in METHODS}


def payload(page: Path) -> dict:
    """The data in the page."""
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="study">(.*?)</script>', text, re.DOTALL)[1])


def stack(page: Path, item: dict) -> np.ndarray:
    """The stored planes of an item, decompressed step by step as the page does."""
    data = re.search(rf'id="image-{item["id"]}">(.*?)</script>', page.read_text(encoding="utf-8"))[1]
    split = np.frombuffer(zlib.decompress(base64.b64decode(data)), np.uint8).astype(np.uint16).reshape(2, -1)
    steps = (split[0] + 256 * split[1]).reshape(item["shape"])
    return np.cumsum(np.cumsum(steps, axis=2, dtype=np.uint16), axis=1, dtype=np.uint16).astype(int)


def answer_file(folder: Path, page: Path, reader: str, score) -> Path:
    """A reader's file as the page saves it; `score(item id, question)` gives the marks, None for none."""
    content = payload(page)
    answers = []
    for item in content["items"]:
        scores = {q["id"]: score(item["id"], q["id"]) for q in content["questions"]}
        answers.append({"item": item["id"], "scores": {q: s for q, s in scores.items() if s}, "seconds": 1.5})
    file = {name: content[name] for name in ("study", "page_sha256", "key_sha256")}
    file |= {"kind": "reader-study answers", "reader": reader, "answers": answers}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"answers_{reader}.json"
    path.write_text(json.dumps(file))
    return path
