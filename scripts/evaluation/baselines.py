"""Interpolation alone: what a scan becomes by the shipped preprocessing without the network."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose

from ..data.discovery import require_cases
from ..data.transforms import OriginalIntensityd, OriginalOrientationd, geometry_of, projection
from ..geometry.errors import Refusal
from ..physics.interpolation import simple_interpolation
from .method_names import CONSISTENT, CUBIC, INPUT, INTERPOLATIONS, LINEAR, NEAREST

ORDERS = {NEAREST: 0, LINEAR: 1}  # of the interpolating polynomial


class Baselines:
    """Interpolation of cases that are read and prepared exactly as by the inference.

    Args:
        config: configs/inference.yaml, or a list of it and its overlays.
        dataset_dir: file or folder with the scans.
        overrides: of the configuration, where the inference had some.

    Raises:
        Refusal: if there is no scan.
    """

    def __init__(
        self, config: str | Path | Sequence[str | Path], dataset_dir: str | Path, overrides: Mapping | None = None
    ):
        workflow = _parsed(config, {**(overrides or {}), "dataset_dir": str(dataset_dir)})
        found = require_cases(workflow.get_parsed_content("cases"), dataset_dir)
        self.cases = {case.name: case for case in found}
        self.regularisation = workflow.get_parsed_content("regularisation")
        self.smoothness = float(workflow.get_parsed_content("smoothness"))
        self._prepare = workflow.get_parsed_content("preprocessing")

    def __call__(self, name: str, methods: Sequence[str] = (INPUT, CUBIC, CONSISTENT)) -> dict[str, MetaTensor]:
        """Interpolate a case by the named methods, in the scan's own units and orientation.

        Args:
            name: of the case.
            methods: of "input" (the slices b, on square pixels), "nearest", "linear", "cubic" (U b) and
                "consistent cubic" (P(U b)).

        Returns:
            For each method a volume (1, X, Y, Z), float32, RAS affine in mm; its meta holds "protocol" and "slices".

        Raises:
            Refusal: if the inference would refuse the scan, or no method has such a name.
        """
        check_interpolations([method for method in methods if method != INPUT])
        data = self._prepare(self.cases[name].as_item())
        cubic, slices = data["image"], data["slices"]
        for method in methods:
            data[method] = slices if method == INPUT else self._interpolated(method, cubic, slices)
        restored = Compose([OriginalIntensityd(methods), OriginalOrientationd(methods)])(data)
        return {method: restored[method] for method in methods}

    def _interpolated(self, method: str, cubic: MetaTensor, slices: MetaTensor) -> MetaTensor:
        """One method's volume on the isotropic grid, on the intensity scale; `cubic` is U b already."""
        geometry, values = geometry_of(cubic), cubic.as_tensor()
        if method in ORDERS:
            values = simple_interpolation(geometry, ORDERS[method])(slices.as_tensor())
        elif method == CONSISTENT:
            P = projection(cubic, values, slices.as_tensor(), self.regularisation, self.smoothness)
            values = P(values, slices.as_tensor())
        return MetaTensor(values, meta=dict(cubic.meta))


def check_interpolations(methods: Sequence[str]) -> None:
    """Check that these are names of interpolations.

    Raises:
        Refusal: if one is not, or they are not a list of names.

    >>> check_interpolations(["linear", "cubic"])
    """
    unknown = [methods] if isinstance(methods, str) else [m for m in methods if m not in INTERPOLATIONS]
    if unknown:
        raise Refusal(
            f"interpolations must be a list of {', '.join(INTERPOLATIONS)}, got {', '.join(map(str, unknown))}"
        )


def _parsed(config: str | Path | Sequence[str | Path], overrides: Mapping) -> ConfigParser:
    """The parts of a workflow, made only when they are asked for: no network is loaded here."""
    files = [config] if isinstance(config, str | Path) else list(config)
    parser = ConfigParser(ConfigParser.load_config_files([str(file) for file in files]))
    for key, value in overrides.items():
        parser[key] = value
    parser.parse()
    return parser
