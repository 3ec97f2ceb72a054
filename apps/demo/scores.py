"""The demo's judges, side by side: fidelity and recovered detail, inside the body mask of the truth."""

import numpy as np

from scripts.judging.fidelity import psnr, robust_range, ssim
from scripts.judging.mask import body_mask
from scripts.judging.spectrum import high_band

SCORES = ("PSNR dB", "SSIM", "high-band energy", "high-band error")


def scores(result: np.ndarray, truth: np.ndarray, axis: int, factor: float) -> tuple[float, ...]:
    """What `SCORES` names, of a result (X, Y, Z) against the truth on the same grid.

    Args:
        result: in the truth's units.
        truth: same shape.
        axis: through-plane.
        factor: slice spacing over voxel size.
    """
    mask, span = body_mask(truth), robust_range(truth)
    band = high_band(result, truth, factor, axis, mask)
    return psnr(result, truth, mask, span), ssim(result, truth, mask, span), band.energy, band.error
