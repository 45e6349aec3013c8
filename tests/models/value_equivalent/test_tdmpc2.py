"""What TD-MPC2's world model promises beyond the contract."""

import dataclasses

import pytest
import torch
from torchrl.data import Bounded, Categorical, Composite, MultiCategorical, OneHot, Unbounded

from wmcomponents.data import action_spec, collect, make_env, make_replay, observation_spec
from wmcomponents.models import TDMPC2, TDMPC2Config
from wmcomponents.testing import check_world_model
from wmcomponents.training import Trainer
from wmcomponents.world_model import CapabilityError

VECTOR = Composite(observation=Unbounded(4))
TASKED = Composite(observation=Unbounded(4), task=Categorical(3))
TASKS = {"task_size": 4, "action_sizes": (3, 1, 2), "episode_lengths": (500, 100, 25)}


def woken(config, observation, action):
    """A model whose zero layers hold small numbers."""
    torch.manual_seed(0)
    model = TDMPC2(config, observation, action).eval()
    for head in (model.reward_head, model.q, model.policy):
        torch.nn.init.normal_(head.out.weight, std=0.3)
    return model


def started(model, rows=3):
    """States of random observations."""
    seen = dict(model.observation_spec.rand((rows,)).items())
    first = torch.ones(rows, 1, dtype=torch.bool)
    return seen, model.observe(model.initial_state((rows,)), model.action_spec.rand((rows,)), seen, first, None)


def test_rewards_and_values_begin_at_exactly_zero():
    model = TDMPC2(TDMPC2Config.tiny(), VECTOR, Bounded(-1, 1, (2,)))
    _, state = started(model)
    assert not model.value(state).any()
    assert not model.imagine(state, torch.rand(3, 2), None).reward.any()


def test_there_is_no_decoder_and_continuation_only_with_a_termination_head():
    model = TDMPC2(TDMPC2Config.tiny(episodic=False), VECTOR, OneHot(2))
    assert model.capabilities == {"features", "reward", "value", "objective"}
    with pytest.raises(CapabilityError):
        model.decode(model.initial_state((1,)))
    assert model.imagine(started(model)[1], torch.eye(2)[[0, 1, 0]], None).cont is None


@pytest.mark.parametrize(
    "observation",
    [
        VECTOR,
        Composite(observation=Bounded(0, 1, (10, 10, 4), dtype=torch.bool)),
        Composite(position=Unbounded(3), mode=Categorical(3), board=Bounded(0, 1, (5, 5, 2), dtype=torch.bool)),
        Composite(position=Unbounded(3), pixels=Bounded(0, 255, (64, 64, 3), dtype=torch.uint8)),
    ],
    ids=["vector", "planes", "dict", "image-and-vector"],
)
@pytest.mark.parametrize("action", [OneHot(3), Categorical(3), MultiCategorical([2, 3]), Bounded(-2, 2, (2,))])
def test_every_kind_of_observation_and_action_is_modelled(observation, action):
    model = woken(TDMPC2Config.tiny(), observation, action)
    _, state = started(model)
    prediction = model.imagine(state, action.rand((3,)), None)
    for latent in (state["latent"], prediction.state["latent"]):
        torch.testing.assert_close(latent.unflatten(-1, (-1, 8)).sum(-1), torch.ones(3, 16))
    assert model.value(state).shape == prediction.reward.shape == prediction.cont.shape == (3, 1)


def test_a_image_gives_the_latent_its_size_and_says_so():
    spec = Composite(pixels=Bounded(0, 255, (64, 64, 9), dtype=torch.uint8))
    model = TDMPC2(TDMPC2Config.size5(), spec, Bounded(-1, 1, (2,)))
    assert model.encoder.conv.out_features == 512
    with pytest.raises(ValueError, match="set latent to 128"):
        TDMPC2(TDMPC2Config.tiny(latent=64), spec, Bounded(-1, 1, (2,)))
    with pytest.raises(ValueError, match="too small"):
        small = Composite(pixels=Bounded(0, 255, (32, 32, 3), dtype=torch.uint8))
        TDMPC2(TDMPC2Config.tiny(), small, Bounded(-1, 1, (2,)))


def test_the_value_is_the_mean_of_all_members_at_the_mode():
    model = woken(TDMPC2Config.tiny(members=3), VECTOR, Bounded(-1, 1, (2,)))
    _, state = started(model)
    x = torch.cat([state["latent"], model.policy.mode(state["latent"])], -1)
    torch.testing.assert_close(model.value(state), model.q.compute(x)[1].mean(-1, keepdim=True))


def test_bounded_actions_enter_scaled_to_one():
    model = woken(TDMPC2Config.tiny(), VECTOR, Bounded(-2, 2, (1,)))
    torch.testing.assert_close(model.vector_of(torch.tensor([[2.0], [-1.0]]), None), torch.tensor([[1.0], [-0.5]]))


def test_the_task_is_observed_once_and_stays():
    model = woken(TDMPC2Config.tiny(**TASKS), TASKED, Bounded(-1, 1, (3,)))
    seen, state = started(model)
    task = seen["task"].unsqueeze(-1)
    assert torch.equal(state["task_index"], task)
    assert torch.equal(model.imagine(state, torch.rand(3, 3), None).state["task_index"], task)
    assert model.features(state).shape == (3, 128 + 4)
    other = model.observe({}, None, {**seen, "task": (seen["task"] + 1) % 3}, None, None)
    assert (model.value(state) != model.value(other)).all()
    dreamt = model.imagine(state, torch.rand(3, 3), None).state["latent"]
    assert torch.equal(dreamt[:, 128:], state["latent"][:, 128:]) and not torch.equal(dreamt, state["latent"])


def test_entries_of_the_action_that_a_task_lacks_are_ignored():
    model = woken(TDMPC2Config.tiny(**TASKS), TASKED, Bounded(-1, 1, (3,)))
    _, state = started(model)
    state["task_index"] = torch.tensor([[0], [1], [2]])
    one, other = torch.full((3, 3), 0.3), torch.full((3, 3), 0.3)
    other[:, 2] = -0.9
    changed = model.imagine(state, one, None).state["latent"] != model.imagine(state, other, None).state["latent"]
    assert changed.any(-1).tolist() == [True, False, False]
    noise = torch.randn(3, 3)
    feat = model.features(state)
    chosen = model.policy.choose(feat, noise, model.mask_of(torch.tensor([0, 1, 2]))).action
    assert (chosen == 0).tolist() == [[False, False, False], [False, True, True], [False, False, True]]


def test_long_embeddings_are_shortened_without_touching_a_weight():
    model = woken(TDMPC2Config.tiny(**TASKS), TASKED, Bounded(-1, 1, (3,)))
    with torch.no_grad():
        model.task_embedding.weight.mul_(1000.0)
    before = model.task_embedding.weight.clone()
    _, state = started(model)
    torch.testing.assert_close(model.features(state)[:, -4:].norm(dim=-1), torch.ones(3))
    assert torch.equal(model.task_embedding.weight, before)


@pytest.mark.parametrize(
    ("config", "spec", "words"),
    [
        ({"task_size": 4}, VECTOR, "task_size and action_sizes"),
        ({"action_sizes": (1, 2)}, VECTOR, "task_size and action_sizes"),
        ({"episode_lengths": (1, 2)}, VECTOR, "one length"),
        (TASKS, VECTOR, "observes which it is"),
        ({**TASKS, "episode_lengths": (500,)}, TASKED, "3 lengths"),
        ({**TASKS, "action_sizes": (3, 1, 4)}, TASKED, "1..3"),
        ({"latent": 60}, VECTOR, "multiple of group"),
    ],
)
def test_configs_that_do_not_fit_are_refused(config, spec, words):
    with pytest.raises(ValueError, match=words):
        TDMPC2(TDMPC2Config.tiny(**config), spec, Bounded(-1, 1, (3,)))


def test_presets_of_many_tasks_know_their_sizes():
    assert TDMPC2Config.mt30(19).network.latent == 512 and TDMPC2Config.mt80(19).network.latent == 768
    assert TDMPC2Config.mt30(1).network.task_size == 96 and TDMPC2Config.mt30(48).network.task_size == 64
    assert TDMPC2Config.mt80().loss.discounts == (0.99,) * 30 + (0.95,) * 50
    with pytest.raises(ValueError, match="1, 5, 19, 48 and 317"):
        TDMPC2Config.mt30(2)


def test_configs_are_frozen_and_varied_by_replacement():
    config = TDMPC2Config.size19(members=2)
    assert config.network.encoder_layers == 3 and config.network.members == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.network.units = 3


def test_standardised_models_fit_their_scale_to_data_once():
    model = TDMPC2(TDMPC2Config.tiny(), VECTOR, OneHot(2))
    data = torch.randn(10, 5, 4) * torch.tensor([1.0, 10.0, 100.0, 0.1]) + 7.0
    model.prepare({"observation": data})
    torch.testing.assert_close(model.encoder.transform(data).std((0, 1), correction=0), torch.ones(4))
    model.prepare({"observation": data * 2})
    torch.testing.assert_close(model.encoder.transform(data).std((0, 1), correction=0), torch.ones(4))


@pytest.mark.parametrize("several", [False, True], ids=["one-task", "several-tasks"])
def test_it_is_a_world_model(several):
    spec, changes = (TASKED, TASKS) if several else (VECTOR, {})
    check_world_model(woken(TDMPC2Config.tiny(**changes), spec, Bounded(-2, 2, (3,))))


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path):
    env = make_env("CartPole-v1", seed=0)
    spec, action = observation_spec(env), action_spec(env)
    replay = make_replay(200, env, sequence_length=8, batch_size=4, seed=0, print_fn=None)
    collect(env, replay, 200, seed=0)

    def trainer(out):
        torch.manual_seed(0)
        return Trainer(TDMPC2(TDMPC2Config.tiny(dropout=0.1), spec, action), replay, out=out, lr=1e-3, progress=False)

    whole, first = trainer(tmp_path / "whole"), trainer(tmp_path / "parts")
    whole.train(6)
    first.train(3)
    second = trainer(tmp_path / "parts")
    second.train(6)
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[key]), key
    assert torch.equal(whole.objective.policy_scale, second.objective.policy_scale)
    assert not torch.equal(whole.model.target_q.out.weight, torch.zeros_like(whole.model.target_q.out.weight))
