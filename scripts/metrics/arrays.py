"""Checks of the arrays that a metric is given: finite, on one grid, a mask that is not empty."""

from collections.abc import Sequence

import numpy as np
import torch

from ..geometry.errors import Refusal

Array = np.ndarray | torch.Tensor
PLANE, VOLUME, WITH_CHANNEL = 2, 3, 4  # numbers of axes


def as_image(value: Array, name: str) -> np.ndarray:
    """Return a volume (X, Y, Z), also given as (1, X, Y, Z), or a plane (H, W) as a finite float64 array.

    Args:
        value: real intensities of any type; torch tensors may lie on any device.
        name: of the array, for the message of a refusal.

    Raises:
        Refusal: if it has another number of axes or channels, no voxel, or a value that is not finite.

    >>> as_image(torch.ones(1, 4, 4, 3), "result").shape
    (4, 4, 3)
    """
    array = np.asarray(value.detach().cpu().double() if isinstance(value, torch.Tensor) else value)
    if array.ndim == WITH_CHANNEL and array.shape[0] == 1:
        array = array[0]
    if array.ndim not in (PLANE, VOLUME) or array.size == 0:
        raise Refusal(f"{name} has shape {array.shape}: give one volume (X, Y, Z) or (1, X, Y, Z), or one plane (H, W)")
    if np.iscomplexobj(array):
        raise Refusal(f"{name} is complex: give its magnitude")
    array = array.astype(np.float64, copy=False)
    if not np.isfinite(array).all():
        count = int((~np.isfinite(array)).sum())
        raise Refusal(f"{name} holds {count} values that are not finite (NaN, infinite): repair or exclude it")
    return array


def as_pair(result: Array, truth: Array) -> tuple[np.ndarray, np.ndarray]:
    """Return result and truth as finite float64 arrays of one shape.

    Raises:
        Refusal: if `as_image` refuses either, or the shapes differ.
    """
    result, truth = as_image(result, "result"), as_image(truth, "truth")
    if result.shape != truth.shape:
        raise Refusal(f"result has shape {result.shape}, truth {truth.shape}: resample one onto the other's grid first")
    return result, truth


def as_mask(mask: Array | None, shape: Sequence[int]) -> np.ndarray:
    """Return the mask as a boolean array of the given shape; None means everywhere.

    Raises:
        Refusal: if it has another shape, holds values that are not finite, or is empty.

    >>> as_mask(None, (2, 3)).sum()
    np.int64(6)
    """
    if mask is None:
        return np.ones(tuple(shape), bool)
    array = as_image(mask, "mask") != 0
    if array.shape != tuple(shape):
        raise Refusal(f"mask has shape {array.shape}, the image {tuple(shape)}: make the mask on the image's own grid")
    if not array.any():
        raise Refusal("mask is empty: nothing to measure; check the scan or the label's value")
    return array


def bounding_box(mask: np.ndarray, margin_voxels: int = 0) -> tuple[slice, ...]:
    """Return the smallest box that holds the mask, one slice per axis, plus a margin cut off at the array's edge.

    Args:
        mask: boolean, not empty.
        margin_voxels: added on every side.

    >>> bounding_box(np.array([[0, 0, 0, 0], [0, 1, 1, 0]], bool))
    (slice(1, 2, None), slice(1, 3, None))
    """
    box = []
    for axis, size in enumerate(mask.shape):
        others = tuple(a for a in range(mask.ndim) if a != axis)
        inside = np.flatnonzero(mask.any(axis=others))
        box.append(slice(max(int(inside[0]) - margin_voxels, 0), min(int(inside[-1]) + 1 + margin_voxels, size)))
    return tuple(box)


def checked_axis(axis: int, array: np.ndarray) -> int:
    """Return the axis as a number from 0 up; negative ones count from the last axis.

    Raises:
        Refusal: if the array has no such axis.
    """
    if not -array.ndim <= axis < array.ndim:
        raise Refusal(f"axis {axis} does not exist in an array of shape {array.shape}")
    return axis % array.ndim
