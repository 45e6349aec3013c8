"""DreamerV2's world model and that of DreamerV3's preprint: sizes, parts, kinds of observations."""

import math

import pytest
import torch
from torchrl.data import Bounded, Categorical, Composite, OneHot, Unbounded

import wmcomponents
from wmcomponents.models import DreamerV2, DreamerV2Config, DreamerV3Preprint, DreamerV3PreprintConfig, presets
from wmcomponents.nn import Float32LayerNorm

FAMILIES = {"dreamer-v2": (DreamerV2, DreamerV2Config), "preprint": (DreamerV3Preprint, DreamerV3PreprintConfig)}
every_family = pytest.mark.parametrize("cls,config", FAMILIES.values(), ids=FAMILIES)
VECTOR = Composite(observation=Unbounded(4))
IMAGE = Composite(image=Bounded(0, 255, (64, 64, 3), dtype=torch.uint8))


def count(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def dense(*sizes: tuple[int, int]) -> int:
    """Weights and biases."""
    return sum(i * o + o for i, o in sizes)


def normed(*sizes: tuple[int, int]) -> int:
    """Weights, and scale and shift of a normalisation in place of biases."""
    return sum(i * o + 2 * o for i, o in sizes)


def kernels(sides, channels) -> int:
    """Weights of square convolutions, plain or transposed."""
    return sum(k * k * i * o for k, i, o in zip(sides, channels[:-1], channels[1:], strict=True))


def built(cls, config, observation=IMAGE, actions=18):
    with torch.device("meta"):
        return cls(config, observation, OneHot(actions))


def test_official_v2_has_the_papers_layers_on_atari():
    model = built(DreamerV2, DreamerV2Config.atari())
    encoder, decoder = (3, 48, 96, 192, 384), (1536, 192, 96, 48, 3)
    feat = 600 + 32 * 32
    assert model.encoder.out_features == 1536
    assert count(model.encoder) == kernels((4,) * 4, encoder) + sum(encoder[1:])
    assert count(model.decoder) == dense((feat, 1536)) + kernels((5, 5, 6, 6), decoder) + sum(decoder[1:])
    gru = dense((1200, 1800)) + 2 * 1800
    beliefs = dense((600, 600), (600, 1024), (600 + 1536, 600), (600, 1024))
    assert count(model.dynamics) == dense((1024 + 18, 600)) + gru + beliefs
    head = dense((feat, 400), (400, 400), (400, 400), (400, 400), (400, 1))
    assert count(model.reward_head) == count(model.continue_head) == head


def test_official_v2_reads_joints_with_four_layers():
    model = built(DreamerV2, DreamerV2Config.dmc_proprio(), Composite(joints=Unbounded(24)), 6)
    assert count(model.encoder) == dense((24, 400), (400, 400), (400, 400), (400, 400))
    assert count(model.decoder) == dense((200 + 1024, 400), (400, 400), (400, 400), (400, 400), (400, 24))
    assert model.continue_head is None and model.reward_head.distribution.transform is None


def test_everything_is_normalised_on_crafter():
    model = built(DreamerV2, DreamerV2Config.crafter())
    for part in (model.encoder, model.decoder, model.reward_head, model.dynamics.prior, model.dynamics.cell.input):
        assert any(isinstance(module, Float32LayerNorm) and module.eps == 1e-3 for module in part.modules())
    assert model.dynamics.cell.deter == 1024


def test_size_s_of_the_preprint_has_its_layers():
    model = built(DreamerV3Preprint, DreamerV3PreprintConfig.s())
    encoder, decoder = (3, 32, 64, 128, 256), (256, 128, 64, 32, 3)
    feat = 512 + 32 * 32
    assert model.encoder.out_features == 4 * 4 * 256
    assert count(model.encoder) == kernels((4,) * 4, encoder) + 2 * sum(encoder[1:])
    grown = kernels((4,) * 4, decoder) + 2 * sum(decoder[1:-1]) + 3
    assert count(model.decoder) == dense((feat, 4096)) + grown
    beliefs = normed((512, 512), (512 + 4096, 512)) + 2 * dense((512, 1024))
    assert count(model.dynamics) == normed((1024 + 18, 512), (1024, 1536)) + beliefs + 512
    assert count(model.reward_head) == normed((feat, 512), (512, 512)) + dense((512, 255))
    assert count(model.continue_head) == normed((feat, 512), (512, 512)) + dense((512, 1))


@pytest.mark.parametrize(
    "preset,deter,units,depth,layers",
    [
        ("xs", 256, 256, 24, 1),
        ("s", 512, 512, 32, 2),
        ("m", 1024, 640, 48, 3),
        ("l", 2048, 768, 64, 4),
        ("xl", 4096, 1024, 96, 5),
    ],
)
def test_sizes_of_the_preprint_are_its_table(preset, deter, units, depth, layers):
    config = getattr(DreamerV3PreprintConfig, preset)().network
    assert (config.deter, config.units, config.depth, config.layers) == (deter, units, depth, layers)
    assert (config.groups, config.classes) == (32, 32)


@every_family
@pytest.mark.parametrize(
    "observation",
    [
        VECTOR,
        IMAGE,
        Composite(observation=Bounded(0, 1, (10, 10, 4), dtype=torch.bool)),
        Composite(position=Unbounded(3), mode=Categorical(3), image=Bounded(0, 255, (48, 48, 3), dtype=torch.uint8)),
    ],
    ids=["vector", "image", "planes", "dict"],
)
@pytest.mark.parametrize("latent", ["categorical", "gaussian"])
def test_every_kind_of_observation_is_encoded_and_decoded_into_its_own_space(cls, config, observation, latent):
    model = cls(config.tiny(mults=(1, 2), latent=latent), observation, Bounded(-2, 2, (1,)))
    seen = dict(observation.rand((3,)).items())
    state = model.observe(
        model.initial_state((3,)),
        torch.zeros(3, 1),
        seen,
        torch.ones(3, 1, dtype=torch.bool),
        model.noise_source("observe")((3,), torch.Generator().manual_seed(0)),
    )
    decoded = model.decode(state)
    for key, value in seen.items():
        assert decoded[key].shape == value.shape and observation[key].expand(3, *value.shape[1:]).is_in(decoded[key])


@every_family
def test_a_model_without_a_decoder_lacks_only_that_capability(cls, config):
    model = cls(config.tiny(decoder=False), VECTOR, OneHot(2))
    assert model.capabilities == {"features", "reward", "continue", "objective"}


@every_family
def test_every_preset_of_a_family_can_be_built(cls, config):
    assert presets(cls.__name__)[0] == "tiny"
    for name in presets(cls.__name__):
        assert built(cls, getattr(config, name)()).config == getattr(config, name)()


def test_control_tasks_have_no_discount_head_and_atari_has_one():
    assert "continue" not in built(DreamerV2, DreamerV2Config.dmc_vision()).capabilities
    assert "continue" in built(DreamerV2, DreamerV2Config.atari()).capabilities


def test_the_continue_probability_of_v2_does_not_contain_the_discount():
    model = DreamerV2(DreamerV2Config.tiny(discount=0.9), VECTOR, OneHot(2))
    torch.nn.init.zeros_(model.continue_head.out.weight)
    for probability, expected in ((0.9, 1.0), (0.45, 0.5), (0.99, 1.0)):
        torch.nn.init.constant_(model.continue_head.out.bias, math.log(probability / (1 - probability)))
        prediction = model.imagine(model.initial_state((2,)), torch.eye(2), None)
        torch.testing.assert_close(prediction.cont, torch.full((2, 1), expected))


def test_rewards_of_an_atari_model_are_learned_squashed_and_imagined_in_plain_units():
    model = DreamerV2(DreamerV2Config.tiny(rewards="tanh"), VECTOR, OneHot(2))
    torch.nn.init.zeros_(model.reward_head.out.weight)
    torch.nn.init.constant_(model.reward_head.out.bias, math.tanh(1.7))
    prediction = model.imagine(model.initial_state((2,)), torch.eye(2), None)
    torch.testing.assert_close(prediction.reward, torch.full((2, 1), 1.7))


def test_weights_of_v2_begin_as_keras_draws_them():
    model = DreamerV2(DreamerV2Config.tiny(hidden=200), VECTOR, OneHot(2))
    layer = model.dynamics.prior.mlp.layer(0).linear
    limit = math.sqrt(6.0 / (128 + 200))
    assert layer.weight.abs().max() <= limit and layer.weight.abs().max() > 0.95 * limit


def test_weights_of_the_preprint_have_the_variance_of_the_mean_fan_and_rewards_begin_at_zero():
    model = DreamerV3Preprint(DreamerV3PreprintConfig.tiny(deter=600, units=200), IMAGE, OneHot(2))
    weight = model.dynamics.prior.mlp.layer(0).linear.weight
    assert weight.var().item() == pytest.approx(2 / (600 + 200), rel=0.05)
    kernel = model.decoder.conv.stages[0].conv.weight
    assert kernel.var().item() == pytest.approx(2 / (16 * (64 + 32)), rel=0.05)
    assert not model.reward_head.out.weight.any()
    assert model.imagine(model.initial_state((3,)), torch.eye(2)[[0, 1, 0]], None).reward.abs().max() < 1e-4


def test_episodes_of_the_preprint_begin_at_a_learned_state():
    model = DreamerV3Preprint(DreamerV3PreprintConfig.tiny(), VECTOR, OneHot(2))
    torch.nn.init.normal_(model.dynamics.initial.weight)
    begun = model.initial_state((2,))
    torch.testing.assert_close(begun["deter"], model.dynamics.initial.weight.tanh().expand(2, -1))
    assert begun["stoch"].sum(-1).eq(1).all()
    begins, seen = torch.ones(2, 1, dtype=torch.bool), {"observation": torch.randn(2, 4)}
    fresh = model.observe(begun, torch.zeros(2, 2), seen, begins, None)
    worn = {key: torch.randn_like(value) for key, value in begun.items()}
    again = model.observe(worn, torch.eye(2), seen, begins, None)
    torch.testing.assert_close(fresh["deter"], again["deter"])


def test_images_of_the_preprint_come_from_a_plain_output_around_grey():
    model = DreamerV3Preprint(DreamerV3PreprintConfig.tiny(), IMAGE, OneHot(2))
    raw = torch.full((1, 64, 64, 3), 0.1)
    shown = model.decoder.mean({"image": raw})["image"]
    assert shown.eq(153).all()
    white = torch.full((1, 64, 64, 3), 255, dtype=torch.uint8)
    error = model.decoder.loss({"image": raw}, {"image": white})["image"]
    torch.testing.assert_close(error, torch.full((1,), 64 * 64 * 3 * 0.16))


@every_family
def test_a_saved_model_comes_back_and_dreams_the_same(cls, config, tmp_path):
    model = cls(config.tiny(mults=(1, 2)), IMAGE, OneHot(2)).eval()
    model.save_pretrained(tmp_path / "model")
    again = wmcomponents.load(tmp_path / "model")
    assert type(again) is cls and again.config == model.config
    state, noise = model.initial_state((2,)), model.noise_source("imagine")((2,), torch.Generator().manual_seed(0))
    one, other = (each.imagine(state, torch.eye(2), noise) for each in (model, again))
    assert all(torch.equal(one.state[key], other.state[key]) for key in state)
    assert torch.equal(one.reward, other.reward) and torch.equal(one.cont, other.cont)
    assert torch.equal(model.decode(one.state)["image"], again.decode(other.state)["image"])
