"""Where the derivatives of the scans of a BIDS data set belong, and what else such a data set needs (BIDS 1.10)."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..geometry.errors import Refusal, printable
from ..geometry.files import plain, write_json, write_text
from ..geometry.folders import absolute
from .bids import BidsFile
from .case import OVERVIEW, SUMMARY, Case
from .formats import WITH_PAIRS
from .saving import ADDED_DETAIL, RESULT, UNCERTAINTY, volume_name
from .sidecar import ROOT, file_stem, json_object

VERSION = "1.10.0"  # of the specification
NAME = "GLADE"  # in GeneratedBy
ISOTROPIC = 1e-3  # relative; spacings that differ by less are the same, rounded differently
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
        self.dataset = absolute(dataset)

    def refusal(self, case: Case) -> str | None:
        """Return why the results of a case can have no BIDS names, in one line; None where they can."""
        if case.frame is not None:
            return f"{case.label}: a 4-D image among the anatomical ones: split it first"
        if self._file(case) is None:
            return f"{case.label}: not a file of a BIDS data set: give scans of {self.dataset.name} alone"
        own = case.files[0]
        same = [other.name for other in own.parent.iterdir() if _is_image(other) and file_stem(other) == file_stem(own)]
        if own.name in same and own.name != min(same):
            return f"{case.label}: the same BIDS name as {printable(min(same))}: keep one"
        return None

    def refuse_output(self, output_dir: str | os.PathLike[str]) -> None:
        """Refuse an output folder that is the data set itself, or holds a data set that GLADE did not make.

        Raises:
            Refusal: the line names the folder.
        """
        out = Path(output_dir)
        if absolute(out) == self.dataset or (out.is_dir() and out.samefile(self.dataset)):
            raise Refusal(f"{out}: is the BIDS data set itself: give another OUT_DIR, as its folder derivatives/glade")
        if not (out / ROOT).is_file():
            return
        makers = json_object(out / ROOT).get("GeneratedBy")
        names = [maker.get("Name") for maker in makers if isinstance(maker, dict)] if isinstance(makers, list) else []
        if NAME not in names:
            raise Refusal(f"{out}: its {ROOT} is that of another data set: give another OUT_DIR")

    def place(self, case: Case, name: str, spacing_mm: Sequence[float]) -> Path:
        """Return where a file of a case belongs, relative to the derivatives.

        Args:
            case: one without a refusal.
            name: of the file among the case's own ones.
            spacing_mm: of the axes of the volumes, as they are written.
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
        """Write dataset_description.json of the derivatives, and README.md and .bidsignore unless they are there.

        A dataset_description.json of an earlier run of GLADE is replaced where it differs.

        Args:
            output_dir: top folder of the derivatives.
            version: of GLADE.

        Raises:
            Refusal: as `refuse_output`.
        """
        self.refuse_output(output_dir)
        out = Path(output_dir)
        source = json_object(self.dataset / ROOT)
        raw = Path(os.path.relpath(self.dataset, out.absolute())).as_posix()
        origin = {"DOI": source["DatasetDOI"]} if source.get("DatasetDOI") else {"URL": raw}
        content = {
            "Name": f"GLADE: isotropic volumes of {source.get('Name') or self.dataset.name}",
            "BIDSVersion": VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": NAME, "Version": version}],
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
        path = absolute(case.files[0]) if case.files else None
        if path is None or not path.is_relative_to(self.dataset):
            return None
        return BidsFile.of(path.relative_to(self.dataset))


def resolution_label(spacing_mm: Sequence[float]) -> str:
    """Return the value of the entity res for the spacings of the three axes.

    >>> resolution_label((0.625, 0.625, 0.625)), resolution_label((0.5, 0.5, 3.0))
    ('iso0p625mm', '0p5x0p5x3mm')
    """
    is_isotropic = max(spacing_mm) - min(spacing_mm) <= ISOTROPIC * max(spacing_mm)
    lengths = f"iso{max(spacing_mm):.4g}" if is_isotropic else "x".join(f"{length:.4g}" for length in spacing_mm)
    return f"{lengths}mm".replace(".", "p")


def _is_image(path: Path) -> bool:
    return path.name.lower().endswith(WITH_PAIRS)
