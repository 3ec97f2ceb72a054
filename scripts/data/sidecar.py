"""BIDS sidecars of a NIfTI file: the one beside it, and those that it inherits from the folders above."""

import json
import os
import re
from pathlib import Path
from typing import Any

from ..geometry.checks import is_number, is_positive
from ..geometry.errors import Refusal, why_unavailable

ROOT = "dataset_description.json"  # marks the top of a BIDS data set
PHASE_AXES = {"i": 0, "j": 1, "k": 2}  # of PhaseEncodingDirection
LENGTHS = (("SliceThickness", "slice_thickness_mm"), ("SpacingBetweenSlices", "stated_slice_spacing_mm"))


def file_stem(path: str | os.PathLike) -> str:
    """Return the name of an image file without the ending of its format, such as .nii.gz.

    >>> file_stem("scans/T2.nii.gz")
    'T2'
    """
    return re.sub(r"\.((nii|hdr|img|mgh)(\.gz)?|nrrd|nhdr|mha|mhd|mgz)$", "", Path(path).name, flags=re.IGNORECASE)


def sidecars_of(path: str | os.PathLike) -> list[Path]:
    """Return the sidecars that apply to a NIfTI file, the most specific last.

    In a BIDS data set a sidecar in the file's folder or above applies if it has the file's suffix and only entities of
    the file's name (BIDS specification, the inheritance principle). Elsewhere only the one beside the file counts.
    """
    path = Path(path).absolute()
    stem = file_stem(path)
    own = path.with_name(f"{stem}.json")
    found: list[Path] = []
    folders = [path.parent, *path.parents[1:]]
    top = next((i for i, folder in enumerate(folders) if (folder / ROOT).is_file()), None)
    if top is not None:
        *entities, suffix = stem.split("_")
        for folder in reversed(folders[: top + 1]):
            fitting = []
            for file in folder.glob("*.json"):
                *others, last = file.stem.split("_")
                if last == suffix and set(others) <= set(entities) and file != own and file.is_file():
                    fitting.append((len(others), file.name, file))
            found += [file for _, _, file in sorted(fitting)]
    return [*found, own] if own.is_file() else found


def read_sidecar(path: str | os.PathLike) -> dict:
    """Return what the BIDS sidecars of a NIfTI file state about its slices, as meta keys; {} without a sidecar.

    Raises:
        Refusal: if a sidecar is there but no JSON object, or a value in it is of the wrong kind.
    """
    meta: dict[str, Any] = {}
    own = f"{file_stem(path)}.json"
    for sidecar in sidecars_of(path):
        content = json_object(sidecar)
        source = "" if sidecar.name == own else f" ({sidecar.name})"
        for field, key in LENGTHS:
            value = content.get(field)
            if value is not None:
                if not is_number(value):
                    raise Refusal(f"{sidecar.name}: {field} must be a number in mm: correct or remove it")
                meta[key] = float(value)
                if key == "slice_thickness_mm":
                    meta["thickness_source"] = f"BIDS sidecar SliceThickness{source}"
        acquired, stored = (content.get(f"{which}MatrixPE") for which in ("Acquisition", "Recon"))
        axis = PHASE_AXES.get(str(content.get("PhaseEncodingDirection")).rstrip("-"))
        if axis is not None and is_positive(acquired) and is_positive(stored):
            meta["stated_fraction"] = {axis: float(acquired) / float(stored)}  # only compared, never needed
        kind = content.get("MRAcquisitionType")
        if kind is not None:
            if kind not in ("2D", "3D"):
                raise Refusal(f"{sidecar.name}: MRAcquisitionType must be 2D or 3D: correct or remove it")
            meta |= {
                "acquisition_type": kind,
                "acquisition_type_source": f"BIDS sidecar MRAcquisitionType{source}",
            }
    return meta


def json_object(sidecar: Path) -> dict:
    """Return the JSON object that a file holds.

    Raises:
        Refusal: if it holds anything else, or cannot be read.
    """
    try:
        raw = sidecar.read_bytes()
        try:
            text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
        except UnicodeDecodeError:  # the fields that are read are ASCII; another one may be in any encoding
            text = raw.decode("latin-1")
        content = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        if why := why_unavailable(error):
            raise Refusal(f"{sidecar.name}: the sidecar cannot be opened ({why}): make it available") from error
        raise Refusal(f"{sidecar.name}: the sidecar is not valid JSON: correct or remove it") from error
    if not isinstance(content, dict):
        raise Refusal(f"{sidecar.name}: the sidecar is not a JSON object: correct or remove it")
    return content
