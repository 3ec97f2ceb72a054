"""The bundle as a task of MONAI Label: its bundle task without resizing and without rounding of the result."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from monailabel.interfaces.tasks.infer_v2 import InferType
from monailabel.tasks.infer.bundle import BundleInferTask

from scripts.data.saving import RESULT
from scripts.geometry.errors import Refusal
from scripts.run.record import checksum

from .glue import BUNDLE, VOLUMES, bundle_config, case_of, error_for, row_of, write_result
from .stopping import Checked, Deadline


class GladeTask(BundleInferTask):
    """Run `monai.bundle run inference` on one study: same steps, same weights, the same file bit for bit.

    The stock task would resize the result to the thick grid (Restored), take weights that do not fit, and give the
    file the extension of the input. A request's params may hold "settings" (`glue.SETTINGS`), "volume" (glade,
    added_detail or uncertainty) and "case" (which scan of a folder of several). Requests come one at a time.

    Args:
        conf: Label's --conf; its "deadline_s" are the seconds that a request may take.
    """

    def __init__(self, conf: dict[str, str]):
        super().__init__(
            str(BUNDLE),
            conf,
            type=InferType.OTHERS,
            extend_load_image=False,
            add_post_restore=False,
            load_strict=True,
        )
        self.deadline_s = float(conf["deadline_s"])
        self.labels = {}  # channels of the network are no labels
        self.config().clear()  # neither device nor file of weights is the client's to choose

    def __call__(self, request: dict, callbacks: dict | None = None) -> tuple[str | None, dict]:
        """Return the result's file, which the server removes once it is sent, and the JSON that goes with it.

        Raises:
            RequestError: whatever goes wrong.
        """
        try:
            if request.get("volume", RESULT) not in [*VOLUMES]:
                raise Refusal(f"volume must be one of {', '.join(VOLUMES)}, got {request['volume']!r}")
            self.bundle_config = bundle_config(request.get("settings", {}))
            self.deadline = Deadline(self.deadline_s)
            self.deadline.check()
            return super().__call__(request, callbacks)
        except Exception as error:
            raise error_for(error) from error

    def pre_transforms(self, data: dict | None = None) -> Sequence[Callable]:
        """Return the step that makes a case of the study, then the bundle's own steps."""
        return self.deadline.between([_as_case, *super().pre_transforms(data)])

    def post_transforms(self, data: dict | None = None) -> Sequence[Callable]:
        """Return the bundle's own steps."""
        return self.deadline.between(super().post_transforms(data))

    def writer(self, data: dict, extension: str | None = None, dtype: object = None) -> tuple[str, dict]:
        """Write the requested volume with its own affine, byte for byte as the bundle writes it."""
        postfix = data.get("volume", RESULT)
        part = self.bundle_config.get_parsed_content
        weights = {"weights_sha256": checksum(part("weights_path")), "sharpness": part("sharpness")}
        row = row_of(data["case"], data["pred"], data.get("settings", {})) | weights
        return str(write_result(data[VOLUMES[postfix]], postfix)), row

    def _get_network(self, device: str, data: dict | None) -> torch.nn.Module:
        return Checked(self.bundle_config.get_parsed_content("network").to(device), self.deadline).eval()


def _as_case(data: dict) -> dict:
    settings = data.get("settings", {})
    return {**data, **case_of(Path(data["image"]), settings.get("frames", "all"), data.get("case")).as_item()}
