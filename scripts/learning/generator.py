"""The default generator, for G (blurred -> sharp) and F (sharp -> blurred), small enough for a CPU.

It is residual, and demodulates its weights instead of normalising features.
"""

from copy import deepcopy

import torch
import torch.nn.functional as nnf
from torch import nn

EPSILON = 1e-6  # dimensionless; keeps a constant image from dividing by 0
RELU_GAIN = 2**0.5  # a ReLU halves the second moment of its input (He et al. 2015, arXiv 1502.01852)
FIRST_BRANCH_GAIN = 0.3  # initial gain of a residual branch; about 1 / sqrt(blocks)


class DemodulatedConv2d(nn.Module):
    """A 3 x 3 convolution with weights scaled to unit norm per output channel, times one learned gain.

    This is the weight demodulation of StyleGAN2 (Karras et al. 2020, arXiv 1912.04958, equation 3) without a style, as
    CLADE uses it in place of instance norm (arXiv 2303.11831). It normalises expected statistics instead of actual
    ones, so that predictions depend neither on the window nor on the other images of a batch.

    Args:
        in_channels: channels of the input, shape (B, in_channels, H, W).
        out_channels: channels of the output, same H and W.
        gain: initial value of the learned gain.

    >>> layer, x = DemodulatedConv2d(2, 3, gain=1.0), torch.rand(1, 2, 8, 8)
    >>> torch.allclose(layer.folded()(x), layer(x), atol=1e-6)
    True
    """

    def __init__(self, in_channels: int, out_channels: int, gain: float):
        super().__init__()
        # The scale of the weights does not change the output, but sets how fast Adam changes their direction: at unit
        # size a step of 1e-3 moves them by 0.1 %, at this size by 2 %; with 0.1 % the loss stays on a plateau
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3) / (9 * in_channels) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.gain = nn.Parameter(torch.tensor(float(gain)))

    def demodulated(self) -> torch.Tensor:
        """Return the normalised weights times the gain, (out_channels, in_channels, 3, 3)."""
        return self.gain * nnf.normalize(self.weight.flatten(1)).view_as(self.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (B, out_channels, H, W) from (B, in_channels, H, W)."""
        return nnf.conv2d(x, self.demodulated().to(x.dtype), self.bias.to(x.dtype), padding=1)

    def folded(self) -> nn.Conv2d:
        """Return a plain convolution with the same output."""
        plain = nn.Conv2d(self.weight.shape[1], self.weight.shape[0], 3, padding=1)
        plain.weight.data = self.demodulated().detach().clone()
        plain.bias.data = self.bias.detach().clone()
        return plain.to(self.weight.device)


class ResidualBlock(nn.Module):
    """h + conv(relu(conv(h))) with demodulated convolutions; the gain of the second is the gain of the branch.

    Args:
        channels: channels of input and output.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.first = DemodulatedConv2d(channels, channels, RELU_GAIN)
        self.second = DemodulatedConv2d(channels, channels, FIRST_BRANCH_GAIN)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """Return (B, channels, H, W) from the same shape."""
        return h + self.second(nnf.relu(self.first(h)))


class Generator(nn.Module):
    """Residual generator on planes whose last axis is the blurred one.

    The image is standardised (zero mean, unit standard deviation) at the input and the output scaled back, so that a
    scaled or shifted image gives an equally scaled or shifted prediction. Pixels are folded into channels (a
    pixel-unshuffle of `fold` in-plane x through-plane pixels) before the convolutions and unfolded after them.

    Args:
        channels: width of the residual trunk.
        blocks: residual blocks.
        fold: pixels folded into channels along the in-plane and the through-plane axis of the plane.
        conditioning_channels: channels after the image that describe the acquisition
            (`SliceGeometry.conditioning`); 0 for none.

    >>> generator = Generator(channels=8, blocks=2, fold=(2, 2), conditioning_channels=6)
    >>> x = torch.rand(1, 7, 24, 37)
    >>> torch.allclose(generator(x), x[:, :1])  # before training it returns its input
    True
    """

    def __init__(self, channels: int, blocks: int, fold: tuple[int, int], conditioning_channels: int = 0):
        super().__init__()
        self.epsilon = EPSILON
        self.rows, self.columns = int(fold[0]), int(fold[1])
        self.conditioning_channels = conditioning_channels
        pixels = self.rows * self.columns
        self.head = nn.Conv2d(pixels + conditioning_channels * self.columns, channels, 3, padding=1)
        self.trunk = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))
        self.tail = nn.Conv2d(channels, pixels, 3, padding=1)
        nn.init.zeros_(self.tail.weight)  # the first prediction is the input itself
        nn.init.zeros_(self.tail.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return planes (B, 1, H, W) on the intensity scale of the input.

        Args:
            x: (B, at least 1 + conditioning_channels, H, W) on any intensity scale. H is the in-plane and W the
                through-plane (blurred) axis, of any size. Further channels are ignored.
        """
        height, width = x.shape[2], x.shape[3]
        down, right = -height % self.rows, -width % self.columns
        padded = nnf.pad(x, [0, right, 0, down], mode="replicate")
        image, conditioning = padded[:, :1], padded[:, 1 : 1 + self.conditioning_channels]
        deviation, mean = torch.std_mean(image.float(), dim=(2, 3), keepdim=True)
        deviation = deviation + self.epsilon
        pixels = _fold((image - mean) / deviation, self.rows, self.columns)
        h = torch.cat([pixels, _fold(conditioning[:, :, :: self.rows], 1, self.columns)], dim=1)
        h = self.tail(self.trunk(self.head(h)))
        detail = _unfold(h, self.rows, self.columns).float() * deviation
        return (image + detail)[:, :, :height, :width]

    def folded(self) -> "Generator":
        """Return a copy with plain convolutions and the same output, for inference and export."""
        plain = Generator(self.tail.in_channels, len(self.trunk), (self.rows, self.columns), self.conditioning_channels)
        for block, mine in zip(plain.trunk, self.trunk, strict=True):
            block.first, block.second = _plain(mine.first), _plain(mine.second)
        plain.head.load_state_dict(self.head.state_dict())
        plain.tail.load_state_dict(self.tail.state_dict())
        return plain.to(self.tail.weight.device).train(self.training)

    def __prepare_scriptable__(self) -> "Generator":
        """Return the folded copy, which torch.jit.script (and so MONAI's ckpt_export) turns into TorchScript."""
        return self.folded()


def _plain(layer: nn.Module) -> nn.Module:
    """A plain convolution with the output of the layer; a layer that is plain already is copied."""
    return layer.folded() if isinstance(layer, DemodulatedConv2d) else deepcopy(layer)


def _fold(x: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Pixel-unshuffle with its own factor per axis: (B, C, H, W) -> (B, C * rows * columns, H / rows, W / columns)."""
    b, c, h, w = x.shape
    x = x.reshape(b, c, h // rows, rows, w // columns, columns).permute(0, 1, 3, 5, 2, 4)
    return x.reshape(b, c * rows * columns, h // rows, w // columns)


def _unfold(x: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """The inverse of `_fold`: (B, rows * columns, H, W) -> (B, 1, H * rows, W * columns)."""
    b, c, h, w = x.shape
    x = x.reshape(b, c // (rows * columns), rows, columns, h, w).permute(0, 1, 4, 2, 5, 3)
    return x.reshape(b, c // (rows * columns), h * rows, w * columns)
