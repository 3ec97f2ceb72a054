"""The default generator: residual, with weight demodulation instead of feature normalisation, light enough for a CPU.

One class, two instances: G (blurred -> sharp) and F (sharp -> blurred).
"""

from copy import deepcopy

import torch
import torch.nn.functional as nnf
from torch import nn

EPSILON = 1e-6  # dimensionless; keeps a constant image from dividing by 0
RELU_GAIN = 2**0.5  # a ReLU halves the second moment of its input (He et al. 2015, arXiv 1502.01852)
FIRST_BRANCH_GAIN = 0.3  # start of the learned gain of a residual branch; about 1 / sqrt(blocks)


class DemodulatedConv2d(nn.Module):
    """A 3 x 3 convolution whose weights are scaled to unit norm per output channel, times one learned gain.

    The weight demodulation of StyleGAN2 (Karras et al. 2020, arXiv 1912.04958, equation 3) without a style, as CLADE
    uses it in place of instance norm (arXiv 2303.11831): the expected statistics are normalised instead of the
    actual ones, so neither the window nor the neighbours in a batch change the answer.

    Args:
        in_channels: channels of the input, shape (B, in_channels, H, W).
        out_channels: channels of the output, same H and W.
        gain: start of the learned gain.
    """

    def __init__(self, in_channels: int, out_channels: int, gain: float):
        super().__init__()
        # The scale of the weights does not show in the output, but it sets how fast Adam turns them: at unit size a
        # step of 1e-3 moves them by 0.1 %, at this size by 2 % (measured: the difference between a plateau and none)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3) / (9 * in_channels) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.gain = nn.Parameter(torch.tensor(float(gain)))

    def demodulated(self) -> torch.Tensor:
        """The weights that act: shape (out_channels, in_channels, 3, 3)."""
        return self.gain * nnf.normalize(self.weight.flatten(1)).view_as(self.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H, W)."""
        return nnf.conv2d(x, self.demodulated().to(x.dtype), self.bias.to(x.dtype), padding=1)

    def folded(self) -> nn.Conv2d:
        """A plain convolution with the same output."""
        plain = nn.Conv2d(self.weight.shape[1], self.weight.shape[0], 3, padding=1)
        plain.weight.data = self.demodulated().detach().clone()
        plain.bias.data = self.bias.detach().clone()
        return plain.to(self.weight.device)


class ResidualBlock(nn.Module):
    """h + conv(relu(conv(h))), both convolutions demodulated; the second gain is the branch's."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = DemodulatedConv2d(channels, channels, RELU_GAIN)
        self.second = DemodulatedConv2d(channels, channels, FIRST_BRANCH_GAIN)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """(B, channels, H, W) -> the same shape."""
        return h + self.second(nnf.relu(self.first(h)))


class Generator(nn.Module):
    """Residual generator on planes whose last axis is the blurred one.

    The image is standardised (zero mean, unit deviation) at the input and the output scaled back, so that it answers
    a scaled or shifted image with the same scale and shift. Pixels are folded into channels (a pixel-unshuffle of
    `fold` in-plane x through-plane) before the convolutions and out of them afterwards: the through-plane direction
    holds little detail at first, so it can be folded more.

    Args:
        channels: width of the residual trunk.
        blocks: residual blocks.
        fold: pixels folded into channels along the in-plane and the through-plane axis of the plane.
        conditioning_channels: channels after the image that describe the acquisition
            (`SliceGeometry.conditioning`); 0 for none.
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
        nn.init.zeros_(self.tail.weight)  # the first answer is the input itself
        nn.init.zeros_(self.tail.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 1 + conditioning_channels, H, W), any intensity scale -> (B, 1, H, W) on the same scale.

        H is the in-plane and W the through-plane (blurred) axis; any size. Further channels are not looked at.
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
        """A copy in plain convolutions with the same output, for inference and export."""
        plain = Generator(self.tail.in_channels, len(self.trunk), (self.rows, self.columns), self.conditioning_channels)
        for block, mine in zip(plain.trunk, self.trunk, strict=True):
            block.first, block.second = _plain(mine.first), _plain(mine.second)
        plain.head.load_state_dict(self.head.state_dict())
        plain.tail.load_state_dict(self.tail.state_dict())
        return plain.to(self.tail.weight.device).train(self.training)

    def __prepare_scriptable__(self) -> "Generator":
        """What torch.jit.script, hence MONAI's ckpt_export, makes a TorchScript module of: the folded copy."""
        return self.folded()


def _plain(layer: nn.Module) -> nn.Module:
    """The layer as a plain convolution of its own; one that is plain already is copied."""
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
