import warnings

import pytest
import torch

from scripts.geometry.errors import Refusal
from scripts.learning.schedule import ConstantThenLinear


def rates(constant: int, epochs: int) -> tuple[list[float], ConstantThenLinear, torch.optim.Optimizer]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule, seen = ConstantThenLinear(optimizer, constant, epochs), []
    for _ in range(epochs):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen, schedule, optimizer


def test_rate_is_constant_then_falls_in_equal_steps_and_never_to_zero():
    seen, _, _ = rates(3, 7)
    assert seen == pytest.approx([1, 1, 1, 0.8, 0.6, 0.4, 0.2])


def test_an_optimizer_that_has_not_stepped_yet_is_no_reason_for_a_warning():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = ConstantThenLinear(optimizer, 1, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schedule.step()


def test_resumed_with_more_epochs_the_rate_falls_later():
    _, done, optimizer = rates(2, 2)
    longer = ConstantThenLinear(optimizer, 4, 6)
    longer.load_state_dict(done.state_dict())
    assert longer.last_epoch == 2
    assert optimizer.param_groups[0]["lr"] == 1.0


def test_a_rate_that_was_lowered_before_resuming_counts():
    _, done, _ = rates(2, 2)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    lower = ConstantThenLinear(optimizer, 4, 6)
    lower.load_state_dict(done.state_dict())
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)


def test_a_constant_part_longer_than_the_training_is_refused():
    with pytest.raises(Refusal, match="constant_epochs must be from 0 to max_epochs = 4, got 5"):
        rates(5, 4)
