"""Weights from a file into a network: the right ones, or a clear refusal; never random ones in silence."""

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from ..geometry.checks import is_number
from ..geometry.errors import Refusal

FAR_APART = 0.5  # relative distance of weights; a continuation stays far below, another training lies beyond
HALF_WAY = 0.5  # of the dial; chosen on people held back from training (docs/README.md)
FAITHFUL_EXCESS, SHARP_EXCESS = (
    0.3,
    0.6,
)  # of the detail_gain over 1, of a mean of many, at the dial's ends (physics.md)
logger = logging.getLogger(__name__)


def load_weights(network: nn.Module, path: str) -> nn.Module:
    """The network with the weights of a file, in evaluation mode.

    Args:
        network: the network to fill.
        path: a bare state_dict, as `models/model.pt`.

    Raises:
        Refusal: if there is no such file, it holds no weights, or they are another network's; both are named.
    """
    state = _read(path)
    if not _is_state(state):
        raise Refusal(f"{path}: holds no bare state_dict; a training writes one as OUTPUT/model.pt")
    _fit(network, state, path)
    return network.eval()


def load_blend(
    network: nn.Module, path: str, sharp_path: str, sharpness: float, grown_from: str | None = None
) -> nn.Module:
    """The network on the line from the faithful to the sharp weights, in evaluation mode.

    faithful + sharpness * (sharp - faithful), tensor by tensor: weights of one training and of its
    continuation can be mixed so (network interpolation, Wang et al. 2018, ESRGAN, section 3.4, arXiv 1809.00219).
    Adapted weights keep all of their adaptation: adapted + sharpness * (sharp - faithful).

    Args:
        network: the network to fill.
        path: the faithful weights, or weights adapted from them; a bare state_dict.
        sharp_path: the sharp ones; not looked at where sharpness is 0.
        sharpness: 0 to 1.
        grown_from: the faithful weights where `path` holds adapted ones.

    Raises:
        Refusal: if sharpness is not between 0 and 1, a file does not fit, or the two ends are not of one training:
            between unrelated weights lies no answer.
    """
    if not _is_sharpness(sharpness):
        raise Refusal(f"sharpness must be between 0 (faithful) and 1 (sharp), got {sharpness!r}")
    own = _state_of(network, path)
    if sharpness > 0:
        faithful = own if grown_from in (None, path) else _state_of(network, grown_from)
        sharp = _state_of(network, sharp_path)
        if not _of_one_training(faithful, sharp):
            raise Refusal(
                f"{sharp_path} lies too far from {grown_from or path} to have grown from it: weights of two trainings "
                f"cannot be mixed; give --sharpness 0, or --sharp_weights_path trained from them (configs/sharp.yaml)"
            )
        network.load_state_dict({n: own[n] + float(sharpness) * (sharp[n] - faithful[n]) for n in own})
    return network.eval()


def default_sharpness(path: str, sharp_path: str) -> float:
    """Where the dial stands when nobody sets it: half-way where the two ends are of one training, else faithful.

    Args:
        path: the faithful weights.
        sharp_path: the sharp ones.
    """
    try:
        faithful, sharp = _read(path), _read(sharp_path)
    except Refusal:  # what is wrong with weights is said where they are loaded
        related = False
    else:
        of_a_kind = _is_state(faithful) and _is_state(sharp) and _shapes(faithful) == _shapes(sharp)
        related = of_a_kind and _of_one_training(faithful, sharp)
    if not related:
        logger.info("the dial stands at 0: %s did not grow from %s", Path(sharp_path).name, Path(path).name)
    return HALF_WAY if related else 0.0


def default_detail_gain(sharpness: float, answers: int) -> float:
    """How far the mean of several answers is stretched at a place of the dial when nobody sets it.

    The sharper the answers, the less they agree and the more of their detail is lost in the mean; what is lost grows
    with their number n as the variance of a mean falls, by 1 - 1 / n. One answer alone is not stretched.

    Args:
        sharpness: 0 to 1; what is no place of the dial is refused where the weights are loaded, and counts as 0 here.
        answers: of how many views, at how many turns.
    """
    place = sharpness if _is_sharpness(sharpness) else 0
    return 1 + (1 - 1 / answers) * (FAITHFUL_EXCESS + (SHARP_EXCESS - FAITHFUL_EXCESS) * place)


def _is_sharpness(sharpness) -> bool:
    return is_number(sharpness) and 0 <= sharpness <= 1


def _state_of(network: nn.Module, path: str) -> dict[str, torch.Tensor]:
    """Weights that fit the network, where it is filled with them."""
    return {name: tensor.clone() for name, tensor in load_weights(network, path).state_dict().items()}


def _of_one_training(faithful: Mapping[str, torch.Tensor], sharp: Mapping[str, torch.Tensor]) -> bool:
    """|sharp - faithful| <= FAR_APART |faithful| over all weights; the shipped pair has 0.02, two trainings 1 and more.

    Weights that are not finite are of no training.
    """
    apart = sum(float((sharp[name] - tensor).double().square().sum()) for name, tensor in faithful.items())
    return apart <= FAR_APART**2 * sum(float(tensor.double().square().sum()) for tensor in faithful.values())


def begin_from(path: str | None, networks: Mapping[str, nn.Module], averaged: nn.Module) -> None:
    """Lets a training begin with given weights instead of random ones; None leaves the networks as they are.

    Args:
        path: bare weights of G (as models/model.pt), or a checkpoint of a training (OUTPUT/best.pt), which gives F and
            the averaged G too.
        networks: {"G", "F", ...}.
        averaged: the running average of G.

    Raises:
        Refusal: if there is no such file or it does not fit.
    """
    if path is None:
        return
    saved = _read(path)
    if _is_state(saved):
        saved = {"ema": saved}
    if not _is_state(saved.get("ema")):
        raise Refusal(f"{path}: neither weights nor a training's checkpoint: give OUTPUT/model.pt or OUTPUT/best.pt")
    _fit(networks["G"], saved["ema"], path)
    _fit(averaged, saved["ema"], path)
    if _is_state(saved.get("F")):
        _fit(networks["F"], saved["F"], path)


def _read(path: str) -> dict:
    if not Path(path).is_file():
        raise Refusal(f"{path}: no such weights; give --weights_path, or train some (configs/train.yaml)")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise Refusal(f"{path}: not a file of weights ({type(error).__name__}): give --weights_path") from error
    if not isinstance(saved, dict):
        raise Refusal(f"{path}: holds no bare state_dict; a training writes one as OUTPUT/model.pt")
    return saved


def _is_state(state) -> bool:
    return isinstance(state, dict) and bool(state) and all(isinstance(value, torch.Tensor) for value in state.values())


def _shapes(state: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _fit(network: nn.Module, state: Mapping[str, torch.Tensor], path: str) -> None:
    wanted, found = _shapes(network.state_dict()), _shapes(state)
    differing = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if differing:
        first = differing[0]
        raise Refusal(
            f"{path} does not fit {type(network).__name__}: {len(differing)} tensors differ, the first {first} "
            f"({found.get(first, 'absent')} in the file, {wanted.get(first, 'absent')} in the network): "
            f"give the network_def these weights were trained with"
        )
    network.load_state_dict(state)
