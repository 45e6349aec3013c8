"""The ways to leave some nats free, and to balance a divergence."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from wmcomponents.functional import averaged_free_nats, excess_nats, free_nats, mixed_kl, split_kl

seeds = st.integers(0, 2**31 - 1)


def normals(p: Tensor, q: Tensor) -> Tensor:
    """KL between unit normals: half the squared distance."""
    return 0.5 * (p - q).square().sum(-1)


def gradient(function, kl: Tensor) -> Tensor:
    kl = kl.clone().requires_grad_()
    function(kl).sum().backward()
    return kl.grad


@given(seeds, st.floats(0.0, 3.0))
def test_excess_nats_are_free_nats_less_the_threshold(seed, nats):
    kl = 4.0 * torch.rand(3, 5, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(excess_nats(kl, nats), free_nats(kl, nats) - nats)
    assert torch.equal(gradient(lambda x: excess_nats(x, nats), kl), gradient(lambda x: free_nats(x, nats), kl))


@given(seeds, st.floats(0.0, 3.0))
def test_the_mean_of_averaged_free_nats_is_the_clipped_mean(seed, nats):
    generator = torch.Generator().manual_seed(seed)
    kl, weight = 4.0 * torch.rand(3, 5, generator=generator), torch.rand(3, 5, generator=generator)
    weight[0, :2] = 0.0
    plain = averaged_free_nats(kl, nats).mean()
    assert plain.item() == pytest.approx(max(kl.mean().item(), nats), rel=1e-5)
    weighted = (averaged_free_nats(kl, nats, weight) * weight).sum() / weight.sum()
    mean = ((kl * weight).sum() / weight.sum()).item()
    assert weighted.item() == pytest.approx(max(mean, nats), rel=1e-5)
    assert bool(gradient(lambda x: averaged_free_nats(x, nats), kl).any()) == (kl.mean().item() > nats)


def test_averaging_lets_large_divergences_pay_for_small_ones():
    kl = torch.tensor([0.0, 4.0])
    assert averaged_free_nats(kl, 1.0).tolist() == [0.0, 4.0] and free_nats(kl, 1.0).tolist() == [1.0, 4.0]
    assert averaged_free_nats(kl, 3.0).tolist() == [3.0, 3.0]


def test_a_split_divergence_moves_one_side_each():
    q, p = torch.zeros(2, 3, requires_grad=True), torch.ones(2, 3, requires_grad=True)
    dyn, rep = split_kl(normals, q, p)
    assert torch.equal(dyn, rep)
    assert torch.autograd.grad(dyn.sum(), (q, p), allow_unused=True)[0] is None
    assert torch.autograd.grad(rep.sum(), (q, p), allow_unused=True)[1] is None


@given(seeds, st.sampled_from([0.2, 0.8, 1.0]))
def test_the_balance_is_the_share_of_the_gradient_that_trains_the_prior(seed, balance):
    generator = torch.Generator().manual_seed(seed)
    q, p = (torch.randn(4, 3, generator=generator).requires_grad_() for _ in range(2))
    mixed = mixed_kl(normals, q, p, balance, lambda kl: kl)
    torch.testing.assert_close(mixed, normals(q, p))
    to_q, to_p = torch.autograd.grad(mixed.sum(), (q, p))
    whole = (q - p).detach()
    torch.testing.assert_close(to_p, -balance * whole)
    torch.testing.assert_close(to_q, (1.0 - balance) * whole, rtol=1e-5, atol=1e-6)


def test_an_even_balance_is_one_divergence_whose_gradient_is_whole():
    q, p = torch.zeros(2, 3, requires_grad=True), torch.ones(2, 3, requires_grad=True)
    to_q, to_p = torch.autograd.grad(mixed_kl(normals, q, p, 0.5).sum(), (q, p))
    assert to_q.eq(-1.0).all() and to_p.eq(1.0).all()
    assert mixed_kl(normals, q, p, 0.5).tolist() == [1.5, 1.5]
    assert math.isclose(mixed_kl(normals, q, p, 0.8, lambda kl: free_nats(kl, 2.0)).mean().item(), 2.0, rel_tol=1e-6)
