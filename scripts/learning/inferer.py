"""The inferer: G over the planes of one or both views of an interpolated volume."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, SlidingWindowInferer
from monai.utils import convert_to_dst_type
from tqdm import tqdm

from ..geometry.refusal import Refusal
from ..physics.acquisition import geometry_of

WHOLE_PLANE = -1
FOREGROUND = 0.05  # of the intensity scale; planes and margins below hold air
MARGIN_VOXELS = 16  # kept around the body, more than a patch's border effects reach


class OrthogonalInferer(Inferer):
    """Applies a 2-D generator to the planes of one or both views; a channel of the answer per view.

    A plane holds one in-plane axis and the through-plane axis. Planes go through the network in batches, whole or in
    overlapping windows that are blended with Gaussian weights (MONAI's `SlidingWindowInferer`), so that neither the
    window nor the batch shows. Only the box around the body is computed; the air outside stays as interpolated.

    Args:
        views: in-plane axes that the planes hold: (0, 1) for both views, (0,) or (1,) for one.
        window: rows and columns of a window, voxels; -1 for the whole plane along that axis.
        overlap: share of a window that overlaps the next, 0 to under 1.
        batch: planes or windows a call.
        precision: "float32" or "bfloat16"; "auto" takes bfloat16 where the device computes in it natively.
        progress: whether to show a bar over planes.
    """

    def __init__(
        self,
        views: Sequence[int],
        window: Sequence[int] = (WHOLE_PLANE, WHOLE_PLANE),
        overlap: float = 0.25,
        batch: int = 8,
        precision: str = "auto",
        progress: bool = False,
    ):
        super().__init__()
        if not views or set(views) - {0, 1} or len(set(views)) != len(views):
            raise Refusal(f"views must be [0], [1] or [0, 1], got {list(views)}")
        if len(window) != 2 or any(size != WHOLE_PLANE and size < 1 for size in window):
            raise Refusal(f"window must be two sizes in voxels or -1 for the whole plane, got {list(window)}")
        if not 0 <= overlap < 1:
            raise Refusal(f"overlap must be from 0 to below 1, got {overlap}")
        if batch < 1:
            raise Refusal(f"batch must be at least 1, got {batch}")
        if precision not in ("auto", "float32", "bfloat16"):
            raise Refusal(f"precision must be auto, float32 or bfloat16, got {precision!r}")
        self.views, self.window, self.overlap, self.batch = tuple(views), tuple(window), overlap, int(batch)
        self.precision, self.progress = precision, progress

    def __call__(self, inputs: MetaTensor, network: Callable[..., torch.Tensor], *args, **kwargs) -> MetaTensor:
        """U b, (1, 1, X, Y, Z) with meta["slices"] -> the views' answers, (1, views, X, Y, Z), same scale.

        Raises:
            Refusal: if more than one volume comes at once, or the volume does not tell its slices.
        """
        if not isinstance(inputs, MetaTensor) or "slices" not in inputs.meta:
            raise Refusal("the volume does not tell its slices: run InterpolateSlicesd in preprocessing first")
        if len(inputs) != 1:
            raise Refusal(f"one volume at a time, got a batch of {len(inputs)}: set the loader's batch size to 1")
        volume = inputs.as_tensor()[0, 0]
        told = torch.as_tensor(geometry_of(inputs).told(), dtype=volume.dtype, device=volume.device)
        box = body_box(volume)
        answers = volume.expand(len(self.views), *volume.shape).clone()
        steps = sum(-(-(box[1 - view].stop - box[1 - view].start) // self.batch) for view in self.views)
        with tqdm(total=steps, desc="planes", unit="batch", disable=not self.progress, leave=False) as bar:
            for answer, view in zip(answers, self.views, strict=True):
                # planes (across, rows, through-plane), views into the volume
                planes, out = (v[box].movedim(1 - view, 0) for v in (volume, answer))
                for start in range(0, len(planes), self.batch):
                    some = planes[start : start + self.batch, None]
                    shown = torch.cat([some, told[None, :, None].expand(len(some), -1, some.shape[2], -1)], dim=1)
                    out[start : start + self.batch] = self._infer(shown, network)[:, 0]
                    bar.update()
        return convert_to_dst_type(answers[None], inputs)[0]

    def _infer(self, shown: torch.Tensor, network: Callable[..., torch.Tensor]) -> torch.Tensor:
        sizes = zip(self.window, shown.shape[2:], strict=True)
        window = [whole if size == WHOLE_PLANE else size for size, whole in sizes]
        inferer = SlidingWindowInferer(window, sw_batch_size=self.batch, overlap=self.overlap, mode="gaussian")
        precision = self._precision(shown.device)
        with torch.autocast(shown.device.type, dtype=precision, enabled=precision is not torch.float32):
            return inferer(shown.contiguous(memory_format=torch.channels_last), network).float()

    def _precision(self, device: torch.device) -> torch.dtype:
        if self.precision != "auto":
            return {"float32": torch.float32, "bfloat16": torch.bfloat16}[self.precision]
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
        return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32


def body_box(volume: torch.Tensor) -> tuple[slice, slice, slice]:
    """The in-plane box around everything brighter than air, with a margin; the through-plane axis whole.

    Args:
        volume: (X, Y, Z), intensities 0 (air) to 1.
    """
    bright = volume > FOREGROUND
    sides = []
    for axis in (0, 1):
        seen = np.flatnonzero(bright.any(dim=2).any(dim=1 - axis).cpu().numpy())
        size = volume.shape[axis]
        low, high = (seen[0], seen[-1] + 1) if len(seen) else (0, size)
        sides.append(slice(max(0, int(low) - MARGIN_VOXELS), min(size, int(high) + MARGIN_VOXELS)))
    return (*sides, slice(None))
