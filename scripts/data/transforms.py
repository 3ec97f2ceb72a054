"""MONAI transforms of a volume before and after the network, with their exact inverses where there are any.

They pass on a MetaTensor (1, X, Y, Z), float32, RAS affine in mm, whose meta holds the protocol and what was done.
"""

import logging
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.networks.layers import gaussian_1d
from monai.transforms import MapTransform

from ..geometry.checks import is_number
from ..geometry.errors import Refusal
from ..geometry.grid import AXES, SPACING_TIE, Grid
from ..geometry.orientation import Reorientation
from ..physics.acquisition import Acquisition, SliceGeometry
from ..physics.interpolation import CubicInterpolation, resampling, sampling
from ..physics.noise import BODY, estimate_noise
from ..physics.projection import EXPECTED_ERROR, DataConsistency, expected_error
from ..physics.protocol import Protocol
from ..physics.resolution import acquired_fraction
from .case import scan_name

AUTO = "auto"
ZERO_FILLED = 0.85  # of the stored pixels along an axis; a header that states less is worth a line in the log
PREDICTIONS = "predictions"  # meta key: how many of them were fused
STORED = "stored"  # isotropic spacing: the smaller in-plane spacing of the file, zero-filled or not
ACQUIRED = "acquired"  # isotropic spacing: the smaller one that was acquired, before zero-filling
logger = logging.getLogger(__name__)


def grid_of(volume: MetaTensor) -> Grid:
    """Return the grid of a volume (1, X, Y, Z)."""
    return Grid((volume.shape[1], volume.shape[2], volume.shape[3]), np.asarray(volume.affine.cpu(), dtype=np.float64))


@dataclass(frozen=True)
class IntensityScale:
    """The way back from the intensity scale (0 to 1) to the scan's own units: `scale * value + offset`."""

    offset: float
    scale: float


def protocol_of(volume: MetaTensor) -> Protocol:
    """Return spacing, thickness and profile that `AcceptScand` left in meta["protocol"] of a scan."""
    return volume.meta["protocol"].protocol


def geometry_of(volume: MetaTensor) -> SliceGeometry:
    """Return the `SliceGeometry` that `InterpolateSlicesd` left in meta["slices"] of a volume."""
    return volume.meta["slices"]


class ThroughPlaneLastd(MapTransform):
    """Reorient to (in-plane, in-plane, through-plane), axes towards R, A, S; no interpolation.

    Needs meta["protocol"]; writes meta["reorientation"], a `Reorientation`, for the way back. A near-isotropic scan
    without a protocol, which training accepts, keeps its axes: none of them is the through-plane axis.

    >>> from scripts.data.acceptance import AcceptScand
    >>> sagittal = MetaTensor(torch.rand(1, 5, 30, 20), affine=torch.diag(torch.tensor([6.0, 1, 1, 1])))
    >>> accepted = AcceptScand("image")({"image": sagittal})
    >>> ThroughPlaneLastd("image")(accepted)["image"].shape  # right-left, where slices are 6 mm apart, comes last
    torch.Size([1, 30, 20, 5])
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The data with every key reoriented."""
        out = dict(data)
        for key in self.key_iterator(out):
            volume, grid = out[key], grid_of(out[key])
            if "protocol" not in volume.meta:
                continue
            step = Reorientation.through_plane_last(grid, volume.meta["protocol"].through_plane_axis)
            meta = {**volume.meta, "reorientation": step}
            out[key] = with_grid(step.apply(volume.as_tensor()), step.apply_grid(grid), meta)
        return out


class OriginalOrientationd(MapTransform):
    """Undo `ThroughPlaneLastd` on volumes of any shape: restore the scan's own axes and directions.

    >>> from scripts.data.acceptance import AcceptScand
    >>> scan = MetaTensor(torch.rand(1, 5, 30, 20), affine=torch.diag(torch.tensor([-6.0, 1, 1, 1])))
    >>> data = ThroughPlaneLastd("image")(AcceptScand("image")({"image": scan}))
    >>> torch.equal(OriginalOrientationd("image")(data)["image"].as_tensor(), scan.as_tensor())
    True
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The data with every key in the scan's own orientation."""
        out = dict(data)
        for key in self.key_iterator(out):
            volume = out[key]
            step = volume.meta["reorientation"].inverse()
            out[key] = with_grid(step.apply(volume.as_tensor()), step.apply_grid(grid_of(volume)), volume.meta)
        return out


class ScaleIntensityRobustd(MapTransform):
    """Scale intensities so that two percentiles become 0 and 1; nothing is clipped.

    Args:
        keys: volumes.
        lower: percentile that becomes 0.
        upper: percentile that becomes 1.

    Raises:
        Refusal: unless 0 <= lower < upper <= 100.

    Writes meta["intensity"], an `IntensityScale`, for the way back, and meta["intensity_range"], the smallest and the
    largest value of the scan, in its own units.

    >>> volume = MetaTensor(torch.arange(1000.0).reshape(1, 10, 10, 10), affine=torch.eye(4))
    >>> scaled = ScaleIntensityRobustd("image", 0, 100)({"image": volume})
    >>> float(scaled["image"].max()), scaled["image"].meta["intensity"]
    (1.0, IntensityScale(offset=0.0, scale=999.0))
    """

    def __init__(self, keys: KeysCollection, lower: float, upper: float):
        super().__init__(keys)
        if not (is_number(lower) and is_number(upper) and 0 <= lower < upper <= 100):
            raise Refusal(
                f"intensity_percentiles must be two numbers from 0 to 100, the smaller one first, "
                f"got [{lower!r}, {upper!r}]"
            )
        self.lower, self.upper = lower, upper

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The data with every key scaled."""
        out = dict(data)
        for key in self.key_iterator(out):
            volume = out[key]
            low, high = np.percentile(volume.numpy(), [self.lower, self.upper])
            if high <= low:  # nearly all voxels are equal, beside a small bright object: use the full range
                low, high = float(volume.min()), float(volume.max())
            if high <= low:
                raise Refusal("all voxels have the same value: give a scan with an image in it")
            scaled = (volume.as_tensor() - float(low)) / float(high - low)
            ends = float(volume.min()), float(volume.max())
            scale = IntensityScale(float(low), float(high - low))
            meta = {**volume.meta, "intensity": scale, "intensity_range": ends}
            out[key] = with_grid(scaled, grid_of(volume), meta)
        return out


class OriginalIntensityd(MapTransform):
    """Undo `ScaleIntensityRobustd`.

    Args:
        keys: volumes on the scan's own scale afterwards.
        differences: those of the keys that are differences of intensities: scaled, not shifted.

    >>> volume = MetaTensor(torch.ones(1, 2, 2, 2), meta={"intensity": IntensityScale(offset=10.0, scale=500.0)})
    >>> float(OriginalIntensityd("image")({"image": volume})["image"].mean())
    510.0
    """

    def __init__(self, keys: KeysCollection, differences: str | Sequence[str] = ()):
        super().__init__(keys)
        self.differences = (differences,) if isinstance(differences, str) else tuple(differences)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The data with every key in the scan's own units."""
        out = dict(data)
        for key in self.key_iterator(out):
            intensity = out[key].meta["intensity"]
            out[key] = out[key] * intensity.scale + (0.0 if key in self.differences else intensity.offset)
        return out


class AcquiredResolutiond(MapTransform):
    """Find the pixels that were acquired, and undo zero-filling in the planes where the result is to have their size.

    Args:
        keys: volumes (1, X, Y, N), through-plane axis last, as stored.
        isotropic_spacing_mm: "acquired": planes that are zero-filled along both axes are sampled at the smaller of the
            acquired spacings, which `SquarePixelsd` then makes the isotropic one. "stored" or a number: they stay.
        smallest_window_voxels: planes are not sampled to fewer pixels than this.

    Writes meta["acquired_pixel_mm"], in-plane, meta["sampled"], whether planes were sampled, and for a zero-filled scan
    one line into the log. What the header states (meta["stated_fraction"], acquired over stored pixels by array axis)
    is compared there; the spectrum decides. A near-isotropic scan without a protocol, which training accepts, is not
    changed.
    """

    def __init__(
        self,
        keys: KeysCollection,
        isotropic_spacing_mm: float | str = STORED,
        smallest_window_voxels: int = 1,
    ):
        super().__init__(keys)
        self.isotropic_spacing_mm, self.smallest_window_voxels = isotropic_spacing_mm, smallest_window_voxels

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The data with every key on the pixels that were acquired, where that is asked for."""
        out = dict(data)
        for key in self.key_iterator(out):
            volume, grid = out[key], grid_of(out[key])
            if "protocol" not in volume.meta:
                continue
            voxels = volume.as_tensor()[0].numpy()
            acquired = tuple(float(grid.spacing_mm[axis]) / acquired_fraction(voxels, axis) for axis in (0, 1))
            target = self._target(grid, acquired)
            tensor, pixels = (volume.as_tensor(), grid) if target is None else _sampled(volume, (target, target))
            meta = {**volume.meta, "acquired_pixel_mm": acquired, "sampled": target is not None}
            out[key] = with_grid(tensor, pixels, meta)
            _log_resolution(scan_name(out, key), volume.meta, grid, acquired, target)
        return out

    def _target(self, grid: Grid, acquired: tuple[float, ...]) -> float | None:
        """The spacing at which planes are sampled, mm; None where they stay as stored."""
        target = min(acquired)
        if self.isotropic_spacing_mm != ACQUIRED or target <= grid.spacing_mm[:2].min() * (1 + SPACING_TIE):
            return None
        shape = grid.resampled([target, target, grid.spacing_mm[2]]).shape
        too_coarse = target * (1 + SPACING_TIE) > grid.spacing_mm[2] or min(shape[:2]) < self.smallest_window_voxels
        return None if too_coarse else target


def _log_resolution(name: str, meta: Mapping, grid: Grid, acquired: tuple[float, ...], target: float | None) -> None:
    """Log that the planes are zero-filled, by their spectrum or by the header."""
    stored = [float(s) for s in grid.spacing_mm[:2]]
    header = meta.get("stated_fraction", {})
    fractions = [header.get(axis) for axis in meta["reorientation"].source_axes[:2]]
    if acquired == tuple(stored) and not any(f is not None and f < ZERO_FILLED for f in fractions):
        return
    stated = ["?" if f is None else f"{s / f:.3g}" for s, f in zip(stored, fractions, strict=True)]
    logger.info(
        "%s: pixels stored %.3g x %.3g mm, acquired %.3g x %.3g mm by the spectrum, %s by the header; %s",
        name,
        *stored,
        *acquired,
        "not stated" if set(stated) == {"?"} else f"{' x '.join(stated)} mm",
        "the stored ones are used"
        if target is None
        else f"isotropic spacing {target:.3g} mm (--isotropic_spacing_mm stored for the stored one)",
    )


def _sampled(volume: MetaTensor, pixel_mm: tuple[float, ...]) -> tuple[torch.Tensor, Grid]:
    """A volume (1, X, Y, N) of zero-filled planes, sampled at larger pixels; axes whose pixels are as large stay."""
    tensor, old = volume.as_tensor(), grid_of(volume)
    spacing = [max(float(new), float(s)) for new, s in zip(pixel_mm, old.spacing_mm[:2], strict=True)]
    new = old.resampled([*spacing, old.spacing_mm[2]])
    for axis in (0, 1):
        if new.shape[axis] != old.shape[axis]:
            step = sampling(old.shape[axis], old.spacing_mm[axis], new.shape[axis], new.spacing_mm[axis])
            tensor = step(tensor.movedim(1 + axis, -1)).movedim(-1, 1 + axis)
    return tensor.contiguous(), new


class EstimateNoised(MapTransform):
    """Estimate the noise of a scan as acquired (`estimate_noise`): meta["noise"], in the scan's own units.

    Needs the through-plane axis last, and pixels that are not resampled yet: interpolation removes the finest detail,
    by which noise is known. Zero-filled planes are measured at meta["acquired_pixel_mm"].
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The data with meta["noise"] in every key."""
        out = dict(data)
        for key in self.key_iterator(out):
            volume = out[key]
            acquired, _ = _sampled(volume, volume.meta.get("acquired_pixel_mm", (0.0, 0.0)))
            meta = {**volume.meta, "noise": estimate_noise(acquired[0].numpy())}
            out[key] = with_grid(volume.as_tensor(), grid_of(volume), meta)
        return out


def noise_of(volume: MetaTensor) -> float:
    """Return the noise of the slices on the intensity scale, from what `EstimateNoised` found."""
    return volume.meta["noise"] / volume.meta["intensity"].scale


class SquarePixelsd(MapTransform):
    """Resample in-plane so that pixels are squares of the isotropic spacing; slices stay as acquired.

    Args:
        keys: volumes (1, X, Y, N), through-plane axis last.
        spacing_mm: pixel size; "stored" and "acquired" take the smaller in-plane spacing of the volume.

    A mean over pixels lowers the noise; meta["noise"], where it is there, becomes that of the new pixels. A
    near-isotropic scan without a protocol, which training accepts, is not changed.

    >>> from scripts.data.acceptance import AcceptScand
    >>> scan = MetaTensor(torch.rand(1, 40, 30, 5), affine=torch.diag(torch.tensor([1.0, 2, 6, 1])))
    >>> square = SquarePixelsd("image")(AcceptScand("image")({"image": scan}))["image"]
    >>> square.shape, grid_of(square).spacing_mm.tolist()
    (torch.Size([1, 40, 60, 5]), [1.0, 1.0, 6.0])
    """

    def __init__(self, keys: KeysCollection, spacing_mm: float | str = STORED):
        super().__init__(keys)
        self.spacing_mm = None if isinstance(spacing_mm, str) else spacing_mm  # `AcceptScand` has checked the word

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The data with every key on square pixels."""
        out = dict(data)
        for key in self.key_iterator(out):
            if "protocol" not in out[key].meta:
                continue
            old = grid_of(out[key])
            spacing = self.spacing_mm or float(old.spacing_mm[:2].min())
            if spacing >= old.spacing_mm[2]:
                raise Refusal(
                    f"isotropic spacing {spacing:.3g} mm is not below the slice spacing {old.spacing_mm[2]:.3g} mm: "
                    f"choose a smaller one"
                )
            out[key] = resampled(out[key], [spacing, spacing, float(old.spacing_mm[2])])
        return out


def resampled(volume: MetaTensor, spacing_mm: Sequence[float]) -> MetaTensor:
    """Return a volume (1, X, Y, Z) at another spacing along each axis, a mean where that is coarser (`resampling`).

    meta["noise"], where it is there, becomes that of the new voxels.
    """
    old, meta, values = grid_of(volume), dict(volume.meta), volume.as_tensor()
    new = old.resampled(spacing_mm)
    for axis in range(AXES):
        step = resampling(old.shape[axis], old.spacing_mm[axis], new.shape[axis], spacing_mm[axis])
        if step is not None:
            values = step(values.movedim(1 + axis, -1)).movedim(-1, 1 + axis)
            if "noise" in meta:
                meta["noise"] *= float(np.sqrt((step.matrix**2).sum(axis=1).mean()))
    return with_grid(values.contiguous(), new, meta)


class InterpolateSlicesd(MapTransform):
    """`U b` on the isotropic grid, and beside it the slices b themselves.

    Args:
        keys: the scan (1, X, Y, N), through-plane axis last, square pixels; becomes U b, (1, X, Y, Z).
        slices_key: where b goes, (1, X, Y, N).

    Writes meta["slices"], the `SliceGeometry` of the acquisition on the isotropic grid.

    >>> from scripts.data.acceptance import AcceptScand
    >>> scan = MetaTensor(torch.rand(1, 20, 20, 5), affine=torch.diag(torch.tensor([1.0, 1, 6, 1])))
    >>> out = InterpolateSlicesd("image")(AcceptScand("image")({"image": scan}))
    >>> out["image"].shape, out["slices"].shape, out["image"].meta["slices"].slice_centres_voxels.tolist()
    (torch.Size([1, 20, 20, 30]), torch.Size([1, 20, 20, 5]), [2.5, 8.5, 14.5, 20.5, 26.5])
    """

    def __init__(self, keys: KeysCollection, slices_key: str = "slices"):
        super().__init__(keys)
        self.slices_key = slices_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The data with the key interpolated and `slices_key` added."""
        out = dict(data)
        key = self.keys[0]
        scan = out[key]
        thick = grid_of(scan)
        thin = thick.resampled(thick.spacing_mm[0])
        geometry = protocol_of(scan).geometry(thin.shape[-1], thick.shape[-1], thin.spacing_mm[-1])
        out[self.slices_key] = scan
        cubic = CubicInterpolation(geometry)(scan.as_tensor())
        out[key] = with_grid(cubic, thin, {**scan.meta, "slices": geometry})
        return out


class FuseViewsd(MapTransform):
    """Average the predictions, amplify the detail of the mean, and measure how far the predictions differ.

    Each prediction approaches the mean over all volumes that its view cannot distinguish, so its detail is too weak,
    and more of it is lost where predictions differ: `U b + detail_gain (mean - U b)`.

    Args:
        keys: the predictions (V, X, Y, Z), as the inferer returns them; becomes the fused one (1, X, Y, Z).
        detail_gain: factor on the detail of the mean, 1 for none; docs/physics.md says how it was chosen.
        image_key: U b, the input of the network.
        disagreement_key: where the root mean square distance of the predictions from their mean goes, (1, X, Y, Z);
            0 for a single prediction; their number is in its meta["predictions"].

    >>> cubic = MetaTensor(torch.zeros(1, 2, 2, 2), affine=torch.eye(4))
    >>> predictions = MetaTensor(torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1).expand(2, 2, 2, 2), affine=torch.eye(4))
    >>> fused = FuseViewsd("pred", detail_gain=1.2)({"image": cubic, "pred": predictions})
    >>> round(float(fused["pred"].mean()), 3), float(fused["disagreement"].mean())
    (2.4, 1.0)

    Raises:
        Refusal: if detail_gain is no positive number.
    """

    def __init__(
        self, keys: KeysCollection, detail_gain: float, image_key: str = "image", disagreement_key: str = "disagreement"
    ):
        super().__init__(keys)
        if not is_number(detail_gain) or detail_gain <= 0:
            raise Refusal(f"detail_gain must be a positive number, got {detail_gain!r}")
        self.detail_gain, self.image_key, self.disagreement_key = detail_gain, image_key, disagreement_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The data with the predictions fused and `disagreement_key` added."""
        out = dict(data)
        views = out[self.keys[0]]
        tensor, grid = views.as_tensor(), grid_of(views)
        mean, cubic = tensor.mean(0, keepdim=True), out[self.image_key].as_tensor().to(tensor.device)
        meta = {**views.meta, PREDICTIONS: len(tensor)}
        out[self.keys[0]] = with_grid(cubic + self.detail_gain * (mean - cubic), grid, meta)
        square = torch.zeros_like(mean)
        for prediction in tensor:  # one at a time: all differences at once would set the peak memory of a run
            square += (prediction - mean).square_()
        disagreement = square.div_(len(tensor)).sqrt_()
        out[self.disagreement_key] = with_grid(disagreement, grid, meta)
        return out


def projection(
    volume: MetaTensor, values: torch.Tensor, slices: torch.Tensor, regularisation: float | str, smoothness: float
) -> DataConsistency:
    """Return P for a volume of this scan, by its noise or by a number.

    Args:
        volume: of the scan, with meta["slices"], and for "auto" meta["noise"] and meta["intensity"].
        values: v, the volume to project, (1, X, Y, Z), on the intensity scale.
        slices: b, (1, X, Y, N), likewise.
        regularisation: "auto" weighs the noise against the expected error of v; or as for `DataConsistency`.
        smoothness: as for `DataConsistency`.
    """
    A = Acquisition(geometry_of(volume))
    if regularisation != AUTO:
        return DataConsistency(A, float(regularisation), smoothness)
    body, noise = slices > BODY, noise_of(volume)
    error = expected_error(A, (slices - A(values))[body], noise, smoothness) if body.any() else EXPECTED_ERROR
    return DataConsistency.for_noise(A, noise, error, smoothness)


class DataConsistencyd(MapTransform):
    """Project a share of the prediction, `P(U b + detail (v - U b))`, and measure what it adds to `P(U b)`.

    Args:
        keys: the prediction v, (1, X, Y, Z); becomes the result.
        image_key: U b, the input of the network.
        slices_key: b, (1, X, Y, N).
        detail: 0 gives consistent cubic interpolation, 1 the prediction, more exaggerates it.
        consistent: whether to project; the added detail and the residual are reported either way.
        regularisation: of P: "auto" or a number, see `projection`.
        smoothness: of P, see `DataConsistency`.
        added_key: where result - P(U b) goes, (1, X, Y, Z), on the intensity scale.
        correction_key: where P(v) - v goes, likewise: what the projection had to correct.

    >>> from scripts.data.acceptance import AcceptScand
    >>> scan = MetaTensor(torch.rand(1, 20, 20, 5), affine=torch.diag(torch.tensor([1.0, 1, 6, 1])))
    >>> data = InterpolateSlicesd("image")(AcceptScand("image")({"image": scan}))
    >>> data["pred"] = data["image"] + 1  # brighter than the slices everywhere: the projection takes it back
    >>> out = DataConsistencyd("pred", detail=1, consistent=True, regularisation=1e-3, smoothness=0.5)(data)
    >>> round(float(out["correction"].mean()), 1), out["pred"].meta["residual"] < 0.01
    (-1.0, True)
    """

    def __init__(
        self,
        keys: KeysCollection,
        detail: float,
        consistent: bool,
        regularisation: float | str,
        smoothness: float,
        image_key: str = "image",
        slices_key: str = "slices",
        added_key: str = "added_detail",
        correction_key: str = "correction",
    ):
        super().__init__(keys)
        if not is_number(detail) or detail < 0:
            raise Refusal(f"detail must be 0 (consistent cubic) or more; 1 is the prediction; got {detail!r}")
        if not is_number(smoothness) or not 0 <= smoothness <= 1:
            raise Refusal(f"smoothness must be from 0 to 1 slice spacings, got {smoothness!r}")
        if regularisation != AUTO and not (is_number(regularisation) and regularisation >= 0):
            raise Refusal(f"regularisation must be auto, or a number from 0 up, got {regularisation!r}")
        self.detail, self.consistent = float(detail), consistent
        self.regularisation, self.smoothness = regularisation, smoothness
        self.image_key, self.slices_key = image_key, slices_key
        self.added_key, self.correction_key = added_key, correction_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The data with the result, the added detail and the correction; meta of the result says how it fits.

        That is "residual", relative to the slices, and where the noise is known "residual_over_noise", its root mean
        square in the body over the noise.
        """
        out = dict(data)
        key = self.keys[0]
        prediction = out[key].as_tensor()  # on the network's device; what was only loaded is still on the CPU
        cubic, slices = (out[name].as_tensor().to(prediction.device) for name in (self.image_key, self.slices_key))
        result = cubic + self.detail * (prediction - cubic)
        P = projection(out[self.image_key], result, slices, self.regularisation, self.smoothness)
        baseline, projected = P(cubic, slices), P(result, slices)
        correction = projected - result
        if self.consistent:
            result = projected
        meta = {**out[self.image_key].meta, "residual": P.residual(result, slices)}
        body = slices > BODY
        if meta.get("noise") and body.any():
            misfit = (P.acquisition(result) - slices)[body].square().mean().sqrt()
            meta["residual_over_noise"] = float(misfit) / noise_of(out[self.image_key])
        grid = grid_of(out[self.image_key])
        out[key] = with_grid(result, grid, meta)
        out[self.added_key] = with_grid(result - baseline, grid, meta)
        out[self.correction_key] = with_grid(correction, grid, meta)
        return out


def smoothed(volume: torch.Tensor, sigma_voxels: float) -> torch.Tensor:
    """Return the Gaussian mean over the voxels inside a volume (1, X, Y, Z).

    Each axis has a small matrix with rows of the sum 1: nothing is taken from beyond the faces. It takes a
    tenth of the time of MONAI's GaussianFilter (a convolution).
    """
    kernel = gaussian_1d(torch.tensor(float(sigma_voxels)))
    reach = len(kernel) // 2
    for axis in range(1, 1 + AXES):
        index = torch.arange(volume.shape[axis])
        apart = index[:, None] - index + reach
        weights = torch.where((apart >= 0) & (apart <= 2 * reach), kernel[apart.clamp(0, 2 * reach)], 0.0)
        weights = (weights / weights.sum(1, keepdim=True)).to(volume)
        volume = volume @ weights.T if axis == AXES else (weights @ volume.flatten(axis + 1)).view_as(volume)
    return volume


def with_grid(tensor: torch.Tensor, grid: Grid, meta: Mapping) -> MetaTensor:
    """Return a tensor (1, X, Y, Z) as a volume with the affine of a grid and a copy of the meta."""
    volume = MetaTensor(tensor, meta=dict(meta))
    volume.affine = torch.as_tensor(np.array(grid.affine))
    return volume
