"""Position of a bright voxel in the derived series, after the shipped inference workflow."""

import json
import sys

import monai.bundle
import numpy as np
from scipy import ndimage

from scripts.dicom.synthetic_series import write_series
from tests.workflows.tiny_inference import SHIPPED

from .conftest import AFFINES
from .oracles import itk_read

VOXEL = (17, 21, 4)
SHAPE = (40, 44, 9)


def test_a_bright_voxel_keeps_its_world_position_through_super_resolution(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    scan = 100 + ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 30, SHAPE), 1)
    scan[VOXEL] = 2000
    for number, affine in enumerate(AFFINES.values(), start=1):
        write_series(tmp_path / "scans" / str(number), scan, affine, series_number=number)
    monai.bundle.run(
        "inference",
        config_file=str(SHIPPED),
        dataset_dir=str(tmp_path / "scans"),
        output_dir=str(tmp_path / "out"),
        logging_file=False,
    )
    rows = json.loads((tmp_path / "out" / "summary.json").read_text())["cases"]
    assert [row["status"] for row in rows] == ["done"] * len(AFFINES)
    for row, (name, affine) in zip(rows, AFFINES.items(), strict=True):
        folder = tmp_path / "out" / row["case"] / f"{row['case']}_glade_dicom"
        voxels, place = itk_read(sorted(map(str, folder.iterdir())))
        spacing = np.linalg.norm(place[:3, :3], axis=0)
        assert np.ptp(spacing) < 0.02 * spacing.mean(), name
        peak = np.unravel_index(voxels.argmax(), voxels.shape)
        near = tuple(slice(max(p - 4, 0), p + 5) for p in peak)
        blob = np.clip(voxels[near] - 0.25 * voxels.max(), 0, None)
        centre = np.array(ndimage.center_of_mass(blob)) + [part.start for part in near]
        moved = np.linalg.norm(place @ [*centre, 1] - affine @ [*VOXEL, 1])
        assert moved < 0.5 * spacing.mean(), (name, moved, spacing)
