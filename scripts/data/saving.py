"""Saving of results: all files of a case are written into a hidden folder, which then becomes the case's folder."""

import os
import shutil
import zlib
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from monai.config import KeysCollection
from monai.data import ImageWriter, MetaTensor
from monai.transforms import SaveImaged

from ..geometry.checksums import sha256_of
from ..geometry.files import atomic_file, atomic_folder, write_json
from .case import DICOM, Case
from .coding import IntegerCoding, coding_by_noise, coding_upwards
from .nifti import SCANNER, SPACE_CODE
from .outputs import DICOM_SERIES, OUTPUTS, REPORT_PAGE, VOLUME, chosen_outputs
from .reference import WRITTEN, ReferenceGrid
from .sidecar import file_stem

RESULT, ADDED_DETAIL, UNCERTAINTY = POSTFIXES = ("glade", "added_detail", "uncertainty")  # of the volumes of a case
SERIES = f"_{RESULT}_dicom"  # ends the name of the folder of a derived series
REPORT = "_report.html"  # ends the name of the page about a case
VIEWER = "_viewer.html"  # ends the name of the page with its viewer, where that is too large for the report
COVERAGE, RESIDUAL = "coverage", "residual"  # of several stacks: a volume, and a folder with one for each stack
VOLUME_ENDINGS = tuple(f"_{postfix}{end}" for postfix in (*POSTFIXES, COVERAGE) for end in (".nii.gz", ".json"))
RESULT_ENDINGS = (*VOLUME_ENDINGS, f"_{RESIDUAL}", SERIES, REPORT, VIEWER)


class SaveImageCased(SaveImaged):
    """Write OUT/<case>/<case>_<postfix>.nii.gz for each key, and for DICOM input a derived series beside it.

    Complete or not at all: everything goes to a hidden folder first, which then replaces OUT/<case> as a whole. The
    affine is the key's own; nothing is resampled without `like`. It inherits from SaveImaged because MONAI Label and
    MONAI Deploy, which write results themselves, recognise and leave out transforms of that class.

    Args:
        keys: keys of results, MetaTensors of shape (1, X, Y, Z) with a RAS affine in mm.
        output_dir: OUT.
        postfixes: of the file of each key.
        write: names of `OUTPUTS` that are written; None: all, and volumes with other postfixes.
        dicom_writer: MONAI ImageWriter whose `write` takes a folder and whose `set_metadata` takes "affine" and
            "source" (the DICOM volume of the case); used for the key with the postfix "glade" of DICOM cases. None: no
            DICOM is written.
        extra: for "report": called with the data and the folder that is being filled; writes further files <case>_...
            there, which are kept or lost together with the volumes. None: no more files.
        describe: called with the case, the postfix and the volume; gives the content of the JSON file beside a volume,
            to which the checksum of the volume's file is added. None: no such files.
        like: the grid on which the NIfTI files are written; the DICOM series and the report keep the isotropic one.
        replacing: as in `case_folder`.
        allow_missing_keys: as in MONAI; a result that is not there is not written.

    >>> import tempfile, torch
    >>> volume = MetaTensor(torch.rand(1, 4, 4, 4), affine=torch.eye(4))
    >>> with tempfile.TemporaryDirectory() as out:
    ...     _ = SaveImageCased("pred", out, postfixes=["glade"])({"case": Case("knee", ()), "pred": volume})
    ...     [path.relative_to(out).as_posix() for path in Path(out).rglob("*.nii.gz")]
    ['knee/knee_glade.nii.gz']
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_dir: str | os.PathLike,
        postfixes: Sequence[str] = POSTFIXES,
        write: Sequence[str] | None = None,
        dicom_writer: ImageWriter | None = None,
        extra: Callable[[Mapping, Path], Any] | None = None,
        describe: Callable[[Case, str, MetaTensor], Mapping[str, Any]] | None = None,
        like: ReferenceGrid | None = None,
        replacing: Callable[[Case, list[str]], Collection[str]] | None = None,
        allow_missing_keys: bool = False,
    ):
        super().__init__(keys, output_dir=Path(output_dir), resample=False, allow_missing_keys=allow_missing_keys)
        if len(postfixes) != len(self.keys):
            raise ValueError(f"postfixes must be as many as keys, got {list(postfixes)} for {list(self.keys)}")
        self.output_dir = Path(output_dir)
        self.postfixes = tuple(postfixes)
        self.left_out = set() if write is None else set(OUTPUTS) - set(chosen_outputs(write))
        self.dicom_writer = None if DICOM_SERIES in self.left_out else dicom_writer
        self.extra = None if REPORT_PAGE in self.left_out else extra
        self.describe = describe
        self.like = like or ReferenceGrid()
        self.replacing = replacing

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The data; the results are in OUT/<case>/ when this returns.

        With `like`, meta["written"] of the result says what its file holds; the grid alone where it has no file.

        Raises:
            OSError: if they cannot be written (disk full, no permission); nothing half-written is left.
        """
        d = dict(data)
        case: Case = d["case"]
        with case_folder(self.output_dir, case, self.replacing) as folder:
            for key, postfix in self.key_iterator(d, self.postfixes):
                if (VOLUME if postfix == RESULT else postfix) not in self.left_out:
                    self._write_volume(d[key], folder / volume_name(case.name, postfix), case, postfix)
                elif postfix == RESULT and self.like.grid is not None:  # that of the other volumes
                    d[key].meta[WRITTEN] = (self.like.grid.shape, self.like.grid.affine)
                if postfix == RESULT and self.dicom_writer is not None and case.format == DICOM:
                    write_series(self.dicom_writer, d[key], case, folder)
            if self.extra is not None:
                self.extra(d, folder)
        return d

    def _write_volume(self, volume: MetaTensor, path: Path, case: Case, postfix: str) -> None:
        own, volume = volume, self.like(volume, order=1 if postfix == UNCERTAINTY else 3)
        write_volume(volume, path, postfix)
        if volume is not own:
            own.meta[WRITTEN] = (volume.shape[-3:], volume.affine, float(volume.min()), float(volume.max()))
        if self.describe is not None:
            write_sidecar(path, self.describe(case, postfix, volume))


def volume_name(case: str, postfix: str = RESULT) -> str:
    """Return the file name of a volume of a case.

    >>> volume_name("knee"), volume_name("knee", UNCERTAINTY)
    ('knee_glade.nii.gz', 'knee_uncertainty.nii.gz')
    """
    return f"{case}_{postfix}.nii.gz"


def volume_file(output_dir: str | os.PathLike, case: str, postfix: str = RESULT) -> Path:
    """Return the path of a volume of a case in OUT."""
    return Path(output_dir) / case / volume_name(case, postfix)


def write_sidecar(volume: Path, content: Mapping[str, Any]) -> None:
    """Write the JSON file beside a NIfTI file: the content, and the checksum of the NIfTI file as it is now."""
    write_json(volume.with_name(f"{file_stem(volume)}.json"), {**content, "SHA256": sha256_of(volume)})


def write_series(writer: ImageWriter, volume: MetaTensor, case: Case, folder: Path) -> None:
    """Write the result (1, X, Y, Z) of a DICOM case as a derived series into folder/<case>_glade_dicom."""
    writer.set_data_array(volume, channel_dim=0)
    sources = {"source": case.volume, "more_sources": case.more_volumes}
    writer.set_metadata({"affine": volume.affine, **sources}, resample=False)
    writer.write(folder / f"{case.name}{SERIES}")


@contextmanager
def case_folder(
    output_dir: Path, case: Case, replacing: Callable[[Case, list[str]], Collection[str]] | None = None
) -> Iterator[Path]:
    """Give a hidden folder to fill; on success it replaces OUT/<case> as a whole.

    Files in OUT/<case> that are no results, such as the user's segmentations, are kept; earlier results only where
    `replacing` says so.

    Args:
        output_dir: OUT.
        case: the case.
        replacing: called with the case and the names of its files when all are written, before they replace others;
            returns the names of those earlier results that stay beside them.

    Raises:
        OSError: if it cannot be written (disk full, no permission); nothing half-written is left.
    """
    target = output_dir / case.name
    try:
        with atomic_folder(target) as folder:
            yield folder
            names = sorted(path.name for path in folder.iterdir())
            valid = [] if replacing is None else replacing(case, names)
            _keep_others(target, folder, {*names, *(case.name + end for end in RESULT_ENDINGS)} - {*valid})
    except OSError as error:
        why = error.strerror or str(error)
        raise OSError(error.errno, f"the result cannot be written to {output_dir.name}: {why}") from None


def _keep_others(earlier: Path, folder: Path, results: Collection[str]) -> None:
    """Put what is no result into the new folder too: as another name of the same file, or as a copy."""
    for path in earlier.iterdir() if earlier.is_dir() else ():
        if path.name in results:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, folder / path.name, symlinks=True, copy_function=_link)
        else:
            _link(path, folder / path.name)


def _link(source: str | os.PathLike, target: str | os.PathLike) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target, follow_symlinks=False)


def coding_of_result(volume: MetaTensor, postfix: str = RESULT) -> IntegerCoding | None:
    """Return how a volume of a case is stored: result and added detail by the noise, the uncertainty rounded up.

    Args:
        volume: (1, X, Y, Z), with meta["noise"] in its unit where that was estimated.
        postfix: which volume it is.

    Returns:
        None for float32: other volumes, and where the noise is not known or integers would lose over a tenth of it.
    """
    if postfix == UNCERTAINTY:
        return coding_upwards(volume.detach().cpu().numpy())
    if postfix not in (RESULT, ADDED_DETAIL):
        return None
    return coding_by_noise(float(volume.min()), float(volume.max()), volume.meta.get("noise"))


def write_volume(volume: MetaTensor, path: str | os.PathLike, postfix: str = RESULT, mode: int | None = None) -> None:
    """Write a volume of a case, stored as `coding_of_result` says; the one way for every workflow and app.

    Args:
        volume: (1, X, Y, Z), with meta["noise"] in its unit where that was estimated.
        path: of the .nii.gz file.
        postfix: which volume it is.
        mode: as in `atomic_file`.
    """
    write_nifti(volume, path, coding_of_result(volume, postfix), mode)


def write_nifti(
    volume: MetaTensor, path: str | os.PathLike, coding: IntegerCoding | None = None, mode: int | None = None
) -> None:
    """Write a volume (1, X, Y, Z) as .nii.gz; `coding` as in `nifti_bytes`, `mode` as in `atomic_file`."""
    with atomic_file(path, mode) as temporary:
        temporary.write_bytes(nifti_bytes(volume, coding))


def nifti_bytes(volume: MetaTensor, coding: IntegerCoding | None = None) -> bytes:
    """Return the gzip-compressed NIfTI-1 file of a volume; the same volume always gives the same bytes.

    Args:
        volume: (1, X, Y, Z) with a RAS affine in mm, written as qform and sform, both with the code of the space of the
            scan (meta["space_code"]; that of the scanner where it has none, as DICOM has).
        coding: the integers that the file stores, with their slope and intercept; None: float32.

    >>> import gzip, torch
    >>> volume = MetaTensor(torch.full((1, 4, 4, 4), 2.6), affine=torch.diag(torch.tensor([1.0, 1, 6, 1])))
    >>> image = nibabel.Nifti1Image.from_bytes(gzip.decompress(nifti_bytes(volume, IntegerCoding("int16", 0.5))))
    >>> float(image.dataobj[0, 0, 0]), image.header.get_zooms()[2].item()  # rounded to the steps of 0.5
    (2.5, 6.0)
    """
    image = nifti_image(volume, coding)
    # Noise in float32 repeats only the zeros of air: searching for longer matches takes three times as long and gives
    # a larger file; integers become a tenth smaller by it (measured). wbits 31 is a gzip file without a time in it
    strategy = zlib.Z_RLE if coding is None else zlib.Z_DEFAULT_STRATEGY
    packer = zlib.compressobj(level=1, wbits=31, strategy=strategy)
    return packer.compress(image.to_bytes()) + packer.flush()


def nifti_image(volume: MetaTensor, coding: IntegerCoding | None = None) -> nibabel.Nifti1Image:
    """Return a volume (1, X, Y, Z) as the image whose file `nifti_bytes` gives.

    >>> import torch
    >>> nifti_image(MetaTensor(torch.ones(1, 2, 2, 2), affine=torch.eye(4))).shape
    (2, 2, 2)
    """
    values, affine = volume.detach().cpu().numpy()[0], np.asarray(volume.affine, np.float64)
    if coding is None:
        image = nibabel.Nifti1Image(values.astype(np.float32, copy=False), affine)
    else:
        stored = np.empty(values.shape, coding.dtype, order="F")
        for index in range(values.shape[-1]):  # a plane at a time: all of it in float64 would set the peak memory
            stored[..., index] = coding.encode(values[..., index])
        image = nibabel.Nifti1Image(stored, affine)
        image.header.set_slope_inter(coding.slope, coding.intercept)
    image.header.set_xyzt_units(xyz="mm")
    code = int(volume.meta.get(SPACE_CODE, SCANNER))
    image.set_sform(affine, code=code)
    image.set_qform(image.affine, code=code)  # of the affine as the sform stores it, in float32
    return image
