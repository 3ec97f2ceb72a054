"""Zero-filled planes: what is found of their acquired pixels, and what a result at these pixels costs and is worth.

    python -m benchmarks.zero_filling found SCANS
    python -m benchmarks.zero_filling results SCANS --patterns '*saganon*' [--crop 48] [--factor 2]
    python -m benchmarks.zero_filling picture SCANS

`found` looks at every scan of a folder as it is, and at its near-isotropic ones zero-filled by several factors, with
noise, with and without a k-space filter. `results` simulates thick slices of near-isotropic scans, zero-fills their
planes as a scanner does, and runs the inference at the acquired and at the stored pixels. Truth and both results are
compared on the grid of the former, cropped in k-space to what it can hold. The tables are written to
docs/resolution.md, their data to docs/tables. `picture` draws docs/images/zero_filling.png from the head of a child,
held back from training.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import nibabel
import numpy as np
import torch
from monai.data import MetaTensor
from scipy.fft import dct
from scipy.signal.windows import tukey

from scripts.data.saving import write_nifti
from scripts.evaluation.simulation import SimulatedProtocol, simulate
from scripts.geometry.grid import Grid
from scripts.metrics.fidelity import psnr, robust_range, ssim
from scripts.metrics.mask import body_mask
from scripts.metrics.spectrum import high_band
from scripts.physics.resolution import acquired_fraction

from .fidelity import bundle
from .noise import PICTURED, cropped
from .pictures import IMAGES, Panel, draw_panels
from .tables import DOCS, ROOT, publish, scans_that_fit

PAGE = DOCS.with_name("resolution.md")
FACTORS = (1.25, 4 / 3, 1.5, 1.7, 2.0, 2.5)
KINDS = {"noise 1 %": (0.01, 0.0), "noise 3 %": (0.03, 0.0), "noise 1 %, filtered": (0.01, 0.4)}
PLANES = 10  # of a near-isotropic scan, for the first table
Row = dict[str, str | float]


def zero_filled(slices: np.ndarray, factor: float, noise: float, taper: float, seed: int = 0) -> np.ndarray:
    """Return magnitude planes as a scanner stores them that interpolates by zero-filling.

    Args:
        slices: (X, Y, N), magnitudes; they get the phase of a smooth field.
        factor: stored over acquired pixels along both axes.
        noise: standard deviation in each channel, share of the 99.5th percentile.
        taper: share of measured k-space that a cosine (Tukey) filter lowers.
        seed: of the noise.

    Returns:
        Magnitudes: round(factor * X) x round(factor * Y) pixels.
    """
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(*(np.linspace(-1, 1, n) for n in slices.shape[:2]), indexing="ij")
    level = noise * float(np.percentile(slices, 99.5))
    planes = slices * np.exp(1j * (1.5 * x**2 + y))[..., None]
    planes = planes + level * (rng.standard_normal(slices.shape) + 1j * rng.standard_normal(slices.shape))
    for axis in (0, 1):
        size = slices.shape[axis]
        new = round(factor * size)
        spectrum = np.fft.fftshift(np.fft.fft(planes, axis=axis), axes=axis)
        shape = [-1 if a == axis else 1 for a in range(3)]
        spectrum = spectrum * tukey(size + 2, taper)[1:-1].reshape(shape) if taper else spectrum
        before = new // 2 - size // 2
        around = [(before, new - size - before) if a == axis else (0, 0) for a in range(3)]
        planes = np.fft.ifft(np.fft.ifftshift(np.pad(spectrum, around), axes=axis), axis=axis) * (new / size)
    return np.abs(planes).astype(np.float32)


def found_in(path: Path) -> Iterator[Row]:
    """Yield what is found in a scan as it is, and of a near-isotropic one zero-filled by every factor and kind."""
    values, grid = cropped(path, None)
    name = path.name.removesuffix(".nii.gz")
    for axis in range(3) if grid.is_near_isotropic else (grid.through_plane_axis(),):
        slices = np.moveaxis(values, axis, -1)
        kept = [a for a in range(3) if a != axis]
        for in_plane in (0, 1):
            fraction = acquired_fraction(slices, in_plane)
            row: Row = {"scan": name, "kind": "as it is", "through_plane": axis, "axis": kept[in_plane]}
            yield {**row, "factor": 1.0, "found": 1 / fraction}
    if not grid.is_near_isotropic or min(values.shape) < 2 * PLANES:
        return
    planes = values[:, :, :: max(1, values.shape[2] // PLANES)]
    for kind, (noise, taper) in KINDS.items():
        for factor in FACTORS:
            stored = zero_filled(planes, factor, noise, taper)
            for axis in (0, 1):
                row = {"scan": name, "kind": kind, "through_plane": 2, "axis": axis}
                true = stored.shape[axis] / planes.shape[axis]
                yield {**row, "factor": true, "found": 1 / acquired_fraction(stored, axis)}


def found_table(rows: Sequence[Row]) -> str:
    """Return a Markdown table: real scans where zero-filling is seen, then the simulated ones, pooled."""
    lines = [
        "| scans | axes | stored / acquired pixels | missed | found / true: median | lowest to highest |",
        "|" + "---|" * 6,
    ]
    real = [row for row in rows if row["kind"] == "as it is"]
    none = [row for row in real if row["found"] == 1]
    lines.append(f"| as they are: nothing seen | {len(none)} | | | | |")
    lines += [f"| {r['scan']} | axis {r['axis']} | seen: {r['found']:.2f} | | | |" for r in real if r["found"] != 1]
    for kind in KINDS:
        for factor in FACTORS:
            own = [r for r in rows if r["kind"] == kind and abs(float(r["factor"]) / factor - 1) < 0.02]
            ratios = [float(r["found"]) / float(r["factor"]) for r in own if r["found"] != 1]
            missed = len(own) - len(ratios)
            lines.append(
                f"| simulated, {kind} | {len(own)} | {factor:.3g} | {missed} | {median(ratios):.3f} | "
                f"{min(ratios):.2f} to {max(ratios):.2f} |"
            )
    return "\n".join(lines)


@dataclass(frozen=True)
class Comparison:
    """A simulated zero-filled scan, and what the inference makes of it.

    Attributes:
        slices: as stored, (X, Y, N).
        thick: grid of the slices before their planes were zero-filled.
        truth: on its own grid.
        results: "acquired" and "stored" -> volume on its grid.
        rows: likewise -> row of summary.json.
    """

    slices: np.ndarray
    thick: Grid
    truth: tuple[np.ndarray, Grid]
    results: dict[str, tuple[np.ndarray, Grid]]
    rows: dict[str, dict]


def compared(path: Path, factor: float, size: int | None) -> Comparison:
    """Simulate thick slices of a scan, zero-fill their planes, and run the inference at both pixel sizes."""
    values, grid = cropped(path, size)
    (slices, thick), truth = simulate(values, grid, 2, SimulatedProtocol(4, "rect"), path.name)
    stored = zero_filled(slices, factor, 0.01, 0.0)
    affine = np.array(thick.affine)
    for axis in (0, 1):  # the first pixels share their centre
        affine[:3, axis] /= stored.shape[axis] / slices.shape[axis]
    results: dict[str, tuple[np.ndarray, Grid]] = {}
    rows: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_nifti(MetaTensor(torch.from_numpy(stored)[None], affine=torch.from_numpy(affine)), folder / "scan.nii.gz")
        sidecar = SimulatedProtocol(4, "rect").sidecar(float(thick.spacing_mm[2]))
        (folder / "scan.json").write_text(json.dumps(sidecar), encoding="utf-8")
        for pixels in ("acquired", "stored"):
            out = folder / pixels
            where = {"dataset_dir": folder / "scan.nii.gz", "output_dir": out}
            command = [*bundle("inference", ["configs/inference.yaml"], **where), "--isotropic_spacing_mm", pixels]
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
            (rows[pixels],) = json.loads((out / "summary.json").read_text(encoding="utf-8"))["cases"]
            result = nibabel.load(out / "scan" / "scan_glade.nii.gz")
            volume = np.asarray(result.dataobj, dtype=np.float32)
            results[pixels] = volume, Grid(result.shape, result.affine)
    return Comparison(stored, thick, truth, results, rows)


def results_of(path: Path, factor: float, size: int | None) -> Iterator[Row]:
    """Yield the scores and seconds of the inference at the acquired and at the stored pixels, for one scan."""
    found = compared(path, factor, size)
    target = found.results["acquired"][1]
    truth = band_limited(*found.truth, target)
    mask, span = body_mask(truth), robust_range(truth)
    for pixels, (values, grid) in found.results.items():
        result, row = band_limited(values, grid, target), found.rows[pixels]
        band = high_band(result, truth, target_factor(found.thick, target), 2, mask)
        yield {
            "scan": path.name.removesuffix(".nii.gz"),
            "pixels": pixels,
            "voxel_mm": float(row["output"]["spacing_mm"][0]),
            "voxels": int(np.prod(values.shape)),
            "seconds": float(row["seconds"]),
            "psnr": psnr(result, truth, mask, span),
            "ssim": ssim(result, truth, mask, span),
            "high_band_energy": band.energy,
            "high_band_error": band.error,
        }


def picture(scans: Path) -> None:
    """Draw docs/images/zero_filling.png: zero-filled slices, results at acquired and at stored pixels, the truth."""
    found = compared(scans / f"{PICTURED}.nii.gz", 2.0, 64)
    truth, _ = found.truth
    top = 1.1 * float(np.percentile(truth, 99.5))
    through = float(found.thick.spacing_mm[2] / found.thick.spacing_mm[0]) * found.slices.shape[0] / truth.shape[0]
    panels = {"slices, zero-filled by 2": Panel(found.slices[:, found.slices.shape[1] // 2], 0.0, top, through=through)}
    for pixels, (values, grid) in found.results.items():
        title = f"at the {pixels} pixels, {grid.spacing_mm[0]:.2f} mm"
        panels[title] = Panel(values[:, values.shape[1] // 2], 0.0, top)
    panels["truth"] = Panel(truth[:, truth.shape[1] // 2], 0.0, top)
    draw_panels([panels], IMAGES / "zero_filling.png")


def target_factor(thick: Grid, target: Grid) -> float:
    """Return the slice spacing in voxels of a result."""
    return float(thick.spacing_mm[2] / target.spacing_mm[2])


def band_limited(values: np.ndarray, grid: Grid, target: Grid) -> np.ndarray:
    """Return a volume at the voxels of another grid with parallel axes, cropped in k-space to what that grid can hold.

    The waves are cosines that are even about the edges of the volume (discrete cosine transform), so that opposite
    edges need not be alike. Waves above the Nyquist frequency of the target are left out, the others are evaluated at
    its voxels, wherever these lie.
    """
    to_source = np.linalg.inv(grid.affine) @ target.affine
    if not np.allclose(to_source[:3, :3], np.diag(np.diag(to_source[:3, :3])), atol=1e-4):
        raise ValueError("the axes of the two grids are not parallel")
    for axis, size in enumerate(values.shape):
        places = to_source[axis, axis] * np.arange(target.shape[axis]) + to_source[axis, 3]
        waves = np.arange(min(size, int(size / abs(to_source[axis, axis])) + 1))
        coefficients = dct(np.eye(size), axis=0)[waves] / size
        coefficients[0] /= 2
        step = np.cos(np.pi * np.outer(places + 0.5, waves) / size) @ coefficients
        values = np.moveaxis(np.tensordot(step.astype(np.float32), values, axes=(1, axis)), 0, axis)
    return values


def results_table(rows: Sequence[Row]) -> str:
    """Return the scores as a Markdown table."""
    titles = [
        "scan",
        "result at",
        "voxel mm",
        "voxels",
        "seconds",
        "PSNR dB",
        "SSIM",
        "high-band energy",
        "high-band error",
    ]
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for r in rows:
        cells = [r["scan"], f"{r['pixels']} pixels", f"{r['voxel_mm']:.3g}", f"{r['voxels']:,}", f"{r['seconds']:.1f}"]
        cells += [f"{r['psnr']:.2f}", f"{r['ssim']:.3f}", f"{r['high_band_energy']:.2f}", f"{r['high_band_error']:.3f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write one of the two tables and its data, or draw the picture; return 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["found", "results", "picture"])
    parser.add_argument("scans", type=Path)
    parser.add_argument("--patterns", nargs="+", default=["*"])
    parser.add_argument("--factor", type=float, default=2.0, help="stored over acquired pixels")
    parser.add_argument("--crop", type=int, help="central cube of so many voxels")
    parser.add_argument("--table", help="of docs/resolution.md; default: zero_filling_found or zero_filling_results")
    options = parser.parse_args(arguments)
    if options.what == "picture":
        picture(options.scans)
        return 0
    scans = scans_that_fit(options.scans, options.patterns)
    rows: list[Row] = []
    for path in scans:
        found = options.what == "found"
        rows += found_in(path) if found else results_of(path, options.factor, options.crop)
        sys.stderr.write(f"{path.name}: done\n")
    table = found_table(rows) if options.what == "found" else results_table(rows)
    publish(options.table or f"zero_filling_{options.what}", rows, table, PAGE)
    sys.stdout.write(table + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
