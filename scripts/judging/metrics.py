"""The judges as MONAI metrics for validation: cumulative, gathered over all ranks, one row an image.

Each takes batches (B, 1, H, W) or (B, 1, X, Y, Z), or lists of their items. An image on which a metric is undefined
(a constant truth, a patch without detail) counts as NaN and is left out of the mean.
"""

from collections.abc import Callable, Sequence

import torch
from monai.metrics import CumulativeIterationMetric
from monai.metrics.regression import RegressionMetric

from ..geometry.refusal import Refusal
from .fidelity import psnr, ssim
from .piqe import piqe
from .spectrum import band_energies

MaskRule = Callable[..., object]  # truth -> mask, such as `body_mask`


class _PerImage(RegressionMetric):
    """One number an image, of result and truth."""

    def __init__(self, mask_rule: MaskRule | None = None, data_range: float | None = None):
        super().__init__()
        self.mask_rule, self.data_range = mask_rule, data_range

    def _judge(self, result: torch.Tensor, truth: torch.Tensor) -> float:
        raise NotImplementedError

    def _compute_metric(self, y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        values = [self._judge(*_single(r, t)) if _usable(t) else float("nan") for r, t in zip(y_pred, y, strict=True)]
        return torch.tensor(values, dtype=torch.float64, device=y.device)[:, None]

    def _mask(self, truth: torch.Tensor):
        return None if self.mask_rule is None else self.mask_rule(truth)


class PSNR(_PerImage):
    """Mean PSNR in dB, as `fidelity.psnr`; larger is better.

    Args:
        mask_rule: truth -> mask, such as `$scripts.judging.mask.body_mask`; None for the whole image.
        data_range: in the truth's units; None for each truth's own span.
    """

    def _judge(self, result: torch.Tensor, truth: torch.Tensor) -> float:
        return psnr(result, truth, self._mask(truth), self.data_range)


class SSIM(_PerImage):
    """Mean SSIM, as `fidelity.ssim`, -1 to 1; larger is better. Images have at least 11 voxels along each axis.

    Args:
        mask_rule: truth -> mask, such as `$scripts.judging.mask.body_mask`; None for the whole image.
        data_range: in the truth's units; None for each truth's own span.
    """

    def _judge(self, result: torch.Tensor, truth: torch.Tensor) -> float:
        return ssim(result, truth, self._mask(truth), self.data_range)


class _PooledBand(RegressionMetric):
    """Sums over all images before it divides: patches without detail weigh nothing instead of exploding."""

    def __init__(self, factor: float, axis: int = -1):
        super().__init__()
        self.factor, self.axis = factor, axis

    def _compute_metric(self, y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        rows = [band_energies(*_single(r, t), self.factor, self.axis) for r, t in zip(y_pred, y, strict=True)]
        return torch.tensor(rows, dtype=torch.float64, device=y.device)

    def _ratio(self, column: int) -> torch.Tensor:
        energies = self.get_buffer()
        if not isinstance(energies, torch.Tensor):
            raise Refusal("no batch was judged yet: call the metric before aggregate()")
        sums = energies.sum(dim=0)
        return sums[column] / sums[-1]  # NaN where no truth had any detail


class HighBandEnergy(_PooledBand):
    """Energy above the slices' Nyquist frequency, results over truths, as `spectrum.high_band`; 1 is right.

    Args:
        factor: slice spacing in voxels, above 1.
        axis: the through-plane axis of an item without its channel.
    """

    def aggregate(self, reduction=None) -> torch.Tensor:
        """The pooled ratio, a scalar; all images of all ranks count by their energy."""
        return self._ratio(0)


class HighBandError(_PooledBand):
    """Energy of the error over that of the truths in the same band; 0 all recovered, 1 nothing, above 1 harm.

    Args:
        factor: slice spacing in voxels, above 1.
        axis: the through-plane axis of an item without its channel.
    """

    def aggregate(self, reduction=None) -> torch.Tensor:
        """The pooled ratio, a scalar; smaller is better, so key_metric_negative_sign applies."""
        return self._ratio(1)


class PIQUE(CumulativeIterationMetric):
    """Mean PIQUE of planes (B, 1, H, W), as `piqe.piqe`, 0 to 100; smaller is better; the truth is not looked at.

    Args:
        window: (low, high) mapped to 0 and 255, in the planes' units; None divides each plane by its maximum.
    """

    def __init__(self, window: Sequence[float] | None = None):
        super().__init__()
        self.window = None if window is None else (float(window[0]), float(window[1]))

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs) -> torch.Tensor:
        return piqe(y_pred, self.window).score[:, None]

    def aggregate(self) -> torch.Tensor:
        """The mean over all planes of all ranks, a scalar."""
        scores = self.get_buffer()
        if not isinstance(scores, torch.Tensor):
            raise Refusal("no batch was judged yet: call the metric before aggregate()")
        return scores.mean()


def _usable(truth: torch.Tensor) -> bool:
    return bool(truth.max() > truth.min())


def _single(result: torch.Tensor, truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if truth.shape[0] != 1:
        raise Refusal(f"items have {truth.shape[0]} channels: the judges take one")
    return result[0], truth[0]
