"""The learning rate: constant, then linearly down to 0, as in CycleGAN."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, LinearLR, LRScheduler, SequentialLR

from ..geometry.refusal import Refusal


def constant_then_linear(optimizer: Optimizer, constant_epochs: int, max_epochs: int) -> LRScheduler:
    """A schedule stepped once an epoch: the full rate for `constant_epochs`, then linearly towards 0 at the end.

    Raises:
        Refusal: if the constant part is longer than the training.
    """
    if not 0 <= constant_epochs <= max_epochs:
        raise Refusal(f"constant_epochs must be from 0 to max_epochs = {max_epochs}, got {constant_epochs}")
    constant = ConstantLR(optimizer, factor=1.0, total_iters=constant_epochs)
    falling_epochs = max(1, max_epochs - constant_epochs)
    falling = LinearLR(optimizer, start_factor=1.0, end_factor=1 / falling_epochs, total_iters=falling_epochs - 1 or 1)
    return SequentialLR(optimizer, [constant, falling], milestones=[max(constant_epochs, 1)])
