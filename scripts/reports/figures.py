"""Figures of volumes side by side: rows are methods, columns are three views, one physical scale, one window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import nibabel
import numpy as np

from ..geometry.errors import Refusal
from ..geometry.views import VIEWS

matplotlib.use("Agg")
from matplotlib import patheffects, pyplot  # after the choice of a backend that needs no display

WINDOW_PERCENTILES = (1.0, 99.5)  # of the values that are not background
CELL_INCHES = 4.0
DOTS_PER_INCH = 140
INK, PAPER, LETTER = "#f2f2f2", "#101214", "#ffd24a"
Volume = tuple[np.ndarray, np.ndarray]


def compare_views(
    volumes: Mapping[str, Volume],
    path: str | Path,
    *,
    point_mm: Sequence[float] | None = None,
    field_mm: float | None = None,
    window_of: str | None = None,
    windows: Mapping[str, tuple[float, float]] | None = None,
    colour_maps: Mapping[str, str] | None = None,
    title: str = "",
) -> Path:
    """Draw volumes as rows and the sagittal, coronal and axial planes through one world point as columns.

    Voxels are drawn as they are (nearest), in millimetres, so that a thick slice looks thick.

    Args:
        volumes: name -> (array (X, Y, Z), affine 4 x 4, voxel index to RAS mm); any orientation, also oblique, where
            the array's own planes are drawn and named after the nearest anatomical ones.
        path: of the PNG file; its folder is made.
        point_mm: RAS mm; by default the centre of the first volume's field of view.
        field_mm: side of the square shown about the point; by default the whole field of view.
        window_of: name of the volume whose percentiles give the intensity window of all; by default the first.
        windows: name -> (low, high) for rows with a scale of their own (added detail, confidence), in their own units.
        colour_maps: name -> matplotlib colour map; grey where not given.
        title: of the whole figure.

    Returns:
        The path.

    Raises:
        Refusal: if there is no volume, one is not 3-D and finite, or a name is unknown.
    """
    windows, colour_maps = dict(windows or {}), dict(colour_maps or {})
    _check(volumes, window_of, windows, colour_maps)
    canonical = {name: _canonical(*volume) for name, volume in volumes.items()}
    first = next(iter(canonical.values()))
    if point_mm is None:
        point_mm = (first[1] @ [*((np.array(first[0].shape) - 1) / 2), 1])[:3]
    window = robust_window(canonical[window_of or next(iter(canonical))][0])
    acquired = _acquired_axis(first[1])
    shape = [_frame_mm(first, view, field_mm) for view in VIEWS]
    widths, heights = [s[0] for s in shape], max(s[1] for s in shape)
    inch_per_mm = CELL_INCHES / max(widths)
    figure, cells = pyplot.subplots(
        len(canonical),
        len(VIEWS),
        squeeze=False,
        facecolor=PAPER,
        figsize=(inch_per_mm * sum(widths) + 0.4, inch_per_mm * heights * len(canonical) + 0.6),
        gridspec_kw={"width_ratios": widths},
        layout="constrained",
    )
    try:
        for row, (name, volume) in zip(cells, canonical.items(), strict=True):
            low, high = windows.get(name, window)
            for cell, view in zip(row, VIEWS, strict=True):
                _draw(cell, volume, view, np.asarray(point_mm, float), field_mm, (low, high), colour_maps.get(name))
            label = f"{name}\n[{low:.4g}, {high:.4g}]"
            row[0].set_ylabel(label, color=INK, fontsize=9)
        for cell, (view, (fixed, *_rest)) in zip(cells[0], VIEWS.items(), strict=True):
            kind = "" if acquired is None else " (acquired plane)" if fixed == acquired else " (across the slices)"
            cell.set_title(view + kind, color=INK, fontsize=10)
        figure.suptitle(title, color=INK, fontsize=11)
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=DOTS_PER_INCH, facecolor=PAPER)
    finally:
        pyplot.close(figure)
    return path


def robust_window(values: np.ndarray) -> tuple[float, float]:
    """Window (low, high) from percentiles of the values above a tenth of their mean; zero stays black.

    Background would otherwise fill the lower percentile and bright specks the upper one.
    """
    finite = np.asarray(values, float)[np.isfinite(values)]
    inside = finite[finite > 0.1 * finite.mean()] if finite.size and finite.mean() > 0 else finite
    if inside.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(inside, WINDOW_PERCENTILES)
    if 0 <= low < 0.5 * high:
        low = 0.0
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1.0)


def plane(volume: Volume, view: str, point_mm: Sequence[float]) -> tuple[np.ndarray, tuple[float, float]]:
    """One plane as an image (rows from the top, columns from the left) and its voxel size (height, width) in mm."""
    array, affine = _canonical(*volume)
    return _plane(array, affine, view, np.asarray(point_mm, float))[:2]


def _plane(array: np.ndarray, affine: np.ndarray, view: str, point_mm: np.ndarray):
    """The image, voxel size (height, width) and extent (left, right, bottom, top), both mm, the point at 0, 0."""
    fixed, across, up, _ = VIEWS[view]
    at = np.linalg.inv(affine) @ [*point_mm, 1]
    index = int(np.clip(np.rint(at[fixed]), 0, array.shape[fixed] - 1))
    image = np.take(array, index, axis=fixed)  # remaining axes keep their order: (across, up)
    image = image[::-1, ::-1].T  # right or anterior on the left, superior or anterior on top
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    left = (at[across] - array.shape[across] + 0.5) * spacing[across]
    bottom = (-0.5 - at[up]) * spacing[up]
    extent = (left, left + array.shape[across] * spacing[across], bottom, bottom + array.shape[up] * spacing[up])
    return image, (spacing[up], spacing[across]), extent


def _draw(cell, volume: Volume, view: str, point_mm, field_mm, window: tuple[float, float], colour_map: str | None):
    image, _, extent = _plane(*volume, view, point_mm)
    cell.set_facecolor("black")
    cell.imshow(
        image,
        cmap=colour_map or "gray",
        vmin=window[0],
        vmax=window[1],
        interpolation="nearest",
        extent=extent,
        origin="upper",
        aspect="equal",
    )
    if field_mm is not None:
        cell.set_xlim(-field_mm / 2, field_mm / 2)
        cell.set_ylim(-field_mm / 2, field_mm / 2)
    cell.set_anchor("N")
    cell.set_xticks([])
    cell.set_yticks([])
    for letter, x, y in zip(VIEWS[view][3], (0.02, 0.98, 0.5, 0.5), (0.5, 0.5, 0.98, 0.02), strict=True):
        sides = {"ha": "left" if x < 0.1 else "right" if x > 0.9 else "center",
                 "va": "top" if y > 0.9 else "bottom" if y < 0.1 else "center"}  # fmt: skip
        text = cell.text(x, y, letter, transform=cell.transAxes, color=LETTER, fontsize=8, **sides)
        text.set_path_effects([patheffects.withStroke(linewidth=1.5, foreground="black")])


def _frame_mm(volume: Volume, view: str, field_mm: float | None) -> tuple[float, float]:
    if field_mm is not None:
        return field_mm, field_mm
    extent = np.array(volume[0].shape) * np.linalg.norm(volume[1][:3, :3], axis=0)
    _, across, up, _ = VIEWS[view]
    return float(extent[across]), float(extent[up])


def _acquired_axis(affine: np.ndarray) -> int | None:
    """The axis across the slices of an anisotropic RAS-ordered grid, or None."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    order = np.argsort(spacing)
    return int(order[2]) if spacing[order[2]] > 1.2 * spacing[order[1]] else None


def _canonical(array: np.ndarray, affine: np.ndarray) -> Volume:
    """The same voxels with axes ordered and directed nearest to right, anterior, superior."""
    image = nibabel.as_closest_canonical(nibabel.Nifti1Image(np.asarray(array, np.float32), np.asarray(affine, float)))
    return np.asanyarray(image.dataobj), image.affine


def _check(volumes, window_of, windows, colour_maps) -> None:
    if not volumes:
        raise Refusal("compare_views: no volume to draw: give at least one")
    for name, (array, affine) in volumes.items():
        if np.ndim(array) != 3 or np.shape(affine) != (4, 4):
            raise Refusal(f"compare_views: {name} has shape {np.shape(array)}: give (X, Y, Z) and a 4 x 4 affine")
        if not np.isfinite(array).all():
            raise Refusal(f"compare_views: {name} has voxels that are not finite: mask them first")
    unknown = ({window_of} - {None} | set(windows) | set(colour_maps)) - set(volumes)
    if unknown:
        names = ", ".join(sorted(unknown))
        raise Refusal(f"compare_views: no volume is called {names}: there are {', '.join(volumes)}")
