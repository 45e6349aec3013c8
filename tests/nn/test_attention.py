"""Attention, its memory, positions and transformers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from wmcomponents.functional import block_causal_mask, causal_mask
from wmcomponents.nn import (
    CachedTransformer,
    CachePosition,
    LearnedPositions,
    MultiHeadAttention,
    RoPE,
    TransformerBlock,
    empty_kv_cache,
    gpt_init_,
    sinusoidal_positions,
)


def written_out(part: MultiHeadAttention, x, mask):
    """The equation, head by head, with the three maps one by one."""
    q, k, v = (nn.functional.linear(x, *one) for one in (part.query, part.key, part.value))
    size, heads = part.dim // part.heads, []
    for h in range(part.heads):
        at = slice(h * size, (h + 1) * size)
        logits = q[..., at] @ k[..., at].transpose(-1, -2) / math.sqrt(size)
        heads.append(logits.masked_fill(~mask, -torch.inf).softmax(-1) @ v[..., at])
    return part.proj(torch.cat(heads, -1))


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_attention_is_the_equation(lead, bias):
    torch.manual_seed(0)
    part, x, mask = MultiHeadAttention(8, 2, bias=bias), torch.randn(*lead, 5, 8), causal_mask(5)
    torch.testing.assert_close(part(x, mask), written_out(part, x, mask))


def test_a_causal_mask_hides_the_future():
    torch.manual_seed(0)
    net, x = CachedTransformer(2, 8, 2), torch.randn(1, 6, 8)
    other = x.clone()
    other[:, 4:] = torch.randn(1, 2, 8)
    a, b = net(x, causal_mask(6)), net(other, causal_mask(6))
    torch.testing.assert_close(a[:, :4], b[:, :4], rtol=0, atol=0)
    assert not torch.allclose(a[:, 4:], b[:, 4:])


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.booleans(), st.booleans(), st.booleans())
def test_reading_in_pieces_from_memory_is_reading_at_once(pieces, rotary, uniform, bounded):
    torch.manual_seed(sum(pieces))
    length = sum(pieces)
    net = CachedTransformer(2, 8, 2, rope=RoPE(4) if rotary else None).eval()
    x, kv_cache, start, out = torch.randn(3, length, 8), empty_kv_cache([3], 2, 2, length + 2, 8), 0, []
    for piece in pieces:
        position = torch.arange(start, start + piece).expand(3, piece)
        cache_position = CachePosition(
            position, length + 2, uniform=start if uniform else None, reach=start + piece if bounded else None
        )
        out.append(net.decode_step(x[:, start : start + piece], kv_cache, cache_position))
        start += piece
    torch.testing.assert_close(torch.cat(out, 1), net(x, causal_mask(length)), rtol=1e-4, atol=1e-5)


def test_rows_stand_at_positions_of_their_own():
    torch.manual_seed(0)
    net, x, lengths = CachedTransformer(2, 8, 2).eval(), torch.randn(3, 7, 8), (1, 4, 6)
    kv_cache = torch.randn_like(empty_kv_cache([3], 2, 2, 9, 8))  # what is there and not in use yet must not matter
    for row, length in enumerate(lengths):
        net.decode_step(
            x[row : row + 1, :length], kv_cache[row : row + 1], CachePosition(torch.arange(length)[None], 9)
        )
    cache_position = CachePosition(torch.tensor(lengths)[:, None], 9)
    last = net.decode_step(torch.stack([x[i, n : n + 1] for i, n in enumerate(lengths)]), kv_cache, cache_position)
    for row, length in enumerate(lengths):
        whole = net(x[row : row + 1, : length + 1], causal_mask(length + 1))
        torch.testing.assert_close(last[row], whole[0, -1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("uniform", [True, False])
def test_blocks_see_each_other_as_soon_as_they_are_there(uniform):
    torch.manual_seed(0)
    net, x, kv_cache = CachedTransformer(2, 8, 2).eval(), torch.randn(2, 6, 8), empty_kv_cache([2], 2, 2, 8, 8)
    out = []
    for start in (0, 3):
        position = torch.arange(start, start + 3).expand(2, 3)
        cache_position = CachePosition(position, 8, block=3, uniform=start if uniform else None)
        out.append(net.decode_step(x[:, start : start + 3], kv_cache, cache_position))
    torch.testing.assert_close(torch.cat(out, 1), net(x, block_causal_mask(6, 3)), rtol=1e-4, atol=1e-5)


def test_a_block_that_is_not_all_there_is_not_read_ahead():
    torch.manual_seed(0)
    net, x = CachedTransformer(1, 8, 2).eval(), torch.randn(1, 2, 8)
    clean, littered = empty_kv_cache([1], 1, 2, 6, 8), torch.randn(1, 1, 2, 2, 6, 4)
    answers = [
        net.decode_step(x, kv_cache, CachePosition(torch.arange(2)[None], 6, block=3)) for kv_cache in (clean, littered)
    ]
    torch.testing.assert_close(answers[0], answers[1], rtol=0, atol=0)


def test_memory_is_written_where_the_positions_are_and_nowhere_else():
    block, kv_cache, cache_position = (
        TransformerBlock(8, 2).eval(),
        torch.zeros(2, 1, 2, 2, 5, 4),
        CachePosition(torch.tensor([[1], [3]]), 5),
    )
    block.decode_step(torch.randn(2, 8), cache_position.layers(kv_cache)[0], cache_position)
    used = kv_cache.abs().sum((1, 2, 3, 5)) > 0
    assert used.tolist() == [[False, True, False, False, False], [False, False, False, True, False]]


@settings(deadline=None)
@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_rotary_products_depend_on_the_distance_alone(m, n, shift):
    torch.manual_seed(m + 100 * n)
    rope, q, k = RoPE(8), torch.randn(1, 1, 8), torch.randn(1, 1, 8)

    def product(a, b):
        return (rope(q, torch.tensor([a])) * rope(k, torch.tensor([b]))).sum()

    torch.testing.assert_close(product(m, n), product(m + shift, n + shift), rtol=1e-4, atol=1e-4)


def test_rotary_positions_keep_lengths_and_leave_position_zero_as_it_is():
    rope, x = RoPE(6, base=100.0), torch.randn(2, 3, 4, 6)
    turned = rope(x, torch.arange(4))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    torch.testing.assert_close(turned[:, :, 0], x[:, :, 0])
    assert not torch.allclose(turned[:, :, 1:], x[:, :, 1:])


def test_sinusoidal_positions_begin_at_zero_and_tell_positions_apart():
    vectors = sinusoidal_positions(torch.arange(200), 16)
    torch.testing.assert_close(vectors[0], torch.cat([torch.zeros(8), torch.ones(8)]))
    torch.testing.assert_close(vectors[1, 0], torch.tensor(1.0).sin())
    assert torch.cdist(vectors, vectors).fill_diagonal_(9.0).min() > 0.1


def test_learned_positions_are_a_table():
    table = LearnedPositions(5, 3)
    assert torch.equal(table(torch.tensor([[4, 0]])), table.weight[torch.tensor([[4, 0]])])
    assert table.weight.std() < 0.1


def test_initial_weights_are_those_of_gpt():
    net = CachedTransformer(2, 64, 4).apply(gpt_init_)
    for module in net.modules():
        if isinstance(module, nn.Linear):
            assert 0.015 < module.weight.std() < 0.025 and not module.bias.any()
        if isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all() and not module.bias.any()


def test_dropout_acts_in_training_alone():
    torch.manual_seed(0)
    net, x = CachedTransformer(1, 8, 2, dropout=0.5), torch.randn(1, 4, 8)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


def test_sizes_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="3 heads"):
        MultiHeadAttention(8, 3)
    with pytest.raises(ValueError, match="even; got 3"):
        RoPE(3)
    with pytest.raises(ValueError, match="even; got 5"):
        sinusoidal_positions(torch.arange(2), 5)
