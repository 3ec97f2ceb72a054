"""PIQUE, the perception-based image quality evaluator (Venkatanath et al., NCC 2015); needs no truth.

MATLAB and pypiqe call it `piqe`; GLADE uses the name in the paper, PIQUE, everywhere.
"""

from typing import NamedTuple

import numpy as np
import torch

from ..geometry.errors import Refusal
from .arrays import Array, as_image, as_mask, checked_axis

BLOCK = 16  # pixels, as in the paper
SEGMENT = 6  # neighbouring pixels of the edge of a block that are tested together
WHITE = 255.0
KERNEL_RADIUS = 3  # 7 x 7 Gaussian
KERNEL_SIGMA = 7 / 6  # pixels
ACTIVE_VARIANCE = 0.1  # of the normalised (MSCN) values, above which a block has content
FLAT_DEVIATION = 0.1  # of a segment, below which it is a noticeable artefact
NOISE_RATIO = 2.0  # deviation over beta, above which a block is noisy
WORST = 100.0  # score of a plane without content
PIXELS_AT_ONCE = 2**18  # so that float64 intermediates fit the cache of one core
WINDOW_PERCENTILES = (0.5, 99.5)  # low of the whole reference, high of its body
MIN_BODY_SHARE = 0.1  # of a plane; emptier planes are skipped


class Pique(NamedTuple):
    """PIQUE of planes, with the blocks that it is computed from.

    Attributes:
        score: (N,), nominally 0 (excellent) to 100 (bad).
        activity: (N, 1, H, W) boolean, constant over 16 x 16 blocks: blocks with content, which alone are scored.
        artefact: the same, active blocks with a flat edge segment.
        noise: the same, active blocks with noise.
    """

    score: torch.Tensor
    activity: torch.Tensor
    artefact: torch.Tensor
    noise: torch.Tensor


def shared_window(reference: Array, mask: Array | None = None) -> tuple[float, float]:
    """Return the intensity window of a case: the 0.5th percentile of the reference and the 99.5th of its body.

    PIQUE depends on the window, because it rounds to 256 grey levels and divides by (deviation + 1 level): a wider
    window lowers the contrast of every image. Methods that are compared share the window of the interpolated input (or
    of the truth).

    Args:
        reference: (X, Y, Z), never the result of a method.
        mask: (X, Y, Z) body mask, or None for everywhere.

    Returns:
        (low, high), in the units of the reference, mapped to 0 and 255.

    Raises:
        Refusal: on bad arrays or a constant reference.
    """
    reference = as_image(reference, "reference")
    low = float(np.percentile(reference, WINDOW_PERCENTILES[0]))
    high = float(np.percentile(reference[as_mask(mask, reference.shape)], WINDOW_PERCENTILES[1]))
    if not high > low:
        raise Refusal(f"reference gives an empty window [{low:g}, {high:g}]: it is constant or its mask holds only air")
    return low, high


def pique(planes: torch.Tensor, window: tuple[float, float] | None = None) -> Pique:
    """Return the PIQUE of each plane; lower is better (below 20 excellent, to 35 good, to 50 fair, to 80 poor).

    score = 100 (1 + sum over active blocks of artefact (1 - v) + noise v) / (1 + active blocks), with v the
    variance of the normalised values of the block, (I - mean) / (deviation + 1), mean and deviation from a 7 x 7
    Gaussian window. A constant plane scores 100.

    Args:
        planes: (N, 1, H, W), greyscale, any real type; H and W at least 16.
        window: (low, high) mapped to 0 and 255, clipped and rounded; the same for all methods that are compared. None:
            each plane is divided by its maximum, as in the implementation of the authors.

    Raises:
        Refusal: on another shape, a plane smaller than a block, values that are not finite, an empty window, or no
            window for a plane without positive values.

    >>> checks = (torch.arange(64)[:, None] // 4 + torch.arange(64) // 4) % 2  # a checkerboard of 4 pixels
    >>> planes = torch.stack([checks, torch.zeros_like(checks)])[:, None] * 200.0
    >>> pique(planes).score.round(decimals=1)
    tensor([ 18.5000, 100.0000])
    """
    _check(planes, window)
    planes = planes.as_subclass(torch.Tensor)  # the affine of a MetaTensor is not that of its scores
    height, width = planes.shape[-2:]
    chunk = max(PIXELS_AT_ONCE // (height * width), 1)
    parts = [_score(_padded(part[:, 0].to(torch.float64)), window) for part in planes.split(chunk)]
    score, *blocks = (torch.cat(values) for values in zip(*parts, strict=True))
    return Pique(score, *(_per_pixel(mask, height, width) for mask in blocks))


def pique_of_planes(
    volume: Array, axis: int, window: tuple[float, float] | None = None, mask: Array | None = None
) -> np.ndarray:
    """Return the PIQUE of the planes of a volume perpendicular to one axis.

    Args:
        volume: (X, Y, Z).
        axis: perpendicular to the planes.
        window: as in `pique`, from `shared_window`.
        mask: (X, Y, Z) body mask; planes with less than a tenth of body are skipped; None: all planes are scored.

    Returns:
        One score for each plane that was not skipped.

    Raises:
        Refusal: on bad arrays, planes that `pique` refuses, or if no plane holds enough body.
    """
    volume = as_image(volume, "volume")
    axis = checked_axis(axis, volume)
    others = tuple(a for a in range(volume.ndim) if a != axis)
    kept = as_mask(mask, volume.shape).mean(axis=others) >= MIN_BODY_SHARE
    if not kept.any():
        raise Refusal(f"no plane perpendicular to axis {axis} holds {MIN_BODY_SHARE:.0%} of body: wrong mask?")
    planes = np.ascontiguousarray(np.moveaxis(volume, axis, 0)[kept])
    return pique(torch.from_numpy(planes)[:, None], window).score.numpy()


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
    """Pad to multiples of 16 at the lower and right edge, by mirror images that repeat the edge pixel."""
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
    """Return mean-subtracted, contrast-normalised (MSCN) values, float32."""
    mean = _blurred(grey)  # in float64: the difference of squares would cancel in float32
    variance = _blurred(grey * grey).addcmul_(mean, mean, value=-1)
    return (grey - mean).float().div_(variance.float().abs_().sqrt_().add_(1))


def _blurred(planes: torch.Tensor) -> torch.Tensor:
    offsets = torch.arange(-KERNEL_RADIUS, KERNEL_RADIUS + 1, dtype=torch.float64)
    kernel = torch.exp(-((offsets / KERNEL_SIGMA) ** 2) / 2)
    taps = (kernel / kernel.sum()).tolist()
    for dim in (2, 1):  # a sum of shifted planes is faster in float64 than a convolution
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
    segments = edges.new_zeros(BLOCK, count)  # pixel x segment: 1 where the segment holds the pixel
    for first in range(count):
        segments[first : first + SEGMENT, first] = 1
    sums, squares = edges @ segments, (edges * edges) @ segments
    return (_variance(sums, squares, SEGMENT).sqrt_() < FLAT_DEVIATION).flatten(-2).any(dim=-1)


def _variance(sums: torch.Tensor, squares: torch.Tensor, count: int) -> torch.Tensor:
    """Return the sample variance from sums over `count` values of order one, clamped against negative rounding."""
    return ((squares - sums * sums / count) / (count - 1)).clamp_(min=0)


def _is_noisy(sums: torch.Tensor, squares: torch.Tensor, deviation: torch.Tensor) -> torch.Tensor:
    """Return whether the deviation of a block exceeds twice beta, its contrast between centre and surround.

    The centre is columns 7 and 8, but the surround omits columns 7 and 9: the published implementations delete one
    column and then count from the shorter array. This is kept so that scores are comparable with theirs.
    """
    middle = BLOCK // 2
    centre = [column[..., middle - 1 : middle + 1].sum(dim=-1) for column in (sums, squares)]
    around = [column.sum(dim=-1) - column[..., middle - 1] - column[..., middle + 1] for column in (sums, squares)]
    inner = _variance(centre[0], centre[1], 2 * BLOCK)
    outer = _variance(around[0], around[1], (BLOCK - 2) * BLOCK)
    ratio = (inner / outer).sqrt()
    ratio = torch.where(ratio.isnan(), 0, ratio)  # a block without any deviation
    beta = (deviation - ratio).abs() / torch.maximum(deviation, ratio)
    return deviation > NOISE_RATIO * beta
