"""Discovery of DICOM volumes: the MR volumes below a path, found by their headers, never by file names or file order.

One series may hold several volumes (echoes, magnitude and phase, time points, b-values, orientations); each becomes a
`Volume`, either usable or with the reasons against it.
"""

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..data.case import DICOM, Case
from ..geometry.checks import flag
from ..geometry.errors import Refusal, printable
from ..geometry.folders import Inputs, input_paths
from ..physics.protocol import FEWEST_SLICES
from .case_names import case_names, differences
from .completeness import numberings
from .files import DamagedError, UnavailableError, each, looks_like_dicom, regular_files, seems_damaged
from .gate import Stack, examine
from .grouping import Group, group_planes
from .headers import NUMBERS, UNCOUNTED, Frame, read_frames
from .partitions import zero_filling

logger = logging.getLogger(__name__)

MAGNITUDE = ("magnitude",)
MADE_BY_GLADE = "already a result of GLADE"
"""Reason that counts for a volume found in a folder; whoever names its files wants to read it."""
MAX_DAMAGED_NAMED = 3
"""Number of damaged files that a message names; of further ones it gives the number."""
PLACE: dict[str, Callable[[Frame], object]] = {
    "ImagePositionPatient": lambda frame: frame.position_mm,
    "ImageOrientationPatient": lambda frame: frame.orientation,
    "PixelSpacing": lambda frame: frame.pixel_spacing_mm,
}
"""Attributes that place an image, without which it is not used."""
ALIKE = {**PLACE, "EchoTime": lambda frame: frame.echo_time_ms}
"""Attributes that all images of a series have, or none."""
MODALITIES = (
    "CR CT DX ECG ES IO KO M3D MG NM OP OPT OT PR PT PX REG RF RTDOSE RTIMAGE RTPLAN RTSTRUCT RWV SC SEG SM SR US XA XC"
)
"""Values of Modality (PS3.3, C.7.3.1.1.1) that a message repeats; any other text might name the patient."""
PHOTOMETRIC = ("RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "MONOCHROME1", "MONOCHROME2")
"""Values of PhotometricInterpretation (PS3.3, C.7.6.3.1.2) that a message repeats."""


@dataclass(frozen=True)
class Volume:
    """The slices of one volume, sorted along their normal where they have positions.

    Attributes:
        name: case name, safe for files, without patient attributes unless they were asked for.
        frames: image planes in slice order.
        stack: geometry, reasons, notes; None where there are no positions to examine.
        reasons: every reason why the volume is not super-resolved; empty for a usable one.
        component: "magnitude", "phase", "real", "imaginary" or "map (...)".
        differences: what tells it apart from the other volumes of its series, as the end of its name, such as "TE20".
    """

    name: str
    frames: tuple[Frame, ...]
    stack: Stack | None
    reasons: tuple[str, ...]
    component: str
    differences: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """Its files in slice order, each once; an enhanced file may hold other volumes too."""
        return tuple(dict.fromkeys(frame.file for frame in self.frames))

    @property
    def series(self) -> str:
        """Its SeriesInstanceUID; the lowest where images of several series form the volume."""
        return min(frame.series for frame in self.frames)

    @property
    def study(self) -> str:
        """Its StudyInstanceUID; "" where it has none."""
        return self.frames[0].study

    @property
    def planes_in_files(self) -> tuple[int, ...] | None:
        """Which frames of its enhanced files belong to it; None for files of a single frame."""
        return None if self.frames[0].index is None else tuple(frame.index for frame in self.frames)

    @property
    def reasons_if_named(self) -> tuple[str, ...]:
        """The reasons that remain where the files of the volume were named, and not found in a folder."""
        return tuple(reason for reason in self.reasons if reason != MADE_BY_GLADE)

    @property
    def refusal(self) -> str | None:
        """All reasons in one line; None for a usable volume."""
        return "; ".join(self.reasons) or None

    @property
    def size(self) -> tuple[int, int, int]:
        """Columns, rows, slices; those inside a mosaic, where it is one."""
        first = self.frames[0]
        tiles = math.ceil(math.sqrt(first.mosaic_images)) or 1
        return first.columns // tiles, first.rows // tiles, self.slice_count

    @property
    def slice_count(self) -> int:
        """Number of slices; those inside a mosaic are counted."""
        return self.frames[0].mosaic_images or sum(f.frames_in_file if f.index is None else 1 for f in self.frames)

    def as_case(self) -> Case:
        """The volume as a case of the workflows."""
        return Case(self.name, tuple(map(Path, self.files)), DICOM, volume=self, refusal=self.refusal)


@dataclass(frozen=True)
class Damaged:
    """A DICOM file that cannot be used.

    Attributes:
        file: its path.
        reason: what is wrong, in one line.
        series: its SeriesInstanceUID; "" where it could not be read.
        away: whether it could not be opened.
    """

    file: str
    reason: str
    series: str = ""
    away: bool = False

    def belongs_to(self, frames: Sequence[Frame]) -> bool:
        """Whether its slice may be missing in a volume: in its series, or in its folder where its series is unknown."""
        if self.series:
            return any(frame.series == self.series for frame in frames)
        return any(Path(frame.file).parent == Path(self.file).parent for frame in frames)


@dataclass(frozen=True)
class Survey:
    """The content of a folder.

    Attributes:
        volumes: every volume found, usable or not.
        ignored: number of files that are no DICOM.
        without_image: number of DICOM files without an image (reports, presentation states, directories).
        damaged: DICOM files that cannot be used, and what is wrong with each.
    """

    volumes: tuple[Volume, ...]
    ignored: int
    without_image: int
    damaged: tuple[Damaged, ...]


def find_series(path: Inputs, keep_names: bool | str = False, components: Sequence[str] = MAGNITUDE) -> list[Case]:
    """Find all DICOM volumes at one or several paths as cases.

    Args:
        path: a folder of any depth, or a file, or several of them.
        keep_names: true: case names begin with the patient's name (and so do files, logs and summary.json);
            false: only the header of the derived series names the patient.
        components: kinds of image that are used; the others are listed with a refusal.

    Returns:
        One case a volume; [] where nothing is DICOM. A volume that cannot be used carries its reasons as one line.
        Results of GLADE beside other volumes are left out.

    Raises:
        Refusal: `keep_names` is neither true nor false.
    """
    paths = input_paths(path)
    files = dict.fromkeys(file for root in paths for file in regular_files(root))
    found = survey_files(files, components, keep_names=flag(keep_names, "keep_names"))
    volumes = [volume for volume in found.volumes if not volume.frames[0].made_by_glade] or found.volumes
    if len(volumes) < len(found.volumes):
        logger.info("%d series made by GLADE left out", len(found.volumes) - len(volumes))
    alone = paths[0] if len(paths) == 1 and paths[0].is_file() else None
    if alone is not None:
        volumes = [_with_offer(volume, alone) for volume in volumes]
    cases = [volume.as_case() for volume in volumes]
    if alone is not None and found.without_image:
        line = "a DICOM file without an image, such as a DICOMDIR or a report: give the folder of the images"
        cases.append(Case("no_image", (alone,), DICOM, refusal=f"{printable(alone.name)}: {line}"))
    unnamed = [file for file in found.damaged if not any(file.belongs_to(volume.frames) for volume in volumes)]
    if unnamed:
        cases.append(Case("damaged_dicom", tuple(paths), DICOM, refusal=damage(unnamed)))
    for volume in volumes:
        for note in volume.stack.notes if volume.stack and not volume.reasons else ():
            logger.log(logging.WARNING if note.warns else logging.INFO, "%s: %s", volume.name, note.text)
    return cases


def _with_offer(volume: Volume, file: Path) -> Volume:
    """The volume of a single file that was given, with the offer of its folder where that holds more of it."""
    if volume.reasons:
        for other in survey(file.parent).volumes:
            if len(other.files) > 1 and file in map(Path, other.files):
                offer = f"{printable(file.name)} is one of {len(other.files)} files of a volume: give its folder"
                return replace(volume, reasons=(offer, *other.reasons))
    return volume


def survey(
    path: str | Path,
    components: Sequence[str] = MAGNITUDE,
    minimum_slices: int = FEWEST_SLICES,
    keep_names: bool = False,
) -> Survey:
    """Find every DICOM volume at a path.

    Args:
        path: a folder of any depth (symbolic links are followed, loops are not), or a file.
        components: kinds of image that are used; the others carry a reason.
        minimum_slices: volumes of fewer slices carry a reason.
        keep_names: the volumes' names begin with the patient's.
    """
    return survey_files(regular_files(Path(path)), components, minimum_slices, keep_names)


@np.errstate(over="ignore", invalid="ignore")  # forged numbers; the gate refuses what comes of them
def survey_files(
    files: Iterable[str | Path],
    components: Sequence[str] = MAGNITUDE,
    minimum_slices: int = FEWEST_SLICES,
    keep_names: bool = False,
) -> Survey:
    """Find every DICOM volume among the given files."""
    frames: list[Frame] = []
    ignored = without_image = 0
    damaged: list[Damaged] = []
    doubtful: list[Path] = []
    for file, found in each(_read_header, files):
        if found is None:
            ignored += 1
            doubtful += [file] if seems_damaged(file) and not file.name.startswith(".") else []
        elif isinstance(found, DamagedError):
            away = isinstance(found, UnavailableError)
            if away and file.name.startswith("."):
                ignored += 1
                continue
            damaged.append(Damaged(str(file), str(found), found.series, away))
        else:
            frames += found
            without_image += not found
    incomplete = {(frame.file, frame.index): (frame, why) for frame, why in _incomplete(frames)}
    frames = [frame for frame in frames if (frame.file, frame.index) not in incomplete]
    damaged += [Damaged(frame.file, why, frame.series) for frame, why in incomplete.values()]
    siblings = {(file.parent, file.suffix.lower()) for file in (Path(f.file) for f in [*frames, *damaged])}
    lost = [file for file in doubtful if (file.parent, file.suffix.lower()) in siblings]
    ignored -= len(lost)
    damaged += [Damaged(str(file), "the file is empty, or its beginning is not that of a DICOM file") for file in lost]
    groups = list(group_planes(frames))
    groups.sort(key=_order)
    labelled = [(group.frames[0], group.labels) for group in groups]
    names = zip(case_names(labelled, keep_names), differences(labelled), strict=True)
    volumes = _volumes(groups, names, components, minimum_slices, damaged)
    return Survey(tuple(volumes), ignored, without_image, tuple(damaged))


def _order(group: Group) -> tuple[bool, int, str, int]:
    first = group.frames[0]
    return first.series_number is None, first.series_number or 0, first.series, first.echo_number or 0


def _read_header(file: str | Path) -> tuple[Path, tuple[Frame, ...] | DamagedError | None]:
    """The file, and its planes, the error that damaged it, or None where it is no DICOM file."""
    path = Path(file)
    try:
        return path, read_frames(path) if looks_like_dicom(path) else None
    except DamagedError as error:
        return path, error


def damage(files: Sequence[Damaged]) -> str:
    """Return one line that names damaged files, and what is wrong with each; of many the first few."""
    text = "; ".join(f"{printable(Path(file.file).name)}: {file.reason}" for file in files[:MAX_DAMAGED_NAMED])
    more = len(files) - MAX_DAMAGED_NAMED
    away = all(file.away for file in files)
    kind = "file" if away else "damaged file"
    number = f"a {kind}" if len(files) == 1 else f"{len(files)} {kind}s"
    remedy = "make the series available" if away else "copy the series again"
    return f"{number} ({text}{f'; and {more} more' if more > 0 else ''}): {remedy}"


def volumes_of(
    paths: Sequence[str | Path],
    minimum_slices: int = FEWEST_SLICES,
    components: Sequence[str] = MAGNITUDE,
) -> tuple[Volume, ...]:
    """Find the volumes that files or folders hold.

    Args:
        paths: files and folders.
        minimum_slices: volumes of fewer slices carry a reason.
        components: kinds of image that are used; the others carry a reason.

    Raises:
        Refusal: they hold damaged images only.
    """
    files = [file for path in paths for file in regular_files(Path(path))]
    found = survey_files(files, components, minimum_slices)
    if found.damaged and not found.volumes:
        raise Refusal(damage(found.damaged))
    return found.volumes


def _volumes(
    groups: list[Group],
    names: Iterable[tuple[str, tuple[str, ...]]],
    components: Sequence[str],
    minimum_slices: int,
    damaged: Sequence[Damaged],
) -> Iterator[Volume]:
    orientations: dict[str, set[tuple[float, ...]]] = defaultdict(set)
    for group in groups:
        orientations[group.frames[0].series].add(tuple(np.round(group.frames[0].orientation or (), 2)))
    numbered = numberings(frame for group in groups for frame in group.frames)
    for group, (name, ends) in zip(groups, names, strict=True):
        first = group.frames[0]
        stack = _examine(group.frames, minimum_slices)
        numbering = numbered.get(first.series)
        if stack:
            stack = replace(stack, notes=(*stack.notes, *group.notes, *(numbering.notes() if numbering else ())))
        frames = tuple(group.frames[i] for i in stack.order) if stack else tuple(group.frames)
        reasons = [*group.reasons, *reasons_of(frames, stack, components)]
        if stack and numbering:
            reasons += numbering.reasons(frames, stack.slice_spacing_mm)
        if len(orientations[first.series]) > 1 and len(frames) < minimum_slices:
            reasons.append(f"the series holds slices of {len(orientations[first.series])} orientations")
        missing = [file for file in damaged if file.belongs_to(frames)]
        if missing:
            reasons.append(damage(missing))
        yield Volume(name, frames, stack, tuple(reasons), first.component, ends)


def _examine(frames: list[Frame], minimum_slices: int) -> Stack | None:
    first = frames[0]
    if first.mosaic_images or first.pixel_spacing_mm is None:
        return None
    if any(frame.position_mm is None or frame.orientation is None for frame in frames):
        return None
    thickness = {frame.slice_thickness_mm for frame in frames}
    same = len(thickness) == 1
    encoded = first.acquisition_type == "3D" and first.modality == "MR" and len(frames) >= minimum_slices
    return examine(
        np.array([frame.position_mm for frame in frames]),
        np.array([frame.orientation for frame in frames]),
        first.pixel_spacing_mm,
        slice_thickness_mm=first.slice_thickness_mm if same else None,
        note_of_absence=f"SliceThickness {'is absent or 0' if same else 'differs from slice to slice: not used'}",
        slice_spacing_tag_mm=first.slice_spacing_tag_mm,
        acquisition_type=first.acquisition_type,
        zero_filling=zero_filling(first.file, len(frames)) if encoded else None,
        minimum_slices=minimum_slices,
    )


def reasons_of(frames: Sequence[Frame], stack: Stack | None, components: Sequence[str]) -> list[str]:
    """Every reason not to use a volume: kind of image first, then its geometry."""
    first, reasons = frames[0], []
    unreadable = [n for n in (*PLACE, "SliceThickness") if any(n in frame.unreadable for frame in frames)]
    if first.modality != "MR":
        reasons.append(f"not MR (Modality {_known(first.modality, MODALITIES.split())})")
    patients = max(len({frame.patient[part] for frame in frames} - {""}) for part in (0, 1))
    if patients > 1:
        reasons.append(f"images of {patients} patients in one series: separate them")
    if first.samples != 1 or not first.photometric.startswith("MONOCHROME"):
        reasons.append(f"colour image ({_known(first.photometric, PHOTOMETRIC, 'PhotometricInterpretation is ')})")
    if first.has_lookup_table:
        reasons.append("values go through a ModalityLUTSequence, which is not supported")
    if first.mosaic_images:
        slices = "several" if first.mosaic_images == UNCOUNTED else first.mosaic_images
        reasons.append(f"Siemens mosaic of {slices} slices in one image: export it as single slices")
        return reasons
    if first.component not in components:
        reasons.append(f"{first.component} image; only {', '.join(components)} images are super-resolved")
    if first.made_by_glade:
        reasons.append(MADE_BY_GLADE)
    if stack is None:
        absent = [name for name in PLACE if any(PLACE[name](f) is None for f in frames) and name not in unreadable]
        reasons += [f"no geometry: {', '.join(absent)} absent"] if absent else []
    reasons += [f"{_unreadable(name)}: correct the headers" for name in unreadable]
    return reasons + list(stack.reasons if stack else ())


def _unreadable(name: str) -> str:
    number = NUMBERS[name]
    wanted = "a number" if number == 1 else f"{number} numbers"
    return f"{name} cannot be read as {wanted} (a decimal comma?)"


def _incomplete(frames: Iterable[Frame]) -> Iterator[tuple[Frame, str]]:
    """Yield images that lack what others of their series, size and kind have, and what is wrong with each.

    Grouped by themselves, they would be missing in the volume of the others.
    """
    alike = defaultdict(list)
    for frame in frames:
        series = frame.series or str(Path(frame.file).parent)
        alike[series, frame.rows, frame.columns, frame.component, frame.samples].append(frame)
    for part in alike.values():
        for name, value in ALIKE.items():
            without = [frame for frame in part if value(frame) is None]
            for frame in without if len(without) < len(part) else ():
                yield frame, _unreadable(name) if name in frame.unreadable else f"{name} is absent"


def _known(value: str, values: Sequence[str], otherwise: str = "") -> str:
    """Return a value that the standard defines; other text is not repeated, as it might name the patient."""
    if not value:
        return f"{otherwise}absent"
    return value if value in values else f"{otherwise}not a value of the standard"
