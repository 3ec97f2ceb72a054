"""The record of a run: one row for each case, written when the case ends, and summary.json made of all rows."""

import glob
import json
import logging
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import ignite.distributed as idist
import numpy as np
from filelock import FileLock
from monai.data import MetaTensor

from ..data.acceptance import ScanProtocol
from ..data.case import SUMMARY, Case
from ..data.saving import REPORT, SERIES, remove_partial
from ..geometry.checksums import origin_of, sha256_of
from ..geometry.errors import Refusal, one_line, printable, reason_of
from ..geometry.files import plain, write_json
from .fingerprints import fingerprint, input_files, location_hash

ROWS = ".rows"
OPTIONAL_RESULTS = (REPORT, SERIES)  # results that a call with other settings may not write
DONE, REFUSED, FAILED, KEPT = "done", "refused", "failed", "kept"  # kept: done by an earlier call
FIT = ("residual", "noise", "residual_over_noise")  # of a result, from its meta

logger = logging.getLogger(__name__)


@dataclass
class Row:
    """What summary.json says about a case; nothing of the header's patient attributes.

    Attributes:
        case: its name.
        status: "done", "refused" or "failed"; None while it is being processed.
        reason: why it was refused or failed.
        input: format, frame, number of files, fingerprint, location hash, and the geometry once it is loaded.
        output: shape (voxels), spacing (mm) and RAS affine of the result.
        protocol: how the scan was acquired; None until it is loaded.
        warnings: sentences about the scan.
        residual: ||A v - b|| / ||b|| of the result, where it was measured.
        noise: standard deviation of the noise of the slices, in the scan's units, where it was estimated.
        residual_over_noise: root mean square of A v - b in the body over the noise; below 1, the result explains the
            slices to within their noise.
        seconds: duration.
        files: what was written, relative to OUT.
        weights_sha256: checksum of the weights.
        weights_origin: "shipped" with this bundle, faithful and sharp ones, or the user's "own".
        settings: what the result depends on.
    """

    case: str
    status: str | None = None
    reason: str | None = None
    input: dict = field(default_factory=dict)
    output: dict | None = None
    protocol: ScanProtocol | None = None
    warnings: list[str] = field(default_factory=list)
    residual: float | None = None
    noise: float | None = None
    residual_over_noise: float | None = None
    seconds: float | None = None
    files: list[str] = field(default_factory=list)
    weights_sha256: str | None = None
    weights_origin: str | None = None
    settings: dict = field(default_factory=dict)

    @classmethod
    def of(cls, content: Mapping) -> "Row":
        """Return the row that a file holds; what another version wrote besides is left out.

        >>> Row.of({"case": "knee", "status": "done", "seconds": 2.5}).warnings
        []
        """
        row = cls(**_known(cls, content))
        if row.protocol is not None:
            row.protocol = ScanProtocol(**_known(ScanProtocol, content["protocol"]))
        return row

    def as_row(self) -> dict:
        """Return what is written of it, as plain values."""
        protocol = None if self.protocol is None else plain(self.protocol.as_row())
        return {**asdict(self), "protocol": protocol}

    def add_scan(self, scan: MetaTensor) -> None:
        """Take protocol and warnings from the meta of a scan, or of what was made of it."""
        self.protocol = scan.meta.get("protocol")
        self.warnings = [str(warning) for warning in scan.meta.get("warnings", [])]

    def add_result(self, pred: MetaTensor) -> None:
        """Take geometry and fit from a result (1, X, Y, Z), whose meta holds those of `FIT` that were measured."""
        self.output = geometry(pred.shape[-3:], pred.affine)
        for name in FIT:
            value = plain(pred.meta.get(name))
            setattr(self, name, None if value is None else float(value))


class RunRecord:
    """How each case ended: writes its row at once, merges summary.json, and determines the exit code of the run.

    `with record.case(case) as entry` is the one way to process a case into OUT, for `run inference` and MONAI Deploy
    alike; MONAI Label sends its results away and keeps no OUT. A killed process loses only the case it was processing;
    the next call does what is missing.

    Args:
        output_dir: OUT; made by `open`.
        settings: what a result depends on, as plain values; another value of any of them makes every case new.
        weights: file of the network's weights, for its checksum; None: no network.
        redo: process again what is done.
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
        self.entries: dict[str, CaseEntry] = {}  # cases being processed, by name
        self.unwritten = 0  # rows that could not be written
        self._checksum: str | None = None

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
    def weights_origin(self) -> str | None:
        """Whether the weights are "shipped" with this bundle or the user's "own"; None without a network."""
        if self.weights is None:
            return None
        return origin_of(self.weights_sha256, self.settings.get("sharp_weights_sha256"))

    def open(self) -> None:
        """Make the output folder, and make sure that it can be written to and that there are weights.

        Raises:
            Refusal: otherwise.
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

    @contextmanager
    def case(self, case: Case, locations: Collection[str | None] = ()) -> Iterator["CaseEntry"]:
        """Process one case: its entry says whether there is anything to do, and records what was done.

        An error inside the block ends the case as refused (a `Refusal`) or failed (any other) and goes no further, so
        that the other cases are still processed.

        Args:
            case: the case.
            locations: location hashes of all cases of this call; a result of one of these belongs to no other scan.
        """
        entry = CaseEntry(self, case)
        try:
            entry.begin(locations)
        except Exception as error:  # noqa: BLE001 - one faulty scan must not stop the others
            entry.failed(error)
        try:
            yield entry
            if entry.to_do:
                entry.stop(FAILED, "processing ended without a result")
        except Exception as error:  # noqa: BLE001 - one faulty scan must not stop the others
            entry.failed(error)
        finally:
            self.entries.pop(case.name, None)

    def is_done(self, case: Case, known: str | None = None) -> bool:
        """Whether an earlier call did this case: same input, settings and weights, and its files are still there.

        Args:
            case: the case.
            known: its fingerprint, where it has been computed already.
        """
        row = None if self.redo else self._read(case.name)
        return (
            row is not None
            and row.get("status") == DONE
            and row.get("settings") == self.settings
            and row.get("weights_sha256") == self.weights_sha256
            and row.get("input", {}).get("fingerprint") == (known or fingerprint(case))
            and all((self.output_dir / file).exists() for file in row.get("files", []))
        )

    def belongs_to_other_scan(self, case: Case, locations: Collection[str | None] = ()) -> bool:
        """Whether OUT holds, under the name of this case, a result of other files in another location.

        Args:
            case: the case.
            locations: location hashes of all cases of this call; a result of one of them has merely changed its name.
        """
        row = None if self.redo else self._read(case.name)
        known = row.get("input", {}) if row and (self.output_dir / case.name).exists() else {}
        elsewhere = known.get("location_hash") not in (None, location_hash(case), *locations)
        return elsewhere and known.get("fingerprint") != fingerprint(case)

    def snapshot(self, case: Case, pred: MetaTensor) -> Row:
        """Return the row of a case that is being processed, as far as it is known while its files are written.

        Args:
            case: the case.
            pred: its result, with a RAS affine in mm and, where it was measured, meta["residual"].
        """
        return self.entries[case.name].snapshot(pred)

    def merge(self) -> Path | None:
        """Make summary.json of all rows in OUT; processes that do so at the same time wait for one another."""
        target = self.output_dir / SUMMARY
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
        """Wait for the other processes, merge summary.json, log the counts and end the run.

        Raises:
            SystemExit: with code 1, if any case of this call, in any process, was refused or failed, or if a row or
            summary.json could not be written.
        """
        counts = {key: int(idist.all_reduce(self.counts[key])) for key in (DONE, KEPT, REFUSED, FAILED)}
        unwritten = int(idist.all_reduce(self.unwritten))
        if idist.get_rank() == 0:
            unwritten += self.merge() is None
            logger.info(
                "%d cases: %d done, %d already done, %d refused, %d failed; see %s",
                sum(counts.values()),
                *counts.values(),
                printable(str(self.output_dir / SUMMARY)),
            )
        idist.barrier()
        if counts[REFUSED] or counts[FAILED] or unwritten:
            raise SystemExit(1)

    def _read(self, name: str) -> dict | None:
        return _read_row(self.output_dir / ROWS / f"{name}.json")


class CaseEntry:
    """One case of a run, from its beginning to its row; made by `RunRecord.case`.

    Args:
        record: the record of the run.
        case: the case.

    Attributes:
        to_do: whether the case has to be processed; False where it is refused, already done, or has ended.
        row: what is known so far.
    """

    def __init__(self, record: RunRecord, case: Case):
        self.record, self.case = record, case
        self.to_do = False
        self.row = Row(
            case=case.name,
            weights_sha256=record.weights_sha256,
            weights_origin=record.weights_origin,
            settings=record.settings,
        )
        self._start = time.monotonic()
        self._before: dict[Path, tuple | None] = {}  # what was in the folder of the case

    def begin(self, locations: Collection[str | None] = ()) -> None:
        """Decide whether the case has to be processed; if so, remove its old row and what a killed run left of it."""
        case = self.case
        self.row.input = {  # here, not in __init__: whatever the files' names and state, an error ends this case alone
            "format": case.format,
            "frame": case.frame,
            "files": len(input_files(case)),
            "fingerprint": fingerprint(case),
            "location_hash": location_hash(case),
        }
        if self.case.refusal:
            self.stop(REFUSED, self.case.refusal)
            return
        if self.record.is_done(self.case, self.row.input["fingerprint"]):
            self.record.counts[KEPT] += 1
            logger.info("%s: already done", self.case.name)
            return
        if self.record.belongs_to_other_scan(self.case, locations):
            self.record.counts[REFUSED] += 1  # row and result of the other scan stay as they are
            logger.error(
                "%s: refused: %s holds the result of another scan of this name: give another output_dir, or redo true",
                self.case.name,
                self.record.output_dir.name,
            )
            return
        remove_partial(self.record.output_dir, self.case.name)
        self._before = {path: _identity(path) for path in self._results()}
        self._row_file.unlink(missing_ok=True)
        self.record.entries[self.case.name] = self
        self.to_do = True

    def loaded(self, image: MetaTensor) -> None:
        """Note geometry and protocol of the input.

        Args:
            image: the scan, of shape (1, X, Y, Z), already prepared or not; its meta holds original_affine,
                spatial_shape, the protocol and warnings.
        """
        meta = image.meta
        shape = meta.get("spatial_shape", image.shape[-3:])
        self.row.input |= geometry(shape, meta.get("original_affine", image.affine))
        if "acquired_pixel_mm" in meta:  # of the in-plane axes, in the order of the array
            acquired = dict(zip(meta["reorientation"].source_axes, meta["acquired_pixel_mm"], strict=False))
            self.row.input["acquired_pixel_mm"] = [round(acquired[axis], 6) for axis in sorted(acquired)]
        self.row.add_scan(image)

    def done(self, pred: MetaTensor) -> None:
        """End the case well; optional files of an earlier result that were not written anew are removed.

        Args:
            pred: the result (1, X, Y, Z), with a RAS affine in mm and, where it was measured, meta["residual"].
        """
        self.row = self.snapshot(pred)
        for path in self._results():
            if self._before.get(path) != _identity(path):
                self.row.files.append(f"{self.case.name}/{path.name}")
            elif path.name.removeprefix(self.case.name) in OPTIONAL_RESULTS:
                _remove(path)
        self._end(DONE, None)
        logger.info("%s: done in %.1f s", self.case.name, self.row.seconds)

    def stop(self, status: str, reason: str) -> None:
        """End the case as refused or failed."""
        self._end(status, one_line(reason).removeprefix(f"{self.case.name}: "))
        logger.error("%s: %s: %s", self.case.name, status, self.row.reason)

    def failed(self, error: Exception) -> None:
        """End the case by the error that stopped it: refused for a `Refusal`, else failed."""
        logger.debug("%s", self.case.name, exc_info=error)
        if self.row.status is None:  # an error after its end does not change how a case ended
            self.stop(*reason_of(error))

    def snapshot(self, pred: MetaTensor) -> Row:
        """Return the row with the geometry of the result, how it fits the slices, and the seconds until now."""
        row = replace(self.row, seconds=self._seconds())
        row.add_result(pred)
        return row

    def _end(self, status: str, reason: str | None) -> None:
        self.to_do = False
        self.row.status, self.row.reason, self.row.seconds = status, reason, self._seconds()
        self.record.counts[status] += 1
        try:
            write_json(self._row_file, self.row.as_row())
        except OSError as error:  # the disk is full: the count and the exit code still include the case
            self.record.unwritten += 1
            logger.error("%s: its row cannot be written: %s", self.case.name, error.strerror)
        else:
            self.record.merge()

    def _seconds(self) -> float:
        return round(time.monotonic() - self._start, 3)

    @property
    def _row_file(self) -> Path:
        return self.record.output_dir / ROWS / f"{self.case.name}.json"

    def _results(self) -> list[Path]:
        name = self.case.name
        return sorted((self.record.output_dir / name).glob(f"{glob.escape(name)}_*"))


def read_summary(output_dir: str | os.PathLike) -> list[Row]:
    """Read the rows of all cases from OUT/summary.json, as `RunRecord.merge` wrote them.

    Raises:
        Refusal: if there is no such file, or it is another one.
    """
    path = Path(output_dir) / SUMMARY
    try:
        return [Row.of(row) for row in json.loads(path.read_text(encoding="utf-8"))["cases"]]
    except OSError as error:
        raise Refusal(f"{path.name} cannot be read ({error.strerror}): run the inference first") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refusal(f"{path.name} is not the record of a run: run the inference again") from error


def checksum(weights: str | os.PathLike) -> str:
    """Return the SHA-256 of a file of weights, in hexadecimal digits.

    Raises:
        Refusal: if there is no such file.
    """
    path = Path(weights)
    if not path.is_file():
        raise Refusal(f"no weights at {path}: fetch or train them, random weights are never used")
    return sha256_of(path)


def geometry(shape, affine) -> dict:
    """Return shape (voxels), spacing (mm) and RAS affine of a volume as plain lists.

    >>> geometry((4, 4, 2), np.diag([1.0, 1.0, 6.0, 1.0]))["spacing_mm"]
    [1.0, 1.0, 6.0]
    """
    affine = np.asarray(affine, dtype=np.float64)
    return {
        "shape": [int(n) for n in shape],
        "spacing_mm": [round(float(s), 6) for s in np.linalg.norm(affine[:3, :3], axis=0)],
        "affine": plain(affine),
    }


def _known(kind: type, content: Mapping) -> dict:
    return {own.name: content[own.name] for own in fields(kind) if own.name in content}


def _identity(path: Path) -> tuple | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _remove(path: Path) -> None:
    try:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    except OSError as error:  # the new result itself is complete
        logger.warning("%s: a result of an earlier call cannot be removed (%s)", path.name, error.strerror)


def _read_row(path: Path) -> dict | None:
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no row, or not one of ours: the case counts as not done
        return None
    return row if isinstance(row, dict) and "status" in row else None
