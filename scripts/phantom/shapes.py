"""Drawing primitives of the phantom: random fields, signed distances, tubes, and a canvas to paint them on.

Every shape is a signed distance in mm (negative inside), so a border has the same position at any resolution. It is
painted with a ramp as wide as a voxel, which is the partial-volume effect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

EDGE_MM = 0.8  # width of the sharpest border
FAR_MM = 1e3  # distance where no tube is near
Point = tuple[float, float, float]
SMOOTH_MM = 20  # rounding of curves given by a few points


@dataclass(frozen=True)
class RandomField:
    """A Gaussian random field of unit variance, a sum of plane waves that is defined at every point of space.

    A plane wave is separable on any grid, so its samples on a block are one matrix product.
    """

    waves: np.ndarray  # (K, 3) radians per mm, world RAS
    phases: np.ndarray  # (K,) radians

    @classmethod
    def draw(
        cls,
        rng: np.random.Generator,
        count: int,
        shortest_mm: float,
        longest_mm: float,
        elongation: tuple[float, float, float] = (1.0, 1.0, 1.0),
    ) -> RandomField:
        """Draw `count` waves with wavelengths between the two (mm), longer by `elongation` along x, y, z."""
        directions = rng.normal(size=(count, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        lengths_mm = np.exp(rng.uniform(np.log(shortest_mm), np.log(longest_mm), size=(count, 1)))
        return cls(2 * np.pi * directions / lengths_mm / np.asarray(elongation), rng.uniform(0, 2 * np.pi, size=count))

    @cached_property
    def slope_per_mm(self) -> float:
        """Root mean square of the field's gradient, per mm."""
        return float(np.sqrt(np.mean(np.sum(self.waves**2, axis=1))))

    def at(self, points_mm: np.ndarray) -> np.ndarray:
        """Return the field at points (..., 3) in mm, world RAS."""
        return np.cos(points_mm @ self.waves.T + self.phases).sum(-1) * np.sqrt(2 / len(self.phases))

    def on(self, shape: tuple[int, int, int], affine: np.ndarray) -> np.ndarray:
        """Return the field averaged over the voxels of a block: (X, Y, Z) float32."""
        steps = self.waves @ affine[:3, :3]  # (K, 3): radians per voxel along each array axis
        weights = np.sinc(steps / (2 * np.pi)).prod(1) * np.sqrt(2 / len(self.phases))
        factors = [np.exp(1j * steps[:, axis, None] * np.arange(shape[axis])) for axis in range(3)]
        factors[0] *= (weights * np.exp(1j * (self.waves @ affine[:3, 3] + self.phases)))[:, None]
        plane = (factors[0][:, :, None] * factors[1][:, None, :]).reshape(len(weights), -1)
        left = np.concatenate([plane.real, -plane.imag]).astype(np.float32)
        right = np.concatenate([factors[2].real, factors[2].imag]).astype(np.float32)
        return (left.T @ right).reshape(shape)


@lru_cache(maxsize=64)
def _profile(heights: tuple[float, ...], values: tuple[float, ...]) -> np.ndarray:
    """Return a smooth curve through (height in mm, value) pairs, tabulated every half mm from -300 to 300 mm."""
    table = np.interp(np.arange(-300 - SMOOTH_MM, 300 + SMOOTH_MM, 0.5), heights, values)
    box = np.ones(SMOOTH_MM) / SMOOTH_MM
    return np.convolve(np.convolve(table, box, "same"), box, "same")[2 * SMOOTH_MM : -2 * SMOOTH_MM].astype(np.float32)


def along(height_mm: np.ndarray, heights: tuple[float, ...], values: tuple[float, ...]) -> np.ndarray:
    """Return the values (float32) of a smooth curve over height (mm) at an array of heights."""
    table = _profile(heights, values)
    return table[np.clip((height_mm + 300) * 2 + 0.5, 0, len(table) - 1).astype(np.int32)]


def smooth_min(a: np.ndarray, b: np.ndarray, radius_mm: float) -> np.ndarray:
    """Return the union of two signed distances (mm), rounded with a fillet of about `radius_mm`."""
    blend = np.clip(0.5 + 0.5 * (b - a) / radius_mm, 0, 1)
    return b + blend * (a - b) - radius_mm * blend * (1 - blend)


def smooth_max(a: np.ndarray, b: np.ndarray, radius_mm: float) -> np.ndarray:
    """Return the intersection of two signed distances (mm), with an edge rounded by about `radius_mm`."""
    return -smooth_min(-a, -b, radius_mm)


def ellipsoid(x: np.ndarray, y: np.ndarray, z: np.ndarray, radii_mm: tuple[float, float, float]) -> np.ndarray:
    """Return the signed distance (mm, first order) to an ellipsoid at the origin with half axes `radii_mm`.

    >>> round(float(ellipsoid(12.0, 0.0, 0.0, radii_mm=(9, 9, 9))), 6)
    3.0
    """
    a, b, c = radii_mm
    u, v, w = (x / a) ** 2, (y / b) ** 2, (z / c) ** 2
    level = np.sqrt(u + v + w)
    slope = np.sqrt(u / a**2 + v / b**2 + w / c**2)
    return level * (level - 1) / np.maximum(slope, 1e-6)


def ellipse(x: np.ndarray, y: np.ndarray, a_mm: float, b_mm: float) -> np.ndarray:
    """Return the signed distance (mm, first order) to an elliptic cylinder at the origin."""
    u, v = (x / a_mm) ** 2, (y / b_mm) ** 2
    level = np.sqrt(u + v)
    return level * (level - 1) / np.maximum(np.sqrt(u / a_mm**2 + v / b_mm**2), 1e-6)


def curve(points_mm: np.ndarray, radii_mm: np.ndarray, step_mm: float = 6.0) -> tuple[np.ndarray, np.ndarray]:
    """Return a Catmull-Rom spline through points (N, 3) with radii (N,), resampled about every `step_mm`."""
    points = np.column_stack([np.asarray(points_mm, float), np.broadcast_to(radii_mm, len(points_mm))])
    padded = np.concatenate([[2 * points[0] - points[1]], points, [2 * points[-1] - points[-2]]])
    pieces = []
    for before, start, end, after in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        count = max(1, round(float(np.linalg.norm(end[:3] - start[:3])) / step_mm))
        t = (np.arange(count) / count)[:, None]
        pieces.append(
            start
            + 0.5 * t * (end - before)
            + t**2 * (before - 2.5 * start + 2 * end - 0.5 * after)
            + 0.5 * t**3 * (3 * start - before - 3 * end + after)
        )
    line = np.concatenate([*pieces, points[-1:]])
    return line[:, :3], np.maximum(line[:, 3], 0.3)


@dataclass(frozen=True)
class Tube:
    """A chain or tree of round pipe segments.

    Attributes:
        starts_mm: (N, 3).
        ends_mm: (N, 3).
        radii_mm: (N, 2), at start and end.
        arcs_mm: (N, 2), arc lengths at start and end.

    >>> Tube.along(np.array([(0, 0, 0), (3, 4, 0), (3, 4, 5)]), 2.0).arcs_mm
    array([[ 0.,  5.],
           [ 5., 10.]])
    """

    starts_mm: np.ndarray
    ends_mm: np.ndarray
    radii_mm: np.ndarray
    arcs_mm: np.ndarray

    @classmethod
    def along(cls, points_mm: np.ndarray, radii_mm: np.ndarray) -> Tube:
        """Return one pipe through points (N, 3) with radii (N,)."""
        points = np.asarray(points_mm, float)
        radii = np.broadcast_to(np.asarray(radii_mm, float), len(points))
        arcs = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
        pairs = [np.column_stack([values[:-1], values[1:]]) for values in (radii, arcs)]
        return cls(points[:-1], points[1:], *pairs)

    @classmethod
    def joined(cls, tubes: list[Tube]) -> Tube:
        """Return the segments of several tubes as one tube."""
        names = ("starts_mm", "ends_mm", "radii_mm", "arcs_mm")
        return cls(*(np.concatenate([getattr(tube, name) for tube in tubes]) for name in names))

    def moved(self, move: Callable[[np.ndarray], np.ndarray]) -> Tube:
        """Return the tube with its points moved by a function of points (N, 3)."""
        return Tube(move(self.starts_mm), move(self.ends_mm), self.radii_mm, self.arcs_mm)


class Block:
    """A box of voxels to paint on; its coordinates, textures and values are views into the canvas."""

    def __init__(self, canvas: Canvas, where: tuple[slice, slice, slice]):
        self.canvas, self.where = canvas, where
        self.x, self.y, self.z = (array[where] for array in canvas.anatomy_mm)
        self.values = canvas.values[where]

    def texture(self, name: str) -> np.ndarray:
        """Return the part of a named texture of the canvas within this block."""
        return self.canvas.texture(name)[self.where]

    def paint(self, distance_mm: np.ndarray, tissue: Tissue, fill: np.ndarray | None = None) -> None:
        """Paint a tissue with its texture inside a signed distance (mm), with opacity `fill` (0 to 1)."""
        cover = np.clip(0.5 - distance_mm / self.canvas.edge_mm, 0, 1)
        if not cover.any():
            return
        if fill is not None:
            cover *= fill
        value = tissue.value
        if tissue.fine or tissue.coarse:
            value = value * (1 + tissue.fine * self.texture("fine") + tissue.coarse * self.texture("coarse"))
        self.values += cover * (value - self.values)


class Canvas(Block):
    """A block of the grid with the coordinates, textures and values for painting.

    Args:
        shape: voxels.
        affine: voxel indices to world RAS, mm.
        warp: deformation of the atlas into this patient.
        textures: named random fields.
    """

    def __init__(self, shape: tuple[int, int, int], affine: np.ndarray, warp: Warp, textures: dict[str, RandomField]):
        self.shape, self.affine, self._fields, self._textures = shape, affine, textures, {}
        self.spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
        self.edge_mm = float(max(EDGE_MM, self.spacing_mm.mean()))
        self.inverse = np.linalg.inv(affine)
        self.values = np.zeros(shape, np.float32)
        self.anatomy_mm = warp.on(shape, affine)
        self.margin_mm = warp.reach_mm
        super().__init__(self, (slice(None),) * 3)

    def texture(self, name: str) -> np.ndarray:
        """Return a named random field on this canvas, computed once."""
        if name not in self._textures:
            self._textures[name] = self._fields[name].on(self.shape, self.affine)
        return self._textures[name]

    def sheets(self, name: str, thickness_mm: float) -> np.ndarray:
        """Return thin sheets (septa, fibres), 0 to 1, about `thickness_mm` thick, where a named field crosses zero."""
        slope = self._fields[name].slope_per_mm
        width = thickness_mm * slope
        seen = np.hypot(width, 0.7 * slope * float(self.spacing_mm.max()))
        return np.exp(-4 * np.square(self.texture(name) / seen), dtype=np.float32) * np.float32(width / seen)

    def slices(self, low_mm: np.ndarray, high_mm: np.ndarray) -> tuple[slice, slice, slice] | None:
        """Return the box of voxels whose centres can lie in a world box (mm), or None where there are none."""
        low, high = self._index_box((low_mm + high_mm) / 2, (high_mm - low_mm) / 2)
        if np.any(high <= low):
            return None
        return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))

    def _index_box(self, centre_mm: np.ndarray, reach_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return first and one past last voxel (..., 3) of world boxes (centres, half sizes, mm), within the canvas."""
        centre = centre_mm @ self.inverse[:3, :3].T + self.inverse[:3, 3]
        reach = reach_mm @ np.abs(self.inverse[:3, :3]).T
        first = np.maximum(np.floor(centre - reach), 0).astype(int)
        return first, np.minimum(np.ceil(centre + reach) + 1, self.shape).astype(int)

    def block(self, centre_mm: Point, reach_mm: Point | float) -> Block | None:
        """Return a block that contains the atlas box of half size `reach_mm` about `centre_mm`, or None."""
        reach = np.broadcast_to(np.asarray(reach_mm, float), 3) + self.margin_mm + self.edge_mm
        where = self.slices(np.asarray(centre_mm) - reach, np.asarray(centre_mm) + reach)
        return None if where is None else Block(self, where)

    def world_mm(self, where: tuple[slice, slice, slice]) -> list[np.ndarray]:
        """Return world x, y, z of a box of voxels, as arrays that broadcast to its shape."""
        index = [np.arange(s.start, s.stop).reshape([-1 if a == b else 1 for b in range(3)])
                 for a, s in enumerate(where)]  # fmt: skip
        return [
            sum((self.affine[row, a] * index[a] for a in range(3) if self.affine[row, a] != 0),
                np.full((1, 1, 1), self.affine[row, 3])).astype(np.float32)
            for row in range(3)
        ]  # fmt: skip

    def around(self, tube: Tube, reach_mm: float = 0.0) -> TubeBlock | None:
        """Return the block around a tube (points in world mm) with its distances, or None where they do not meet.

        The signed distance is correct up to `reach_mm` outside the tube and too large beyond.
        """
        grow = tube.radii_mm.max(1, keepdims=True) + reach_mm + self.edge_mm
        low = np.minimum(tube.starts_mm, tube.ends_mm) - grow
        high = np.maximum(tube.starts_mm, tube.ends_mm) + grow
        whole = self.slices(low.min(0), high.max(0))
        if whole is None:
            return None
        block, offset = TubeBlock(self, whole), [side.start for side in whole]
        first, last = self._index_box((low + high) / 2, (high - low) / 2)
        world_mm = self.world_mm(whole)
        for piece in np.flatnonzero((last > first).all(1)):
            ends = zip(first[piece], last[piece], offset, strict=True)
            inner = tuple(slice(int(a) - o, int(b) - o) for a, b, o in ends)
            block.add(inner, [_part(axis, inner) for axis in world_mm], tube, piece)
        return block


def _part(axis: np.ndarray, where: tuple[slice, slice, slice]) -> np.ndarray:
    """Return a part of an array that may have length 1 along some axes, for broadcasting."""
    return axis[tuple(slice(None) if n == 1 else w for n, w in zip(axis.shape, where, strict=True))]


class TubeBlock(Block):
    """A block with the signed distance (mm), arc length (mm) and height above the axis (mm, anterior) of a tube.

    `fill` is the share of the painted ramp that a pipe thinner than a voxel covers, so that vessels have the same total
    signal at any resolution.
    """

    def __init__(self, canvas: Canvas, where: tuple[slice, slice, slice]):
        super().__init__(canvas, where)
        self.distance_mm = np.full(self.values.shape, FAR_MM, np.float32)
        self.arc_mm = np.zeros(self.values.shape, np.float32)
        self.height_mm = np.zeros(self.values.shape, np.float32)
        self.fill = np.ones(self.values.shape, np.float32)

    def paint_pipe(self, distance_mm: np.ndarray, tissue: Tissue) -> None:
        """Paint a solid pipe; branches thinner than a voxel keep their total signal."""
        self.paint(distance_mm, tissue, fill=self.fill)

    def add(self, inner: tuple[slice, slice, slice], world_mm: list[np.ndarray], tube: Tube, piece: int) -> None:
        """Add one segment of the tube to the distances within a part of the block."""
        start, along = tube.starts_mm[piece], tube.ends_mm[piece] - tube.starts_mm[piece]
        offsets = [axis - np.float32(at) for axis, at in zip(world_mm, start, strict=True)]
        share = sum(o * np.float32(a) for o, a in zip(offsets, along, strict=True))
        share = np.clip(share * np.float32(1 / max(float(along @ along), 1e-6)), 0, 1)
        square = sum(np.square(o - share * np.float32(a)) for o, a in zip(offsets, along, strict=True))
        (r0, r1), (s0, s1) = tube.radii_mm[piece], tube.arcs_mm[piece]
        distance = np.sqrt(square) - (np.float32(r0) + np.float32(r1 - r0) * share)
        nearer = distance < self.distance_mm[inner]
        np.copyto(self.distance_mm[inner], distance, where=nearer)
        np.copyto(self.arc_mm[inner], np.float32(s0) + np.float32(s1 - s0) * share, where=nearer)
        np.copyto(self.height_mm[inner], offsets[1] - share * np.float32(along[1]), where=nearer)
        radius, edge = (r0 + r1) / 2, self.canvas.edge_mm
        if radius < edge:  # area of the disc over that of the ramp that is painted for it
            ramp = radius**2 + edge**2 / 12 if radius > edge / 2 else (radius + edge / 2) ** 3 / (3 * edge)
            np.copyto(self.fill[inner], np.float32(radius**2 / ramp), where=nearer)


@dataclass(frozen=True)
class Tissue:
    """Signal of a tissue (scanner units) and the relative amplitudes of its fine and coarse texture."""

    value: float
    fine: float = 0.0
    coarse: float = 0.0


@dataclass(frozen=True)
class Warp:
    """Deformation from world to atlas: a scale per axis plus smooth bending, different for each patient."""

    scale: np.ndarray  # (3,)
    fields: list[tuple[float, list[RandomField]]]  # amplitude in mm and a field for each of x, y, z

    @property
    def reach_mm(self) -> float:
        """Largest displacement of a point from its atlas position (2.5 deviations of the bending, plus the scale)."""
        return 2.5 * sum(amplitude for amplitude, _ in self.fields) + 150 * float(np.abs(self.scale - 1).max())

    def on(self, shape: tuple[int, int, int], affine: np.ndarray) -> list[np.ndarray]:
        """Return atlas x, y, z (mm) of each voxel of a block: three (X, Y, Z) float32."""
        index = [np.arange(n).reshape([-1 if a == b else 1 for b in range(3)]) for a, n in enumerate(shape)]
        coordinates = []
        for row in range(3):
            straight = sum(affine[row, a] * index[a] for a in range(3)) + affine[row, 3]
            total = (straight * (1 / self.scale[row])).astype(np.float32)
            for amplitude, fields in self.fields:
                total = total + np.float32(amplitude) * fields[row].on(shape, affine)
            coordinates.append(total)
        return coordinates

    def to_world(self, atlas_mm: np.ndarray) -> np.ndarray:
        """Return the world points (N, 3) of atlas points (N, 3), in mm, by fixed-point iteration."""
        world = atlas_mm * self.scale
        for _ in range(4):
            bend = sum(amplitude * np.stack([field.at(world) for field in fields], -1)
                       for amplitude, fields in self.fields)  # fmt: skip
            world = (atlas_mm - bend) * self.scale
        return world
