"""Kills of `run inference` at its file events, and what is left of results and record.

`python -m benchmarks.faults [--kills 120] [--torchrun 6] [--only SCENARIO ...]`

The shipped workflow runs with a small generator on three small phantom scans, two NIfTI files and a DICOM series, and
is killed (SIGKILL) just before one of the events at which it changes a file of its output folder. Scenarios: a fresh
folder, `redo`, `redo` with other settings, two runs at once into a fresh and into a full folder, torchrun with a
process killed, and a run beside the processes of a torchrun that was killed. After each kill no folder may hold files
of two results (mixed), nothing that was there before may be gone (lost), and no row may say "done" of other files
(untrue). Then the same command runs once more to its end: every result must be equal to one that was never killed,
every row done, and nothing temporary left.

A process is forked for each run from one that has imported everything, and torchrun is started as it is. A line is
printed for each scenario; the exit code is 1 if anything is wrong. Linux only.
"""

import argparse
import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import monai.bundle
import nibabel
import numpy as np
import pydicom
import torch
import yaml

import scripts.derived_series.writer
import scripts.run.evaluator  # noqa: F401 - imported before forking, not in every run anew
from scripts.dicom.synthetic_series import write_series
from scripts.geometry.grid import Grid
from scripts.learning.generator import Generator
from scripts.phantom.abdomen import abdomen, acquire

ROOT = Path(__file__).parents[1]
TINY = {"channels": 4, "blocks": 1, "fold": [2, 2], "conditioning_channels": 6}
FIRST, OTHER = {"views": [1], "rotations_deg": [0]}, {"views": [1], "rotations_deg": [0], "detail": 0.5}
WATCHED = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
NOTES = "notes.txt"  # a file of the user in the folder of a case
KILL_AT, KILL_IN, LOG = "GLADE_KILL_AT", "GLADE_KILL_IN", "log.txt"
PATIENCE_S = 600.0  # for a run on a busy machine
EVENTS_OF_A_RANK = 20  # at least, for a single NIfTI file
SCENARIOS = (
    *("killed_fresh", "killed_redo", "killed_other_settings", "two_runs_fresh", "two_runs_redo"),
    *("killed_torchrun", "orphans_of_torchrun"),
)


# ---- a run that is killed ------------------------------------------------------------------------------------------


def kill_at(event: int, output_dir: Path, counted: Callable[[int], object] = lambda _: None) -> None:
    """Kill this process just before its n-th change of a file in the output folder; 0: never."""
    count = itertools.count(1)
    inside = os.fspath(output_dir)

    def watch(name: str, arguments: tuple) -> None:
        changes = name in WATCHED and any(
            isinstance(a, str | bytes | Path) and inside in os.fsdecode(a) for a in arguments
        )
        if name == "open":
            changes = changes and bool(arguments[2] & WRITING)
        if changes or (name == "ctypes.dlsym" and arguments[1] == "renameat2"):  # the exchange of two folders
            number = next(count)
            counted(number)
            if number == event:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


@dataclass
class Run:
    """The inputs of all runs, and one output folder.

    Attributes:
        inputs: folder with the scans, the weights and the configuration.
        output_dir: OUT.
    """

    inputs: Path
    output_dir: Path

    def overrides(self, settings: Mapping) -> dict:
        """Return the settings of a run."""
        return {"dataset_dir": str(self.inputs / "scans"), "output_dir": str(self.output_dir), **settings}

    def start(self, settings: Mapping, event: int = 0) -> int:
        """Start a run in a forked process, to be killed at an event; return its process id."""
        pid = os.fork()
        if pid:
            return pid
        code = 70
        try:
            with (self.inputs / LOG).open("a") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            events = self.inputs / "events"
            kill_at(event, self.output_dir, lambda number: events.write_text(str(number)) if not event else None)
            config = [str(ROOT / "configs/inference.yaml"), str(self.inputs / "tiny.yaml")]
            monai.bundle.run("inference", config_file=config, logging_file=False, **self.overrides(settings))
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            os._exit(code)

    def to_end(self, settings: Mapping, event: int = 0) -> int:
        """Run; return the exit code, negative for a signal."""
        return exit_code(self.start(settings, event))

    def events(self) -> int:
        """Return how many events the latest run had that was not to be killed."""
        return int((self.inputs / "events").read_text())

    def torchrun(self, settings: Mapping, event: int = 0, rank: int = 0, restarts: int = 0) -> subprocess.Popen:
        """Start two processes of torchrun, one of which is killed at an event in its first start."""
        config = str([str(ROOT / "configs/inference.yaml"), str(self.inputs / "tiny.yaml")])
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
        command += [f"--max-restarts={restarts}", "-m", "benchmarks.faults", "--as-rank", str(self.output_dir), "run"]
        command += ["inference", "--config_file", config, "--logging_file", "False"]
        command += [part for key, value in self.overrides(settings).items() for part in (f"--{key}", str(value))]
        environment = {**os.environ, KILL_AT: str(event), KILL_IN: str(rank), "OMP_NUM_THREADS": "1"}
        with (self.inputs / LOG).open("a") as log:
            return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)


def exit_code(pid: int) -> int:
    """Wait for a process; return its exit code, negative for a signal."""
    _, status = wait_until(lambda: (ended := os.waitpid(pid, os.WNOHANG))[0] and ended)
    return os.waitstatus_to_exitcode(status)


def wait_until(condition: Callable[[], Any]) -> Any:
    """Return the value of a condition as soon as it is true."""
    deadline = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing happened within {PATIENCE_S:g} s: see {LOG}")
        time.sleep(0.02)
    return value


def as_rank(output_dir: str) -> None:
    """Run as one of torchrun's processes: MONAI's command line, with the kill that the environment asks for."""
    import runpy

    first = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
    if first and os.environ["RANK"] == os.environ[KILL_IN]:
        kill_at(int(os.environ[KILL_AT]), Path(output_dir))
    sys.argv = ["monai.bundle", *sys.argv[sys.argv.index("run") :]]
    runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)


# ---- what is left --------------------------------------------------------------------------------------------------


@dataclass
class Results:
    """What the output folder of a run that was never killed holds: the content of each file of each case."""

    settings: Mapping
    files: dict[str, dict[str, str]]


@dataclass
class Faults:
    """Faults that were found, by kind, and the number of kills.

    Attributes:
        kills: runs that were killed.
        found: how often each kind was found.
        where: a line for each.
    """

    kills: int = 0
    found: Counter = field(default_factory=Counter)
    where: list[str] = field(default_factory=list)

    def add(self, kind: str, where: str) -> None:
        """Note a fault."""
        self.found[kind] += 1
        self.where.append(f"{kind}: {where}")


def contents(folder: Path) -> dict[str, str]:
    """Return a hash of each result in the folder of a case; of a DICOM file its pixels, as the rest holds the time."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != NOTES:
            data = pydicom.dcmread(path).PixelData if path.suffix == ".dcm" else path.read_bytes()
            found[str(path.relative_to(folder))] = hashlib.sha256(data).hexdigest()
    return found


def results_of(run: Run, settings: Mapping) -> Results:
    """Run to the end in a fresh folder, and return what it made."""
    if run.to_end(settings) != 0:
        raise RuntimeError(f"the run without a kill failed: {(run.inputs / LOG).read_text()[-2000:]}")
    names = [path.name for path in run.output_dir.iterdir() if path.is_dir() and path.name[0] != "."]
    return Results(settings, {name: contents(run.output_dir / name) for name in names})


def rows_of(output_dir: Path) -> Iterator[tuple[str, dict]]:
    """Yield each row, from summary.json and from the files of the rows."""
    summary = output_dir / "summary.json"
    if summary.exists():
        yield from (("summary.json", row) for row in json.loads(summary.read_text())["cases"])
    for path in sorted((output_dir / ".glade").glob("*.json")):
        yield path.name, json.loads(path.read_text())


def inspect(output_dir: Path, possible: list[Results], earlier: Results | None, faults: Faults, where: str) -> None:
    """Look for mixed, lost and untrue results after a kill.

    Args:
        output_dir: OUT.
        possible: results that may be there, of the earlier and of the killed run.
        earlier: results that were there before the kill; None: the folder was fresh.
        faults: to which to add.
        where: the scenario and event.
    """
    found: dict[str, list[Results]] = {}
    for case in possible[0].files:
        folder = output_dir / case
        if not folder.exists():
            if earlier:
                faults.add("lost", f"{where}: {case}")
            continue
        content = contents(folder)
        found[case] = [result for result in possible if result.files[case] == content]
        if not found[case]:
            faults.add("mixed", f"{where}: {case}: {sorted(content)}")
        if earlier and not (folder / NOTES).exists():
            faults.add("lost", f"{where}: {case}/{NOTES}")
    for place, row in rows_of(output_dir):
        made_by = [result for result in found.get(row["case"], []) if says(row, result)]
        if row["status"] == "done" and not made_by:
            faults.add("untrue", f"{where}: {row['case']} in {place}")


def says(row: Mapping, result: Results) -> bool:
    """Whether a row has the settings of a result."""
    return row["settings"]["detail"] == result.settings.get("detail", 1.0)


def inspect_end(output_dir: Path, expected: Results, code: int, faults: Faults, where: str) -> None:
    """Look for what differs from a run that was never killed."""
    if code != 0:
        faults.add("unequal", f"{where}: exit code {code}")
    for case, files in expected.files.items():
        if contents(output_dir / case) != files:
            faults.add("unequal", f"{where}: {case}")
    for place in ("summary.json", ".glade"):
        rows = [row for name, row in rows_of(output_dir) if (name == "summary.json") == (place == "summary.json")]
        if sorted(row["case"] for row in rows if row["status"] == "done" and says(row, expected)) != sorted(
            expected.files
        ):
            faults.add("unequal", f"{where}: rows in {place}")
    hidden = {path.name for path in output_dir.rglob(".*")} - {".glade", ".lock"}
    hidden |= {path.name for path in (output_dir / ".glade").glob("[!.]*.lock")}
    if hidden:
        faults.add("left over", f"{where}: {sorted(hidden)}")


# ---- scenarios -----------------------------------------------------------------------------------------------------


def write_inputs(folder: Path) -> None:
    """Write scans, weights and configuration."""
    affine = np.array([[-5.0, 0, 0, 100], [0, 0, -5, 100], [0, 5, 0, -100], [0, 0, 0, 1]])
    grid = Grid((24, 20, 20), affine)
    slices, where = acquire(abdomen(grid), grid, 20.0, 20.0, "rect", noise_sigma=5.0)
    (folder / "scans").mkdir()
    for name, factor in (("a", 1), ("b", 2)):
        volume = nibabel.Nifti1Image((factor * slices).astype(np.int16), np.array(where.affine))
        nibabel.save(volume, folder / "scans" / f"{name}.nii.gz")
    write_series(folder / "scans" / "series", slices, np.array(where.affine), slice_thickness_mm=20.0, seed=3)
    torch.manual_seed(0)
    network = Generator(**TINY)
    torch.nn.init.normal_(network.tail.weight, std=0.02)
    torch.save(network.state_dict(), folder / "tiny.pt")
    overlay = {
        "network_def": {"_target_": "scripts.learning.generator.Generator", **TINY},
        "weights_path": str(folder / "tiny.pt"),
        "device": "$torch.device('cpu')",
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(overlay))


class Trials:
    """The scenarios, on one set of inputs.

    Args:
        folder: an empty folder for everything.
    """

    def __init__(self, folder: Path):
        self.folder, self.number = folder, itertools.count()
        write_inputs(folder)
        self.complete = self.fresh()
        self.first = results_of(self.complete, FIRST)
        self.events_fresh = self.complete.events()
        self.other = results_of(self.fresh(), OTHER)
        full = self.full()
        full.to_end({**OTHER, "redo": "true"})
        self.events_redo = full.events()

    def fresh(self) -> Run:
        """Return a run with an output folder that does not exist."""
        return Run(self.folder, self.folder / f"out{next(self.number)}")

    def full(self) -> Run:
        """Return a run with an output folder that holds the first results, and a file of the user in each folder."""
        run = self.fresh()
        shutil.copytree(self.complete.output_dir, run.output_dir)
        for case in self.first.files:
            (run.output_dir / case / NOTES).write_text("mine")
        return run

    def killed_fresh(self, kills: int, faults: Faults) -> None:
        """Kill runs into fresh folders."""
        for event in spread(self.events_fresh, kills):
            run, where = self.fresh(), f"fresh, event {event}"
            self._killed(run.to_end(FIRST, event), faults, where)
            inspect(run.output_dir, [self.first], None, faults, where)
            inspect_end(run.output_dir, self.first, run.to_end(FIRST), faults, where)

    def killed_redo(self, kills: int, faults: Faults) -> None:
        """Kill runs that do all cases again."""
        self._replace("redo", self.first, kills, faults)

    def killed_other_settings(self, kills: int, faults: Faults) -> None:
        """Kill runs that do all cases again with another setting."""
        self._replace("other settings", self.other, kills, faults)

    def _replace(self, name: str, new: Results, kills: int, faults: Faults) -> None:
        for event in spread(self.events_redo, kills):
            run, where = self.full(), f"{name}, event {event}"
            self._killed(run.to_end({**new.settings, "redo": "true"}, event), faults, where)
            inspect(run.output_dir, [self.first, new], self.first, faults, where)
            code = run.to_end({**new.settings, "redo": "true"})
            inspect_end(run.output_dir, new, code, faults, where)

    def two_runs_fresh(self, kills: int, faults: Faults) -> None:
        """Start two runs into one fresh folder, and kill the first."""
        self._two("two runs, fresh", self.fresh, FIRST, self.first, self.events_fresh, kills, faults)

    def two_runs_redo(self, kills: int, faults: Faults) -> None:
        """Start two runs with redo and other settings into one full folder, and kill the first."""
        settings = {**OTHER, "redo": "true"}
        self._two("two runs, redo", self.full, settings, self.other, self.events_redo, kills, faults)

    def _two(self, name, folder, settings, new, events, kills, faults) -> None:
        for event in spread(events, kills):
            run, where = folder(), f"{name}, event {event}"
            earlier = self.first if new is self.other else None
            killed, other = run.start(settings, event), run.start(settings)
            code, other_code = exit_code(killed), exit_code(other)
            if code != -signal.SIGKILL and code not in (0, 1):  # it may have less to do than alone
                faults.add("unequal", f"{where}: exit code {code}")
            faults.kills += code == -signal.SIGKILL
            if other_code not in (0, 1):  # 1: a case was in hand of the killed one
                faults.add("unequal", f"{where}: exit code {other_code} of the run that was not killed")
            inspect(run.output_dir, [self.first, new], earlier, faults, where)
            inspect_end(run.output_dir, new, run.to_end(settings), faults, where)

    def killed_torchrun(self, kills: int, faults: Faults) -> None:
        """Kill one of two processes of torchrun; every other time torchrun may start both anew."""
        for index, event in enumerate(spread(EVENTS_OF_A_RANK, kills)):
            run, restarts, rank = self.fresh(), index % 2, index // 2 % 2
            where = f"torchrun, event {event} of process {rank}"
            code = exit_code(run.torchrun(FIRST, event, rank, restarts).pid)
            faults.kills += 1
            if restarts and code == 0:  # the killed case was done by the second start
                inspect_end(run.output_dir, self.first, code, faults, f"{where}, restarted")
                continue
            if restarts:  # gloo sometimes connects to the address of the first start
                faults.where.append(f"note: {where}: torchrun could not start its processes anew: see {LOG}")
            elif code == 0:
                faults.add("unequal", f"{where}: exit code 0 although a process was killed")
            inspect(run.output_dir, [self.first], None, faults, where)
            inspect_end(run.output_dir, self.first, exit_code(run.torchrun(FIRST).pid), faults, where)

    def orphans_of_torchrun(self, kills: int, faults: Faults) -> None:
        """Kill torchrun itself, whose processes go on, and start another run beside them."""
        for round_ in range(-(-kills // 3)):
            run, where = self.fresh(), f"orphans of torchrun, round {round_}"
            launched = run.torchrun(FIRST)
            wait_until(lambda run=run: any((run.output_dir / ".glade").glob("[!.]*.lock")))
            orphans = Path(f"/proc/{launched.pid}/task/{launched.pid}/children").read_text().split()
            launched.kill()
            launched.wait()
            faults.kills += 1
            code = run.to_end(FIRST)
            if code not in (0, 1):
                faults.add("unequal", f"{where}: exit code {code} of the run beside them")
            wait_until(lambda orphans=orphans: not any(Path(f"/proc/{pid}").exists() for pid in orphans))
            inspect(run.output_dir, [self.first], None, faults, where)
            inspect_end(run.output_dir, self.first, run.to_end(FIRST), faults, where)

    @staticmethod
    def _killed(code: int, faults: Faults, where: str) -> None:
        if code == -signal.SIGKILL:
            faults.kills += 1
        else:
            faults.add("not killed", f"{where}: exit code {code}")


def spread(events: int, kills: int) -> list[int]:
    """Return numbers of events from the first to the last, evenly spread, each once."""
    return sorted({round(1 + (events - 1) * index / max(1, kills - 1)) for index in range(kills)})


def main() -> int:
    """Run the scenarios; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=120, help="in all scenarios without torchrun together")
    parser.add_argument("--torchrun", type=int, default=6, help="kills of a process of torchrun, which starts slowly")
    parser.add_argument("--only", nargs="*", choices=SCENARIOS, help="scenarios; all where this is left out")
    given = parser.parse_args()
    total = Faults()
    with tempfile.TemporaryDirectory(prefix="glade-faults-") as folder:
        trials = Trials(Path(folder))
        say(f"file events: {trials.events_fresh} of a fresh run, {trials.events_redo} of redo")
        for name in given.only or SCENARIOS:
            faults, begun = Faults(), time.monotonic()
            kills = given.torchrun if "torchrun" in name else -(-given.kills // 5)
            if kills:
                getattr(trials, name)(kills, faults)
            seconds = time.monotonic() - begun
            say(f"{name}: {faults.kills} kills, {summary(faults)} ({seconds:.0f} s)", *faults.where)
            total.kills, total.found = total.kills + faults.kills, total.found + faults.found
    say(f"together: {total.kills} kills, {summary(total)}")
    return int(bool(total.found))


def say(*lines: str) -> None:
    """Write lines at once."""
    sys.stdout.write("\n  ".join(lines) + "\n")
    sys.stdout.flush()


def summary(faults: Faults) -> str:
    """Return the numbers of faults as text."""
    kinds = ("mixed", "lost", "untrue", "unequal", "left over", "not killed")
    return ", ".join(f"{faults.found[kind]} {kind}" for kind in kinds)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--as-rank"]:
        as_rank(sys.argv[2])
    else:
        sys.exit(main())
