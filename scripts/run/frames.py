"""4-D scans: when all frames of a file are done, their results become 4-D files again."""

import json
import logging
import re
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import ignite.distributed as idist
import nibabel
import numpy as np

from ..data.case import Case
from ..data.coding import IntegerCoding
from ..data.formats import open_image
from ..data.nifti import SPATIAL_UNIT, NiftiFile, open_nifti
from ..data.saving import POSTFIXES, UNCERTAINTY, case_folder, volume_name, write_sidecar
from ..data.sidecar import file_stem
from ..geometry.errors import one_line
from ..geometry.files import write_text
from .record import RunRecord
from .rows import DONE

FRAME = re.compile(r"_f\d+(?=(_\d+)?$)")  # in the names of cases that are frames
MM = 2  # NIfTI-1, xyzt_units
SAME_DIRECTION = 1e-3  # largest difference of direction cosines that count as equal

logger = logging.getLogger(__name__)


class FrameJoiner:
    """Put the volumes of all frames of a 4-D file together in OUT/<file>/, with its repetition time, bval and bvec.

    The frames' own volumes are removed then, and their rows in the record name the 4-D files; reports stay where they
    are. A file of which some frames were not wanted, refused or failed stays in frames, and so does one whose 4-D files
    would replace the result of another scan of its name.

    Args:
        record: of the run.
        cases: of all processes.
    """

    def __init__(self, record: RunRecord, cases: Sequence[Case]):
        self.record, self.cases = record, cases

    def run(self) -> None:
        """Wait for the other processes, and join what is complete; a file that cannot be joined stays in frames."""
        try:
            idist.barrier()
        except RuntimeError:  # another process has died: `RunRecord.conclude` says so
            return
        groups: dict[Path, list[Case]] = defaultdict(list)
        for case in self.cases:
            if case.frame is not None and not case.refusal:
                groups[case.files[0]].append(case)
        for file, frames in groups.items() if idist.get_rank() == 0 else ():
            try:
                self._join(file, sorted(frames, key=lambda case: case.frame or 0))
            except (OSError, ValueError) as error:
                name = joined_name([case.name for case in frames], set())
                logger.warning("%s: its frames could not be put together (%s)", name, one_line(str(error)))

    def _join(self, file: Path, frames: Sequence[Case]) -> None:
        out, source = self.record.output_dir, open_image(file)
        rows = [self.record.rows.read(case.name) for case in frames]
        done = [row for row in rows if row is not None and row["status"] == DONE]
        if not len(done) == len(frames) == source.dataobj.shape[3]:
            return
        name = joined_name([case.name for case in frames], {case.name for case in self.cases})
        # An earlier 4-D result of this file is known by the file's location, and by the fingerprint of its first frame
        if self.record.belongs_to_other_scan(replace(frames[0], name=name)):
            logger.warning(
                "%s: stays in frames: %s holds the result of another scan of this name: give another output folder",
                name,
                out.name,
            )
            return
        places = {postfix: [_place(out, case, name, postfix) for case in frames] for postfix in POSTFIXES}
        places = {postfix: found for postfix, found in places.items() if all(place.path.is_file() for place in found)}
        if any(place.index is None for found in places.values() for place in found):
            with case_folder(out, Case(name, (file,))) as folder:
                for postfix, found in places.items():
                    _write(folder / volume_name(name, postfix), found, source, rounds_up=postfix == UNCERTAINTY)
                _write_gradients(file, folder / volume_name(name), source.affine)
        self._move(frames, done, name, list(places))

    def _move(self, frames: Sequence[Case], rows: Sequence[dict], name: str, postfixes: Sequence[str]) -> None:
        """Let the rows name the 4-D files, then remove the volumes of the frames."""
        out = self.record.output_dir
        made = [f"{name}/{path.name}" for path in sorted((out / name).glob(f"{name}_*"))]
        for case, row in zip(frames, rows, strict=True):
            own = {volume_name(case.name, postfix) for postfix in postfixes}
            own |= {f"{file_stem(volume)}.json" for volume in own}
            stay = [file for file in row["files"] if file.split("/")[0] == case.name and Path(file).name not in own]
            if row["files"] != [*made, *stay]:
                self.record.rows.write(case.name, {**row, "files": [*made, *stay]})
            folder = out / case.name
            for volume in own:
                (folder / volume).unlink(missing_ok=True)
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def joined_name(frames: Sequence[str], taken: set[str]) -> str:
    """Return the name of the 4-D result.

    Args:
        frames: names of the cases.
        taken: names of all cases.

    >>> joined_name(["dwi_f00", "dwi_f01"], {"dwi_f00", "dwi_f01"})
    'dwi'
    """
    name = FRAME.sub("", frames[0])
    return f"{name}_4d" if name in taken else name


@dataclass(frozen=True)
class _Place:
    """Where the volume of a frame is: a file of its own, or the volume of this index in a 4-D file."""

    path: Path
    index: int | None = None

    def image(self) -> NiftiFile:
        return open_nifti(self.path)

    def stored(self, image: NiftiFile, joined: np.ndarray | None) -> np.ndarray:
        """The numbers in the file, without slope and intercept; in `joined` those of the 4-D file."""
        return image.dataobj.get_unscaled() if self.index is None or joined is None else joined[..., self.index]


def _place(out: Path, case: Case, name: str, postfix: str) -> _Place:
    own = out / case.name / volume_name(case.name, postfix)
    return _Place(own) if own.is_file() else _Place(out / name / volume_name(name, postfix), case.frame)


def _joined(places: Sequence[_Place]) -> np.ndarray | None:
    """The numbers of the 4-D file that holds some of the frames, unpacked once for all of them; None without one."""
    file = next((place for place in places if place.index is not None), None)
    return None if file is None else file.image().dataobj.get_unscaled()


def _write(path: Path, places: Sequence[_Place], source: NiftiFile, rounds_up: bool) -> None:
    """Write a 4-D file and its sidecar, holding one frame at a time, and the 4-D file that holds some of them."""
    images, joined = [place.image() for place in places], _joined(places)
    coding = _common_coding(places, images, joined, rounds_up)
    first, count = images[0], len(images)
    header = first.header.copy()
    header.set_data_shape((*first.dataobj.shape[:3], count))
    header.set_zooms((*first.header.get_zooms()[:3], float(source.header.get_zooms()[3])))
    header["xyzt_units"] = MM | (int(source.header["xyzt_units"]) & ~SPATIAL_UNIT)  # the unit of time stays
    header.set_data_dtype(np.float32 if coding is None else coding.dtype)
    header.set_slope_inter(*((1.0, 0.0) if coding is None else (coding.slope, coding.intercept)))
    header["vox_offset"] = header.single_vox_offset
    packer = zlib.compressobj(level=1, wbits=31)
    with path.open("wb") as file:
        file.write(packer.compress(header.binaryblock + bytes(4)))  # four zeros: no extensions
        for place, image in zip(places, images, strict=True):
            stored = place.stored(image, joined)
            slope, intercept = _scaling(image)
            if coding is None:
                stored = (stored * np.float64(slope) + intercept).astype(np.float32)
            elif (slope, intercept) != (coding.slope, coding.intercept):
                stored = coding.encode(stored * np.float64(slope) + intercept)
            file.write(packer.compress(np.asarray(stored, header.get_data_dtype()).tobytes(order="F")))
        file.write(packer.flush())
    sidecar = places[0].path.with_name(f"{file_stem(places[0].path)}.json")
    if sidecar.is_file():
        content = json.loads(sidecar.read_text(encoding="utf-8"))
        content["Input"] = {**content["Input"], "frame": None}
        for part in ("Input", "Output"):
            content[part].pop("intensities", None)  # of this frame alone
        content["Output"]["shape"] = [*content["Output"]["shape"][:3], count]
        write_sidecar(path, content)


def _scaling(image: NiftiFile) -> tuple[float, float]:
    return float(image.dataobj.slope), float(image.dataobj.inter)


def _common_coding(
    places: Sequence[_Place], images: Sequence[NiftiFile], joined: np.ndarray | None, rounds_up: bool
) -> IntegerCoding | None:
    """The finest of the frames' codings, where it holds the values of all of them; else None, for float32."""
    if any(image.dataobj.dtype.kind == "f" for image in images):
        return None
    slope, intercept = min(map(_scaling, images))
    dtype = np.result_type(*(image.dataobj.dtype for image in images))
    if len(set(map(_scaling, images))) > 1 and dtype == np.uint8:
        dtype = np.dtype(np.uint16)  # the finest steps of 8 bits seldom reach the values of the other frames
    coding = IntegerCoding(dtype.name, slope, intercept, rounds_up)
    info = np.iinfo(coding.dtype)
    for place, image in zip(places, images, strict=True):
        own_slope, own_intercept = _scaling(image)
        if (own_slope, own_intercept) != (slope, intercept):
            stored = place.stored(image, joined)
            ends = (np.array([stored.min(), stored.max()]) * own_slope + own_intercept - intercept) / slope
            if ends[0] < info.min or ends[1] > info.max:
                return None
    return coding


def _write_gradients(scan: Path, volume: Path, affine: np.ndarray) -> None:
    """Write b-values and gradient directions of a diffusion scan beside a volume, directions along its own axes."""
    values, vectors = (scan.with_name(f"{file_stem(scan)}{end}") for end in (".bval", ".bvec"))
    stem = file_stem(volume)
    if values.is_file():
        write_text(volume.with_name(f"{stem}.bval"), values.read_text(encoding="utf-8"))
    if vectors.is_file() and volume.is_file():
        turn = _axes(nibabel.load(volume).affine).T @ _axes(affine)
        if np.abs(turn - np.eye(3)).max() < SAME_DIRECTION:
            write_text(volume.with_name(f"{stem}.bvec"), vectors.read_text(encoding="utf-8"))
        else:
            turned = turn @ np.loadtxt(vectors, ndmin=2)
            text = "\n".join(" ".join(f"{value:.8g}" for value in row) for row in turned)
            write_text(volume.with_name(f"{stem}.bvec"), text + "\n")


def _axes(affine: np.ndarray) -> np.ndarray:
    """Directions (columns) of the axes that FSL's bvec refers to: the first one mirrored in a right-handed grid."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return axes * [-1 if np.linalg.det(axes) > 0 else 1, 1, 1]
