"""Encoders: shapes, kinds of observations, laws."""

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded, Composite, Unbounded, UnboundedDiscrete

from tests.support.parts import (
    EVERYTHING,
    LEADS,
    assert_every_parameter_gets_a_gradient,
    assert_inputs_untouched,
    assert_rows_are_independent,
    draw,
    scramble,
)
from wmcomponents.codecs import Standardize
from wmcomponents.encoders import BoardEncoder, ConvEncoder, MLPEncoder, MultiEncoder
from wmcomponents.nn import StrideStage, ValidStage

SMALL = {"units": 8, "layers": 2, "depth": 2, "mults": (1, 2)}


def everything() -> MultiEncoder:
    return scramble(MultiEncoder.dreamer_v3(EVERYTHING, **SMALL))


PARTS = [
    (lambda: MLPEncoder(5, units=8), lambda lead: torch.randn(*lead, 5)),
    (lambda: ConvEncoder((16, 16, 3), depth=2), lambda lead: torch.randint(256, (*lead, 16, 16, 3), dtype=torch.uint8)),
    (
        lambda: ConvEncoder((16, 16, 3), depth=2, stage=StrideStage),
        lambda lead: torch.randint(256, (*lead, 16, 16, 3), dtype=torch.uint8),
    ),
    (
        lambda: ConvEncoder((24, 17, 3), depth=2, mults=(1, 2), kernel=4, stage=ValidStage, norm="none", act="elu"),
        lambda lead: torch.randint(256, (*lead, 24, 17, 3), dtype=torch.uint8),
    ),
    (
        lambda: ConvEncoder((16, 16, 3), depth=2, kernel=4, stage=StrideStage, norm="keras_layer", bias=False),
        lambda lead: torch.randint(256, (*lead, 16, 16, 3), dtype=torch.uint8),
    ),
    (lambda: BoardEncoder((5, 4, 2), units=8), lambda lead: torch.rand(*lead, 5, 4, 2) > 0.5),
]
NAMES = ["mlp", "conv", "strided", "valid", "same", "planes"]


@pytest.mark.parametrize("build,observe", PARTS, ids=NAMES)
@pytest.mark.parametrize("lead", LEADS)
def test_an_encoder_takes_any_leading_dimensions(build, observe, lead):
    encoder, x = build(), observe(lead)
    out = encoder.compute(x)
    assert out.shape == (*lead, encoder.out_features) and out.dtype == torch.float32
    flat = encoder.compute(x.reshape(-1, *x.shape[len(lead) :])).reshape(out.shape)
    torch.testing.assert_close(out, flat)


@pytest.mark.parametrize("build,observe", PARTS, ids=NAMES)
def test_an_encoder_is_pure_and_its_rows_are_independent(build, observe):
    encoder = scramble(build())
    assert_inputs_untouched(encoder.compute, observe((4,)))
    assert_rows_are_independent(encoder.compute, observe((4,)))


@pytest.mark.parametrize("build,observe", PARTS, ids=NAMES)
def test_gradient_reaches_every_parameter_of_an_encoder(build, observe):
    encoder = scramble(build())
    assert_every_parameter_gets_a_gradient(encoder, encoder.compute(observe((6,))).square().sum())


@pytest.mark.parametrize("size", [(64, 64), (96, 96), (32, 48)])
def test_sizes_divisible_by_the_stages_are_encoded(size):
    encoder = ConvEncoder((*size, 3), depth=1)
    assert encoder.compute(torch.zeros(2, *size, 3, dtype=torch.uint8)).shape == (2, encoder.out_features)
    assert encoder.out_features == size[0] * size[1] // 256 * 4


@pytest.mark.parametrize("shape,options", [((84, 84, 3), {}), ((64, 60, 3), {})])
def test_sizes_not_divisible_by_the_stages_are_refused_with_a_remedy(shape, options):
    with pytest.raises(ValueError, match="divisible by 16.*Resize"):
        ConvEncoder(shape, **options)


def test_unpadded_convolutions_leave_two_pixels_of_sixty_four_and_refuse_what_is_too_small():
    assert ConvEncoder((64, 64, 3), depth=32, mults=(1, 2, 4, 8), kernel=4, stage=ValidStage).out_features == 1024
    with pytest.raises(ValueError, match="larger image; got 45 pixels"):
        ConvEncoder((64, 45, 3), mults=(1, 2, 4, 8), kernel=4, stage=ValidStage)


@pytest.mark.parametrize(
    "build", [lambda k: ConvEncoder((16, 16, 1), kernel=k), lambda k: BoardEncoder((5, 5, 1), kernel=k)]
)
def test_an_even_kernel_is_refused(build):
    with pytest.raises(ValueError, match="odd"):
        build(4)


def test_missing_numbers_enter_as_zeros():
    encoder = MLPEncoder(3, units=8)
    missing, zero = torch.tensor([1.0, -torch.inf, 2.0]), torch.tensor([1.0, 0.0, 2.0])
    assert torch.equal(encoder.compute(missing), encoder.compute(zero))


@pytest.mark.parametrize("lead", LEADS)
def test_everything_an_environment_shows_becomes_one_embedding(lead):
    encoder, observation = everything(), draw(EVERYTHING, lead)
    embed = encoder.embed(observation)
    assert encoder.in_keys == sorted(EVERYTHING.keys())
    assert embed.shape == (*lead, encoder.out_features)
    assert torch.equal(embed, encoder(TensorDict(observation, lead))["embed"])


def test_gradient_reaches_every_parameter_of_the_multi_encoder():
    encoder = everything()
    assert_every_parameter_gets_a_gradient(encoder, encoder.embed(draw(EVERYTHING, (8,))).square().sum())


@pytest.mark.parametrize("key", sorted(EVERYTHING.keys()))
def test_the_embedding_depends_on_each_observation(key):
    encoder, observation = everything(), draw(EVERYTHING, (16,))
    other = observation | {key: draw(EVERYTHING, (16,))[key]}
    assert not torch.equal(encoder.embed(observation), encoder.embed(other))


def test_the_embedding_is_vectors_then_images_then_boards():
    encoder = MultiEncoder.dreamer_v3(
        Composite({key: EVERYTHING[key] for key in ("board", "camera", "gauge")}), **SMALL
    )
    first, other = draw(EVERYTHING, (4,)), draw(EVERYTHING, (4,))
    bounds = {"gauge": slice(0, 8), "camera": slice(8, 8 + 4 * 4 * 4), "board": slice(8 + 4 * 4 * 4, None)}
    before = encoder.embed(first)
    for key, part in bounds.items():
        changed = (encoder.embed(first | {key: other[key]}) != before).any(0)
        assert changed[part].any()
        changed[part] = False
        assert not changed.any()


def test_the_transform_sees_all_numbers_in_sorted_key_order():
    spec = Composite(b=Unbounded(2), a=Unbounded(1), on=UnboundedDiscrete(shape=(1,), dtype=torch.bool))
    data = {"a": 7 + torch.randn(50, 1), "b": 3 * torch.randn(50, 2), "on": torch.rand(50, 1) > 0.5}
    encoder = MultiEncoder.dreamer_v3(spec, **SMALL, transform=Standardize(3))
    assert encoder.groups.vector_size == 3
    assert torch.equal(encoder.groups.numbers(data), torch.cat([data["a"], data["b"]], -1))
    encoder.transform.fit(encoder.groups.numbers(data))
    seen = []
    encoder.mlp.mlp.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    encoder.embed(data)
    expected = torch.cat([encoder.transform(encoder.groups.numbers(data)), data["on"].float()], -1)
    torch.testing.assert_close(seen[0], expected)


def test_no_numbers_means_nothing_to_fit():
    with pytest.raises(ValueError, match="No numeric vector"):
        MultiEncoder.dreamer_v3(Composite(board=EVERYTHING["board"])).groups.numbers({})


def test_the_parts_of_an_encoder_are_given_for_each_kind_of_observation():
    class Mean(torch.nn.Module):
        def __init__(self, shape):
            super().__init__()
            self.out_features = shape[-1]

        def compute(self, pixels):
            return pixels.float().mean((-3, -2))

    spec = Composite({key: EVERYTHING[key] for key in ("board", "camera", "gauge")})
    encoder = MultiEncoder(spec, vectors=lambda size: MLPEncoder(size, units=7), images=Mean, boards=Mean)
    observation = draw(spec, (5,))
    embed = encoder.embed(observation)
    channels = spec["camera"].shape[-1]
    assert embed.shape == (5, 7 + channels + spec["board"].shape[-1])
    torch.testing.assert_close(embed[:, 7 : 7 + channels], observation["camera"].float().mean((-3, -2)))


def test_numbers_enter_planets_encoder_as_they_are():
    encoder = MultiEncoder.planet(Composite(x=Unbounded(2)), units=8, layers=1)
    seen = []
    encoder.mlp.mlp.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    encoder.embed({"x": torch.tensor([3.0, -100.0])})
    assert seen[0].tolist() == [3.0, -100.0]


def test_images_of_different_sizes_are_refused():
    spec = Composite(a=EVERYTHING["camera"], b=Bounded(0, 255, shape=(32, 32, 3), dtype=torch.uint8))
    with pytest.raises(ValueError, match="one size"):
        MultiEncoder.dreamer_v3(spec)


def test_keys_can_be_renamed_and_must_be_as_many():
    encoder = MultiEncoder.dreamer_v3(Composite(x=Unbounded(2)), in_keys=[("next", "x")], out_keys=["tokens"], **SMALL)
    assert encoder(TensorDict({("next", "x"): torch.zeros(2)}))["tokens"].shape == (8,)
    with pytest.raises(ValueError, match="one in_key for each"):
        MultiEncoder.dreamer_v3(Composite(x=Unbounded(2)), in_keys=["a", "b"])


@pytest.mark.compile
@pytest.mark.parametrize("build,observe", PARTS, ids=NAMES)
def test_an_encoder_compiles_to_the_same_numbers(build, observe):
    encoder, x = build(), observe((3,))
    compiled = torch.compile(encoder.compute, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), encoder.compute(x))


@pytest.mark.compile
def test_the_multi_encoder_compiles_to_the_same_numbers():
    encoder, observation = everything(), draw(EVERYTHING, (3,))
    compiled = torch.compile(encoder.embed, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(observation), encoder.embed(observation))
