"""Intensity profiles across a border, sampled with a cubic spline at positions that all methods share."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from ..geometry.errors import Refusal
from .arrays import VOLUME, Array, as_image, as_mask, bounding_box, checked_axis

MIN_PROFILES = 6  # fewer give no meaningful quartiles
SAMPLES_PER_VOXEL = 10  # of the smallest spacing; the gradient is then exact to a few parts in a thousand
NORMAL_SIGMA_MM = 1.5  # smooths the voxel steps of a label, which would tilt the normals
SPLINE_MARGIN_VOXELS = 12  # beyond this distance a voxel has no effect on the cubic spline
CUBIC = 3
REACH_MM = 8.0  # of a profile, to each side of the border
COUNT = 64  # profiles per border
MAX_ANGLE_DEG = 30.0  # between the normal of a border and the axis along which it is measured


class Profiles(NamedTuple):
    """Intensity profiles across a border.

    Attributes:
        values: (P, S) intensities from inside to outside, with the border in the middle.
        step_mm: distance of samples.
    """

    values: np.ndarray
    step_mm: float


def border_profiles(
    volume: Array,
    label: Array,
    spacing_mm: Sequence[float],
    *,
    reach_mm: float = REACH_MM,
    count: int = COUNT,
    axis: int | None = None,
    max_angle_deg: float = MAX_ANGLE_DEG,
) -> Profiles:
    """Sample profiles perpendicular to the border of a label, spread evenly over it.

    The normals are those of the label's smoothed signed distance in mm. Profiles that leave the volume and borders on
    the edge of the volume are skipped.

    Args:
        volume: (X, Y, Z).
        label: (X, Y, Z), not zero inside an organ such as the bladder; the same for all methods.
        spacing_mm: of the three axes.
        reach_mm: length of a profile to each side of the border.
        count: largest number of profiles.
        axis: only borders whose normal is near this axis; None: the whole border.
        max_angle_deg: largest angle between normal and axis.

    Returns:
        At least 6 profiles.

    Raises:
        Refusal: on bad arrays or spacings, or a border too short for 6 profiles.

    >>> organ = 100.0 * (np.linalg.norm(np.indices((40, 40, 40)) - 19.5, axis=0) < 8)
    >>> profiles = border_profiles(organ, organ > 0, spacing_mm=(1, 1, 1))
    >>> profiles.values.shape, profiles.step_mm  # from 8 mm inside the border to 8 mm outside
    ((64, 161), 0.1)
    >>> profiles.values[:, [0, -1]].mean(axis=0).round()
    array([100.,   0.])
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


def line_profiles(
    volume: Array, start_voxels: Sequence[float], end_voxels: Sequence[float], spacing_mm: Sequence[float]
) -> Profiles:
    """Sample nine parallel profiles: the line between two points on either side of a border, and eight around it.

    The eight lie on a circle about the line, at a distance of the smallest voxel spacing.

    Args:
        volume: (X, Y, Z).
        start_voxels: index coordinates of the first point.
        end_voxels: index coordinates of the second point; the border should lie about midway.
        spacing_mm: of the three axes.

    Raises:
        Refusal: on bad arrays, points closer than four voxels or outside the volume.

    >>> halves = np.zeros((20, 20, 20))
    >>> halves[10:] = 100
    >>> profiles = line_profiles(halves, (4.5, 10, 10), (14.5, 10, 10), spacing_mm=(1, 1, 1))
    >>> profiles.values.shape, profiles.values[:, 50].round(1).tolist() == [50.0] * 9  # the border is in the middle
    ((9, 101), True)
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
    angles = np.arange(0, 2 * np.pi, np.pi / 4)
    offsets = spacing.min() * np.stack([np.cos(angles), np.sin(angles)], axis=1) @ across
    points = (start + end) / 2 + np.concatenate([np.zeros((1, VOLUME)), offsets])
    return _sampled(volume, points, np.broadcast_to(normal, points.shape), spacing, length / 2)


def _volume(volume: Array) -> np.ndarray:
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
    """Return points on the border and their outward unit normals, (P, 3) each, in mm from the centre of voxel 0."""
    if label.all():
        return np.empty((0, VOLUME)), np.empty((0, VOLUME))
    outside = ndimage.distance_transform_edt(~label, sampling=spacing)
    distance = outside - ndimage.distance_transform_edt(label, sampling=spacing)
    smooth = ndimage.gaussian_filter(distance, NORMAL_SIGMA_MM / spacing, mode="nearest")
    voxels = np.argwhere(label & ~ndimage.binary_erosion(label, border_value=1))
    gradient = np.stack([part[tuple(voxels.T)] for part in np.gradient(smooth, *spacing)], axis=1)
    norm = np.linalg.norm(gradient, axis=1, keepdims=True)
    clear = norm[:, 0] > 1 / 2  # the normal is not defined on ridges and thin sheets
    normals = gradient[clear] / norm[clear]
    points = voxels[clear] * spacing - smooth[tuple(voxels[clear].T)][:, None] * normals
    return points, normals


def _sampled(
    volume: np.ndarray, points: np.ndarray, normals: np.ndarray, spacing: np.ndarray, reach_mm: float
) -> Profiles:
    half = int(np.ceil(reach_mm / spacing.min() * SAMPLES_PER_VOXEL))
    offsets = np.linspace(-reach_mm, reach_mm, 2 * half + 1)
    positions = (points[:, None] + offsets[:, None] * normals[:, None]) / spacing
    values = ndimage.map_coordinates(volume, np.moveaxis(positions, -1, 0), order=CUBIC, mode="nearest")
    return Profiles(values, reach_mm / half)
