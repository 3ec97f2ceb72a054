"""The record of a run: one row for each case, written when the case ends, and the exit code."""

import hashlib
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
from monai.data import MetaTensor

from ..data.acceptance import ScanProtocol
from ..data.bids_names import BidsNames
from ..data.case import DICOM, OVERVIEW, SUMMARY, Case
from ..data.outputs import DICOM_SERIES, REPORT_PAGE
from ..data.reference import WRITTEN
from ..data.saving import POSTFIXES, REPORT, volume_file
from ..data.sidecar import file_stem, json_object
from ..geometry.checksums import origin_of, sha256_of
from ..geometry.errors import Refusal, counted, one_line, printable, reason_of
from ..geometry.files import plain
from .fingerprints import fingerprint, input_files, location_hash
from .rows import DONE, FAILED, REFUSED, Rows

KEPT = "kept"  # done by an earlier call
ELSEWHERE = "elsewhere"  # another process has it in hand
MOST_TRIES = 2  # processes that may be killed over a case, as by one that needs more memory than there is
MOST_DIFFERENCES = 3  # settings that a message names
FOLLOWS = {  # settings whose default is computed from others; where one of those differs, a message names it alone
    "detail_gain": {"sharpness", "views", "rotations_deg"},
    "sharp_weights_sha256": {"sharpness"},
}
KILLED = (
    "{} processes were killed while they processed it, perhaps for lack of memory: "
    "give it more memory, or --redo to try again"
)
INTERRUPTED = "the run ended while this result was put in place of an earlier one: run it again"
CHANGED_SCAN = "the scan, or its sidecar, has changed since the result in OUT was made: it is made again and replaced"
CHANGED_STACKS = "a stack, or its sidecar, has changed since the result in OUT was made: it is made again and replaced"
FIT = ("residual", "noise", "residual_over_noise")  # of a result, from its meta

CHANGED = "changed"  # value of `redo`: only what was done with other settings or weights
logger = logging.getLogger(__name__)


@dataclass
class Row:
    """What summary.json says about a case; nothing of the header's patient attributes.

    Attributes:
        case: its name.
        status: "done", "refused" or "failed"; None while it is being processed.
        reason: why it was refused or failed.
        input: format, frame, number of files, fingerprint, location hash; once it is loaded, its geometry and
            intensities, the smallest and the largest of the acquired slices.
        output: shape (voxels), spacing (mm), RAS affine and intensities of the isotropic result.
        written: the same of the NIfTI files, where `like` puts them on the grid of another image, without intensities
            where the result itself is not among them; else None.
        protocol: how the scan was acquired; None until it is loaded.
        warnings: sentences about the scan.
        residual: ||A v - b|| / ||b|| of the result, where it was measured; of several stacks, the largest.
        noise: standard deviation of the noise of the slices, in the scan's units, where it was estimated.
        residual_over_noise: root mean square of A v - b in the body over the noise; below 1, the result explains the
            slices to within their noise. Of several stacks, the largest; `input["stacks"]` has that of each.
        seconds: duration.
        files: what was written, relative to OUT.
        weights_sha256: checksum of the weights.
        weights_origin: "shipped" with this bundle, faithful and sharp ones, or the user's "own".
        settings: what the result depends on.
        write: names of what was to be written.
    """

    case: str
    status: str | None = None
    reason: str | None = None
    input: dict = field(default_factory=dict)
    output: dict | None = None
    written: dict | None = None
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
    write: list[str] = field(default_factory=list)

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
        self.output = geometry(pred.shape[-3:], pred.affine) | {"intensities": _rounded(pred.min(), pred.max())}
        if WRITTEN in pred.meta:
            shape, affine, *ends = pred.meta[WRITTEN]
            self.written = geometry(shape, affine) | ({"intensities": _rounded(*ends)} if ends else {})
        for name in FIT:
            value = plain(pred.meta.get(name))
            setattr(self, name, None if value is None else float(value))


class RunRecord:
    """How each case ended: writes its row at once, merges summary.json, and determines the exit code of the run.

    `with record.case(case) as entry` is the one way to process a case into OUT, for `run inference` and MONAI Deploy
    alike; MONAI Label sends its results away and keeps no OUT. Several processes and several runs may share OUT: a case
    is processed by one of them at a time. A killed process loses only the case it was processing; the next call does
    what is missing.

    Args:
        output_dir: OUT; made by `open`.
        settings: what a result depends on, as plain values; a result with other values is replaced only with `redo`.
        weights: file of the network's weights, for its checksum; None: no network.
        redo: process again what is done; "changed": only what was done with other settings or weights, whose result is
            replaced.
        write: names of what is written for each case (`scripts.data.outputs`); a result without all of it is not done.
        naming: where the files of a case go when it is done; None: they stay in OUT/<case>.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike,
        settings: Mapping,
        weights: str | os.PathLike | None = None,
        redo: bool | str = False,
        write: Sequence[str] = (),
        naming: BidsNames | None = None,
    ):
        self.output_dir = Path(output_dir)
        self.settings = json.loads(json.dumps(plain(settings), sort_keys=True))
        self.weights = None if weights is None else Path(weights)
        self.redo, self.replaces_changed = redo is True, redo in (True, CHANGED)
        self.rows = Rows(self.output_dir)
        self.write, self.naming = list(write), naming
        self.counts: Counter = Counter()
        self.entries: dict[str, CaseEntry] = {}  # cases being processed, by name
        self.with_warnings = 0  # cases of this call that have warnings, also where an earlier call did them
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
        if self.naming is not None:
            self.naming.refuse_output(self.output_dir)
        self.rows.open()
        if self.naming is not None:
            self.naming.describe(self.output_dir, str(self.settings.get("version")))

    def in_turn(self, cases: Sequence[Case]) -> Iterator[int]:
        """Yield the index of each case in the order in which to process them.

        Those come last that another process has in hand when it is their turn, or that an earlier one was killed over.
        """
        last = []
        for index, case in enumerate(cases):
            if self.rows.is_begun(case.name):
                last.append(index)
            else:
                yield index
        yield from last

    @contextmanager
    def case(self, case: Case) -> Iterator["CaseEntry"]:
        """Process one case: its entry says whether there is anything to do, and records what was done.

        An error inside the block ends the case as refused (a `Refusal`) or failed (any other) and goes no further, so
        that the other cases are still processed.

        Args:
            case: the case.
        """
        entry = CaseEntry(self, case)
        try:
            entry.begin()
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
            entry.release()

    def is_done(self, case: Case, known: str | None = None) -> bool:
        """Whether an earlier call wrote all that is wanted of this case, from the same input, settings and weights.

        Args:
            case: the case.
            known: its fingerprint, where it has been computed already.
        """
        row = self.rows.read(case.name)
        return row is not None and set(self.write) <= set(row.get("write", [])) and self.is_valid(case, row, known)

    def is_valid(self, case: Case, row: Mapping, known: str | None = None) -> bool:
        """Whether the files of an earlier row of a case are what this record would write again.

        Args:
            case: the case.
            row: of an earlier call.
            known: fingerprint of the case, where it has been computed already.
        """
        return (
            not self.redo
            and row["status"] == DONE
            and not self._differences(row)
            and row.get("input", {}).get("fingerprint") == (known or fingerprint(case))
            and all((self.output_dir / file).exists() for file in row.get("files", []))
        )

    def refusal(self, case: Case) -> str | None:
        """Return why nothing can be written of a case, in one line; None where something can."""
        if self.write == [DICOM_SERIES] and case.format != DICOM:
            return f"{case.label}: --write {DICOM_SERIES} alone, which only a DICOM scan gets: add volume"
        return None if self.naming is None else self.naming.refusal(case)

    def belongs_to_other_scan(self, case: Case) -> bool:
        """Whether OUT holds, under the name of this case, a result of other files in another location.

        It does too where that other scan has merely got another name, as when a series that sorts before it was added:
        what a user keeps in OUT/<case> is about the scan whose result stands there.
        """
        known = self._known_input(case)
        elsewhere = known.get("location_hash") not in (None, location_hash(case))
        return elsewhere and known.get("fingerprint") != fingerprint(case)

    def input_has_changed(self, case: Case, now: str | None) -> bool:
        """Whether OUT holds a result of this very case, by where its input lies, from which the input differs now.

        Args:
            case: the case.
            now: its fingerprint.
        """
        known = {} if self.redo else self._known_input(case)
        before = known.get("fingerprint")
        return None not in (before, now) and before != now and known.get("location_hash") == location_hash(case)

    def _known_input(self, case: Case) -> dict:
        """What is known of the input of the result under the name of a case in OUT; {} where there is no result."""
        row = self.rows.read(case.name)
        if row is None:  # frames that were put together have no row of their own
            volumes = (volume_file(self.output_dir, case.name, postfix) for postfix in POSTFIXES)
            sidecars = (volume.with_name(f"{file_stem(volume)}.json") for volume in volumes)
            return next((json_object(file).get("Input", {}) for file in sidecars if file.is_file()), {})
        results = [case.name, *row.get("files", [])]  # those frames lie elsewhere
        return row.get("input", {}) if any((self.output_dir / result).exists() for result in results) else {}

    def other_settings(self, case: Case) -> list[str]:
        """Return what makes a result of this case in OUT another one than this run would make, as text."""
        row = None if self.replaces_changed else self.rows.read(case.name)
        if (
            row is None
            or row["status"] != DONE
            or not any((self.output_dir / f).exists() for f in row.get("files", []))
        ):
            return []
        return self._differences(row)

    def replacing(self, case: Case, names: Sequence[str]) -> list[str]:
        """Note the files that a case is about to get; see `CaseEntry.replacing`.

        Args:
            case: a case that is being processed.
            names: of its files in OUT/<case>.
        """
        return self.entries[case.name].replacing(names)

    def snapshot(self, case: Case, pred: MetaTensor) -> Row:
        """Return the row of a case that is being processed, as far as it is known while its files are written.

        Args:
            case: the case.
            pred: its result, with a RAS affine in mm and, where it was measured, meta["residual"].
        """
        return self.entries[case.name].snapshot(pred)

    def all_rows(self) -> Iterator[Row]:
        """Yield the row of each case in OUT, by name; one at a time, since there may be very many."""
        return (Row.of(json.loads(text)) for text, _ in self.rows.all())

    def merge(self) -> None:
        """Make summary.json of all rows in OUT; a failure to write it counts as a row that could not be written."""
        self.unwritten += not self.rows.merge()

    def conclude(self, overview: Callable[["RunRecord"], Any] | None = None) -> None:
        """Wait for the other processes, merge summary.json, log the counts and end the run.

        Args:
            overview: writes a page about all cases in OUT; None: no such page.

        Raises:
            SystemExit: with code 1, if any case of this call, in any process, was refused, failed or left to another
            call that has it in hand, if a row or summary.json could not be written or is not there any more, or if
            another process has died.
        """
        counts, lost, first = {key: self.counts[key] for key in (DONE, KEPT, REFUSED, FAILED, ELSEWHERE)}, 0, True
        with_warnings = self.with_warnings
        try:
            idist.barrier()  # from here on no rows are written
            first = idist.get_rank() == 0
            if first:
                self.merge()
                if overview is not None:
                    self._write(overview)
            lost = int(idist.all_reduce(self.unwritten + self.rows.missing()))
            counts = {key: int(idist.all_reduce(count)) for key, count in counts.items()}
            with_warnings = int(idist.all_reduce(with_warnings))
        except RuntimeError as error:  # gloo's, when the connection to a process is lost
            logger.error("another process of this run has died, its case in hand is not done (%s)", one_line(error))
            self.merge()
            lost += 1
        if first:
            logger.info(
                "%s: %d done, %d already done, %d refused, %d failed%s%s; see %s",
                counted(sum(counts.values()), "case"),
                *(counts[key] for key in (DONE, KEPT, REFUSED, FAILED)),
                f", {counts[ELSEWHERE]} left to another process" * (counts[ELSEWHERE] > 0),
                f"; {with_warnings} with warnings" * (with_warnings > 0),
                printable(str(self.output_dir / SUMMARY)),
            )
        if lost:
            logger.error("%s is not complete, or could not be written: run this again", SUMMARY)
        if counts[REFUSED] or counts[FAILED] or counts[ELSEWHERE] or lost:
            raise SystemExit(1)

    def _write(self, overview: Callable[["RunRecord"], Any]) -> None:
        try:
            overview(self)
        except OSError as error:
            self.unwritten += 1
            logger.error("%s cannot be written: %s", OVERVIEW, error.strerror)
        else:
            logger.info("page about all scans in %s", printable(str(self.output_dir / OVERVIEW)))

    def _differences(self, row: Mapping) -> list[str]:
        """What differs between the settings and weights of a row and those of this record."""
        before, now = row.get("settings", {}), self.settings
        names = {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}
        found = [
            f"{name} {json.dumps(before.get(name))}, now {json.dumps(now.get(name))}"
            for name in sorted(names)
            if not names & FOLLOWS.get(name, set())
        ]
        return found + ["other weights"] * (row.get("weights_sha256") != self.weights_sha256)


class CaseEntry:
    """One case of a run, from its beginning to its row; made by `RunRecord.case`.

    While it is processed, this process has its lock. Its row says "done" from the moment when its files are in place.

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
            write=record.write,
        )
        self._start = time.monotonic()
        self._lock = record.rows.lock(case.name)
        self._outdated: set[str] = set()  # files of an earlier result that is not valid any more
        self._ends_in_order = True  # else the note stays that processes were killed over the case

    def begin(self) -> None:
        """Decide whether this process has to process the case, and note that it begins; `release` gives it back."""
        self.describe_input()  # not in __init__: whatever the files' names and state, an error ends this case alone
        free = self._lock.acquire(wait=False)
        refusal = self.case.refusal or self.record.refusal(self.case)
        if refusal:
            its_own = free and not self.record.belongs_to_other_scan(self.case)
            self.stop(REFUSED, refusal) if its_own else self._refuse_here(refusal)
        elif self.record.is_done(self.case, self.row.input["fingerprint"]):
            self.record.counts[KEPT] += 1
            self.record.with_warnings += bool((self.record.rows.read(self.case.name) or {}).get("warnings"))
            logger.info("%s: already done", self.case.name)
        elif not free:
            self.record.counts[ELSEWHERE] += 1
            logger.error(
                "%s: left out: %s is processing it now: run this again when that has ended",
                self.case.name,
                self._lock.holder(),
            )
        elif reason := self._standing_result():
            self._refuse_here(reason)
        else:
            if self.record.input_has_changed(self.case, self.row.input["fingerprint"]):
                logger.warning("%s: %s", self.case.name, CHANGED_STACKS if self.case.stacks else CHANGED_SCAN)
            self._begin_work()

    def describe_input(self) -> None:
        """Note in the row what was read; the hashes tell the input from another without naming it."""
        self.row.input = {
            "format": self.case.format,
            "frame": self.case.frame,
            "files": len(input_files(self.case)),
            "fingerprint": fingerprint(self.case),
            "location_hash": location_hash(self.case),
        }

    def release(self) -> None:
        """Let other processes have the case."""
        if self._lock.held:
            self._lock.end() if self._ends_in_order else self._lock.release()

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
        if "intensity_range" in meta:
            self.row.input["intensities"] = _rounded(*meta["intensity_range"])
        self.row.add_scan(image)

    def replacing(self, names: Sequence[str]) -> list[str]:
        """Note the names of the files that OUT/<case> is about to get; an earlier row must not say "done" of them.

        Returns:
            Names of files of an earlier call that stay: those that are valid, and not among the new ones.

        Raises:
            OSError: if that cannot be written; then the files must not be replaced.
        """
        earlier, kept, elsewhere = self.record.rows.read(self.case.name), [], []
        if earlier is not None and earlier["status"] == DONE:
            mark = replace(self.row, status=FAILED, reason=INTERRUPTED)
            self.record.rows.replacing(self.case.name, mark.as_row())
            if self.record.is_valid(self.case, earlier, self.row.input["fingerprint"]):
                files = [Path(file) for file in earlier.get("files", [])]
                kept = [path.name for path in files if path.parent.name == self.case.name and path.name not in names]
                elsewhere = [path.as_posix() for path in files if path.parent.name != self.case.name]
                self.row.write = sorted({*self.row.write, *earlier.get("write", [])})
            else:
                self._outdated = set(earlier.get("files", []))
        self.row.files = [*(f"{self.case.name}/{name}" for name in sorted([*names, *kept])), *elsewhere]
        return kept

    def done(self, pred: MetaTensor) -> None:
        """End the case well.

        Args:
            pred: the result (1, X, Y, Z), with a RAS affine in mm and, where it was measured, meta["residual"].
        """
        self.row = self.snapshot(pred)
        if self.record.naming is not None:
            self._move(self.record.naming)
        self._end(DONE, None)
        logger.info("%s: done in %.1f s", self.case.name, self.row.seconds)
        if REPORT_PAGE in self.record.write:
            for file in self.row.files:
                if file.endswith(REPORT):
                    logger.info("%s: report in %s", self.case.name, printable(str(self.record.output_dir / file)))

    def stop(self, status: str, reason: str) -> None:
        """End the case as refused or failed."""
        self.row.files = []
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

    def _move(self, naming: BidsNames) -> None:
        """Put the files of the case where they belong, and remove those of an earlier result with other names."""
        out, folder = self.record.output_dir, self.record.output_dir / self.case.name
        moved = set()
        for file in self.row.files:
            target = Path(file)
            if target.parts[0] == self.case.name:
                target = naming.place(self.case, target.name, (self.row.written or self.row.output)["spacing_mm"])
                (out / target).parent.mkdir(parents=True, exist_ok=True)
                (out / file).replace(out / target)
            moved.add(target.as_posix())
        for file in self._outdated - moved:
            (out / file).unlink(missing_ok=True)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        self.row.files = sorted(moved)

    def _standing_result(self) -> str | None:
        """Why a result in OUT is not replaced, and what to do."""
        record, out = self.record, self.record.output_dir.name
        if not record.redo and record.belongs_to_other_scan(self.case):
            what = "other stacks under this name" if self.case.stacks else "another scan of this name"
            # Perhaps of another patient, whose result --redo would replace: so the line does not offer it
            return f"{out} holds the result of {what}: give another output folder"
        differences = record.other_settings(self.case)
        if differences:
            listed = ", ".join(differences[:MOST_DIFFERENCES])
            return f"{out} holds its result with other settings ({listed}): give another output folder, or --redo"
        return None

    def _refuse_here(self, reason: str) -> None:
        """Refuse the case in this run alone; its row and result stay as they are."""
        self.record.counts[REFUSED] += 1
        logger.error("%s: refused: %s", self.case.name, reason)

    def _begin_work(self) -> None:
        known = [self.row.input["fingerprint"], self.row.settings, self.row.weights_sha256]
        work = hashlib.sha256(json.dumps(known).encode()).hexdigest()
        tries = 0 if self.record.redo else self._lock.tries(work)
        if tries >= MOST_TRIES:
            self._ends_in_order = False  # the note stays, for the next call
            self.stop(REFUSED, KILLED.format(tries))
            return
        self._lock.begin(work, tries + 1)
        self.record.entries[self.case.name] = self
        self.to_do = True

    def _end(self, status: str, reason: str | None) -> None:
        self.to_do = False
        self.row.status, self.row.reason, self.row.seconds = status, reason, self._seconds()
        self.record.counts[status] += 1
        self.record.with_warnings += bool(self.row.warnings)
        try:
            self.record.rows.write(self.case.name, self.row.as_row())
        except OSError as error:  # the disk is full: the count and the exit code still include the case
            self.record.unwritten += 1
            logger.error("%s: its row cannot be written: %s", self.case.name, error.strerror)
        else:
            self.record.rows.merge(always=False)

    def _seconds(self) -> float:
        return round(time.monotonic() - self._start, 3)


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


def _rounded(*values: Any) -> list[float]:
    """Values as they are written: six digits say enough and are short."""
    return [float(f"{float(value):.6g}") for value in values]


def _known(kind: type, content: Mapping) -> dict:
    return {own.name: content[own.name] for own in fields(kind) if own.name in content}
