"""What the app adds to MONAI Label: choice of the study, settings of a request, errors as HTTP status, result files."""

import contextlib
import copy
import errno
import functools
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from monai.bundle import ConfigParser
from monai.data import MetaTensor

from scripts.data.case import Case
from scripts.data.discovery import find_nifti, require_cases
from scripts.data.formats import WITH_PAIRS
from scripts.data.saving import POSTFIXES, RESULT, write_volume
from scripts.dicom.discovery import find_series
from scripts.geometry.errors import Refusal, causes, one_line, reason_of
from scripts.geometry.files import plain
from scripts.run.record import FIT, Row

BUNDLE = Path(__file__).resolve().parents[2]
CONFIG = BUNDLE / "configs" / "inference.yaml"
MODEL = "glade"
VOLUMES = dict(zip(POSTFIXES, ("pred", "added_detail", "uncertainty"), strict=True))  # keys of the postprocessing
PARAMS = ("settings", "volume", "case")  # of a request
SETTINGS = (  # of inference.yaml, that a request may set; the others belong to the site
    "frames",
    "through_plane_axis",
    "slice_thickness_mm",
    "slice_profile",
    "isotropic_spacing_mm",
    "views",
    "rotations_deg",
    "precision",
    "sharpness",
    "detail",
)
SENT = ("case", "protocol", *FIT, "warnings", "output", "settings")  # of a row of summary.json
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
RESULTS = "results"
DEEPEST = 4  # levels in params: the object, settings, a list, and one to spare


class RequestError(Exception):
    """A request without a result: an HTTP status and one line for the client."""

    def __init__(self, status: int, line: str):
        super().__init__(line)
        self.status, self.line = status, one_line(line)


def error_for(error: Exception) -> RequestError:
    """Return the error to send: 422 for a refused scan or setting, 507 for a full disk, else 500."""
    if isinstance(error, RequestError):
        return error
    for cause in causes(error):
        if isinstance(cause, RequestError):
            return cause
        if isinstance(cause, OSError) and cause.errno in FULL:
            return RequestError(507, f"the server's disk is full ({cause.strerror}): nothing was kept")
    status, reason = reason_of(error)
    return RequestError(422 if status == "refused" else 500, f"{status}: {reason}")


def require_object(params: str) -> None:
    """Refuse params that are not a JSON object of plain settings; Label parses and prints them before our code runs.

    Raises:
        RequestError: 400.
    """
    try:
        content = json.loads(params or "{}")
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"params must be a JSON object ({error})") from error
    if not isinstance(content, dict):
        raise RequestError(400, f"params must be a JSON object, not {type(content).__name__}")
    level: list = [content]
    for _ in range(DEEPEST):
        level = [part for value in level if isinstance(value, (dict, list)) for part in _parts(value)]
    if level:
        raise RequestError(400, f"params nests deeper than {DEEPEST} objects and lists: no setting does")


def _parts(value: dict | list) -> Iterable:
    return value.values() if isinstance(value, dict) else value


def require_known(request: Mapping) -> None:
    """Refuse parameters that this app would ignore.

    Raises:
        RequestError: 422, with the names that a request may hold.
    """
    unknown = sorted(set(request) - {"model", "image", *PARAMS})
    if unknown:
        line = f"params may hold {', '.join(PARAMS)}, not {', '.join(unknown)}"
        raise RequestError(422, line + (': write {"settings": {...}}' if set(unknown) & set(SETTINGS) else ""))


def study_of(image: object, studies: Path, uploads: Path) -> Path:
    """Return the file or folder that a request names: in the studies' folder, or uploaded with the request.

    Args:
        image: path relative to the studies' folder, or absolute; with or without the ending of a format that is read.
        studies: folder that is served.
        uploads: folder of this server's uploads.

    Raises:
        RequestError: 404, if there is no such study; what lies elsewhere on the server counts as absent.
    """
    text = str(image or "")
    for name in (text, *(f"{text}{suffix}" for suffix in WITH_PAIRS)):
        with contextlib.suppress(OSError, ValueError):  # too long a name, a null byte
            path = (studies / name).resolve()
            if text and path.exists() and any(path.is_relative_to(root.resolve()) for root in (studies, uploads)):
                return path
    raise RequestError(404, f"no study is called {text!r}: give a file or DICOM folder of the served studies")


def case_of(study: Path, frames: object = "all", wanted: str | None = None) -> Case:
    """Return the only scan of a study as a case of the workflow.

    Args:
        study: NIfTI file, DICOM series or folder.
        frames: as in inference.yaml.
        wanted: name of the case, where the study holds several.

    Raises:
        Refusal: if there is none or more than one, or it cannot be used.
    """
    cases = require_cases(find_nifti(study, frames) + find_series(study), study.name)
    if wanted is not None:
        cases = [case for case in cases if case.name == wanted] or _none(wanted, study, cases)
    if len(cases) > 1:
        usable = [case for case in cases if not case.refusal]
        if len(usable) != 1:
            names = ", ".join(case.name for case in usable or cases)
            raise Refusal(f"{study.name} holds {len(usable)} usable scans of {len(cases)}: choose one by case: {names}")
        cases = usable
    if cases[0].refusal:
        raise Refusal(cases[0].refusal)
    return cases[0]


def bundle_config(settings: Mapping) -> ConfigParser:
    """Return configs/inference.yaml with a request's settings.

    Raises:
        Refusal: if a setting is not one that a request may set.
    """
    if not isinstance(settings, Mapping):
        raise Refusal(f"settings must be an object of names and values, got {settings!r}")
    unknown = sorted(set(settings) - set(SETTINGS))
    if unknown:
        raise Refusal(f"no request may set {', '.join(unknown)}: it may set {', '.join(SETTINGS)}")
    parser = ConfigParser(copy.deepcopy(_shipped()))
    parser["bundle_root"] = str(BUNDLE)
    for name, value in settings.items():
        if not _is_plain(value):  # MONAI would run "$...", build {"_target_": ...}
            raise Refusal(f"{name} must be a number, a word or a list of numbers, got {value!r}")
        parser[name] = value
    return parser


def write_result(volume: MetaTensor, postfix: str = RESULT) -> Path:
    """Write a volume into the server's folder of results as `run inference` writes it, complete or not at all.

    Args:
        volume: (1, X, Y, Z), with the meta that the bundle's steps gave it.
        postfix: which volume of the case it is, a key of `VOLUMES`.

    Raises:
        OSError: if it cannot be written; nothing is left of it.
    """
    folder = Path(tempfile.gettempdir()) / RESULTS
    folder.mkdir(exist_ok=True)
    handle, name = tempfile.mkstemp(suffix=".nii.gz", dir=folder)
    os.close(handle)
    try:
        write_volume(volume, Path(name), postfix, mode=0o600)  # other users of the server must not read it
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


def row_of(case: Case, pred: MetaTensor, settings: Mapping) -> dict:
    """Return what is sent beside the volume: the fields `SENT` of its row of summary.json, as plain values."""
    row = Row(case.name, settings=plain(settings))
    row.add_scan(pred)
    row.add_result(pred)
    values = row.as_row()
    return {name: values[name] for name in SENT}


@functools.cache
def _shipped() -> dict:
    """The config, read once as the code is: after an update of the files the two might not match."""
    return ConfigParser.load_config_file(CONFIG)


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(item, (int, float)) for item in value)
    return value is None or isinstance(value, (int, float)) or (isinstance(value, str) and value.isalnum())


def _none(wanted: str, study: Path, cases: list[Case]) -> list:
    raise Refusal(f"{study.name} holds no {wanted}: it holds {', '.join(case.name for case in cases)}")
