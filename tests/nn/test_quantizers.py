"""Codebooks, grids, and how codes are used."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wmcomponents.nn import (
    FSQ,
    CodebookUsage,
    VectorQuantizer,
    code_counts,
    farthest_first,
    nearest_code,
    perplexity,
    revived,
    usage_entropy,
)

SEEDS = st.integers(0, 10_000)


@settings(deadline=None)
@given(SEEDS, st.integers(1, 9), st.integers(1, 4))
def test_the_code_is_the_nearest(seed, codes, dim):
    torch.manual_seed(seed)
    z, codebook = torch.randn(2, 5, dim), torch.randn(codes, dim)
    chosen = nearest_code(z, codebook)
    distance = (z.unsqueeze(-2) - codebook).norm(dim=-1)
    torch.testing.assert_close(distance.gather(-1, chosen.unsqueeze(-1)).squeeze(-1), distance.amin(-1))


@settings(deadline=None)
@given(SEEDS)
def test_codes_stand_for_themselves(seed):
    torch.manual_seed(seed)
    part = VectorQuantizer(7, 3)
    torch.nn.init.normal_(part.embedding.weight)
    every = torch.arange(7)
    codes, tokens, loss = part(part.lookup(every))
    assert torch.equal(tokens, every) and torch.equal(part.tokens(part.lookup(every)), every)
    torch.testing.assert_close(codes, part.lookup(every))
    torch.testing.assert_close(loss, torch.zeros(7))


@pytest.mark.parametrize("beta", [0.25, 1.0])
def test_gradients_pass_straight_through_and_each_loss_reaches_its_side(beta):
    torch.manual_seed(0)
    part, z = VectorQuantizer(5, 3, beta=beta), torch.randn(4, 3, requires_grad=True)
    codes, tokens, loss = part(z)
    code, weight = part.lookup(tokens).detach(), torch.randn(4, 3)
    torch.testing.assert_close(codes, code)
    grad_z, grad_e = torch.autograd.grad((codes * weight).sum(), (z, part.embedding.weight), allow_unused=True)
    torch.testing.assert_close(grad_z, weight)
    assert grad_e is None
    torch.testing.assert_close(loss, (1 + beta) * (z - code).square().mean(-1))
    grad_z, grad_e = torch.autograd.grad(loss.sum(), (z, part.embedding.weight))
    torch.testing.assert_close(grad_z, beta * 2 / 3 * (z - code).detach())
    expected = torch.zeros(5, 3).index_add_(0, tokens, 2 / 3 * (code - z).detach())
    torch.testing.assert_close(grad_e, expected)


@settings(deadline=None)
@given(st.lists(st.integers(2, 6), min_size=1, max_size=3))
def test_grid_codes_and_numbers_are_one_to_one(levels):
    grid = FSQ(tuple(levels))
    every = torch.arange(grid.codes)
    codes = grid.lookup(every)
    assert grid.codes == math.prod(levels) == len(codes.unique(dim=0))
    assert bool((codes.abs() <= 1).all())
    assert torch.equal(grid._number(codes * grid.width), every)


@settings(deadline=None)
@given(SEEDS, st.lists(st.integers(2, 6), min_size=1, max_size=3))
def test_what_a_grid_returns_is_the_code_of_its_number(seed, levels):
    torch.manual_seed(seed)
    grid, z = FSQ(tuple(levels)), 3 * torch.randn(2, 4, len(levels), requires_grad=True)
    codes, tokens, loss = grid(z)
    torch.testing.assert_close(codes, grid.lookup(tokens))
    assert torch.equal(tokens, grid.tokens(z)) and bool((tokens < grid.codes).all()) and not loss.any()
    assert bool((torch.autograd.grad(codes.sum(), z)[0] >= 0).all())


def test_every_level_of_a_grid_is_reached_and_zero_is_a_level():
    for levels in (2, 3, 4, 5, 8):
        grid = FSQ((levels,))
        reached = grid.tokens(torch.linspace(-9, 9, 2001).unsqueeze(-1)).unique()
        assert reached.tolist() == list(range(levels))
        torch.testing.assert_close(grid(torch.zeros(1, 1)).codes, torch.zeros(1, 1))


def test_entropy_and_perplexity_count_the_codes_in_use():
    even, one = torch.full((8,), 3.0), torch.tensor([0.0, 5.0, 0.0])
    torch.testing.assert_close(usage_entropy(even), torch.tensor(3.0))
    torch.testing.assert_close(perplexity(even), torch.tensor(8.0))
    torch.testing.assert_close(perplexity(one), torch.tensor(1.0))
    assert usage_entropy(torch.zeros(4)) == 0


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_counts_are_those_of_bincount(tokens):
    tokens = torch.tensor(tokens)
    assert torch.equal(code_counts(tokens, 6), tokens.bincount(minlength=6).float())


def test_running_shares_follow_the_tokens():
    usage = CodebookUsage(4, decay=0.5, expiry=0.3)
    usage.update_(torch.tensor([[0, 0], [0, 1]]))
    torch.testing.assert_close(usage.frequency, torch.tensor([0.5, 0.25, 0.125, 0.125]))
    for _ in range(2):
        usage.update_(torch.tensor([0, 1]))
    assert usage.expired.tolist() == [False, False, True, True]
    torch.testing.assert_close(usage.frequency.sum(), torch.tensor(1.0))
    assert 1.0 < usage.entropy < 2.0


def test_expired_codes_come_to_life_as_vectors_of_the_batch():
    usage, codebook, z = CodebookUsage(4), torch.zeros(4, 2), torch.arange(6.0).view(3, 2)
    usage.frequency.copy_(torch.tensor([0.5, 0.5, 0.0, 0.001]))
    before = codebook.clone()
    assert torch.equal(revived(codebook, usage.expired, z, torch.zeros(4))[2], z[0])
    assert torch.equal(codebook, before)
    usage.revive_(codebook, z, torch.tensor([0.0, 0.0, 0.4, 0.999]))
    assert torch.equal(codebook, torch.stack([before[0], before[1], z[1], z[2]]))
    torch.testing.assert_close(usage.frequency, torch.tensor([0.5, 0.5, 0.25, 0.25]))


@settings(deadline=None)
@given(SEEDS, st.integers(1, 6))
def test_what_is_taken_farthest_first_lies_apart_and_is_all_there_is_if_need_be(seed, codes):
    torch.manual_seed(seed)
    z = torch.randn(6, 2)
    taken = farthest_first(z, codes)
    assert all(bool((z == one).all(-1).any()) for one in taken) and len(taken.unique(dim=0)) == codes
    nearest = torch.cdist(z, taken).amin(1)
    assert nearest.max() <= torch.cdist(taken, taken).fill_diagonal_(torch.inf).amin() + 1e-5
    assert torch.equal(taken[0], z[0]) and len(farthest_first(z[:1], 3)) == 3


def test_numbers_out_of_range_are_refused():
    with pytest.raises(ValueError, match="two levels"):
        FSQ((3, 1))
    with pytest.raises(ValueError, match="decay"):
        CodebookUsage(4, decay=1.0)
