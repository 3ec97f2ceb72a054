"""The command `glade`: the workflow of `monai.bundle run inference`, options, refusals in one line at once."""

import json
import os
import re
import subprocess
import sys
import time

import monai.bundle
import pytest
import torch
import yaml

import glade
from glade import cli, workflow
from tests.conftest import ROOT

from ..data.thick_scans import write_scan

CONFIG = ROOT / "configs" / "inference.yaml"
HEAVY = ("torch", "monai", "numpy", "nibabel", "pydicom", "scipy")


@pytest.fixture
def scan(tmp_path):
    return write_scan(tmp_path / "scans" / "knee.nii.gz")


def of_stacks(config):
    """What tells that the workflow is that of stacks."""
    return {"workflow": config.name} if config != CONFIG else {}


@pytest.fixture
def ran(monkeypatch):
    """What the command hands to the workflow, which is not run; the environment is put back."""
    found = {}
    monkeypatch.setattr(cli, "_run", lambda config, overrides, *_: found.update(overrides, **of_stacks(config)))
    ours = ("OMP_", "KMP_", "GOMP_")
    monkeypatch.setattr(os, "environ", {k: v for k, v in os.environ.items() if not k.startswith(ours)})
    return found


def test_options_become_overrides_of_the_workflow(scan, tmp_path, ran):
    line = f"-i {scan} -o {tmp_path}/out --sharpness 0 --device cpu --slice_profile rect --set views=[1]"
    line += " --write volume,added-detail"
    assert (
        cli.main(
            [
                *line.split(),
                "--set",
                "trained_range::factor=[2, 9]",
                "--slice-thickness-mm",
                "3",
            ]
        )
        == 0
    )
    assert ran == {
        "dataset_dir": str(scan),
        "output_dir": f"{tmp_path}/out",
        "sharpness": 0.0,
        "device": "$torch.device('cpu')",
        "slice_profile": "rect",
        "slice_thickness_mm": 3.0,
        "write": ["volume", "added_detail"],
        "views": [1],
        "trained_range::factor": [2, 9],
    }


def settings_of_the_workflow() -> list[str]:
    """Those that a user may give: plain values and expressions, no objects."""
    config = yaml.safe_load(CONFIG.read_text())
    return [key for key, value in config.items() if not isinstance(value, (dict, list)) and key != "run"]


@pytest.mark.parametrize("spelling", [str, lambda key: key.replace("_", "-")])
def test_every_setting_is_an_option_as_in_monai_bundle_run(scan, tmp_path, ran, spelling):
    """The messages of the workflow name settings as its options."""
    flags = {parameter.name for parameter in cli.run.params if getattr(parameter, "is_flag", False)}
    own = {parameter.name for parameter in cli.run.params} | {"dataset_dir", "output_dir", "device"}
    others = [key for key in settings_of_the_workflow() if key not in own]
    assert len(others) > 15
    assert {"through_plane_axis", "frames", "weights_path", "largest_result_voxels"} <= set(others)
    line = ["-i", str(scan), "-o", str(tmp_path / "out")]
    for key in others:
        ran.clear()
        value = "a/b" if key.endswith(("_path", "_dir", "bundle_root")) else "2"
        assert cli.main([*line, f"--{spelling(key)}", value]) == 0
        assert ran.pop(key) == (value if "/" in value else 2)
        assert set(ran) == {"dataset_dir", "output_dir"}
        assert cli.main([*line, f"--{spelling(key)}={value}", "--redo"]) == 0
        assert ran[key] == (value if "/" in value else 2)
        assert ran["redo"] is True
    assert "redo" in flags
    assert cli.main([*line, "--keep_names", "--trained_range::factor", "[2, 9]", "--window", "[-1, 64]"]) == 0
    assert (ran["keep_names"], ran["trained_range::factor"], ran["window"]) == (True, [2, 9], [-1, 64])


def test_every_setting_has_its_own_value_unless_it_is_given(scan, tmp_path, ran):
    assert cli.main(["-i", str(scan), "-o", str(tmp_path / "out")]) == 0
    assert set(ran) == {"dataset_dir", "output_dir"}


def test_several_scans_follow_one_option(scan, tmp_path, ran):
    other = write_scan(tmp_path / "b.nii.gz")
    assert cli.main(["-i", str(scan), str(other), "-o", str(tmp_path / "out")]) == 0
    assert ran["dataset_dir"] == [str(scan), str(other)]
    assert cli.main(["-i", str(scan), "-i", str(other), "-o", str(tmp_path / "out")]) == 0
    assert ran["dataset_dir"] == [str(scan), str(other)]


@pytest.mark.parametrize("words", [["fuse"], ["fuse", "-i"]])
def test_fuse_runs_the_workflow_of_stacks(scan, tmp_path, ran, words):
    other = write_scan(tmp_path / "b.nii.gz")
    options = [
        "-o",
        str(tmp_path / "out"),
        "--field-of-view",
        "union",
        "--reference",
        "b",
        "--set",
        "registration=False",
    ]
    assert cli.main([*words, str(scan), str(other), *options]) == 0
    assert ran == {
        "workflow": "stacks.yaml",
        "dataset_dir": [str(scan), str(other)],
        "output_dir": f"{tmp_path}/out",
        "field_of_view": "union",
        "reference": "b",
        "registration": False,
    }


def test_fuse_writes_what_is_chosen_also_what_only_it_has(scan, tmp_path, ran, capsys):
    options = ["-o", str(tmp_path / "out"), "--write"]
    assert cli.main(["fuse", str(scan), *options, "residual,added-detail"]) == 0
    assert ran["write"] == ["added_detail", "residual"]
    assert cli.main(["-i", str(scan), *options, "residual"]) == 1
    line = "refused: write must name what is wanted of volume, added_detail, uncertainty, dicom, report, or all"
    assert line in capsys.readouterr().err


def test_quiet_shows_no_bars(scan, tmp_path, ran):
    assert cli.main(["fuse", str(scan), "-o", str(tmp_path / "out"), "--quiet"]) == 0
    assert ran.pop("progress") is False
    assert cli.main(["-i", str(scan), "-o", str(tmp_path / "out"), "--quiet"]) == 0
    assert (ran["inferer::progress"], ran["dataloader::progress"]) == (False, False)


def test_settings_of_fuse_and_of_its_stacks_are_options(scan, tmp_path, ran):
    options = ["--floor", "0.5", "--slice_thickness_mm", "4", "--through-plane-axis=2", "--sharpness", "0.25"]
    assert cli.main(["fuse", str(scan), "-o", str(tmp_path / "out"), *options]) == 0
    assert {key: value for key, value in ran.items() if key.startswith(("floor", "inference"))} == {
        "floor": 0.5,
        "inference::sharpness": 0.25,
        "inference::slice_thickness_mm": 4,
        "inference::through_plane_axis": 2,
    }


def test_fuse_refuses_a_setting_that_only_other_workflows_have(scan, tmp_path, ran, capsys):
    assert cli.main(["fuse", str(scan), "-o", str(tmp_path / "out"), "--set", "adapt=True"]) == 1
    assert "no setting is called adapt" in capsys.readouterr().err
    assert not ran


def test_threads_are_set_before_torch_is_loaded(scan, tmp_path, ran):
    assert cli.main(["-i", str(scan), "-o", str(tmp_path / "out"), "--threads", "3"]) == 0
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert os.environ["GOMP_SPINCOUNT"] == "1000"
    assert ran


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        ("-i {tmp}/nothing -o {tmp}/out", 1, "refused: no such file or folder: {tmp}/nothing: give the path"),
        ("-i {scan} {tmp}/nothing -o {tmp}/out", 1, "refused: no such file or folder: {tmp}/nothing"),
        ("-i {scan} -o {scan}", 1, "refused: the output folder {scan} cannot be made: {scan} is a file"),
        ("-i {scan} -o {scan}/a/b", 1, "refused: the output folder {scan}/a/b cannot be made: {scan} is a file"),
        ("-i {scan} -o {tmp}/out --device gpu", 1, "refused: device must be cpu, cuda or cuda:N, got gpu"),
        ("-i {scan} -o {tmp}/out --set sharpnes=0", 1, "no setting is called sharpnes: did you mean sharpness?"),
        ("-i {scan} -o {tmp}/out --set weights_path=3", 1, "weights_path is a path, and 3 is read as a number"),
        ("-i {scan} -o {tmp}/out --set sharpness", 2, "refused: --set takes KEY=VALUE, got sharpness"),
        ("-i {scan} -o {tmp}/out --like {tmp}/no.nii", 1, "refused: --like {tmp}/no.nii: no such file: give the image"),
        ("-i {scan} -o {tmp}/out --sharpnes 0", 2, "refused: No such option '--sharpnes'"),
        ("-i {scan} -o {tmp}/out --threads 0", 2, "'--threads'"),
        ("-i {scan} -o {tmp}/out --slice-profile box", 2, "'box' is not one of"),
        ("-i {scan}", 2, "refused: -o OUT is missing"),
        ("-o {tmp}/out", 2, "refused: -i SCAN is missing"),
        ("lst {scan}", 2, "refused: no command is called lst"),
        ("list", 2, "refused: Missing argument"),
        ("list {tmp}/nothing", 1, "refused: no such file or folder"),
    ],
)
def test_a_wrong_command_line_is_refused_in_one_line(scan, tmp_path, ran, capsys, arguments, code, line):
    given = [word.format(tmp=tmp_path, scan=scan) for word in arguments.split()]
    assert cli.main(given) == code
    error = capsys.readouterr().err
    assert line.format(tmp=tmp_path, scan=scan) in error
    assert error.count("\n") == 1
    assert ran == {}
    assert not (tmp_path / "out").exists()


def test_a_refusal_needs_no_heavy_package(tmp_path):
    """The seconds until a wrong path or option is refused are those of Python's own start and of click."""
    code = f"import sys, glade.cli; glade.cli.main(sys.argv[1:]); print(sorted(set({HEAVY}) & set(sys.modules)))"
    for arguments in (["-i", "nothing", "-o", "out"], ["-i", ".", "-o", "out", "--tpyo"], ["--help"]):
        ended = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert ended.stdout.splitlines()[-1] == "[]"


def test_help_names_the_options_and_the_commands(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("-i SCAN", "--sharpness", "--threads", "--set", "--print-config", "list"))
    assert "-h, --help" in text
    words = " ".join(text.split())
    assert "of the anatomical scans of a BIDS data set, and write them as BIDS derivatives." in words
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"glade, version {glade.__version__}\n"


def test_help_of_fuse_names_the_sharpness_and_its_own_default(capsys):
    default = yaml.safe_load((ROOT / "configs" / "stacks.yaml").read_text())["inference"]["sharpness"]
    assert cli.main(["fuse", "--help"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert (
        f"--sharpness 0..1 From the most faithful prediction (0) to the sharpest (1); {default:g} by default" in words
    )


def test_print_config_shows_the_workflow_with_the_settings(scan, tmp_path, ran, capsys):
    assert cli.main(["-i", str(scan), "--print-config", "--set", "trained_range::factor=[2, 9]"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    shipped = yaml.safe_load(CONFIG.read_text())
    shipped["dataset_dir"] = str(scan)
    shipped["trained_range"]["factor"] = [2, 9]
    assert shown == shipped
    assert ran == {}


def test_every_scripts_reference_of_the_config_gets_the_name_it_has_in_the_package():
    parser = workflow.bundle_parser({})
    text = json.dumps(parser.get())
    assert text.count("glade.scripts.") > 20
    assert text.replace("glade.scripts.", "").count("scripts.") == 0


def test_results_are_those_of_monai_bundle_run(tiny, scan, tmp_path):
    settings = {"sharpness": 0.0, "views": [1], "slice_thickness_mm": 3.0}
    monai.bundle.run(
        "inference",
        config_file=tiny,
        logging_file=False,
        dataset_dir=str(scan),
        output_dir=str(tmp_path / "monai"),
        **settings,
    )
    options = ["--sharpness", "0", "--set", "views=[1]", "--slice-thickness-mm", "3"]
    assert cli.main(["-i", str(scan), "-o", str(tmp_path / "glade"), *options]) == 0
    written = {
        folder: {p.name: p.read_bytes() for p in (tmp_path / folder / "knee").iterdir()}
        for folder in ("monai", "glade")
    }
    assert sum(name.endswith(".nii.gz") for name in written["monai"]) == 3
    assert written["monai"] == written["glade"]
    rows = [json.loads((tmp_path / folder / "summary.json").read_text())["cases"][0] for folder in ("monai", "glade")]
    assert rows[0]["settings"] == rows[1]["settings"]


def test_a_refused_scan_gives_exit_code_1_and_the_others_are_done(tiny, scan, tmp_path):
    (scan.parent / "bad.nii.gz").write_text("hello")
    with pytest.raises(SystemExit) as stop:
        cli.main(["-i", str(scan.parent), "-o", str(tmp_path / "out"), "--sharpness", "0"])
    assert stop.value.code == 1
    rows = {row["case"]: row["status"] for row in json.loads((tmp_path / "out/summary.json").read_text())["cases"]}
    assert rows == {"knee": "done", "bad": "refused"}


@pytest.mark.parametrize(
    ("setting", "line"),
    [("views=[2]", "refused: views must be [0], [1] or [0, 1], got [2]"), ("redo=maybe", "redo must be true or false")],
)
def test_a_wrong_value_is_refused_in_one_line(tiny, scan, tmp_path, capsys, setting, line):
    assert cli.main(["-i", str(scan), "-o", str(tmp_path / "out"), "--sharpness", "0", "--set", setting]) == 1
    assert line in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("name", ["gpu", "xla", "meta", "cuda:999", "cuda:300"])
def test_a_device_that_torch_does_not_have_is_refused(name):
    with pytest.raises(ValueError, match=f"^device {name}: "):
        workflow.refuse_absent_device(name)


def test_a_gpu_that_is_not_there_is_refused_in_one_line(tiny, scan, tmp_path, capsys):
    assert cli.main(["-i", str(scan), "-o", str(tmp_path / "out"), "--device", "cuda"]) == 1
    assert "refused: device cuda: torch finds no such GPU" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "package", "extra"), [("--write report", "skimage", "evaluate"), ("--adapt", "tensorboard", "train")]
)
def test_an_option_whose_packages_are_absent_is_refused(
    scan, tmp_path, ran, monkeypatch, capsys, option, package, extra
):
    monkeypatch.setattr(cli, "find_spec", lambda name: None if name == package else name)
    assert cli.main(["-i", str(scan), "-o", str(tmp_path / "out"), *option.split()]) == 1
    assert capsys.readouterr().err == f"refused: {option} needs {package}: pip install 'glade-mri[{extra}]'\n"
    assert ran == {}
    assert cli.main(["-i", str(scan), "-o", str(tmp_path / "out")]) == 0


def test_list_shows_what_is_usable(tmp_path, capsys):
    from scripts.dicom.synthetic_series import write_series

    from ..dicom.conftest import AFFINES, phantom

    write_series(tmp_path / "study", phantom(), AFFINES["oblique"])
    assert cli.main(["list", str(tmp_path)]) == 0
    assert "1 scan, 1 usable" in capsys.readouterr().out


def test_ctrl_c_ends_with_its_exit_code(scan, tmp_path, monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run", stop)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    assert cli.main(["-i", str(scan), "-o", str(tmp_path / "out")]) == 130
    line = "interrupted: what is complete is kept; what was in hand, such as all stacks of a study, begins again with"
    assert capsys.readouterr().err.strip() == f"{line} the same command"


@pytest.mark.slow
def test_a_wrong_path_is_refused_within_two_seconds(tmp_path):
    command = [sys.executable, "-m", "glade", "-i", "nothing", "-o", "out"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def seconds(command) -> float:
        begun = time.perf_counter()
        subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
        return time.perf_counter() - begun

    # a machine with other work takes longer for anything: the limit grows with what Python itself takes to start
    ratios = [seconds(command) / seconds([sys.executable, "-c", "pass"]) for _ in range(5)]
    assert sorted(ratios)[2] < 20 or min(seconds(command) for _ in range(3)) < 2


def test_without_arguments_the_help_is_shown_as_it_is(capsys):
    assert cli.main([]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("Usage: glade -i SCAN")
    assert "refused" not in shown
    assert len(shown.splitlines()) > 20


@pytest.mark.parametrize(("option", "shown"), [("--quiet", False), ("--verbose", True)])
def test_quiet_leaves_errors_alone(tiny, scan, tmp_path, capsys, option, shown):
    flat = write_scan(tmp_path / "scans" / "isotropic.nii.gz", spacing=(1.0, 1.0, 1.0))
    with pytest.raises(SystemExit):
        cli.main(["-i", str(scan), str(flat), "-o", str(tmp_path / "out"), option])
    log = capsys.readouterr().out
    assert ("through-plane axis" in log) == ("done in" in log) == ("1 refused" in log) == shown
    assert "isotropic: refused" in log


def test_verbose_shows_the_settings_and_each_step_with_its_time(tiny, scan, tmp_path, capsys):
    assert cli.main(["-i", str(scan), "-o", str(tmp_path / "out"), "--verbose", "--sharpness", "0"]) == 0
    log = capsys.readouterr().out
    assert re.search(r"DEBUG settings: .*sharpness 0.0, .*views \[0, 1\]", log)
    assert re.search(r"DEBUG cpu, \d+ threads?; torch .*, MONAI ", log)
    steps = ["LoadImageCased", "AcceptScand", "InterpolateSlicesd", "the network", "DataConsistencyd", "SaveImageCased"]
    places = [re.search(rf"DEBUG knee.nii.gz: {step} took \d+\.\d\d s", log).start() for step in steps]
    assert places == sorted(places)
    assert cli.main(["-i", str(scan), "-o", str(tmp_path / "other"), "--sharpness", "0"]) == 0
    assert "DEBUG" not in capsys.readouterr().out


def test_the_first_line_comes_before_torch_is_loaded(scan, tmp_path):
    """Loading takes seconds, on a busy machine a minute."""
    code = (
        "import builtins, sys, glade.cli\n"
        "own = builtins.__import__\n"
        "def stop(name, *more):\n"
        "    if name.split('.')[0] == 'torch': sys.exit('torch is loaded now')\n"
        "    return own(name, *more)\n"
        "builtins.__import__ = stop\n"
        "glade.cli.main(sys.argv[1:])"
    )
    for words, first in ((["-i", str(scan), "-o", "out"], True), (["list", str(scan)], True), (["-q"], False)):
        words = words if first else ["-i", str(scan), "-o", "out", *words]
        ended = subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        line = f"glade {glade.__version__}: loading ...\n"
        assert ended.stderr == line * first + "torch is loaded now\n"
