"""The demo's table and pictures: every number is measured on the files that the inference wrote."""

import json
from collections.abc import Mapping
from pathlib import Path

import nibabel
import numpy as np

from scripts.geometry.refusal import Refusal
from scripts.judging.figures import compare_views, robust_window

from .baselines import Baselines, as_volume
from .scans import PHANTOM_POINT_MM
from .scores import SCORES, Judge

Volume = tuple[np.ndarray, np.ndarray]
METHODS = ("cubic", "consistent cubic", "GLADE")


def report(config: Path, scan: Path, results: Path, pictures: Path, truth: Path | None) -> tuple[list[str], list[Path]]:
    """The lines of the table and the pictures of all cases that are done.

    Args:
        config: configs/inference.yaml.
        scan: what the inference was run on.
        results: its output_dir.
        pictures: folder for the PNG files.
        truth: of the phantom, whose case is the DICOM one; None where the scans are the user's.
    """
    rows = {row["case"]: row for row in json.loads((results / "summary.json").read_text(encoding="utf-8"))["cases"]}
    baselines = Baselines(config, scan)
    lines, drawn, measured = [], [], []
    for name, row in rows.items():
        if name not in baselines.cases:  # of an earlier run
            continue
        if row["status"] != "done":
            lines.append(f"{name}: {row['status']}: {row['reason']}")
            continue
        true = _read(truth) if truth is not None and row["input"]["format"] == "dicom" else None
        volumes = dict(zip(("input", *METHODS[:2]), map(as_volume, baselines(name)), strict=True))
        volumes["GLADE"] = _read(results / name / f"{name}_glade.nii.gz")
        if true is not None:
            measured += _against_truth(volumes, true, row)
        lines.append(_row(name, row))
        drawn.append(_picture(name, volumes, true, results, pictures))
    head = f"{'scan':<34}{'acquired':<42}{'made':<40}{'residual':>10}{'seconds':>9}"
    return [*measured, *([""] if measured else []), head, *lines], drawn


def _against_truth(volumes: Mapping[str, Volume], true: Volume, row: Mapping) -> list[str]:
    """The phantom's table: each method against the truth."""
    factor = row["protocol"]["slice_spacing_mm"] / min(row["output"]["spacing_mm"])
    axis = row["protocol"]["through_plane_axis"]
    judge = Judge(on_grid_of(true, volumes["GLADE"]), axis, factor)
    lines = [f"{'phantom against its truth':<34}" + "".join(f"{title:>20}" for title in SCORES)]
    for method in METHODS:
        values = judge(volumes[method][0])
        lines.append(f"{method:<34}" + "".join(f"{value:>20.3f}" for value in values))
    return lines


def on_grid_of(truth: Volume, result: Volume) -> np.ndarray:
    """The truth's voxels in the array order of the result.

    Raises:
        Refusal: if the two grids are not the same up to the order and direction of axes.
    """
    source = nibabel.io_orientation(truth[1])
    target = nibabel.io_orientation(result[1])
    turn = nibabel.orientations.ornt_transform(source, target)
    array = nibabel.apply_orientation(truth[0], turn)
    affine = truth[1] @ nibabel.orientations.inv_ornt_aff(turn, truth[0].shape)
    if array.shape != result[0].shape or not np.allclose(affine, result[1], atol=1e-2):
        raise Refusal(f"the result has another grid than the truth: {result[0].shape} and {array.shape} voxels")
    return np.ascontiguousarray(array)


def _row(name: str, row: Mapping) -> str:
    acquired, made = (
        f"{' x '.join(map(str, row[side]['shape']))}, {' x '.join(f'{s:.3g}' for s in row[side]['spacing_mm'])} mm"
        for side in ("input", "output")
    )
    residual = "-" if row["residual"] is None else f"{row['residual']:.1e}"
    return f"{name:<34}{acquired:<42}{made:<40}{residual:>10}{row['seconds']:>9.1f}"


def _picture(name: str, volumes: dict[str, Volume], true: Volume | None, results: Path, pictures: Path) -> Path:
    """Input, cubic, result (and truth) in one window, added detail and confidence in their own."""
    shown = {key: volumes[key] for key in ("input", "cubic", "GLADE")}
    point = None
    if true is not None:
        shown["truth"], point = true, PHANTOM_POINT_MM
    shown["added detail"] = _read(results / name / f"{name}_added_detail.nii.gz")
    shown["confidence"] = _read(results / name / f"{name}_confidence.nii.gz")
    low, high = robust_window(volumes["input"][0])
    return compare_views(
        shown,
        pictures / f"{name}.png",
        point_mm=point,
        windows={"added detail": ((low - high) / 4, (high - low) / 4), "confidence": (0, 1)},
        colour_maps={"added detail": "RdBu_r", "confidence": "viridis"},
        title=name,
    )


def _read(path: Path) -> Volume:
    image = nibabel.load(path)
    return np.asarray(image.dataobj, np.float32), image.affine
