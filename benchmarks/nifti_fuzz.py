"""Fuzzing of NIfTI discovery, reading and acceptance with damaged and hostile files and sidecars.

`python -m benchmarks.nifti_fuzz [COUNT] [FOLDER ...]`

Each mutated file (truncated, bytes changed, header fields forged) is discovered, read and accepted in a worker process,
as NIfTI-1 and NIfTI-2, compressed and not, as a pair, and with a mutated sidecar. Required: no crash, at most 5 s of
processor time and 2 GiB of memory, a message of one line for each failure, and never a volume with fewer voxels than
its header states. The seeds are made here; files of the folders given are added.
"""

import gzip
import json
import random
import struct
import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np

from .fuzzing import BYTE_MUTATIONS, READ, SHORT, Examiner, Tally, flipped, mutate

COUNT = 500
MAX_SEED_BYTES = 2_000_000
SHAPE = (24, 20, 8)
AFFINE = np.diag([0.9, 0.9, 3.6, 1.0])
SIDECAR = json.dumps({"SliceThickness": 3.0, "SpacingBetweenSlices": 3.6, "MRAcquisitionType": "2D"}).encode()
EXTREMES = (0, 1, -1, 2**15 - 1, -(2**15), float("nan"), float("inf"), 1e30, 1e-30)
FIELDS = {  # offset in the header of NIfTI-1, format
    **{f"dim {i}": (40 + 2 * i, "h") for i in range(8)},
    "datatype": (70, "h"),
    "bitpix": (72, "h"),
    **{f"pixdim {i}": (76 + 4 * i, "f") for i in range(8)},
    "vox_offset": (108, "f"),
    "scl_slope": (112, "f"),
    "scl_inter": (116, "f"),
    "xyzt_units": (123, "b"),
    "qform_code": (252, "h"),
    "sform_code": (254, "h"),
    **{f"quatern {i}": (256 + 4 * i, "f") for i in range(3)},
    **{f"qoffset {i}": (268 + 4 * i, "f") for i in range(3)},
    **{f"srow {i}": (280 + 4 * i, "f") for i in range(12)},
    "magic": (344, "i"),
}
"""Fields that are given extreme values."""


def seeds() -> list[tuple[str, bytes]]:
    """Return names and bytes of undamaged files of every kind."""
    values = np.random.default_rng(0).integers(0, 1001, SHAPE)
    found = []
    for dtype in ("uint8", "int16", "float32", "float64"):
        image = nibabel.Nifti1Image((values % 256).astype(dtype), AFFINE)
        found += [("scan.nii", image.to_bytes()), ("scan.nii.gz", gzip.compress(image.to_bytes(), mtime=0))]
    found.append(("scan.nii", nibabel.Nifti2Image(values.astype("int16"), AFFINE).to_bytes()))
    series = nibabel.Nifti1Image(np.stack([values, values], -1).astype("int16"), AFFINE)
    return [*found, ("scan.nii", series.to_bytes())]


def field_forged(data: bytes, chance: random.Random) -> bytes:
    """Give one to four fields of a header extreme values, also inside a compressed file."""
    packed = data[:2] == b"\x1f\x8b"
    damaged = bytearray(gzip.decompress(data) if packed else data)
    for _ in range(chance.randrange(1, 5)):
        at, kind = FIELDS[chance.choice(list(FIELDS))]
        value = chance.choice(EXTREMES)
        try:
            struct.pack_into(f"<{kind}", damaged, at, value if kind == "f" else int(value))
        except (OverflowError, ValueError, struct.error):
            damaged[at : at + struct.calcsize(kind)] = chance.randbytes(struct.calcsize(kind))
    return gzip.compress(bytes(damaged), mtime=0) if packed else bytes(damaged)


def packed_flipped(data: bytes, chance: random.Random) -> bytes:
    """Change bytes of the header inside a compressed file, whose checksum is right again."""
    return gzip.compress(flipped(gzip.decompress(data), chance), mtime=0)


MUTATIONS = [*BYTE_MUTATIONS, field_forged, field_forged, field_forged, packed_flipped]


def sizes(data: bytes) -> tuple[int, ...]:
    """Return the first three sizes that the header of a file states, without nibabel."""
    header = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    order = "<" if struct.unpack_from("<i", header)[0] in (348, 540) else ">"
    start, kind = (40, "h") if struct.unpack_from(f"{order}i", header)[0] == 348 else (16, "q")
    return struct.unpack_from(f"{order}8{kind}", header, start)[1:4]


def examine(path: str) -> str:
    """Discover, read and accept a file, each of its frames; return `READ`, `SHORT` or the first refusal."""
    from scripts.data.acceptance import AcceptScand
    from scripts.data.discovery import find_nifti
    from scripts.data.readers import LoadImageCased, NiftiScanReader
    from scripts.geometry.errors import Refusal, refusal_of

    load, accept = LoadImageCased("image", {"nifti": NiftiScanReader()}), AcceptScand("image")
    outcome = READ
    for case in find_nifti(Path(path).parent)[:4]:
        try:
            if case.refusal:
                raise Refusal(case.refusal)
            image = accept(load(case.as_item()))["image"]
        except Exception as error:
            refusal = refusal_of(error)
            if refusal is None:
                raise
            outcome = str(refusal)
            if "\n" in outcome:
                raise ValueError("a refusal of more than one line") from error
            continue
        stated = sizes(Path(path).read_bytes())
        if tuple(image.shape[1:4]) != stated:
            return f"{SHORT}: {tuple(image.shape)} of {stated}"
        if not np.isfinite(np.asarray(image)).all():
            raise FloatingPointError("voxels are not finite")
    return outcome


def main(arguments: list[str]) -> int:
    """Run the fuzzing; the exit code is 1 after a crash, a hang, too much memory, or a volume that lacks voxels."""
    count = int(arguments[0]) if arguments else COUNT
    chance, tally = random.Random(0), Tally()
    pool = seeds()
    for extra in arguments[1:]:
        paths = sorted(path for path in Path(extra).rglob("*.nii*") if path.stat().st_size < MAX_SEED_BYTES)
        pool += [("scan.nii.gz" if path.suffix == ".gz" else "scan.nii", path.read_bytes()) for path in paths]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "scans"
        folder.mkdir()
        sound = folder / "scan.nii"
        sound.write_bytes(pool[0][1])
        examiner = Examiner(examine, str(sound))
        sound.unlink()
        for _ in range(count):
            name, data = chance.choice(pool)
            path, files = folder / name, {folder / "scan.json": SIDECAR}
            if chance.random() < 0.1:
                kind, sidecar = mutate(SIDECAR, chance, BYTE_MUTATIONS)
                kind, files[folder / "scan.json"] = f"sidecar {kind}", sidecar
            else:
                kind, data = mutate(data, chance, MUTATIONS)
            if name == "scan.nii" and chance.random() < 0.15:  # as a pair: the voxels in a file of their own
                path, files[folder / "scan.img"] = folder / "scan.hdr", data[352:]
                data = data[:108] + bytes(4) + data[112:344] + b"ni1\0"
            for file, content in (files | {path: data}).items():
                file.write_bytes(content)
            tally.add(kind, data, examiner(str(path)))
            for file in folder.iterdir():
                file.unlink()
        examiner.stop()
    return tally.report(len(pool))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
