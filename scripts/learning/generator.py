"""The default generators, for G (blurred -> sharp) and F (sharp -> blurred), small enough for a CPU.

They are residual, and demodulate their weights instead of normalising features. `Generator` sees planes one by one,
`VolumeGenerator` a stack of them.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from itertools import count
from math import ceil
from typing import Any, Self

import torch
import torch.nn.functional as nnf
from torch import nn

EPSILON = 1e-6  # dimensionless; keeps a constant image from dividing by 0
RELU_GAIN = 2**0.5  # a ReLU halves the second moment of its input (He et al. 2015, arXiv 1502.01852)
FIRST_BRANCH_GAIN = 0.3  # initial gain of a residual branch; about 1 / sqrt(blocks)
PLANES_AT_ONCE = 2  # of a volume, without gradients; the features of more exceed the cache of a CPU
CROSS = "cross."  # begin of the names of weights that a generator of planes lacks


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
        return h + self.branch(h)

    def branch(self, h: torch.Tensor) -> torch.Tensor:
        """Return what the block adds to its input, of the same shape."""
        return self.second(nnf.relu(self.first(h), inplace=True))


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

    Attributes:
        spatial_dims: of the input: 2.

    >>> generator = Generator(channels=8, blocks=2, fold=(2, 2), conditioning_channels=6)
    >>> x = torch.rand(1, 7, 24, 37)
    >>> torch.allclose(generator(x), x[:, :1])  # before training it returns its input
    True
    """

    spatial_dims = 2

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
        return self._of_planes(x)

    def _of_planes(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[2], x.shape[3]
        padded = self._padded(x)
        image, conditioning = padded[:, :1], padded[:, 1 : 1 + self.conditioning_channels]
        deviation, mean = torch.std_mean(image.float(), dim=(2, 3), keepdim=True)
        deviation = deviation + self.epsilon
        h = self.tail(self.trunk(self.head(self._channels((image - mean) / deviation, conditioning))))
        detail = _unfold(h, self.rows, self.columns).float() * deviation
        return (image + detail)[:, :, :height, :width]

    def _padded(self, planes: torch.Tensor) -> torch.Tensor:
        """Planes (B, C, H, W) with H and W raised to multiples of the pixels that are folded."""
        down, right = -planes.shape[2] % self.rows, -planes.shape[3] % self.columns
        return nnf.pad(planes, [0, right, 0, down], mode="replicate")

    def _channels(self, image: torch.Tensor, conditioning: torch.Tensor) -> torch.Tensor:
        """The channels of the head, folded, from padded planes and their conditioning."""
        pixels = _fold(image, self.rows, self.columns)
        return torch.cat([pixels, _fold(conditioning[:, :, :: self.rows], 1, self.columns)], dim=1)

    def folded(self) -> Self:
        """Return a copy with plain convolutions and the same output, for inference and export."""
        plain = self._alike()
        for block, mine in zip(plain._blocks(), self._blocks(), strict=True):
            block.first, block.second = _plain(mine.first), _plain(mine.second)
        plain.head.load_state_dict(self.head.state_dict())
        plain.tail.load_state_dict(self.tail.state_dict())
        return plain.to(self.tail.weight.device).train(self.training)

    def _alike(self) -> Self:
        """A new network of the same sizes."""
        fold = (self.rows, self.columns)
        return type(self)(self.tail.in_channels, len(self.trunk), fold, self.conditioning_channels)

    def _blocks(self) -> list[ResidualBlock]:
        return list(self.trunk)

    def __prepare_scriptable__(self) -> Self:
        """Return the folded copy, which torch.jit.script (and so MONAI's ckpt_export) turns into TorchScript."""
        return self.folded()


class CrossBlock(ResidualBlock):
    """A residual block in the planes across; its second convolution is plain, with weights of zero at first.

    A volume generator so begins as the plane generator whose weights it has. With a demodulated second convolution of
    zero gain it would begin so too, but hardly change: the gain wavered between -0.05 and 0.04 for 360 steps.

    Args:
        channels: channels of input and output.
    """

    def __init__(self, channels: int):
        super().__init__(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)


class VolumeGenerator(Generator):
    """Residual generator on volumes whose last axis is the blurred one.

    A volume (X, Y, Z) is a stack of X planes (Y, Z). The residual blocks of `Generator` work in each of these planes,
    and after each of them a `CrossBlock` works in the planes (X, Z), so that every plane depends on its neighbours. A
    convolution of 3 x 3 in planes that are turned takes as long on a CPU as one of 3 x 1 x 3 in the volume. Pixels are
    folded within the planes (Y, Z) alone. A volume is standardised as a whole, so that its planes share one scale.

    Planes alone pass as in `Generator`, without the cross blocks: thick-slice scans, of which only planes are sharp,
    train the rest.

    Args:
        channels: as for `Generator`.
        blocks: residual blocks of either kind.
        fold: as for `Generator`.
        conditioning_channels: as for `Generator`.

    Attributes:
        spatial_dims: of the input: 3.
        on_progress: called without gradients, while a volume is computed, with the share of the work that is done, 0 to
            1; None: nothing is. Exports have no such call.

    >>> generator = VolumeGenerator(channels=8, blocks=2, fold=(2, 2), conditioning_channels=6)
    >>> x = torch.rand(1, 7, 5, 24, 37)
    >>> torch.allclose(generator(x), x[:, :1])  # before training it returns its input
    True
    """

    spatial_dims = 3
    __jit_ignored_attributes__ = ["on_progress"]

    def __init__(self, channels: int, blocks: int, fold: tuple[int, int], conditioning_channels: int = 0):
        super().__init__(channels, blocks, fold, conditioning_channels)
        self.cross = nn.ModuleList(CrossBlock(channels) for _ in range(blocks))
        self.on_progress: Callable[[float], Any] | None = None

    def forward(self, x: torch.Tensor, statistics: torch.Tensor | None = None) -> torch.Tensor:
        """Return volumes (B, 1, X, Y, Z), or planes (B, 1, Y, Z), on the intensity scale of the input.

        Args:
            x: (B, at least 1 + conditioning_channels, X, Y, Z), or without the X axis, on any intensity scale. Y is an
                in-plane and Z the through-plane (blurred) axis; X, Y and Z are of any size.
            statistics: where x is a block of one larger volume: standard deviation and mean of the whole, (2,), by
                which the block is then standardised.
        """
        if x.dim() == 4:
            return self._of_planes(x)
        if statistics is None:
            deviation, mean = torch.std_mean(x[:, :1].float(), dim=(2, 3, 4), keepdim=True)
        else:
            deviation, mean = statistics[:, None, None, None, None, None].expand(-1, x.shape[0], 1, 1, 1, 1).unbind(0)
        deviation = deviation + self.epsilon
        exported = torch.jit.is_scripting() or torch.jit.is_tracing()  # without a loop over planes
        if not (exported or torch.is_grad_enabled()):
            return self._plane_by_plane(x, mean, deviation)
        across = x.shape[2]
        h = self.head(self._pixels(x, mean, deviation))
        for block, cross in zip(self.trunk, self.cross):  # noqa: B905  # TorchScript knows no strict
            h = block(h)
            h = _turned(cross(_turned(h, across)), h.shape[2])
        return self._detail(self.tail(h), x) * deviation + x[:, :1]

    @torch.jit.unused
    def _plane_by_plane(self, x: torch.Tensor, mean: torch.Tensor, deviation: torch.Tensor) -> torch.Tensor:
        """The same result with one array of features, a few planes of either direction at a time.

        Blocks in the planes (Y, Z) need no neighbouring plane, and cross blocks no neighbouring row, so that every
        block overwrites its input. Nothing is computed twice.
        """
        results = torch.empty_like(x[:, :1])
        of_a_pair = ceil(x.shape[2] / PLANES_AT_ONCE) + ceil(x.shape[3] / self.rows / PLANES_AT_ONCE)  # parts
        total, done = len(x) * len(self.trunk) * of_a_pair, count(1)

        def tell() -> None:
            if self.on_progress is not None:
                self.on_progress(next(done) / total)

        for volume, m, d, result in zip(x.split(1), mean, deviation, results.split(1), strict=True):
            parts = volume.split(PLANES_AT_ONCE, dim=2)
            features = torch.cat([self.head(self._pixels(part, m, d)).permute(0, 2, 3, 1) for part in parts])
            for block, cross in zip(self.trunk, self.cross, strict=True):
                _overwrite(block, features, tell)  # (X, Y', Z', channels)
                _overwrite(cross, features.transpose(0, 1), tell)
            pieces = zip(features.split(PLANES_AT_ONCE), parts, result.split(PLANES_AT_ONCE, dim=2), strict=True)
            for h, part, target in pieces:
                target.copy_(self._detail(self.tail(h.permute(0, 3, 1, 2)), part) * d + part[:, :1])
        return results

    def _pixels(self, x: torch.Tensor, mean: torch.Tensor, deviation: torch.Tensor) -> torch.Tensor:
        """The folded, standardised planes (B * X, channels of the head, Y', Z') of volumes."""
        planes = torch.cat([(x[:, :1] - mean) / deviation, x[:, 1 : 1 + self.conditioning_channels]], dim=1)
        planes = self._padded(planes.transpose(1, 2).flatten(0, 1))
        return self._channels(planes[:, :1], planes[:, 1:]).contiguous(memory_format=torch.channels_last)

    def _detail(self, h: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """The detail (B, 1, X, Y, Z), standardised, from what the tail returns for the planes of volumes `like`."""
        detail = _unfold(h, self.rows, self.columns).float()[:, :, : like.shape[3], : like.shape[4]]
        return detail.reshape(like.shape[0], like.shape[2], 1, like.shape[3], like.shape[4]).transpose(1, 2)

    def completed(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the weights of a `Generator` with cross blocks that add nothing; those of volumes as they are."""
        if any(name.startswith(CROSS) for name in state):
            return dict(state)
        own = {name: tensor for name, tensor in self.state_dict().items() if name.startswith(CROSS)}
        nothing = {name: torch.zeros_like(tensor) for name, tensor in own.items() if ".second." in name}
        return {**state, **own, **nothing}

    def _blocks(self) -> list[ResidualBlock]:
        return [*self.trunk, *self.cross]


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


def _overwrite(block: ResidualBlock, features: torch.Tensor, tell: Callable[[], None]) -> None:
    """Apply a block to planes (P, Q, Z, channels), in any memory format, and write its output over them.

    A few planes at a time; `tell` is called after each part.
    """
    for part in features.split(PLANES_AT_ONCE):
        part += block.branch(part.contiguous().permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        tell()


def _turned(h: torch.Tensor, across: int) -> torch.Tensor:
    """Turn planes (B * P, C, Q, Z), P = `across`, into planes (B * Q, C, P, Z), channels last; with Q, the inverse."""
    rows = h.permute(0, 2, 3, 1)  # as in memory, so that whole rows (Z, C) move
    inner, depth, channels = rows.shape[1], rows.shape[2], rows.shape[3]
    turned = rows.reshape(-1, across, inner, depth, channels).transpose(1, 2)
    return turned.reshape(-1, across, depth, channels).permute(0, 3, 1, 2)
