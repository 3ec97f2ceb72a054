"""The inferer: G on the planes of one or both views of an interpolated volume, at one or several rotations."""

from collections.abc import Callable, Sequence

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, SlidingWindowInferer
from monai.utils import convert_to_dst_type

from ..data.transforms import geometry_of
from ..geometry.errors import Refusal
from ..geometry.progress import Progress
from ..physics.acquisition import SliceGeometry
from .precision import precision_on
from .rotation import InPlaneRotation

WHOLE_PLANE = -1
FOREGROUND = 0.05  # of the intensity scale; below it lies air
MARGIN_VOXELS = 16  # at least so much air is kept around the body, nearly the receptive field of the shipped G (20)
BOX_PLANES = 8  # neighbouring planes that share a box, whatever the batch, so that memory settings change nothing
CPU_BATCH = 2  # planes or windows that a CPU computes at once; 8 exceed its cache and take a third longer


class OrthogonalInferer(Inferer):
    """Inferer that applies a 2-D generator to the planes of one or both views, at every rotation; a channel for each.

    A plane holds one in-plane axis and the through-plane axis. Planes pass through the network in batches, whole or in
    overlapping windows that are blended with Gaussian weights (MONAI's `SlidingWindowInferer`). Only the box around the
    body in every 8 planes is computed, and the air outside stays as interpolated: it holds no detail, and the
    statistics by which the generator standardises a plane are then those of the body, as in the patches of
    training. Results depend slightly on the window, but not on the batch. No gradients are kept, since folded weights
    have none.

    The second view is flipped along the through-plane axis and its prediction flipped back. The two directions of this
    axis are equivalent in a scan, so whatever G adds always to the same side of slices, in both views, is a bias of G;
    it cancels in the mean of the views. With one view it remains.

    The volume can be rotated in the plane of its slices, and the detail that G adds rotated back. Each rotation shows
    other cuts through the anatomy to G, and errors of the added detail differ between rotations.

    Args:
        views: in-plane axes that the planes hold: (0, 1) for both views, (0,) or (1,) for one.
        rotations_deg: in-plane rotations of the volume, degrees from 0 to below 90; (0,) for none.
        window: rows and columns of a window, voxels; -1 for the whole plane along that axis.
        overlap: share of a window that overlaps the next, 0 to below 1.
        batch: planes or windows per call of the network.
        precision: "float32" or "bfloat16"; "auto" takes bfloat16 where the device computes in it natively.
        progress: whether to show how many planes are done, as a bar or in the log.

    Raises:
        Refusal: if a setting is not one of these.
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
        prediction_count(views, rotations_deg)  # refuses what the inferer does not take
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
        """Return the predictions (1, rotations * views, X, Y, Z) for a volume U b, on the same intensity scale.

        Args:
            inputs: U b, (1, 1, X, Y, Z), with the geometry of its slices in meta["slices"].
            network: the generator, (B, 1 + conditioning, H, W) -> (B, 1, H, W).
            args: unused.
            kwargs: unused.

        Raises:
            Refusal: if there is more than one volume, or the geometry is missing.
        """
        if not isinstance(inputs, MetaTensor) or "slices" not in inputs.meta:
            raise Refusal("the volume has no slice geometry: run InterpolateSlicesd in preprocessing first")
        if len(inputs) != 1:
            raise Refusal(f"one volume at a time, got a batch of {len(inputs)}: set the loader's batch size to 1")
        network = _ready(network)
        volume, geometry = inputs.as_tensor()[0, 0], geometry_of(inputs)
        rotations = [InPlaneRotation(degrees, volume.shape) for degrees in self.rotations_deg]
        predictions = volume.new_empty((len(rotations), len(self.views), *volume.shape))
        total = sum(rotation.rotated_shape[1 - view] for rotation in rotations for view in self.views)
        with Progress(show=self.progress, total=total, desc="planes", unit="plane", leave=False) as bar:
            for rotation, of_rotation in zip(rotations, predictions, strict=True):
                rotated = rotation.rotate(volume)
                for view, target in zip(self.views, of_rotation, strict=True):
                    prediction = self._planes(rotated, view, geometry, view != self.views[0], network, bar)
                    target.copy_(rotation.rotate_back(prediction, rotated, volume))
        return convert_to_dst_type(predictions.flatten(0, 1)[None], inputs)[0]

    def _planes(
        self,
        volume: torch.Tensor,
        view: int,
        geometry: SliceGeometry,
        flip: bool,
        network: Callable[..., torch.Tensor],
        bar: Progress,
    ) -> torch.Tensor:
        """The prediction (X, Y, Z) of one view; with `flip`, from planes flipped along the through-plane axis."""
        flipped = [-1] if flip else []
        geometry = geometry.mirrored() if flip else geometry
        conditioning = torch.as_tensor(geometry.conditioning(), dtype=volume.dtype, device=volume.device)
        prediction = torch.empty_like(volume)
        # planes (across, rows, through-plane), views of the volume and of the prediction
        planes, out = (v.movedim(1 - view, 0) for v in (volume, prediction))
        for some, target in zip(planes.split(BOX_PLANES), out.split(BOX_PLANES), strict=True):
            shown = some.flip(flipped)  # a copy, also without a flip; the prediction is written into it
            rows, columns = body_box(shown)
            inside = shown[:, None, rows, columns]
            channels = conditioning[None, :, None, columns].expand(len(some), -1, inside.shape[2], -1)
            if inside.numel():
                shown[:, rows, columns] = self._infer(torch.cat([inside, channels], dim=1), network)[:, 0]
            target.copy_(shown.flip(flipped))
            bar.update(len(some))
        return prediction

    def _infer(self, shown: torch.Tensor, network: Callable[..., torch.Tensor]) -> torch.Tensor:
        sizes = zip(self.window, shown.shape[2:], strict=True)
        window = [whole if size == WHOLE_PLANE else min(size, whole) for size, whole in sizes]  # never padded
        at_once = self.batch if shown.is_cuda else min(self.batch, CPU_BATCH)
        inferer = SlidingWindowInferer(window, sw_batch_size=at_once, overlap=self.overlap, mode="gaussian")
        precision = precision_on(shown.device, self.precision)
        with torch.autocast(shown.device.type, dtype=precision, enabled=precision is not torch.float32):
            return inferer(shown.contiguous(memory_format=torch.channels_last), network).float()


def prediction_count(views: Sequence[int], rotations_deg: Sequence[float]) -> int:
    """Return the number of predictions of `OrthogonalInferer`: one for each view at each rotation.

    Raises:
        Refusal: if one of the two is not as the inferer takes it.

    >>> prediction_count(views=[0, 1], rotations_deg=[0, 45])
    4
    """
    if list(views if isinstance(views, Sequence) else ()) not in ([0], [1], [0, 1], [1, 0]):
        raise Refusal(f"views must be [0], [1] or [0, 1], got {views!r}")
    angles = list(rotations_deg if isinstance(rotations_deg, Sequence) else ())
    in_range = all(type(angle) in (int, float) and 0 <= angle < 90 for angle in angles)
    if not angles or not in_range or len(set(angles)) != len(angles):
        raise Refusal(
            f"rotations_deg must be a list of different angles from 0 to below 90, as [0, 45], got {rotations_deg!r}"
        )
    return len(views) * len(angles)


def _ready(network: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The network with its normalisation folded into plain convolutions, where it can be, and weights channels last.

    Its predictions are the same to rounding. On a CPU the planes are channels last already; weights in another layout
    are reordered for every batch, which in bfloat16 takes longer than the convolutions themselves.
    """
    return network.folded().to(memory_format=torch.channels_last) if hasattr(network, "folded") else network


def body_box(planes: torch.Tensor) -> tuple[slice, slice]:
    """Return rows and columns of the box around everything brighter than air in some planes, with a margin.

    The box grows in steps of `MARGIN_VOXELS`, so that neighbouring groups of planes mostly share it.
    It is empty if all is air.

    Args:
        planes: (B, H, W), intensities 0 (air) to 1.

    >>> planes = torch.zeros(1, 100, 100)
    >>> planes[:, 40:60, 50:60] = 1
    >>> body_box(planes)
    (slice(16, 80, None), slice(32, 80, None))
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
