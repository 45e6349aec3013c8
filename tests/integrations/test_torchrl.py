"""The way back in TorchRL: the filter in front of a policy on real environments; see tests/contract/test_torchrl.py."""

import copy

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.collectors import Collector
from torchrl.data import Bounded, Categorical, Composite, OneHot, Unbounded
from torchrl.envs import Compose, GymEnv, InitTracker, SerialEnv, TransformedEnv
from torchrl.envs.libs.gym import GymWrapper

from tests.contract.models import VECTOR, PointMass
from tests.integrations.real import LENGTH, Counts
from wmcomponents.dream import filtered_states
from wmcomponents.integrations.torchrl import Carry, Filter, LatentPolicy
from wmcomponents.testing.toy import ToyWorldModel


@pytest.fixture
def model():
    return ToyWorldModel(VECTOR, Bounded(-1, 1, (2,)), noise="normal")


def policy_of(model, **options):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2 * model.size, 2), nn.Tanh())
    return LatentPolicy(model, TensorDictModule(net, ["latent"], ["action"]), **options)


def real(policy, rows=None):
    base = GymWrapper(Counts()) if rows is None else SerialEnv(rows, lambda: GymWrapper(Counts()))
    return TransformedEnv(base, Compose(InitTracker(), policy.make_tensordict_primer()))


@pytest.mark.parametrize("rows", [None, 2])
def test_a_rollout_filters_exactly_what_the_environment_showed(model, rows):
    policy = policy_of(model)
    env = real(policy, rows)
    shown = env.rollout(8, policy, break_when_any_done=False)
    assert shown["is_init"].reshape(-1, 8)[0].tolist() == [True, False, False] * 2 + [True, False]
    sequences = shown if rows else shown.unsqueeze(0)
    expected = filtered_states(model, sequences)
    for key in model.state_spec.keys():
        torch.testing.assert_close(sequences[key], expected[key])
    torch.testing.assert_close(shown["latent"], model.features({key: shown[key] for key in model.state_spec.keys()}))


def test_the_action_that_led_here_is_carried(model):
    policy = policy_of(model)
    shown = real(policy).rollout(LENGTH, policy)
    assert torch.equal(shown["prev_action"][1:], shown["action"][:-1]) and not shown["prev_action"][0].any()


@pytest.mark.filterwarnings("ignore:.*InitTracker")
def test_a_collector_runs_it_across_its_batches(model):
    policy = policy_of(model)
    env = real(policy)
    batches = list(Collector(env, policy, frames_per_batch=4, total_frames=8))
    whole = torch.cat(batches, -1).unsqueeze(0)
    expected = filtered_states(model, whole)
    for key in model.state_spec.keys():
        torch.testing.assert_close(whole[key], expected[key])


@pytest.mark.parametrize("action", [OneHot(2), Categorical(2)], ids=["one-hot", "categorical"])
def test_discrete_actions_are_carried_too(action):
    model = ToyWorldModel(Composite(observation=Unbounded(4)), action)

    class Choose(nn.Module):
        def forward(self, latent):
            choice = (latent.sum(-1) > 0).long()
            return nn.functional.one_hot(choice, 2) if isinstance(action, OneHot) else choice

    policy = LatentPolicy(model, TensorDictModule(Choose(), ["latent"], ["action"]))
    base = GymEnv("CartPole-v1", categorical_action_encoding=isinstance(action, Categorical))
    env = TransformedEnv(base, Compose(InitTracker(), policy.make_tensordict_primer()))
    shown = env.rollout(5, policy).unsqueeze(0)
    expected = filtered_states(model, shown)
    torch.testing.assert_close(shown["memory"], expected["memory"])


def test_a_sampled_filter_has_a_generator_of_its_own(model):
    shown = []
    for garbage, seed in ((1, 0), (2, 0), (1, 7)):
        policy = policy_of(model, sample=True, seed=seed)
        torch.manual_seed(garbage)
        shown.append(real(policy).rollout(LENGTH, policy)["z"])
    assert torch.equal(shown[0], shown[1]) and not torch.equal(shown[0], shown[2])


def test_a_model_without_features_filters_its_state():
    model = PointMass()
    assert Filter(model).out_keys == ["point"]
    td = TensorDict(
        point=torch.zeros(3, 2),
        prev_action=torch.zeros(3, 1),
        observation=torch.ones(3, 2),
        is_init=torch.ones(3, 1, dtype=torch.bool),
        batch_size=[3],
    )
    assert torch.equal(Filter(model)(td)["point"], td["observation"])


def test_what_is_carried_shares_no_memory_with_where_it_came_from():
    td = Carry(["h", "action"])(TensorDict(h=torch.zeros(2), action=torch.zeros(2)))
    td["next", "h"].fill_(1), td["next", "prev_action"].fill_(1)
    assert not td["h"].any() and not td["action"].any()


def test_a_policy_is_copied_whole(model):
    policy = policy_of(model, sample=True)
    twin = copy.deepcopy(policy)
    assert torch.equal(real(policy).rollout(3, policy)["z"], real(twin).rollout(3, twin)["z"])
