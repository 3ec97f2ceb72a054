"""Fuzzing of DICOM discovery and reading with damaged and hostile files.

`python -m benchmarks.dicom_fuzz [COUNT] [FOLDER ...]`

Each mutated file (truncated, bytes changed, elements removed or forged, lengths forged, sequences nested, deflated data
that expands, very many items) is discovered and read in a worker process. Required: no crash, at most 5 s of processor
time and 2 GiB of memory, a message of one line for each failure, and never a volume that lacks a slice without a word.
A third of the files belong to a series whose other slices are undamaged. The seeds are synthetic series in nine
encodings, and the files of the folders given.
"""

import random
import struct
import sys
import tempfile
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from .fuzzing import BYTE_MUTATIONS, READ, SHORT, Examiner, Tally, mutate

COUNT = 2000
MAX_SEED_BYTES = 2_000_000
SLICES = 6
SYNTAXES = (
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLosslessSV1,
    JPEGExtended12Bit,
)
JPEG = {JPEGLosslessSV1: {"lossless": True, "bitspersample": 16}, JPEGExtended12Bit: {"bitspersample": 12}}
"""Options of imagecodecs for the encodings that pydicom cannot write."""
LONG_VR = b"OB OW SQ UN UT OF OD OL UC UR".split()


def seeds(folder: Path) -> list[bytes]:
    """Return the bytes of undamaged files, one slice in each encoding."""
    from scripts.dicom.synthetic_series import write_series

    volume = np.random.default_rng(0).integers(0, 1001, (40, 36, SLICES))
    files = write_series(folder / "plain", volume, np.diag([-1.0, -1.0, 4.0, 1.0]))
    found = [Path(files[0]).read_bytes()]
    for number, syntax in enumerate(SYNTAXES):
        dataset = pydicom.dcmread(files[1])
        if syntax in JPEG:
            frame = imagecodecs.jpeg8_encode(dataset.pixel_array, **JPEG[syntax])
            dataset.PixelData = pydicom.encaps.encapsulate([frame])
            dataset["PixelData"].is_undefined_length = True
        elif syntax.is_encapsulated:
            dataset.compress(syntax, generate_instance_uid=False)
        plain = pydicom.Dataset()
        plain.update({element.tag: element for element in dataset})
        plain.file_meta = dataset.file_meta
        plain.file_meta.TransferSyntaxUID = syntax
        path = folder / f"seed{number}.dcm"
        plain.save_as(path, enforce_file_format=True)
        found.append(path.read_bytes())
    return found


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


MUTATIONS = [*BYTE_MUTATIONS, length_forged, length_forged, element_removed, element_forged]
RARE = [nested, inflating, run_length_bomb, many_items]


def examine(path: str) -> str:
    """Discover and read one file, or the series that it belongs to; return `READ`, `SHORT` or the refusal."""
    from scripts.dicom.discovery import find_series
    from scripts.dicom.reader import DicomSeriesReader
    from scripts.geometry.errors import Refusal

    folder = Path(path).parent
    cases = find_series(folder)
    lines = [case.refusal or "" for case in cases]
    alone = len(list(folder.iterdir())) == 1
    reader = DicomSeriesReader(components=("magnitude", "phase", "real", "imaginary"), minimum_slices=1)
    try:
        array, meta = reader.get_data(reader.read([path] if alone else folder))
        outcome = READ
    except Refusal as refusal:
        lines.append(outcome := str(refusal))
    else:
        if not (np.isfinite(array).all() and np.isfinite(meta["affine"]).all()):
            raise FloatingPointError("voxels or affine are not finite")
    if any("\n" in line for line in lines):
        raise ValueError("a refusal of more than one line")
    usable = [case for case in cases if case.refusal is None]
    if not alone and len(usable) == len(cases) and sum(case.volume.slice_count for case in usable) < SLICES:
        return f"{SHORT} of slices: {[case.volume.slice_count for case in usable]}"
    return outcome


def main(arguments: list[str]) -> int:
    """Run the fuzzing; the exit code is 1 after a crash, a hang, too much memory, or a volume that lacks a slice."""
    count = int(arguments[0]) if arguments else COUNT
    chance, tally = random.Random(0), Tally()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pool = seeds(folder)
        for extra in arguments[1:]:
            paths = sorted(path for path in Path(extra).rglob("*") if path.is_file())
            pool += [path.read_bytes() for path in paths if path.stat().st_size < MAX_SEED_BYTES]
        slices = {path: path.read_bytes() for path in sorted((folder / "plain").iterdir())}
        for place in ("in", "sound"):
            (folder / place).mkdir()
        alone, sound = folder / "in" / "file.dcm", folder / "sound" / "file.dcm"
        sound.write_bytes(pool[0])
        examiner = Examiner(examine, str(sound))
        for _ in range(count):
            path = chance.choice(list(slices)) if chance.random() < 1 / 3 else alone
            kind, data = mutate(slices.get(path) or chance.choice(pool), chance, MUTATIONS, RARE)
            path.write_bytes(data)
            tally.add(kind, data, examiner(str(path)))
            if path in slices:
                path.write_bytes(slices[path])
    examiner.stop()
    return tally.report(len(pool))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
