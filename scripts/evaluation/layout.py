"""Where the volumes of each method lie: one folder a method, one file a case."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..geometry.errors import Refusal

SUFFIX = ".nii.gz"
SIDE_VOLUMES = ("_added_detail", "_confidence")  # what our inference lays beside a result
RESULT = "_glade"


def parse_others(others: Mapping[str, str] | str | None) -> dict[str, Path]:
    """Other methods and their folders.

    Args:
        others: {"UniRes": "folder"}, or "UniRes=folder,ECLARE=folder2", or None.

    Raises:
        Refusal: on another form, a name twice, or a folder that is not there.
    """
    if not others:
        return {}
    if isinstance(others, str):
        pairs = [part.partition("=") for part in others.split(",")]
        if not all(name.strip() and sign and folder.strip() for name, sign, folder in pairs):
            raise Refusal(f"others must be name=folder,name2=folder2 or a mapping, got {others!r}")
        names = [name.strip() for name, _, _ in pairs]
        if len(set(names)) < len(names):
            raise Refusal(f"others names a method twice: {others}")
        others = dict(zip(names, (folder.strip() for _, _, folder in pairs), strict=True))
    if not isinstance(others, Mapping):
        raise Refusal(f"others must be name=folder,name2=folder2 or a mapping, got {others!r}")
    for name, folder in others.items():
        if not Path(folder).is_dir():
            raise Refusal(f"others: {name}: there is no folder {folder}")
    return {str(name): Path(folder) for name, folder in others.items()}


def all_methods(output_dir: str | Path, own: Sequence[str], others: Mapping[str, Path]) -> dict[str, Path]:
    """The folder of each method: OUT/methods/<method> for ours, where they are for the others.

    Raises:
        Refusal: if another method is called like one of ours.
    """
    twice = set(own) & set(others)
    if twice:
        raise Refusal(f"others: {', '.join(sorted(twice))} is the name of a method here: choose another")
    return {**{name: Path(output_dir) / "methods" / name for name in own}, **others}


def method_file(folder: Path, method: str, case: str, cases: Sequence[str]) -> Path:
    """The file of a case in a method's folder.

    Taken are <case>.nii.gz, <case>/<case>_glade.nii.gz (as our inference writes), <case>_<method>.nii.gz in any
    capitals, else the only <case>*.nii.gz that belongs to no longer case name.

    Raises:
        Refusal: if there is none, or several.
    """
    for path in (folder / f"{case}{SUFFIX}", folder / case / f"{case}{RESULT}{SUFFIX}"):
        if path.is_file():
            return path
    longer = [name for name in cases if name.startswith(case) and name != case]
    found = [
        path
        for path in sorted(folder.glob(f"*{SUFFIX}"))
        if path.name.startswith(case)
        and not path.name.removesuffix(SUFFIX).endswith(SIDE_VOLUMES)
        and not any(path.name.startswith(name) for name in longer)
    ]
    named = [path for path in found if path.name.lower() == f"{case}_{method}{SUFFIX}".lower()]
    if len(named or found) != 1:
        names = ", ".join(path.name for path in found)
        fact = f"several files fit ({names})" if found else f"no {case}{SUFFIX} or {case}*{SUFFIX}"
        raise Refusal(f"{method}: {fact} in {folder.name}: give exactly one a case")
    return (named or found)[0]


def confidence_file(path: Path) -> Path | None:
    """The confidence that lies beside a result of our inference, or None."""
    stem = path.name.removesuffix(SUFFIX)
    beside = path.with_name(f"{stem.removesuffix(RESULT)}_confidence{SUFFIX}")
    return beside if stem.endswith(RESULT) and beside.is_file() else None
