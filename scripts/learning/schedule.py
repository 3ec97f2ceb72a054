"""The learning rate: constant, then linearly down, as in CycleGAN."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ..geometry.errors import Refusal


class ConstantThenLinear(LambdaLR):
    """Stepped once an epoch: the full rate for `constant_epochs`, then linearly towards 0 at the end.

    A checkpoint keeps the epoch alone; the shape always comes from the arguments, so that a training that is resumed
    with more epochs falls later.

    Args:
        optimizer: whose rate it sets.
        constant_epochs: at the full rate.
        max_epochs: of the whole training.

    Raises:
        Refusal: if the constant part is longer than the training.
    """

    def __init__(self, optimizer: Optimizer, constant_epochs: int, max_epochs: int):
        if not 0 <= constant_epochs <= max_epochs:
            raise Refusal(f"constant_epochs must be from 0 to max_epochs = {max_epochs}, got {constant_epochs}")

        def share(epochs_done: int) -> float:
            falling = max(0, epochs_done + 1 - constant_epochs)
            return max(0.0, 1 - falling / (max_epochs - constant_epochs + 1))

        super().__init__(optimizer, share)

    def load_state_dict(self, state_dict: dict) -> None:
        """Continue at the epoch of a checkpoint; the optimiser's own state must be loaded before."""
        own = self.base_lrs
        super().load_state_dict(state_dict)
        self.base_lrs = own  # the configuration's rate, not the checkpoint's
        for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = rate
