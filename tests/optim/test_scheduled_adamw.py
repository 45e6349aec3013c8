"""AdamW on schedules: torch's own with the numbers of each step, clipping by parts, resuming."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import AdamW

from wmcomponents.functional import Cosine, LinearRamp
from wmcomponents.optim import ScheduledAdamW, decay_groups


def filled(module: nn.Module, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return module


def test_each_step_is_torchs_with_the_numbers_of_that_step():
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    theirs = copy.deepcopy(ours)
    rate, decay = LinearRamp(0.1, 0.5, 10), Cosine(0.04, 0.4, 10)
    optimizer = ScheduledAdamW(decay_groups(ours.named_parameters()), rate, decay)
    other = AdamW([{"params": [theirs[0].weight]}, {"params": [p for p in theirs.parameters() if p.ndim == 1]}])
    for step in range(1, 5):
        for group, share in zip(other.param_groups, (1.0, 0.0), strict=True):
            group["lr"], group["weight_decay"] = rate(step), share * decay(step)
        filled(ours, step), filled(theirs, step)
        optimizer.step()
        other.step()
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(a, b)
    assert [group["lr"] for group in optimizer.param_groups] == [1.0, 1.0]


def test_groups_of_one_name_are_clipped_together_and_only_after_a_while():
    torch.manual_seed(0)
    parts = [nn.Linear(3, 3, bias=False) for _ in range(2)]
    groups = [{"params": part.parameters(), "clip": name} for part, name in zip(parts, "ab", strict=True)]
    optimizer = ScheduledAdamW(groups, 0.1, 0.0, max_norm=1.0, clip_after=1)
    norms = []
    for scale in (100.0, 100.0):
        for part, size in zip(parts, (1.0, 1e-3), strict=True):
            filled(part, 0).weight.grad *= scale * size
        optimizer.step()
        norms.append([float(part.weight.grad.norm()) for part in parts])
    assert norms[0][0] > 100 and norms[1][0] == pytest.approx(1.0)
    assert norms[1][1] == pytest.approx(norms[0][1])  # below the limit, whatever the other part does


def test_a_resumed_run_takes_the_numbers_of_the_next_step():
    torch.manual_seed(0)
    ours = nn.Linear(3, 4)
    optimizer = ScheduledAdamW(ours.parameters(), LinearRamp(0.1, 0.5, 10))
    filled(ours, 0)
    optimizer.step()
    other = copy.deepcopy(ours)
    resumed = ScheduledAdamW(other.parameters(), LinearRamp(0.1, 0.5, 10))
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    filled(ours, 1), filled(other, 1)
    optimizer.step()
    resumed.step()
    assert torch.equal(ours.weight, other.weight) and resumed.param_groups[0]["taken"] == 2


@pytest.mark.parametrize("bad", [{"max_norm": 0.0}, {"clip_after": -1}])
def test_numbers_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match="max_norm is positive"):
        ScheduledAdamW(nn.Linear(1, 1).parameters(), 0.1, **bad)
