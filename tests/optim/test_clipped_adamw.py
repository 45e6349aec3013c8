"""AdamW behind clipping by group: against torch's own pieces."""

import pytest
import torch
from torch import nn

from wmcomponents.optim import ClippedAdamW, decayed_names


def drawn(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_groups_of_one_name_are_clipped_together_and_apart_from_others():
    params = [nn.Parameter(drawn(3, seed=i)) for i in range(3)]
    twins = [nn.Parameter(p.detach().clone()) for p in params]
    groups = [
        {"params": params[:1], "clip": "a", "max_norm": 1.0, "weight_decay": 0.1},
        {"params": params[1:2], "clip": "a", "max_norm": 1.0, "weight_decay": 0.0},
        {"params": params[2:], "clip": "b", "max_norm": 100.0, "weight_decay": 0.1},
    ]
    ours = ClippedAdamW(groups, 0.1)
    decayed = torch.optim.AdamW([twins[0], twins[2]], 0.1, weight_decay=0.1)
    plain = torch.optim.AdamW(twins[1:2], 0.1, weight_decay=0.0)
    for step in range(3):
        for i, (p, twin) in enumerate(zip(params, twins, strict=True)):
            p.grad = 10 * drawn(3, seed=10 * step + i)
            twin.grad = p.grad.clone()
        norm = float(torch.cat([twins[0].grad, twins[1].grad]).norm())
        for twin in twins[:2]:
            twin.grad.mul_(min(1.0, 1.0 / (norm + 1e-6)))
        ours.step(), decayed.step(), plain.step()
        for p, twin in zip(params, twins, strict=True):
            torch.testing.assert_close(p, twin)


def test_the_rate_rises_from_zero_and_the_groups_keep_theirs():
    p = nn.Parameter(torch.ones(1))
    optimizer = ClippedAdamW([p], 1.0, weight_decay=0.0, warmup=4)
    seen = [1.0]
    for _ in range(6):
        p.grad = torch.ones(1)
        optimizer.step()
        seen.append(p.item())
    moves = [a - b for a, b in zip(seen[:-1], seen[1:], strict=True)]
    assert moves == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.0, 1.0], abs=1e-5)
    assert optimizer.param_groups[0]["lr"] == 1.0


def test_only_weights_of_linear_convolutional_and_recurrent_layers_shrink():
    parts = {"lin": nn.Linear(2, 2), "conv": nn.Conv2d(2, 2, 1), "cell": nn.LSTMCell(2, 2)}
    module = nn.ModuleDict({**parts, "table": nn.Embedding(2, 2), "norm": nn.GroupNorm(1, 2)})
    module.register_parameter("own", nn.Parameter(torch.zeros(2)))
    assert decayed_names(module) == {"lin.weight", "conv.weight", "cell.weight_ih", "cell.weight_hh"}


@pytest.mark.parametrize("options", [{"max_norm": 0.0}, {"warmup": -1}])
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(ValueError):
        ClippedAdamW([nn.Parameter(torch.ones(1))], **options)
