"""The demo's scans: the phantom as a DICOM series, whose truth is known, and the real scan of docs/example."""

import shutil
from pathlib import Path

import nibabel

from scripts.data.saving import write_nifti
from scripts.dicom.synthetic_series import write_series
from scripts.phantom.files import PhantomScan, make_scan, on_grid

PHANTOM_SHAPE = (184, 160, 120)  # 294 x 256 x 192 mm: from mid-liver to bladder, and 32 slices exactly
PHANTOM_SPACING_MM = 1.6
PHANTOM_CENTRE_MM = (0.0, 0.0, -20.0)
SLICE_SPACING_MM = 6.0
PHANTOM_POINT_MM = (70.0, -6.0, 24.0)  # through liver, kidney, great vessels and bowel
EXAMPLE_PIXELS = 240  # of 320 in each direction: the whole takes two slow cores a minute more
DESCRIPTION = "phantom coronal VIBE"


def make_phantom(folder: Path, truth: Path, seed: int = 0, shape: tuple[int, int, int] = PHANTOM_SHAPE) -> PhantomScan:
    """Make the phantom; write its acquisition as a DICOM series into `folder` and its truth as NIfTI to `truth`."""
    scan = make_scan(
        shape, PHANTOM_SPACING_MM, SLICE_SPACING_MM, profile="fourier", seed=seed, centre_mm=PHANTOM_CENTRE_MM
    )
    if folder.exists():
        shutil.rmtree(folder)
    write_series(
        folder,
        scan.slices,
        scan.slices_grid.affine,
        slice_thickness_mm=scan.slice_thickness_mm,
        acquisition_type=scan.acquisition_type,
        series_description=DESCRIPTION,
        header={"BodyPartExamined": "ABDOMEN"},
        seed=seed,
    )
    truth.parent.mkdir(parents=True, exist_ok=True)
    write_nifti(on_grid(scan.truth, scan.truth_grid), truth)
    return scan


def copy_example(example: Path, folder: Path) -> None:
    """Put the middle of the real scan (in-plane, every slice) and its sidecar beside the phantom."""
    for file in sorted(example.glob("*.nii.gz")):
        image = nibabel.load(file)
        first = [max(0, (n - EXAMPLE_PIXELS) // 2) for n in image.shape[:2]]
        middle = image.slicer[tuple(slice(start, start + EXAMPLE_PIXELS) for start in first)]
        nibabel.save(middle, folder / file.name)
    for file in sorted(example.glob("*.json")):
        shutil.copy2(file, folder / file.name)
