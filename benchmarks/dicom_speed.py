"""Time and peak memory of discovery plus reading of a long DICOM series, against ITK alone on the same files.

`python -m benchmarks.dicom_speed [SLICES]`; each reader runs in its own process; imports are not counted.
"""

import multiprocessing
import multiprocessing.connection
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from .memory import peak_bytes

SLICES = 1000
PLANE = (256, 256)
REPEATS = 2


def read_glade(folder: str) -> np.ndarray:
    """Discover the folder and read its one usable volume."""
    from scripts.dicom.discovery import find_series
    from scripts.dicom.reader import DicomSeriesReader

    case = next(case for case in find_series(folder) if case.refusal is None)
    reader = DicomSeriesReader()
    return reader.get_data(reader.read_case(case))[0]


def read_itk(folder: str) -> np.ndarray:
    """Find the series with GDCM and read it with ITK."""
    import itk

    names = itk.GDCMSeriesFileNames.New()
    names.SetDirectory(folder)
    series = names.GetSeriesUIDs()
    return itk.array_from_image(itk.imread(list(names.GetFileNames(series[0])), itk.F))


def measure(reader: str, folder: str, pipe: multiprocessing.connection.Connection) -> None:
    """Send wall and processor seconds, increase of peak memory in KiB, and the sum of the voxels."""
    import itk

    from scripts.dicom import discovery
    from scripts.dicom import reader as dicom_reader

    _ = (itk.GDCMSeriesFileNames, itk.imread, discovery, dicom_reader)  # imported before the clock starts
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak, which the imports may have set
    before = peak_bytes()
    start, start_processor = time.perf_counter(), time.process_time()
    array = {"glade": read_glade, "itk": read_itk}[reader](folder)
    seconds, processor = time.perf_counter() - start, time.process_time() - start_processor
    pipe.send((seconds, processor, (peak_bytes() - before) >> 10, float(array.sum(dtype=np.float64))))


def main(arguments: list[str]) -> int:
    """Print a table; the exit code is 1 where the readers' voxels differ."""
    from scripts.dicom.synthetic_series import write_series

    slices = int(arguments[0]) if arguments else SLICES
    volume = np.random.default_rng(0).integers(0, 1001, (*PLANE, slices), dtype=np.int16)
    sums = set()
    with tempfile.TemporaryDirectory() as folder:
        write_series(Path(folder), volume, np.diag([-1.0, -1.0, 1.0, 1.0]))
        sys.stdout.write(f"{PLANE[0]} x {PLANE[1]} x {slices}: {volume.size * 4 >> 20} MiB of float32\n")
        for reader in ("glade", "itk"):
            rows = []
            for _ in range(REPEATS):
                here, there = multiprocessing.Pipe()
                context = multiprocessing.get_context("spawn")
                process = context.Process(target=measure, args=(reader, folder, there))
                process.start()
                rows.append(here.recv())
                process.join()
            seconds, processor, memory, total = min(rows)
            sums.add(total)
            times = f"{seconds:6.2f} s  ({processor:.2f} s of a processor)"
            sys.stdout.write(f"{reader:6} {times}  {memory >> 10:6d} MiB above the start\n")
    return int(len(sums) > 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
