"""The paper's generator: CycleGAN's ResNet."""

import torch
from torch import nn

DOWNSAMPLINGS = 2


class ResnetGenerator(nn.Module):
    """CycleGAN's ResNet: c7s1-64, d128, d256, R256 x blocks, u128, u64, c7s1-1 (arXiv 1703.10593, appendix).

    Instance norm, reflection padding, and tanh at the end; inside, images are scaled to -1 to 1.

    Args:
        channels: channels of the first layer, 64 in the paper.
        blocks: residual blocks, 6 or 9 in the paper.
        conditioning_channels: channels after the image that describe the acquisition; the paper has none.

    >>> ResnetGenerator(channels=4, blocks=1)(torch.rand(2, 1, 20, 30)).shape
    torch.Size([2, 1, 20, 30])
    """

    def __init__(self, channels: int, blocks: int, conditioning_channels: int = 0):
        super().__init__()
        self.conditioning_channels = conditioning_channels
        layers: list[nn.Module] = [
            nn.ReflectionPad2d(3),
            *_normalised(nn.Conv2d(1 + conditioning_channels, channels, 7)),
        ]
        for _ in range(DOWNSAMPLINGS):
            layers += _normalised(nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1))
            channels *= 2
        layers += [_Block(channels) for _ in range(blocks)]
        for _ in range(DOWNSAMPLINGS):
            up = nn.ConvTranspose2d(channels, channels // 2, 3, stride=2, padding=1, output_padding=1)
            layers += _normalised(up)
            channels //= 2
        self.layers = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(channels, 1, 7), nn.Tanh())

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


class _Block(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1),
            *_normalised(nn.Conv2d(channels, channels, 3)),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x)


def _normalised(convolution: nn.Module) -> list[nn.Module]:
    return [convolution, nn.InstanceNorm2d(convolution.out_channels), nn.ReLU(inplace=True)]
