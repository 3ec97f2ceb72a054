"""Validation on held-back scans: their sharp planes, measured by simulation, against themselves."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from monai.data import Dataset
from monai.engines import PrepareBatch
from monai.inferers import Inferer

from ..physics.measurement import Measurement
from ..physics.protocol import ProtocolRange


class MeasuredPlanes(PrepareBatch):
    """A batch of sharp planes becomes measured planes and their truth; the same way at every validation.

    Args:
        protocols: what acquisitions are simulated; each batch takes the next one.
        seed: of the draws within each range.
    """

    def __init__(self, protocols: Sequence[ProtocolRange], seed: int):
        self.protocols, self.seed = list(protocols), seed

    def __call__(self, batchdata: Mapping, device=None, non_blocking: bool = False, **kwargs) -> tuple:
        """(U b, truth, (), {"measurement": ...}), what `MeasuredPlaneInferer` takes."""
        truth = batchdata["sharp"].to(device, non_blocking=non_blocking)
        number = int(batchdata["number"][0])
        geometry, noise = self.protocols[number % len(self.protocols)].draw(
            truth.shape[-1], np.random.default_rng((self.seed, number))
        )
        generator = torch.Generator(truth.device).manual_seed(number)
        measurement = Measurement.simulate(truth, geometry, noise, generator)
        return measurement.image, truth, (), {"measurement": measurement}


class NumberedBatches(Dataset):
    """Patches with the number of the batch they fall into, so that a batch knows which protocol is its own.

    Args:
        data: a dataset of dicts, such as `UnpairedPatches`.
        batch_size: of the loader.
    """

    def __init__(self, data: Dataset, batch_size: int):
        super().__init__(data)
        self.batch_size = batch_size

    def _transform(self, index: int) -> dict:
        return {**self.data[index], "number": index // self.batch_size}


class MeasuredPlaneInferer(Inferer):
    """`P(G(U b, told))` on a batch of measured planes.

    Args:
        consistent: whether the answer ends in the projection P.
    """

    def __init__(self, consistent: bool):
        super().__init__()
        self.consistent = consistent

    def __call__(self, inputs: torch.Tensor, network, *, measurement: Measurement) -> torch.Tensor:
        """U b, (B, 1, H, W) -> sharp planes, (B, 1, H, W)."""
        answer = network(measurement.with_conditioning(inputs)).float()
        return measurement.project(answer) if self.consistent else answer
