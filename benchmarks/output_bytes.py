"""Bytes of the three NIfTI results of each scan: as stored, against float32, and against the scan itself.

    python -m benchmarks.output_bytes [SCANS] [--quick]

A row a scan: megabytes of the scan, of its results as float32 and as integers (both compressed, as `glade` writes
them), and the share of the noise that rounding adds to the volume. --quick makes one prediction in place of two, which
hardly changes the sizes.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor

import glade
from scripts.data.saving import POSTFIXES, RESULT, coding_of_result, nifti_bytes

ROOT = Path(__file__).resolve().parents[1]
SCANS = ROOT.parent / "shared" / "data" / "benchmark"
NAMES = dict(zip(POSTFIXES, ("volume", "added_detail", "uncertainty"), strict=True))
MEGABYTE = 1e6
TARGET = 0.25  # of the bytes in float32


def sizes(result: glade.Result) -> tuple[int, int, float]:
    """Return the bytes of the results in float32 and as stored, and the rounding of the volume over the noise."""
    plain = stored = 0
    lost, noise = 0.0, result.record["noise"]
    for postfix, name in NAMES.items():
        image = getattr(result, name)
        values = torch.from_numpy(np.asarray(image.dataobj, dtype=np.float32))
        volume = MetaTensor(values[None], affine=torch.from_numpy(image.affine), meta={"noise": noise})
        coding = coding_of_result(volume, postfix)
        plain += len(nifti_bytes(volume))
        stored += len(nifti_bytes(volume, coding))
        if postfix == RESULT and coding is not None:
            back = coding.encode(values.numpy()) * coding.slope + coding.intercept
            lost = float((back - values.numpy()).std()) / noise
    return plain, stored, lost


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; the exit code is 1 where the bytes of all scans together exceed the target."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.output_bytes", description=__doc__.splitlines()[0])
    parser.add_argument("scans", type=Path, nargs="?", default=SCANS, help="folder of thick-slice NIfTI scans")
    parser.add_argument("--quick", action="store_true", help="one prediction a scan")
    given = parser.parse_args(arguments)
    resolver = glade.SuperResolver(**({"views": [1], "rotations_deg": [0]} if given.quick else {}))
    before, now = 0, 0
    sys.stdout.write("scan, MB, results in float32, as stored, share, rounding over noise\n")
    for scan in sorted(given.scans.glob("aniso_*.nii.gz")) or sorted(given.scans.glob("*.nii.gz")):
        plain, stored, lost = sizes(resolver(scan))
        before, now = before + plain, now + stored
        megabytes = ", ".join(f"{n / MEGABYTE:.1f}" for n in (scan.stat().st_size, plain, stored))
        sys.stdout.write(f"{scan.name.removesuffix('.nii.gz')}, {megabytes}, {stored / plain:.3f}, {lost:.3f}\n")
        sys.stdout.flush()
    sys.stdout.write(f"all: {before / MEGABYTE:.1f}, {now / MEGABYTE:.1f}, {now / before:.3f}; target {TARGET}\n")
    return int(now > TARGET * before)


if __name__ == "__main__":
    sys.exit(main())
