"""configs: strict YAML, no key without use or comment, nothing points downward, one generator for all."""

import re

import pytest
from monai.bundle import ConfigParser
from monai.bundle.properties import InferProperties, TrainProperties
from monai.utils import BundlePropertyConfig

from tests.conftest import ROOT

from .config_files import BASES, CONFIGS, OVERLAYS, load, resolved, walk

RUNS = {"imports", "training", "inference", "evaluation", "stacks", "study", "study_scores", "run"}
SPEAK_FOR_THEMSELVES = {"bundle_root", "device", "batch_size", "validation_patches", "max_epochs"}
LONGEST_EXPRESSION = 120
PROPERTIES = {p[BundlePropertyConfig.ID].split("::")[0] for p in (TrainProperties | InferProperties).values()}


@pytest.fixture(autouse=True)
def strictly(monkeypatch):
    monkeypatch.setenv("MONAI_FAIL_ON_DUPLICATE_CONFIG", "1")
    monkeypatch.chdir(ROOT)  # train.yaml takes the generator from configs/inference.yaml


@pytest.mark.parametrize("name", CONFIGS)
def test_no_key_stands_twice(name):
    assert load(name)  # MONAI raises on a key that does


def references(part) -> set[str]:
    """The top-level keys that a part of a config refers to."""
    texts = [value for _, value in walk(part) if isinstance(value, str) and value[:1] in "@$%"]
    return {key for text in texts for key in re.findall(r"(?:@|^%)(\w+)", text)}


@pytest.mark.parametrize("name", BASES)
def test_every_key_is_used(name):
    config = load(name)
    used = {key for own, part in config.items() for key in references(part) - {own}}
    assert [key for key in config if key not in used | PROPERTIES | RUNS] == []


def settings(config: dict):
    """How the line of each setting begins: plain values at the top, and the weights of the loss."""
    for key, value in config.items():
        plain = not any(isinstance(part, dict) for _, part in walk(value))
        computed = str(value).startswith("$") and "(" in str(value)
        if plain and not computed and key not in RUNS | SPEAK_FOR_THEMSELVES:
            yield f"{key}:"
        elif key == "weights":
            yield from (f"  {term}:" for term in value)


@pytest.mark.parametrize("name", BASES)
def test_every_setting_is_commented(name):
    lines = (ROOT / "configs" / name).read_text(encoding="utf-8").splitlines()
    found = [line for start in settings(load(name)) for line in lines if line.startswith(start)]
    assert len(found) > 10
    assert [line for line in found if not re.search(r"\s# \S", line)] == []


@pytest.mark.parametrize("name", BASES)
def test_a_setting_that_is_true_or_false_is_read_as_one(name):
    """`--consistent false` comes as text, and any text counts as true; a refusal names the setting."""
    config = load(name)
    flags = {key for key, value in config.items() if isinstance(value, bool)} - {"keep_names"}  # find_series reads it
    texts = [part for _, part in walk(config) if isinstance(part, str) and part[:1] in "@$"]
    bare = [
        t
        for t in texts
        if flags & set(re.findall(r"@(\w+)", re.sub(r"flag\(@(\w+), '\1'\)|redo_mode\(@redo\)", "", t)))
    ]
    assert bare == []


def test_inference_reads_downward():
    above = set()
    for key, part in load("inference.yaml").items():
        below = references(part) - above - {key}
        assert key in RUNS or not below, f"{key} refers to {sorted(below)} further down"
        above.add(key)


@pytest.mark.parametrize("name", CONFIGS)
def test_expressions_are_short_and_name_no_function(name):
    texts = [(path, part) for path, part in walk(load(name)) if isinstance(part, str) and part.startswith("$")]
    assert [path for path, text in texts if len(text) >= LONGEST_EXPRESSION or re.search(r"\blambda\b", text)] == []


@pytest.mark.parametrize(("name", "base"), OVERLAYS.items())
def test_an_overlay_overrides_only_what_is_there(name, base):
    parser = ConfigParser(load(base))
    for key, value in load(name).items():
        assert key in parser, f"{name}: {base} has no {key}"
        there = parser[key]
        if isinstance(value, dict) and isinstance(there, dict) and "_target_" not in value:
            assert value.keys() == there.keys(), f"{name}: {key}"


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_can_be_read_from_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MONAI looks for the file of a macro, %file, from here
    assert resolved(name)


def test_training_and_inference_have_one_generator():
    assert resolved("train.yaml")["network_def"] == resolved("inference.yaml")["network_def"]


NO_RESULT_DEPENDS_ON = {  # settings of inference.yaml that change no voxel and no header
    "bundle_root", "dataset_dir", "output_dir",  # where input, output and the bundle are
    "keep_names", "frames",  # which cases there are and what they are called; the fingerprint of a case holds its frame
    "batch",  # how much is computed at once
    "redo", "device", "write", "outputs", "bids_dir",  # the record compares what is written itself
    "largest_result_voxels",  # a larger result is refused
    "weights_path", "adapted_weights_path", "used_weights_path", "sharp_weights_path",  # the checksums are compared
    "used_weights_sha256",
    "network_def",  # weights that do not fit it are refused
    "uncertainty_path", "uncertainty_model",  # its checksum is compared
    "nifti_cases", "once", "cases", "share",
}  # fmt: skip


def test_the_record_knows_every_setting_that_changes_a_result():
    """A setting left out of `record::settings` would let a second call keep results of another value as done."""
    config = load("inference.yaml")
    plain = {
        key for key, value in config.items() if not any(isinstance(p, dict) and "_target_" in p for _, p in walk(value))
    }
    recorded = set(config["record"]["settings"])
    assert plain - recorded - NO_RESULT_DEPENDS_ON - RUNS - {"network", "adaptation"} == set()
    assert recorded & NO_RESULT_DEPENDS_ON == set()  # else a second call with another value of it would be refused
    assert recorded - set(config) == {"sharp_weights_sha256", "uncertainty_sha256", "version"}
