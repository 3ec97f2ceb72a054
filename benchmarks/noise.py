"""Gain of the noise-weighted projection: simulated thick scans with noise, projected exactly and by their noise.

    python -m benchmarks.noise measure SCANS --table noise_held_back [--patterns '*saganon*' '*tptbox*'] [--crop 96]
    python -m benchmarks.noise measure SCANS --table noise --patterns 'iso_*' --weightings exact auto
    python -m benchmarks.noise picture SCANS

Thick slices are simulated from the near-isotropic scans of a folder, with Rician noise, and predicted once by
configs/inference.yaml. Each prediction is then made consistent with the slices exactly, by the noise that was estimated
(auto: what inference does), by the estimated noise and a fixed expected error of the prediction, and not at all. Scores
are those of the evaluation: PSNR inside the body and high-band energy. `measure` writes docs/tables/TABLE.csv and the
table TABLE of docs/noise.md. `picture` draws docs/images/noise.png from the head of a child, held back from training.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean

import nibabel
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor

from scripts.data.discovery import find_nifti
from scripts.data.saving import write_nifti
from scripts.data.transforms import AUTO, geometry_of, noise_of, projection
from scripts.evaluation.simulation import SimulatedProtocol, simulate
from scripts.geometry.grid import Grid
from scripts.learning.weights import default_detail_gain
from scripts.metrics.fidelity import psnr, robust_range
from scripts.metrics.mask import body_mask
from scripts.metrics.spectrum import high_band
from scripts.physics.acquisition import Acquisition
from scripts.physics.projection import REGULARISATION, DataConsistency

from .pictures import IMAGES, Panel, draw_panels
from .tables import DOCS, ROOT, publish, scans_that_fit

CONFIG = ROOT / "configs" / "inference.yaml"
PAGE = DOCS.with_name("noise.md")
EXACT, NONE, CUBIC = "exact", "none", "consistent cubic"
PICTURED = "brain_t1_saganon"  # held back from training
Row = dict[str, str | float]


def cropped(path: Path, size: int | None) -> tuple[np.ndarray, Grid]:
    """Return a scan in RAS order, the central cube of so many voxels where a size is given, and its grid."""
    image = nibabel.as_closest_canonical(nibabel.load(path))
    values = np.asarray(image.dataobj, dtype=np.float32)
    starts = [0 if size is None else max(0, (n - size) // 2) for n in values.shape]
    stops = [n if size is None else min(n, start + size) for n, start in zip(values.shape, starts, strict=True)]
    part = image.slicer[tuple(slice(*ends) for ends in zip(starts, stops, strict=True))]
    return np.asarray(part.dataobj, dtype=np.float32), Grid(part.shape, part.affine)


def simulated(folder: Path, path: Path, protocol: SimulatedProtocol, size: int | None) -> np.ndarray:
    """Write the thick scan with its sidecar into a folder and return the truth, (X, Y, Z)."""
    values, grid = cropped(path, size)
    (slices, thick), (truth, _) = simulate(values, grid, 2, protocol, path.name)
    scan = MetaTensor(torch.from_numpy(slices)[None], affine=torch.from_numpy(np.array(thick.affine)))
    write_nifti(scan, folder / "scan.nii.gz")
    sidecar = protocol.sidecar(float(thick.spacing_mm[2]))
    (folder / "scan.json").write_text(json.dumps(sidecar), encoding="utf-8")
    return truth


def projected(data: Mapping, mean: torch.Tensor, weighting: str | float) -> torch.Tensor:
    """Return a prediction (1, X, Y, Z) made consistent with the slices by one of the weightings."""
    image, slices = data["image"], data["slices"].as_tensor()
    if weighting == NONE:
        return mean
    if weighting in (EXACT, AUTO):
        regularisation = AUTO if weighting == AUTO else REGULARISATION
        return projection(image, mean, slices, regularisation, smoothness=0.2)(mean, slices)
    A = Acquisition(geometry_of(image))
    return DataConsistency.for_noise(A, noise_of(image), float(weighting))(mean, slices)


def prepared(path: Path, protocol: SimulatedProtocol, size: int | None) -> tuple[ConfigParser, dict, np.ndarray]:
    """Return the inference, the data item of a simulated scan after its preprocessing, and the truth on its scale."""
    with tempfile.TemporaryDirectory() as folder:
        truth = simulated(Path(folder), path, protocol, size)
        parser = ConfigParser(ConfigParser.load_config_file(CONFIG))
        parser["bundle_root"], parser["dataset_dir"] = str(ROOT), folder
        parser.parse()
        (case,) = find_nifti(folder)
        data = parser.get_parsed_content("preprocessing")(case.as_item())
    intensity = data["image"].meta["intensity"]
    return parser, data, (truth - intensity.offset) / intensity.scale


def prediction(parser: ConfigParser, data: Mapping, sharpness: float) -> torch.Tensor:
    """Return the mean of the predictions with its detail gain, (1, X, Y, Z), before any projection."""
    parser["sharpness"] = sharpness
    parser.parse()
    image = data["image"]
    predictions = parser.get_parsed_content("inferer")(image[None], parser.get_parsed_content("network"))
    gain, cubic = default_detail_gain(sharpness, predictions.shape[1]), image.as_tensor()
    return cubic + gain * (predictions.as_tensor()[0].mean(0, keepdim=True) - cubic)


def rows_of(
    path: Path, protocol: SimulatedProtocol, sharpnesses: Sequence[float], weightings: Sequence, size: int | None
) -> Iterator[Row]:
    """Yield the scores of every sharpness and weighting for one scan and protocol."""
    parser, data, truth = prepared(path, protocol, size)
    image = data["image"]
    mask, drange = body_mask(truth), robust_range(truth)
    A, slices = Acquisition(geometry_of(image)), data["slices"].as_tensor()

    def scored(method: str, weighting: str | float, volume: torch.Tensor) -> Row:
        values = volume[0].numpy()
        band = high_band(values, truth, protocol.factor, 2, mask)
        seen = A(torch.from_numpy(mask.astype(np.float32))) > 0.5
        misfit = float((A(volume) - slices)[0][seen].square().mean().sqrt())
        return {
            "scan": path.name.removesuffix(".nii.gz"),
            "protocol": f"{protocol.factor:g}x {protocol.profile}",
            "noise": protocol.noise,
            "estimated": noise_of(image) / drange,
            "method": method,
            "weighting": str(weighting),
            "psnr": psnr(values, truth, mask, drange),
            "high_band_energy": band.energy,
            "high_band_error": band.error,
            "residual_over_noise": misfit / noise_of(image),
        }

    for weighting in weightings:
        yield scored(CUBIC, weighting, projected(data, image.as_tensor(), weighting))
    for sharpness in sharpnesses:
        mean = prediction(parser, data, sharpness)
        for weighting in weightings:
            yield scored(f"GLADE {sharpness:g}", weighting, projected(data, mean, weighting))


def picture(scans: Path) -> None:
    """Draw docs/images/noise.png: the exact projection, the noise-weighted one and the truth, errors below."""
    protocol = SimulatedProtocol(4, "rect", noise=0.03)
    parser, data, truth = prepared(scans / f"{PICTURED}.nii.gz", protocol, 96)
    mean = prediction(parser, data, 0.5)
    mask, drange, middle = body_mask(truth), robust_range(truth), truth.shape[1] // 2
    top, bottom = {}, {}
    for title, weighting in (("exact projection", EXACT), ("weighted by the noise", AUTO)):
        values = projected(data, mean, weighting)[0].numpy()
        decibels = psnr(values, truth, mask, drange)
        top[f"{title}: {decibels:.2f} dB"] = Panel(values[:, middle], high=1.1)
        bottom[f"absolute error, {title.split()[0]}"] = Panel(np.abs(values - truth)[:, middle], 0.0, 0.3, "viridis")
    slices = data["slices"].as_tensor()[0].numpy()[:, middle]
    top["truth"] = Panel(truth[:, middle], high=1.1)
    bottom["slices, noise of 3 %"] = Panel(slices, high=1.1, through=protocol.factor)
    draw_panels([top, bottom], IMAGES / "noise.png")


def table_of(rows: Sequence[Row]) -> str:
    """Return the means over the scans as a Markdown table: gains in PSNR over the exact projection, then the detail."""
    weightings = [w for w in dict.fromkeys(str(row["weighting"]) for row in rows) if w != EXACT]
    titles = ["protocol", "noise", "method", "n", "PSNR dB, exact", *weightings]
    titles += [f"high-band energy, {w}" for w in (EXACT, AUTO)] + [f"error, {w}" for w in (EXACT, AUTO)]
    titles.append("residual / noise, auto")
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in ("protocol", "noise", "method")), []).append(row)
    for kind, own in groups.items():
        by = {w: [row for row in own if row["weighting"] == w] for w in (EXACT, *weightings)}
        gains = {
            w: [float(a["psnr"]) - float(b["psnr"]) for a, b in zip(by[w], by[EXACT], strict=True)] for w in weightings
        }
        cells = [*kind, len(by[EXACT]), f"{_mean(by[EXACT], 'psnr'):.2f}"]
        cells += [f"{fmean(gains[w]):+.2f} [{min(gains[w]):+.2f}, {max(gains[w]):+.2f}]" for w in weightings]
        cells += [f"{_mean(by[w], 'high_band_energy'):.2f}" for w in (EXACT, AUTO)]
        cells += [f"{_mean(by[w], 'high_band_error'):.3f}" for w in (EXACT, AUTO)]
        cells.append(f"{_mean(by[AUTO], 'residual_over_noise'):.2f}")
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _mean(rows: Sequence[Row], metric: str) -> float:
    return fmean(float(row[metric]) for row in rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure every scan and protocol, write the table and its data, or draw the picture; return 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["measure", "picture"])
    parser.add_argument("scans", type=Path)
    parser.add_argument("--table", default="noise", help="of docs/noise.md")
    parser.add_argument("--patterns", nargs="+", default=["*"])
    parser.add_argument("--protocols", nargs="+", default=["4:rect"], help="factor:profile")
    parser.add_argument("--noise", nargs="+", type=float, default=[0.0, 0.03])
    parser.add_argument("--sharpness", nargs="+", type=float, default=[0.0, 0.5])
    parser.add_argument("--weightings", nargs="+", default=[EXACT, AUTO], help="exact, auto, none, or expected errors")
    parser.add_argument("--crop", type=int, help="central cube of so many voxels; by default the whole scan")
    options = parser.parse_args(arguments)
    if options.what == "picture":
        picture(options.scans)
        return 0
    scans = scans_that_fit(options.scans, options.patterns)
    rows: list[Row] = []
    for protocol in options.protocols:
        factor, profile = protocol.split(":")
        for noise in options.noise:
            for path in scans:
                simulation = SimulatedProtocol(float(factor), profile, noise=noise)
                rows += rows_of(path, simulation, options.sharpness, options.weightings, options.crop)
                sys.stderr.write(f"{path.name} {simulation.label}: done\n")
    publish(options.table, rows, table_of(rows), PAGE)
    sys.stdout.write(table_of(rows) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
