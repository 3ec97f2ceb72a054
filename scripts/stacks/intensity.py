"""Intensity matching: the gain and the smooth field between two registered scans of one contrast."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..geometry.errors import Refusal

FIELD_SIGMA_MM = 40.0  # Gaussian neighbourhood: coil sensitivities vary more slowly, anatomy faster
DIMMEST = 0.1  # of the robust maximum; air says nothing about the gain
MARGIN_MM = 6.0  # Gaussian sigma before that threshold
TINY = float(np.finfo(np.float32).tiny)
ROBUST_MAXIMUM = 99.0  # percentile
LARGEST_GAIN = 20.0  # and its inverse: beyond, the scans do not have the same contrast
LARGEST_FIELD = 2.0  # of the gain, and its inverse
FEWEST_VOXELS = 100  # of the body, inside both scans
COARSE_MM = 6.0  # voxels on which the field is found; it is smooth
PULL = 0.05  # weight of the gain against the ratio where the body covers all of the neighbourhood


@dataclass(frozen=True)
class IntensityMatch:
    """Factors that bring a scan to the intensities of the reference.

    Attributes:
        gain: one number for the whole scan.
        field: (X, Y, Z), smooth, about 1; the product of both is applied.
    """

    gain: float
    field: np.ndarray

    @property
    def factors(self) -> np.ndarray:
        """Gain times field, (X, Y, Z)."""
        return self.gain * self.field

    def as_row(self) -> dict:
        """What the run record says."""
        return {
            "gain": round(self.gain, 4),
            "field": [round(float(f), 4) for f in (self.field.min(), self.field.max())],
        }


def match_intensity(
    volume: np.ndarray, reference: np.ndarray, shared: np.ndarray, spacing_mm: float, sigma_mm: float = FIELD_SIGMA_MM
) -> IntensityMatch:
    """Return the factors by which a volume has to be multiplied to have the intensities of the reference.

    Magnitude images of one contrast differ by the gain of the receiver and by the sensitivity of the coils, which
    varies slowly. The field is the ratio of the two means in a Gaussian neighbourhood of the body; where there is
    little of the body in it, the gain takes over.

    Args:
        volume: (X, Y, Z), 0 is no signal.
        reference: (X, Y, Z), on the same grid.
        shared: boolean, same shape: inside both fields of view.
        spacing_mm: of the isotropic voxels.
        sigma_mm: of the neighbourhood.

    Raises:
        Refusal: if there is no body in both, or the gain is implausible.

    >>> reference = np.full((40, 40, 40), 100.0)
    >>> match_intensity(reference / 2, reference, np.ones(reference.shape, bool), spacing_mm=2.0).gain
    2.0
    """
    body = _body(volume, reference, shared, spacing_mm)
    if body.sum() < FEWEST_VOXELS:
        raise Refusal(f"{int(body.sum())} voxels of body are shared with the reference, {FEWEST_VOXELS} are needed")
    sums = [float(values[body].sum(dtype=np.float64)) for values in (reference, volume)]
    gain = sums[0] / sums[1] if sums[1] > 0 else np.inf
    if not 1 / LARGEST_GAIN < gain < LARGEST_GAIN:
        raise Refusal(f"the intensities differ by a factor of {gain:.3g}: is it the same contrast?")
    stride = max(1, int(COARSE_MM / spacing_mm))
    sigma = sigma_mm / (spacing_mm * stride)
    coarse = [_coarse(np.where(body, values, 0), stride, sigma) for values in (reference, volume, body)]
    level = PULL * sums[1] / body.sum()  # of the volume in the body: weighs the gain where the body is far
    ratio = (coarse[0] + level * gain) / (coarse[1] + level) / gain
    zoom = [full / small for full, small in zip(volume.shape, ratio.shape, strict=True)]
    field = ndimage.zoom(ratio, zoom, order=1, mode="nearest", grid_mode=True)
    return IntensityMatch(float(gain), np.clip(field, 1 / LARGEST_FIELD, LARGEST_FIELD).astype(np.float32))


def _body(volume: np.ndarray, reference: np.ndarray, shared: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Voxels of the body with a margin of air, from both volumes alike.

    A threshold on one of the two alone would favour it: at an edge the sharper one is brighter on the body's side.
    """
    if not shared.any():
        return shared
    maxima = [max(float(np.percentile(values[shared], ROBUST_MAXIMUM)), TINY) for values in (volume, reference)]
    both = (volume / maxima[0] + reference / maxima[1]) / 2
    return shared & (ndimage.gaussian_filter(both.astype(np.float32), MARGIN_MM / spacing_mm) > DIMMEST)


def _coarse(values: np.ndarray, stride: int, sigma: float) -> np.ndarray:
    """Means over blocks of stride voxels along each axis, smoothed; zero outside."""
    pad = [(0, -n % stride) for n in values.shape]
    padded = np.pad(values.astype(np.float64), pad)
    blocks = padded.reshape(*(m for n in padded.shape for m in (n // stride, stride)))
    return ndimage.gaussian_filter(blocks.mean(axis=(1, 3, 5)), sigma, mode="constant")
