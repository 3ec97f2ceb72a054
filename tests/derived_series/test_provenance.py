from scripts.derived_series.provenance import Provenance

FAITHFUL, SHARP = "0123456789abcdef" * 4, "fedcba9876543210" * 4


def test_faithful_weights_are_stated_by_their_checksum_alone():
    provenance = Provenance("1.2.3", FAITHFUL, sharpness=0.0)
    assert provenance.weights == FAITHFUL
    assert provenance.software_versions == ["1.2.3", "weights 0123456789abcdef"]


def test_interpolated_weights_are_stated_by_both_checksums_and_the_sharpness():
    provenance = Provenance("1.2.3", FAITHFUL, SHARP, 0.5)
    assert provenance.weights == f"{FAITHFUL} mixed with {SHARP} at 0.5"
    assert provenance.software_versions == ["1.2.3", "weights 0123456789abcdef", "sharpness 0.5"]


def test_what_is_unknown_is_left_out():
    assert Provenance().software_versions == []
    assert Provenance(sharp_weights_sha256=SHARP, sharpness=0.5).weights == ""


def test_values_fit_into_64_characters():
    assert Provenance("1" * 70).software_versions == ["1" * 64]
