"""NIfTI files of the phantom: its truth and its thick-slice acquisition.

Command: `python -m scripts.phantom.files OUT --shape 160 160 144 --slice_spacing_mm 6`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor

from ..data.coding import WHOLE
from ..data.saving import write_nifti
from ..geometry.errors import Refusal
from ..geometry.files import write_text
from ..geometry.grid import Grid
from ..physics.profile import ACQUISITION_OF_PROFILE, PROFILES
from .abdomen import abdomen, acquire, bladder, coronal_grid


@dataclass(frozen=True)
class PhantomScan:
    """A phantom and its acquisition.

    Attributes:
        truth: (X, Y, Z) float32, scanner units.
        truth_grid: of the truth, RAS mm.
        slices: (X, Y, N) float32, scanner units.
        slices_grid: of the slices, RAS mm.
        slice_thickness_mm: FWHM of the slice profile.
        profile: "rect", "slr", "gauss" or "fourier".
    """

    truth: np.ndarray
    truth_grid: Grid
    slices: np.ndarray
    slices_grid: Grid
    slice_thickness_mm: float
    profile: str

    @property
    def acquisition_type(self) -> str:
        """MRAcquisitionType as a scanner's header states it: "3D" for a Fourier-encoded slab, else "2D"."""
        return ACQUISITION_OF_PROFILE.get(self.profile, "2D")


def make_scan(
    shape: tuple[int, int, int],
    spacing_mm: float = 1.3,
    slice_spacing_mm: float = 6.0,
    slice_thickness_mm: float | None = None,
    profile: str = "fourier",
    noise_sigma: float = 8.0,
    seed: int = 0,
    centre_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> PhantomScan:
    """Return a phantom on an isotropic coronal grid, with its thick coronal slices.

    Args:
        shape: voxels of the truth to left, foot and back.
        spacing_mm: of the truth.
        slice_spacing_mm: centre to centre.
        slice_thickness_mm: FWHM of the profile; None: the spacing.
        profile: "rect", "slr", "gauss" or "fourier".
        noise_sigma: standard deviation of the Rician noise, scanner units; the liver has 470.
        seed: of body and noise.
        centre_mm: of the field of view, RAS; (0, 0, 0) is the middle of the body.

    >>> scan = make_scan((16, 16, 40), spacing_mm=3.0)
    >>> scan.truth.shape, scan.slices.shape, scan.acquisition_type
    ((16, 16, 40), (16, 16, 20), '3D')
    """
    grid = coronal_grid(shape, tuple(n * spacing_mm for n in shape), centre_mm)
    truth = abdomen(grid, seed)
    thickness = slice_spacing_mm if slice_thickness_mm is None else slice_thickness_mm
    slices, slices_grid = acquire(truth, grid, slice_spacing_mm, thickness, profile, noise_sigma, seed)
    return PhantomScan(truth, grid, slices, slices_grid, thickness, profile)


def on_grid(values: np.ndarray, grid: Grid) -> MetaTensor:
    """Return an array (X, Y, Z) as a volume (1, X, Y, Z) with the affine of its grid."""
    return MetaTensor(torch.from_numpy(values)[None], affine=torch.tensor(grid.affine))


def write_scan(scan: PhantomScan, folder: Path, name: str = "phantom") -> tuple[Path, Path]:
    """Write scans/NAME.nii.gz with its BIDS sidecar, and truth/NAME_truth.nii.gz; return both paths.

    They go to separate folders, so that `scans` can be the input of inference.
    """
    for part in ("scans", "truth"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    sidecar = {
        "Modality": "MR",
        "MRAcquisitionType": scan.acquisition_type,
        "SliceThickness": round(scan.slice_thickness_mm, 4),
        "SpacingBetweenSlices": round(float(scan.slices_grid.spacing_mm[2]), 4),
    }
    write_text(folder / "scans" / f"{name}.json", json.dumps(sidecar, indent=2) + "\n")
    image, truth = folder / "scans" / f"{name}.nii.gz", folder / "truth" / f"{name}_truth.nii.gz"
    write_nifti(on_grid(scan.slices, scan.slices_grid), image, WHOLE)
    write_nifti(on_grid(scan.truth, scan.truth_grid), truth)
    return image, truth


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: write one phantom as NIfTI."""
    parser = argparse.ArgumentParser(prog="python -m scripts.phantom.files", description=__doc__.splitlines()[0])
    parser.add_argument("output_dir", type=Path)
    parser.add_argument("--name", default="phantom", help="file name without .nii.gz")
    parser.add_argument("--shape", type=int, nargs=3, default=(256, 256, 208), help="voxels of the truth")
    parser.add_argument("--spacing_mm", type=float, default=1.3, help="of the truth")
    parser.add_argument("--slice_spacing_mm", type=float, default=6.0)
    parser.add_argument("--slice_thickness_mm", type=float, default=None, help="default: the slice spacing")
    parser.add_argument("--profile", choices=PROFILES, default="fourier")
    parser.add_argument("--noise_sigma", type=float, default=8.0, help="scanner units; the liver has 470")
    parser.add_argument("--centre_mm", type=float, nargs=3, default=(0, 0, 0), help="of the field of view, RAS")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bladder", action="store_true", help="write the bladder's share of each truth voxel too")
    options = vars(parser.parse_args(arguments))
    folder, name, label = options.pop("output_dir"), options.pop("name"), options.pop("bladder")
    options |= {key: tuple(options[key]) for key in ("shape", "centre_mm")}
    try:
        scan = make_scan(**options)
        paths = [*write_scan(scan, folder, name)]
        if label:
            share = bladder(scan.truth_grid, options["seed"])
            path = folder / "truth" / f"{name}_bladder.nii.gz"
            write_nifti(on_grid(share, scan.truth_grid), path)
            paths.append(path)
    except (Refusal, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.writelines(f"{path}\n" for path in paths)
    return 0


if __name__ == "__main__":
    sys.exit(main())
