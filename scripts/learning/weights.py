"""Network weights from files: the ones that fit, interpolated where asked for, or a refusal; never random ones."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from ..geometry.checks import is_number
from ..geometry.checksums import BUNDLE, OWN, origin_of, require_intact, sha256_of
from ..geometry.errors import Refusal, printable
from .generator import CROSS, VolumeGenerator

FARTHEST_RELATED = 0.5  # relative distance of weights; within one training it stays far below, between two it is 1
DEFAULT_SHARPNESS = 0.5  # chosen on people held back from training (docs/README.md)
EXTRA_GAIN_FAITHFUL = 0.15  # detail gain minus 1 of a mean of very many predictions, at sharpness 0 (docs/physics.md)
EXTRA_GAIN_SHARP = 0.6  # the same at sharpness 1
RESNET_FIRST = "layers.1.weight"  # of `ResnetGenerator`
RESNET_CONFIGS = {64: "configs/paper.yaml", 16: "configs/paper_small.yaml"}  # by the channels of its first layer
logger = logging.getLogger(__name__)


def load_weights(network: nn.Module, path: str) -> nn.Module:
    """Load the weights of a file into a network and set it to evaluation mode.

    Args:
        network: the network to fill.
        path: a bare state_dict, such as models/model.pt.

    Raises:
        Refusal: if the file is missing, holds no weights, or those of another network.
    """
    _fit(network, _bare_state(path), path)
    return network.eval()


def load_interpolated(
    network: nn.Module, path: str, sharp_path: str, sharpness: float, faithful_path: str | None = None
) -> nn.Module:
    """Load weights interpolated between faithful and sharp ones into a network and set it to evaluation mode.

    Each tensor becomes faithful + sharpness * (sharp - faithful). Weights of a training and of its continuation can be
    interpolated so (Wang et al. 2018, ESRGAN, section 3.4, arXiv 1809.00219). Adapted weights keep all of their
    adaptation: adapted + sharpness * (sharp - faithful). Weights of planes and of volumes can be interpolated too: the
    cross blocks, which planes lack, are then those of the volumes with their output scaled by `sharpness`.

    Args:
        network: the network to fill.
        path: the faithful weights, or weights adapted from them; a bare state_dict.
        sharp_path: the sharp weights; not read where sharpness is 0.
        sharpness: 0 (faithful) to 1 (sharp).
        faithful_path: the faithful weights where `path` holds adapted ones.

    Raises:
        Refusal: if sharpness is not between 0 and 1, a file does not fit, or the sharp weights do not come from the
            faithful ones: between weights of two trainings, interpolation gives no useful network.
    """
    if not _is_sharpness(sharpness):
        raise Refusal(f"sharpness must be between 0 (faithful) and 1 (sharp), got {sharpness!r}")
    state = _bare_state(path)
    _fit(network, state, path)
    _name_own(path)
    if sharpness > 0:
        _name_own(sharp_path)
        sharp = _state_of(network, sharp_path)
        _fit(network, state, path)  # again: weights of planes now take the directions of the cross blocks from `sharp`
        own = _copy_of(network)
        faithful = own if faithful_path in (None, path) else _state_of(network, faithful_path)
        if not _are_related(faithful, sharp):
            raise Refusal(
                f"{sharp_path} was not trained from {faithful_path or path} (their weights differ too much): "
                f"weights of two trainings cannot be interpolated; give --sharpness 0, or --sharp_weights_path that "
                f"continue the faithful ones (configs/sharp.yaml)"
            )
        network.load_state_dict({n: own[n] + float(sharpness) * (sharp[n] - faithful[n]) for n in own})
    return network.eval()


def default_sharpness(path: str, sharp_path: str) -> float:
    """Return the sharpness where none is set: 0.5 where the sharp weights come from the faithful ones, else 0.

    Args:
        path: the faithful weights.
        sharp_path: the sharp weights.

    Raises:
        Refusal: if a file is there but damaged; sharpness 0 would then change results without a word.
    """
    if not Path(path).is_file():  # which ends the run where the weights are loaded
        return 0.0
    if not Path(sharp_path).is_file():
        logger.info("sharpness is 0, since there are no sharp weights: %s: no such weights", printable(str(sharp_path)))
        return 0.0
    faithful, sharp = _read(path), _read(sharp_path)
    comparable = _is_state(faithful) and _is_state(sharp) and _shapes(faithful) == _shapes(sharp)
    if comparable and _are_related(faithful, sharp):
        return DEFAULT_SHARPNESS
    logger.info("sharpness is 0: %s continues another training than %s", Path(sharp_path).name, Path(path).name)
    return 0.0


def default_detail_gain(sharpness: float, count: int) -> float:
    """Return the factor on the detail of a mean of predictions where none is set.

    The sharper the predictions, the less they agree and the more of their detail is lost in the mean. The loss grows
    with their number n as the variance of a mean falls, by 1 - 1 / n; a single prediction loses nothing.

    Args:
        sharpness: 0 to 1; any other value counts as 0 here and is refused where the weights are loaded.
        count: number of predictions, as from `prediction_count`.

    >>> default_detail_gain(sharpness=0.5, count=1), round(default_detail_gain(sharpness=0.5, count=2), 3)
    (1.0, 1.188)
    """
    sharpness = sharpness if _is_sharpness(sharpness) else 0
    return 1 + (1 - 1 / count) * (EXTRA_GAIN_FAITHFUL + (EXTRA_GAIN_SHARP - EXTRA_GAIN_FAITHFUL) * sharpness)


def load_initial_weights(path: str | None, networks: Mapping[str, nn.Module], averaged: nn.Module) -> None:
    """Load the weights that a training starts from; None leaves the networks as they are.

    Args:
        path: bare weights of G (as models/model.pt), or a checkpoint of a training (OUTPUT/best.pt), which has F and
            the averaged G too.
        networks: {"G", "F", ...}.
        averaged: the running average of G.

    Raises:
        Refusal: if the file is missing or does not fit.
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


def _name_own(path: str) -> None:
    """Log that weights are not those that ship with the bundle, where that is so."""
    if Path(path).is_file() and origin_of(checksum := sha256_of(path)) == OWN:
        logger.info("%s: your own weights, not shipped with GLADE (SHA-256 %s...)", printable(path), checksum[:16])


def _is_sharpness(sharpness) -> bool:
    return is_number(sharpness) and 0 <= sharpness <= 1


def _state_of(network: nn.Module, path: str) -> dict[str, torch.Tensor]:
    """The weights of a file, after they have been loaded into the network."""
    return _copy_of(load_weights(network, path))


def _copy_of(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def _bare_state(path: str) -> dict[str, torch.Tensor]:
    """The state_dict that a file holds."""
    state = _read(path)
    if not _is_state(state):
        raise Refusal(f"{path}: holds no bare state_dict; a training writes one as OUTPUT/model.pt")
    return state


def _are_related(faithful: Mapping[str, torch.Tensor], sharp: Mapping[str, torch.Tensor]) -> bool:
    """Whether |sharp - faithful| <= FARTHEST_RELATED |faithful| over all weights; false where any is not finite.

    The shipped weights are 0.02 apart, those of two trainings 1 and more.
    """
    distance = sum(float((sharp[name] - tensor).double().square().sum()) for name, tensor in faithful.items())
    return distance <= FARTHEST_RELATED**2 * sum(float(t.double().square().sum()) for t in faithful.values())


def _read(path: str) -> dict:
    if not Path(path).is_file():
        raise Refusal(f"{path}: no such weights; give --weights_path, or train some (configs/train.yaml)")
    try:
        require_intact(path)
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Refusal:
        raise
    except Exception as error:
        raise Refusal(f"{path}: not a file of weights ({type(error).__name__}): give --weights_path") from error
    if not isinstance(saved, dict):
        raise Refusal(f"{path}: holds no bare state_dict; a training writes one as OUTPUT/model.pt")
    return saved


def _is_state(state) -> bool:
    return isinstance(state, dict) and bool(state) and all(isinstance(value, torch.Tensor) for value in state.values())


def _shapes(state: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _remedy(found: Mapping[str, tuple[int, ...]]) -> str:
    """The network_def that weights need, where their names and shapes show it."""
    if any(name.startswith(CROSS) for name in found):
        return (
            "these are weights of a generator of volumes: add "
            "--network_def::_target_ scripts.learning.generator.VolumeGenerator"
        )
    config = RESNET_CONFIGS.get(found.get(RESNET_FIRST, (0,))[0])
    if config is None:
        return "give the --network_def these weights were trained with"
    place = os.path.relpath(BUNDLE / config)  # MONAI looks for it from the folder of this process
    return (
        f'these are weights of {config}: add --network_def "%{place}::network_def" --views "[1]" '
        f'--rotations_deg "[0]" --consistent false --sharpness 0'
    )


def _fit(network: nn.Module, state: Mapping[str, torch.Tensor], path: str) -> None:
    if isinstance(network, VolumeGenerator):
        state = network.completed(state)
    wanted, found = _shapes(network.state_dict()), _shapes(state)
    differing = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if differing:
        first = differing[0]
        raise Refusal(
            f"{path} does not fit {type(network).__name__}: {len(differing)} tensors differ, the first {first} "
            f"({found.get(first, 'absent')} in the file, {wanted.get(first, 'absent')} in the network): "
            f"{_remedy(found)}"
        )
    network.load_state_dict(state)
