"""Several stacks of a study: simulated ones against the truth, real ones against the slices of one that is left out.

    python -m benchmarks.stacks simulated SCANS --table stacks_held_back --patterns '*saganon*' --crop 96
    python -m benchmarks.stacks left-out TRA COR SAG --table stacks_left_out [--spacing 0.8] [--picture]

simulated: three orthogonal stacks of each near-isotropic scan, with Rician noise; the second and third are moved by up
to 2 degrees and 2 mm (the truth is interpolated by splines of order 5 at the moved voxels, not by the resampling of the
method). Rows: each stack alone, two and three stacks fused, and what is lost without a part of the method.

left-out: two of the stacks are fused as by `run stacks`, the slices of the third are acquired of the result and
compared with its own, inside the field of view that all three share. The picture shows the middle slice of each stack
that is left out, and the same slice as it would be acquired of each result.

Each run writes docs/tables/TABLE.csv and the table TABLE of docs/stacks.md.
"""

import argparse
import sys
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from time import perf_counter

import nibabel
import numpy as np
import torch
from monai.bundle import ConfigParser
from scipy.spatial.transform import Rotation

from scripts.data.case import Case
from scripts.data.discovery import find_nifti
from scripts.evaluation.crossplane import Pair, high_band_coherence, local_correlation
from scripts.evaluation.simulation import MovedScan, cubes, random_motion
from scripts.evaluation.volumes import covered
from scripts.geometry.grid import AXES, Grid
from scripts.metrics.fidelity import psnr, robust_range, ssim
from scripts.metrics.mask import body_mask
from scripts.metrics.spectrum import NYQUIST, high_band
from scripts.physics.acquisition import Acquisition
from scripts.physics.joint import JointConsistency, StackOperator
from scripts.physics.rigid import RigidResampling, VoxelMeans
from scripts.reports.planes import plane
from scripts.stacks.fusion import HALF, Fused, Fusion
from scripts.stacks.registration import register
from scripts.stacks.stack import SingleStackInference, Stack

from .noise import cropped
from .pictures import IMAGES, Panel, draw_panels, view_across
from .tables import DOCS, ROOT, publish, scans_that_fit

CONFIG = ROOT / "configs" / "inference.yaml"
PAGE = DOCS.with_name("stacks.md")
NAMES = ("tra", "cor", "sag")  # slices across the third, second and first axis of a scan in RAS order
LARGEST_DEG, LARGEST_MM = 2.0, 2.0  # of the motion
ALL_OF_SENSITIVITY = 0.99
PERCENTILES = (0.5, 99.5)
COMPARED = {  # method -> title, PSNR in the table of simulated stacks
    "from cubic": "from cubic",
    "mean of three": "mean",
    "mean of three, by direction": "mean by direction",
    "mean of three cubic": "mean of cubic",
    "without a prior": "without a prior",
    "without registration": "not registered",
    "slices fitted without regard to noise": "noise ignored",
}
Row = dict[str, str | float]


def scan_of(path: Path) -> MovedScan:
    """Return a near-isotropic scan on cubic voxels about the origin, its robust range mapped to 0 and 1."""
    values, grid = cropped(path, None)
    low, high = np.percentile(values, PERCENTILES)
    affine = np.array(cubes(grid).affine)
    affine[:AXES, AXES] = -affine[:AXES, :AXES] @ (np.array(grid.shape) - 1) / 2
    return MovedScan.of(((values - low) / (high - low)).astype(np.float32), Grid(grid.shape, affine))


def central_cube(source: MovedScan, size: int | None) -> tuple[Grid, np.ndarray]:
    """Return grid and values of the central cube of so many voxels; None: of all."""
    shape = tuple(n if size is None else min(n, size) for n in source.grid.shape)
    start = (np.array(source.grid.shape) - shape) // 2
    affine = np.array(source.grid.affine)
    affine[:AXES, AXES] = source.grid.world_mm(start)
    return Grid(shape, affine), source.values[tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))]


@dataclass(frozen=True)
class SimulatedSlices:
    """Three orthogonal stacks of a scan whose true volume is known.

    Attributes:
        name: of the scan.
        factor: slice spacing in voxels of the truth.
        profile: of the slices.
        slices: of each stack, with their grid, in the order of `NAMES`: the reference in its place, the others moved.
        motions: of each, RAS mm of the stack -> RAS mm of the truth, (4, 4).
        truth: (X, Y, Z); 0 and 1 are its robust range.
        grid: of the truth.
    """

    name: str
    factor: float
    profile: str
    slices: Sequence[tuple[np.ndarray, Grid]]
    motions: Sequence[np.ndarray]
    truth: np.ndarray
    grid: Grid


def simulated_slices(
    path: Path,
    factor: float,
    noise: float,
    size: int | None,
    profile: str = "rect",
    largest: tuple[float, float] = (LARGEST_DEG, LARGEST_MM),
) -> SimulatedSlices:
    """Simulate three stacks of the central cube of a near-isotropic scan.

    Args:
        path: of the scan.
        factor: slice spacing and thickness in voxels.
        noise: standard deviation, of the robust range.
        size: of the cube in voxels; None: the whole scan.
        profile: of the slices.
        largest: motion of the second and third stack, degrees and mm.
    """
    source = scan_of(path)
    grid, truth = central_cube(source, size)
    name = path.name.removesuffix(".nii.gz")
    random = np.random.default_rng(zlib.crc32(f"{name} {factor}".encode()))
    motions = [np.eye(AXES + 1), *(random_motion(random, *largest) for _ in range(2))]
    slices = [
        source.stack(grid, 2 - index, factor, noise, motion, seed=index, profile=profile)
        for index, motion in enumerate(motions)
    ]
    return SimulatedSlices(name, factor, profile, slices, motions, truth, grid)


def isotropic_stacks(made: SimulatedSlices) -> list[Stack]:
    """Make each of the simulated stacks isotropic alone: the reference first, in its place; the others have moved."""
    thickness = made.factor * float(made.grid.spacing_mm[0])
    single = single_inference({"slice_thickness_mm": thickness, "slice_profile": made.profile})
    return [
        single(Case(title, ()), nibabel.Nifti1Image(slices, thick.affine))
        for title, (slices, thick) in zip(NAMES, made.slices, strict=True)
    ]


def fidelity(found: np.ndarray, truth: np.ndarray, factor: float, mask: np.ndarray, drange: float) -> dict[str, float]:
    """Return PSNR, SSIM and the mean high-band error over the axes of a volume on the grid of the truth."""
    return {
        "psnr": psnr(found, truth, mask, drange),
        "ssim": ssim(found, truth, mask, drange),
        "high_band_error": fmean(high_band(found, truth, factor, axis, mask).error for axis in range(AXES)),
    }


def simulated_rows(path: Path, factor: float, noise: float, size: int | None, ablation: bool = True) -> Iterator[Row]:
    """Yield the scores of all methods for one scan; without the ablation only those that the targets are about."""
    made = simulated_slices(path, factor, noise, size)
    stacks, motions, truth, grid = isotropic_stacks(made), made.motions, made.truth, made.grid
    drange = robust_range(truth)
    mask = body_mask(truth) & covered_by_all([s.grid for s in stacks], motions, grid)  # beyond, a stack is 0

    def scored(method: str, volume: torch.Tensor, its: Grid, back: np.ndarray | None, **more: float) -> Row:
        found = RigidResampling(its, grid, back)(volume).numpy()
        return {
            "scan": made.name,
            "factor": factor,
            "noise": noise,
            "method": method,
            **fidelity(found, truth, factor, mask, drange),
            "deg": more.get("deg", np.nan),
            "mm": more.get("mm", np.nan),
            "deviation": more.get("deviation", np.nan),
            "iterations": more.get("iterations", np.nan),
            "seconds": more.get("seconds", np.nan),
        }

    for stack, motion in zip(stacks, motions, strict=True):
        yield scored(f"{stack.case.name} alone", stack.volume, stack.grid, np.linalg.inv(motion))
    cubic = [replace(stack, volume=stack.interpolated) for stack in stacks]
    methods = [
        ("two stacks", stacks[:2], Fusion()),
        ("three stacks", stacks, Fusion()),
        ("from cubic", cubic, Fusion()),
        ("without registration", stacks, Fusion(registration=False)),
        ("slices fitted without regard to noise", stacks, Fusion(expected_error=1.0)),
    ]
    for method, used, fusion in methods if ablation else methods[:3]:
        start = perf_counter()
        fused = fusion(used)
        yield scored(method, fused.volume, fused.grid, None, seconds=perf_counter() - start, **_quality(fused, motions))
        if method == "three stacks":
            yield scored("mean of three", _mean(fused), fused.grid, None)
            yield scored("mean of three, by direction", fused.prior, fused.grid, None)
            if ablation:
                yield scored("without a prior", _without_prior(fused), fused.grid, None)
        if method == "from cubic":
            yield scored("mean of three cubic", _mean(fused), fused.grid, None)


def covered_by_all(grids: Sequence[Grid], motions: Sequence[np.ndarray], target: Grid) -> np.ndarray:
    """Return which voxels of the truth lie in the fields of view of all stacks, in the places to which they belong."""
    moved = [Grid(grid.shape, motion @ grid.affine) for grid, motion in zip(grids, motions, strict=True)]
    return np.logical_and.reduce([covered(grid, target) for grid in moved])


def _mean(fused: Fused) -> torch.Tensor:
    """The plain mean of the registered and matched volumes of single stacks, of those that cover a voxel."""
    total, coverage = torch.zeros_like(fused.prior), torch.zeros_like(fused.prior)
    for part in fused.stacks:
        place = RigidResampling(part.stack.grid, fused.grid, part.motion.matrix)
        volume, share = place(part.stack.volume), place(torch.ones_like(part.stack.volume))
        inside = share > HALF
        total += inside * (volume if part.match is None else volume * torch.from_numpy(part.match.factors))
        coverage += inside * share
    return total / torch.where(coverage > 0, coverage, 1)


def _without_prior(fused: Fused) -> torch.Tensor:
    """The joint solution that knows nothing beside the slices: it starts from 0, with errors as large as the image."""
    tau = float(fused.prior.square().mean().sqrt())
    return JointConsistency(tau)(torch.zeros_like(fused.prior), [part.observation for part in fused.stacks]).volume


def single_inference(overrides: dict) -> SingleStackInference:
    """Return what makes the volume of one stack, with the settings of `run stacks` and these."""
    own = ConfigParser.load_config_file(ROOT / "configs" / "stacks.yaml")["inference"]
    settings = {"bundle_root": str(ROOT), **own, "inferer::progress": False, **overrides}
    single = SingleStackInference(CONFIG, settings)
    single.load()
    return single


def farthest(apart: Sequence[np.ndarray]) -> dict[str, float]:
    """Return the largest rotation and shift of the centre, which is the origin, among motions that should be none."""
    return {
        "deg": max(float(np.degrees(Rotation.from_matrix(m[:AXES, :AXES]).magnitude())) for m in apart),
        "mm": max(float(np.linalg.norm(m[:AXES, AXES])) for m in apart),
    }


def _quality(fused: Fused, motions: Sequence[np.ndarray]) -> dict[str, float]:
    """How far the registrations are from the truth, at most, and what the fusion said."""
    apart = [part.motion.matrix @ motion for part, motion in zip(fused.stacks, motions, strict=False)]
    return {
        **farthest(apart),
        "deviation": max(part.deviation_over_noise for part in fused.stacks),
        "iterations": fused.iterations,
    }


def left_out_rows(paths: Sequence[Path], spacing_mm: float | None, picture: Path | None) -> Iterator[Row]:
    """Yield the scores of all methods against the slices of each stack in turn, and draw the middle slices."""
    single = single_inference({})
    stacks = [single(case) for case in find_nifti([str(path) for path in paths])]
    panels: list[dict[str, Panel]] = []
    for index, left_out in enumerate(stacks):
        used = [stack for other, stack in enumerate(stacks) if other != index]
        fused = Fusion(isotropic_spacing_mm=spacing_mm)(used)
        inside = [part.motion.matrix for part in fused.stacks]
        places = [RigidResampling(s.grid, fused.grid, m) for s, m in zip(used, inside, strict=True)]
        shared = torch.stack([place.covered() > HALF for place in places]).all(dim=0)
        alone = [place(stack.volume) for place, stack in zip(places, used, strict=True)]
        motion = register(fused.prior.numpy(), fused.grid, left_out.volume.numpy(), left_out.grid)
        there = VoxelMeans(fused.grid, left_out.grid, np.linalg.inv(motion.matrix))
        operator = StackOperator(Acquisition(left_out.geometry), there)
        slices = left_out.slices.numpy()
        mask = (operator(shared.float()) > ALL_OF_SENSITIVITY).numpy() & body_mask(slices)
        pairs = [_pair(slices, mask, left_out, stack, m) for stack, m in zip(used, inside, strict=True)]
        volumes = {f"{stack.case.name} alone": volume for stack, volume in zip(used, alone, strict=True)}
        volumes |= {"mean": sum(alone) / len(alone), "mean, by direction": fused.prior, "fused": fused.volume}
        images = {method: operator(volume).numpy() for method, volume in volumes.items()}
        panels.append(_middle_slices(left_out, used, images, mask))
        for method, image in images.items():
            yield {
                "left_out": left_out.case.name,
                "method": method,
                "correlation": local_correlation(image, pairs[0]),
                "coherence": fmean(high_band_coherence(image, pair) for pair in pairs),
                "deg": fused.stacks[1].motion.angle_deg,
                "mm": fused.stacks[1].motion.shift_mm,
                "deviation": max(part.deviation_over_noise for part in fused.stacks),
            }
    if picture is not None:
        draw_panels(panels, picture)


def _middle_slices(
    left_out: Stack, used: Sequence[Stack], images: Mapping[str, np.ndarray], mask: np.ndarray
) -> dict[str, Panel]:
    """The slice of the left-out stack that shares most with the others, and the same of each result, upright."""
    number = int(mask.sum(axis=(0, 1)).argmax())
    rows, columns = (np.flatnonzero(mask[..., number].any(axis=axis)) for axis in (1, 0))
    part = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1), slice(number, number + 1))
    grid = left_out.slice_grid
    affine = np.array(grid.affine)
    affine[:AXES, AXES] = grid.world_mm(np.array([rows[0], columns[0], number]))
    view = view_across(affine, 2)
    slices = left_out.slices.numpy()
    window = np.percentile(slices[part], PERCENTILES)
    short = {f"{stack.case.name} alone": f"{view_across(stack.slice_grid.affine, 2)} alone" for stack in used}
    shown = {f"{view}, left out": slices, **{short.get(method, method): image for method, image in images.items()}}
    planes = {title: plane((values[part], affine), view, affine[:AXES, AXES])[0] for title, values in shown.items()}
    return {title: Panel(image[::-1].T, *map(float, window)) for title, image in planes.items()}


def _pair(slices: np.ndarray, mask: np.ndarray, left_out: Stack, stack: Stack, motion: np.ndarray) -> Pair:
    """The left-out slices with the axis along which a stack has its slices."""
    across = motion[:AXES, :AXES].T @ stack.grid.affine[:AXES, 2]
    axes = left_out.grid.affine[:AXES, :2] / left_out.grid.spacing_mm[:2]
    along = int(np.abs(axes.T @ across).argmax())
    pixel = float(left_out.grid.spacing_mm[along])
    return Pair(slices, mask, None, None, along, pixel, NYQUIST * pixel / float(stack.slice_grid.spacing_mm[2]))


def simulated_table(rows: Sequence[Row]) -> str:
    """Return a Markdown table with a row a scan and factor: PSNR of each method, and what three stacks gain."""
    cases: dict[tuple, dict[str, Row]] = defaultdict(dict)
    for row in rows:
        cases[row["scan"], float(row["factor"])][str(row["method"])] = row
    titles = [
        "scan",
        "factor",
        "best alone",
        "two stacks",
        "**three**",
        "SSIM gained",
        "high-band error",
        *COMPARED.values(),
    ]
    lines = [f"| {' | '.join([*titles, 'registration'])} |", "|" + "---|" * (len(titles) + 1)]
    for (scan, factor), found in cases.items():
        alone = max((found[f"{name} alone"] for name in NAMES), key=lambda row: float(row["psnr"]))
        three = found["three stacks"]
        cells = [f"{float(row['psnr']):.2f}" for row in (alone, found["two stacks"], three)]
        cells += [f"{float(three['ssim']) - float(alone['ssim']):+.3f}", f"{float(three['high_band_error']):.2f}"]
        cells += [f"{float(found[method]['psnr']):.2f}" if method in found else "" for method in COMPARED]
        cells += [f"{float(three['deg']):.2f} deg, {float(three['mm']):.2f} mm"]
        lines.append(f"| {scan} | {factor:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def left_out_table(rows: Sequence[Row]) -> str:
    """Return the scores against each left-out stack as a Markdown table."""
    titles = ["left out", "method", "local correlation", "coherence of the high band", "found between the other two"]
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for row in rows:
        motion = f"{row['deg']:.2f} deg, {row['mm']:.2f} mm; {row['deviation']:.1f} x noise"
        scores = [f"{row['correlation']:.3f}", f"{row['coherence']:.3f}", motion if row["method"] == "fused" else ""]
        lines.append(f"| {row['left_out']} | {row['method']} | {' | '.join(scores)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and publish one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stacks", description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    simulated = kinds.add_parser("simulated")
    simulated.add_argument("scans", type=Path)
    simulated.add_argument("--patterns", nargs="+", default=["iso_*"])
    simulated.add_argument("--factors", nargs="+", type=float, default=[4.0, 6.0])
    simulated.add_argument("--noise", type=float, default=0.02)
    simulated.add_argument("--crop", type=int)
    simulated.add_argument("--no-ablation", action="store_true")
    simulated.add_argument("--table", default="stacks")
    left_out = kinds.add_parser("left-out")
    left_out.add_argument("scans", type=Path, nargs="+")
    left_out.add_argument("--spacing", type=float)
    left_out.add_argument("--table", default="stacks_left_out")
    left_out.add_argument("--picture", action="store_true", help="also draw docs/images/TABLE.png")
    options = parser.parse_args()
    if options.kind == "simulated":
        rows, content = [], ""
        files = scans_that_fit(options.scans, options.patterns)
        for path in files:
            for factor in options.factors:
                rows += list(simulated_rows(path, factor, options.noise, options.crop, not options.no_ablation))
                content = simulated_table(rows)
                publish(options.table, rows, content, PAGE)  # a run of hours shows what it has
                sys.stdout.write(f"{path.name}, {factor:g}x\n")
                sys.stdout.flush()
    else:
        picture = IMAGES / f"{options.table}.png" if options.picture else None
        rows = list(left_out_rows(options.scans, options.spacing, picture))
        content = left_out_table(rows)
        publish(options.table, rows, content, PAGE)
    sys.stdout.write(content + "\n")


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
