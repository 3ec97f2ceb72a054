"""The steps of a volume before and after the network, each undone exactly where it can be.

What travels: a MetaTensor (1, X, Y, Z), float32, RAS affine in mm, whose meta holds the protocol and every step.
"""

from collections.abc import Hashable, Mapping
from dataclasses import asdict

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.networks.layers import gaussian_1d
from monai.transforms import MapTransform

from ..geometry.checks import is_number
from ..geometry.errors import Refusal
from ..geometry.grid import AXES, Grid
from ..geometry.orientation import Reorientation
from ..physics.acquisition import Acquisition, geometry_of
from ..physics.interpolation import CubicInterpolation, resampling
from ..physics.projection import DataConsistency
from ..physics.protocol import Protocol


def grid_of(volume: MetaTensor) -> Grid:
    """The grid of a volume (1, X, Y, Z)."""
    return Grid(tuple(volume.shape[1:]), np.asarray(volume.affine.cpu(), dtype=np.float64))


def protocol_of(volume: MetaTensor) -> Protocol:
    """The protocol that `Protocold` wrote into the meta of a scan."""
    told = volume.meta["protocol"]
    return Protocol(float(told["slice_spacing_mm"]), float(told["slice_thickness_mm"]), _text(told["profile"]))


class ThroughPlaneLastd(MapTransform):
    """Reorient to (in-plane, in-plane, through-plane), axes towards R, A, S; no interpolation.

    Needs meta["protocol"]["through_plane_axis"]; writes meta["reorientation"] for the way back. A near-isotropic scan
    without a protocol, as training takes them, keeps its axes: none of them is the through-plane one.
    """

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """The data with every key reoriented."""
        out = dict(data)
        for key in self.key_iterator(out):
            volume, grid = out[key], grid_of(out[key])
            if "protocol" not in volume.meta:
                continue
            step = Reorientation.through_plane_last(grid, int(volume.meta["protocol"]["through_plane_axis"]))
            meta = {**volume.meta, "reorientation": {"source_axes": list(step.source_axes), "flips": list(step.flips)}}
            out[key] = _volume(step.apply(volume.as_tensor()), step.apply_grid(grid), meta)
        return out


class OriginalOrientationd(MapTransform):
    """Undo `ThroughPlaneLastd` on volumes of whatever shape: axes and directions of the scan as it came."""

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """The data with every key in the scan's own orientation."""
        out = dict(data)
        for key in self.key_iterator(out):
            volume = out[key]
            told = volume.meta["reorientation"]
            step = Reorientation(
                tuple(int(a) for a in told["source_axes"]), tuple(bool(f) for f in told["flips"])
            ).inverse()
            out[key] = _volume(step.apply(volume.as_tensor()), step.apply_grid(grid_of(volume)), volume.meta)
        return out


class ScaleIntensityRobustd(MapTransform):
    """Scale intensities so that two percentiles become 0 and 1; nothing is clipped.

    Args:
        keys: volumes.
        lower: percentile that becomes 0.
        upper: percentile that becomes 1.

    Writes meta["intensity"] = {"offset", "scale"}, in the scan's own units, for the way back.
    """

    def __init__(self, keys: KeysCollection, lower: float, upper: float):
        super().__init__(keys)
        self.lower, self.upper = lower, upper

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """The data with every key scaled."""
        out = dict(data)
        for key in self.key_iterator(out):
            volume = out[key]
            low, high = np.percentile(volume.numpy(), [self.lower, self.upper])
            if high <= low:  # nearly all voxels equal, a small bright object: fall to the range itself
                low, high = float(volume.min()), float(volume.max())
            if high <= low:
                raise Refusal("all voxels have one value: there is nothing to sharpen")
            scaled = (volume.as_tensor() - float(low)) / float(high - low)
            meta = {**volume.meta, "intensity": {"offset": float(low), "scale": float(high - low)}}
            out[key] = _volume(scaled, grid_of(volume), meta)
        return out


class OriginalIntensityd(MapTransform):
    """Undo `ScaleIntensityRobustd`.

    Args:
        keys: volumes on the scan's own scale afterwards.
        differences: those of the keys that are differences of intensities: scaled, not shifted.
    """

    def __init__(self, keys: KeysCollection, differences: KeysCollection = ()):
        super().__init__(keys)
        self.differences = (differences,) if isinstance(differences, str) else tuple(differences)

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """The data with every key in the scan's own units."""
        out = dict(data)
        for key in self.key_iterator(out):
            told = out[key].meta["intensity"]
            offset = 0.0 if key in self.differences else float(told["offset"])
            out[key] = out[key] * float(told["scale"]) + offset
        return out


class SquarePixelsd(MapTransform):
    """Resample in-plane so that pixels are squares of the isotropic spacing; slices stay as acquired.

    Args:
        keys: volumes (1, X, Y, N), through-plane axis last.
        spacing_mm: pixel size; None takes the smaller in-plane spacing of the scan.

    A near-isotropic scan without a protocol, as training takes them, stays as it is.
    """

    def __init__(self, keys: KeysCollection, spacing_mm: float | None = None):
        super().__init__(keys)
        self.spacing_mm = spacing_mm

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """The data with every key on square pixels."""
        out = dict(data)
        for key in self.key_iterator(out):
            if "protocol" not in out[key].meta:
                continue
            volume, old = out[key].as_tensor(), grid_of(out[key])
            spacing = self.spacing_mm or float(old.spacing_mm[:2].min())
            if spacing >= old.spacing_mm[2]:
                raise Refusal(
                    f"isotropic spacing {spacing:.3g} mm is not below the slice spacing {old.spacing_mm[2]:.3g} mm: "
                    f"choose a smaller one"
                )
            new = old.resampled([spacing, spacing, old.spacing_mm[2]])
            for axis in (0, 1):
                step = resampling(old.shape[axis], old.spacing_mm[axis], new.shape[axis], spacing)
                if step is not None:
                    volume = step(volume.movedim(1 + axis, -1)).movedim(-1, 1 + axis)
            out[key] = _volume(volume.contiguous(), new, out[key].meta)
        return out


class InterpolateSlicesd(MapTransform):
    """`U b` on the isotropic grid, and beside it the slices b themselves.

    Args:
        keys: the scan (1, X, Y, N), through-plane axis last, square pixels; becomes U b, (1, X, Y, Z).
        slices_key: where b goes, (1, X, Y, N).

    Writes meta["slices"], from which `geometry_of` makes the geometry of the acquisition again.
    """

    def __init__(self, keys: KeysCollection, slices_key: str = "slices"):
        super().__init__(keys)
        self.slices_key = slices_key

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """The data with the key interpolated and `slices_key` added."""
        out = dict(data)
        key = self.keys[0]
        scan = out[key]
        thick = grid_of(scan)
        thin = thick.resampled(thick.spacing_mm[0])
        geometry = protocol_of(scan).geometry(thin.shape[-1], thick.shape[-1], thin.spacing_mm[-1])
        out[self.slices_key] = scan
        cubic = CubicInterpolation(geometry)(scan.as_tensor())
        out[key] = _volume(cubic, thin, {**scan.meta, "slices": asdict(geometry)})
        return out


class FuseViewsd(MapTransform):
    """The mean of the views, its detail stretched, and how far their answers lie from it.

    Each view's answer is a mean over what it alone leaves open, hence cautious; together they know more, so the mean of
    several cautious answers is too cautious: `U b + detail_gain (mean - U b)`.

    Args:
        keys: the views (V, X, Y, Z), as the inferer returns them; becomes the fused answer (1, X, Y, Z).
        detail_gain: of the detail that the views add, 1 for none; docs/physics.md says how it was chosen.
        image_key: U b, the input of the network.
        disagreement_key: where the views' root mean square distance from their mean goes, (1, X, Y, Z); half the
            difference of two, 0 for a single one.

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

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """The data with the views fused and `disagreement_key` added."""
        out = dict(data)
        views = out[self.keys[0]]
        tensor, grid = views.as_tensor(), grid_of(views)
        mean, cubic = tensor.mean(0, keepdim=True), out[self.image_key].as_tensor().to(tensor.device)
        out[self.keys[0]] = _volume(cubic + self.detail_gain * (mean - cubic), grid, views.meta)
        square = torch.zeros_like(mean)
        for answer in tensor:  # one at a time: all differences at once would be the largest memory of a run
            square += (answer - mean).square_()
        disagreement = square.div_(len(tensor)).sqrt_()
        out[self.disagreement_key] = _volume(disagreement, grid, views.meta)
        return out


class DataConsistencyd(MapTransform):
    """Share of the answer and projection: `P(U b + detail (v - U b))`, and what the network added to `P(U b)`.

    Args:
        keys: the network's answer v, (1, X, Y, Z); becomes the result.
        image_key: U b, the input of the network.
        slices_key: b, (1, X, Y, N).
        detail: 0 gives consistent cubic interpolation, 1 the network's answer, more exaggerates it.
        consistent: whether to project; the added detail and the residual are reported either way.
        regularisation: of P, see `DataConsistency`.
        smoothness: of P, likewise.
        added_key: where result - P(U b) goes, (1, X, Y, Z), on the intensity scale.
        correction_key: where P(v) - v goes, likewise: what the slices had to put right of the answer.
    """

    def __init__(
        self,
        keys: KeysCollection,
        detail: float,
        consistent: bool,
        regularisation: float,
        smoothness: float,
        image_key: str = "image",
        slices_key: str = "slices",
        added_key: str = "added_detail",
        correction_key: str = "correction",
    ):
        super().__init__(keys)
        if not is_number(detail) or detail < 0:
            raise Refusal(f"detail must be 0 (consistent cubic) or more; 1 is the network's answer; got {detail!r}")
        if not is_number(smoothness) or not 0 <= smoothness <= 1:
            raise Refusal(f"smoothness must be from 0 to 1 slice spacings, got {smoothness!r}")
        self.detail, self.consistent = float(detail), consistent
        self.regularisation, self.smoothness = regularisation, smoothness
        self.image_key, self.slices_key = image_key, slices_key
        self.added_key, self.correction_key = added_key, correction_key

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """The data with the result, the added detail, the correction and meta["residual"] of the result."""
        out = dict(data)
        key = self.keys[0]
        answer = out[key].as_tensor()  # of a GPU, where the network ran on one; what was only loaded is not there yet
        cubic, slices = (out[name].as_tensor().to(answer.device) for name in (self.image_key, self.slices_key))
        P = DataConsistency(Acquisition(geometry_of(out[self.image_key])), self.regularisation, self.smoothness)
        result = cubic + self.detail * (answer - cubic)
        baseline, projected = P(cubic, slices), P(result, slices)
        correction = projected - result
        if self.consistent:
            result = projected
        meta = {**out[self.image_key].meta, "residual": P.residual(result, slices)}
        grid = grid_of(out[self.image_key])
        out[key] = _volume(result, grid, meta)
        out[self.added_key] = _volume(result - baseline, grid, meta)
        out[self.correction_key] = _volume(correction, grid, meta)
        return out


class Confidenced(MapTransform):
    """Confidence, 0 to 1 per voxel: `1 / (1 + u / level)`.

    u is the root mean square, over a Gaussian neighbourhood, of the views' disagreement and a share of what the slices
    had to put right: `u^2 = G_sigma * (disagreement^2 + (share * correction)^2)`. Where all views give one answer
    and that answer explains the slices by itself, u is small. Its rank correlation with the true error is measured,
    not assumed: docs/README.md has the table.

    Args:
        keys: where the confidence goes.
        level: u at which the confidence is one half, on the intensity scale.
        share: weight of the correction against the disagreement.
        sigma_voxels: of the Gaussian neighbourhood.
        correction_key: from `DataConsistencyd`, (1, X, Y, Z), on the intensity scale.
        disagreement_key: from `FuseViewsd`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        level: float,
        share: float,
        sigma_voxels: float,
        correction_key: str = "correction",
        disagreement_key: str = "disagreement",
    ):
        super().__init__(keys)
        if level <= 0:
            raise Refusal(f"the level of half confidence must be positive, got {level}")
        self.level, self.share, self.sigma_voxels = level, share, sigma_voxels
        self.correction_key, self.disagreement_key = correction_key, disagreement_key

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """The data with the confidence added."""
        out = dict(data)
        volume = out[self.correction_key]
        correction, disagreement = volume.as_tensor(), out[self.disagreement_key].as_tensor()
        square = disagreement.square() + (self.share * correction).square()
        u = _smooth(square, self.sigma_voxels).clamp(min=0).sqrt()
        out[self.keys[0]] = _volume(1 / (1 + u / self.level), grid_of(volume), volume.meta)
        return out


def _smooth(volume: torch.Tensor, sigma_voxels: float) -> torch.Tensor:
    """Gaussian mean over what lies inside the volume, (1, X, Y, Z): along each axis a small matrix with rows of sum 1.

    A matrix product per axis takes a tenth of the time of the convolution that MONAI's GaussianFilter makes of it.
    """
    kernel = gaussian_1d(torch.tensor(float(sigma_voxels)))
    reach = len(kernel) // 2
    for axis in range(1, 1 + AXES):
        places = torch.arange(volume.shape[axis])
        apart = places[:, None] - places + reach
        weights = torch.where((apart >= 0) & (apart <= 2 * reach), kernel[apart.clamp(0, 2 * reach)], 0.0)
        weights = (weights / weights.sum(1, keepdim=True)).to(volume)
        volume = volume @ weights.T if axis == AXES else (weights @ volume.flatten(axis + 1)).view_as(volume)
    return volume


def _volume(tensor: torch.Tensor, grid: Grid, meta: Mapping) -> MetaTensor:
    volume = MetaTensor(tensor, meta=dict(meta))
    volume.affine = torch.as_tensor(np.array(grid.affine))
    return volume


def _text(value) -> str:
    """A string from meta that may have been collated into a list of one."""
    return str(value[0]) if isinstance(value, list | tuple) else str(value)
