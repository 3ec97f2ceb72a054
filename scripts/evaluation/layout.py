"""File layout of an evaluation: every name in its output folder, and how the file of a case is found for a method."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..data.case import SUMMARY
from ..data.saving import POSTFIXES, RESULT, UNCERTAINTY, VIEWER, volume_file, volume_name
from ..geometry.errors import Refusal
from ..physics.profile import PROFILES

SUFFIX = ".nii.gz"
SIDE_VOLUMES = tuple(f"_{postfix}" for postfix in POSTFIXES if postfix != RESULT)  # written beside a result
KNOWN_PROFILES = "|".join(PROFILES)
OF_A_PROTOCOL = re.compile(  # follows the name of a case in that of a simulated protocol, or of one with more settings
    rf"_(\d[\d.]*x_({KNOWN_PROFILES})|as-({KNOWN_PROFILES})"
    r"|(thickness|noise)\d[\d.e-]*(?=_|\.nii)|(stacks|factors|moved)\d)"
)
OTHERS_FORM = "others must be name=folder,name2=folder2 or a mapping"


class EvaluationFolder:
    """The output folder of an evaluation; gives the path of each file and folder in it.

        cases.json                          a row for each case: `EvaluationRecord`
        scores.csv, statistics.csv          `Scores`, `Statistics`
        report.html                         written from the files above
        viewers/<case>_viewer.html          written with it, a page for each case that it shows with pictures
        scans/<case>.nii.gz and .json       thick scans with their sidecars: the input of all methods
        stacks/<case>/<case>_stack<n>.nii.gz  and .json, where a case has several stacks; the first is that of scans/
        truth/<case>.nii.gz                 the true volumes, where they are known
        methods/<method>/<case>.nii.gz      interpolated volumes
        methods/GLADE/summary.json          the record of our inference, with its results in a folder for each case

    Args:
        root: the folder; it need not exist yet.

    >>> out = EvaluationFolder("out")
    >>> out.scores.as_posix(), out.truth_file("knee").as_posix()
    ('out/scores.csv', 'out/truth/knee.nii.gz')
    >>> out.inference_file("GLADE", "knee", "uncertainty").as_posix()
    'out/methods/GLADE/knee/knee_uncertainty.nii.gz'
    """

    def __init__(self, root: str | Path):
        self.root = Path(root)
        self.cases = self.root / "cases.json"
        self.scores = self.root / "scores.csv"
        self.statistics = self.root / "statistics.csv"
        self.report = self.root / "report.html"
        self.viewers = self.root / "viewers"
        self.scans = self.root / "scans"
        self.stacks = self.root / "stacks"
        self.truth = self.root / "truth"
        self.methods = self.root / "methods"

    def viewer_file(self, case: str) -> Path:
        """The page with the viewer of a case."""
        return self.viewers / f"{case}{VIEWER}"

    def scan_file(self, case: str) -> Path:
        """The thick scan that all methods take as their input."""
        return self.scans / f"{case}{SUFFIX}"

    def sidecar_file(self, case: str) -> Path:
        """The BIDS sidecar of the thick scan."""
        return self.scans / f"{case}.json"

    def stack_folder(self, case: str) -> Path:
        """The folder of all stacks of a case, which methods for several stacks take as their input."""
        return self.stacks / case

    def stack_file(self, case: str, number: int) -> Path:
        """A stack of a case, from 1, the reference; its sidecar lies beside it."""
        return self.stack_folder(case) / f"{case}_stack{number}{SUFFIX}"

    def truth_file(self, case: str) -> Path:
        """The true volume of a case."""
        return self.truth / f"{case}{SUFFIX}"

    def method_folder(self, method: str) -> Path:
        """The folder of one of our own methods; other methods keep their results in folders elsewhere."""
        return self.methods / method

    def interpolated_file(self, method: str, case: str) -> Path:
        """The volume that one of the interpolations made of a case."""
        return self.method_folder(method) / f"{case}{SUFFIX}"

    def inference_summary(self, method: str) -> Path:
        """The record that our inference wrote of all its cases."""
        return self.method_folder(method) / SUMMARY

    def inference_file(self, method: str, case: str, postfix: str = RESULT) -> Path:
        """A volume that our inference wrote: the result, or with another postfix what lies beside it."""
        return volume_file(self.method_folder(method), case, postfix)


def parse_others(others: Mapping[str, str] | str | None) -> dict[str, Path]:
    """Read the setting that names the folders of other methods.

    Args:
        others: {"UniRes": "folder"}, or "UniRes=folder,ECLARE=folder2", or None.

    Raises:
        Refusal: if it has another form, names a method twice, or a folder does not exist.

    >>> parse_others("UniRes=.")
    {'UniRes': PosixPath('.')}
    """
    if not others:
        return {}
    if isinstance(others, str):
        pairs = [part.partition("=") for part in others.split(",")]
        if not all(name.strip() and sign and folder.strip() for name, sign, folder in pairs):
            raise Refusal(f"{OTHERS_FORM}, got {others!r}")
        names = [name.strip() for name, _, _ in pairs]
        if len(set(names)) < len(names):
            raise Refusal(f"others names a method twice: {others}")
        others = dict(zip(names, (folder.strip() for _, _, folder in pairs), strict=True))
    if not isinstance(others, Mapping):
        raise Refusal(f"{OTHERS_FORM}, got {others!r}")
    for name, folder in others.items():
        if not Path(folder).is_dir():
            raise Refusal(f"others: {name}: there is no folder {folder}")
    return {str(name): Path(folder) for name, folder in others.items()}


def all_methods(output_dir: str | Path, own: Sequence[str], others: Mapping[str, Path]) -> dict[str, Path]:
    """Return the folder of each method: inside the evaluation for ours, as given for the others.

    Raises:
        Refusal: if another method has the name of one of ours.
    """
    twice = set(own) & set(others)
    if twice:
        raise Refusal(f"others: {', '.join(sorted(twice))} is the name of a method here: choose another")
    folder = EvaluationFolder(output_dir)
    return {**{name: folder.method_folder(name) for name in own}, **others}


def method_file(folder: Path, method: str, case: str, cases: Sequence[str]) -> Path:
    """Find the file of a case in a method's folder.

    Accepted are <case>.nii.gz, <case>/<case>_glade.nii.gz (as our inference writes), <case>_<method>.nii.gz in upper or
    lower case, else the only <case>*.nii.gz with neither letter nor digit right after the case, where it belongs
    neither to a case with a longer name nor to another simulated protocol.

    Args:
        folder: of the method.
        method: its name.
        case: name of the case.
        cases: names of all cases of the evaluation, also of those that failed.

    Raises:
        Refusal: if there is no such file, or several fit.
    """
    for path in (folder / f"{case}{SUFFIX}", volume_file(folder, case)):
        if path.is_file():
            return path
    longer = [name for name in cases if name.startswith(case) and name != case]
    found = [
        path
        for path in sorted(folder.glob(f"*{SUFFIX}"))
        if path.name.startswith(case)
        and not path.name[len(case)].isalnum()
        and not OF_A_PROTOCOL.match(path.name, len(case))
        and not path.name.removesuffix(SUFFIX).endswith(SIDE_VOLUMES)
        and not any(path.name.startswith(name) for name in longer)
    ]
    named = [path for path in found if path.name.lower() == f"{case}_{method}{SUFFIX}".lower()]
    if len(named or found) != 1:
        names = ", ".join(path.name for path in found)
        fact = f"several files fit ({names})" if found else f"no {case}{SUFFIX} or {case}*{SUFFIX}"
        raise Refusal(f"{method}: {fact} in {folder.name}: give exactly one file for each case")
    return (named or found)[0]


def uncertainty_file(path: Path) -> Path | None:
    """Return the uncertainty that lies beside a result of our inference; None for any other file."""
    case = path.name.removesuffix(volume_name(""))
    beside = path.with_name(volume_name(case, UNCERTAINTY))
    return beside if case != path.name and beside.is_file() else None
