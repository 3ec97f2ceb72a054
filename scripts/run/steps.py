"""The transforms of a workflow one after the other, as MONAI's Compose; the log says how long each of them takes."""

import logging
import time
from typing import Any

from monai.transforms import Compose

logger = logging.getLogger(__name__)


class Steps(Compose):
    """MONAI's Compose that logs each transform with its seconds, at the level DEBUG (`glade --verbose`).

    >>> from monai.transforms import ScaleIntensityd
    >>> import torch
    >>> steps = Steps([ScaleIntensityd("image")])
    >>> steps({"image": torch.arange(3.0)})["image"].tolist()
    [0.0, 0.5, 1.0]
    """

    def __call__(self, input_: Any, start: int = 0, end: int | None = None, **options: Any) -> Any:
        """Return the data after the transforms from `start` to before `end`.

        Args:
            input_: data item.
            start: index of the first transform.
            end: index after the last transform; None: to the end.
            options: as of MONAI's Compose.
        """
        if not logger.isEnabledFor(logging.DEBUG):
            return super().__call__(input_, start, end, **options)
        data = input_
        for index, step in enumerate(self.transforms[start:end], start):
            begun = time.perf_counter()
            data = super().__call__(data, index, index + 1, **options)
            log_seconds(input_, type(step).__name__, begun)
        return data


def log_seconds(data: Any, name: str, begun: float) -> None:
    """Log how long a step took, at the level DEBUG.

    Args:
        data: item of the case, which names the scan.
        name: of the step.
        begun: when it began, by `time.perf_counter`.
    """
    case = data.get("case") if isinstance(data, dict) else None
    scan = f"{case.label}: " if case is not None else ""
    logger.debug("%s%s took %.2f s", scan, name, time.perf_counter() - begun)
