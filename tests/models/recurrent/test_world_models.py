"""The assembled World Models: sizes, time, temperature, observations of every kind."""

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded, Categorical, Composite, OneHot, Unbounded

from wmcomponents.models import WorldModels, WorldModelsConfig, make_model, presets

VECTOR = Composite(observation=Unbounded(4))
IMAGE = Composite(pixels=Bounded(0, 255, (64, 64, 3), dtype=torch.uint8))
SIZES = {"latent": 4, "hidden": 8, "units": 8, "components": 2}


def tiny(observation=VECTOR, action=None, **changes):
    return WorldModels(WorldModelsConfig.tiny(**SIZES, **changes), observation, OneHot(2) if action is None else action)


def count(*modules):
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def noisy(model, verb, rows):
    return model.noise_source(verb)((rows,), torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("preset", "action", "vision", "memory"), [("carracing", 3, 4_348_547, 422_368), ("doom", 1, 4_446_915, 1_678_785)]
)
def test_presets_have_the_paper_s_parameter_counts(preset, action, vision, memory):
    model = make_model("WorldModels", preset, IMAGE, Bounded(-1, 1, (action,)))
    assert count(model.encoder, model.decoder) == vision
    # CarRacing's M predicts z alone; Doom's the end of the episode too. Rewards are ours.
    parts = [model.memory, model.termination_head] if preset == "doom" else [model.memory]
    assert count(*parts) == memory
    assert presets("WorldModels") == ("tiny", "carracing", "doom")


def test_what_the_paper_s_controllers_read_and_how_warm_they_dream_follows_from_the_presets():
    race = make_model("WorldModels", "carracing", IMAGE, Bounded(-1, 1, (3,)))
    doom = make_model("WorldModels", "doom", IMAGE, Bounded(-1, 1, (1,)))
    assert race.features({key: torch.zeros(32 if key == "z" else 256) for key in "zhc"}).shape == (288,)
    assert doom.features({key: torch.zeros(64 if key == "z" else 512) for key in "zhc"}).shape == (1088,)
    assert (race.temperature, doom.temperature) == (1.0, 1.25)


@pytest.mark.parametrize(
    "observation",
    [
        VECTOR,
        IMAGE,
        Composite(observation=Bounded(0, 1, (10, 10, 4), dtype=torch.bool)),
        Composite(position=Unbounded(3), mode=Categorical(3), camera=Bounded(0, 255, (64, 64, 1), dtype=torch.uint8)),
    ],
    ids=["vector", "image", "planes", "dict"],
)
@pytest.mark.parametrize("mixture", ["dimension", "vector"])
def test_every_kind_of_observation_is_encoded_and_decoded_into_its_own_space(observation, mixture):
    model = tiny(
        observation, Bounded(-2, 2, (1,)), mixture=mixture, channels=(2, 2, 2, 2), decoder_channels=(8, 2, 2, 2)
    )
    seen = dict(observation.rand((3,)).items())
    begins = torch.ones(3, 1, dtype=torch.bool)
    state = model.observe(model.initial_state((3,)), torch.zeros(3, 1), seen, begins, noisy(model, "observe", 3))
    decoded = model.decode(state)
    assert {key: (value.shape, value.dtype) for key, value in decoded.items()} == {
        key: (value.shape, value.dtype) for key, value in seen.items()
    }
    assert observation.expand(3).is_in(TensorDict(decoded, batch_size=[3]))


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match="larger image"):
        tiny(Composite(pixels=Bounded(0, 255, (36, 36, 3), dtype=torch.uint8)))


def test_decoder_channels_that_are_no_two_by_two_pixels_are_refused():
    with pytest.raises(ValueError, match="multiple of 4"):
        tiny(IMAGE, decoder_channels=(1022, 128, 64, 32))


def test_h_is_the_memory_before_it_processed_the_z_beside_it():
    model = tiny()
    action, later = torch.eye(2), torch.eye(2).flip(0)
    first, second = ({"observation": torch.randn(2, 4)} for _ in range(2))
    begins = torch.ones(2, 1, dtype=torch.bool)
    one = model.observe(model.initial_state((2,)), action, first, begins, None)
    assert torch.equal(one["h"], torch.zeros(2, 8)) and torch.equal(one["c"], torch.zeros(2, 8))
    two = model.observe(one, later, second, ~begins, None)
    h, c = model.memory.advance(one["z"], one["h"], one["c"], model.action_vector(later))
    assert torch.equal(two["h"], h) and torch.equal(two["c"], c)
    torch.testing.assert_close(two["z"], model.encoder.encode(second)[0])


def test_dreaming_and_observing_share_the_memory_and_differ_in_z_alone():
    model = tiny(begins=True)
    state = {"z": torch.randn(3, 4), "h": torch.randn(3, 8), "c": torch.randn(3, 8), "first": torch.ones(3, 1)}
    action, inside = torch.eye(2)[torch.tensor([0, 1, 0])], torch.zeros(3, 1, dtype=torch.bool)
    dreamt = model.imagine(state, action, noisy(model, "imagine", 3)).state
    seen = model.observe(state, action, {"observation": torch.randn(3, 4)}, inside, None)
    assert all(torch.equal(dreamt[key], seen[key]) for key in ("h", "c", "first"))
    assert not torch.equal(dreamt["z"], seen["z"]) and torch.equal(dreamt["first"], torch.zeros(3, 1))


def test_where_the_family_has_it_the_memory_is_told_which_z_begins_an_episode():
    model = tiny(begins=True)
    shown, begins = {"observation": torch.randn(2, 4)}, torch.tensor([[True], [False]])
    state = model.observe(model.initial_state((2,)), torch.eye(2), shown, begins, None)
    assert state["first"].tolist() == [[1.0], [0.0]]
    other = {**state, "first": 1.0 - state["first"]}
    assert not torch.equal(
        model.imagine(state, torch.eye(2), None).state["h"], model.imagine(other, torch.eye(2), None).state["h"]
    )
    assert "first" not in tiny().state_spec.keys()


def test_reward_and_end_are_read_from_the_memory_after_the_action():
    model = tiny()
    state = {"z": torch.randn(2, 4), "h": torch.randn(2, 8), "c": torch.randn(2, 8)}
    prediction = model.imagine(state, torch.eye(2), None)
    h = prediction.state["h"]
    torch.testing.assert_close(prediction.reward, model.reward_head.compute(h)[1])
    torch.testing.assert_close(prediction.cont, 1.0 - model.termination_head.compute(h)[1])


def test_the_probability_of_the_end_is_freed_of_the_weight_it_was_trained_with():
    # The minimum of the weighted cross entropy for a true probability p has the odds w p / (1 - p).
    model = tiny(termination_weight=10.0)
    truth = torch.tensor([[0.01], [0.3], [0.9]])
    logit = torch.logit(truth) + torch.tensor(10.0).log()
    torch.testing.assert_close(model.terminated(logit), truth)


def test_the_temperature_can_be_set_for_dreaming_and_begins_as_the_config_says():
    model = tiny(temperature=1.25)
    state, action = {"z": torch.zeros(64, 4), "h": torch.zeros(64, 8), "c": torch.zeros(64, 8)}, torch.eye(2)[[0] * 64]
    noise, spreads = noisy(model, "imagine", 64), []
    for temperature in (1.25, 0.01):
        model.temperature = temperature
        assert model.temperature == model.memory.temperature == temperature
        spreads.append(model.imagine(state, action, noise).state["z"].std(0).mean())
    assert spreads[1] < 0.3 * spreads[0]
    assert tiny(temperature=1.25).temperature == 1.25
    with pytest.raises(ValueError, match="above 0"):
        model.temperature = 0.0


def test_scales_of_numbers_and_rewards_are_fitted_once_and_rewards_come_back_in_their_units():
    model = tiny()
    data = TensorDict(
        {
            "observation": torch.randn(10, 5, 4) * torch.tensor([1.0, 10.0, 100.0, 0.1]) + 7.0,
            "next": {"reward": 3.0 * torch.randn(10, 5, 1) - 8.0},
        },
        [10, 5],
    )
    model.prepare(data)
    numbers = model.encoder.features.transform(data["observation"])
    torch.testing.assert_close(numbers.std((0, 1), correction=0), torch.ones(4))
    torch.nn.init.zeros_(model.reward_head.out.weight)
    reward = model.imagine(model.initial_state((2,)), torch.eye(2), None).reward
    torch.testing.assert_close(reward, data["next", "reward"].mean().expand(2, 1))
    before = model.reward_head.distribution.transform.loc.clone()
    data["next", "reward"] += 1.0
    model.prepare(data)
    assert torch.equal(model.reward_head.distribution.transform.loc, before)


def test_boards_and_models_in_plain_units_need_no_fitting():
    board = Composite(observation=Bounded(0, 1, (5, 5, 2), dtype=torch.bool))
    data = TensorDict(
        {"observation": board.rand((3, 4))["observation"], "next": {"reward": torch.zeros(3, 4, 1)}}, [3, 4]
    )
    for model in (tiny(board), tiny(board, standardize=False)):
        model.prepare(data)
