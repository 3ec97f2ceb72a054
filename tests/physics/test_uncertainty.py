import json

import numpy as np
import pytest
import torch

from scripts.physics.uncertainty import LEAST, Scale, UncertaintyModel, widening

RECT = ((2.0, 4.0), (4.0, 8.0), (7.0, 10.0))
SCALE = Scale(4, {"disagreement": 0.5, "noise": 0.25}, {"rect": RECT, "gauss": ((2.0, 5.0), (7.0, 9.0))})


def test_quantiles_are_those_measured_and_in_between_between_them():
    for factor, q in RECT:
        assert SCALE.quantile("rect", factor) == pytest.approx(q)
    assert 4 < SCALE.quantile("rect", 3.0) < 8
    assert SCALE.quantile("rect", 1.5) == 4
    beyond = [SCALE.quantile("rect", factor) for factor in (7, 8.3, 10, 12, 15)]
    assert (np.diff(beyond) > 0).all()  # an uncertainty never shrinks beyond the trained factors
    falling = Scale(1, {}, {"rect": ((2.0, 8.0), (7.0, 6.0))})
    assert falling.quantile("rect", 12.0) == pytest.approx(6.0)


def test_a_profile_that_was_not_measured_has_the_largest_quantile():
    for factor in (2.0, 3.0, 7.0):
        expected = max(SCALE.quantile("rect", factor), SCALE.quantile("gauss", factor))
        assert SCALE.quantile("slr", factor) == expected


def test_the_product_is_that_of_the_powers_and_positive_where_all_features_are_zero():
    features = {"disagreement": torch.tensor([0.04, 0.0]), "noise": 0.01}
    product = SCALE.product(features)
    assert float(product[0]) == pytest.approx(0.04**0.5 * 0.01**0.25, rel=5e-3)
    assert float(product[1]) == pytest.approx(LEAST**0.5 * 0.01**0.25, rel=5e-3)
    more = SCALE.product({"disagreement": torch.tensor([0.05, 0.0]), "noise": 0.02})
    assert (more > product).all()


def test_the_scale_is_that_of_the_largest_fitted_number_not_above():
    scales = [Scale(n, {"noise": 1.0}, {"rect": RECT}) for n in (1, 2, 4)]
    model = UncertaintyModel(scales)
    assert [model.scale_for(n).predictions for n in (1, 2, 3, 4, 9)] == [1, 2, 2, 4, 4]


def test_a_model_becomes_json_and_back():
    model = UncertaintyModel([SCALE], ("ab" * 32,), 0.5, {"knee": "held back"})
    again = UncertaintyModel.of(json.loads(json.dumps(model.as_json())))
    assert again.as_json() == model.as_json()
    assert again.scales[0].quantile("gauss", 3.3) == pytest.approx(SCALE.quantile("gauss", 3.3))


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["scales"][0]["exponents"].update(weather=1.0),
        lambda content: content["scales"][0]["exponents"].update(noise=-1.0),
        lambda content: content["scales"][0]["quantiles"].clear(),
        lambda content: content["scales"][0]["quantiles"].update(rect={}),
        lambda content: content["scales"][0]["quantiles"].update(rect={"4": 0.0}),
        lambda content: content["scales"].clear(),
        lambda content: content.pop("scales"),
        lambda content: content.update(fitted_on=3),
    ],
)
def test_content_that_is_no_model_is_an_error(change):
    content = UncertaintyModel([SCALE]).as_json()
    change(content)
    with pytest.raises(ValueError, match=r"\w"):
        UncertaintyModel.of(content)


def test_values_outside_the_trained_range_widen_and_those_inside_do_not():
    ranges = {"pixel_mm": (0.16, 3.2), "brightness": (0.24, 0.67)}
    assert widening({"pixel_mm": 1.0, "brightness": 0.4, "unknown": 7.0}, ranges) == 1
    assert widening({"pixel_mm": 0.08, "brightness": 0.4}, ranges) == 2
    assert (
        1
        < widening({"pixel_mm": 1.0, "brightness": 0.7}, ranges)
        < widening({"pixel_mm": 4.0, "brightness": 0.7}, ranges)
    )
    assert widening({"brightness": 0.0}, ranges) == 2  # at most
