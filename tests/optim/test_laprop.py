"""LaProp: the official numbers, and what an optimiser owes its caller."""

import copy

import pytest
import torch
from torch import nn

from tests.support.golden_vectors import load
from wmcomponents.optim import LaProp
from wmcomponents.optim.laprop import clipped

NAMES = ("v3_agc_laprop_nowarmup", "v3_agc_laprop_warmup5")


def taken(parameter, gradients, **options):
    """The values of one parameter along steps with the given gradients (None: no gradient)."""
    optimizer = LaProp([parameter], **options)
    values = []
    for gradient in gradients:
        parameter.grad = gradient
        optimizer.step()
        values.append(parameter.detach().clone())
    return values


@pytest.mark.parametrize("name", NAMES)
def test_every_step_equals_the_official_one(name):
    meta, tensors = load(name)
    c = meta["config"]
    params = {key: nn.Parameter(tensors[f"in/param/{key}"].clone()) for key in ("b", "big", "s", "w")}
    optimizer = LaProp(
        params.values(),
        c["lr"],
        betas=(c["beta1"], c["beta2"]),
        eps=c["eps"],
        agc=c["agc"],
        pmin=c["pmin"],
        warmup=c["warmup"],
    )
    for step in range(8):
        for key, parameter in params.items():
            parameter.grad = tensors[f"in/step{step}/grad/{key}"].clone()
        grads = clipped([p.grad for p in params.values()], list(params.values()), c["agc"], c["pmin"])
        for key, grad in zip(params, grads, strict=True):
            torch.testing.assert_close(grad, tensors[f"out/step{step}/agc_grad/{key}"], **meta["tolerance"])
        optimizer.step()
        for key, parameter in params.items():
            torch.testing.assert_close(parameter.data, tensors[f"out/step{step}/param/{key}"], **meta["tolerance"])


def test_the_gradient_itself_is_left_as_it_was():
    parameter = nn.Parameter(torch.ones(3))
    gradient = torch.tensor([100.0, -100.0, 1.0])
    taken(parameter, [gradient], lr=0.1)
    assert gradient.tolist() == [100.0, -100.0, 1.0]


def test_the_state_dict_goes_round():
    torch.manual_seed(0)
    net = nn.Linear(4, 3)
    twin = copy.deepcopy(net)
    data = [torch.randn(5, 4) for _ in range(8)]

    def run(model, optimizer, batches):
        for x in batches:
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()

    one = LaProp(net.parameters(), 0.01, warmup=4)
    run(net, one, data)
    two = LaProp(twin.parameters(), 0.01, warmup=4)
    run(twin, two, data[:3])
    three = LaProp(twin.parameters(), 0.5)
    three.load_state_dict(copy.deepcopy(two.state_dict()))
    run(twin, three, data[3:])
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), twin.parameters(), strict=True))


def test_each_group_has_its_own_rate():
    frozen, moving = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = LaProp([{"params": [frozen], "lr": 0.0}, {"params": [moving]}], 0.1, warmup=0)
    for parameter in (frozen, moving):
        parameter.grad = torch.ones(2)
    optimizer.step()
    assert frozen.tolist() == [1.0, 1.0]
    torch.testing.assert_close(moving.data, torch.full((2,), 0.9))


def test_a_parameter_whose_gradient_comes_later_counts_its_own_steps():
    torch.manual_seed(0)
    gradients = [torch.randn(3) for _ in range(4)]
    alone = nn.Parameter(torch.ones(3))
    expected = taken(alone, gradients, lr=0.1, warmup=2)
    early, late = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    # The late one stands first: its count must not become that of the others.
    optimizer = LaProp([late, early], 0.1, warmup=2)
    for step in range(7):
        early.grad = gradients[step % 4]
        late.grad = gradients[step - 3] if step >= 3 else None
        optimizer.step()
        if step < 4:
            assert torch.equal(early.data, expected[step])
        if step >= 3:
            assert torch.equal(late.data, expected[step - 3])
    assert optimizer.state[early]["step"] == 7 and optimizer.state[late]["step"] == 4


def test_a_zero_gradient_moves_nothing():
    assert taken(nn.Parameter(torch.ones(3)), [torch.zeros(3)] * 3, lr=0.1, warmup=0)[-1].tolist() == [1.0, 1.0, 1.0]


def test_the_first_warm_up_step_moves_nothing():
    assert taken(nn.Parameter(torch.ones(3)), [torch.ones(3)], lr=0.1, warmup=5)[-1].tolist() == [1.0, 1.0, 1.0]


def test_zero_weights_can_move():
    assert (taken(nn.Parameter(torch.zeros(3)), [torch.ones(3)], lr=0.1, warmup=0)[-1] < 0).all()


def test_without_clipping_the_size_of_the_gradient_does_not_matter():
    small, large = (
        taken(nn.Parameter(torch.ones(2)), [torch.full((2,), g)], agc=None, warmup=0)[-1] for g in (1e-3, 1e3)
    )
    torch.testing.assert_close(small, large)


def test_the_closure_is_evaluated_with_gradients():
    parameter = nn.Parameter(torch.ones(2))
    optimizer = LaProp([parameter], 0.1, warmup=0)

    def closure():
        loss = parameter.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == 2.0
    assert (parameter < 1).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "lr, eps, pmin and warmup are at least 0"),
        ({"betas": (0.9, 1.0)}, "betas are in"),
        ({"agc": 0.0}, "agc is a positive ratio"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        LaProp([nn.Parameter(torch.ones(1))], **options)
