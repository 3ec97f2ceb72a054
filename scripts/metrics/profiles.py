"""Intensity profiles across a border, sampled in mm with a cubic spline; where they run depends on no method."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from ..geometry.errors import Refusal
from .arrays import VOLUME, as_image, as_mask, bounding_box, checked_axis

MIN_PROFILES = 6  # fewer give no spread
SAMPLES_PER_VOXEL = 10  # of the smallest spacing: the spline's gradient is then exact to a few parts in a thousand
NORMAL_SIGMA_MM = 1.5  # the staircase of a label's voxels must not tilt the normals
SPLINE_MARGIN_VOXELS = 12  # the spline's prefilter forgets that far away
CUBIC = 3
ANY_ANGLE_DEG = 90.0


class Profiles(NamedTuple):
    """`values`: intensities (P, S) from inside to outside, the border in the middle. `step_mm`: between samples."""

    values: np.ndarray
    step_mm: float


def border_profiles(
    volume,
    label,
    spacing_mm: Sequence[float],
    *,
    reach_mm: float,
    count: int,
    axis: int | None = None,
    max_angle_deg: float = ANY_ANGLE_DEG,
) -> Profiles:
    """Profiles perpendicular to the border of a label, spread evenly over it.

    The normals are those of the label's smoothed signed distance in mm. Profiles that leave the volume are left out,
    so are places where the label touches the volume's edge.

    Args:
        volume: (X, Y, Z).
        label: (X, Y, Z), not zero inside the organ (bladder, say); the same for all methods.
        spacing_mm: of the three axes.
        reach_mm: how far a profile goes to each side.
        count: how many profiles at most.
        axis: only borders whose normal is near this axis; None takes all.
        max_angle_deg: largest angle between normal and axis.

    Returns:
        At least 6 profiles.

    Raises:
        Refusal: on bad arrays or spacings, or a border too short for 6 profiles.
    """
    volume = _volume(volume)
    label = as_mask(label, volume.shape)
    spacing = _checked_spacing(spacing_mm)
    if not reach_mm > 2 * spacing.min():
        raise Refusal(f"reach_mm {reach_mm} must exceed two voxels of {spacing.min():g} mm")
    margin = int(np.ceil(reach_mm / spacing.min())) + SPLINE_MARGIN_VOXELS
    box = bounding_box(label, margin)
    volume, label = volume[box], label[box]
    points, normals = _border(label, spacing)
    if axis is not None:
        cosine = np.abs(normals[:, checked_axis(axis, volume)])
        near = cosine >= np.cos(np.deg2rad(max_angle_deg)) - np.finfo(np.float32).eps
        points, normals = points[near], normals[near]
    ends = np.stack([points - reach_mm * normals, points + reach_mm * normals])
    inside = ((ends >= 0) & (ends <= (np.array(volume.shape) - 1) * spacing)).all(axis=(0, 2))
    chosen = np.flatnonzero(inside)
    if len(chosen) < MIN_PROFILES:
        raise Refusal(
            f"the border gives {len(chosen)} profiles of {2 * reach_mm:g} mm inside the volume, {MIN_PROFILES} are "
            "needed: take a larger structure, a smaller reach_mm or another axis"
        )
    if len(chosen) > count:
        chosen = chosen[np.linspace(0, len(chosen) - 1, max(count, MIN_PROFILES)).round().astype(int)]
    return _sampled(volume, points[chosen], normals[chosen], spacing, reach_mm)


def line_profiles(volume, start_voxels: Sequence[float], end_voxels: Sequence[float], spacing_mm) -> Profiles:
    """Nine parallel profiles about the line between two points (two clicks on either side of a border).

    The eight others lie one smallest voxel away, all around.

    Args:
        volume: (X, Y, Z).
        start_voxels: index coordinates of the first point.
        end_voxels: of the second; the border lies about midway.
        spacing_mm: of the three axes.

    Raises:
        Refusal: on bad arrays, points closer than four voxels or outside the volume.
    """
    volume = _volume(volume)
    spacing = _checked_spacing(spacing_mm)
    start, end = (np.asarray(p, float) * spacing for p in (start_voxels, end_voxels))
    length = float(np.linalg.norm(end - start))
    extent = (np.array(volume.shape) - 1) * spacing
    if not (length > 4 * spacing.min() and all(((p >= 0) & (p <= extent)).all() for p in (start, end))):
        raise Refusal(f"a profile from {start_voxels} to {end_voxels} is too short or leaves the volume {volume.shape}")
    normal = (end - start) / length
    across = np.linalg.svd(normal[None])[2][1:]  # two directions perpendicular to the line
    turns = np.arange(0, 2 * np.pi, np.pi / 4)
    offsets = spacing.min() * np.stack([np.cos(turns), np.sin(turns)], axis=1) @ across
    points = (start + end) / 2 + np.concatenate([np.zeros((1, VOLUME)), offsets])
    return _sampled(volume, points, np.broadcast_to(normal, points.shape), spacing, length / 2)


def _volume(volume) -> np.ndarray:
    volume = as_image(volume, "volume")
    if volume.ndim != VOLUME:
        raise Refusal(f"volume has shape {volume.shape}: profiles are measured in a volume (X, Y, Z)")
    return volume


def _checked_spacing(spacing_mm: Sequence[float]) -> np.ndarray:
    spacing = np.asarray(spacing_mm, float)
    if spacing.shape != (VOLUME,) or not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise Refusal(f"spacing_mm must be three positive numbers, got {spacing_mm}")
    return spacing


def _border(label: np.ndarray, spacing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points on the border and outward unit normals there, (P, 3) each, in mm from voxel 0."""
    if label.all():
        return np.empty((0, VOLUME)), np.empty((0, VOLUME))
    outside = ndimage.distance_transform_edt(~label, sampling=spacing)
    distance = outside - ndimage.distance_transform_edt(label, sampling=spacing)
    smooth = ndimage.gaussian_filter(distance, NORMAL_SIGMA_MM / spacing, mode="nearest")
    voxels = np.argwhere(label & ~ndimage.binary_erosion(label, border_value=1))
    gradient = np.stack([part[tuple(voxels.T)] for part in np.gradient(smooth, *spacing)], axis=1)
    norm = np.linalg.norm(gradient, axis=1, keepdims=True)
    clear = norm[:, 0] > 1 / 2  # ridges and thin sheets have no one normal
    normals = gradient[clear] / norm[clear]
    points = voxels[clear] * spacing - smooth[tuple(voxels[clear].T)][:, None] * normals
    return points, normals


def _sampled(
    volume: np.ndarray, points: np.ndarray, normals: np.ndarray, spacing: np.ndarray, reach_mm: float
) -> Profiles:
    half = int(np.ceil(reach_mm / spacing.min() * SAMPLES_PER_VOXEL))
    offsets = np.linspace(-reach_mm, reach_mm, 2 * half + 1)
    places = (points[:, None] + offsets[:, None] * normals[:, None]) / spacing
    values = ndimage.map_coordinates(volume, np.moveaxis(places, -1, 0), order=CUBIC, mode="nearest")
    return Profiles(values, reach_mm / half)
