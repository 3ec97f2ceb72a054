import pytest
import torch
from scipy.ndimage import sobel

from scripts.geometry.errors import Refusal
from scripts.learning.losses import FORMS, GradientMappingLoss, LocalRmsLoss, LossWeights


def test_sobel_maps_agree_with_scipy():
    image = torch.rand(1, 1, 12, 15, dtype=torch.float64)
    maps = GradientMappingLoss("paper").double().gradients(image)[0]
    assert maps[0].numpy() == pytest.approx(sobel(image[0, 0].numpy(), axis=1, mode="nearest") / 8)
    assert maps[1].numpy() == pytest.approx(sobel(image[0, 0].numpy(), axis=0, mode="nearest") / 8)


def ramp(x: float, y: float) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    return (x * columns + y * rows)[None, None]


@pytest.mark.parametrize(("form", "opposite"), [("paper", 0.0), ("components", 2.0), ("magnitude", 2**0.5)])
def test_opposite_errors_cancel_in_the_papers_form_alone(form, opposite):
    # by hand, interior of a ramp with slopes +1 and -1: S_x = 1, S_y = -1 after normalisation
    loss = GradientMappingLoss(form)
    interior = loss.gradients(ramp(1, -1))[..., 2:-2, 2:-2]
    assert interior[0, 0].unique() == 1
    assert interior[0, 1].unique() == -1
    flat = GradientMappingLoss(form)
    flat.gradients = lambda image: torch.stack([image, -image], dim=1)[:, :, 0]  # a map without borders
    assert float(flat(torch.ones(1, 1, 6, 6), torch.zeros(1, 1, 6, 6))) == pytest.approx(opposite, abs=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_zero_on_equal_images_and_growing_with_blur(form):
    loss, image = GradientMappingLoss(form), torch.zeros(1, 1, 32, 32)
    image[..., 9:22, 12:25] = 1  # a box: blurring it removes its edges
    assert float(loss(image, image)) == pytest.approx(0, abs=1e-6)
    blurs = [torch.nn.functional.avg_pool2d(image, k, 1, k // 2, count_include_pad=False) for k in (3, 5, 9)]
    values = [float(loss(blurred, image)) for blurred in blurs]
    assert 0 < values[0] < values[1] < values[2]


@pytest.mark.parametrize("form", FORMS)
def test_gradient_is_finite_on_flat_images(form):
    image = torch.zeros(1, 1, 9, 9, requires_grad=True)
    GradientMappingLoss(form)(image, torch.rand(1, 1, 9, 9)).backward()
    assert torch.isfinite(image.grad).all()


def test_unknown_forms_and_shapes_are_refused():
    with pytest.raises(Refusal, match="gradient_form must be one of paper, components, magnitude, got 'sum'"):
        GradientMappingLoss("sum")
    with pytest.raises(ValueError, match="one shape"):
        GradientMappingLoss("paper")(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 9))


def test_local_rms_counts_and_the_pattern_does_not():
    detail = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    loss = LocalRmsLoss(3.0)
    assert float(loss(-detail, detail)) == 0
    other, twice = float(loss(detail.flip(3), detail)), float(loss(2 * detail, detail))
    assert 0 < 4 * other < twice  # other noise of the same RMS against the same noise amplified


def test_rms_is_compared_locally():
    detail = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    left, right = detail.clone(), detail.clone()
    left[..., 32:], right[..., :32] = 0, 0
    loss = LocalRmsLoss(3.0)
    assert float(loss(left, right)) > 4 * float(loss(detail.flip(3), detail))


def test_a_fine_pattern_does_not_make_up_for_coarser_detail():
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    pattern = ((-1.0) ** (rows + columns))[None, None]  # a checkerboard
    coarse = pattern.repeat_interleave(4, 2).repeat_interleave(4, 3)[..., :64, :64]
    assert float(pattern.std()) == pytest.approx(float(coarse.std()))
    loss = LocalRmsLoss(3.0)
    assert float(loss(pattern, coarse)) > 0.5


def test_a_volume_counts_as_its_planes():
    one, other = (torch.rand(2, 1, 5, 24, 24, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    loss = LocalRmsLoss(3.0)
    planes = [float(loss(a, b)) for a, b in zip(one.unbind(2), other.unbind(2), strict=True)]
    assert float(loss(one, other)) == pytest.approx(sum(planes) / 5, rel=1e-5)


def test_an_offset_per_plane_does_not_count():
    detail = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    stripes = (-1.0) ** torch.arange(64)  # along the through-plane axis, with the RMS of the detail
    loss = LocalRmsLoss(3.0)
    assert float(loss(detail + stripes, detail)) == pytest.approx(0, abs=1e-6)
    assert float(loss(detail + stripes[:, None], detail)) > 0.1  # along the other axis it counts


def test_the_gradient_of_local_rms_is_finite_where_there_is_no_detail():
    detail = torch.zeros(1, 1, 16, 16, requires_grad=True)
    LocalRmsLoss(3.0)(detail, torch.rand(1, 1, 16, 16)).backward()
    assert torch.isfinite(detail.grad).all()


def test_unpaired_and_adversarial_terms_wait_and_the_others_do_not():
    weights = LossWeights(**dict.fromkeys(LossWeights.names(), 2.0))
    assert weights.active(unpaired=True) == weights
    waiting = weights.active(unpaired=False)
    assert [name for name in LossWeights.names() if getattr(waiting, name)] == [
        "supervised_G",
        "supervised_F",
        "local_rms",
    ]
    assert waiting.any_supervised
    assert not waiting.any_unpaired


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"cylce": 1.0}, r"exactly the terms adversarial, cycle, .*; check cylce;"),
        ({"cycle": -1}, r"numbers of at least 0, got \{'cycle': -1\}"),
        ({"cycle": "1"}, "numbers of at least 0"),
    ],
)
def test_weights_that_cannot_be_are_refused(change, line):
    weights = dict.fromkeys(LossWeights.names(), 0.0)
    assert LossWeights.from_mapping(weights) == LossWeights(**weights)
    with pytest.raises(Refusal, match=line):
        LossWeights.from_mapping(weights | change)
