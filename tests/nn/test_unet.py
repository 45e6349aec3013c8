"""Fourier features, adaptive group normalisation, self-attention, the U-Net: golden numbers and laws."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.golden_diamond import loaded
from tests.support.golden_vectors import load
from wmcomponents.nn import (
    AdaptiveGroupNorm,
    AdaptiveResidualBlock,
    FourierFeatures,
    NearestUpsample,
    SelfAttention2d,
    StridedDownsample,
    UNet,
)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_a_residual_block_with_attention_is_the_official_one():
    info, vectors = load("diamond_resblock_attn")
    block = loaded(AdaptiveResidualBlock(64, 32, cond=8, attends=True), vectors)
    x, cond = vectors["in/x"], vectors["in/cond"]
    torch.testing.assert_close(block(x, cond), vectors["out/y"], **info["tolerance"])
    torch.testing.assert_close(block.norm1(x, cond), vectors["out/adagn1"], **info["tolerance"])
    torch.testing.assert_close(block.attention(x[:, :32]), vectors["out/attn_only"], **info["tolerance"])


@torch.no_grad()
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_u_net_is_the_official_one_in_either_memory_layout(layout):
    info, vectors = load("diamond_unet")
    unet = loaded(UNet(cond=16, depths=(1, 2), channels=(8, 16), attends=(False, True)), vectors)
    y = unet.to(memory_format=layout)(vectors["in/x"].to(memory_format=layout), vectors["in/cond"])
    torch.testing.assert_close(y, vectors["out/y"], **info["tolerance"])


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 3), st.integers(1, 13), st.integers(4, 13))
def test_the_u_net_keeps_any_size(levels, height, width):
    unet = UNet(4, (1,) * levels, (8, 16, 8)[:levels], (False,) * levels)
    assert unet(noise(2, 8, height, width), noise(2, 4)).shape == (2, 8, height, width)


def test_a_fresh_block_is_the_identity_where_channels_stay():
    x = noise(2, 8, 5, 5)
    block = AdaptiveResidualBlock(8, 8, cond=4)
    torch.nn.init.zeros_(block.conv2.bias)
    torch.testing.assert_close(block(x, noise(2, 4)), x)


def test_attention_adds_to_the_normalised_input():
    x = 5.0 + 3.0 * noise(2, 16, 4, 4)
    attention = SelfAttention2d(16)
    torch.nn.init.zeros_(attention.out.bias)
    y = attention(x)
    torch.testing.assert_close(y, attention.norm(x))
    assert float(y.detach().mean().abs()) < 1e-5


def test_attention_is_blind_to_where_pixels_are():
    attention = SelfAttention2d(16)
    torch.nn.init.normal_(attention.out.weight)
    x = noise(2, 16, 3, 4)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))

    def shuffled(y):
        return y.flatten(2)[..., order].view_as(y)

    torch.testing.assert_close(attention(shuffled(x)), shuffled(attention(x)), rtol=1e-4, atol=1e-5)


def test_the_condition_scales_and_shifts():
    norm = AdaptiveGroupNorm(4, cond=1)
    torch.nn.init.zeros_(norm.linear.bias)
    with torch.no_grad():
        norm.linear.weight.copy_(torch.tensor([[1.0]] * 4 + [[10.0]] * 4))
    x = noise(2, 4, 6, 6)
    plain = torch.nn.functional.group_norm(x, 1, eps=1e-5)
    torch.testing.assert_close(norm(x, torch.tensor([[0.0], [2.0]]))[0], plain[0])
    torch.testing.assert_close(norm(x, torch.tensor([[0.0], [2.0]]))[1], 3.0 * plain[1] + 20.0)


def test_rows_are_independent():
    unet = UNet(4, (1, 1), (8, 16), (False, True))
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x, cond = noise(3, 8, 8, 8), noise(3, 4)
    torch.testing.assert_close(unet(x, cond)[1:2], unet(x[1:2], cond[1:2]), rtol=1e-4, atol=1e-5)


def test_sides_are_halved_and_doubled():
    assert StridedDownsample(8)(noise(1, 8, 7, 8)).shape == (1, 8, 4, 4)
    assert NearestUpsample(8)(noise(1, 8, 3, 4)).shape == (1, 8, 6, 8)


def test_fourier_features_lie_on_circles_and_their_frequencies_are_saved():
    features = FourierFeatures(8)
    y = features(noise(2, 3))
    assert y.shape == (2, 3, 8)
    torch.testing.assert_close(y[..., :4] ** 2 + y[..., 4:] ** 2, torch.ones(2, 3, 4))
    assert set(features.state_dict()) == {"weight"} and not list(features.parameters())
    with pytest.raises(ValueError, match="odd"):
        FourierFeatures(7)


@pytest.mark.parametrize("sizes", [((1,), (8, 8), (False, False)), ((), (), ())])
def test_levels_need_one_entry_each(sizes):
    with pytest.raises(ValueError, match="one entry for each level"):
        UNet(4, *sizes)
