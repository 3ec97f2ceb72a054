"""The inferer: G on an interpolated volume, seen as planes of one or both views, at one or several rotations."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count

import torch
from monai.data import MetaTensor
from monai.data.utils import dense_patch_slices
from monai.inferers import Inferer, SlidingWindowInferer
from monai.utils import convert_to_dst_type

from ..data.transforms import geometry_of
from ..geometry.checks import is_number, is_whole
from ..geometry.errors import Refusal
from ..geometry.progress import Progress
from ..physics.acquisition import SliceGeometry
from .precision import precision_on
from .rotation import InPlaneRotation

WHOLE_PLANE = -1
FOREGROUND = 0.05  # of the intensity scale; below it lies air
MARGIN_VOXELS = 16  # at least so much air is kept around the body, nearly the receptive field of the shipped G (20)
BOX_PLANES = 8  # neighbouring planes that share a box, whatever the batch, so that memory settings change nothing
BLOCK_VOXELS = 8_000_000  # of a volume at once: about 1.2 GiB in float32 for the shipped width
BLOCK_OVERLAP = 16  # planes that blocks share; the cross blocks of the default G see so far
CPU_BATCH = 2  # planes or windows that a CPU computes at once; 8 exceed its cache and take a third longer


class OrthogonalInferer(Inferer):
    """Inferer that applies a generator to the planes of one or both views, at every rotation; a channel for each.

    A plane holds one in-plane axis and the through-plane axis. Planes pass through a generator of planes in batches,
    whole or in overlapping windows that are blended with Gaussian weights (MONAI's `SlidingWindowInferer`). Only the
    box around the body in every 8 planes is computed, and the air outside stays as interpolated: it holds no detail,
    and the statistics by which the generator standardises a plane are then those of the body, as in the patches of
    training. Results depend slightly on the window, but not on the batch. No gradients are kept, since folded weights
    have none.

    A generator of volumes (one whose `spatial_dims` is 3) sees all planes of a view together, inside the box around the
    body: at once up to 8 million voxels, else in blocks of as many planes as that, 16 of them shared with the next.
    All are standardised by the box, so that results depend on where blocks begin only near their ends.

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
        precision: "float32" or "bfloat16"; "auto" takes bfloat16 where the device is faster in it.
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
        sizes = list(window) if isinstance(window, Sequence) else []
        if len(sizes) != 2 or not all(is_whole(size, 1) or size == WHOLE_PLANE for size in sizes):
            raise Refusal(f"window must be two whole sizes in voxels or -1 for the whole plane, got {window!r}")
        if not is_number(overlap) or not 0 <= overlap < 1:
            raise Refusal(f"overlap must be a number from 0 to below 1, got {overlap!r}")
        if not is_whole(batch, 1):
            raise Refusal(f"batch must be a whole number of at least 1, got {batch!r}")
        if precision not in ("auto", "float32", "bfloat16"):
            raise Refusal(f"precision must be auto, float32 or bfloat16, got {precision!r}")
        self.views, self.rotations_deg = tuple(views), tuple(rotations_deg)
        self.window, self.overlap, self.batch = tuple(window), overlap, batch
        self.precision, self.progress = precision, progress

    @torch.no_grad()
    def __call__(self, inputs: MetaTensor, network: Callable[..., torch.Tensor], *args, **kwargs) -> MetaTensor:
        """Return the predictions (1, rotations * views, X, Y, Z) for a volume U b, on the same intensity scale.

        Args:
            inputs: U b, (1, 1, X, Y, Z), with the geometry of its slices in meta["slices"].
            network: the generator, (B, 1 + conditioning, H, W) -> (B, 1, H, W); or, where its attribute `spatial_dims`
                is 3, with the statistics of the volume, (B, 1 + conditioning, planes, H, W), (2,) ->
                (B, 1, planes, H, W), as `VolumeGenerator`.
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
        together = sees_volumes(network)
        flipped = [-1] if flip else []
        geometry = geometry.mirrored() if flip else geometry
        conditioning = torch.as_tensor(geometry.conditioning(), dtype=volume.dtype, device=volume.device)
        prediction = torch.empty_like(volume)
        # planes (across, rows, through-plane), views of the volume and of the prediction
        planes, out = (v.movedim(1 - view, 0) for v in (volume, prediction))
        group = len(planes) if together else BOX_PLANES
        infer = self._infer_volume if together else self._infer_planes
        for some, target in zip(planes.split(group), out.split(group), strict=True):
            shown = some.flip(flipped)  # a copy, also without a flip; the prediction is written into it
            bright = shown > FOREGROUND
            box = body_box(bright) if together else (slice(None), *body_box(bright.any(0)))
            inside = shown[box]
            advance = partial(_advance, bar, bar.n, len(some))
            if inside.numel():
                shown[box] = infer(inside, conditioning[:, box[-1]], network, advance)
            target.copy_(shown.flip(flipped))
            advance(1.0)
        return prediction

    def _infer_planes(
        self, planes: torch.Tensor, conditioning: torch.Tensor, network: Callable, _: Callable[[float], None]
    ) -> torch.Tensor:
        """The prediction (P, H, W) for planes (P, H, W), which are few, with the conditioning (channels, W)."""
        channels = conditioning[None, :, None].expand(len(planes), -1, planes.shape[1], -1)
        shown = torch.cat([planes[:, None], channels], dim=1).contiguous(memory_format=torch.channels_last)
        at_once = self.batch if planes.is_cuda else min(self.batch, CPU_BATCH)
        inferer = SlidingWindowInferer(self._window(planes), at_once, overlap=self.overlap, mode="gaussian")
        with self._autocast(planes):
            return inferer(shown, network).float()[:, 0]

    def _infer_volume(
        self, volume: torch.Tensor, conditioning: torch.Tensor, network: Callable, advance: Callable[[float], None]
    ) -> torch.Tensor:
        """The prediction (P, H, W) for neighbouring planes (P, H, W) that the network sees together.

        `advance` is told the share that is done: after each call of the network, and within it by one that can say so.
        """
        window = self._window(volume)
        block = block_planes(len(volume), window)
        statistics = torch.stack(torch.std_mean(volume))
        overlap = (BLOCK_OVERLAP / block if block < len(volume) else 0, self.overlap, self.overlap)

        calls, before = window_count(volume.shape, (block, *window), overlap), count()

        def predict(part: torch.Tensor, where: Sequence[Sequence[slice]]) -> torch.Tensor:
            channels = conditioning[None, :, None, None, where[0][-1]].expand(1, -1, *part.shape[2:4], -1)
            told = partial(_tell, advance, next(before), calls)
            if hasattr(network, "on_progress"):  # of the folded copy
                network.on_progress = told
            prediction = network(torch.cat([part, channels], dim=1), statistics)
            told(1.0)
            return prediction

        inferer = SlidingWindowInferer((block, *window), 1, overlap=overlap, mode="gaussian", with_coord=True)
        with self._autocast(volume):
            return inferer(volume[None, None], predict).float()[0, 0]

    def _window(self, planes: torch.Tensor) -> list[int]:
        """Rows and columns of a window in planes (P, H, W); never larger than a plane, which would be padded."""
        sizes = zip(self.window, planes.shape[1:], strict=True)
        return [whole if size == WHOLE_PLANE else min(size, whole) for size, whole in sizes]

    def _autocast(self, planes: torch.Tensor) -> torch.autocast:
        precision = precision_on(planes.device, self.precision)
        return torch.autocast(planes.device.type, dtype=precision, enabled=precision is not torch.float32)


def sees_volumes(network: Callable) -> bool:
    """Return whether a generator sees the planes of a volume together, as `VolumeGenerator` does."""
    return getattr(network, "spatial_dims", 2) == 3


def block_planes(planes: int, window: Sequence[int]) -> int:
    """Return how many neighbouring planes of a volume are computed at once.

    Args:
        planes: of the volume.
        window: rows and columns that are computed at once.

    >>> block_planes(256, [256, 200])
    156
    >>> block_planes(256, [1000, 1000])  # at least twice what blocks share
    32
    """
    return min(planes, max(2 * BLOCK_OVERLAP, BLOCK_VOXELS // (window[0] * window[1])))


def window_count(shape: Sequence[int], window: Sequence[int], overlap: Sequence[float]) -> int:
    """Return how many windows MONAI's `SlidingWindowInferer` computes.

    Args:
        shape: of the volume, voxels.
        window: sizes of a window, at most those of the volume.
        overlap: share of a window that overlaps the next, along each axis.

    >>> window_count((70, 20, 24), (40, 20, 24), (0.4, 0.25, 0.25))  # planes 0 to 39, 24 to 63 and 30 to 69
    3
    """
    steps = [max(1, int(size * (1 - share))) for size, share in zip(window, overlap, strict=True)]
    return len(dense_patch_slices(shape, window, steps))


def _advance(bar: Progress, before: int, planes: int, share: float) -> None:
    """Let a bar, which had come to `before`, show that a share of so many planes is done."""
    bar.update(before + int(share * planes) - bar.n)


def _tell(advance: Callable[[float], None], before: int, calls: int, share: float) -> None:
    """Tell what share of all calls is done, of the share of the call that follows `before` others."""
    advance((before + share) / calls)


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


def body_box(bright: torch.Tensor) -> tuple[slice, ...]:
    """Return the box around everything brighter than air, with a margin: a slice for each axis.

    The box grows in steps of `MARGIN_VOXELS`, so that neighbouring groups of planes mostly share it.
    It is empty if all is air.

    Args:
        bright: boolean, of any number of axes: where the intensity exceeds `FOREGROUND`.

    >>> bright = torch.zeros(100, 100, dtype=torch.bool)
    >>> bright[40:60, 50:60] = True
    >>> body_box(bright)
    (slice(16, 80, None), slice(32, 80, None))
    """
    sides = []
    for axis, size in enumerate(bright.shape):
        seen = torch.nonzero(bright.movedim(axis, 0).flatten(1).any(dim=1)).flatten().tolist()
        if not seen:
            return (slice(0),) * bright.dim()
        low = (seen[0] // MARGIN_VOXELS - 1) * MARGIN_VOXELS
        high = (seen[-1] // MARGIN_VOXELS + 2) * MARGIN_VOXELS
        sides.append(slice(max(0, low), min(size, high)))
    return tuple(sides)
