"""Instance normalisation with the right gradient on the CPU, which also stays in channels-last memory."""

import torch
import torch.nn.functional as nnf
from torch import nn


class InstanceNorm(nn.InstanceNorm2d):
    """`torch.nn.InstanceNorm2d` computed image by image with the batch normalisation kernel on the CPU.

    torch 2.13 on the CPU returns a wrong gradient for a batch of one image when the incoming gradient is channels-last:
    it is read as if it were channels-first, so that its pixels are mixed up, without any warning. The batch
    normalisation of one image is its instance normalisation, and that kernel is right in both memory formats.
    Parameters and state are those of `torch.nn.InstanceNorm2d`.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> the same shape and memory format."""
        if input.device.type != "cpu" or self.track_running_stats:
            return super().forward(input)
        images = [
            nnf.batch_norm(image, None, None, self.weight, self.bias, training=True, eps=self.eps)
            for image in input.split(1)
        ]
        return images[0] if len(images) == 1 else torch.cat(images)


def channels_last(network: nn.Module, device: torch.device | str) -> nn.Module:
    """Move a network to a device with channels-last weights, its instance normalisations replaced by `InstanceNorm`."""
    for module in network.modules():
        if type(module) is nn.InstanceNorm2d:
            module.__class__ = InstanceNorm  # keeps parameters, state and the names in the state_dict
    return network.to(device, memory_format=torch.channels_last)
