"""Half-width that holds the error of a fused volume in 90 % of voxels, from its stacks and how far they disagree."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from ..data.uncertainty import local_rms
from ..physics.acquisition import SliceGeometry
from ..physics.uncertainty import COMBINED, DISAGREEMENT, UncertaintyModel

LEAST = 1e-3  # of the intensity scale: smallest half-width of a single stack


def stack_features(
    fused: torch.Tensor,
    volumes: Sequence[torch.Tensor],
    half_widths: Sequence[torch.Tensor],
    inside: Sequence[torch.Tensor],
) -> dict[str, torch.Tensor]:
    """Return what the uncertainty of a fused volume is estimated from, name -> (X, Y, Z).

    "combined": 1 / u^2 is the sum of 1 / u_k^2 over the stacks at a voxel, as if their errors were independent; 0 where
    no stack is. "disagreement": distance of the stacks' own volumes from the fused one, root mean square over the
    stacks there and over a Gaussian neighbourhood.

    Args:
        fused: the fused volume (X, Y, Z), intensity scale.
        volumes: of each stack alone, registered and matched, likewise.
        half_widths: u_k of these, likewise.
        inside: whether a stack sees a voxel, (X, Y, Z) of bool.
    """
    precision, square, count = (torch.zeros_like(fused) for _ in range(3))
    for volume, half_width, seen in zip(volumes, half_widths, inside, strict=True):
        precision += torch.where(seen, half_width.clamp(min=LEAST).square().reciprocal(), 0.0)
        square += torch.where(seen, (volume - fused).square(), 0.0)
        count += seen
    covered = precision > 0
    combined = torch.where(covered, precision.clamp(min=torch.finfo(fused.dtype).tiny).rsqrt(), 0.0)
    distance = (square / count.clamp(min=1)).sqrt()
    return {COMBINED: combined, DISAGREEMENT: local_rms(distance[None])[0]}


def fused_half_width(
    model: UncertaintyModel,
    features: Mapping[str, torch.Tensor],
    coverage: torch.Tensor,
    profile: str,
    factor: float,
) -> torch.Tensor:
    """Return the half-width (X, Y, Z), intensity scale; 1 where no stack is.

    Args:
        model: with a scale for each number of stacks.
        features: of `stack_features`.
        coverage: number of stacks that see a voxel, (X, Y, Z).
        profile: slice profile of the stacks.
        factor: slice spacing over pixel size, as of `mean_factor`.
    """
    half_width = torch.ones_like(coverage)
    for count in range(1, int(coverage.max()) + 1):
        scale = model.scale_for(count)
        found = scale.product(features).to(coverage) * scale.quantile(profile, factor)
        half_width = torch.where(coverage == count, found, half_width)
    return half_width


def mean_factor(geometries: Sequence[SliceGeometry]) -> float:
    """Return the geometric mean of the slice spacings in voxels; of a near-isotropic scan it is 1.

    >>> round(mean_factor([SliceGeometry(32, 8, 4, 4), SliceGeometry(36, 4, 9, 9)]), 6)
    6.0
    """
    return float(np.exp(np.mean([np.log(geometry.slice_spacing_voxels) for geometry in geometries])))
