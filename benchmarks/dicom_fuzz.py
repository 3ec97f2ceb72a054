"""Fuzzing of DICOM discovery and reading with damaged and hostile files.

`python -m benchmarks.dicom_fuzz [COUNT] [FOLDER ...]`

Each mutated file (truncated, bytes changed, elements removed or forged, lengths forged, sequences nested, deflated data
that expands, very many items) is discovered and read in a worker process. Required: no crash, at most 5 s of processor
time and 2 GiB of memory, and a message of one line for each failure. The seeds are synthetic series in seven encodings,
and the files of the folders given.
"""

import multiprocessing
import multiprocessing.connection
import random
import resource
import struct
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

COUNT = 2000
HANG_S = 5.0
"""Longest processor time of one file; wall time would count other work of a busy machine."""
PATIENCE_S = 60.0
"""Wall time after which the worker is taken to hang."""
MEMORY_BYTES = 2 * 2**30
MAX_SEED_BYTES = 2_000_000
SYNTAXES = (
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEG2000Lossless,
    JPEGLSLossless,
)
LONG_VR = b"OB OW SQ UN UT OF OD OL UC UR".split()


def seeds(folder: Path) -> list[bytes]:
    """Return the bytes of undamaged files, one slice in each encoding."""
    from scripts.dicom.synthetic_series import write_series

    volume = np.random.default_rng(0).integers(0, 1001, (40, 36, 6))
    files = write_series(folder / "plain", volume, np.diag([-1.0, -1.0, 4.0, 1.0]))
    found = [Path(files[0]).read_bytes()]
    for number, syntax in enumerate(SYNTAXES):
        dataset = pydicom.dcmread(files[1])
        if syntax.is_encapsulated:
            dataset.compress(syntax, generate_instance_uid=False)
        plain = pydicom.Dataset()
        plain.update({element.tag: element for element in dataset})
        plain.file_meta = dataset.file_meta
        plain.file_meta.TransferSyntaxUID = syntax
        path = folder / f"seed{number}.dcm"
        plain.save_as(path, enforce_file_format=True)
        found.append(path.read_bytes())
    return found


def truncated(data: bytes, chance: random.Random) -> bytes:
    """Cut the file off anywhere."""
    return data[: chance.randrange(len(data))]


def flipped(data: bytes, chance: random.Random) -> bytes:
    """Replace 1 to 64 bytes, in half of the cases within the header."""
    damaged = bytearray(data)
    end = len(data) if chance.random() < 0.5 else min(len(data), 3000)
    for _ in range(2 ** chance.randrange(7)):
        damaged[chance.randrange(end)] = chance.randrange(256)
    return bytes(damaged)


def cut(data: bytes, chance: random.Random) -> bytes:
    """Remove a piece of the file."""
    start = chance.randrange(132, len(data))
    return data[:start] + data[start + chance.randrange(1, 200) :]


def repeated(data: bytes, chance: random.Random) -> bytes:
    """Repeat a piece of the file."""
    start = chance.randrange(132, len(data))
    end = start + chance.randrange(1, 400)
    return data[:end] + data[start:]


def length_forged(data: bytes, chance: random.Random) -> bytes:
    """Change the length of an element in explicit VR."""
    damaged = bytearray(data)
    spots = [
        at for at in range(132, min(len(data), 6000) - 12) if data[at + 4 : at + 6].isalpha() and data[at + 1] < 0x30
    ]
    if spots:
        at = chance.choice(spots)
        length = chance.choice([0, 1, 0xFFFF, 0xFFFFFFFF, 0x7FFFFFFF, chance.randrange(2**32)])
        if data[at + 4 : at + 6] in LONG_VR:
            damaged[at + 8 : at + 12] = struct.pack("<I", length)
        else:
            damaged[at + 6 : at + 8] = struct.pack("<H", length & 0xFFFF)
    return bytes(damaged)


def _edited(data: bytes, change: Callable[[pydicom.Dataset], None]) -> bytes:
    source = pydicom.filebase.DicomBytesIO(data)
    dataset = pydicom.dcmread(source, force=True)
    with pydicom.config.disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        change(dataset)
        target = pydicom.filebase.DicomBytesIO()
        dataset.save_as(target, enforce_file_format=False)
    return target.getvalue()


def element_removed(data: bytes, chance: random.Random) -> bytes:
    """Remove one to eight elements."""

    def change(dataset: pydicom.Dataset) -> None:
        for tag in chance.sample(list(dataset.keys()), min(len(dataset), 2 ** chance.randrange(4))):
            del dataset[tag]

    return _edited(data, change)


FORGERIES = {
    "Rows": [0, 1, 65535],
    "Columns": [0, 3, 65535],
    "NumberOfFrames": ["0", "-1", "2", str(2**31 - 1)],
    "BitsAllocated": [0, 1, 8, 12, 32, 64],
    "BitsStored": [0, 1, 17, 255],
    "HighBit": [0, 200, 65535],
    "PixelRepresentation": [2, 65535],
    "SamplesPerPixel": [0, 3, 65535],
    "PhotometricInterpretation": ["RGB", "", "YBR_FULL", "PALETTE COLOR"],
    "PixelSpacing": [["0", "0"], ["-1", "1"], ["1e308", "1e308"], ["1"], []],
    "ImagePositionPatient": [["1e308"] * 3, ["0"] * 2, ["0"] * 6, []],
    "ImageOrientationPatient": [["0"] * 6, ["1e308"] * 6, ["1", "0", "0"], []],
    "SliceThickness": ["0", "-4", "1e400"],
    "RescaleSlope": ["0", "1e308", "-1"],
    "RescaleIntercept": ["1e308"],
    "SpecificCharacterSet": ["ISO_IR 999", ["", "ISO 2022 IR 87"], "\\\\"],
    "ImageType": ["", ["M"] * 500],
    "Modality": ["", "CT"],
}


def element_forged(data: bytes, chance: random.Random) -> bytes:
    """Give one or two elements invalid values."""

    def change(dataset: pydicom.Dataset) -> None:
        for keyword in chance.sample(list(FORGERIES), chance.randrange(1, 3)):
            setattr(dataset, keyword, chance.choice(FORGERIES[keyword]))

    return _edited(data, change)


def nested(data: bytes, chance: random.Random) -> bytes:
    """Insert sequences that are nested up to 20,000 deep."""
    depth = chance.choice([10, 1000, 20000])
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    sequence = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    end = data.find(struct.pack("<HH", 0x0008, 0x1090))
    end = end if end > 0 else min(len(data), 700)
    return data[:end] + (sequence + item) * depth + data[end:]


def inflating(data: bytes, chance: random.Random) -> bytes:
    """Replace the data set by deflated data that expands a thousandfold."""
    source = pydicom.filebase.DicomBytesIO(data)
    dataset = pydicom.dcmread(source, force=True)
    meta = dataset.get("file_meta") or pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = pydicom.uid.MRImageStorage, "1.2.3"
    target = pydicom.filebase.DicomBytesIO()
    target.write(bytes(128) + b"DICM")
    pydicom.filewriter.write_file_meta_info(target, meta, enforce_standard=False)
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = struct.pack("<HH2sHI", 0x0008, 0x0001, b"OB", 0, 0x7FFFFFF0)
    size = chance.choice([2**20, 2**24, 2**29])
    block = bytes(2**20)
    packed = [deflater.compress(body), *(deflater.compress(block) for _ in range(size // len(block))), deflater.flush()]
    return target.getvalue() + b"".join(packed)


def run_length_bomb(data: bytes, chance: random.Random) -> bytes:
    """Replace the pixels by run-length coded ones that expand to far more than the image holds."""
    segment = b"\x81\x00" * chance.choice([2**12, 2**18, 2**24])
    frame = struct.pack("<16I", 2, 64, 64 + len(segment), *[0] * 13) + segment * 2

    def change(dataset: pydicom.Dataset) -> None:
        dataset.PixelData = pydicom.encaps.encapsulate([frame])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = RLELossless

    return _edited(data, change)


def many_items(data: bytes, chance: random.Random) -> bytes:
    """Insert up to a million empty items, or empty elements, before the pixels."""
    count = chance.choice([10_000, 100_000, 1_000_000])
    if chance.random() < 0.5:
        drops = struct.pack("<HH2sH", 0x0043, 0x1001, b"LO", 0) * count
    else:
        items = struct.pack("<HHI", 0xFFFE, 0xE000, 0) * count
        end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
        drops = struct.pack("<HH2sHI", 0x5200, 0x9230, b"SQ", 0, 0xFFFFFFFF) + items + end
    start = data.find(struct.pack("<HH", 0x7FE0, 0x0010))
    start = start if start > 0 else len(data)
    return data[:start] + drops + data[start:]


MUTATIONS = [truncated, flipped, flipped, cut, repeated, length_forged, length_forged, element_removed, element_forged]
RARE = [nested, inflating, run_length_bomb, many_items]


def mutate(data: bytes, chance: random.Random) -> tuple[str, bytes]:
    """Return the name and the result of a random mutation; `flipped` where pydicom cannot edit the seed."""
    mutation = chance.choice(RARE) if chance.random() < 0.05 else chance.choice(MUTATIONS)
    try:
        return mutation.__name__, mutation(data, chance)
    except Exception:  # noqa: BLE001 - not every mutation applies to every file; flipped bytes always do
        return flipped.__name__, flipped(data, chance)


def examine(path: str) -> str:
    """Discover and read one file, or the series that it belongs to; return "read" or the refusal."""
    from scripts.dicom.discovery import find_series
    from scripts.dicom.reader import DicomSeriesReader
    from scripts.geometry.errors import Refusal

    folder = Path(path).parent
    lines = [case.refusal or "" for case in find_series(folder)]
    alone = len(list(folder.iterdir())) == 1
    reader = DicomSeriesReader(components=("magnitude", "phase", "real", "imaginary"), minimum_slices=1)
    try:
        array, meta = reader.get_data(reader.read([path] if alone else folder))
        outcome = "read"
    except Refusal as refusal:
        lines.append(outcome := str(refusal))
    else:
        if not (np.isfinite(array).all() and np.isfinite(meta["affine"]).all()):
            raise FloatingPointError("voxels or affine are not finite")
    if any("\n" in line for line in lines):
        raise ValueError("a refusal of more than one line")
    return outcome


def worker(pipe: multiprocessing.connection.Connection) -> None:
    """Examine the paths received from a pipe; send back the outcome, peak memory and processor seconds."""
    resource.setrlimit(resource.RLIMIT_AS, (4 * MEMORY_BYTES, 4 * MEMORY_BYTES))
    while path := pipe.recv():
        start = time.process_time()
        try:
            outcome = examine(path)
        except Exception as error:  # noqa: BLE001 - whatever a mutated file causes is an outcome to count
            outcome = f"UNEXPECTED {type(error).__name__}: {error}"
        seconds = time.process_time() - start
        pipe.send((outcome, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, seconds))


class Examiner:
    """A worker process that is replaced when it dies or hangs."""

    def __init__(self, sound: str) -> None:
        """Start with an undamaged file, so that imports are not counted."""
        self.sound = sound
        self.start()

    def start(self) -> None:
        """Start a new process."""
        self.pipe, other = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("spawn").Process(target=worker, args=(other,), daemon=True)
        self.process.start()
        other.close()
        self.pipe.send(self.sound)
        self.pipe.recv()

    def __call__(self, path: str) -> tuple[str, int, float]:
        """Return outcome, peak memory in bytes and processor seconds for one file."""
        self.pipe.send(path)
        try:
            if self.pipe.poll(PATIENCE_S):
                return self.pipe.recv()
            outcome = f"HANG over {PATIENCE_S} s"
        except EOFError:
            outcome = f"CRASH {self.process.exitcode}"
        self.process.kill()
        self.process.join()
        self.start()
        return outcome, 0, PATIENCE_S


def main(arguments: list[str]) -> int:
    """Run the fuzzing; the exit code is 1 after a crash, a hang, too much memory or an unexpected exception."""
    count = int(arguments[0]) if arguments else COUNT
    chance = random.Random(0)
    kinds: Counter[str] = Counter()
    read = peak = 0
    slowest, bad = 0.0, []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pool = seeds(folder)
        for extra in arguments[1:]:
            paths = sorted(path for path in Path(extra).rglob("*") if path.is_file())
            pool += [path.read_bytes() for path in paths if path.stat().st_size < MAX_SEED_BYTES]
        # A third of the files belong to a series whose other slices are undamaged.
        plain = sorted((folder / "plain").iterdir())
        (folder / "in").mkdir()
        alone, among = folder / "in" / "file.dcm", plain[2]
        (folder / "sound").mkdir()
        (folder / "sound" / "file.dcm").write_bytes(among.read_bytes())
        examiner = Examiner(str(folder / "sound" / "file.dcm"))
        sound = among.read_bytes()
        base = None
        for number in range(count):
            path = among if chance.random() < 1 / 3 else alone
            kind, data = mutate(sound if path is among else chance.choice(pool), chance)
            path.write_bytes(data)
            outcome, memory, seconds = examiner(str(path))
            if seconds > HANG_S:
                outcome = f"HANG: {outcome}"
            base = base or memory
            kinds[kind] += 1
            read += outcome == "read"
            slowest, peak = max(slowest, seconds), max(peak, memory)
            if outcome.startswith(("UNEXPECTED", "HANG", "CRASH")) or memory > MEMORY_BYTES:
                bad.append(f"{number} {kind}: {outcome} ({memory >> 20} MiB, {seconds:.2f} s)")
                (Path(tempfile.gettempdir()) / f"dicom_fuzz_{number}.dcm").write_bytes(data)
    examiner.pipe.send("")  # ends the worker
    examiner.process.join()
    sys.stdout.write(
        f"{count} files from {len(pool)} seeds: {read} read, "
        f"{count - read - len(bad)} refused, {len(bad)} bad; "
        f"slowest {slowest:.2f} s, peak memory {peak >> 20} MiB (at start {(base or 0) >> 20} MiB)\n"
        f"mutations: {dict(sorted(kinds.items()))}\n" + "".join(f"BAD {line}\n" for line in bad)
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
