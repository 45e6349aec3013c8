"""The assembled DreamerV3 world model: sizes, capabilities, observations of every kind."""

import dataclasses

import pytest
import torch
from torchrl.data import Bounded, Categorical, Composite, OneHot, Unbounded

from tests.support.golden_vectors import load
from wmcomponents.data import collect, make_env, make_replay
from wmcomponents.dream import PriorStarts
from wmcomponents.integrations.torchrl import Filter
from wmcomponents.models import DreamerV3, DreamerV3Config, DreamerV3ModelLoss, RSSMWorldModel, presets
from wmcomponents.nn import StridedDoubling, StrideStage
from wmcomponents.training import Trainer

VECTOR = Composite(observation=Unbounded(4))
CASES = {
    "image64x64x3_18actions": (Composite(image=Bounded(0, 255, (64, 64, 3), dtype=torch.uint8)), OneHot(18)),
    "proprio24_6dactions": (
        Composite(orientations=Unbounded(14), height=Unbounded(()), velocity=Unbounded(9)),
        Bounded(-1, 1, (6,)),
    ),
}


def count(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("preset", [name for name in presets("DreamerV3") if name != "tiny"])
@pytest.mark.parametrize("case", CASES)
def test_presets_have_the_official_parameter_counts(preset, case):
    counts = load("v3_param_counts")[0]["counts"][f"{case}/{preset}"]
    with torch.device("meta"):
        model = DreamerV3(getattr(DreamerV3Config, preset)(), *CASES[case])
    parts = {
        "enc": model.encoder,
        "dyn": model.dynamics,
        "dec": model.decoder,
        "rew": model.reward_head,
        "con": model.continue_head,
    }
    assert {name: count(part) for name, part in parts.items()} == {name: counts[name] for name in parts}


def test_a_model_without_a_decoder_lacks_only_that_capability():
    model = DreamerV3(DreamerV3Config.tiny(decoder=False), VECTOR, OneHot(2))
    assert model.capabilities == {"features", "reward", "continue", "objective"}
    with pytest.raises(TypeError, match="no decoder"):
        model.decode(model.initial_state((2,)))


@pytest.mark.parametrize(
    "observation",
    [
        VECTOR,
        Composite(pixels=Bounded(0, 255, (64, 64, 3), dtype=torch.uint8)),
        Composite(observation=Bounded(0, 1, (10, 10, 4), dtype=torch.bool)),
        Composite(position=Unbounded(3), mode=Categorical(3), image=Bounded(0, 255, (32, 32, 3), dtype=torch.uint8)),
    ],
    ids=["vector", "image", "planes", "dict"],
)
@pytest.mark.parametrize("latent", ["categorical", "gaussian"])
def test_every_kind_of_observation_is_encoded_and_decoded_into_its_own_space(observation, latent):
    model = DreamerV3(DreamerV3Config.tiny(latent=latent), observation, Bounded(-2, 2, (1,)))
    seen = dict(observation.rand((3,)).items())
    state = model.observe(
        model.initial_state((3,)),
        torch.zeros(3, 1),
        seen,
        torch.ones(3, 1, dtype=torch.bool),
        model.noise_source("observe")((3,), torch.Generator().manual_seed(0)),
    )
    decoded = model.decode(state)
    assert {key: (value.shape, value.dtype) for key, value in decoded.items()} == {
        key: (value.shape, value.dtype) for key, value in seen.items()
    }
    assert observation.expand(3).is_in(model_td(decoded))


def model_td(decoded):
    from tensordict import TensorDict

    return TensorDict(decoded, batch_size=[3])


def test_the_continue_probability_does_not_contain_the_discount():
    model = DreamerV3(DreamerV3Config.tiny(), VECTOR, OneHot(2))
    torch.nn.init.constant_(model.continue_head.out.bias, 20.0)
    prediction = model.imagine(model.initial_state((2,)), torch.eye(2), None)
    assert torch.equal(prediction.cont, torch.ones(2, 1))


def test_standardised_models_fit_their_scale_to_data():
    model = DreamerV3(DreamerV3Config.tiny(), VECTOR, OneHot(2))
    data = torch.randn(10, 5, 4) * torch.tensor([1.0, 10.0, 100.0, 0.1]) + 7.0
    model.prepare({"observation": data})
    torch.testing.assert_close(model.encoder.transform(data).std((0, 1), correction=0), torch.ones(4))


def test_bounded_actions_enter_scaled_to_one():
    model = DreamerV3(DreamerV3Config.tiny(), VECTOR, Bounded(-2, 2, (1,)))
    torch.testing.assert_close(model.action_vector(torch.tensor([[2.0], [-1.0]])), torch.tensor([[1.0], [-0.5]]))


def test_configs_are_frozen_and_varied_by_replacement():
    config = DreamerV3Config.size12m(decoder=False)
    assert config.network.deter == 2048 and not config.network.decoder
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.network.deter = 3


@pytest.mark.parametrize(
    "action",
    [OneHot(3), Categorical(3), Bounded(0, 2, (1,)), Bounded(-1, 1, (2,))],
    ids=["one-hot", "index", "gas", "box"],
)
def test_dreams_from_the_prior_begin_where_the_filter_begins_an_episode(action):
    model = DreamerV3(DreamerV3Config.tiny(), VECTOR, action).eval()
    generator = torch.Generator().manual_seed(0)
    begun = PriorStarts(model).sample(2, generator)
    seen = model.observe(
        model.initial_state((2,)),
        action.rand((2,)),
        {"observation": torch.zeros(2, 4)},
        torch.ones(2, 1, dtype=torch.bool),
        None,
    )
    torch.testing.assert_close(begun["deter"], seen["deter"])


def test_the_filter_of_a_torchrl_policy_refuses_what_is_not_finite():
    model = DreamerV3(DreamerV3Config.tiny(), VECTOR, OneHot(2)).eval()
    state = model.initial_state((1,))
    with pytest.raises(ValueError, match="not finite"):
        Filter(model)(
            **state,
            prev_action=torch.zeros(1, 2),
            observation=torch.full((1, 4), float("nan")),
            is_init=torch.ones(1, 1, dtype=torch.bool),
            past_known=torch.zeros(1, 1, dtype=torch.bool),
        )


def test_a_model_put_together_by_hand_trains_and_says_why_it_cannot_be_saved(tmp_path):
    whole = DreamerV3(DreamerV3Config.tiny(), VECTOR, OneHot(2))
    model = RSSMWorldModel(
        observation_spec=VECTOR,
        action_spec=OneHot(2),
        encoder=whole.encoder,
        dynamics=whole.dynamics,
        decoder=whole.decoder,
        reward_head=whole.reward_head,
        continue_head=whole.continue_head,
    )
    env = make_env("CartPole-v1", seed=0)
    replay = make_replay(64, env, sequence_length=4, batch_size=2, seed=0, print_fn=None)
    collect(env, replay, 64, seed=0)
    Trainer(model, replay, objective=DreamerV3ModelLoss(model), progress=False).train(2)
    with pytest.raises(TypeError, match="put together by hand"):
        model.save_pretrained(tmp_path / "model")


def test_the_official_strided_form_halves_and_doubles_by_convolutions_alone():
    torch.manual_seed(0)
    spec = Composite(pixels=Bounded(0, 255, (32, 32, 3), dtype=torch.uint8))
    model = DreamerV3(DreamerV3Config.tiny(stages="strided", mults=(1, 2)), spec, OneHot(3)).eval()
    assert all(isinstance(stage, StrideStage) for stage in model.encoder.conv.stages)
    assert all(isinstance(stage, StridedDoubling) for stage in (*model.decoder.conv.stages, model.decoder.conv.out))
    pixels = torch.randint(256, (2, 32, 32, 3), dtype=torch.uint8)
    init = torch.ones(2, 1, dtype=torch.bool)
    state = model.observe(model.initial_state((2,)), torch.zeros(2, 3), {"pixels": pixels}, init, None)
    assert model.decode(state)["pixels"].shape == (2, 32, 32, 3)
    with pytest.raises(ValueError, match="'pool'.*'strided'"):
        DreamerV3(DreamerV3Config.tiny(stages="dilated"), spec, OneHot(3))
