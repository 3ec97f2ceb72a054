"""The learning rate: constant, then linearly down, as in CycleGAN."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ..geometry.refusal import Refusal


def constant_then_linear(optimizer: Optimizer, constant_epochs: int, max_epochs: int) -> LambdaLR:
    """A schedule stepped once an epoch: the full rate for `constant_epochs`, then linearly towards 0 at the end.

    The shape comes from the arguments alone and is not part of a checkpoint: a training that is resumed with more
    epochs falls later.

    Raises:
        Refusal: if the constant part is longer than the training.
    """
    if not 0 <= constant_epochs <= max_epochs:
        raise Refusal(f"constant_epochs must be from 0 to max_epochs = {max_epochs}, got {constant_epochs}")

    def share(epochs_done: int) -> float:
        falling = max(0, epochs_done + 1 - constant_epochs)
        return max(0.0, 1 - falling / (max_epochs - constant_epochs + 1))

    return LambdaLR(optimizer, share)
