"""The inferer: G over the planes of one or both views of an interpolated volume, and of the volume turned."""

from collections.abc import Callable, Sequence

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, SlidingWindowInferer
from monai.utils import convert_to_dst_type
from tqdm import tqdm

from ..geometry.errors import Refusal
from ..physics.acquisition import SliceGeometry, geometry_of
from .precision import precision_on
from .rotation import InPlaneRotation

WHOLE_PLANE = -1
FOREGROUND = 0.05  # of the intensity scale; below it lies air
MARGIN_VOXELS = 16  # at least so much air is kept around the body, nearly what the shipped generator sees (20)
CPU_BATCH = 2  # planes or windows that a CPU computes at once; 8 leave its cache and take a third longer


class OrthogonalInferer(Inferer):
    """Applies a 2-D generator to the planes of one or both views at every turn; a channel of the answer for each.

    A plane holds one in-plane axis and the through-plane axis. Planes go through the network in batches, whole or in
    overlapping windows that are blended with Gaussian weights (MONAI's `SlidingWindowInferer`). Only the box around the
    body in a batch is computed; the air outside stays as interpolated: there is nothing to sharpen, and the statistics
    by which the generator standardises a plane are those of the body, as in the patches of training. Window and batch
    therefore belong to the settings that a result depends on, if weakly. No gradient is kept: folded weights have none.

    The second view is shown from the other end of the through-plane axis and its answer turned back: a scan has no
    preferred end, so what G adds to one side of every slice rather than to the other, in both views alike, is its own
    habit and not anatomy, and cancels in their mean. One view alone keeps it.

    The planes need not follow the pixels: the volume can be turned in the plane of its slices, and what G added to the
    turned planes turned back. Every direction shows G other parts of the anatomy, and what it adds for want of
    knowledge differs from direction to direction.

    Args:
        views: in-plane axes that the planes hold: (0, 1) for both views, (0,) or (1,) for one.
        rotations_deg: turns of the volume at which the views are seen, degrees from 0 to below 90; (0,) for none.
        window: rows and columns of a window, voxels; -1 for the whole plane along that axis.
        overlap: share of a window that overlaps the next, 0 to under 1.
        batch: planes or windows a call.
        precision: "float32" or "bfloat16"; "auto" takes bfloat16 where the device computes in it natively.
        progress: whether to show a bar over planes.
    """

    def __init__(
        self,
        views: Sequence[int],
        rotations_deg: Sequence[float] = (0,),
        window: Sequence[int] = (WHOLE_PLANE, WHOLE_PLANE),
        overlap: float = 0.25,
        batch: int = 8,
        precision: str = "auto",
        progress: bool = False,
    ):
        super().__init__()
        prediction_count(views, rotations_deg)  # or a refusal
        if len(window) != 2 or any(size != WHOLE_PLANE and size < 1 for size in window):
            raise Refusal(f"window must be two sizes in voxels or -1 for the whole plane, got {list(window)}")
        if not 0 <= overlap < 1:
            raise Refusal(f"overlap must be from 0 to below 1, got {overlap}")
        if batch < 1:
            raise Refusal(f"batch must be at least 1, got {batch}")
        if precision not in ("auto", "float32", "bfloat16"):
            raise Refusal(f"precision must be auto, float32 or bfloat16, got {precision!r}")
        self.views, self.rotations_deg = tuple(views), tuple(rotations_deg)
        self.window, self.overlap, self.batch = tuple(window), overlap, int(batch)
        self.precision, self.progress = precision, progress

    @torch.no_grad()
    def __call__(self, inputs: MetaTensor, network: Callable[..., torch.Tensor], *args, **kwargs) -> MetaTensor:
        """U b, (1, 1, X, Y, Z) with meta["slices"] -> the answers, (1, turns * views, X, Y, Z), same scale.

        Raises:
            Refusal: if more than one volume comes at once, or the volume does not tell its slices.
        """
        if not isinstance(inputs, MetaTensor) or "slices" not in inputs.meta:
            raise Refusal("the volume does not tell its slices: run InterpolateSlicesd in preprocessing first")
        if len(inputs) != 1:
            raise Refusal(f"one volume at a time, got a batch of {len(inputs)}: set the loader's batch size to 1")
        network = _ready(network)
        volume, geometry = inputs.as_tensor()[0, 0], geometry_of(inputs)
        turns = [InPlaneRotation(degrees, volume.shape) for degrees in self.rotations_deg]
        answers = volume.new_empty((len(turns), len(self.views), *volume.shape))
        total = sum(turn.turned[1 - view] for turn in turns for view in self.views)
        hidden = None if self.progress else True  # None: hidden where there is no terminal
        with tqdm(total=total, desc="planes", unit="plane", disable=hidden, leave=False) as bar:
            for turn, of_turn in zip(turns, answers, strict=True):
                shown = turn.there(volume)
                for view, into in zip(self.views, of_turn, strict=True):
                    answer = self._planes(shown, view, geometry, view != self.views[0], network, bar)
                    into.copy_(turn.back(answer, shown, volume))
        return convert_to_dst_type(answers.flatten(0, 1)[None], inputs)[0]

    def _planes(
        self,
        volume: torch.Tensor,
        view: int,
        geometry: SliceGeometry,
        from_other_end: bool,
        network: Callable[..., torch.Tensor],
        bar: tqdm,
    ) -> torch.Tensor:
        """A view's answer, (X, Y, Z); `from_other_end` of the through-plane axis or not."""
        flipped = [-1] if from_other_end else []
        seen = geometry.mirrored() if from_other_end else geometry
        conditioning = torch.as_tensor(seen.conditioning(), dtype=volume.dtype, device=volume.device)
        answer = torch.empty_like(volume)
        # planes (across, rows, through-plane), windows into the volume and the answer
        planes, out = (v.movedim(1 - view, 0) for v in (volume, answer))
        for some, into in zip(planes.split(self.batch), out.split(self.batch), strict=True):
            shown = some.flip(flipped)  # a copy, also where nothing is flipped; answered in place
            rows, columns = body_box(shown)
            inside = shown[:, None, rows, columns]
            known = conditioning[None, :, None, columns].expand(len(some), -1, inside.shape[2], -1)
            if inside.numel():
                shown[:, rows, columns] = self._infer(torch.cat([inside, known], dim=1), network)[:, 0]
            into.copy_(shown.flip(flipped))
            bar.update(len(some))
        return answer

    def _infer(self, shown: torch.Tensor, network: Callable[..., torch.Tensor]) -> torch.Tensor:
        sizes = zip(self.window, shown.shape[2:], strict=True)
        window = [whole if size == WHOLE_PLANE else min(size, whole) for size, whole in sizes]  # never padded
        at_once = self.batch if shown.is_cuda else min(self.batch, CPU_BATCH)
        inferer = SlidingWindowInferer(window, sw_batch_size=at_once, overlap=self.overlap, mode="gaussian")
        precision = precision_on(shown.device, self.precision)
        with torch.autocast(shown.device.type, dtype=precision, enabled=precision is not torch.float32):
            return inferer(shown.contiguous(memory_format=torch.channels_last), network).float()


def prediction_count(views: Sequence[int], rotations_deg: Sequence[float]) -> int:
    """How many answers `OrthogonalInferer` gives: one a view at every turn.

    Raises:
        Refusal: if one of the two is not as the inferer takes it.
    """
    if list(views if isinstance(views, Sequence) else ()) not in ([0], [1], [0, 1], [1, 0]):
        raise Refusal(f"views must be [0], [1] or [0, 1], got {views!r}")
    turns = list(rotations_deg if isinstance(rotations_deg, Sequence) else ())
    if not (turns and all(type(t) in (int, float) and 0 <= t < 90 for t in turns) and len(set(turns)) == len(turns)):
        raise Refusal(
            f"rotations_deg must be a list of different angles from 0 to below 90, as [0, 45], got {rotations_deg!r}"
        )
    return len(views) * len(turns)


def _ready(network: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A network that can fold its normalisation into plain convolutions, so folded, with weights channels last.

    The same answer to rounding; on a CPU the planes are channels last already, and weights that are not cost a
    reordering with every batch: in bfloat16 more than the convolutions themselves.
    """
    return network.folded().to(memory_format=torch.channels_last) if hasattr(network, "folded") else network


def body_box(planes: torch.Tensor) -> tuple[slice, slice]:
    """Rows and columns of the box around everything brighter than air in some planes, with a margin.

    Args:
        planes: (B, H, W), intensities 0 (air) to 1.

    Returns:
        The box, in steps of `MARGIN_VOXELS` so that neighbouring batches mostly share it; empty where all is air.
    """
    bright = (planes > FOREGROUND).any(dim=0)
    sides = []
    for axis in (0, 1):
        seen = torch.nonzero(bright.any(dim=1 - axis)).flatten().tolist()
        if not seen:
            return slice(0), slice(0)
        low = (seen[0] // MARGIN_VOXELS - 1) * MARGIN_VOXELS
        high = (seen[-1] // MARGIN_VOXELS + 2) * MARGIN_VOXELS
        sides.append(slice(max(0, low), min(planes.shape[1 + axis], high)))
    return sides[0], sides[1]
