"""Compare PIQUE with pypiqe on one core: differences and speed. Run: python -m benchmarks.pique_speed.

On synthetic planes, and on the scans in ../shared/data if that folder exists.
"""

import argparse
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import torch
from pypiqe import piqe as pypiqe

from scripts.metrics.pique import pique

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
SHAPE = (256, 208)  # a plane across the slices of an abdomen with the paper's protocol


def main() -> None:
    """Print the two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--planes", type=int, default=16, help="planes in the batch that is timed")
    parser.add_argument("--repeats", type=int, default=20, help="repeats of each timing")
    parser.add_argument("--crops", type=int, default=6, help="random crops per scan")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    rows = [("synthetic", synthetic_planes(rng))]
    scans = sorted(SHARED.glob("benchmark/*.nii.gz"))
    rows += [(path.name, random_crops(path, arguments.crops, rng)) for path in scans]
    sys.stdout.write(f"{'planes':48s} n   PIQUE (ours)  largest |difference|\n")
    for name, planes in rows:
        if planes:
            ours, theirs = both(planes)
            sys.stdout.write(f"{name:48s} {len(ours):2d}  {ours.mean():8.3f}      {np.abs(ours - theirs).max():.2e}\n")
    batch = torch.from_numpy(rng.gamma(2, 40, (arguments.planes, 1, *SHAPE))).float()
    plane = batch[0, 0].double().numpy()
    ours, theirs = [], []
    for _ in range(arguments.repeats):  # alternating, so that other work on the machine slows both
        ours.append(1e3 * timed(lambda: pique(batch)) / len(batch))
        theirs.append(1e3 * timed(lambda: pypiqe(plane)))
    for name, of in (("median", np.median), ("fastest", np.min)):
        sys.stdout.write(
            f"{SHAPE[0]} x {SHAPE[1]} plane, one thread, {name} of {arguments.repeats}: ours {of(ours):.2f} ms "
            f"(batch of {len(batch)}), pypiqe {of(theirs):.1f} ms: {of(theirs) / of(ours):.0f} x faster\n"
        )


def both(planes: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of both implementations for the same planes."""
    ours = [float(pique(torch.from_numpy(p)[None, None]).score) for p in planes]
    return np.array(ours), np.array([pypiqe(p)[0] for p in planes])


def synthetic_planes(rng: np.random.Generator) -> list[np.ndarray]:
    """Return float64 planes: ramp, checkerboard, discs, noise, waves; even and odd sizes."""
    y, x = np.mgrid[0:93, 0:117].astype(float)
    disc = 200.0 * (np.hypot(x - 60, y - 40) < 30) + 20
    planes = [x, 100.0 * ((x // 5 + y // 7) % 2) + 10, disc, disc + rng.normal(0, 8, disc.shape).clip(-20)]
    planes += [rng.uniform(0, 255, (16, 16)), 90 + 80 * np.sin(x / 3) * np.cos(y / 4), rng.gamma(2, 40, (200, 35))]
    return planes


def random_crops(path: Path, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Return float64 crops of random size, position and axis that are not empty."""
    volume = nibabel.load(path).get_fdata()
    crops = []
    for _ in range(count):
        planes = np.moveaxis(volume, rng.integers(3), 0)
        plane = planes[rng.integers(planes.shape[0])]
        if min(plane.shape) < 16:
            continue
        sizes = [rng.integers(16, size + 1) for size in plane.shape]
        starts = [rng.integers(0, total - size + 1) for total, size in zip(plane.shape, sizes, strict=True)]
        crop = plane[tuple(slice(a, a + b) for a, b in zip(starts, sizes, strict=True))]
        if crop.max() > 0:
            crops.append(np.ascontiguousarray(crop))
    return crops


def timed(action) -> float:
    """Return the CPU seconds of an action, which other processes hardly affect."""
    start = time.process_time()
    action()
    return time.process_time() - start


if __name__ == "__main__":
    main()
