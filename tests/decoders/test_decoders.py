"""Decoders: shapes, the environment's own space, losses, laws."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tensordict import TensorDict
from torchrl.data import Composite, Unbounded

from tests.support.parts import (
    EVERYTHING,
    LEADS,
    as_tuple,
    assert_every_parameter_gets_a_gradient,
    assert_inputs_untouched,
    assert_rows_are_independent,
    draw,
    scramble,
)
from wmcomponents.codecs import SquaredError, Standardize
from wmcomponents.decoders import BoardDecoder, ConvDecoder, MLPDecoder, MultiDecoder, TransposedConvDecoder
from wmcomponents.functional import symlog
from wmcomponents.nn import StridedDoubling, padded_deconv_plan, unpadded_deconv_plan

DETER, STOCH = 16, (3, 4)
SMALL = {"units": 8, "layers": 2, "depth": 2, "mults": (1, 2), "blocks": 4}
PARTS = [
    lambda stoch: MLPDecoder(DETER, stoch, {"a": 2, "b.c": 3}, units=8, layers=2),
    lambda stoch: ConvDecoder(DETER, stoch, (16, 16, 3), depth=4, mults=(1, 2), units=4, blocks=8),
    lambda stoch: ConvDecoder(
        DETER, stoch, (16, 16, 3), depth=4, mults=(1, 2), units=4, blocks=8, kernel=4, stage=StridedDoubling
    ),
    lambda stoch: TransposedConvDecoder(DETER, stoch, (17, 24, 3), depth=4, mults=(1, 2)),
    lambda stoch: TransposedConvDecoder(
        DETER, stoch, (16, 16, 3), depth=4, mults=(1, 2), deconv_plan=padded_deconv_plan, norm="keras_layer", bias=False
    ),
    lambda stoch: BoardDecoder(DETER, stoch, (5, 4, 2), units=8),
]
NAMES = ["mlp", "conv", "strided", "valid", "same", "planes"]


def state(lead: tuple[int, ...], stoch: tuple[int, ...] = STOCH) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(*lead, DETER), torch.randn(*lead, *stoch)


def everything() -> MultiDecoder:
    return scramble(MultiDecoder.dreamer_v3(EVERYTHING, DETER, STOCH, **SMALL))


@pytest.mark.parametrize("build", PARTS, ids=NAMES)
@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize("stoch", [STOCH, (5,)], ids=["categorical", "gaussian"])
def test_a_decoder_takes_any_leading_dimensions(build, lead, stoch):
    decoder, (deter, sample) = build(stoch), state(lead, stoch)
    out = as_tuple(decoder.compute(deter, sample))
    flat = as_tuple(decoder.compute(deter.reshape(-1, DETER), sample.reshape(-1, *stoch)))
    for a, b in zip(out, flat, strict=True):
        assert a.shape[: len(lead)] == lead
        torch.testing.assert_close(a, b.reshape(a.shape))


@pytest.mark.parametrize("build", PARTS, ids=NAMES)
def test_a_decoder_is_pure_and_its_rows_are_independent(build):
    decoder = scramble(build(STOCH))
    assert_inputs_untouched(decoder.compute, *state((4,)))
    assert_rows_are_independent(decoder.compute, *state((4,)))


@pytest.mark.parametrize("build", PARTS, ids=NAMES)
def test_gradient_reaches_every_parameter_of_a_decoder(build):
    decoder = scramble(build(STOCH))
    out = as_tuple(decoder.compute(*state((6,))))
    assert_every_parameter_gets_a_gradient(decoder, sum(y.square().sum() for y in out))


@pytest.mark.parametrize("size", [(64, 64), (96, 96), (32, 48)])
def test_sizes_divisible_by_the_stages_are_decoded(size):
    decoder = ConvDecoder(DETER, STOCH, (*size, 3), depth=2, units=4)
    assert decoder.compute(*state((2,))).shape == (2, *size, 3)


@given(st.integers(1, 200), st.integers(1, 5))
def test_unpadded_growth_ends_exactly_on_any_size_it_accepts(size, stages):
    try:
        start, kernels, padding = unpadded_deconv_plan(size, stages)
    except ValueError:
        reached = 1
        for _ in range(stages):
            reached = 2 * (reached - 1) + 5
        assert size < reached or size % 2 == 0 and size < reached + 2**stages
        return
    assert start >= 1 and padding == 0 and len(kernels) == stages
    for kernel in kernels:
        start = 2 * (start - 1) + kernel
    assert start == size


def test_the_papers_kernels_follow_from_sixty_four_pixels():
    assert unpadded_deconv_plan(64, 4) == (1, (5, 5, 6, 6), 0)
    assert padded_deconv_plan(64, 4) == (4, (4, 4, 4, 4), 1)
    decoder = TransposedConvDecoder(DETER, STOCH, (64, 64, 3), depth=2)
    assert decoder.compute(*state((2,))).shape == (2, 64, 64, 3)
    assert decoder.map_shape == (1, 1, 64)


@pytest.mark.parametrize("growth", [unpadded_deconv_plan, padded_deconv_plan])
def test_a_map_that_cannot_grow_to_the_image_is_refused(growth):
    with pytest.raises(ValueError, match="Resize the image"):
        TransposedConvDecoder(DETER, STOCH, (18, 18, 3), mults=(1, 2, 4, 8), deconv_plan=growth)


@pytest.mark.parametrize(
    "shape,options,message",
    [
        ((84, 84, 3), {}, "divisible by 16.*Resize"),
        ((16, 16, 3), {"blocks": 5}, r"blocks \(=5\) must divide"),
        ((16, 16, 3), {"kernel": 4}, "odd"),
    ],
)
def test_impossible_image_decoders_are_refused(shape, options, message):
    with pytest.raises(ValueError, match=message):
        ConvDecoder(DETER, STOCH, shape, **options)


def test_an_even_kernel_is_refused_for_boards_too():
    with pytest.raises(ValueError, match="odd"):
        BoardDecoder(DETER, STOCH, (5, 5, 1), kernel=2)


@pytest.mark.parametrize("lead", LEADS)
def test_means_live_in_the_environments_own_space(lead):
    decoder = everything()
    mean = decoder.mean(decoder.raw(*state(lead)))
    spec = EVERYTHING.expand(lead) if lead else EVERYTHING
    for key, sample in draw(EVERYTHING, lead).items():
        assert mean[key].shape == sample.shape and mean[key].dtype == sample.dtype, key
        assert spec[key].is_in(mean[key]), key


@pytest.mark.parametrize("lead", LEADS)
def test_losses_are_one_number_an_element(lead):
    decoder, observation = everything(), draw(EVERYTHING, lead)
    losses = decoder.loss(decoder.raw(*state(lead)), observation)
    assert list(losses) == sorted(EVERYTHING.keys())
    assert all(loss.shape == lead and (loss >= 0).all() for loss in losses.values())


def test_raw_outputs_are_the_components_outputs_in_sorted_order():
    decoder, (deter, stoch) = everything(), state((2,))
    out = decoder(TensorDict({"deter": deter, "stoch": stoch}, [2]))
    for key, value in decoder.raw(deter, stoch).items():
        assert torch.equal(out["raw", key], value)


def test_gradient_reaches_every_parameter_of_the_multi_decoder():
    decoder = everything()
    losses = decoder.loss(decoder.raw(*state((6,))), draw(EVERYTHING, (6,)))
    assert_every_parameter_gets_a_gradient(decoder, sum(loss.sum() for loss in losses.values()))


def test_vectors_are_compared_in_transformed_space_and_returned_in_plain_space():
    spec = Composite(a=Unbounded(2), b=Unbounded(1))
    target = {"a": 30 * torch.randn(5, 2), "b": 30 * torch.randn(5, 1)}
    raw = {key: symlog(value) for key, value in target.items()}
    decoder = MultiDecoder.dreamer_v3(spec, DETER, STOCH, **SMALL)
    for key, value in decoder.mean(raw).items():
        torch.testing.assert_close(value, target[key], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(decoder.loss(raw, target)["a"], torch.zeros(5))
    raw["a"] = raw["a"] + 2
    torch.testing.assert_close(decoder.loss(raw, target)["a"], torch.full((5,), 8.0))


def test_standardised_vectors_come_back_in_plain_units():
    spec = Composite(a=Unbounded(2), b=Unbounded(1))
    transform = Standardize(3).fit(torch.tensor([[0.0, 10.0, 5.0], [4.0, 20.0, 5.0]]))
    decoder = MultiDecoder.dreamer_v3(spec, DETER, STOCH, transform=transform, **SMALL)
    mean = decoder.mean({"a": torch.tensor([1.0, -1.0]), "b": torch.tensor([0.5])})
    assert mean["a"].tolist() == [4.0, 10.0] and mean["b"].tolist() == [5.5]


def test_a_image_is_compared_after_the_sigmoid_in_the_unit_range():
    spec = Composite(camera=EVERYTHING["camera"])
    decoder, target = (
        MultiDecoder.dreamer_v3(spec, DETER, STOCH, **SMALL),
        torch.full((16, 16, 3), 255, dtype=torch.uint8),
    )
    loss = decoder.loss({"camera": torch.zeros(16, 16, 3)}, {"camera": target})["camera"]
    torch.testing.assert_close(loss, torch.tensor(16 * 16 * 3 * 0.25))


def test_planets_image_is_a_unit_normal_around_zero_and_comes_back_in_bytes():
    spec = Composite(camera=EVERYTHING["camera"])
    decoder = MultiDecoder.planet(spec, DETER, STOCH, depth=2, mults=(1, 2))
    target = torch.full((16, 16, 3), 255, dtype=torch.uint8)
    loss = decoder.loss({"camera": torch.zeros(16, 16, 3)}, {"camera": target})["camera"]
    torch.testing.assert_close(loss, torch.tensor(16 * 16 * 3 * (0.125 + 0.5 * math.log(2 * math.pi))))
    shown = decoder.mean({"camera": torch.full((16, 16, 3), 0.1)})["camera"]
    assert shown.eq(153).all() and shown.dtype == torch.uint8
    assert decoder.mean({"camera": torch.full((16, 16, 3), 7.0)})["camera"].eq(255).all()


def test_planets_numbers_are_unit_normals_and_the_part_says_so():
    spec = Composite(x=Unbounded(2))
    decoder, target = MultiDecoder.planet(spec, DETER, STOCH, units=4), {"x": torch.tensor([[1.0, -2.0]])}
    loss = decoder.loss({"x": torch.zeros(1, 2)}, target)["x"]
    torch.testing.assert_close(loss, torch.tensor([2.5 + math.log(2 * math.pi)]))
    plain = MultiDecoder(spec, DETER, STOCH, vectors=partial(MLPDecoder, units=4, likelihood=SquaredError(1.0)))
    assert plain.loss({"x": torch.zeros(1, 2)}, target)["x"].tolist() == [9.0]


def test_one_out_key_is_needed_for_each_observation():
    with pytest.raises(ValueError, match="one out_key for each"):
        MultiDecoder.dreamer_v3(Composite(x=Unbounded(2)), DETER, STOCH, out_keys=["a", "b"])


@pytest.mark.compile
def test_the_multi_decoder_compiles_to_the_same_numbers():
    decoder, observation, (deter, stoch) = everything(), draw(EVERYTHING, (3,)), state((3,))

    def run(deter, stoch, observation):
        raw = decoder.raw(deter, stoch)
        return decoder.mean(raw), decoder.loss(raw, observation)

    compiled = torch.compile(run, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(deter, stoch, observation), run(deter, stoch, observation))
