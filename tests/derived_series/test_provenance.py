import json

from scripts.derived_series.provenance import Provenance

from ..conftest import ROOT

FAITHFUL, SHARP = "0123456789abcdef" * 4, "fedcba9876543210" * 4


def test_faithful_weights_are_stated_by_their_checksum_alone():
    provenance = Provenance("1.2.3", FAITHFUL, sharpness=0.0)
    assert provenance.weights == FAITHFUL
    assert provenance.software_versions == ["1.2.3", "own weights 0123456789abcdef"]


def test_interpolated_weights_are_stated_by_both_checksums_and_the_sharpness():
    provenance = Provenance("1.2.3", FAITHFUL, SHARP, 0.5)
    assert provenance.weights == f"{FAITHFUL} mixed with {SHARP} at 0.5"
    assert provenance.software_versions == ["1.2.3", "own weights 0123456789abcdef", "sharpness 0.5"]


def test_weights_as_shipped_are_not_called_own():
    shipped = json.loads((ROOT / "configs" / "metadata.json").read_text(encoding="utf-8"))["weights_sha256"]
    faithful, sharp = shipped["model.pt"], shipped["model_sharp.pt"]
    assert Provenance("1.2.3", faithful, sharp, 0.5).software_versions[1] == f"weights {faithful[:16]}"
    assert Provenance("1.2.3", faithful, SHARP, 0.5).software_versions[1] == f"own weights {faithful[:16]}"


def test_what_is_unknown_is_left_out():
    assert Provenance().software_versions == []
    assert Provenance(sharp_weights_sha256=SHARP, sharpness=0.5).weights == ""


def test_values_fit_into_64_characters():
    assert Provenance("1" * 70).software_versions == ["1" * 64]
