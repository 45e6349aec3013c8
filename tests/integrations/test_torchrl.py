"""The way back in TorchRL: the filter in front of a policy on real environments; see tests/contract/test_torchrl.py."""

import copy

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import nn
from torchrl.collectors import Collector
from torchrl.data import Bounded, Categorical, Composite, OneHot, Unbounded
from torchrl.envs import ActionDiscretizer, Compose, GymEnv, InitTracker, SerialEnv, TransformedEnv
from torchrl.envs.libs.gym import GymWrapper
from torchrl.envs.utils import ExplorationType, check_env_specs, set_exploration_type
from torchrl.modules import AdditiveGaussianModule

from tests.support.models import VECTOR, PointMass
from tests.support.real import LENGTH, Counts
from wmcomponents.data import RandomPolicy, RealCollector
from wmcomponents.dream import filtered_states
from wmcomponents.integrations.torchrl import Filter, LatentPolicy
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


@pytest.mark.parametrize("inside_workers", [False, True], ids=["around", "in-each-worker"])
def test_noise_behind_the_policy_reaches_the_filter(model, inside_workers):
    noise = AdditiveGaussianModule(Bounded(-1, 1, (2,)), sigma_init=1.0, sigma_end=1.0)
    latent = policy_of(model)
    policy = TensorDictSequential(latent, noise)
    env = SerialEnv(2, lambda: real(latent)) if inside_workers else real(latent, rows=2)
    with set_exploration_type(ExplorationType.RANDOM):
        shown = env.rollout(8, policy, break_when_any_done=False)
    inner = torch.stack([policy_of(model).module[1](shown[:, t].select("latent"))["action"] for t in range(8)], 1)
    assert not torch.isclose(inner, shown["action"]).any()
    begins = shown["is_init"][:, 1:, 0]
    assert torch.equal(shown["prev_action"][:, 1:][~begins], shown["action"][:, :-1][~begins])
    assert not shown["prev_action"][:, 1:][begins].any()
    torch.testing.assert_close(shown["memory"], filtered_states(model, shown)["memory"])


def test_the_filter_is_told_the_action_that_the_model_knows_where_a_transform_changes_it():
    base = GymEnv("Pendulum-v1")
    model = ToyWorldModel(VECTOR, OneHot(3))
    policy = LatentPolicy(model, RandomPolicy(OneHot(3)))
    discretizer = ActionDiscretizer(3, categorical=False)
    env = TransformedEnv(base, Compose(InitTracker(), discretizer, policy.make_tensordict_primer()))
    shown = env.rollout(4, policy)
    assert shown["action"].shape == (4, 3) and torch.equal(shown["prev_action"][1:], shown["action"][:-1])


def test_where_the_filter_did_not_run_the_past_is_unknown(model):
    """A random policy acts first, and for two steps later; each time the filter begins as at a first frame."""
    latent, chance = policy_of(model), RandomPolicy(Bounded(-1, 1, (2,)))
    env = TransformedEnv(GymWrapper(Counts(length=20)), Compose(InitTracker(), latent.make_tensordict_primer()))
    kept = []

    def latents(td):
        kept.append(latent(td).exclude("next").clone())
        return td

    collector = RealCollector(env, None, policy=chance, seed=0)
    runs = []
    for random, filtered in ((5, 3), (2, 4)):
        collector.policy = chance
        collector.collect(random)
        collector.policy = latents
        collector.collect(filtered)
        runs.append(torch.stack(kept))
        kept.clear()
    collector.close()
    for run in runs:
        assert not run["is_init"].any()
        assert run["past_known"].flatten().tolist() == [False] + [True] * (len(run) - 1)
        expected = filtered_states(model, run.unsqueeze(0))
        for key in model.state_spec.keys():
            torch.testing.assert_close(run[key], expected[key][0])


def test_the_filter_knows_actions_as_the_environment_clips_them(model):
    model.act.data.mul_(4)
    shown = []
    for size in (1.0, 7.0):
        policy = LatentPolicy(
            model, TensorDictModule(lambda latent, size=size: torch.full((2,), size), ["latent"], ["action"])
        )
        shown.append(real(policy).rollout(LENGTH, policy))
    assert shown[1]["prev_action"][1:].eq(7).all()
    assert torch.equal(shown[0]["memory"], shown[1]["memory"])


def test_the_filter_uses_the_model_in_eval_mode_and_leaves_it_in_its_own(model):
    policy, modes = policy_of(model), []
    features = model.features
    model.features = lambda state: modes.append(model.training) or features(state)
    model.train()
    real(policy).rollout(LENGTH, policy)
    assert model.training and modes == [False] * LENGTH


def test_names_that_the_filter_needs_are_not_the_models():
    with pytest.raises(ValueError, match="filtered"):
        Filter(ToyWorldModel(Composite(filtered=Unbounded(3)), OneHot(2)))


@pytest.mark.filterwarnings("ignore:.*InitTracker")
def test_a_collector_runs_it_across_its_batches(model):
    policy = policy_of(model)
    env = real(policy)
    batches = list(Collector(env, policy, frames_per_batch=4, total_frames=8))
    whole = torch.cat(batches, -1).unsqueeze(0)
    expected = filtered_states(model, whole)
    for key in model.state_spec.keys():
        torch.testing.assert_close(whole[key], expected[key])


@pytest.mark.parametrize("rows", [None, 2])
def test_torchrl_accepts_the_environment_that_carries_the_filter(model, rows):
    check_env_specs(real(policy_of(model), rows))


@pytest.mark.filterwarnings("ignore:.*InitTracker")
def test_a_collector_that_registers_transforms_finds_the_filters(model):
    policy = policy_of(model)
    options = {"frames_per_batch": 8, "total_frames": 8, "auto_register_policy_transforms": True}
    (shown,) = Collector(GymWrapper(Counts()), policy, **options)
    assert shown["past_known"].flatten().tolist() == [False, True, True, False, True, True, False, True]
    torch.testing.assert_close(shown["memory"], filtered_states(model, shown.unsqueeze(0))["memory"][0])


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


def test_two_policies_draw_differently_unless_seeded(model):
    first, second = (real(policy).rollout(2, policy)["z"] for policy in (policy_of(model, sample=True) for _ in "ab"))
    assert not torch.equal(first, second)


def test_a_model_without_features_filters_its_state():
    model = PointMass()
    assert Filter(model).out_keys == ["point", "filtered"]
    td = TensorDict(
        point=torch.zeros(3, 2),
        prev_action=torch.zeros(3, 1),
        observation=torch.ones(3, 2),
        is_init=torch.ones(3, 1, dtype=torch.bool),
        past_known=torch.zeros(3, 1, dtype=torch.bool),
        batch_size=[3],
    )
    assert torch.equal(Filter(model)(td)["point"], td["observation"])


def test_what_is_carried_shares_no_memory_with_where_it_came_from(model):
    policy = policy_of(model)
    env = real(policy)
    td = policy(env.reset())
    before = td.clone()
    after = env.step(td)["next"]
    for key in (*model.state_spec.keys(), "prev_action", "past_known"):
        after[key].fill_(9)
    assert (td.exclude("next") == before).all()


def test_a_policy_is_copied_whole(model):
    policy = policy_of(model, sample=True, seed=0)
    twin = copy.deepcopy(policy)
    assert torch.equal(real(policy).rollout(3, policy)["z"], real(twin).rollout(3, twin)["z"])
