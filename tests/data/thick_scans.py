"""Small thick-slice scans as files, for the tests of reading, refusing and recording."""

from pathlib import Path

import nibabel
import numpy as np


def oblique_affine(spacing=(1.0, 1.0, 4.0), angle_deg=12.0, origin=(-30.0, 12.0, 7.5)) -> np.ndarray:
    c, s = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) * np.asarray(spacing)
    affine[:3, 3] = origin
    return affine


def voxels(shape=(24, 20, 8), seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 900, size=shape).astype(np.int16)


def write_scan(path: Path, data=None, spacing=(1.0, 1.0, 4.0), affine=None, **header_fields) -> Path:
    """Writes a scan; header fields go into a .nii as they are, past nibabel's own repairs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(
        voxels() if data is None else data, oblique_affine(spacing) if affine is None else affine
    )
    nibabel.save(image, path)
    if header_fields:
        with path.open("r+b") as file:
            header = nibabel.Nifti1Header.from_fileobj(file)
            for name, value in header_fields.items():
                header[name] = value
            file.seek(0)
            header.write_to(file)
    return path
