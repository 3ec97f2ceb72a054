"""Slice profile and thickness estimated from simulated scans of known ones, and what the estimate is worth.

    python -m benchmarks.slice_profile widths SCANS --table slice_profile_train [--factors 3 4 6] [--noise 0 0.02]
    python -m benchmarks.slice_profile decibels SCANS --table slice_profile_decibels [--crop 48] [--every 2]

Slices are simulated from the near-isotropic scans of a folder along each of their axes, by several profiles and
thicknesses. `widths` compares the full width at half maximum that is found with the true one. `decibels` makes volumes
of the central part of each scan, assuming the true profile and thickness, what the inference assumes where the header
is silent, and the estimate from the whole scan. The tables are written to docs/slice_profile.md, their data to
docs/tables.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import product
from pathlib import Path

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor

from scripts.data.discovery import find_nifti
from scripts.data.saving import write_nifti
from scripts.data.transforms import AUTO, projection
from scripts.evaluation.simulation import SimulatedProtocol, simulate
from scripts.geometry.grid import Grid
from scripts.learning.weights import default_detail_gain
from scripts.metrics.fidelity import psnr, robust_range
from scripts.metrics.mask import body_mask
from scripts.physics.noise import estimate_noise
from scripts.physics.profile import PROFILES
from scripts.physics.profile_estimate import FEWEST_SLICES, ProfileEstimate, fit_profiles

from .noise import CONFIG, cropped
from .tables import DOCS, ROOT, publish, scans_that_fit

PAGE = DOCS.with_name("slice_profile.md")
THICKNESSES = (0.7, 0.85, 1.0, 1.2)  # over the slice spacing
FWHM = {"fourier": 1.207}  # of a profile over its thickness; 1 for the others
SMOOTHNESS = 0.2  # as in configs/inference.yaml
TRUE, DEFAULT, ESTIMATED = "true", "default", "estimated"
Row = dict[str, str | float]


def width(slices: ProfileEstimate) -> float:
    """Return the full width at half maximum over the slice spacing."""
    return slices.thickness_over_spacing * FWHM.get(slices.profile, 1.0)


def acquisitions(options: argparse.Namespace) -> Iterator[tuple[Path, int, SimulatedProtocol]]:
    """Yield every scan, axis and protocol that holds enough slices."""
    scans = scans_that_fit(options.scans, options.patterns)
    kinds = list(product(options.noise, options.factors, options.profiles, options.thicknesses))
    number = 0
    for path in scans:
        values, grid = scan_of(path)
        for axis in range(3) if grid.is_near_isotropic else ():
            for noise, factor, profile, thickness in kinds:
                if values.shape[axis] / factor < FEWEST_SLICES:
                    continue
                number += 1
                if number % options.every == 0:
                    yield path, axis, SimulatedProtocol(factor, profile, thickness, noise=noise)


def found_in(path: Path, axis: int, protocol: SimulatedProtocol) -> tuple[ProfileEstimate, ProfileEstimate, float]:
    """Return what is estimated from the whole scan where the profile is unknown, where it is known, and the seconds.

    The seconds are the processor's. Where the estimate is not reliable, it is what the inference assumes then.
    """
    values, grid = scan_of(path)
    (slices, _), _ = simulate(values, grid, axis, protocol, path.name)
    slices = np.moveaxis(slices, axis, -1)
    noise, begun = estimate_noise(slices), time.process_time()
    fits = fit_profiles(slices, protocol.factor, noise)
    seconds = time.process_time() - begun
    known = next(fit for fit in fits if fit.profile == protocol.profile)
    free = fits[0] if fits[0].is_reliable else ProfileEstimate("rect", 1.0, 0.0)
    return free, known if known.is_reliable else ProfileEstimate(protocol.profile, 1.0, 0.0), seconds


@lru_cache(maxsize=1)
def scan_of(path: Path) -> tuple[np.ndarray, Grid]:
    """Return the whole scan and its grid."""
    return cropped(path, None)


def widths(options: argparse.Namespace) -> list[Row]:
    """Return the error of the width for every acquisition, with the profile unknown and known."""
    rows: list[Row] = []
    for path, axis, protocol in acquisitions(options):
        found, known, seconds = found_in(path, axis, protocol)
        true = ProfileEstimate(protocol.profile, protocol.thickness_over_spacing, 0.0)
        rows.append(
            {
                "scan": path.name.removesuffix(".nii.gz"),
                "axis": axis,
                "factor": protocol.factor,
                "noise": protocol.noise,
                "profile": protocol.profile,
                "thickness": protocol.thickness_over_spacing,
                "found_profile": found.profile,
                "found_thickness": found.thickness_over_spacing,
                "width_error": width(found) / width(true) - 1,
                "known_thickness": known.thickness_over_spacing,
                "known_deviation": known.deviation,
                "width_error_known": width(known) / width(true) - 1,
                "width_error_default": 1 / width(true) - 1,
                "seconds": seconds,
            }
        )
    return rows


def widths_table(rows: Sequence[Row]) -> str:
    """Return a Markdown table: errors of the width, and how often each profile was recognised."""
    titles = ["noise", "profile", "n", "error of the width, profile unknown: median, %", "median size", "80 % below"]
    titles += ["profile known: median", "median size", "80 % below", "within two deviations, %", "default: median size"]
    titles += [f"taken for {p}, %" for p in PROFILES]
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for noise in dict.fromkeys(row["noise"] for row in rows):
        for profile in (*dict.fromkeys(row["profile"] for row in rows), "all"):
            own = [r for r in rows if r["noise"] == noise and profile in (r["profile"], "all")]
            error, known, default, deviation = (
                np.array([float(r[k]) for r in own])
                for k in ("width_error", "width_error_known", "width_error_default", "known_deviation")
            )
            figures = [f(e) for e in (error, known) for f in (np.median, _size, _most)]
            figures += [np.mean(abs(np.log1p(known)) <= 2 * deviation), _size(default)]
            figures += [np.mean([r["found_profile"] == p for r in own]) for p in PROFILES]
            cells = [f"{noise:g}", profile, str(len(own)), *(f"{100 * figure:.0f}" for figure in figures)]
            lines.append(f"| {' | '.join(cells)} |")
    lines.append(f"\nSeconds of the processor per scan: {max(float(r['seconds']) for r in rows):.2f} at most.")
    return "\n".join(lines)


def _size(error: np.ndarray) -> float:
    return float(np.median(abs(error)))


def _most(error: np.ndarray) -> float:
    return float(np.quantile(abs(error), 0.8))


def decibels(options: argparse.Namespace) -> Iterator[Row]:
    """Yield the PSNR of volumes of every acquisition under every assumption about its slices."""
    for path, axis, protocol in acquisitions(options):
        free, known, _ = found_in(path, axis, protocol)
        own = protocol.profile
        assumed = {
            TRUE: (own, protocol.thickness_over_spacing),
            DEFAULT: ("rect", 1.0),
            ESTIMATED: (free.profile, free.thickness_over_spacing),
            f"{DEFAULT}, profile stated": (own, 1.0),
            f"{ESTIMATED}, profile stated": (own, known.thickness_over_spacing),
        }
        done: dict[tuple[str, float], dict[str, float]] = {}
        for profile, thickness in assumed.values():
            if (profile, thickness) not in done:
                done[profile, thickness] = _psnr(path, axis, protocol, profile, thickness, options)
        yield {
            "scan": path.name.removesuffix(".nii.gz"),
            "axis": axis,
            "factor": protocol.factor,
            "noise": protocol.noise,
            "profile": own,
            "thickness": protocol.thickness_over_spacing,
            "found_profile": free.profile,
            "found_thickness": free.thickness_over_spacing,
            "known_thickness": known.thickness_over_spacing,
            **{f"{name}: {method}": v for name, kind in assumed.items() for method, v in done[kind].items()},
        }
        sys.stderr.write(f"{path.name} {axis} {protocol.label}: done\n")


def _psnr(
    path: Path, axis: int, protocol: SimulatedProtocol, profile: str, thickness: float, options: argparse.Namespace
) -> dict[str, float]:
    """PSNR of consistent cubic interpolation and of GLADE, dB, under an assumption about the slices."""
    values, grid = cropped(path, options.crop)
    (slices, thick), (truth, _) = simulate(values, grid, axis, protocol, path.name)
    truth = np.moveaxis(truth, axis, -1)
    with tempfile.TemporaryDirectory() as folder:
        lasts = [a for a in range(3) if a != axis] + [axis]
        order = Grid(tuple(slices.shape[a] for a in lasts), thick.affine[:, [*lasts, 3]])
        scan = MetaTensor(torch.from_numpy(np.moveaxis(slices, axis, -1).copy())[None])
        scan.affine = torch.from_numpy(np.diag([*order.spacing_mm, 1.0]))
        write_nifti(scan, Path(folder) / "scan.nii.gz")
        parser = ConfigParser(ConfigParser.load_config_file(CONFIG))
        parser["bundle_root"], parser["dataset_dir"] = str(ROOT), folder
        parser["rotations_deg"], parser["through_plane_axis"] = options.rotations, 2
        parser["slice_profile"], parser["slice_thickness_mm"] = profile, thickness * float(order.spacing_mm[2])
        parser.parse()
        (case,) = find_nifti(folder)
        data = parser.get_parsed_content("preprocessing")(case.as_item())
        image, intensity = data["image"], data["image"].meta["intensity"]
        cubic, acquired = image.as_tensor(), data["slices"].as_tensor()
        with torch.no_grad():
            predicted = parser.get_parsed_content("inferer")(image[None], parser.get_parsed_content("network"))
        gain = default_detail_gain(parser.get_parsed_content("sharpness"), predicted.shape[1])
        mean = cubic + gain * (predicted.as_tensor()[0].mean(0, keepdim=True) - cubic)
    truth = (truth - intensity.offset) / intensity.scale
    mask, span = body_mask(truth), robust_range(truth)
    volumes = {"consistent cubic": cubic, "GLADE": mean}
    made = {m: projection(image, v, acquired, AUTO, SMOOTHNESS)(v, acquired)[0].numpy() for m, v in volumes.items()}
    return {method: psnr(volume, truth, mask, span) for method, volume in made.items()}


def decibels_table(rows: Sequence[Row]) -> str:
    """Return a Markdown table: mean losses against the true profile and thickness, and the largest ones."""
    names = [f"{n}{stated}" for stated in ("", ", profile stated") for n in (DEFAULT, ESTIMATED)]
    titles = ["method", "profile", "thickness / spacing", "n", "PSNR dB, true", *(f"{n}" for n in names)]
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    kinds = [*sorted({(r["profile"], r["thickness"]) for r in rows}), ("all", "all")]
    for method in ("consistent cubic", "GLADE"):
        for profile, thickness in kinds:
            own = [r for r in rows if (r["profile"], r["thickness"]) == (profile, thickness) or profile == "all"]
            true = np.array([float(r[f"{TRUE}: {method}"]) for r in own])
            losses = [np.array([float(r[f"{n}: {method}"]) for r in own]) - true for n in names]
            cells = [method, str(profile), str(thickness), str(len(own)), f"{true.mean():.2f}"]
            cells += [f"{loss.mean():+.2f} (worst {loss.min():+.2f})" for loss in losses]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write one of the two tables and its data; return 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["widths", "decibels"])
    parser.add_argument("scans", type=Path)
    parser.add_argument("--table", required=True, help="of docs/slice_profile.md")
    parser.add_argument("--patterns", nargs="+", default=["*"])
    parser.add_argument("--factors", nargs="+", type=float, default=[4.0])
    parser.add_argument("--noise", nargs="+", type=float, default=[0.02])
    parser.add_argument("--profiles", nargs="+", default=["rect", "gauss", "fourier"])
    parser.add_argument("--thicknesses", nargs="+", type=float, default=list(THICKNESSES), help="over the spacing")
    parser.add_argument("--every", type=int, default=1, help="only every so many acquisitions")
    parser.add_argument("--crop", type=int, default=48, help="central cube of so many voxels, for decibels")
    parser.add_argument("--rotations", nargs="+", type=float, default=[0], help="as in configs/inference.yaml")
    options = parser.parse_args(arguments)
    rows = widths(options) if options.what == "widths" else list(decibels(options))
    table = widths_table(rows) if options.what == "widths" else decibels_table(rows)
    publish(options.table, rows, table, PAGE)
    sys.stdout.write(table + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
