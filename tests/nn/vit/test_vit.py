"""Parts of vision transformers: laws and refusals."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.support.parts import (
    assert_every_parameter_gets_a_gradient,
    assert_inputs_untouched,
    assert_rows_are_independent,
    scramble,
)
from wmcomponents.functional import causal_mask
from wmcomponents.nn import (
    AdaptiveBlock,
    AttentivePooling,
    CachePosition,
    FeedForward,
    FixedGridPositions,
    LearnedGridPositions,
    MultiHeadAttention,
    NormalizePixels,
    PairedAxialRoPE,
    PatchEmbedding,
    SwiGLU,
    TiledAxialRoPE,
    TransformerBlock,
    VisionTransformer,
    ViTBlock,
    ViTSize,
    dinov2_vit,
    empty_kv_cache,
    ijepa_vit,
    mae_vit,
    timm_vit,
    vjepa2_vit,
    vjepa_vit,
)

SMALL = ViTSize(16, 2, 2, 32)
NETS = {
    "timm": (lambda: timm_vit(SMALL, (16, 16), 8), (3, 16, 16)),
    "dinov2": (lambda: dinov2_vit(SMALL, (16, 16), 8), (3, 16, 16)),
    "registers": (lambda: dinov2_vit(SMALL, (16, 16), 8, registers=2), (3, 24, 16)),
    "mae": (lambda: mae_vit(SMALL, (16, 16), 8), (3, 16, 16)),
    "ijepa": (lambda: ijepa_vit(SMALL, (16, 16), 8), (3, 16, 24)),
    "vjepa": (lambda: vjepa_vit(SMALL, (4, 16, 16), (2, 8, 8)), (3, 4, 16, 16)),
    "vjepa2": (lambda: vjepa2_vit(SMALL, (2, 8, 8)), (3, 6, 16, 8)),
}


@pytest.mark.parametrize("build,shape", NETS.values(), ids=NETS)
def test_a_vision_transformer_is_pure_and_its_rows_are_independent(build, shape):
    torch.manual_seed(0)
    net, x = scramble(build()), torch.randn(3, *shape)
    assert_inputs_untouched(net, x)
    assert_rows_are_independent(net, x)
    assert_every_parameter_gets_a_gradient(net, net(x).square().sum())


@pytest.mark.parametrize("build,shape", NETS.values(), ids=NETS)
def test_patches_that_are_not_kept_are_not_looked_at(build, shape):
    torch.manual_seed(0)
    net, x = scramble(build()), torch.randn(2, *shape)
    count = net.patches(x).shape[1]
    keep = torch.stack([torch.randperm(count) for _ in range(2)])
    whole, shuffled = net(x), net(x, keep)
    # Who is there matters, the order in which they come does not.
    for row in range(2):
        torch.testing.assert_close(
            shuffled[row, net.prefix :], whole[row, net.prefix :][keep[row]], rtol=1e-4, atol=1e-5
        )
    other = x.clone()
    other[..., -8:, -8:] = 9.0  # the last patch, in every frame
    seen = torch.zeros(2, 1, dtype=torch.int64)
    assert torch.equal(net(x, seen), net(other, seen)) and not torch.allclose(net(x), net(other))


def test_axial_rotation_sees_distances_along_each_axis_alone():
    torch.manual_seed(0)
    rope, q, k = PairedAxialRoPE(14, axes=3), torch.randn(1, 6, 14), torch.randn(1, 6, 14)
    at, shift = torch.randint(9, (6, 3)).float(), torch.tensor([3.0, 1.5, -2.0])
    products = rope(q, at) @ rope(k, at).mT
    torch.testing.assert_close(rope(q, at + shift) @ rope(k, at + shift).mT, products, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(rope(q, at).norm(dim=-1), q.norm(dim=-1))


@given(st.integers(0, 2), st.integers(1, 50))
def test_an_axis_turns_its_own_share_of_a_head(axis, place):
    for rope in (PairedAxialRoPE(14), TiledAxialRoPE(14)):
        x, at = torch.ones(1, 1, 14), torch.zeros(1, 3)
        at[0, axis] = place
        turned = (rope(x, at) != x)[0, 0]
        assert turned[4 * axis : 4 * axis + 4].any()
        assert not turned[: 4 * axis].any() and not turned[4 * axis + 4 :].any()


def test_a_head_of_odd_size_keeps_what_no_axis_turns():
    rope, x = TiledAxialRoPE(25), torch.rand(2, 3, 25)  # jepa-wms' heads: 400 channels by 16
    turned = rope(x, torch.tensor([[1.0, 2.0, 3.0]]).expand(3, -1))
    assert torch.equal(turned[..., 24], x[..., 24]) and (turned[..., :24] != x[..., :24]).any(-1).all()


def test_positions_of_other_axes_and_heads_without_pairs_are_refused():
    with pytest.raises(ValueError, match="along 3 axes"):
        PairedAxialRoPE(12)(torch.zeros(1, 2, 12), torch.zeros(2))
    for dim, axes in ((4, 3), (3, 2), (8, 0)):
        with pytest.raises(ValueError, match="turns pairs"):
            TiledAxialRoPE(dim, axes)


def test_a_block_of_ones_own_head_size_and_norms_reads_piece_by_piece_as_at_once():
    torch.manual_seed(0)
    block = TransformerBlock(8, 2)
    block.attention = MultiHeadAttention(8, 2, head_dim=6, out_bias=True, bias=False, qk_norm=nn.LayerNorm)
    block, x = scramble(block).eval(), torch.randn(1, 4, 8)
    kv_cache = empty_kv_cache([1], 1, 2, 4, 12)
    steps = []
    for t in range(4):
        at = CachePosition(torch.tensor([[t]]), 4)
        steps.append(block.decode_step(x[:, t], at.layers(kv_cache)[0], at))
    torch.testing.assert_close(torch.stack(steps, 1), block(x, causal_mask(4)), rtol=1e-4, atol=1e-5)


def test_normed_queries_and_keys_do_not_depend_on_the_scale_of_their_maps():
    torch.manual_seed(0)
    attention, x = MultiHeadAttention(8, 2, bias=False, qk_norm=nn.LayerNorm), torch.randn(2, 5, 8)
    before = attention(x)
    with torch.no_grad():
        attention.qkv.weight[:16] *= 1000.0
    torch.testing.assert_close(attention(x), before, rtol=1e-3, atol=1e-4)


def test_an_adaptive_block_begins_as_the_identity():
    torch.manual_seed(0)
    block = AdaptiveBlock(8, 4, MultiHeadAttention(8, 2), FeedForward(8, 16), lambda: nn.LayerNorm(8))
    x, condition = torch.randn(2, 5, 8), torch.randn(2, 5, 4)
    assert torch.equal(block(x, condition), x)
    scramble(block)
    assert_every_parameter_gets_a_gradient(block, block(x, condition).square().sum())
    assert_rows_are_independent(block, x, condition)


def test_gates_cost_what_a_plain_feed_forward_does():
    plain, gated = (sum(p.numel() for p in part.parameters()) for part in (FeedForward(96, 384), SwiGLU(96, 384)))
    assert abs(gated / plain - 1) < 0.01


@pytest.mark.parametrize("blocks", [0, 2])
def test_pooling_does_not_depend_on_the_order_of_tokens(blocks):
    torch.manual_seed(0)
    pooling, x = scramble(AttentivePooling(8, 2, queries=2, blocks=blocks)), torch.randn(3, 5, 8)
    torch.testing.assert_close(pooling(x.flip(1)), pooling(x))
    assert_rows_are_independent(pooling, x)
    assert_every_parameter_gets_a_gradient(pooling, pooling(x).square().sum())


def test_pixels_are_normalised_resized_and_refused_with_channels_first():
    pixels = NormalizePixels((0.5,), (0.25,), size=(2, 2))
    x = pixels(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 4, 6, 1))
    assert x.shape == (2, 1, 2, 2)
    torch.testing.assert_close(x, torch.tensor([-2.0, 2.0]).view(2, 1, 1, 1).expand(2, 1, 2, 2))
    with pytest.raises(ValueError, match="move the channels to the end"):
        NormalizePixels()(torch.zeros(3, 16, 16))
    with pytest.raises(ValueError, match="each channel has a mean"):
        NormalizePixels((0.5,))


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="class token has a position"):
        VisionTransformer(PatchEmbedding(3, 8, (4, 4)), [], LearnedGridPositions((2, 2), 8), class_token=True)
    with pytest.raises(ValueError, match="4 positions; got 3"):
        FixedGridPositions(torch.zeros(3, 8), (2, 2))
    with pytest.raises(ValueError, match="height, width"):
        PatchEmbedding(3, 8, (4,))
    with pytest.raises(ValueError, match="multiple of 4"):
        mae_vit(ViTSize(6, 1, 1, 8), (16, 16))
    with pytest.raises(ValueError, match="sizes known here"):
        ViTSize.named("medium")
    with pytest.raises(ValueError, match="clips \\[B, C, T, H, W\\] of 3 channels"):
        vjepa2_vit(SMALL, (2, 8, 8))(torch.zeros(1, 4, 3, 16, 16))
    with pytest.raises(ValueError, match="frames do not come out"):
        vjepa2_vit(SMALL, (2, 8, 8))(torch.zeros(1, 3, 3, 16, 16))


def test_the_share_that_a_layer_scale_lets_through_is_learned():
    block, plain = ViTBlock(8, 2, 16, layer_scale=1e-5), ViTBlock(8, 2, 16)
    x = torch.randn(1, 3, 8)
    assert (block(x) - x).abs().max() < 1e-3 < (plain(x) - x).abs().max()
    assert [name for name, _ in block.named_parameters() if "gamma" in name] == ["scale1.gamma", "scale2.gamma"]
