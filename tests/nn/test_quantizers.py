"""Codebooks, grids, and how codes are used."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wmcomponents.nn import (
    FSQ,
    CodebookUsage,
    CosineQuantizer,
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
    rest = farthest_first(z, codes, taken[:1])  # what is there already is not taken again
    assert torch.equal(rest[: codes - 1], taken[1:]) and len(farthest_first(z, 0, taken)) == 0


def test_numbers_out_of_range_are_refused():
    with pytest.raises(ValueError, match="two levels"):
        FSQ((3, 1))
    with pytest.raises(ValueError, match="decay"):
        CodebookUsage(4, decay=1.0)


@settings(deadline=None)
@given(SEEDS, st.integers(2, 9), st.integers(2, 5))
def test_the_cosine_code_is_the_one_at_the_least_angle_whatever_the_length(seed, codes, dim):
    torch.manual_seed(seed)
    part, z = CosineQuantizer(codes, dim), torch.randn(3, 4, dim)
    part.codebook.copy_(torch.nn.functional.normalize(torch.randn(codes, dim), dim=-1))
    found = part.tokens(z)
    angle = torch.nn.functional.cosine_similarity(z.unsqueeze(-2), part.codebook, dim=-1)
    torch.testing.assert_close(angle.gather(-1, found.unsqueeze(-1)).squeeze(-1), angle.amax(-1))
    assert torch.equal(part.tokens(7.0 * part.lookup(found)), found)


def test_reading_leaves_a_cosine_codebook_alone_and_its_gradient_passes_straight_through():
    torch.manual_seed(0)
    part, z = CosineQuantizer(5, 3).train(), torch.randn(4, 3, requires_grad=True)
    before, weight = part.codebook.clone(), torch.randn(4, 3)
    codes, _, loss = part(z)
    torch.testing.assert_close(codes, part.lookup(part.tokens(z)))
    assert torch.equal(part.codebook, before) and part.updates == 0 and not list(part.parameters())
    (grad,) = torch.autograd.grad((codes * weight).sum(), z, retain_graph=True)
    (expected,) = torch.autograd.grad((torch.nn.functional.normalize(z, dim=-1) * weight).sum(), z)
    torch.testing.assert_close(grad, expected)
    torch.testing.assert_close(loss, 0.02 * (torch.nn.functional.normalize(z, dim=-1) - codes).square().mean(-1))


def test_a_cosine_codebook_moves_only_where_vectors_that_count_chose():
    torch.manual_seed(0)
    part, z = CosineQuantizer(4, 3), torch.randn(6, 3)
    part.codebook.copy_(torch.nn.functional.normalize(torch.randn(4, 3), dim=-1))
    before, tokens, weight = part.codebook.clone(), torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([1.0, 1, 1, 0, 0, 0])
    part.update_(z, tokens, torch.rand(4), weight)
    unit = torch.nn.functional.normalize(z, dim=-1)
    for code, mean in ((0, unit[:2].mean(0)), (1, unit[2])):
        moved = 0.99 * before[code] + 0.01 * mean / mean.norm()
        torch.testing.assert_close(part.codebook[code], moved / moved.norm())
    torch.testing.assert_close(part.codebook[2:], before[2:])
    torch.testing.assert_close(
        part.usage.frequency, 0.98 * torch.full((4,), 0.25) + 0.02 * torch.tensor([2, 1, 0, 0]) / 3
    )


@pytest.mark.parametrize(("revival", "revives"), [(0, False), (1, True)])
def test_unused_codes_become_vectors_of_the_batch_while_that_is_allowed(revival, revives):
    torch.manual_seed(0)
    codes = 64
    part, z = CosineQuantizer(codes, 3, revival=revival), torch.randn(8, 3)
    part.codebook.copy_(torch.nn.functional.normalize(torch.randn(codes, 3), dim=-1))
    # Eight codes share all use: 3 bits, below log2(64) - 2 and above 1.
    part.usage.frequency.copy_((torch.arange(codes) < 8) / 8.0)
    before, weight = part.codebook.clone(), torch.tensor([1.0] * 4 + [0.0] * 4)
    part.update_(z, torch.arange(8), torch.rand(codes), weight)
    fresh = (part.codebook.unsqueeze(1) - torch.nn.functional.normalize(z, dim=-1)).norm(dim=-1) < 1e-5
    assert fresh[8:, :4].any(1).all() == revives and not fresh[:, 4:].any()
    assert torch.equal(part.usage.frequency[8:], torch.full((56,), 1.0 / codes)) == revives
    if not revives:
        torch.testing.assert_close(part.codebook[8:], before[8:])


def test_codes_that_nearly_nobody_uses_are_revived_at_any_age():
    torch.manual_seed(0)
    part, z = CosineQuantizer(64, 3), torch.randn(8, 3)
    part.usage.frequency.zero_()[0] = 1.0
    part.update_(z, torch.zeros(8, dtype=torch.int64), torch.rand(64))
    fresh = (part.codebook.unsqueeze(1) - torch.nn.functional.normalize(z, dim=-1)).norm(dim=-1) < 1e-5
    assert fresh[1:].any(1).all() and len(fresh[1:].nonzero()[:, 1].unique()) == 8
