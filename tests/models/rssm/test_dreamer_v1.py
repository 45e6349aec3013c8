"""Dreamer V1's world model, and what PlaNet's has in common with it: sizes, parts, kinds of observations."""

import pytest
import torch
from torchrl.data import Bounded, Categorical, Composite, OneHot, Unbounded

from tests.support.layer_counts import DECODER, DENSE, ENCODER, count, layers
from wmcomponents.models import DreamerV1, DreamerV1Config, PlaNet, PlaNetConfig, presets

FAMILIES = {"dreamer-v1": (DreamerV1, DreamerV1Config), "planet": (PlaNet, PlaNetConfig)}
every_family = pytest.mark.parametrize("cls,config", FAMILIES.values(), ids=FAMILIES)
VECTOR = Composite(observation=Unbounded(4))
IMAGE = Composite(image=Bounded(0, 255, (64, 64, 3), dtype=torch.uint8))


def test_official_v1_has_the_papers_layers():
    model = DreamerV1(DreamerV1Config.discrete(), IMAGE, Bounded(-1, 1, (6,)))
    gru = 3 * 200 * (200 + 200) + 2 * 3 * 200
    assert model.encoder.out_features == 1024
    found = [count(part) for part in (model.encoder, model.decoder, model.dynamics)]
    assert found == [ENCODER, DECODER, DENSE + gru]
    assert count(model.reward_head) == layers((230, 400), (400, 400), (400, 1))
    assert count(model.continue_head) == layers((230, 400), (400, 400), (400, 400), (400, 1))


@every_family
def test_control_tasks_have_no_continue_head_and_tiny_has_one(cls, config):
    assert "continue" not in cls(config.official(), VECTOR, OneHot(2)).capabilities
    assert "continue" in cls(config.tiny(), VECTOR, OneHot(2)).capabilities
    assert presets(cls.__name__)[0] == "tiny"


@every_family
def test_a_model_without_a_decoder_lacks_only_that_capability(cls, config):
    model = cls(config.tiny(decoder=False), VECTOR, OneHot(2))
    assert model.capabilities == {"features", "reward", "continue", "objective"}


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
def test_every_kind_of_observation_is_encoded_and_decoded_into_its_own_space(cls, config, observation):
    changes = {"mults": (1, 2)} if "position" in observation.keys() else {}
    model = cls(config.tiny(**changes), observation, Bounded(-2, 2, (1,)))
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


def test_the_continue_probability_of_v1_does_not_contain_the_discount():
    model = DreamerV1(DreamerV1Config.tiny(), VECTOR, OneHot(2))
    torch.nn.init.constant_(model.continue_head.out.bias, 20.0)
    prediction = model.imagine(model.initial_state((2,)), torch.eye(2), None)
    assert torch.equal(prediction.cont, torch.ones(2, 1))


@every_family
def test_weights_begin_as_keras_draws_them(cls, config):
    model = cls(config.official(), VECTOR, OneHot(2))
    layer = model.dynamics.prior.mlp.layer(0).linear
    limit = (6.0 / (200 + 200)) ** 0.5
    assert layer.weight.abs().max() <= limit and layer.weight.abs().max() > 0.95 * limit
    assert not layer.bias.any()
