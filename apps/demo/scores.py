"""The demo's judges, side by side: fidelity and recovered detail, inside the body mask of the truth."""

import numpy as np

from scripts.judging.fidelity import psnr, robust_range, ssim
from scripts.judging.mask import body_mask
from scripts.judging.spectrum import high_band

SCORES = ("PSNR dB", "SSIM", "high-band energy", "high-band error")


class Judge:
    """Gives what `SCORES` names; one mask and one data range for all methods.

    Args:
        truth: (X, Y, Z).
        axis: through-plane.
        factor: slice spacing over voxel size.
    """

    def __init__(self, truth: np.ndarray, axis: int, factor: float):
        self.truth, self.axis, self.factor = truth, axis, factor
        self.mask, self.span = body_mask(truth), robust_range(truth)

    def __call__(self, result: np.ndarray) -> tuple[float, ...]:
        """The scores of a result (X, Y, Z) on the truth's grid, in its units."""
        band = high_band(result, self.truth, self.factor, self.axis, self.mask)
        fidelity = (measure(result, self.truth, self.mask, self.span) for measure in (psnr, ssim))
        return (*fidelity, band.energy, band.error)
