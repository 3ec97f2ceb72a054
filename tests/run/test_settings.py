import sys
from pathlib import Path

import pytest

from scripts.geometry.checks import flag
from scripts.geometry.errors import Refusal
from scripts.run.settings import refuse_unknown_overrides, show_refusals_in_one_line

MAIN = "/env/lib/monai/bundle/__main__.py"
CONFIG = """
output_dir: out
dataset_dir: scans
window: [64, 64]
steps: [1, 2]
inferer:
  _target_: monai.inferers.SlidingWindowInferer
  roi_size: "@window"
table: {a: 1, b: {c: 2}}
reference: "@table"
"""


@pytest.fixture
def check(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    (tmp_path / "a.yaml").write_text(CONFIG)
    (tmp_path / "b.yaml").write_text("extra: 1\n+table: {d: 3}\n")

    def run(*arguments, files="a.yaml", command="run"):
        config = files if files.startswith("[") else str(tmp_path / files)
        refuse_unknown_overrides([MAIN, command, "inference", "--config_file", config, *arguments])

    run.folder = tmp_path
    return run


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--output_dir", "x", "--dataset_dir=y", "--workflow_type", "inference", "--logging_file", "False"),
        ("--inferer::overlap", "0.5"),
        ("--inferer#roi_size", "[8,8]"),
        ("--table::b::c", "-5", "--steps::1", "4", "--reference::a", "2"),
        ("--output-dir", "x"),
        ("--+steps", "[3]"),
        ("--output_dir", "x", "--", "--trace"),
    ],
)
def test_settings_that_exist_are_taken(check, arguments):
    check(*arguments)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("--outputdir", "x"), "did you mean output_dir"),
        (("--output_dri=x",), "did you mean output_dir"),
        (("--tpyo", "3"), "no setting is called tpyo"),
        (("--zzz",), "the config lists them"),
        (("--table::b::cc", "1"), "did you mean table::b::c"),
        (("--tabel::a", "1"), "did you mean table"),
        (("--steps::2", "4"), "items 0 to 1"),
    ],
)
def test_settings_that_do_not_exist_are_refused_with_the_nearest(check, arguments, hint):
    with pytest.raises(Refusal, match=hint):
        check(*arguments)


def test_a_path_that_fire_reads_as_a_number_is_refused(check):
    with pytest.raises(Refusal, match=r"output_dir is a path, and 20261126 is read as a number: write \./20261126"):
        check("--output_dir", "20261126")
    check("--output_dir", "./20261126")


def test_none_which_monai_ignores_is_refused_where_a_setting_has_a_value(check):
    with pytest.raises(Refusal, match=r"--table::b::c None: MONAI leaves .* write --table::b::c '\$None'"):
        check("--table::b::c", "None")
    check("--table::b::c", "$None")


def test_several_config_files_count_together(check):
    files = f"['{check.folder / 'a.yaml'}','{check.folder / 'b.yaml'}']"
    check("--extra", "2", "--table::d", "4", files=files)
    with pytest.raises(Refusal, match="did you mean extra"):
        check("--extar", "2", files=files)


def test_an_args_file_counts_too(check):
    (check.folder / "args.yaml").write_text(f"config_file: {check.folder / 'a.yaml'}\noutput_dirr: x\n")
    with pytest.raises(Refusal, match="did you mean output_dir"):
        refuse_unknown_overrides([MAIN, "run", "--args_file", str(check.folder / "args.yaml")])


def test_a_key_that_stands_twice_is_refused(check):
    (check.folder / "twice.yaml").write_text("a: 1\na: 2\n")
    with pytest.raises(Refusal, match="Duplicate key: `a`"):
        check(files="twice.yaml")


@pytest.mark.parametrize("argv", [["pytest", "--tpyo", "3"], [MAIN], [MAIN, "verify_metadata", "--tpyo", "3"]])
def test_other_commands_are_left_alone(argv):
    refuse_unknown_overrides(argv)


@pytest.fixture
def shown(monkeypatch):
    monkeypatch.setattr(sys, "argv", [MAIN, "run", "inference"])
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    show_refusals_in_one_line()


def test_nothing_is_installed_outside_of_the_command(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pytest"])
    before = sys.excepthook
    show_refusals_in_one_line()
    assert sys.excepthook is before


@pytest.mark.usefixtures("shown")
def test_a_refusal_reaches_the_terminal_as_one_line(capsys):
    try:
        try:
            raise Refusal("a.nii.gz: too thin")
        except Refusal as error:
            raise RuntimeError("Failed to instantiate\n component") from error
    except RuntimeError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    assert capsys.readouterr().err == "refused: a.nii.gz: too thin\n"


@pytest.mark.usefixtures("shown")
def test_other_errors_keep_their_traceback(capsys):
    sys.excepthook(KeyError, KeyError("x"), None)
    assert "KeyError: 'x'" in capsys.readouterr().err


def test_this_is_how_monai_names_itself():
    import monai.bundle

    assert Path(monai.bundle.__file__).with_name("__main__.py").parts[-3:] == ("monai", "bundle", "__main__.py")


def test_words_of_the_command_line_are_true_or_false_and_nothing_else():
    assert [flag(value, "adapt") for value in (True, "true", "True")] == [True] * 3
    assert [flag(value, "adapt") for value in (False, "false", "False")] == [False] * 3
    for value in ("no", 1, None, ""):
        with pytest.raises(Refusal, match=r"adapt must be true or false, .* give true or false"):
            flag(value, "adapt")
