"""Comparison of DICOM input and output with other libraries and with DICOM validators.

`python -m benchmarks.dicom_oracles SCANS [OUT]`

SCANS: every accepted series is read by GLADE, ITK and highdicom. OUT, the results of `run inference` on SCANS: every
derived series is read by ITK, pydicom and highdicom and compared with the NIfTI volume beside it. Both store integers
of the same values, each with a slope of its own, so they may differ by half a step of each, no more. The errors are
listed that `dciodvfy -new` and `dcentvfy` (Debian's dicom3tools) find in it but not in its source.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np

from scripts.data.saving import volume_name
from scripts.dicom.discovery import Volume, survey
from scripts.dicom.pixels import read_planes
from tests.dicom.oracles import highdicom_read, itk_read, pydicom_read

MAX_MM, MAX_VOXEL, MAX_ROUNDING = 1e-3, 1e-6, 1.01
"""Largest distance of corners in mm, difference of voxels relative to their range, and the same of stored integers in
sums of half a step of each; a hundredth is for the decimal digits of the slopes and for single precision."""
NEIGHBOURS = 3
"""Number of derived files that dcentvfy compares with a file of the source."""


def differences(array: np.ndarray, affine: np.ndarray, other: np.ndarray, other_affine: np.ndarray) -> tuple:
    """Return the largest distance of corners in mm and difference of voxels, for any order of the other's axes."""
    there = nibabel.orientations.ornt_transform(*(nibabel.io_orientation(a) for a in (other_affine, affine)))
    other_affine = other_affine @ nibabel.orientations.inv_ornt_aff(there, other.shape)
    other = nibabel.orientations.apply_orientation(other, there)
    if array.shape != other.shape:
        return np.inf, np.inf
    corners = np.array([*np.ndindex(2, 2, 2)]) * (np.array(array.shape) - 1)
    apart = nibabel.affines.apply_affine(affine, corners) - nibabel.affines.apply_affine(other_affine, corners)
    return float(np.linalg.norm(apart, axis=1).max()), float(np.abs(array - other.astype(np.float64)).max())


def sources(found: list[Volume]) -> int:
    """Print a row per series and reader; return the number of those that differ."""
    bad = 0
    for volume in found:
        ours = read_planes(volume.frames), volume.stack.affine
        files = list(dict.fromkeys(frame.file for frame in volume.frames))
        for name, reader in (("ITK", itk_read), ("highdicom", highdicom_read)):
            if name == "highdicom" and volume.frames[0].enhanced:
                continue  # get_volume_from_series takes single-frame images
            distance, voxel = differences(*ours, *reader(files))
            bad += distance > MAX_MM or voxel > MAX_VOXEL * np.ptp(ours[0])
            sys.stdout.write(f"{volume.name:40} read by {name:9} {distance:.1e} mm  voxels {voxel:g}\n")
    return bad


def errors(command: list[str], *files: str) -> set[str]:
    """Return the lines of a validator's report that begin with "Error"."""
    report = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
    return {line for line in (report.stderr + report.stdout).splitlines() if line.startswith("Error")}


def derived(volume: Volume, folder: Path) -> bool:
    """Print the rows of a derived series; return whether it differs or has an error that the source has not."""
    files = [str(file) for file in sorted(folder.glob("*.dcm"))]
    nifti = nibabel.load(folder.parent / volume_name(volume.name))
    rounding = (float(getattr(pydicom_header(files[0]), "RescaleSlope", 1.0)) + step_of(nifti)) / 2
    bad = False
    for name, reader in (("ITK", itk_read), ("pydicom", pydicom_read), ("highdicom", highdicom_read)):
        distance, voxel = differences(nifti.get_fdata(), nifti.affine, *reader(files))
        share = voxel / rounding
        sys.stdout.write(f"{volume.name:40} back by {name:9} {distance:.1e} mm  voxels {share:.2f} of the rounding\n")
        bad |= distance > MAX_MM or share > MAX_ROUNDING
    source = volume.frames[0].file
    old, found = errors(["dciodvfy", "-new"], source), set()
    for file in files:
        found |= errors(["dciodvfy", "-new"], file)
    new = found - old | errors(["dcentvfy"], source, *files[:NEIGHBOURS]) - errors(["dcentvfy"], source)
    counts = f"{len(found)} errors in {len(files)} files, {len(old)} in a file of the source"
    sys.stdout.write(f"{volume.name:40} dciodvfy: {counts}; new with dcentvfy: {len(new)}\n")
    sys.stdout.writelines(f"    {line}\n" for line in sorted(new))
    return bad or bool(new)


def step_of(nifti: nibabel.Nifti1Image) -> float:
    """Return by how much neighbouring stored values of a NIfTI volume differ; 0.0 where they are floating point.

    >>> step_of(nibabel.Nifti1Image(np.zeros((2, 2, 2), np.float32), np.eye(4)))
    0.0
    """
    return float(nifti.dataobj.slope) if nifti.get_data_dtype().kind in "iu" else 0.0


def pydicom_header(file: str):
    """Return the header of one file."""
    import pydicom

    return pydicom.dcmread(file, stop_before_pixels=True)


def main(arguments: list[str]) -> int:
    """Print the tables; the exit code is 1 where readers differ or a derived series has an error of its own."""
    if not arguments or (len(arguments) > 1 and not shutil.which("dciodvfy")):
        sys.stdout.write(f"{__doc__}\nneeded for OUT: dicom3tools\n")
        return 2
    usable = [volume for volume in survey(arguments[0]).volumes if not volume.reasons]
    differing = sources(usable)
    found = [Path(arguments[1]) / v.name / f"{v.name}_glade_dicom" for v in usable] if len(arguments) > 1 else []
    bad = [derived(volume, folder) for volume, folder in zip(usable, found, strict=False) if folder.is_dir()]
    return int(any(bad) or differing > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
