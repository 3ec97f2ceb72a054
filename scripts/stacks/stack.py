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

from ..data.acceptance import AUTO, AcceptScand, ScanProtocol
from ..data.case import Case
from ..data.transforms import OriginalOrientationd, ScaleIntensityRobustd, geometry_of, grid_of, resampled
from ..geometry.errors import Refusal
from ..geometry.grid import AXES, Grid
from ..geometry.orientation import Reorientation
from ..physics.acquisition import SliceGeometry
from ..run.bundle import in_this_package
from ..run.keys import refuse_unknown_keys

HALF_WIDTH_OF_NOISE = 1.645  # standard deviations that hold 90 % of normally distributed errors
ADAPTED = "adapt the weights by run inference first, and give them as inference::weights_path"
OF_THE_STUDY = "it is a setting of the whole study: give it without inference::"
NOT_OF_A_STACK = {  # settings of inference.yaml that have no effect on a stack of a study -> what to do
    "adapt": ADAPTED,
    "adapted_weights_path": ADAPTED,
    **dict.fromkeys(("dataset_dir", "dicom_plane", "keep_names", "output_dir", "redo", "write"), OF_THE_STUDY),
    **dict.fromkeys(("bids_dir", "frames", "like"), "leave it out"),
}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stack:
    """The slices of a stack and the isotropic volume of it alone, in the scan's units, through-plane axis last.

    A scan that is itself near-isotropic has no thick slices: its planes are the slices, the thin grid is its own, and
    the volume is the scan.

    Attributes:
        case: where it comes from.
        slices: b, (X, Y, N), on square pixels.
        geometry: positions and profile of the slices on the thin grid.
        grid: the thin grid, of (X, Y, Z).
        volume: GLADE's result, (X, Y, Z).
        interpolated: consistent cubic interpolation, likewise.
        uncertainty: of the result, likewise.
        noise: standard deviation of the noise of the slices.
        intensity_range: of the intensity scale; what is 1 on it.
        protocol: how it was acquired; None of a near-isotropic scan.
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
    protocol: ScanProtocol | None
    warnings: tuple[str, ...]
    meta: Mapping[str, Any]

    @property
    def is_near_isotropic(self) -> bool:
        """Whether the scan has no thick slices, so that it was kept as it is."""
        return self.protocol is None

    @property
    def slice_grid(self) -> Grid:
        """Grid of the slices, (X, Y, N)."""
        affine = np.array(self.grid.affine)
        affine[:3, 3] += affine[:3, 2] * self.geometry.first_slice_voxels
        affine[:3, 2] *= self.geometry.slice_spacing_voxels
        return Grid((self.grid.shape[0], self.grid.shape[1], self.geometry.slice_count), affine)


class SingleStackInference:
    """Load a stack and make the isotropic volume of it, as `run inference` does; nothing is written.

    A near-isotropic scan, which `run inference` refuses, is kept as it is, unless through_plane_axis is set.

    Args:
        config: configs/inference.yaml, or a list of it and its overlays.
        overrides: settings of it.
        isotropic_spacing_mm: voxel size of the fused volume: finer pixels become means over such voxels, since fine
            detail would be sampled to false coarse detail; None: pixels stay as they are.

    Raises:
        Refusal: if the config has no such setting, or one of `NOT_OF_A_STACK` is given.
    """

    def __init__(
        self, config: str | Path | list[str], overrides: Mapping[str, Any], isotropic_spacing_mm: float | None = None
    ):
        parser = ConfigParser(ConfigParser.load_config_files(config))
        refuse_unknown_keys(overrides, parser.get())
        for key, way_out in NOT_OF_A_STACK.items():
            if key in overrides:
                raise Refusal(f"inference::{key} has no effect on a stack: {way_out}")
        parser.update(dict(overrides))
        # that of the study is compared with weights and sharpness; this one is its feature, whatever they are
        parser.update({"uncertainty_model": "$read_model(@uncertainty_path)"})
        parser.set(in_this_package(parser.get()))
        self._config = copy.deepcopy(parser.get())  # parsing replaces parts of it
        self._parser = parser
        self.isotropic_spacing_mm = isotropic_spacing_mm

    @property
    def weights_path(self) -> str:
        """File of the faithful weights."""
        return str(self._parser.get_parsed_content("used_weights_path"))

    @property
    def sharp_weights_path(self) -> str:
        """File of the sharp weights; read where `sharpness` is above 0."""
        return str(self._parser.get_parsed_content("sharp_weights_path"))

    @property
    def sharpness(self) -> float:
        """From 0, the faithful weights alone, to 1, the sharp ones."""
        return float(self._parser.get_parsed_content("sharpness"))

    def load(self) -> None:
        """Build the network and the transforms: a wrong setting is found before the first scan is read."""
        part = self._parser.get_parsed_content
        self._network, self._device = part("network"), part("device")
        self._preprocessing, self._inferer = part("preprocessing"), part("inferer")
        for index, step in enumerate(self._preprocessing.transforms):
            if isinstance(step, AcceptScand):
                step.near_isotropic = step.through_plane_axis == AUTO
                step.isotropic_spacing_mm = self.isotropic_spacing_mm or step.isotropic_spacing_mm
            if isinstance(step, ScaleIntensityRobustd):
                self._scaled = index + 1
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
        item = case.as_item() if image is None else {"case": case, "image": image}
        item = self._preprocessing(item, end=self._scaled)
        item = {**item, "image": self._not_finer(item["image"])}
        if "protocol" not in item["image"].meta:
            return _near_isotropic(case, item["image"].to(self._device))
        item = self._preprocessing(item, start=self._scaled)
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
            slices=_values(item["slices"]).to(image.device) * intensity.scale + intensity.offset,
            geometry=geometry_of(image),
            grid=grid_of(pred),
            volume=_values(pred),
            interpolated=_values(pred) - _values(item["added_detail"]),
            uncertainty=_values(item["uncertainty"]),
            noise=float(image.meta["noise"]),
            intensity_range=float(intensity.scale),
            protocol=image.meta["protocol"],
            warnings=_warnings(image),
            meta=dict(pred.meta),
        )

    def _not_finer(self, image: MetaTensor) -> MetaTensor:
        """A scan whose pixels are at least as large as the voxels of the result; thick slices stay as acquired."""
        if self.isotropic_spacing_mm is None:
            return image
        own = grid_of(image).spacing_mm
        spacing = np.maximum(own, self.isotropic_spacing_mm)
        if "protocol" in image.meta:
            spacing[AXES - 1] = own[AXES - 1]
        return resampled(image, spacing.tolist())


def _near_isotropic(case: Case, image: MetaTensor) -> Stack:
    """The stack of a scan without thick slices, (1, X, Y, Z) on the intensity scale: A is the identity.

    Its errors are its noise.
    """
    grid, intensity, noise = grid_of(image), image.meta["intensity"], float(image.meta["noise"])
    values = _values(image) * intensity.scale + intensity.offset
    planes = grid.shape[AXES - 1]
    spacings = " x ".join(f"{spacing:.3g}" for spacing in grid.spacing_mm)
    logger.info("%s: already isotropic or nearly so (%s mm), kept as it is", case.name, spacings)
    return Stack(
        case=case,
        slices=values,
        geometry=SliceGeometry(planes, planes, 1, 1),
        grid=grid,
        volume=values,
        interpolated=values,
        uncertainty=torch.full_like(values, HALF_WIDTH_OF_NOISE * noise),
        noise=noise,
        intensity_range=float(intensity.scale),
        protocol=None,
        warnings=_warnings(image),
        meta={**image.meta, "reorientation": Reorientation((0, 1, 2), (False, False, False))},
    )


def _warnings(image: MetaTensor) -> tuple[str, ...]:
    return tuple(str(warning) for warning in image.meta.get("warnings", []))


def _values(volume: MetaTensor) -> torch.Tensor:
    return volume.as_tensor()[0]
