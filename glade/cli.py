"""The command `glade`: thick-slice scans in, isotropic volumes out, by the bundle's inference workflow.

What can be checked without torch is checked before it is imported, so that a wrong path or option is refused at once.
"""

import functools
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import yaml

from glade.scripts.data.outputs import OUTPUTS, OUTPUTS_OF_STACKS, chosen_outputs
from glade.scripts.geometry.errors import INTERRUPTED, Refusal, one_line, refusal_of
from glade.scripts.geometry.folders import existing_paths, exists
from glade.scripts.run.bundle import bundle_version
from glade.scripts.run.keys import refuse_unknown_keys
from glade.scripts.run.threads import thread_settings

from .location import CONFIG, STACKS

NAME = "glade"
DEFAULT = "run"  # the command that `glade -i ...` means
FAILED, WRONG_COMMAND_LINE, STOPPED = 1, 2, 130  # exit codes; 130 is that of Ctrl-C
DEVICE = re.compile(r"cpu|mps|cuda(:\d+)?")
NEEDS = {"report": ("evaluate", ("matplotlib", "skimage", "jinja2")), "adapt": ("train", ("tensorboard",))}  # packages
WHOLE = 1000  # letters, more than any sentence has
FOLDER = click.Path(path_type=Path)
SPACING_WORDS = ("stored", "acquired")  # as in scripts/data/transforms.py, which takes seconds to import


class Commands(click.Group):
    """Commands of which one needs no name: `glade -i SCAN -o OUT` is `glade run -i SCAN -o OUT`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the name of the default command where there is none."""
        named = not args or args[0] in (*self.commands, *ctx.help_option_names, "--version")
        if not named and not args[0].startswith("-"):
            raise click.UsageError(
                f"no command is called {args[0]}: commands are {', '.join(self._others())}; "
                f"scans follow -i: {NAME} -i SCAN -o OUT"
            )
        return super().parse_args(ctx, args if named else [DEFAULT, *args])

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options of the default command too."""
        formatter.write_usage(NAME, "-i SCAN [SCAN ...] -o OUT [OPTIONS]")
        formatter.write_usage(NAME, f"{'|'.join(self._others())} [OPTIONS] ...")
        self.format_help_text(ctx, formatter)
        default = self.commands[DEFAULT]
        default.format_options(click.Context(default, ctx, DEFAULT), formatter)
        self.format_commands(ctx, formatter)
        formatter.write_paragraph()
        formatter.write_text(
            f"{NAME} --version; all settings: {NAME} --print-config; each is an option, as --views [1]"
        )

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what each command does, in the whole first sentence of its help."""
        rows = [(name, self.commands[name].get_short_help_str(limit=WHOLE)) for name in self._others()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def _others(self) -> list[str]:
        return sorted(set(self.commands) - {DEFAULT})


@click.group(
    cls=Commands,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda word: word.replace("_", "-"),  # --slice_profile, as the setting is called
        "max_content_width": 120,
    },
)
@click.version_option(bundle_version(), prog_name=NAME)
def commands() -> None:
    """Make isotropic volumes from thick-slice MR scans: NIfTI files, DICOM series, or folders of any of them.

    Research only, not a medical device. Nothing leaves this machine.
    """


class Spacing(click.ParamType):
    """Millimetres, or a word of the setting isotropic_spacing_mm."""

    name = "spacing"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        """Return the word or the number."""
        return value if value in SPACING_WORDS else click.FLOAT.convert(value, param, ctx)


def setting(name: str, **options: Any) -> Any:
    """A setting of configs/inference.yaml as an option of the command; where it is not given, the config's value."""
    return click.option(f"--{name.replace('_', '-')}", name, default=None, **options)


def writing(outputs: Sequence[str]) -> Any:
    """The option that chooses among the outputs of a workflow."""
    names = ", ".join(outputs)
    return setting(
        "write",
        metavar="NAME[,NAME ...]",
        help=f"Of {names}; or all. All but the report, a page of figures and measures, by default.",
    )


RUNNING = (
    setting("redo", is_flag=True, help="Process again what OUT already holds."),
    click.option("--device", metavar="DEVICE", help="cpu, cuda or cuda:N; a GPU where there is one by default."),
    click.option(
        "--threads",
        type=click.IntRange(min=1),
        metavar="N",
        help="Of the processor; as many as it has cores for this program by default.",
    ),
    click.option(
        "--set",
        "pairs",
        multiple=True,
        metavar="KEY=VALUE",
        help="Any setting of the workflow, as --set smoothness=0.1; may be repeated.",
    ),
    click.option(
        "-q", "--quiet", "log_level", flag_value=logging.WARNING, type=int, help="Log warnings and errors alone."
    ),
    click.option(
        "-v",
        "--verbose",
        "log_level",
        flag_value=logging.DEBUG,
        type=int,
        help="Log more: all settings, each step with its time, reasons of errors.",
    ),
    click.option("--print-config", is_flag=True, help="Show the workflow with these settings, and do nothing."),
)
"""Options of how a workflow runs."""


def sharpness_option(default: str) -> Any:
    """The option of the sharpness, whose default the config of each workflow sets."""
    text = f"From the most faithful prediction (0) to the sharpest (1); {default}."
    return setting("sharpness", type=float, metavar="0..1", help=text)


OPTIONS = (
    sharpness_option("0.5 as shipped"),
    setting(
        "slice_thickness_mm",
        type=float,
        metavar="MM",
        help="Slice thickness, where header or sidecar are silent.",
    ),
    setting(
        "slice_profile",
        type=click.Choice(["auto", "rect", "slr", "gauss", "fourier"]),
        help="How a slice averages the tissue across it.",
    ),
    setting(
        "isotropic_spacing_mm",
        type=Spacing(),
        metavar="MM",
        help="Voxel size; by default the smaller in-plane one (stored); acquired: that before zero-filling.",
    ),
    setting("adapt", is_flag=True, help="First fine-tune the weights on these very scans, up to 10 minutes."),
    writing(OUTPUTS),
    *RUNNING,
)
"""Options of all commands that process scans."""


class Processing(click.Command):
    """A command that takes every setting of its workflow as an option: `--views [1]` is `--set views=[1]`.

    So the options that messages name work here as in `monai.bundle run`, with whose words they are written.
    """

    def key_of(self, option: str) -> str | None:
        """Return the key of the config that an option without a definition of its own sets; None for no setting."""
        return key if (key := _key(option)).split("::")[0] in _settings(CONFIG) else None

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Write the settings that have no option of their own as `--set KEY=VALUE`."""
        own = {_key(option) for parameter in self.params for option in parameter.opts}
        words, waiting = [], list(args)
        while waiting:
            word = waiting.pop(0)
            name, equals, value = word.partition("=")
            if name.startswith("--") and _key(name) not in own and (key := self.key_of(name)):
                if not equals:  # as Fire reads it
                    value = waiting.pop(0) if waiting and not re.match("--|-[A-Za-z]", waiting[0]) else "True"
                words += ["--set", f"{key}={value}"]
            else:
                words.append(word)
        return super().parse_args(ctx, words)


def _key(option: str) -> str:
    """The name of a setting, of an option as it is typed."""
    return option.removeprefix("--").replace("-", "_")


@functools.cache
def _settings(config: Path) -> dict[str, Any]:
    """A config as it stands."""
    return yaml.safe_load(config.read_text(encoding="utf-8"))


class Fusing(Processing):
    """A command for which settings of the stacks alone are options too; stacks.yaml has them under `inference`."""

    OF_A_STACK = (
        "rotations_deg",
        "sharpness",
        "slice_profile",
        "slice_thickness_mm",
        "through_plane_axis",
        "views",
        "weights_path",
    )

    def key_of(self, option: str) -> str | None:
        """Return the key of stacks.yaml."""
        if (key := _key(option)).split("::")[0] in _settings(STACKS):
            return key
        return f"inference::{key}" if key in self.OF_A_STACK else None


def processing(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of processing; it is called with what `_process` takes."""
    return _with(function, OPTIONS)


def _with(function: Callable[..., Any], options: Sequence[Any]) -> Callable[..., Any]:
    for option in reversed(options):
        function = option(function)
    return function


def scans_option(metavar: str, text: str) -> Callable[..., Any]:
    """Return the option -i, which may be given several times."""
    return click.option("-i", "--input", "scans", multiple=True, type=FOLDER, metavar=metavar, help=text)


@commands.command(DEFAULT, cls=Processing, hidden=True)
@scans_option("SCAN ...", "NIfTI, NRRD, MetaImage or MGH file, DICOM series, or folder; several too.")
@click.argument("more", nargs=-1, type=FOLDER)
@click.option(
    "-o", "--output", type=FOLDER, metavar="OUT", help="Folder of the results: a folder a scan, and summary.json."
)
@setting("like", type=FOLDER, metavar="FILE", help="Write the volumes on the grid of this NIfTI file.")
@processing
def run(scans: tuple[Path, ...], more: tuple[Path, ...], **options: Any) -> None:
    """Make isotropic volumes from thick-slice MR scans."""
    _process([*scans, *more], **options)


class BidsApp(Processing):
    """A command whose labels follow one option, as those of BIDS Apps do: --participant-label 01 02."""

    LABELS = ("--participant-label", "--participant_label", "--session-label", "--session_label")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat the option before each of its labels."""
        spread: list[str] = []
        option = None
        for word in args:
            if word.startswith("-"):
                option = word if word in self.LABELS else None
                spread += [] if option else [word]
            else:
                spread += [option, word] if option else [word]
        return super().parse_args(ctx, spread)


@commands.command("bids", cls=BidsApp)
@click.argument("dataset", type=FOLDER, metavar="BIDS_DIR")
@click.argument("output", type=FOLDER, metavar="OUT_DIR")
@click.argument("level", type=click.Choice(["participant"]), expose_value=False)
@click.option("--participant-label", "participants", multiple=True, metavar="LABEL ...", help="All by default.")
@click.option("--session-label", "sessions", multiple=True, metavar="LABEL ...", help="All by default.")
@processing
def bids(dataset: Path, output: Path, participants: tuple[str, ...], sessions: tuple[str, ...], **options: Any) -> None:
    """Make isotropic volumes of the anatomical scans of a BIDS data set, and write them as BIDS derivatives."""
    existing_paths([dataset])
    from glade.scripts.data.bids import bids_scans

    scans = bids_scans(dataset, participants or None, sessions or None)
    _process(scans, output=output, bids_dir=str(dataset.absolute()), **options)


@commands.command("fuse", cls=Fusing)
@scans_option(
    "STACK ...",
    "Stacks of one study: image files or DICOM series, or a folder of them; several too, the reference first.",
)
@click.argument("more", nargs=-1, type=FOLDER, metavar="STACK ...")
@click.option(
    "-o", "--output", type=FOLDER, metavar="OUT", help="Folder of the results: a folder a study, and summary.json."
)
@setting("reference", metavar="NAME", help="Stack that stays in place and gives units and orientation; else the first.")
@setting("isotropic_spacing_mm", type=float, metavar="MM", help="Voxel size; by default the finest of the stacks.")
@setting(
    "field_of_view", type=click.Choice(["reference", "union"]), help="Of the reference (default) or of all stacks."
)
@sharpness_option("0 by default, since other stacks measure what sharp weights would invent")
@writing(OUTPUTS_OF_STACKS)
@functools.partial(_with, options=RUNNING)
def fuse(
    scans: tuple[Path, ...], more: tuple[Path, ...], sharpness: float | None, pairs: tuple[str, ...], **options: Any
) -> None:
    """Make one isotropic volume of two or more stacks of a study: one contrast, several orientations.

    STACK is a NIfTI file or DICOM series, or a folder of them. NIfTI files are taken as one study; DICOM series are
    fused where study, frame of reference and contrast agree.
    """
    if not find_spec("itk"):
        raise Refusal("glade fuse needs itk: pip install 'glade-mri[stacks]'")
    if sharpness is not None:  # a setting of the single stacks; last, so that --set inference=... leaves it
        pairs = (*pairs, f"inference::sharpness={sharpness}")
    _process([*scans, *more], config=STACKS, pairs=pairs, **options)


def _process(
    scans: Sequence[Path],
    output: Path | None,
    device: str | None,
    threads: int | None,
    pairs: tuple[str, ...],
    log_level: int | None,
    print_config: bool,
    config: Path = CONFIG,
    **settings: Any,
) -> None:
    """Run a workflow on scans with these settings, or show it."""
    overrides = {key: value for key, value in settings.items() if value is not None}
    if device is not None:
        if not DEVICE.fullmatch(device):
            raise Refusal(f"device must be cpu, cuda or cuda:N, got {device}")
        overrides["device"] = f"$torch.device('{device}')"
    overrides |= _pairs(pairs)
    refuse_unknown_keys(overrides, _settings(config))
    if isinstance(overrides.get("like"), Path):
        overrides["like"] = str(_existing_image(overrides["like"]))
    if "write" in overrides:
        outputs = OUTPUTS_OF_STACKS if config == STACKS else OUTPUTS
        overrides["write"] = chosen_outputs(overrides["write"], outputs)
    _refuse_missing_packages(overrides)
    if scans:
        found = [str(path.absolute()) for path in existing_paths(scans)]
        overrides["dataset_dir"] = found[0] if len(found) == 1 else found
    if output is not None:
        refuse_unwritable(output)
        overrides["output_dir"] = str(output.absolute())
    if log_level == logging.WARNING:  # no bars either
        bars = ["progress"] if config == STACKS else ["inferer::progress", "dataloader::progress"]
        overrides |= dict.fromkeys(bars, False)
    if print_config:
        _print_config(config, overrides)
        return
    for key, option in (("dataset_dir", "-i SCAN"), ("output_dir", "-o OUT")):
        if key not in overrides:
            raise click.UsageError(f"{option} is missing")
    os.environ.update(thread_settings(os.environ, threads))  # before torch is loaded
    _run(config, overrides, device, logging.INFO if log_level is None else log_level)


def _existing_image(path: Path) -> Path:
    if not exists(path) or not path.is_file():
        raise Refusal(f"--like {path}: no such file: give the image whose grid is wanted")
    return path.absolute()


def _refuse_missing_packages(overrides: Mapping[str, Any]) -> None:
    """Refuse what needs packages that an extra of the installation brings.

    Raises:
        Refusal: the line names the extra.
    """
    asked = {"adapt"} if overrides.get("adapt") in (True, "true") else set()
    for name in sorted({*asked, *overrides.get("write", [])} & set(NEEDS)):
        extra, packages = NEEDS[name]
        absent = [package for package in packages if not find_spec(package)]
        if absent:
            option = f"--write {name}" if name in OUTPUTS else f"--{name}"
            raise Refusal(f"{option} needs {', '.join(absent)}: pip install 'glade-mri[{extra}]'")


@commands.command("list")
@click.argument("folders", nargs=-1, required=True, type=FOLDER)
def list_scans(folders: tuple[Path, ...]) -> int:
    """List the scans in folders (DICOM, NIfTI, NRRD, MetaImage, MGH): where they lie, which are usable, why not."""
    paths = existing_paths(folders if len(folders) > 1 else folders[0])
    _say_loading()
    from .listing import listed, table

    rows = list(listed(paths))
    click.echo(table(rows))
    if any(row.is_usable for row in rows):
        return 0
    click.echo("no scan is usable: the last column says why", err=True)
    return FAILED


def refuse_unwritable(folder: Path) -> None:
    """Refuse an output folder that cannot be made or written to, before anything is computed.

    Raises:
        Refusal: the line names it.
    """
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if exists(path))
    if not there.is_dir():
        raise Refusal(f"the output folder {folder} cannot be made: {there} is a file: give another one by -o")
    if not os.access(there, os.W_OK | os.X_OK):
        raise Refusal(f"the output folder {folder} cannot be written to (no permission): give another one by -o")


def _pairs(pairs: Sequence[str]) -> dict[str, Any]:
    """Settings of --set, their values read as by `monai.bundle run`."""
    from fire.parser import DefaultParseValue

    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise click.UsageError(f"--set takes KEY=VALUE, got {pair}")
        found[key] = DefaultParseValue(value)
    return found


def _print_config(config: Path, overrides: Mapping[str, Any]) -> None:
    from monai.bundle import ConfigParser

    parser = ConfigParser(ConfigParser.load_config_file(config))
    parser.update(dict(overrides))
    click.echo(yaml.safe_dump(parser.get(), sort_keys=False, width=120), nl=False)


def _run(config: Path, overrides: Mapping[str, Any], device: str | None = None, level: int = logging.INFO) -> None:
    """Run the workflow.

    Args:
        config: of the workflow.
        overrides: settings of the config.
        device: that was asked for, by name.
        level: of the log.

    Raises:
        Refusal: if the run cannot begin; MONAI may have wrapped it in errors of its own.
        SystemExit: with code 1, if a scan was refused or failed.
    """
    if level < logging.WARNING:
        _say_loading()
    from .workflow import bundle_workflow, refuse_absent_device

    refuse_absent_device(device)
    workflow = bundle_workflow(config, overrides)
    if level != logging.INFO:
        _set_log_level(level)  # after MONAI has read configs/logging.conf
    workflow.initialize()
    workflow.run()
    workflow.finalize()


def _say_loading() -> None:
    """Say that the command has begun: torch and MONAI take seconds to load, on a busy machine a minute."""
    click.echo(f"{NAME} {bundle_version()}: loading ...", err=True)


def _set_log_level(level: int) -> None:
    """Let the log show less, or more of this package and of MONAI; other packages below a warning stay out of it."""
    for handler in logging.getLogger().handlers:
        handler.setLevel(level)
    logging.getLogger(NAME).setLevel(level)
    logging.getLogger("monai").setLevel(max(level, logging.INFO))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 0, 1 for a scan or setting that is refused, 2 for a wrong option."""
    try:
        return commands.main(arguments, prog_name=NAME, standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError as error:  # its message is the help
        click.echo(error.format_message(), err=True)
        return WRONG_COMMAND_LINE
    except click.ClickException as error:
        return _refused(error.format_message(), WRONG_COMMAND_LINE)
    except click.Abort:
        sys.stderr.write(f"{INTERRUPTED}\n")
        return STOPPED
    except Exception as error:
        refusal = refusal_of(error)
        if refusal is None:
            raise
        return _refused(str(refusal), FAILED)


def _refused(line: str, code: int) -> int:
    sys.stdout.flush()
    sys.stderr.write(f"refused: {one_line(line)}\n")
    return code
