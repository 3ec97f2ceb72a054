"""What interpolation alone makes of a scan: the shipped preprocessing without the network."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose

from ..data.discovery import require_cases
from ..data.transforms import OriginalIntensityd, OriginalOrientationd
from ..physics.acquisition import Acquisition, geometry_of
from ..physics.interpolation import simple_interpolation
from ..physics.projection import DataConsistency

INPUT, NEAREST, LINEAR, CUBIC, CONSISTENT = "input", "nearest", "linear", "cubic", "consistent cubic"
ORDERS = {NEAREST: 0, LINEAR: 1}


class Baselines:
    """Reads cases as the inference does and interpolates them.

    Args:
        config: configs/inference.yaml, or a list of it and its overlays.
        dataset_dir: file or folder with the scans.
        overrides: of the configuration, where the inference had some.
    """

    def __init__(
        self, config: str | Path | Sequence[str | Path], dataset_dir: str | Path, overrides: Mapping | None = None
    ):
        files = [config] if isinstance(config, str | Path) else list(config)
        parser = ConfigParser(ConfigParser.load_config_files([str(file) for file in files]))
        for key, value in {**(overrides or {}), "dataset_dir": str(dataset_dir)}.items():
            parser[key] = value
        parser.parse()
        found = parser.get_parsed_content("cases")
        self.cases = {case.name: case for case in require_cases(found, dataset_dir)}
        self.regularisation = float(parser.get_parsed_content("regularisation"))
        self.smoothness = float(parser.get_parsed_content("smoothness"))
        self._prepare = parser.get_parsed_content("preprocessing")

    def __call__(self, name: str, methods: Sequence[str] = (INPUT, CUBIC, CONSISTENT)) -> dict[str, MetaTensor]:
        """What the named methods make of a case, in the scan's own units and orientation.

        Args:
            name: of the case.
            methods: of "input" (the slices b, on square pixels), "nearest", "linear", "cubic" (U b) and
                "consistent cubic" (P(U b)).

        Returns:
            A volume (1, X, Y, Z) a method, float32, RAS affine in mm; its meta holds "protocol" and "slices".

        Raises:
            Refusal: if the inference would refuse the scan.
        """
        data = self._prepare(self.cases[name].as_item())
        cubic, slices = data["image"], data["slices"]
        geometry = geometry_of(cubic)
        for method in methods:
            if method == INPUT:
                data[method] = slices
                continue
            if method in ORDERS:
                values = simple_interpolation(geometry, ORDERS[method])(slices.as_tensor())
            elif method == CONSISTENT:
                project = DataConsistency(Acquisition(geometry), self.regularisation, self.smoothness)
                values = project(cubic.as_tensor(), slices.as_tensor())
            else:
                values = cubic.as_tensor()
            data[method] = MetaTensor(values, meta=dict(cubic.meta))
        restored = Compose([OriginalIntensityd(methods), OriginalOrientationd(methods)])(data)
        return {method: restored[method] for method in methods}
