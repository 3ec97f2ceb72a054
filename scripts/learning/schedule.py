"""The learning rate: constant, then linearly down, as in CycleGAN."""

import warnings

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ..geometry.errors import Refusal


class ConstantThenLinear(LambdaLR):
    """Learning rate that is constant for `constant_epochs`, then falls linearly towards 0; step it once an epoch.

    Only the epoch is taken from a checkpoint and the shape from the arguments, so that in a training that is resumed
    with more epochs the rate falls later.

    Args:
        optimizer: the optimizer whose rate is set.
        constant_epochs: epochs at the full rate.
        max_epochs: epochs of the whole training.

    Raises:
        Refusal: if the constant part is longer than the training.

    >>> import torch
    >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    >>> schedule, rates = ConstantThenLinear(optimizer, constant_epochs=2, max_epochs=4), []
    >>> for _ in range(4):
    ...     rates.append(round(schedule.get_last_lr()[0], 2))
    ...     optimizer.step()
    ...     schedule.step()
    >>> rates
    [1.0, 1.0, 0.67, 0.33]
    """

    def __init__(self, optimizer: Optimizer, constant_epochs: int, max_epochs: int):
        if not 0 <= constant_epochs <= max_epochs:
            raise Refusal(f"constant_epochs must be from 0 to max_epochs = {max_epochs}, got {constant_epochs}")

        def share(epochs_done: int) -> float:
            falling = max(0, epochs_done + 1 - constant_epochs)
            return max(0.0, 1 - falling / (max_epochs - constant_epochs + 1))

        super().__init__(optimizer, share)

    def step(self, epoch: int | None = None) -> None:
        """Go on to the next epoch."""
        with warnings.catch_warnings():  # an optimizer whose loss terms start in a later epoch has rightly not stepped
            warnings.filterwarnings("ignore", message=r"Detected call of `lr_scheduler\.step\(\)` before")
            super().step(epoch)

    def load_state_dict(self, state_dict: dict) -> None:
        """Continue at the epoch of a checkpoint; load the state of the optimizer before."""
        own = self.base_lrs
        super().load_state_dict(state_dict)
        self.base_lrs = own  # the configuration's rate, not the checkpoint's
        for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = rate
