"""Weights from a file into a network: the right ones, or a clear refusal; never random ones in silence."""

from pathlib import Path

import torch
from torch import nn

from ..geometry.refusal import Refusal


def load_weights(network: nn.Module, path: str) -> nn.Module:
    """The network with the weights of a file, in evaluation mode.

    Args:
        network: the network to fill.
        path: a bare state_dict, as `models/model.pt`.

    Raises:
        Refusal: if there is no such file, it holds no weights, or they are another network's; both are named.
    """
    if not Path(path).is_file():
        raise Refusal(f"{path}: no such weights; give --weights_path, or train some (configs/train.yaml)")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise Refusal(f"{path}: not a file of weights ({type(error).__name__}): give --weights_path") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise Refusal(f"{path}: holds no bare state_dict; a training writes one as OUTPUT/model.pt")
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    differing = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if differing:
        first = differing[0]
        raise Refusal(
            f"{path} does not fit {type(network).__name__}: {len(differing)} tensors differ, the first {first} "
            f"({found.get(first, 'absent')} in the file, {wanted.get(first, 'absent')} in the network): "
            f"give the network_def these weights were trained with"
        )
    network.load_state_dict(state)
    return network.eval()
