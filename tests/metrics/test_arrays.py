import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from scripts.geometry.errors import Refusal
from scripts.metrics.arrays import as_image, as_mask, as_pair, bounding_box, checked_axis


def test_as_image_accepts_arrays_and_tensors_of_any_type():
    expected = np.arange(24.0).reshape(2, 3, 4)
    tensor = torch.arange(24).reshape(2, 3, 4)
    for form in (
        expected,
        expected.astype(np.int16),
        tensor,
        tensor.bfloat16(),
        tensor[None],
        MetaTensor(tensor[None]),
    ):
        np.testing.assert_array_equal(as_image(form, "image"), expected)


@pytest.mark.parametrize(
    ("bad", "fact"),
    [
        (np.zeros((2, 4, 4, 4)), "shape"),
        (np.zeros(5), "shape"),
        (np.zeros((0, 4, 4)), "shape"),
        (np.full((4, 4), np.nan), "16 values that are not finite"),
        (np.array([[np.inf, 1]]), "not finite"),
        (np.ones((4, 4), complex), "complex"),
    ],
)
def test_as_image_names_the_problem(bad, fact):
    with pytest.raises(Refusal, match=fact) as raised:
        as_image(bad, "truth")
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith("truth")


def test_pairs_and_masks_on_other_grids_are_refused():
    with pytest.raises(Refusal, match="result has shape"):
        as_pair(np.zeros((4, 4, 4)), np.zeros((4, 4, 5)))
    with pytest.raises(Refusal, match="mask has shape"):
        as_mask(np.ones((4, 4, 5)), (4, 4, 4))
    with pytest.raises(Refusal, match="mask is empty"):
        as_mask(np.zeros((4, 4, 4)), (4, 4, 4))
    with pytest.raises(Refusal, match="axis 3"):
        checked_axis(3, np.zeros((4, 4, 4)))
    assert as_mask(None, (2, 3)).all()


def test_bounding_box_is_the_smallest_and_its_margin_stops_at_the_edge():
    mask = np.zeros((9, 9, 9), bool)
    mask[2:4, 0, 7] = True
    assert bounding_box(mask) == (slice(2, 4), slice(0, 1), slice(7, 8))
    assert bounding_box(mask, 3) == (slice(0, 7), slice(0, 4), slice(4, 9))
