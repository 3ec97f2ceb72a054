"""What interpolation alone makes of a scan: the shipped preprocessing without the network."""

from collections.abc import Mapping
from pathlib import Path

import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose

from scripts.data.cases import require_cases
from scripts.data.transforms import OriginalIntensityd, OriginalOrientationd
from scripts.physics.acquisition import Acquisition, geometry_of
from scripts.physics.consistency import DataConsistency

KEYS = ["slices", "image", "consistent"]


class Baselines:
    """Reads cases as the inference does and interpolates them.

    Args:
        config: configs/inference.yaml.
        dataset_dir: file or folder with the scans.
        overrides: of the configuration, where the inference had some.
    """

    def __init__(self, config: Path, dataset_dir: Path, overrides: Mapping | None = None):
        parser = ConfigParser()
        parser.read_config(config)
        for key, value in {"dataset_dir": str(dataset_dir), **(overrides or {})}.items():
            parser[key] = value
        parser.parse()
        found = parser.get_parsed_content("cases")
        self.cases = {case["case"]: case for case in require_cases(found, dataset_dir)}
        self.regularisation = float(parser["regularisation"])
        self._prepare = parser.get_parsed_content("preprocessing")
        self._restore = Compose([OriginalIntensityd(KEYS), OriginalOrientationd(KEYS)])

    def __call__(self, name: str) -> tuple[MetaTensor, MetaTensor, MetaTensor]:
        """The slices b, cubic U b and consistent cubic P(U b) of a case, in its own units and orientation.

        Each is (1, X, Y, Z), float32, RAS affine in mm.
        """
        data = self._prepare(self.cases[name])
        cubic, slices = data["image"], data["slices"]
        project = DataConsistency(Acquisition(geometry_of(cubic)), self.regularisation)
        consistent = project(cubic.as_tensor(), slices.as_tensor())
        data["consistent"] = MetaTensor(consistent, meta=dict(cubic.meta))
        restored = self._restore(data)
        return tuple(restored[key] for key in KEYS)


def as_volume(tensor: torch.Tensor) -> tuple:
    """A MetaTensor (1, X, Y, Z) as (array, affine)."""
    return tensor[0].numpy(), tensor.affine.numpy()
