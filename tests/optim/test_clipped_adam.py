"""Adam behind clipping: against torch's own pieces."""

import pytest
import torch
from torch import nn

from wmcomponents.optim import ClippedAdam


def two(seed=0):
    generator = torch.Generator().manual_seed(seed)
    params = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((3, 2), (4,))]
    grads = [10 * torch.randn(p.shape, generator=generator) for p in params]
    return params, grads


@pytest.mark.parametrize("max_norm, max_value, decay", [(None, None, 0.0), (5.0, None, 0.0), (None, 1.0, 1e-2)])
def test_a_step_is_clipping_then_shrinking_then_adam(max_norm, max_value, decay):
    params, grads = two()
    twins = [nn.Parameter(p.detach().clone()) for p in params]
    ours = ClippedAdam(params, 0.1, max_norm=max_norm, max_value=max_value, decay=decay)
    plain = torch.optim.Adam(twins, 0.1)
    for _ in range(3):
        for p, twin, grad in zip(params, twins, grads, strict=True):
            p.grad, twin.grad = grad.clone(), grad.clone()
        if max_value is not None:
            for twin in twins:
                twin.grad.clamp_(-max_value, max_value)
        if max_norm is not None:
            norm = torch.cat([twin.grad.flatten() for twin in twins]).norm()
            for twin in twins:
                twin.grad.mul_(min(1.0, max_norm / (float(norm) + 1e-6)))
        with torch.no_grad():
            for twin in twins:
                twin.mul_(1 - decay)
        ours.step()
        plain.step()
        for p, twin in zip(params, twins, strict=True):
            torch.testing.assert_close(p, twin)


def test_a_parameter_without_a_gradient_is_left_alone():
    params, grads = two()
    params[0].grad = grads[0]
    before = params[1].detach().clone()
    ClippedAdam(params, 0.1, max_norm=1.0, decay=0.1).step()
    assert torch.equal(params[1], before)


def test_the_rate_grows_over_the_warm_up_and_a_saved_state_remembers_where_it_stood():
    params, grads = two()
    twins, _ = two()
    ours, plain = ClippedAdam(params, 0.1, warmup=4), torch.optim.Adam(twins, 0.1)
    for k in range(1, 7):
        for p, twin, grad in zip(params, twins, grads, strict=True):
            p.grad, twin.grad = grad.clone(), grad.clone()
        if k == 3:  # goes on in another optimiser
            state, ours = ours.state_dict(), ClippedAdam(params, 0.1, warmup=4)
            ours.load_state_dict(state)
        plain.param_groups[0]["lr"] = 0.1 * min(1.0, k / 4)
        ours.step()
        plain.step()
        assert ours.param_groups[0]["lr"] == 0.1
        for p, twin in zip(params, twins, strict=True):
            torch.testing.assert_close(p, twin)


@pytest.mark.parametrize("options", [{"max_norm": 0.0}, {"max_value": -1.0}, {"decay": 1.0}, {"warmup": -1}])
def test_hyper_parameters_out_of_range_are_refused(options):
    with pytest.raises(ValueError):
        ClippedAdam(two()[0], **options)


def test_groups_of_one_clip_are_clipped_together_and_apart_from_others():
    weights = [nn.Parameter(torch.zeros(4)) for _ in range(3)]
    groups = [{"params": weights[:1]}, {"params": weights[1:2]}, {"params": weights[2:], "clip": "alone"}]
    optimizer = ClippedAdam(groups, max_norm=1.0)
    for weight, size in zip(weights, (30.0, 40.0, 0.25), strict=True):
        weight.grad = torch.full((4,), size / 2)
    optimizer.step()
    torch.testing.assert_close(torch.stack([w.grad.norm() for w in weights]), torch.tensor([0.6, 0.8, 0.25]))


def test_the_warm_up_of_a_part_that_rests_waits():
    moving, resting = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(2))
    optimizer = ClippedAdam([{"params": [moving]}, {"params": [resting]}], 0.1, warmup=4)
    moving.grad = torch.ones(2)
    optimizer.step()
    assert [group["age"] for group in optimizer.param_groups] == [1, 0]
