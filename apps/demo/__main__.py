"""`make demo`: thick-slice scans in, isotropic volumes, a table and a report out.

    python -m apps.demo [--scan PATH] [--output_dir out/demo]

Without a scan of one's own: a phantom with known truth, as a DICOM series, and the real scan of docs/example. Further
options go to the command `glade` as they are, as --sharpness 0. Each input has a folder of its own:

    OUT/<name of the input, or examples>/index.html            all its scans
    OUT/<name of the input, or examples>/results/<case>/       volumes and report of one
"""

import argparse
import hashlib
import itertools
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from scripts.data.case import SUMMARY
from scripts.data.sidecar import file_stem
from scripts.geometry.errors import Refusal
from scripts.geometry.files import write_text

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs" / "inference.yaml"
EXAMPLES = "examples"
WRITE = re.compile(r"(--)?write(=|$)")
INPUT = ".input"  # in the folder of an input: which one it is, as a checksum of its path


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; return the inference's exit code."""
    parser = argparse.ArgumentParser(prog="python -m apps.demo", description=__doc__.splitlines()[0])
    parser.add_argument("--scan", type=Path, help="one's own scan: a NIfTI file, a DICOM series or a folder of them")
    parser.add_argument("--output_dir", type=Path, default=Path("out/demo"))
    options, overrides = parser.parse_known_args(arguments)
    scan = None if options.scan is None else options.scan.resolve()
    try:
        return run(options.output_dir.resolve(), CONFIG, scan, overrides)
    except (Refusal, OSError) as error:
        sys.stderr.write(f"demo: {error}\n")
        return 2


def run(out: Path, config: Path, scan: Path | None, overrides: Sequence[str] = ()) -> int:
    """Prepare the scans, run the inference on them, write the report, print its table.

    Args:
        out: where everything goes, into a folder for each input.
        config: configs/inference.yaml, for what the results are compared with.
        scan: the user's scans; None: the phantom and the real scan of docs/example.
        overrides: options of the command `glade`, as `--weights_path models/model.pt`.

    Returns:
        The inference's exit code.

    Raises:
        Refusal: if they choose what is written.
    """
    if any(WRITE.match(word) for word in overrides):
        raise Refusal("--write: the demo shows all volumes of a result: leave it out, or use the command glade")
    begun, truth, out = time.time(), None, folder_of(out, scan)
    if scan is None:
        scan, truth = out / "scans", out / "truth" / "phantom_truth.nii.gz"
        _say("loading")  # torch, which takes seconds
        from .scans import copy_example, make_phantom

        _say("making the phantom and its thick slices")
        make_phantom(scan / "phantom", truth)
        copy_example(ROOT / "docs" / "example", scan)
    results = out / "results"
    _say("making the isotropic volumes")
    code = infer(scan, results, overrides)
    summary = results / SUMMARY
    if summary.is_file() and summary.stat().st_mtime >= begun:
        from .report import report

        page = out / "index.html"
        lines = report(config, scan, results, page, truth, say=_say)
        sys.stdout.writelines(f"{line}\n" for line in ["", *lines])
        sys.stdout.write(f"\n{time.time() - begun:.0f} s; the report: {page}\n")
    if code:
        sys.stdout.flush()
        sys.stderr.write(f"demo: the inference ended with exit code {code}: its lines above say why\n")
    return code


def folder_of(out: Path, scan: Path | None) -> Path:
    """Return the folder in `out` for an input, and make it: the same one in each call, and none of another input.

    Args:
        out: the output folder of the demo.
        scan: absolute path of the input; None for the examples.
    """
    name = EXAMPLES if scan is None else file_stem(scan) if scan.is_file() else scan.name or "scans"
    mark = hashlib.sha256(os.fsencode(scan or EXAMPLES)).hexdigest()
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    folder = next(out / name for name in names if _is_of(out / name, mark))
    if not folder.exists():
        folder.mkdir(parents=True)
        write_text(folder / INPUT, mark)
    return folder


def _is_of(folder: Path, mark: str) -> bool:
    """Whether a folder is that of an input, or free."""
    file = folder / INPUT
    return not folder.exists() or (file.is_file() and file.read_text(encoding="ascii") == mark)


def infer(scan: Path, results: Path, overrides: Sequence[str]) -> int:
    """Run the command `glade` in a process of its own; return its exit code."""
    command = [sys.executable, "-m", "glade", "-i", str(scan), "-o", str(results), *overrides]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def _say(step: str) -> None:
    sys.stdout.write(f"demo: {step} ...\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
