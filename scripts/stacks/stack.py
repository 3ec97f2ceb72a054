"""A stack of a study with what GLADE makes of it alone, by the parts of the inference workflow."""

import copy
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from nibabel.spatialimages import SpatialImage

from ..data.acceptance import ScanProtocol
from ..data.case import Case
from ..data.transforms import OriginalOrientationd, geometry_of, grid_of
from ..geometry.grid import Grid
from ..physics.acquisition import SliceGeometry
from ..run.bundle import in_this_package

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stack:
    """The slices of a stack and the isotropic volume of it alone, in the scan's units, through-plane axis last.

    Attributes:
        case: where it comes from.
        slices: b, (X, Y, N), on square pixels.
        geometry: positions and profile of the slices on the thin grid.
        grid: the thin grid, of (X, Y, Z).
        volume: GLADE's result, (X, Y, Z).
        interpolated: consistent cubic interpolation, likewise.
        uncertainty: of the result, likewise.
        noise: standard deviation of the noise of the slices.
        intensity_range: of the robust intensity scale; what is 1 on it.
        protocol: how it was acquired.
        warnings: sentences about the scan.
        meta: of the volume, for the way back to the scan's own orientation.
    """

    case: Case
    slices: torch.Tensor
    geometry: SliceGeometry
    grid: Grid
    volume: torch.Tensor
    interpolated: torch.Tensor
    uncertainty: torch.Tensor
    noise: float
    intensity_range: float
    protocol: ScanProtocol
    warnings: tuple[str, ...]
    meta: Mapping[str, Any]

    @property
    def slice_grid(self) -> Grid:
        """Grid of the slices, (X, Y, N)."""
        affine = np.array(self.grid.affine)
        affine[:3, 3] += affine[:3, 2] * self.geometry.first_slice_voxels
        affine[:3, 2] *= self.geometry.slice_spacing_voxels
        return Grid((self.grid.shape[0], self.grid.shape[1], self.geometry.slice_count), affine)


class SingleStackInference:
    """Load a stack and make the isotropic volume of it, as `run inference` does; nothing is written.

    Args:
        config: configs/inference.yaml, or a list of it and its overlays.
        overrides: settings of it.
    """

    def __init__(self, config: str | Path | list[str], overrides: Mapping[str, Any]):
        parser = ConfigParser(ConfigParser.load_config_files(config))
        parser.update(dict(overrides))
        parser.set(in_this_package(parser.get()))
        self._config = copy.deepcopy(parser.get())  # parsing replaces parts of it
        self._parser = parser

    def load(self) -> None:
        """Build the network and the transforms: a wrong setting is found before the first scan is read."""
        part = self._parser.get_parsed_content
        self._network, self._device = part("network"), part("device")
        self._preprocessing, self._inferer = part("preprocessing"), part("inferer")
        steps = part("postprocessing").transforms
        end = next(index for index, step in enumerate(steps) if isinstance(step, OriginalOrientationd))
        self._finish = steps[:end]  # the joint solution needs all stacks with their through-plane axis last

    def __call__(self, case: Case, image: SpatialImage | None = None) -> Stack:
        """Return the stack of a case.

        Args:
            case: of the stack.
            image: its slices, for a case without files.

        Raises:
            Refusal: if the scan cannot be processed rightly.
        """
        item = self._preprocessing(case.as_item() if image is None else {"case": case, "image": image})
        image = item["image"].to(self._device)
        network = self._network.eval()
        with torch.no_grad():
            item = {**item, "image": image, "pred": self._inferer(image[None], network)[0]}
            for step in self._finish:
                item = step(item)
        pred, intensity = item["pred"], image.meta["intensity"]
        logger.info("%s: made isotropic alone", case.name)
        return Stack(
            case=case,
            slices=_values(item["slices"]) * intensity.scale + intensity.offset,
            geometry=geometry_of(image),
            grid=grid_of(pred),
            volume=_values(pred),
            interpolated=_values(pred) - _values(item["added_detail"]),
            uncertainty=_values(item["uncertainty"]),
            noise=float(image.meta["noise"]),
            intensity_range=float(intensity.scale),
            protocol=image.meta["protocol"],
            warnings=tuple(str(warning) for warning in image.meta.get("warnings", [])),
            meta=dict(pred.meta),
        )


def _values(volume: MetaTensor) -> torch.Tensor:
    return volume.as_tensor()[0]
