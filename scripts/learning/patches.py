"""Unpaired patches: domain Y from sharp planes of scans, domain X from blurred ones."""

import logging
from collections.abc import Hashable, Mapping, Sequence

import ignite.distributed as idist
import numpy as np
import torch
import torch.nn.functional as nnf
from monai.config import KeysCollection
from monai.data import Dataset, MetaTensor
from monai.transforms import Affine, MapTransform, Randomizable

from ..data.case import Case
from ..data.transforms import grid_of, protocol_of
from ..geometry.checks import is_whole
from ..geometry.errors import Refusal, counted, refusal_of
from ..geometry.grid import AXES
from ..physics.acquisition import Acquisition, SliceGeometry
from ..physics.interpolation import CubicInterpolation
from ..physics.projection import DataConsistency
from ..physics.protocol import ProtocolRange

FOREGROUND = 0.1  # of the intensity scale; air and noise lie below
MIN_FOREGROUND_SHARE = 0.3  # of a patch's pixels
REACH = {
    "rect": 0.5,
    "slr": 0.65,
    "gauss": 1.0,
    "fourier": 2.0,
}  # slice thicknesses; beyond lie 0, 0.8, 0.9 and 2.3 % a side
SPLINE_ORDER = 5  # of rotated patches; order 3 loses a third of the shortest wave that remains, order 5 a sixth
SPLINE_REACH = 16  # pixels; at this distance the prefilter's response to the edge has fallen to 1e-5
TRIES = 8  # draws, of which the one with most foreground is taken
logger = logging.getLogger(__name__)


class RandSharpPatchd(Randomizable, MapTransform):
    """Draw a random patch of a sharp plane (domain Y).

    Sharp planes are the acquired slices of a thick-slice scan, never interpolated ones, and the planes of all three
    directions of a near-isotropic scan. All 8 flips and transposes are used, since a sharp plane has no preferred
    direction.

    Args:
        keys: key of the scan, a MetaTensor (1, X, Y, N) with the through-plane axis last, square in-plane pixels and
            robustly scaled intensities.
        patch_size: rows and columns of the patch, pixels.
        output_key: key for the patch (1, rows, columns).
        zoom_out: half of the patches are rotated by any angle and shrunk (antialiased) by factors between the square
            root of this and this, drawn for each axis, for more directions, sizes and shapes than the scans have. The
            spline of order 5 keeps five sixths of the shortest wave that remains. 1 for none.
        held_planes: first and last of the held-back planes, as shares of their number; None for none. Of a
            near-isotropic scan only planes across the last axis are then drawn: others hold voxels of both kinds.
        held: draw from the held-back planes instead of all others.

    Raises:
        Refusal: if zoom_out is below 1, or held_planes are not a part of the planes.

    >>> scan = MetaTensor(torch.rand(1, 40, 40, 9), affine=torch.diag(torch.tensor([1.0, 1.0, 5.0, 1.0])))
    >>> RandSharpPatchd("image", patch_size=(24, 24))({"image": scan})["sharp"].shape
    torch.Size([1, 24, 24])
    """

    def __init__(
        self,
        keys: KeysCollection,
        patch_size: Sequence[int],
        output_key: str = "sharp",
        zoom_out: float = 1.0,
        held_planes: tuple[float, float] | None = None,
        held: bool = False,
    ):
        MapTransform.__init__(self, keys)
        if zoom_out < 1:
            raise Refusal(f"zoom_out must be at least 1, got {zoom_out}")
        if held_planes is not None and not 0 <= held_planes[0] < held_planes[1] <= 1:
            raise Refusal(f"held_planes must be two shares, 0 <= first < last <= 1, got {list(held_planes)}")
        self.held_planes, self.held = held_planes, held
        self.patch_size = tuple(patch_size)
        self.output_key = output_key
        self.zoom_out = zoom_out

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """Return the data with the patch added."""
        scan = data[self.keys[0]]
        volume = scan.as_tensor()[0]
        any_direction = grid_of(scan).is_near_isotropic and self.held_planes is None
        return {**data, self.output_key: _most_body(lambda: self._patch(volume, any_direction))}

    def _patch(self, volume: torch.Tensor, any_direction: bool) -> torch.Tensor:
        axis = int(self.R.randint(AXES)) if any_direction else AXES - 1
        plane = volume.select(axis, int(self.R.choice(self._planes(volume.shape[axis]))))
        if self.R.randint(2):
            plane = plane.T
        rotate = self.zoom_out > 1 and self.R.randint(2)
        patch = self._rotated(plane[None]) if rotate else self._cropped(plane[None])
        return patch.flip([axis for axis in (1, 2) if self.R.randint(2)])

    def _cropped(self, planes: torch.Tensor) -> torch.Tensor:
        """A window of planes (P, H, W), the same in each."""
        rows, columns = (
            _window(size, wanted, self.R.random_sample())
            for size, wanted in zip(planes.shape[1:], self.patch_size[-2:], strict=True)
        )
        return planes[:, torch.as_tensor(rows)][:, :, torch.as_tensor(columns)].float()

    def _rotated(self, planes: torch.Tensor) -> torch.Tensor:
        """A rotated and shrunk window of planes (P, H, W), the same in each."""
        size = np.round(np.asarray(self.patch_size[-2:]) * self._shrinkage(2)).astype(int)
        from_middle = np.maximum(np.asarray(planes.shape[1:]) - size, 0) * self.R.uniform(-0.5, 0.5, 2)
        angle = self.R.uniform(0, 2 * np.pi)
        cosine, sine = np.cos(angle), np.sin(angle)
        planes, from_middle = _around(planes, from_middle, np.abs([[cosine, sine], [sine, cosine]]) @ size / 2)
        rotation = [[cosine, -sine, from_middle[0]], [sine, cosine, from_middle[1]], [0, 0, 1]]
        spline = {"mode": SPLINE_ORDER, "padding_mode": "reflect", "dtype": np.float32}
        rotated = Affine(affine=np.array(rotation), spatial_size=tuple(size), image_only=True, **spline)(planes)
        return _shrunk(rotated.as_tensor(), self.patch_size[-2:])

    def _shrinkage(self, axes: int) -> np.ndarray:
        return self.zoom_out ** self.R.uniform(0.5, 1, axes)

    def _planes(self, count: int) -> np.ndarray:
        """Numbers of the planes of a direction that may be drawn; at least one is held back and at least one is not."""
        numbers = np.arange(count)
        if self.held_planes is None:
            return numbers
        first = min(int(self.held_planes[0] * count), count - 1)
        last = max(first + 1, round(self.held_planes[1] * count))
        if first == 0:
            last = min(last, max(count - 1, 1))
        apart = (numbers >= first) & (numbers < last)
        return numbers[apart == self.held]


class RandSharpVolumePatchd(RandSharpPatchd):
    """Draw a random patch of a near-isotropic volume, of planes that belong together; for a generator of volumes.

    All 48 orientations are used, since no direction of a near-isotropic scan is preferred. Half of the patches are
    rotated by any angle in their planes and shrunk along each axis, as by `RandSharpPatchd`.

    Args:
        keys: key of the scan, as for `RandSharpPatchd`.
        patch_size: planes, rows and columns of the patch, voxels.
        output_key: key for the patch (1, planes, rows, columns).
        zoom_out: as for `RandSharpPatchd`.
        held_planes: must be None; a volume would hold planes of both kinds.

    Raises:
        Refusal: if zoom_out is below 1, planes are to be held back, or the scan has thick slices.

    >>> scan = MetaTensor(torch.rand(1, 40, 40, 36), affine=torch.eye(4))
    >>> RandSharpVolumePatchd("image", patch_size=(8, 24, 32), zoom_out=1.6)({"image": scan})["sharp"].shape
    torch.Size([1, 8, 24, 32])
    """

    def __init__(
        self,
        keys: KeysCollection,
        patch_size: Sequence[int],
        output_key: str = "sharp",
        zoom_out: float = 1.0,
        held_planes: None = None,
    ):
        if held_planes is not None:
            raise Refusal(
                f"held_planes {list(held_planes)}: volumes (configs/volumes.yaml) hold planes on both sides of that "
                "limit: leave --held_planes out and hold back persons with --held_back"
            )
        super().__init__(keys, patch_size, output_key, zoom_out)

    def _patch(self, volume: torch.Tensor, any_direction: bool) -> torch.Tensor:
        if not any_direction:
            raise Refusal("volumes are drawn from near-isotropic scans alone: thick slices are sharp in their planes")
        volume = volume.permute(*(int(axis) for axis in self.R.permutation(AXES)))
        across, rotate = self.patch_size[0], self.zoom_out > 1 and self.R.randint(2)
        if rotate:
            across = round(across * float(self._shrinkage(1)[0]))
        planes = volume[torch.as_tensor(_window(len(volume), across, self.R.random_sample()))]
        patch = self._rotated(planes) if rotate else self._cropped(planes)
        if rotate:  # along the remaining axis
            patch = _shrunk(patch.movedim(0, 1), (self.patch_size[0], self.patch_size[2])).movedim(1, 0)
        return patch.flip([axis for axis in range(AXES) if self.R.randint(2)])[None]


class RandBlurredPatchd(Randomizable, MapTransform):
    """Draw a random patch of a blurred plane (domain X) with what the acquired slices determine of it.

    The plane holds one in-plane axis (rows) and the through-plane axis (columns, last). Slices are interpolated to
    the in-plane spacing by `U` only here, so that a scan is cached as it was acquired. A field of view narrower than
    the patch is continued by its mirror image, which keeps the slice spacing. Patches are flipped but not transposed,
    since the two axes differ.

    Args:
        keys: key of the scan, as for `RandSharpPatchd`, with meta["protocol"].
        patch_size: rows and columns of the patch, pixels of the in-plane spacing.
        views: in-plane axes that may be the rows: 0, 1 or both. In a coronal scan, the paper's sagittal planes hold the
            head-foot axis, which is axis 1.

    Adds to the data:
        blurred: U b, (1, rows, columns).
        blurred_conditioning: `SliceGeometry.conditioning`, (6, columns).
        blurred_projector: C A, (columns, columns), with C = S A* (A S A* + lambda I)^-1; C A v is the part of v that
            slices determine.
        blurred_determined: C b, (1, rows, columns), the value of that part according to the slices.
    """

    def __init__(self, keys: KeysCollection, patch_size: Sequence[int], views: Sequence[int] = (0, 1)):
        MapTransform.__init__(self, keys)
        self.patch_size = tuple(patch_size)
        self.views = tuple(views)

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """Return the data with the patch, its conditioning, projector and determined part added."""
        scan = data[self.keys[0]]
        volume, spacing_mm = scan.as_tensor()[0], grid_of(scan).spacing_mm
        protocol = protocol_of(scan)
        slices, first = _most_body(lambda: self._slices(volume, protocol.slice_spacing_mm / spacing_mm[0]), first=True)
        geometry = SliceGeometry(
            self.patch_size[1],
            slices.shape[-1],
            protocol.slice_spacing_mm / spacing_mm[0],
            protocol.slice_thickness_mm / spacing_mm[0],
            protocol.profile,
            first,
        )
        inside, measured = _slices_inside(geometry, slices)
        consistency = DataConsistency(Acquisition(inside))
        return {
            **data,
            "blurred": CubicInterpolation(geometry)(slices),
            "blurred_conditioning": torch.as_tensor(geometry.conditioning(), dtype=torch.float32),
            "blurred_projector": torch.as_tensor(consistency.projector.matrix, dtype=torch.float32),
            "blurred_determined": consistency.correction(measured),
        }

    def _slices(self, volume: torch.Tensor, factor: float) -> tuple[torch.Tensor, float]:
        """Slices under a random window of a random plane, (1, rows, slices), and the centre of the first, in pixels."""
        rows_axis = int(self.R.choice(self.views))
        plane = volume.select(1 - rows_axis, int(self.R.randint(volume.shape[1 - rows_axis])))
        rows = _window(plane.shape[0], self.patch_size[0], self.R.random_sample())
        columns = self.patch_size[1]
        # window of thin voxels [start, start + columns) on the field of view [-0.5, count * factor - 0.5)
        slack = plane.shape[1] * factor - columns
        start = self.R.uniform(0, slack) if slack > 0 else slack / 2
        centre = 0.5 * factor - 0.5  # of slice 0
        lowest = int(np.floor((start - centre) / factor)) - 2  # the spline needs two slices beyond the window
        highest = int(np.ceil((start + columns - centre) / factor)) + 2
        numbers = _mirrored(np.arange(lowest, highest + 1), plane.shape[1])
        slices = plane[torch.as_tensor(rows)][:, torch.as_tensor(numbers)]
        first = centre + lowest * factor - start
        if self.R.randint(2):
            slices, first = slices.flip(1), columns - 1 - (first + (slices.shape[1] - 1) * factor)
        if self.R.randint(2):
            slices = slices.flip(0)
        return slices[None].float(), float(first)


class UnpairedPatches(Dataset, Randomizable):
    """Unpaired patches x and y from two randomly drawn scans; item i of an epoch depends on the seed alone.

    Scans are drawn in proportion to the square root of their number of voxels, so that large ones do not dominate.

    Args:
        data: loaded scans, dicts with a MetaTensor under "image".
        blurred: the transform that draws x, `RandBlurredPatchd`; None where no term of the loss needs it.
        sharp: the transform that draws y, `RandSharpPatchd`.
        transform: random augmentation of "augmented", a second copy of y for simulated pairs; or None.
        patches: number of items in one epoch.
        seed: seed of all draws.

    Raises:
        Refusal: if the number of patches is none, or no scan is anisotropic enough for domain X.
    """

    def __init__(self, data: Sequence[Mapping], blurred, sharp, transform=None, patches: int = 2391, seed: int = 0):
        super().__init__(data, transform)
        if not is_whole(patches, 1):
            raise Refusal(f"patches_per_epoch and validation_patches must be whole numbers from 1, got {patches!r}")
        self.thick = [scan for scan in data if not grid_of(scan["image"]).is_near_isotropic]
        if blurred is not None and not self.thick:
            raise Refusal(
                "domain X is empty: no scan has slices thicker than its pixels. Add one, or use no unpaired terms "
                "(--unpaired_from larger than the training, --blurred_patch '$None')"
            )
        self.blurred, self.sharp = blurred, sharp
        self.patches, self.seed, self.epoch = patches, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the epoch; the same epoch always gives the same patches."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of items in one epoch."""
        return self.patches

    def examples(self) -> list[dict]:
        """Return one item of every kind."""
        return [self[0]]

    def _transform(self, index: int) -> dict:
        rng = np.random.default_rng((self.seed, self.epoch, index))
        item = {"sharp": self._draw(self.sharp, self.data, rng)["sharp"]}
        if self.blurred is not None:
            x = self._draw(self.blurred, self.thick, rng)
            item |= {key: value for key, value in x.items() if str(key).startswith("blurred")}
        item["augmented"] = item["sharp"]  # for simulated pairs; unpaired terms get the patch unchanged
        if self.transform is not None:
            self.transform.set_random_state(int(rng.integers(2**31)))
            item = self.transform(item)
        # plain tensors, since a MetaTensor copies its meta data in every operation of the networks
        return {key: value.as_tensor() if isinstance(value, MetaTensor) else value for key, value in item.items()}

    @staticmethod
    def _draw(patch, scans: Sequence[Mapping], rng: np.random.Generator) -> dict:
        weights = np.sqrt([scan["image"].numel() for scan in scans])
        patch.set_random_state(int(rng.integers(2**31)))
        return patch({"image": scans[rng.choice(len(scans), p=weights / weights.sum())]["image"]})


class Alternating(Dataset):
    """Batches taken in turn from several datasets of one length, such as volumes and planes.

    With several processes (configs/multi_gpu.yaml), their n-th batches share out one range of the items. What would not
    fill a batch of every process is left out.

    Args:
        datasets: `UnpairedPatches`; batch n comes from dataset n modulo their number.
        batch_size: of the loader of one process, whose order must be that of the items.

    >>> list(Alternating([["a"] * 4, ["b"] * 4], batch_size=2))
    ['a', 'a', 'b', 'b']
    """

    def __init__(self, datasets: Sequence[Dataset], batch_size: int):
        super().__init__(datasets[0])
        self.datasets, self.items = list(datasets), batch_size * idist.get_world_size()  # of all n-th batches

    def __len__(self) -> int:
        """Return the number of items that fill whole batches."""
        return super().__len__() // self.items * self.items

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the epoch in all datasets."""
        for dataset in self.datasets:
            dataset.set_epoch(epoch)

    def examples(self) -> list[dict]:
        """Return one item of every kind."""
        return [item for dataset in self.datasets for item in dataset.examples()]

    def _transform(self, index: int) -> object:
        return self.datasets[index // self.items % len(self.datasets)][index]


def near_isotropic(scans: Sequence[Mapping]) -> list[Mapping]:
    """Return the loaded scans whose voxels are nearly equal in all directions, from which volumes can be drawn.

    Raises:
        Refusal: if there is none.
    """
    found = [scan for scan in scans if grid_of(scan["image"]).is_near_isotropic]
    if not found:
        raise Refusal(
            f"none of {counted(len(scans), 'scan')} is near-isotropic, as volumes must be: one is needed for training "
            f"and one for validation, which --held_back \"['pattern']\" chooses"
        )
    return found


def load_scans(cases: Sequence[Case], transform) -> list[dict]:
    """Load the cases once for training; a scan that is refused is left out with a warning in the log.

    Args:
        cases: cases, as from `split_by_person`.
        transform: the preprocessing, which loads a case.

    Raises:
        Refusal: if none of them can be used.
    """
    scans, reasons = [], []
    for case in cases:
        try:
            scans.append(transform(case.as_item()))
        except Exception as error:  # MONAI wraps a Refusal in what its transforms raise
            refusal = refusal_of(error)
            if refusal is None:
                raise
            logger.warning("left out: %s", refusal)
            reasons.append(str(refusal))
    if not scans:
        raise Refusal(
            f"no scan is left to train on, or none to validate with ({'; '.join(reasons)}): add scans, or choose those "
            f"for validation with --held_back \"['pattern']\""
        )
    return scans


def own_protocol(scans: Sequence[Mapping]) -> ProtocolRange:
    """Return the range of protocols by which the thick-slice scans were acquired, to simulate from.

    Args:
        scans: loaded scans, from `load_scans`.

    Raises:
        Refusal: if no scan has thick slices.
    """
    thick = [scan["image"] for scan in scans if "protocol" in scan["image"].meta]
    if not thick:
        raise Refusal("no scan with slices thicker than its pixels: so there is no protocol to adapt to")
    protocols = [protocol_of(image) for image in thick]
    factors = [p.slice_spacing_mm / grid_of(i).spacing_mm[0] for p, i in zip(protocols, thick, strict=True)]
    ratios = [p.slice_thickness_mm / p.slice_spacing_mm for p in protocols]
    profiles = sorted({p.profile for p in protocols})
    return ProtocolRange((min(factors), max(factors)), (min(ratios), max(ratios)), profiles)


def _mirrored(index: np.ndarray, size: int) -> np.ndarray:
    """Continue indices by mirror images of the whole field of view: ... 1 0 | 0 1 ... size-1 | size-1 ..."""
    folded = index % (2 * size)
    return np.where(folded < size, folded, 2 * size - 1 - folded)


def _around(planes: torch.Tensor, from_middle: np.ndarray, reach: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
    """The part of planes that a spline needs around a point, and the point relative to the middle of that part.

    Args:
        planes: (P, rows, columns).
        from_middle: the point, pixels from the middle of the plane.
        reach: pixels on either side of the point that will be sampled.
    """
    shape = planes.shape[1:]
    point = (np.asarray(shape) - 1) / 2 + from_middle
    low = np.maximum(np.floor(point - reach).astype(int) - SPLINE_REACH, 0)
    high = np.minimum(np.ceil(point + reach).astype(int) + SPLINE_REACH + 1, shape)
    return planes[:, low[0] : high[0], low[1] : high[1]], point - (low + high - 1) / 2


def _shrunk(planes: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Planes (P, H, W) resampled to a smaller size, antialiased."""
    return nnf.interpolate(planes[None].float(), tuple(size), mode="bicubic", antialias=True)[0]


def _window(size: int, wanted: int, fraction: float) -> np.ndarray:
    """`wanted` neighbouring indices of an axis; mirrored about a centred field of view where it is too short."""
    slack = size - wanted
    start = int(fraction * (slack + 1)) if slack >= 0 else slack // 2
    return _mirrored(np.arange(start, start + wanted), size)


def _slices_inside(geometry: SliceGeometry, slices: torch.Tensor) -> tuple[SliceGeometry, torch.Tensor]:
    """The geometry and values of the slices whose profiles lie (almost) completely inside the window."""
    margin = geometry.slice_thickness_voxels * REACH[geometry.profile]
    centres = geometry.slice_centres_voxels
    inside = np.flatnonzero((centres - margin >= -0.5) & (centres + margin <= geometry.thin_size - 0.5))
    if not len(inside):
        raise Refusal(
            f"patches of {geometry.thin_size} pixels are too small for slices {geometry.slice_spacing_voxels:.3g} "
            f"pixels apart ({geometry.profile}): give a larger --patch_size"
        )
    first, last = int(inside[0]), int(inside[-1])
    return (
        SliceGeometry(
            geometry.thin_size,
            last - first + 1,
            geometry.slice_spacing_voxels,
            geometry.slice_thickness_voxels,
            geometry.profile,
            float(centres[first]),
        ),
        slices[..., first : last + 1],
    )


def _most_body(draw, first: bool = False):
    """The first of `TRIES` draws with enough foreground, or else the one with most."""
    best, most = None, -1.0
    for _ in range(TRIES):
        drawn = draw()
        share = float(((drawn[0] if first else drawn) > FOREGROUND).float().mean())
        if share > most:
            best, most = drawn, share
        if share >= MIN_FOREGROUND_SHARE:
            break
    return best
