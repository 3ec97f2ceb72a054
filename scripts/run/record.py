"""The record of a run: a row for each case, written when the case ends, and summary.json made of all rows."""

import glob
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

import ignite.distributed as idist
import numpy as np
from filelock import FileLock
from monai.data import MetaTensor

from ..data.saving import RESULT, remove_partial
from ..geometry.errors import Refusal, one_line, reason_of
from ..geometry.files import plain, write_json
from .fingerprints import files_of, fingerprint, location_hash

ROWS = ".rows"
NOT_ALWAYS = ("_report.html", f"_{RESULT}_dicom")  # results that a call with other settings does not write
DONE, REFUSED, FAILED, KEPT = "done", "refused", "failed", "kept"  # kept: done by an earlier call

logger = logging.getLogger(__name__)


class Summary:
    """Knows how each case ended: writes its row at once, merges summary.json, and gives the run its exit code.

    A row holds the case's name, status and reason, input and output geometry, protocol, checksum of the weights,
    settings, residual and seconds; nothing of the header's patient attributes. A killed process loses the case in hand
    only; `is_done` lets the next call do what is missing.

    Args:
        output_dir: OUT; made when the first case begins.
        settings: what a result depends on, as plain values; another value of any of them makes every case new.
        weights: file of the network's weights, for its checksum; None: no network.
        redo: do again what is done.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike,
        settings: Mapping,
        weights: str | os.PathLike | None = None,
        redo: bool = False,
    ):
        self.output_dir = Path(output_dir)
        self.settings = json.loads(json.dumps(plain(settings), sort_keys=True))
        self.weights = None if weights is None else Path(weights)
        self.redo = redo
        self.counts: Counter = Counter()
        self._checksum: str | None = None
        self._open: dict[str, dict] = {}  # rows of the cases in hand
        self._begun: dict[str, float] = {}
        self._before: dict[str, dict[Path, tuple | None]] = {}  # what lay in their folders

    @property
    def weights_sha256(self) -> str | None:
        """Checksum of the weights' file.

        Raises:
            Refusal: if there is no such file.
        """
        if self.weights is not None and self._checksum is None:
            self._checksum = checksum(self.weights)
        return self._checksum

    @property
    def weights_provenance(self) -> str:
        """The checksum of the weights; between the ends of the dial of both, and where it stood.

        Raises:
            Refusal: if there is no such file.
        """
        own, sharp = self.weights_sha256, self.settings.get("sharp_weights_sha256")
        return f"{own} mixed with {sharp} at {self.settings['sharpness']:g}" if own and sharp else own or ""

    def open(self) -> None:
        """Makes the output folder, and makes sure of the weights.

        Raises:
            Refusal: if the folder cannot be made or written to, or there are no weights.
        """
        _ = self.weights_sha256
        rows = self.output_dir / ROWS
        try:
            rows.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=rows) as probe:
                probe.write(b"\n")
        except OSError as error:
            raise Refusal(
                f"the output folder {self.output_dir} cannot be written to ({error.strerror}): set output_dir"
            ) from error

    def is_done(self, case: Mapping) -> bool:
        """Whether an earlier call did this case: same input, settings and weights, and its files are still there."""
        row = None if self.redo else self._read(case["case"])
        return (
            row is not None
            and row.get("status") == DONE
            and row.get("settings") == self.settings
            and row.get("weights_sha256") == self.weights_sha256
            and row.get("input", {}).get("fingerprint") == fingerprint(case)
            and all((self.output_dir / file).exists() for file in row.get("files", []))
        )

    def belongs_to_other_scan(self, case: Mapping, locations: Collection[str | None] = ()) -> bool:
        """Whether what lies in OUT under this name is of another scan: of other files, in another place.

        Args:
            case: the scan.
            locations: of all scans of this call; a result of one of these is merely under another name now.
        """
        row = None if self.redo else self._read(case["case"])
        known = row.get("input", {}) if row and (self.output_dir / case["case"]).exists() else {}
        elsewhere = known.get("location_hash") not in (None, location_hash(case), *locations)
        return elsewhere and known.get("fingerprint") != fingerprint(case)

    def skipped(self, case: Mapping) -> None:
        """Counts a case that `belongs_to_other_scan`; the row and the result of the other one stay."""
        self.counts[REFUSED] += 1
        logger.error(
            "%s: refused: %s holds the result of another scan of this name: give another output_dir, or redo true",
            case["case"],
            self.output_dir.name,
        )

    def kept(self, case: Mapping) -> None:
        """Counts a case that `is_done`."""
        self.counts[KEPT] += 1
        logger.info("%s: already done", case["case"])

    def begin(self, case: Mapping) -> None:
        """Takes a case in hand: its time runs from here; its old row and what a killed run left of it are removed."""
        name = case["case"]
        self._begun[name] = time.monotonic()
        self._open[name] = self._row(case)
        remove_partial(self.output_dir, name)
        self._before[name] = {path: _identity(path) for path in self._results(name)}
        (self.output_dir / ROWS / f"{name}.json").unlink(missing_ok=True)

    def loaded(self, case: Mapping, image: MetaTensor) -> None:
        """Notes the input's geometry and protocol.

        Args:
            case: the case in hand.
            image: its scan, of shape (1, X, Y, Z) or already prepared; its meta holds original_affine, spatial_shape
                and the protocol.
        """
        row, meta = self._open[case["case"]], image.meta
        shape = meta.get("spatial_shape", image.shape[-3:])
        row["input"] |= geometry(shape, meta.get("original_affine", image.affine))
        row["protocol"] = plain(meta.get("protocol"))
        row["warnings"] = [str(warning) for warning in meta.get("warnings", [])]

    def snapshot(self, name: str, pred: MetaTensor) -> dict:
        """What is known of the case in hand by now, as in its row; `seconds` run on while its files are written.

        Args:
            name: the case in hand.
            pred: its result, with a RAS affine in mm and, where it was measured, meta["residual"].
        """
        made = {
            "output": geometry(pred.shape[-3:], pred.affine),
            "residual": plain(pred.meta.get("residual")),
            "seconds": round(time.monotonic() - self._begun[name], 3),
        }
        return {**self._open[name], **made}

    def done(self, name: str, pred: MetaTensor, residual: float | None = None) -> None:
        """Ends a case well; a report or a series that an earlier call left and this one did not write anew goes.

        Args:
            name: the case in hand.
            pred: its result, of shape (1, X, Y, Z), with a RAS affine in mm.
            residual: relative residual of the re-acquired result, where it was measured.
        """
        row = self._open[name]
        row["output"] = geometry(pred.shape[-3:], pred.affine)
        row["residual"] = None if residual is None else float(residual)
        before = self._before[name]
        for path in self._results(name):
            if before.get(path) != _identity(path):
                row["files"].append(f"{name}/{path.name}")
            elif path.name.removeprefix(name) in NOT_ALWAYS:
                _remove(path)
        self._end(name, DONE, None)
        logger.info("%s: done in %.1f s", name, row["seconds"])

    def refused(self, case: Mapping, reason: str) -> None:
        """Ends a case that is not processed."""
        if case["case"] not in self._open:
            self._open[case["case"]] = self._row(case)
        self._end(case["case"], REFUSED, reason)

    def failed(self, case: Mapping, reason: str) -> None:
        """Ends a case in which something broke."""
        if case["case"] not in self._open:
            self._open[case["case"]] = self._row(case)
        self._end(case["case"], FAILED, reason)

    def stopped(self, case: Mapping, error: Exception) -> None:
        """Ends a case by the error that stopped it: refused for a Refusal, else failed."""
        status, reason = reason_of(error)
        logger.debug("%s", case["case"], exc_info=error)
        (self.refused if status == REFUSED else self.failed)(case, reason)

    def merge(self) -> Path | None:
        """Makes summary.json of all rows in OUT; processes that do so at once wait for one another."""
        target = self.output_dir / "summary.json"
        try:
            with FileLock(self.output_dir / ROWS / ".lock"):
                rows = [row for row in map(_read_row, sorted((self.output_dir / ROWS).glob("*.json"))) if row]
                counts = Counter(row["status"] for row in rows)
                write_json(target, {"counts": dict(sorted(counts.items())), "cases": rows})
        except OSError as error:
            logger.error("summary.json cannot be written: %s", error.strerror)
            return None
        return target

    def conclude(self) -> None:
        """Waits for the other processes, merges summary.json, logs the counts and ends the run.

        Raises:
            SystemExit: with code 1, if any case of this call, in any process, was refused or failed.
        """
        counts = {key: int(idist.all_reduce(self.counts[key])) for key in (DONE, KEPT, REFUSED, FAILED)}
        if idist.get_rank() == 0:
            self.merge()
            logger.info(
                "%d cases: %d done, %d already done, %d refused, %d failed; see %s",
                sum(counts.values()),
                *counts.values(),
                self.output_dir / "summary.json",
            )
        idist.barrier()
        if counts[REFUSED] or counts[FAILED]:
            raise SystemExit(1)

    def _row(self, case: Mapping) -> dict:
        return {
            "case": case["case"],
            "status": None,
            "reason": None,
            "input": {
                "format": case.get("format"),
                "frame": case.get("frame"),
                "files": len(files_of(case)),
                "fingerprint": fingerprint(case),
                "location_hash": location_hash(case),
            },
            "output": None,
            "protocol": None,
            "warnings": [],
            "residual": None,
            "seconds": None,
            "files": [],
            "weights_sha256": self.weights_sha256,
            "settings": self.settings,
        }

    def _end(self, name: str, status: str, reason: str | None) -> None:
        row = self._open.pop(name)
        self._before.pop(name, None)
        row["status"] = status
        row["reason"] = None if reason is None else one_line(reason).removeprefix(f"{name}: ")
        row["seconds"] = round(time.monotonic() - self._begun.pop(name, time.monotonic()), 3)
        self.counts[status] += 1
        if reason is not None:
            logger.error("%s: %s: %s", name, status, row["reason"])
        try:
            write_json(self.output_dir / ROWS / f"{name}.json", row)
        except OSError as error:  # the disk is full: the count and the exit code still know of the case
            logger.error("%s: its row cannot be written: %s", name, error.strerror)
        else:
            self.merge()

    def _results(self, name: str) -> list[Path]:
        return sorted((self.output_dir / name).glob(f"{glob.escape(name)}_*"))

    def _read(self, name: str) -> dict | None:
        return _read_row(self.output_dir / ROWS / f"{name}.json")


def checksum(weights: str | os.PathLike) -> str:
    """SHA-256 of a file of weights, in hexadecimal digits.

    Raises:
        Refusal: if there is no such file.
    """
    path = Path(weights)
    if not path.is_file():
        raise Refusal(f"no weights at {path}: fetch or train them, random weights are never used")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def geometry(shape, affine) -> dict:
    """Shape in voxels, spacing in mm and RAS affine of a volume, as plain lists."""
    affine = np.asarray(affine, dtype=np.float64)
    return {
        "shape": [int(n) for n in shape],
        "spacing_mm": [round(float(s), 6) for s in np.linalg.norm(affine[:3, :3], axis=0)],
        "affine": plain(affine),
    }


def _identity(path: Path) -> tuple | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _remove(path: Path) -> None:
    try:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    except OSError as error:  # the result itself is whole
        logger.warning("%s: a result of an earlier call cannot be removed (%s)", path.name, error.strerror)


def _read_row(path: Path) -> dict | None:
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no row, or not one of ours: the case counts as not done
        return None
    return row if isinstance(row, dict) and "status" in row else None
