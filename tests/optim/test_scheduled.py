"""Optimisers of MuZero's family."""

import pytest
import torch

from wmcomponents.optim import ScheduledAdam, ScheduledSGD, learning_rate_factor


def test_the_rate_warms_up_and_decays_smoothly_or_at_once():
    smooth = [learning_rate_factor(step, 4, 0.1, 10) for step in (0, 2, 4, 10, 20)]
    assert smooth == pytest.approx([0.0, 0.5, 0.1**0.4, 0.1, 0.01])
    stairs = [learning_rate_factor(step, 0, 0.1, 10, staircase=True) for step in (0, 9, 10, 25)]
    assert stairs == pytest.approx([1.0, 1.0, 0.1, 0.01])
    assert learning_rate_factor(10**6) == 1.0


def test_sgd_is_torch_s_behind_clipping_at_the_scheduled_rate():
    ours, theirs = (torch.nn.Parameter(torch.tensor([3.0, 4.0])) for _ in range(2))
    optimizer = ScheduledSGD([ours], lr=0.2, max_norm=1.0, warmup=2, decay_rate=0.1, decay_steps=3, staircase=True)
    reference = torch.optim.SGD([theirs], lr=0.2, momentum=0.9, weight_decay=1e-4)
    for factor in (0.0, 0.5, 1.0, 0.1, 0.1, 0.1, 0.01):
        for parameter in (ours, theirs):
            parameter.grad = 2 * parameter.detach()
        theirs.grad.mul_(min(1.0, 1.0 / (float(theirs.grad.norm()) + 1e-6)))
        reference.param_groups[0]["lr"] = 0.2 * factor
        optimizer.step()
        reference.step()
        torch.testing.assert_close(ours, theirs)


def test_adam_goes_on_from_its_state_dict():
    def fresh():
        parameter = torch.nn.Parameter(torch.ones(3))
        return parameter, ScheduledAdam([parameter], lr=0.1, decay_rate=0.8, decay_steps=2)

    def take(parameter, optimizer, steps):
        for _ in range(steps):
            parameter.grad = parameter.detach().clone()
            optimizer.step()

    whole, optimizer = fresh()
    take(whole, optimizer, 6)
    half, first = fresh()
    take(half, first, 3)
    rest, second = fresh()
    rest.data.copy_(half.data)
    second.load_state_dict(first.state_dict())
    take(rest, second, 3)
    assert torch.equal(whole, rest)
    assert second.param_groups[0]["taken"] == 6 and second.param_groups[0]["lr"] == 0.1


def test_a_schedule_from_outside_multiplies():
    outer, inner = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    both = ScheduledSGD([outer], lr=0.2, decay_rate=0.5, decay_steps=1, staircase=True)
    plain = torch.optim.SGD([inner], lr=0.2, momentum=0.9, weight_decay=1e-4)
    for step in range(3):
        both.param_groups[0]["lr"] = 0.2 * (1.0 - step / 4)
        plain.param_groups[0]["lr"] = 0.2 * (1.0 - step / 4) * 0.5**step
        for parameter, optimizer in ((outer, both), (inner, plain)):
            parameter.grad = parameter.detach().clone()
            optimizer.step()
    torch.testing.assert_close(outer, inner)


@pytest.mark.parametrize("wrong", [{"max_norm": 0.0}, {"warmup": -1}, {"decay_rate": 0.0}, {"decay_steps": -1}])
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="got"):
        ScheduledSGD([torch.nn.Parameter(torch.ones(1))], **wrong)
