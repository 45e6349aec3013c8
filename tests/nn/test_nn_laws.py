"""Laws of the blocks."""

import importlib
import inspect
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import nn

from wmcomponents.codecs import KeyedModules, Standardize, Symlog
from wmcomponents.nn import (
    MLP,
    BlockLinear,
    Dense,
    Float32LayerNorm,
    Float32RMSNorm,
    PoolStage,
    StridedDoubling,
    StrideStage,
    UpsampleConv,
    linear,
    make_activation,
    make_norm,
    trunc_normal_init_,
)

LEADS = [(), (3,), (2, 3)]


@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize("norm", ["rms", "layer", "none"])
@pytest.mark.parametrize("act", ["silu", "gelu", "relu", "elu", "tanh"])
def test_an_mlp_takes_any_leading_dimensions(lead, norm, act):
    assert MLP(5, 7, 2, norm, act)(torch.randn(*lead, 5)).shape == (*lead, 7)


def test_an_mlp_without_layers_is_the_identity():
    mlp, x = MLP(5, 7, 0), torch.randn(3, 5)
    assert mlp.out_features == 5 and torch.equal(mlp(x), x)


def test_unknown_names_are_refused_with_the_known_ones():
    # Under the hook that checks annotations, the check speaks first.
    with pytest.raises((ValueError, TypeCheckError), match="(?s)rms.*batch|batch.*rms"):
        make_norm("batch", 3)
    with pytest.raises((ValueError, TypeCheckError), match="(?s)silu.*swish|swish.*silu"):
        make_activation("swish")


@given(st.floats(0.1, 100.0))
def test_rms_norm_has_unit_mean_square_whatever_the_scale(scale):
    x = scale * (1 + torch.arange(16.0))
    assert math.isclose(Float32RMSNorm(16)(x).square().mean().item(), 1.0, rel_tol=1e-2)


def test_norms_keep_the_dtype_and_compute_in_float32():
    x = torch.full((4,), 300.0, dtype=torch.float16)  # its square is beyond float16
    for norm in (Float32RMSNorm(4), Float32LayerNorm(4)):
        out = norm(x)
        assert out.dtype == torch.float16 and out.isfinite().all()


def test_gelu_is_the_tanh_approximation():
    x = torch.tensor(0.7)
    expected = 0.5 * 0.7 * (1 + math.tanh(math.sqrt(2 / math.pi) * (0.7 + 0.044715 * 0.7**3)))
    assert math.isclose(make_activation("gelu")(x), expected, rel_tol=1e-6)


@pytest.mark.parametrize("lead", LEADS)
def test_a_block_linear_is_a_linear_with_a_block_diagonal_weight(lead):
    block = BlockLinear(6, 9, 3)
    nn.init.normal_(block.bias)
    x = torch.randn(*lead, 6)
    dense = torch.block_diag(*block.weight.detach())
    torch.testing.assert_close(block(x), x @ dense + block.bias)


def test_a_block_linear_refuses_sizes_its_blocks_do_not_divide():
    with pytest.raises(ValueError, match=r"blocks \(=4\) must divide"):
        BlockLinear(6, 8, 4)


def test_initial_weights_have_the_stated_spread_and_stay_within_two_sigma():
    weight = trunc_normal_init_(torch.empty(400, 400), fan_in=100)
    assert math.isclose(weight.std().item(), 0.1, rel_tol=0.02)
    assert weight.abs().max() <= 2 * 1.1368 * 0.1 + 1e-6
    assert trunc_normal_init_(torch.ones(3), 1, outscale=0.0).eq(0).all()
    assert linear(4, 4).bias.eq(0).all()


def test_the_fan_in_of_a_block_linear_is_its_full_input():
    assert math.isclose(BlockLinear(800, 800, 8).weight.std().item(), 1 / math.sqrt(800), rel_tol=0.03)


@pytest.mark.parametrize("transform", [Symlog(), Standardize(3).fit(3 + 5 * torch.randn(50, 3))])
@pytest.mark.parametrize("lead", LEADS)
def test_a_transform_is_undone_by_its_inverse(transform, lead):
    x = 10 * torch.randn(*lead, 3)
    torch.testing.assert_close(transform.inverse(transform(x)), x, rtol=1e-4, atol=1e-5)


def test_standardised_data_have_zero_mean_and_unit_deviation_except_constant_columns():
    data = torch.stack([3 + 2 * torch.randn(500), torch.full((500,), 7.0)], -1)
    out = Standardize(2).fit(data)(data)
    torch.testing.assert_close(out.mean(0), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(out.std(0, correction=0), torch.tensor([1.0, 0.0]), atol=1e-4, rtol=0)


def test_standardise_refuses_data_of_another_width_and_none_at_all():
    for data in (torch.zeros(5, 2), torch.zeros(0, 3)):
        with pytest.raises(ValueError, match=r"\[\*batch, 3\]"):
            Standardize(3).fit(data)


def test_the_fitted_numbers_travel_in_the_state_dict():
    fitted, fresh = Standardize(2).fit(torch.randn(9, 2)), Standardize(2)
    fresh.load_state_dict(fitted.state_dict())
    assert torch.equal(fresh.loc, fitted.loc) and torch.equal(fresh.scale, fitted.scale)


def test_keyed_modules_take_any_key_and_keep_the_order():
    keys = ["type", "agent.pos", "agent_pos", "forward", ""]
    keyed = KeyedModules({key: nn.Linear(i + 1, 1) for i, key in enumerate(keys)})
    assert list(keyed) == keys and len(keyed) == 5
    assert [module.in_features for _, module in keyed.items()] == [1, 2, 3, 4, 5]
    assert keyed["agent_pos"].in_features == 3
    assert len(list(keyed.parameters())) == 10


@pytest.mark.parametrize("stage", [PoolStage, StrideStage])
@pytest.mark.parametrize("kernel", [3, 5])
def test_a_stage_halves_and_an_upsampling_doubles_the_resolution(stage, kernel):
    assert stage(3, 4, kernel)(torch.randn(2, 3, 8, 6)).shape == (2, 4, 4, 3)
    assert UpsampleConv(3, 4, kernel)(torch.randn(2, 3, 4, 5)).shape == (2, 4, 8, 10)


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
def test_upsampling_is_nearest_upsampling_before_a_convolution(kernel):
    layer, x = UpsampleConv(3, 4, kernel).double(), torch.randn(2, 3, 4, 5, dtype=torch.float64)
    nn.init.normal_(layer.conv.bias)
    repeated = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(layer(x), layer.conv(repeated))


@pytest.mark.parametrize("kernel", [2, 3, 4, 5, 6])
def test_strided_doubling_is_the_padded_convolution_of_the_spread_out_image(kernel):
    """XLA's "SAME": of kernel + stride - 2 zeros around the spread-out image, the larger half stands before it."""
    layer, x = StridedDoubling(3, 4, kernel).double(), torch.randn(2, 3, 4, 5, dtype=torch.float64)
    nn.init.normal_(layer.conv.bias)
    spread = torch.zeros(2, 3, 7, 9, dtype=torch.float64)
    spread[..., ::2, ::2] = x
    before = kernel - 1 if kernel == 2 else (kernel + 1) // 2
    padded = nn.functional.pad(spread, (before, kernel - before) * 2)
    weight = layer.conv.weight.transpose(0, 1).flip(2, 3)
    expected = nn.functional.conv2d(padded, weight, layer.conv.bias)
    assert layer(x).shape == (2, 4, 8, 10)
    torch.testing.assert_close(layer(x), expected)
    with pytest.raises(ValueError, match="at least 2"):
        StridedDoubling(3, 4, 1)


def test_a_dense_layer_reaches_every_parameter():
    layer = Dense(3, 4)
    layer(torch.randn(5, 3)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in layer.parameters())


@pytest.mark.parametrize(
    "room", ["codecs", "nn", "functional", "encoders", "decoders", "heads", "dynamics", "tokenizers"]
)
def test_no_public_class_has_the_name_of_one_of_torchs_layers(room):
    public = vars(importlib.import_module(f"wmcomponents.{room}"))
    assert not {name for name, value in public.items() if inspect.isclass(value) and hasattr(torch.nn, name)}
