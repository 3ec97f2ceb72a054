"""Where the derivatives of the scans of a BIDS data set belong, and what else such a data set needs (BIDS 1.10)."""

import os
from pathlib import Path
from typing import Any

from ..geometry.files import plain, write_json, write_text
from .bids import BidsFile
from .case import OVERVIEW, SUMMARY, Case
from .saving import ADDED_DETAIL, RESULT, UNCERTAINTY, volume_name
from .sidecar import ROOT, file_stem, json_object

VERSION = "1.10.0"  # of the specification
FIGURES = "figures"
RAW = "raw"  # how URIs of derivatives call the data set they were made from
DESCRIPTIONS = {RESULT: "glade", ADDED_DETAIL: "addeddetail", UNCERTAINTY: "uncertainty"}  # values of the entity desc
IGNORED = (SUMMARY, OVERVIEW, f"**/{FIGURES}")  # files of a run that BIDS does not know
README = """# GLADE derivatives

Isotropic volumes made from the thick-slice scans of a BIDS data set by GLADE. Research only.

`desc-glade` is the volume, `desc-addeddetail` what the network added to the part of it that the slices leave open,
`desc-uncertainty` the half-width that holds the error in 90 % of voxels, in the scan's units. The JSON file beside each
says how it was made.
`summary.json` has all scans, also those that were refused, with the reasons.
"""


class BidsNames:
    """Names and folders of BIDS derivatives for the results of cases, and the files that such a data set needs.

    Args:
        dataset: top folder of the data set that the scans belong to.
    """

    def __init__(self, dataset: str | os.PathLike[str]):
        self.dataset = Path(dataset).absolute()

    def refusal(self, case: Case) -> str | None:
        """Return why the results of a case can have no BIDS names, in one line; None where they can."""
        if case.frame is not None:
            return f"{case.label}: a 4-D image among the anatomical ones: split it first"
        if self._file(case) is None:
            return f"{case.label}: not a file of a BIDS data set: give scans of {self.dataset.name} alone"
        return None

    def place(self, case: Case, name: str, spacing_mm: float) -> Path:
        """Return where a file of a case belongs, relative to the derivatives.

        Args:
            case: one without a refusal.
            name: of the file among the case's own ones.
            spacing_mm: of the isotropic volume.
        """
        file = self._file(case)
        if file is None:
            raise ValueError(f"{case.name} is no file of {self.dataset}")
        for postfix, description in DESCRIPTIONS.items():
            stem = file_stem(volume_name(case.name, postfix))
            if name.startswith(f"{stem}."):
                pairs = [f"{key}-{value}" for key, value in file.entities.items()]
                pairs += [f"res-{resolution_label(spacing_mm)}", f"desc-{description}", file.suffix]
                return file.path.parent / ("_".join(pairs) + name.removeprefix(stem))
        return Path(f"sub-{file.entities['sub']}") / FIGURES / name

    def metadata(self, case: Case) -> dict[str, Any]:
        """Return the fields that BIDS wants in the sidecar of a volume besides those that it has anyhow."""
        file = self._file(case)
        return {
            "Sources": [] if file is None else [f"bids:{RAW}:{file.path.as_posix()}"],
            "SpatialReference": "orig",
            "SkullStripped": False,
        }

    def describe(self, output_dir: str | os.PathLike[str], version: str) -> None:
        """Write dataset_description.json, README.md and .bidsignore of the derivatives, unless they are there.

        Args:
            output_dir: top folder of the derivatives.
            version: of GLADE.
        """
        out = Path(output_dir)
        source = json_object(self.dataset / ROOT)
        raw = Path(os.path.relpath(self.dataset, out.absolute())).as_posix()
        origin = {"DOI": source["DatasetDOI"]} if source.get("DatasetDOI") else {"URL": raw}
        content = {
            "Name": f"GLADE: isotropic volumes of {source.get('Name') or self.dataset.name}",
            "BIDSVersion": VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "GLADE", "Version": version}],
            "SourceDatasets": [origin],
            "DatasetLinks": {RAW: raw},
        }
        content |= {key: source[key] for key in ("License", "Authors") if source.get(key)}
        if not (out / ROOT).is_file() or json_object(out / ROOT) != plain(content):
            write_json(out / ROOT, content)
        for name, text in (("README.md", README), (".bidsignore", "".join(f"{line}\n" for line in IGNORED))):
            if not (out / name).is_file():
                write_text(out / name, text)

    def _file(self, case: Case) -> BidsFile | None:
        path = Path(os.path.abspath(case.files[0])) if case.files else None  # noqa: PTH100 - links stay as they are
        if path is None or not path.is_relative_to(self.dataset):
            return None
        return BidsFile.of(path.relative_to(self.dataset))


def resolution_label(spacing_mm: float) -> str:
    """Return the value of the entity res for an isotropic spacing.

    >>> resolution_label(1.0), resolution_label(0.625)
    ('iso1mm', 'iso0p625mm')
    """
    return f"iso{spacing_mm:.4g}mm".replace(".", "p")
