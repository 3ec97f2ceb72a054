"""The model zoo's checks, and that they can fail."""

import json
import logging
from pathlib import Path

import jsonschema
import onnxruntime
import pytest
import torch

from apps.zoo import __main__ as command
from apps.zoo import checks, exports
from apps.zoo.metadata_schema import SCHEMA
from tests.learning.test_generator import trained, trained_on_volumes

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def logging_back():
    yield
    logging.disable(logging.NOTSET)  # the commands keep MONAI quiet


@pytest.mark.parametrize("name", checks.CHECKS)
def test_the_bundle_passes(name):
    assert checks.CHECKS[name]()


@pytest.fixture
def copied(tmp_path, monkeypatch) -> Path:
    """The bundle's configs, documents and weights, to be spoiled."""
    for name in ("configs", "docs", "models"):
        (tmp_path / name).mkdir()
        for path in (checks.BUNDLE / name).glob("*.*"):
            (tmp_path / name / path.name).symlink_to(path)
    for module in (checks, exports):
        monkeypatch.setattr(module, "BUNDLE", tmp_path)
        monkeypatch.setattr(module, "CONFIG", tmp_path / "configs" / "inference.yaml")
        monkeypatch.setattr(module, "METADATA", tmp_path / "configs" / "metadata.json")
    return tmp_path


def spoil(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.unlink()
    path.write_text(text.replace(old, new), encoding="utf-8")


CHANNELS = json.loads(exports.METADATA.read_text())["network_data_format"]["inputs"]["image"]["num_channels"]
METADATA, INFERENCE, TRAINING = "configs/metadata.json", "configs/inference.yaml", "configs/train.yaml"
JSON = "configs/inference.json"
SPOILED = [
    (checks.readme, "docs/README.md", "## Limitations", "## Horoscope", "sections absent: Limitations"),
    (checks.readme, "docs/README.md", "TensorRT", "it", "does not say whether it supports: TensorRT"),
    (checks.naming, METADATA, '"name":', '"title":', "no `name`"),
    (checks.naming, INFERENCE, "/models/model.pt", "/home/me/model.pt", "personal paths in: inference.yaml"),
    (checks.naming, INFERENCE, 'root: "$find_bundle()"', 'root: "glade"', r"bundle_root is not .* in: inference.yaml"),
    (checks.version, METADATA, '"changelog": {', '"changelog": {}, "before": {', "is not in the changelog"),
    (checks.version, METADATA, '"pydicom": "', '"pydicom": "0.', "another version is installed of: pydicom"),
    (checks.version, METADATA, '"supported_apps": {', '"supported_apps": {"x": 1,', "apps without a version: x"),
    (checks.metadata_format, METADATA, '"authors":', '"author":', "'authors' is a required property"),
    (checks.keys, TRAINING, "val_interval:", "interval:", "train.yaml lacks: val_interval"),
    (checks.json_equals_yaml, INFERENCE, "overlap: 0.25", "overlap: 0.5", "make json"),
    (checks.properties_of_inference, JSON, '"inferer": {', '"inferrer": {', "inferer"),
    (checks.network_in_out, METADATA, f'"num_channels": {CHANNELS},', f'"num_channels": {CHANNELS - 1},', "channels"),
]


@pytest.mark.parametrize(("check", "file", "old", "new", "line"), SPOILED)
def test_a_check_says_what_it_misses(copied, check, file, old, new, line):
    assert check()
    spoil(copied / file, old, new)
    with pytest.raises(Exception, match=line):
        check()


@pytest.mark.parametrize(
    ("check", "limit", "value", "line"),
    [
        (checks.sizes, "LARGEST_MB", 0.1, "large_files.yml: .*models/model.pt"),
        (checks.files, "FILES", ("NOTICE",), "absent: NOTICE"),
        (checks.torchscript, "TORCH_TOLERANCE", -1, "differs from the eager network"),
        (checks.onnx, "ONNX_TOLERANCE", -1, "differs from the eager network"),
    ],
)
def test_a_check_keeps_to_its_limit(monkeypatch, check, limit, value, line):
    monkeypatch.setattr(checks, limit, value)
    with pytest.raises(checks.Missed, match=line):
        check()


def test_the_command_lists_every_check_and_fails_with_one(monkeypatch, capsys):
    def broken():
        raise checks.Missed("the\nreason")

    monkeypatch.setattr(command, "CHECKS", {"first": lambda: "fine", "second": broken, "third": lambda: "fine"})
    assert command.main() == 1
    lines = capsys.readouterr().out.splitlines()
    monkeypatch.setattr(command, "CHECKS", {"first": lambda: "fine"})
    assert command.main() == 0
    assert [line.split() for line in lines] == [
        ["first", "passed", "fine"],
        ["second", "FAILED", "Missed:", "the", "reason"],
        ["third", "passed", "fine"],
        ["3", "checks,", "1", "failed"],
    ]


IMAGE = ("network_data_format", "inputs", "image")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("version",), None),
        (("network_data_format",), None),
        (("network_data_format", "outputs"), None),
        ((*IMAGE, "dtype"), None),
        ((*IMAGE, "num_channels"), "five"),
        ((*IMAGE, "spatial_shape"), [1.5]),
        ((*IMAGE, "value_range"), ["low"]),
        (("references",), [1]),
        (("changelog",), "first"),
        (("second_data_format",), {"inputs": {}}),
    ],
)
def test_the_rules_of_the_schema_find_what_is_wrong(path, value):
    bad = exports.metadata()
    jsonschema.validate(bad, SCHEMA)
    part = bad
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    if value is None:
        del part[path[-1]]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(bad, SCHEMA)


def test_scripting_folds_a_copy_and_leaves_the_network_as_it_is():
    network = trained()
    names = set(network.state_dict())
    script = torch.jit.script(network)
    assert set(script.state_dict()) == set(network.folded().state_dict()) != names
    assert set(network.state_dict()) == names


def test_the_exports_are_at_the_dials_setting(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["exports", str(tmp_path / "out"), "--sharpness", "0.25"])
    exports.main()
    script, onnx = map(Path, capsys.readouterr().out.split())
    assert {path.name for path in (tmp_path / "out").iterdir()} == {script.name, onnx.name}
    x = exports.random_input(exports.shipped_generator(0), 2, 37, 40)
    with torch.no_grad():
        expected, faithful = exports.shipped_generator(0.25)(x), exports.shipped_generator(0)(x)
        assert (torch.jit.load(script)(x) - expected).abs().max() < checks.TORCH_TOLERANCE
    (prediction,) = onnxruntime.InferenceSession(onnx).run(None, {exports.INPUT: x.numpy()})
    assert abs(torch.from_numpy(prediction) - expected).max() < checks.TORCH_TOLERANCE
    assert (faithful - expected).abs().max() > 100 * checks.TORCH_TOLERANCE


def test_onnx_of_a_generator_of_volumes_takes_volumes_of_other_sizes(tmp_path):
    network = trained_on_volumes()
    exports.to_onnx(network, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for size in ((5, 37, 40), (9, 24, 31)):
        x = exports.random_input(network, *size)
        (prediction,) = session.run(None, {exports.INPUT: x.numpy()})
        with torch.no_grad():
            expected = network(x)
        assert prediction.shape == (1, 1, *size)
        assert abs(torch.from_numpy(prediction) - expected).max() < checks.TORCH_TOLERANCE
        assert (expected - x[:, :1]).abs().max() > 100 * checks.TORCH_TOLERANCE


@pytest.mark.parametrize("sharpness", ["2", "-0.1"])
def test_a_dial_out_of_range_is_one_line(tmp_path, monkeypatch, sharpness):
    monkeypatch.setattr("sys.argv", ["exports", str(tmp_path / "out"), "--sharpness", sharpness])
    with pytest.raises(SystemExit, match="sharpness must be between 0"):
        exports.main()
    assert not list(tmp_path.iterdir())
