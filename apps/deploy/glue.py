"""What the Deploy app adds to the SDK: choice of series, the steps of configs/inference.yaml, the run record."""

import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose

from scripts.data.case import Case
from scripts.data.outputs import DICOM_SERIES
from scripts.data.readers import LoadImageCased
from scripts.data.saving import SaveImageCased, case_folder, write_series
from scripts.dicom.discovery import find_series, survey
from scripts.geometry.errors import Refusal
from scripts.run.record import CaseEntry, RunRecord

BUNDLE = Path(__file__).resolve().parents[2]
RULES = Path(__file__).with_name("rules.json")
FORM = {  # of the rules; the SDK takes {} for "everything" and breaks off at a wrong expression
    "type": "object",
    "required": ["selections"],
    "properties": {
        "selections": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["conditions"],
                "properties": {
                    "name": {"type": "string"},
                    "conditions": {
                        "type": "object",
                        "minProperties": 1,
                        "additionalProperties": {
                            "type": ["string", "number", "array"],
                            "minLength": 1,
                            "minItems": 1,
                            "format": "regex",
                        },
                    },
                },
            },
        }
    },
}
SELECTOR = ("dicom_series_selector_operator", "dicom_data_loader_operator")


def rules() -> str:
    """Return the selection rules as JSON text: the file that GLADE_RULES names, or the app's own.

    Raises:
        Refusal: there is no such file, or it holds no rules.
    """
    path = Path(os.environ.get("GLADE_RULES") or RULES)
    try:
        text = path.read_text(encoding="utf-8")
        jsonschema.validate(json.loads(text), FORM, format_checker=jsonschema.FormatChecker(["regex"]))
    except OSError as error:
        raise Refusal(f"selection rules {path.name}: {error.strerror}: correct GLADE_RULES") from None
    except ValueError as error:  # no UTF-8, no JSON
        raise Refusal(f"selection rules {path.name}: not JSON ({error}): correct the file") from None
    except jsonschema.ValidationError as error:
        raise Refusal(f"selection rules {path.name}: at {error.json_path}: {error.message}: correct the file") from None
    return text


def without_descriptions(record: logging.LogRecord) -> bool:
    """Log filter: the SDK's loader and selector quote study and series descriptions, which may name the patient."""
    return record.module not in SELECTOR


def one_file_a_series(folder: Path) -> list[str]:
    """Return one file of each series, which is all that the SDK's loader needs for its rules.

    The loader would hold every file of the study in memory, stop at a damaged one, and keep one of several echoes.
    """
    return list({volume.frames[0].series: volume.frames[0].file for volume in survey(folder).volumes}.values())


def cases_of(folder: Path, series: Iterable[str]) -> list[Case]:
    """Return the volumes of the selected series as cases, refusals included; damaged files are a refused case.

    Raises:
        Refusal: there is no DICOM, or nothing was selected.
    """
    chosen, found = set(series), survey(folder)
    if not found.volumes:
        raise Refusal("no DICOM series with images in the input folder: give one")
    names = {volume.name for volume in found.volumes if volume.frames[0].series in chosen}
    if not names:
        raise Refusal(f"none of {len(found.volumes)} DICOM volumes matches the selection rules: see rules.json")
    known = {volume.name for volume in found.volumes} - names
    cases = [case for case in find_series(folder) if case.name not in known]
    if not cases:
        raise Refusal("what the selection rules match are results of GLADE: see rules.json")
    return cases


@dataclass(frozen=True)
class Scan:
    """What one operator passes to the next: the entry of a case in the run record, and its image of shape (1, X, Y, Z).

    Attributes:
        entry: of the case.
        image: first as acquired, then super-resolved.
    """

    entry: CaseEntry
    image: MetaTensor


class Bundle:
    """The shipped bundle as configs/inference.yaml describes it; no setting is repeated here.

    Args:
        root: folder of the bundle.
        output_dir: OUT.

    Attributes:
        refusal: the line to end with where there is nothing to do; an operator that raised would leave the SDK's
            graph in errors of its own.
    """

    def __init__(self, root: Path, output_dir: Path):
        if str(root) not in sys.path:
            sys.path.insert(0, str(root))
        self.parser = ConfigParser()
        self.parser.read_meta(str(root / "configs" / "metadata.json"))
        self.parser.read_config(str(root / "configs" / "inference.yaml"))
        self.parser["bundle_root"], self.parser["output_dir"] = str(root), str(output_dir)
        self.parser["write"] = [DICOM_SERIES]
        self.output_dir, self.refusal = output_dir, None
        self.record: RunRecord = self.part("record")
        saver = next(t for t in self.part("postprocessing").transforms if isinstance(t, SaveImageCased))
        self.reader = next(t for t in self.part("preprocessing").transforms if isinstance(t, LoadImageCased))
        self.writer = saver.dicom_writer

    def part(self, key: str):
        """Return the object that a key of inference.yaml describes."""
        return self.parser.get_parsed_content(key)

    def transforms(self, key: str) -> Compose:
        """Return a chain of inference.yaml without reading and writing, which are separate operators here."""
        steps = [t for t in self.part(key).transforms if not isinstance(t, (LoadImageCased, SaveImageCased))]
        return Compose(steps)

    def network(self) -> torch.nn.Module:
        """Return the generator with the weights and on the device of the settings."""
        return self.part("network")

    def admit(self, folder: Path, series: Iterable[str]) -> list[Case]:
        """Return the cases of the selected series, after checking the weights and the output folder.

        Raises:
            Refusal: there are no cases, no weights, or the folder cannot be written to; nothing has been written then.
        """
        cases = cases_of(folder, series)
        self.record.open()
        return cases

    def read(self, cases: Sequence[Case]) -> Iterator[Scan]:
        """Read one case after the other by our own reader; those without anything to do are passed over."""
        for index in self.record.in_turn(cases):
            case = cases[index]
            with self.record.case(case) as entry:
                if entry.to_do:
                    yield Scan(entry, self.reader(case.as_item())["image"])

    def write(self, results: Iterable[Scan]) -> None:
        """Write OUT/<case>/<case>_glade_dicom for each result, complete or not at all."""
        for result in results:
            try:
                with case_folder(self.output_dir, result.entry.case, self.record.replacing) as folder:
                    write_series(self.writer, result.image, result.entry.case, folder)
                result.entry.done(result.image)
            except Exception as error:  # noqa: BLE001 - one faulty series must not stop the others
                result.entry.failed(error)
