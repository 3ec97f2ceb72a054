"""GLADE against UniRes: three simulated stacks of a scan, made one volume by either.

    python -m benchmarks.unires write SCANS OUT --patterns '*saganon*' '*tptbox*' --crop 64
    python -m benchmarks.unires score OUT [--keep]

write: each scan gets a folder in OUT with its truth, the three stacks of `benchmarks.stacks` as NIfTI files with BIDS
sidecars, and a folder `registered` with the same stacks under headers that undo their motion.

score: runs `glade fuse` on the stacks (one thread, a process of its own) into OUT/SCAN/results, unless --keep says to
keep what is there. Then every volume in results is interpolated at the voxels of the truth by its own affine, linearly
and by splines of order 5, and compared with it; the interpolation with the higher PSNR counts. The name of the file is
that of the method, and a JSON file beside it has cpu_seconds, peak_gib, deg and mm, where known. Writes
docs/tables/stacks_unires.csv, the table of docs/stacks.md and docs/images/stacks_unires.png.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import torch
from scipy import ndimage

from scripts.data.discovery import find_nifti
from scripts.evaluation.simulation import SimulatedProtocol
from scripts.geometry.grid import AXES, Grid
from scripts.metrics.fidelity import psnr, robust_range
from scripts.metrics.mask import body_mask
from scripts.stacks.fusion import Fusion

from .pictures import IMAGES, Panel, draw_panels
from .stacks import NAMES, PAGE, Row, SimulatedSlices, farthest, fidelity, simulated_slices, single_inference
from .tables import ROOT, publish, scans_that_fit

TRUTH, REGISTERED, RESULTS, MOTIONS = "truth.nii.gz", "registered", "results", "motions.json"
SCALE = 1000.0  # of the robust intensity range in the files: UniRes rounds the limits of its histograms to integers
TABLE = "stacks_unires"
ALONE, FROM_CUBIC = "one stack, cubic", "GLADE, cubic in place of the network"
UNIRES, TRUE_MOTION = "UniRes", "true motion"  # in the names of methods
GLADE, GLADE_REGISTERED = "GLADE", f"GLADE, {TRUE_MOTION}"
LEAST_GAIN_DB, LEAST_RATIO = 1.0, 20.0  # targets against UniRes: PSNR, and its CPU seconds over those of GLADE
ORDERS = (1, 5)  # of the splines that interpolate a result
WINDOW = (0.5, 99.5)  # percentiles of the truth


def write(made: SimulatedSlices, folder: Path) -> None:
    """Write truth, stacks, registered stacks and motions of a scan."""
    (folder / REGISTERED).mkdir(parents=True, exist_ok=True)
    _save(made.truth, made.grid.affine, folder / TRUTH)
    sidecar = SimulatedProtocol(made.factor, "rect").sidecar(made.factor * float(made.grid.spacing_mm[0]))
    for name, motion, (slices, grid) in zip(NAMES, made.motions, made.slices, strict=True):
        for place, affine in ((folder, grid.affine), (folder / REGISTERED, motion @ grid.affine)):
            _save(slices, affine, place / f"{name}.nii.gz")
            (place / f"{name}.json").write_text(json.dumps(sidecar), encoding="utf-8")
    motions = {name: motion.tolist() for name, motion in zip(NAMES, made.motions, strict=True)}
    (folder / MOTIONS).write_text(json.dumps({"factor": made.factor, **motions}), encoding="utf-8")


def _save(values: np.ndarray, affine: np.ndarray, path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image((SCALE * values).astype(np.float32), affine), path)


def fuse(folder: Path) -> None:
    """Run `glade fuse` on the stacks of a scan, as they are and registered, with one thread; keep results and costs."""
    true = {name: np.array(motion) for name, motion in _read(folder / MOTIONS).items() if name in NAMES}
    for method, place, settings in (
        (GLADE, folder, ()),
        (GLADE_REGISTERED, folder / REGISTERED, ("registration=false",)),
    ):
        with tempfile.TemporaryDirectory() as out:
            stacks = [str(place / f"{name}.nii.gz") for name in NAMES]
            command = [sys.executable, "-m", "glade", "fuse", "-i", *stacks, "-o", out, "--write", "volume", "--quiet"]
            command += ["--threads", "1", "--device", "cpu"]
            for setting in ("inference::slice_profile=rect", *settings):
                command += ["--set", setting]
            process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
            _, status, usage = os.wait4(process.pid, 0)  # memory: of this process, if it were the larger one
            if status:
                raise SystemExit(f"failed: {' '.join(command)}")
            (volume,) = Path(out).glob("*/*_glade.nii.gz")
            _results(folder).mkdir(exist_ok=True)
            _results(folder, f"{method}.nii.gz").write_bytes(volume.read_bytes())
            (case,) = _read(Path(out) / "summary.json")["cases"]
        cost = {"cpu_seconds": usage.ru_utime + usage.ru_stime, "peak_gib": usage.ru_maxrss / 2**20}
        found = {row["stack"]: np.array(row["registration"]["matrix"]) for row in case["input"]["stacks"]}
        apart = farthest([found[name] @ true[name] for name in NAMES]) if method == GLADE else {}
        _results(folder, f"{method}.json").write_text(json.dumps({**cost, **apart}), encoding="utf-8")


def interpolated(folder: Path) -> None:
    """Make the consistent cubic interpolation of the reference, and the joint solution without a network."""
    single = single_inference({"slice_profile": "rect"})
    stacks = [single(case) for case in find_nifti([str(folder / f"{name}.nii.gz") for name in NAMES])]
    cubic = [replace(stack, volume=stack.interpolated) for stack in stacks]
    fused = Fusion()(cubic)
    for method, volume, grid in ((ALONE, cubic[0].volume, cubic[0].grid), (FROM_CUBIC, fused.volume, fused.grid)):
        nibabel.save(nibabel.Nifti1Image(volume.numpy(), grid.affine), _results(folder, f"{method}.nii.gz"))


def on_grid(image: nibabel.Nifti1Image, grid: Grid, order: int) -> np.ndarray:
    """Interpolate an image at the voxels of a grid, by its own affine and splines of an order.

    >>> ramp = nibabel.Nifti1Image(np.arange(20.0).repeat(400).reshape(20, 20, 20), np.diag([-2.0, 1, 1, 1]))
    >>> on_grid(ramp, Grid((2, 1, 1), nibabel.affines.from_matvec(np.eye(3), [-20, 9, 9])), 1)[:, 0, 0].round(3)
    array([10. ,  9.5])
    """
    index = np.linalg.inv(image.affine) @ grid.affine
    places = np.tensordot(index[:AXES, :AXES], np.indices(grid.shape), 1) + index[:AXES, AXES, None, None, None]
    return ndimage.map_coordinates(image.get_fdata(), places, order=order, mode="nearest")


def rows_of(folder: Path) -> Iterator[Row]:
    """Yield the scores of every volume in the results of a scan."""
    image = nibabel.load(folder / TRUTH)
    truth, grid = image.get_fdata(dtype=np.float32) / SCALE, Grid(image.shape, image.affine)
    factor, mask, drange = float(_read(folder / MOTIONS)["factor"]), body_mask(truth), robust_range(truth)
    for path in sorted(_results(folder).glob("*.nii.gz"), key=_place):
        result = nibabel.load(path)
        values = {order: on_grid(result, grid, order).astype(np.float32) / SCALE for order in ORDERS}
        order = max(ORDERS, key=lambda order: psnr(values[order], truth, mask, drange))
        beside = path.with_name(f"{_method(path)}.json")
        known = _read(beside) if beside.is_file() else {}
        yield {
            "scan": folder.name,
            "method": _method(path),
            "order": order,
            **fidelity(values[order], truth, factor, mask, drange),
            **{key: known.get(key, np.nan) for key in ("cpu_seconds", "peak_gib", "deg", "mm")},
        }


def table_of(rows: Sequence[Mapping]) -> str:
    """Return the scores as a Markdown table, and a sentence for each scan that compares GLADE with UniRes.

    Of rows of UniRes that differ in the regularisation alone, which ends their names, the one with the highest PSNR.
    """
    titles = ["scan", "method", "PSNR, dB", "SSIM", "high-band error", "CPU seconds", "peak, GiB", "registration"]
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    best: dict[tuple, Mapping] = {}
    for row in rows:
        kind = str(row["method"]).rpartition(", ")[0] if row["method"].startswith(UNIRES) else row["method"]
        best[row["scan"], kind] = max(best.get((row["scan"], kind), row), row, key=lambda one: float(one["psnr"]))
    for row in best.values():
        scores = [f"{float(row['psnr']):.2f}", f"{float(row['ssim']):.3f}", f"{float(row['high_band_error']):.2f}"]
        costs = [_shown(row["cpu_seconds"], ".0f"), _shown(row["peak_gib"], ".2f")]
        moved = f"{_shown(row['deg'], '.2f')} deg, {_shown(row['mm'], '.2f')} mm"
        known = TRUE_MOTION in row["method"] or not _known(row["deg"])
        lines.append(f"| {row['scan']} | {row['method']} | {' | '.join([*scores, *costs, '' if known else moved])} |")
    for scan in dict.fromkeys(row["scan"] for row in rows):
        of_scan = [row for row in rows if row["scan"] == scan]
        compared = []
        for method, how in ((GLADE, "each with its own registration"), (GLADE_REGISTERED, f"with the {TRUE_MOTION}")):
            ours = next(row for row in of_scan if row["method"] == method)
            theirs = best_unires(of_scan, method == GLADE_REGISTERED)
            if theirs is not None:
                gain = float(ours["psnr"]) - float(theirs["psnr"])
                ratio = float(theirs["cpu_seconds"]) / float(ours["cpu_seconds"])
                reached = "met" if gain >= LEAST_GAIN_DB and ratio >= LEAST_RATIO else "missed"
                compared.append(f"{how} {gain:+.2f} dB in 1/{ratio:.1f} of its CPU seconds ({reached})")
        lines += ["", f"{scan}: GLADE against the best row of UniRes, {'; '.join(compared)}."] if compared else []
    return "\n".join(lines)


def best_unires(rows: Sequence[Mapping], registered: bool) -> Mapping | None:
    """Return the row of UniRes with the highest PSNR, of stacks as they were or registered; None if there is none."""
    found = [row for row in rows if row["method"].startswith(UNIRES) and (TRUE_MOTION in row["method"]) == registered]
    return max(found, key=lambda row: float(row["psnr"]), default=None)


def draw(rows: Sequence[Mapping], folders: Sequence[Path], path: Path) -> None:
    """Draw a sagittal plane of each scan: truth, cubic interpolation of one stack, UniRes, GLADE."""
    panels = []
    for folder in folders:
        image = nibabel.load(folder / TRUTH)
        truth = image.get_fdata(dtype=np.float32)
        middle, low, high = truth.shape[0] // 2, *np.percentile(truth, WINDOW)
        volumes = {f"{folder.name}: truth": truth}
        theirs = best_unires([row for row in rows if row["scan"] == folder.name], registered=False)
        for method in (ALONE, *([theirs["method"]] if theirs is not None else []), GLADE):
            order = next(int(row["order"]) for row in rows if (row["scan"], row["method"]) == (folder.name, method))
            result = nibabel.load(_results(folder, f"{method}.nii.gz"))
            volumes[method] = on_grid(result, Grid(image.shape, image.affine), order)
        panels.append({title: Panel(volume[middle], low, high) for title, volume in volumes.items()})
    draw_panels(panels, path)


def _results(folder: Path, name: str = "") -> Path:
    return folder / RESULTS / name


def _method(path: Path) -> str:
    return path.name.removesuffix(".nii.gz")


def _place(path: Path) -> tuple[int, str]:
    """Interpolation first, then UniRes and others, GLADE last."""
    method = _method(path)
    return {ALONE: 0, FROM_CUBIC: 2, GLADE_REGISTERED: 3, GLADE: 4}.get(method, 1), method


def _known(value: float | str) -> bool:
    return value != "" and not np.isnan(float(value))


def _shown(value: float | str, how: str) -> str:
    return format(float(value), how) if _known(value) else ""


def _read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def main() -> None:
    """Write the stacks of scans, or measure what methods made of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unires", description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    writing = kinds.add_parser("write")
    writing.add_argument("scans", type=Path)
    writing.add_argument("out", type=Path)
    writing.add_argument("--patterns", nargs="+", default=["*"])
    writing.add_argument("--factor", type=float, default=4.0)
    writing.add_argument("--noise", type=float, default=0.02)
    writing.add_argument("--crop", type=int)
    scoring = kinds.add_parser("score")
    scoring.add_argument("out", type=Path)
    scoring.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    if options.kind == "write":
        for path in scans_that_fit(options.scans, options.patterns):
            made = simulated_slices(path, options.factor, options.noise, options.crop)
            write(made, options.out / made.name)
        return
    folders = sorted(path.parent for path in options.out.glob(f"*/{TRUTH}"))
    if not options.keep:
        for folder in folders:
            fuse(folder)
        for folder in folders:
            interpolated(folder)
    rows = [row for folder in folders for row in rows_of(folder)]
    content = table_of(rows)
    publish(TABLE, rows, content, PAGE)
    draw(rows, folders, IMAGES / f"{TABLE}.png")
    sys.stdout.write(content + "\n")


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
