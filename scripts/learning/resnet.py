"""The paper's generator: CycleGAN's ResNet."""

import torch
import torch.nn.functional as nnf
from torch import nn

from ..geometry.errors import Refusal
from .generator import FIRST_BRANCH_GAIN, RELU_GAIN

DOWNSAMPLINGS = 2
NORMS = ("instance", "demodulation")
UPSAMPLINGS = ("transposed", "resized")


class ResnetGenerator(nn.Module):
    """CycleGAN's ResNet: c7s1-64, d128, d256, R256 x blocks, u128, u64, c7s1-1 (arXiv 1703.10593, appendix).

    Reflection padding, and tanh at the end; inside, images are scaled to -1 to 1.

    Args:
        channels: channels of the first layer, 64 in the paper.
        blocks: residual blocks, 6 or 9 in the paper.
        conditioning_channels: channels after the image that describe the acquisition; the paper has none.
        norm: "instance" as in the paper, or "demodulation": no statistics of the image, weights scaled to unit norm per
            output channel instead, as in CLADE (arXiv 2303.11831).
        upsampling: "transposed" convolutions as in the paper, or "resized": pixels are repeated, then convolved, which
            leaves no pattern with the period of the stride (Odena et al. 2016, doi:10.23915/distill.00003).

    Raises:
        Refusal: for any other norm or upsampling.

    >>> ResnetGenerator(channels=4, blocks=1)(torch.rand(2, 1, 20, 30)).shape
    torch.Size([2, 1, 20, 30])
    """

    def __init__(
        self,
        channels: int,
        blocks: int,
        conditioning_channels: int = 0,
        norm: str = "instance",
        upsampling: str = "transposed",
    ):
        super().__init__()
        if norm not in NORMS:
            raise Refusal(f"norm must be one of {', '.join(NORMS)}, got {norm!r}")
        if upsampling not in UPSAMPLINGS:
            raise Refusal(f"upsampling must be one of {', '.join(UPSAMPLINGS)}, got {upsampling!r}")
        demodulated = norm == "demodulation"
        self.conditioning_channels = conditioning_channels
        up: nn.Conv2d | nn.ConvTranspose2d
        layers: list[nn.Module] = [
            nn.ReflectionPad2d(3),
            *_normalised(OneChannelConv2d(1 + conditioning_channels, channels, 7), demodulated),
        ]
        for _ in range(DOWNSAMPLINGS):
            layers += _normalised(nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1), demodulated)
            channels *= 2
        layers += [_Block(channels, demodulated) for _ in range(blocks)]
        for _ in range(DOWNSAMPLINGS):
            if upsampling == "resized":
                layers.append(nn.Upsample(scale_factor=2))
                up = nn.Conv2d(channels, channels // 2, 3, padding=1)
            else:
                up = nn.ConvTranspose2d(channels, channels // 2, 3, stride=2, padding=1, output_padding=1)
            layers += _normalised(up, demodulated)
            channels //= 2
        self.layers = nn.Sequential(*layers, nn.ReflectionPad2d(3), OneChannelConv2d(channels, 1, 7), nn.Tanh())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return planes (B, 1, H, W), intensities 0 to 1.

        Args:
            x: (B, at least 1 + conditioning_channels, H, W), intensities 0 to 1, H and W at least 16. Further channels
                are ignored, so that the input can be that of the default generator.
        """
        height, width = x.shape[2], x.shape[3]
        multiple = 2**DOWNSAMPLINGS
        x = nn.functional.pad(x, [0, -width % multiple, 0, -height % multiple], mode="replicate")
        x = torch.cat([2 * x[:, :1] - 1, x[:, 1 : 1 + self.conditioning_channels]], dim=1)
        return ((self.layers(x) + 1) / 2)[:, :, :height, :width]


class OneChannelConv2d(nn.Conv2d):
    """Convolution with one channel on one side; on a CPU computed as one along the rows and one along the columns.

    The result is the same but for rounding. The second of the two only shifts and adds: a kernel with a single channel
    runs at a tenth of a CPU's rate, because its vector units work on many channels at once.

    >>> layer, x = OneChannelConv2d(5, 1, 7), torch.rand(1, 5, 9, 9)
    >>> torch.allclose(layer(x), nn.functional.conv2d(x, layer.weight, layer.bias), atol=1e-6)
    True
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what `torch.nn.Conv2d` returns, (B, C, H', W')."""
        if x.device.type != "cpu" or 1 not in (self.in_channels, self.out_channels):
            return super().forward(x)
        columns = torch.eye(self.kernel_size[1], dtype=x.dtype)
        if self.out_channels == 1:
            rows = self.weight[0].permute(2, 0, 1)[..., None]  # a channel for each column of the kernel
            return nnf.conv2d(nnf.conv2d(x, rows), columns[None, :, None, :], self.bias)
        if torch.is_grad_enabled() and x.requires_grad:  # forward alone, one convolution is as quick
            rows = self.weight[:, 0].permute(0, 2, 1)[..., None]
            return nnf.conv2d(nnf.conv2d(x, columns[:, None, None, :]), rows, self.bias)
        return super().forward(x)


class DemodulatedConvolution(nn.Module):
    """A convolution, transposed or not, with weights scaled to unit norm per output channel, times one learned gain.

    Args:
        convolution: the convolution whose weights are taken.
        gain: initial value of the learned gain.
    """

    def __init__(self, convolution: nn.Conv2d | nn.ConvTranspose2d, gain: float):
        super().__init__()
        self.convolution = convolution
        self.gain = nn.Parameter(torch.tensor(float(gain)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (B, C, H', W'), of the size that the convolution itself returns."""
        c = self.convolution
        if isinstance(c, nn.ConvTranspose2d):
            weight = self.gain * nnf.normalize(c.weight, dim=(0, 2, 3))
            return nnf.conv_transpose2d(x, weight, c.bias, c.stride, c.padding, c.output_padding)
        return nnf.conv2d(x, self.gain * nnf.normalize(c.weight, dim=(1, 2, 3)), c.bias, c.stride, c.padding)


class _Block(nn.Module):
    def __init__(self, channels: int, demodulated: bool):
        super().__init__()
        last = nn.Conv2d(channels, channels, 3)
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1),
            *_normalised(nn.Conv2d(channels, channels, 3), demodulated),
            nn.ReflectionPad2d(1),
            *(
                [DemodulatedConvolution(last, FIRST_BRANCH_GAIN)]
                if demodulated
                else [last, nn.InstanceNorm2d(channels)]
            ),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x)


def _normalised(convolution: nn.Conv2d | nn.ConvTranspose2d, demodulated: bool) -> list[nn.Module]:
    if demodulated:  # only one in stride x stride weights of a transposed convolution reaches an output pixel
        reached = convolution.stride[0] if isinstance(convolution, nn.ConvTranspose2d) else 1
        return [DemodulatedConvolution(convolution, reached * RELU_GAIN), nn.ReLU(inplace=True)]
    return [convolution, nn.InstanceNorm2d(convolution.out_channels), nn.ReLU(inplace=True)]
