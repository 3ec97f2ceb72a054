import pytest
import torch

from scripts.geometry.errors import Refusal
from scripts.learning.generator import CrossBlock, DemodulatedConv2d, Generator, VolumeGenerator, _turned
from scripts.learning.resnet import OneChannelConv2d, ResnetGenerator


def trained(conditioning_channels: int = 4, fold=(2, 2)) -> Generator:
    """A small generator whose last layer is not zero, as after training."""
    torch.manual_seed(0)
    network = Generator(channels=8, blocks=2, fold=fold, conditioning_channels=conditioning_channels)
    torch.nn.init.normal_(network.tail.weight, std=0.1)
    return network.eval()


def trained_on_volumes() -> VolumeGenerator:
    """The generator of `trained` with the default conditioning, and cross blocks that add something."""
    network = VolumeGenerator(channels=8, blocks=2, fold=(2, 2), conditioning_channels=6)
    network.load_state_dict(network.completed(trained(6).state_dict()))
    for block in network.cross:
        torch.nn.init.normal_(block.second.weight, std=0.1)
    return network.eval()


@pytest.mark.parametrize("size", [(92, 92), (16, 16), (37, 51), (5, 208)])
@pytest.mark.parametrize("fold", [(2, 2), (1, 4)])
def test_any_plane_size_is_kept(size, fold):
    assert trained(fold=fold)(torch.rand(2, 5, *size)).shape == (2, 1, *size)


def test_the_first_prediction_is_the_input():
    x = torch.rand(2, 5, 24, 36)
    assert torch.allclose(Generator(8, 2, (2, 2), 4)(x), x[:, :1])


def test_predictions_follow_the_intensity_scale():
    network, x = trained(), torch.rand(2, 5, 24, 36)
    scaled = x.clone()
    scaled[:, :1] = 300 * x[:, :1] - 40
    assert torch.allclose(network(scaled), 300 * network(x) - 40, rtol=1e-4, atol=1e-2)


def test_a_constant_plane_stays_finite():
    assert torch.isfinite(trained()(torch.zeros(1, 5, 16, 16))).all()


def test_planes_of_a_batch_do_not_mix():
    network, x = trained(), torch.rand(3, 5, 24, 36)
    assert torch.allclose(network(x)[1:2], network(x[1:2]), atol=1e-6)


def test_conditioning_matters_and_further_channels_do_not():
    network, x = trained(), torch.rand(1, 5, 24, 36)
    other = x.clone()
    other[:, 1:] += 1
    assert not torch.allclose(network(x), network(other))
    blind = trained(conditioning_channels=0)
    assert torch.equal(blind(x), blind(other))


def test_demodulation_ignores_the_scale_of_its_weights():
    layer, x = DemodulatedConv2d(3, 4, 1.0), torch.rand(2, 3, 9, 9)
    before = layer(x)
    layer.weight.data *= 7
    assert torch.allclose(layer(x), before, atol=1e-5)


def test_folded_generator_is_plain_and_predicts_the_same():
    network, x = trained(), torch.rand(2, 5, 30, 44)
    plain = network.folded()
    assert not any(isinstance(module, DemodulatedConv2d) for module in plain.modules())
    assert torch.allclose(plain(x), network(x), atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_predicts_the_same():
    network, x = trained(), torch.rand(2, 5, 30, 44)
    assert torch.allclose(torch.jit.script(network)(x), network(x), atol=1e-6)


def test_bfloat16_autocast_is_near():
    network, x = trained(), torch.rand(2, 5, 32, 44)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = network(x)
    added = network(x) - x[:, :1]
    assert rough.dtype == torch.float32
    assert float((rough - network(x)).norm() / added.norm()) < 0.02


@pytest.mark.parametrize("size", [(92, 92), (33, 50)])
def test_resnet_predicts_in_range_for_any_size(size):
    network = ResnetGenerator(channels=8, blocks=6)
    prediction = network(torch.rand(2, 5, *size))
    assert prediction.shape == (2, 1, *size)
    assert 0 <= prediction.min() <= prediction.max() <= 1


def test_resnet_has_cyclegans_parameters():
    # the published 9-block generator for one channel: 11.366 M parameters (3 channels: 11.378 M)
    assert sum(p.numel() for p in ResnetGenerator(64, 9).parameters()) == 11_365_633


@pytest.mark.parametrize(("channels_in", "channels_out"), [(1, 6), (6, 1), (3, 4)])
def test_one_channel_convolution_equals_the_convolution(channels_in, channels_out):
    layer = OneChannelConv2d(channels_in, channels_out, 7).double()
    x = torch.rand(2, channels_in, 15, 12, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    found = []
    for result in (torch.nn.Conv2d.forward(layer, x), layer(x)):
        gradients = torch.autograd.grad(result.square().cumsum(-1).sum(), [x, layer.weight, layer.bias])
        found.append([result.detach(), *gradients])
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("images", [1, 2])
def test_demodulated_resnet_keeps_the_scale_of_its_maps(images):
    torch.manual_seed(0)
    network = ResnetGenerator(16, 3, norm="demodulation")
    h = torch.randn(images, 1, 40, 40)
    for layer in network.layers[:-2]:
        h = layer(h)
        assert 0.3 < float(h.detach().square().mean()) ** 0.5 < 2, type(layer).__name__
    with pytest.raises(Refusal, match="norm must be one of"):
        ResnetGenerator(16, 3, norm="batch")


def test_resized_upsampling_leaves_no_pattern_where_the_image_is_flat():
    """With random weights: transposed convolutions differ between the four positions of their stride, these do not."""

    def pattern(upsampling: str) -> float:
        torch.manual_seed(0)
        with torch.no_grad():
            made = ResnetGenerator(16, 3, upsampling=upsampling, norm="demodulation")(torch.full((1, 1, 96, 96), 0.5))
        return float(made[0, 0, 40:56, 40:56].std())

    assert pattern("resized") < 1e-6 < 1e-4 < pattern("transposed")
    with pytest.raises(Refusal, match="upsampling must be one of transposed, resized"):
        ResnetGenerator(16, 3, upsampling="bilinear")


def test_demodulated_resnet_treats_an_image_alone_as_in_a_batch():
    network = ResnetGenerator(8, 2, norm="demodulation").double()
    x = torch.rand(2, 1, 24, 20, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(network(x)[1:], network(x[1:]))


VOLUMES = torch.rand(2, 7, 5, 22, 18, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def test_a_volume_generator_begins_as_the_generator_of_its_planes():
    plane, volume = trained(6), VolumeGenerator(8, 2, (2, 2), 6).eval()
    volume.load_state_dict(volume.completed(plane.state_dict()))
    assert torch.equal(volume(VOLUMES[:, :, 3]), plane(VOLUMES[:, :, 3]))
    one = VOLUMES[:, :, 3:4]  # whose mean and standard deviation are those of its plane
    torch.testing.assert_close(volume(one)[:, :, 0], plane(one[:, :, 0]), atol=1e-5, rtol=0)
    assert volume.completed(trained_on_volumes().state_dict()).keys() == volume.state_dict().keys()


@torch.no_grad()
def test_planes_depend_on_their_neighbours_in_volumes_alone():
    network, changed = trained_on_volumes(), VOLUMES.clone()
    changed[:, 0, 1] = changed[:, 0, 1].flip(-1)  # the same mean and standard deviation
    assert (network(changed) - network(VOLUMES))[:, :, 3].abs().max() > 1e-3
    assert torch.equal(network(changed[:, :, 3]), network(VOLUMES[:, :, 3]))


@torch.no_grad()
def test_volumes_keep_their_scale_and_do_not_mix():
    network = trained_on_volumes()
    result = network(VOLUMES)
    scaled = torch.cat([300 * VOLUMES[:, :1] - 40, VOLUMES[:, 1:]], dim=1)
    torch.testing.assert_close(network(scaled), 300 * result - 40, rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(network(VOLUMES[1:]), result[1:], atol=1e-5, rtol=0)
    plain = network.folded()
    assert not any(isinstance(module, DemodulatedConv2d) for module in plain.modules())
    torch.testing.assert_close(plain(VOLUMES), result, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(5, 22, 18), (4, 21, 17), (1, 16, 16)])
def test_a_volume_is_the_same_with_and_without_gradients(shape):
    network, x = trained_on_volumes(), VOLUMES[:, :, : shape[0], : shape[1], : shape[2]]
    with torch.no_grad():
        part_by_part = network(x)
    torch.testing.assert_close(part_by_part, network(x).detach(), atol=1e-5, rtol=0)


@torch.no_grad()
def test_cross_blocks_are_convolutions_of_3_x_1_x_3():
    block, h = CrossBlock(8), torch.rand(2 * 4, 8, 5, 6)
    torch.nn.init.normal_(block.second.weight)
    v = h.unflatten(0, (2, 4)).transpose(1, 2)  # (B, C, X, Y, Z)
    hidden = torch.relu(
        torch.nn.functional.conv3d(v, block.first.demodulated()[:, :, :, None], block.first.bias, padding=(1, 0, 1))
    )
    added = torch.nn.functional.conv3d(hidden, block.second.weight[:, :, :, None], block.second.bias, padding=(1, 0, 1))
    expected = h + added.transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(_turned(block(_turned(h, 4)), 5), expected, atol=1e-4, rtol=1e-4)


def test_cross_blocks_learn_from_their_first_step():
    network = VolumeGenerator(8, 2, (2, 2), 6)
    torch.nn.init.normal_(network.tail.weight, std=0.1)
    network(VOLUMES).square().mean().backward()
    assert all(block.second.weight.grad.abs().max() > 0 for block in network.cross)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_generator_of_volumes_tells_how_far_it_is_and_its_export_does_not():
    network, shares = trained_on_volumes(), []
    with torch.no_grad():
        expected = network(VOLUMES)
        network.on_progress = shares.append
        assert torch.equal(network(VOLUMES), expected)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len(shares) > 2 * len(VOLUMES) * 2 * len(network.trunk)
    told = len(shares)
    with torch.no_grad():
        torch.jit.script(network)(VOLUMES)
    assert len(shares) == told


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@torch.no_grad()
def test_torchscript_predicts_the_same_volumes():
    network = trained_on_volumes()
    script = torch.jit.script(network)
    torch.testing.assert_close(script(VOLUMES), network(VOLUMES), atol=1e-5, rtol=0)
    torch.testing.assert_close(script(VOLUMES[:, :, 2]), network(VOLUMES[:, :, 2]), atol=1e-5, rtol=0)
