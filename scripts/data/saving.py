"""Writing the results of a case: into a hidden folder first, then all of it into its place."""

import json
import os
import shutil
import zlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path

import nibabel
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import ImageWriter, MetaTensor, NibabelWriter
from monai.transforms import SaveImaged

from ..geometry.files import PARTIAL, atomic_file

RESULT = "glade"  # the postfix of the isotropic volume; its DICOM series is called after it


class SaveImageCased(SaveImaged):
    """Writes OUT/<case>/<case>_<postfix>.nii.gz for each key, float32, and for DICOM input a derived series beside it.

    Written whole or not at all: everything goes to OUT/.<case>.partial/ first. What a killed run left there is removed
    when the case is done again. The affine is the key's own; nothing is resampled. It is a SaveImaged, and called so,
    because MONAI Label and MONAI Deploy write by themselves and leave such transforms out.

    Args:
        keys: keys of results, MetaTensors of shape (1, X, Y, Z) with a RAS affine in mm.
        output_dir: OUT.
        postfixes: how the file of each key ends.
        dicom_writer: MONAI ImageWriter whose `write` takes a folder and whose `set_metadata` takes "affine" and, as a
            JSON list, "source_files"; used for the key whose postfix is "glade" where the case's "format" is "dicom"
            (its files are listed under "sources"). None: no DICOM is written.
        extra: takes the data and the folder that is being filled, and writes further files of the case there (a report,
            called <case>_...); they come and go with the volumes. None: no more files.
        allow_missing_keys: as in MONAI; a result that is not there is not written.
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_dir: str | os.PathLike,
        postfixes: Sequence[str] = (RESULT, "added_detail", "confidence"),
        dicom_writer: ImageWriter | None = None,
        extra: Callable[[Mapping, Path], object] | None = None,
        allow_missing_keys: bool = False,
    ):
        super().__init__(keys, output_dir=output_dir, resample=False, allow_missing_keys=allow_missing_keys)
        if len(postfixes) != len(self.keys):
            raise ValueError(f"postfixes must be as many as keys, got {list(postfixes)} for {list(self.keys)}")
        self.output_dir = Path(output_dir)
        self.postfixes = tuple(postfixes)
        self.dicom_writer = dicom_writer
        self.extra = extra

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """The case as it came; its results lie in OUT/<case>/ when this returns.

        Raises:
            OSError: if they cannot be written (disk full, no permission); nothing half-written is left.
        """
        d = dict(data)
        case = str(d["case"])
        partial = partial_folder(self.output_dir, case)
        try:
            remove_partial(self.output_dir, case)
            partial.mkdir(parents=True)
            for key, postfix in self.key_iterator(d, self.postfixes):
                write_nifti(d[key], partial / f"{case}_{postfix}.nii.gz")
                if postfix == RESULT and self.dicom_writer is not None and d.get("format") == "dicom":
                    self._write_series(d[key], d["sources"], partial / f"{case}_{postfix}_dicom")
            if self.extra is not None:
                self.extra(d, partial)
            put_in_place(partial, self.output_dir / case)
        except OSError as error:
            why = error.strerror or str(error)
            raise OSError(error.errno, f"the result cannot be written to {self.output_dir.name}: {why}") from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return d

    def _write_series(self, volume: MetaTensor, sources: Sequence[str], folder: Path) -> None:
        meta = {"affine": volume.affine, "source_files": json.dumps(list(sources))}
        self.dicom_writer.set_data_array(volume, channel_dim=0)
        self.dicom_writer.set_metadata(meta, resample=False)
        self.dicom_writer.write(folder)


def partial_folder(output_dir: Path, case: str) -> Path:
    """Where the results of a case lie until all of them are written."""
    return output_dir / f".{case}{PARTIAL}"


def remove_partial(output_dir: Path, case: str) -> None:
    """Removes what a killed run left of a case."""
    partial = partial_folder(output_dir, case)
    if partial.exists():
        shutil.rmtree(partial)


def write_nifti(volume: MetaTensor, path: str | os.PathLike) -> None:
    """Write a volume (1, X, Y, Z) as .nii.gz through `atomic_file`: float32, RAS affine in mm as qform and sform."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(nifti_bytes(volume))


def nifti_bytes(volume: MetaTensor) -> bytes:
    """The gzip-compressed NIfTI-1 file of a volume (1, X, Y, Z); the same volume always gives the same bytes."""
    header = nibabel.Nifti1Header()
    header.set_xyzt_units(xyz="mm")
    header.set_data_dtype(np.float32)
    writer = NibabelWriter(output_dtype=np.float32)
    writer.set_data_array(volume.detach().cpu(), channel_dim=0, squeeze_end_dims=True)
    writer.set_metadata({"affine": torch.as_tensor(volume.affine)}, resample=False)
    image = writer.create_backend_obj(writer.data_obj, affine=writer.affine, dtype=writer.output_dtype, header=header)
    image.set_sform(image.affine, code=1)
    image.set_qform(image.affine, code=1)
    # Noise in float32 repeats only the zeros of air: searching for longer matches takes three times as long and gives
    # a larger file (measured). wbits 31 is a gzip file without a time in its header
    packer = zlib.compressobj(level=1, wbits=31, strategy=zlib.Z_RLE)
    return packer.compress(image.to_bytes()) + packer.flush()


def put_in_place(partial: Path, target: Path) -> None:
    """Moves a finished folder to its place; in a folder that is already there only what has the same name goes."""
    if not target.exists():
        partial.rename(target)
        return
    for new in sorted(partial.iterdir()):
        old = target / new.name
        if old.is_dir():  # a folder cannot be renamed onto a full one
            aside = partial / f".{new.name}.old"
            old.rename(aside)
        new.replace(old)
