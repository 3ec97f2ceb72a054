import pytest
import torch
from monai.networks.nets import PatchDiscriminator

from scripts.learning.normalisation import InstanceNorm, channels_last
from scripts.learning.resnet import ResnetGenerator

LAYOUTS = [torch.contiguous_format, torch.channels_last]


def by_hand(x):
    return (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("layout_of_gradient", LAYOUTS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4), (torch.bfloat16, 2e-2)])
def test_output_and_gradient_are_right_in_every_layout(images, layout, layout_of_gradient, dtype, tolerance):
    draw = torch.Generator().manual_seed(0)
    image, upstream = (torch.randn(images, 16, 13, 9, generator=draw).to(dtype) for _ in range(2))
    found = []
    for norm, kind in ((by_hand, torch.float64), (InstanceNorm(16), dtype)):
        x = image.to(kind, copy=True).contiguous(memory_format=layout).requires_grad_()
        output = norm(x)
        output.backward(upstream.to(kind).contiguous(memory_format=layout_of_gradient))
        found.append((output.detach().double(), x.grad.double()))
    for expected, got in zip(*found, strict=True):
        assert (got - expected).norm() < tolerance * expected.norm()
    if layout is torch.channels_last:
        assert output.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("build", [lambda: ResnetGenerator(8, 2), lambda: PatchDiscriminator(2, 8, 1, num_layers_d=2)])
def test_a_network_keeps_its_output_its_weights_and_its_gradient(build, images):
    network = build().double()
    x = torch.rand(images, 1, 40, 36, generator=torch.Generator().manual_seed(0)).double()
    names, found = list(network.state_dict()), []
    for prepared in (network, channels_last(network, "cpu")):
        prepared.zero_grad()
        output = prepared(x)
        output = output[-1] if isinstance(output, list) else output
        (output - 0.3).square().mean().backward()
        found.append([output.detach(), *(p.grad.clone() for p in prepared.parameters())])
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-9)
    assert list(network.state_dict()) == names
