"""Laws of TD-MPC2's layers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.support.parts import assert_every_parameter_gets_a_gradient, scramble
from wmcomponents.nn import EnsembleLinear, EnsembleNormedLinear, NormedLinear, NormedMLP, SimNorm, TaskEmbedding


@given(st.integers(1, 4), st.integers(1, 9), st.integers(0, 2**31 - 1))
def test_every_group_of_a_simnorm_is_a_point_of_a_simplex(groups, size, seed):
    x = 10 * torch.randn(3, groups * size, generator=torch.Generator().manual_seed(seed))
    y = SimNorm(size)(x)
    assert y.shape == x.shape and (y >= 0).all()
    torch.testing.assert_close(y.unflatten(-1, (groups, size)).sum(-1), torch.ones(3, groups))
    shifted = x.unflatten(-1, (groups, size)) + torch.arange(groups)[:, None]
    torch.testing.assert_close(SimNorm(size)(shifted.flatten(-2)), y)


def test_normed_layers_begin_with_small_weights_and_no_bias():
    torch.manual_seed(0)
    layer = NormedLinear(256, 256)
    assert 0.019 < layer.weight.std() < 0.021 and not layer.bias.any()
    assert layer.ln.eps == 1e-5


def test_an_mlp_is_a_chain_and_every_weight_learns():
    mlp = scramble(NormedMLP(6, 4, 4, 8, act=SimNorm(4)))
    assert [tuple(layer.weight.shape) for layer in mlp] == [(4, 6), (4, 4), (8, 4)]
    out = mlp(torch.randn(5, 6))
    assert_every_parameter_gets_a_gradient(mlp, (out * torch.randn(5, 8)).sum())


def test_an_ensemble_is_its_members_side_by_side():
    torch.manual_seed(0)
    ensemble = scramble(EnsembleNormedLinear(3, 6, 4))
    x = torch.randn(3, 5, 6)
    together = ensemble(x)
    for member in range(3):
        alone = NormedLinear(6, 4)
        alone.load_state_dict({key: value[member] for key, value in ensemble.state_dict().items()}, strict=True)
        torch.testing.assert_close(together[member], alone(x[member]))


def test_members_that_are_not_asked_for_are_not_run_and_learn_nothing():
    ensemble = scramble(EnsembleNormedLinear(4, 6, 3))
    x, members = torch.randn(4, 5, 6), torch.tensor([2, 0])
    some = ensemble(x[:2], members)
    torch.testing.assert_close(some[0], ensemble(x[:1], torch.tensor([2]))[0])
    some.square().sum().backward()
    assert ensemble.weight.grad[[0, 2]].any(-1).any(-1).all() and not ensemble.weight.grad[[1, 3]].any()


def test_detached_members_leave_their_weights_alone_but_let_the_input_learn():
    ensemble, x = scramble(EnsembleNormedLinear(2, 6, 3)), torch.randn(2, 5, 6, requires_grad=True)
    ensemble(x, detach=True).square().sum().backward()
    assert x.grad.any() and all(p.grad is None for p in ensemble.parameters())


def test_dropout_acts_before_the_normalisation():
    ensemble, x = scramble(EnsembleNormedLinear(1, 6, 3)), torch.randn(1, 5, 6)
    keep = torch.tensor([1.0, 0.0, 1.0]).expand(1, 5, 3) / 0.5
    inside = EnsembleLinear.forward(ensemble, x) * keep
    expected = nn.functional.mish(ensemble.ln(inside))
    torch.testing.assert_close(ensemble(x, keep=keep), expected)
    assert not torch.equal(expected, ensemble(x))


def test_a_zero_outscale_gives_zeros():
    assert not EnsembleLinear(2, 3, 4, outscale=0.0).weight.any()


@pytest.mark.parametrize("scale", [0.01, 5.0])
def test_an_embedding_gives_what_torchs_gives_and_keeps_its_weights(scale):
    torch.manual_seed(0)
    ours, task = TaskEmbedding(4, 3), torch.tensor([[1, 3], [3, 3]])
    with torch.no_grad():
        ours.weight.normal_(std=scale)
    torchs = nn.Embedding(4, 3, max_norm=1.0)
    torchs.load_state_dict(ours.state_dict())
    before = ours.weight.clone()
    found, expected = ours(task), torchs(task)
    torch.testing.assert_close(found, expected)
    assert torch.equal(ours.weight, before)
    ours.renormalize_(task)
    torch.testing.assert_close(ours.weight, torchs.weight)
    assert torch.equal(ours.weight[[0, 2]], before[[0, 2]])
    weights = torch.randn(2, 2, 3)
    (ours(task) * weights).sum().backward(), (torchs(task) * weights).sum().backward()
    torch.testing.assert_close(ours.weight.grad, torchs.weight.grad)
