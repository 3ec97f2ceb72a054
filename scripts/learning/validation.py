"""Validation on held-back scans: acquisitions simulated from their sharp planes, which are the truth."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from monai.data import Dataset
from monai.engines import PrepareBatch
from monai.inferers import Inferer
from torch import nn

from ..physics.measurement import Measurement
from ..physics.protocol import ProtocolRange


class PrepareSimulatedBatch(PrepareBatch):
    """Simulation of a batch of acquisitions from sharp planes, which are their truth; the same at every validation.

    Args:
        protocols: protocols to simulate; each batch takes the next one.
        seed: seed of the draws within each range.
        columns: of the planes, along the simulated through-plane axis.

    Raises:
        Refusal: if the planes are too small for one of the ranges.
    """

    def __init__(self, protocols: Sequence[ProtocolRange], seed: int, columns: int):
        self.protocols, self.seed = list(protocols), seed
        for protocol in self.protocols:
            protocol.require_room(columns)

    def __call__(self, batchdata: Mapping, device=None, non_blocking: bool = False, **kwargs) -> tuple:
        """Return (U b, truth, (), {"measurement": ...}), the arguments of `PlaneInferer`."""
        truth = batchdata["sharp"].to(device, non_blocking=non_blocking)
        number = int(batchdata["number"][0])
        geometry, noise = self.protocols[number % len(self.protocols)].draw(
            truth.shape[-1], np.random.default_rng((self.seed, number))
        )
        generator = torch.Generator(truth.device).manual_seed(number)
        measurement = Measurement.simulate(truth, geometry, noise, generator)
        return measurement.image, truth, (), {"measurement": measurement}


class NumberedBatches(Dataset):
    """Patches with the number of the batch that they fall into, which selects the batch's protocol.

    Args:
        data: a dataset of dicts, such as `UnpairedPatches`.
        batch_size: batch size of the loader.

    >>> [item["number"] for item in NumberedBatches([{}, {}, {}], batch_size=2)]
    [0, 0, 1]
    """

    def __init__(self, data: Dataset, batch_size: int):
        super().__init__(data)
        self.batch_size = batch_size

    def _transform(self, index: int) -> dict:
        return {**self.data[index], "number": index // self.batch_size}


class Interpolation(nn.Module):
    """The interpolated planes themselves in place of a generator's prediction, as a baseline.

    >>> Interpolation()(torch.rand(2, 7, 8, 9)).shape
    torch.Size([2, 1, 8, 9])
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the image channel (B, 1, H, W) of a generator's input (B, 1 + conditioning channels, H, W)."""
        return x[:, :1]


class PlaneInferer(Inferer):
    """Inferer that applies G and the projection P to a batch of simulated planes: P(G(U b, conditioning)).

    Args:
        consistent: whether to apply the projection P.
    """

    def __init__(self, consistent: bool):
        super().__init__()
        self.consistent = consistent

    def __call__(self, inputs: torch.Tensor, network, *, measurement: Measurement) -> torch.Tensor:
        """Return sharp planes (B, 1, H, W) from U b of the same shape."""
        prediction = network(measurement.with_conditioning(inputs)).float()
        return measurement.project(prediction) if self.consistent else prediction
