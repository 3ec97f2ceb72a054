"""PIQUE: perception-based image quality evaluator without reference (Venkatanath et al., NCC 2015; MATLAB `piqe`)."""

from typing import NamedTuple

import numpy as np
import torch

from ..geometry.errors import Refusal
from .arrays import as_image, as_mask, checked_axis

BLOCK = 16  # pixels, the paper's
SEGMENT = 6  # pixels of a block's edge looked at together
WHITE = 255.0
KERNEL_RADIUS = 3  # 7 x 7 Gaussian
KERNEL_SIGMA = 7 / 6  # pixels
ACTIVE_VARIANCE = 0.1  # of the normalised (MSCN) values
FLAT_DEVIATION = 0.1  # of a segment, under which it is a noticeable artefact
NOISE_RATIO = 2.0  # deviation over beta, above which a block is noisy
WORST = 100.0  # a plane without content, by definition
PIXELS_AT_ONCE = 2**18  # float64 intermediates of that many pixels stay in the cache of one core
WINDOW_PERCENTILES = (0.5, 99.5)  # low of the whole reference, high of its body
MIN_BODY_SHARE = 0.1  # of a plane; emptier planes say nothing


class Piqe(NamedTuple):
    """Scores (N,), nominally 0 (excellent) to 100 (bad), and boolean masks (N, 1, H, W) constant over 16 x 16 blocks.

    `activity`: blocks with content, the only ones judged; `artefact`: of these, those with a flat edge segment;
    `noise`: of these, those with noise.
    """

    score: torch.Tensor
    activity: torch.Tensor
    artefact: torch.Tensor
    noise: torch.Tensor


def shared_window(reference, mask=None) -> tuple[float, float]:
    """The one intensity window of a case: the reference's 0.5th percentile and its body's 99.5th, in its own units.

    PIQUE depends on the window: it rounds to 256 grey levels and divides by (deviation + 1 level), so that a wider
    window makes every image calmer. All methods are shown through the window of the interpolated input (or truth).

    Args:
        reference: (X, Y, Z), never a method's own result.
        mask: (X, Y, Z) body mask, or None for everywhere.

    Returns:
        (low, high), mapped to 0 and 255.

    Raises:
        Refusal: if the reference is flat, or as `as_image`, `as_mask`.
    """
    reference = as_image(reference, "reference")
    low = float(np.percentile(reference, WINDOW_PERCENTILES[0]))
    high = float(np.percentile(reference[as_mask(mask, reference.shape)], WINDOW_PERCENTILES[1]))
    if not high > low:
        raise Refusal(f"reference gives an empty window [{low:g}, {high:g}]: it is constant or its mask holds only air")
    return low, high


def piqe(planes: torch.Tensor, window: tuple[float, float] | None = None) -> Piqe:
    """PIQUE of each plane; lower is better (the abstract: under 20 excellent, to 35 good, to 50 fair, to 80 poor).

    score = 100 (1 + sum over active blocks of artefact (1 - v) + noise v) / (1 + active blocks), v the variance of
    the block's normalised values (I - mean) / (deviation + 1), both local (7 x 7 Gaussian). A constant plane is 100.

    Args:
        planes: (N, 1, H, W), greyscale, any real type; H and W at least 16.
        window: (low, high) mapped to 0 and 255, clipped and rounded: the same for all methods that are compared.
            None is the reference implementation's rule, each plane divided by its own maximum.

    Raises:
        Refusal: on another shape, a plane smaller than a block, values that are not finite, an empty window, or no
            window for a plane without positive values.
    """
    _check(planes, window)
    planes = planes.as_subclass(torch.Tensor)  # the score of a MetaTensor has no affine
    height, width = planes.shape[-2:]
    chunk = max(PIXELS_AT_ONCE // (height * width), 1)
    parts = [_score(_padded(part[:, 0].to(torch.float64)), window) for part in planes.split(chunk)]
    score, *blocks = (torch.cat(values) for values in zip(*parts, strict=True))
    return Piqe(score, *(_per_pixel(mask, height, width) for mask in blocks))


def piqe_of_planes(volume, axis: int, window: tuple[float, float] | None = None, mask=None) -> np.ndarray:
    """PIQUE of a volume's planes perpendicular to one axis.

    Args:
        volume: (X, Y, Z).
        axis: the axis that the planes are perpendicular to.
        window: as in `piqe`; `shared_window` gives the case's.
        mask: (X, Y, Z) body mask: planes of which it fills less than a tenth are left out; None takes all.

    Returns:
        Shape (planes that were judged,).

    Raises:
        Refusal: as `piqe`, or if no plane holds enough body.
    """
    volume = as_image(volume, "volume")
    axis = checked_axis(axis, volume)
    others = tuple(a for a in range(volume.ndim) if a != axis)
    kept = as_mask(mask, volume.shape).mean(axis=others) >= MIN_BODY_SHARE
    if not kept.any():
        raise Refusal(f"no plane perpendicular to axis {axis} holds {MIN_BODY_SHARE:.0%} of body: wrong mask?")
    planes = np.ascontiguousarray(np.moveaxis(volume, axis, 0)[kept])
    return piqe(torch.from_numpy(planes)[:, None], window).score.numpy()


def _check(planes: torch.Tensor, window: tuple[float, float] | None) -> None:
    if not isinstance(planes, torch.Tensor) or planes.ndim != len("N1HW") or planes.shape[1] != 1 or not len(planes):
        raise Refusal(f"planes must be a tensor (N, 1, H, W), got {getattr(planes, 'shape', type(planes).__name__)}")
    if min(planes.shape[-2:]) < BLOCK:
        raise Refusal(f"planes of {tuple(planes.shape[-2:])} pixels are smaller than one {BLOCK} x {BLOCK} block")
    if not torch.isfinite(planes.sum(dtype=torch.float64)):  # one pass; no image overflows float64
        raise Refusal("planes hold values that are not finite (NaN or infinite): repair or exclude them")
    if window is None:
        top = planes.amax(dim=(1, 2, 3))
        if bool(((top <= 0) & (planes.amin(dim=(1, 2, 3)) < top)).any()):
            raise Refusal("a plane has no positive value to scale by: give a window (low, high)")
    elif not window[1] > window[0]:
        raise Refusal(f"window {tuple(window)} is empty: give (low, high) with low under high")


def _per_pixel(blocks: torch.Tensor, height: int, width: int) -> torch.Tensor:
    count, rows, columns = blocks.shape
    pixels = blocks[:, None, :, None, :, None].expand(count, 1, rows, BLOCK, columns, BLOCK)
    return pixels.reshape(count, 1, rows * BLOCK, columns * BLOCK)[..., :height, :width]


def _padded(planes: torch.Tensor) -> torch.Tensor:
    """To multiples of 16 at the lower and right edge, mirrored with the edge pixel repeated."""
    for dim in (1, 2):
        size = planes.shape[dim]
        extra = -size % BLOCK
        if extra:
            planes = torch.cat([planes, planes.narrow(dim, size - extra, extra).flip(dim)], dim)
    return planes


def _score(planes: torch.Tensor, window: tuple[float, float] | None) -> tuple[torch.Tensor, ...]:
    values = _normalised(_grey(planes, window))
    count, height, width = values.shape
    blocks = values.reshape(count, height // BLOCK, BLOCK, width // BLOCK, BLOCK).transpose(2, 3).contiguous()
    centred = blocks - blocks.mean(dim=(-2, -1), keepdim=True)
    sums, squares = centred.sum(dim=-2), (centred * centred).sum(dim=-2)  # of each column
    variance = squares.sum(dim=-1) / (BLOCK * BLOCK - 1)
    active = variance > ACTIVE_VARIANCE
    artefact = active & _has_flat_segment(blocks)
    noise = active & _is_noisy(sums, squares, variance.sqrt())
    distortion = (artefact * (1 - variance) + noise * variance).sum(dim=(1, 2))
    return (distortion + 1) / (active.sum(dim=(1, 2)) + 1) * WORST, active, artefact, noise


def _grey(planes: torch.Tensor, window: tuple[float, float] | None) -> torch.Tensor:
    if window is None:
        top = planes.amax(dim=(1, 2), keepdim=True)
        return (WHITE * (planes / torch.where(top > 0, top, 1))).round()
    low, high = window
    return (WHITE * ((planes - low) / (high - low)).clamp(0, 1)).round()


def _normalised(grey: torch.Tensor) -> torch.Tensor:
    """Mean-subtracted, contrast-normalised values (MSCN), float32; a variance of squares would cancel in it."""
    mean = _blurred(grey)
    variance = _blurred(grey * grey).addcmul_(mean, mean, value=-1)
    return (grey - mean).float().div_(variance.float().abs_().sqrt_().add_(1))


def _blurred(planes: torch.Tensor) -> torch.Tensor:
    offsets = torch.arange(-KERNEL_RADIUS, KERNEL_RADIUS + 1, dtype=torch.float64)
    kernel = torch.exp(-((offsets / KERNEL_SIGMA) ** 2) / 2)
    taps = (kernel / kernel.sum()).tolist()
    for dim in (2, 1):  # adding shifted planes is faster in float64 than a convolution
        size = planes.shape[dim]
        first, last = planes.narrow(dim, 0, 1), planes.narrow(dim, size - 1, 1)
        wide = torch.cat([first] * KERNEL_RADIUS + [planes] + [last] * KERNEL_RADIUS, dim)
        planes = taps[KERNEL_RADIUS] * planes
        for step in range(1, KERNEL_RADIUS + 1):
            for shift in (KERNEL_RADIUS - step, KERNEL_RADIUS + step):
                planes.add_(wide.narrow(dim, shift, size), alpha=taps[KERNEL_RADIUS - step])
    return planes


def _has_flat_segment(blocks: torch.Tensor) -> torch.Tensor:
    edges = torch.stack([blocks[..., 0, :], blocks[..., -1, :], blocks[..., 0], blocks[..., -1]], dim=-2)
    count = BLOCK - SEGMENT + 1
    segments = edges.new_zeros(BLOCK, count)  # which pixels of an edge belong to which segment
    for first in range(count):
        segments[first : first + SEGMENT, first] = 1
    sums, squares = edges @ segments, (edges * edges) @ segments
    return (_variance(sums, squares, SEGMENT).sqrt_() < FLAT_DEVIATION).flatten(-2).any(dim=-1)


def _variance(sums: torch.Tensor, squares: torch.Tensor, count: int) -> torch.Tensor:
    """Sample variance from sums over `count` values of order one; rounding never makes it negative."""
    return ((squares - sums * sums / count) / (count - 1)).clamp_(min=0)


def _is_noisy(sums: torch.Tensor, squares: torch.Tensor, deviation: torch.Tensor) -> torch.Tensor:
    """Deviation of a block against beta, its relative difference from centre over surround.

    The centre is columns 7 and 8. The surround leaves out columns 7 and 9: the published implementations delete one
    column and then count anew. Kept, since scores are compared with theirs.
    """
    middle = BLOCK // 2
    centre = [column[..., middle - 1 : middle + 1].sum(dim=-1) for column in (sums, squares)]
    around = [column.sum(dim=-1) - column[..., middle - 1] - column[..., middle + 1] for column in (sums, squares)]
    ratio = (_variance(*centre, 2 * BLOCK) / _variance(*around, (BLOCK - 2) * BLOCK)).sqrt()
    ratio = torch.where(ratio.isnan(), 0, ratio)  # a block without any deviation
    beta = (deviation - ratio).abs() / torch.maximum(deviation, ratio)
    return deviation > NOISE_RATIO * beta
