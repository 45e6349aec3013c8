"""Planners as policies: in dreams, in reality behind the filter, and as agents."""

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded, Categorical, OneHot
from torchrl.envs import Compose, InitTracker, SerialEnv, TransformedEnv
from torchrl.envs.libs.gym import GymWrapper
from torchrl.envs.utils import ExplorationType, set_exploration_type

from tests.support.linear_world import LinearWorld
from tests.support.models import VECTOR
from tests.support.real import Counts
from wmcomponents.agents import Agent, DreamerV3Agent, PlanningAgent
from wmcomponents.agents.planners import cem, icem, planet_cem, tdmpc2_mppi
from wmcomponents.dream.experience import Experience
from wmcomponents.dream.imagine import imagine, tensordict_policy
from wmcomponents.models import TDMPC2, TDMPC2Config
from wmcomponents.testing.toy import ToyWorldModel


def toy():
    return ToyWorldModel(VECTOR, Bounded(-1, 1, (2,)), noise="normal")


def small(make, model, **options):
    return make(model, horizon=3, candidates=20, budget=2, seed=0, **options)


@pytest.mark.parametrize("rows", [None, 2])
@pytest.mark.parametrize("make", [cem, icem])
def test_the_plan_goes_on_from_step_to_step_and_begins_anew_with_each_episode(make, rows):
    planner = small(make, toy())
    agent = PlanningAgent(planner)
    base = GymWrapper(Counts()) if rows is None else SerialEnv(rows, lambda: GymWrapper(Counts()))
    env = TransformedEnv(base, Compose(InitTracker(), agent.real_policy.make_tensordict_primer()))
    begun = []
    begin = planner.search.begin
    planner.search.begin = lambda center, elites=None: (begun.append(center), begin(center, elites))[1]
    shown = env.rollout(6, agent.real_policy, break_when_any_done=False)
    is_init = shown["is_init"].reshape(-1, 6)[0].tolist()
    assert is_init == [True, False, False] * 2
    kept = shown["plan_kept"].reshape(-1, 6, 3, 2)
    for t, start in enumerate(begun):
        start = start.reshape(-1, 3, 2)
        if is_init[t]:
            assert (start == 0).all()
        else:
            assert torch.equal(start[:, :-1], kept[:, t - 1, 1:]) and (start[:, -1] == 0).all()


def test_a_planner_without_a_warm_start_carries_nothing():
    planner = small(planet_cem, toy(), elites=4)
    assert list(planner.carried_spec().keys()) == []
    out = planner(TensorDict(planner.model.initial_state((2,)), [2]))
    assert planner.out_keys == ["action"] and out["action"].shape == (2, 2)


def test_it_acts_in_a_dream():
    world = LinearWorld()
    start = {"motion": torch.tensor([[0.5, 0.5]])}
    dream = imagine(world, tensordict_policy(world, cem(world, horizon=6, seed=0)), start, 8)
    idle = imagine(world, lambda state: torch.zeros(*state["motion"].shape[:-1], 1), start, 8)
    assert dream["next", "reward"].sum() > 0.5 * idle["next", "reward"].sum()


def test_an_explorer_adds_noise_that_evaluation_does_without():
    specs = VECTOR, Bounded(-1, 1, (2,))
    model = TDMPC2(TDMPC2Config.tiny(), *specs)
    state = TensorDict(model.initial_state((2,)), [2])
    actions = []
    for kind in (ExplorationType.DETERMINISTIC, ExplorationType.RANDOM):
        planner = tdmpc2_mppi(model, candidates=16, proposals=4, elites=4, budget=1, seed=0)
        with set_exploration_type(kind):
            actions.append(planner(state.clone())["action"])
    assert not torch.equal(*actions)


@pytest.mark.parametrize("spec", [OneHot(3), Categorical(3)], ids=["one-hot", "index"])
def test_tdmpc2_plans_for_choices_too(spec):
    model = TDMPC2(TDMPC2Config.tiny(), VECTOR, spec)
    planner = tdmpc2_mppi(model, candidates=16, proposals=4, elites=4, budget=2, seed=0)
    with set_exploration_type(ExplorationType.RANDOM):
        action = planner(TensorDict(model.initial_state((2,)), [2]))["action"]
    assert all(spec.is_in(one) for one in action)


def test_a_planner_is_an_agent_that_learns_nothing_and_goes_on_to_the_bit():
    model = toy()
    agent = PlanningAgent(small(cem, model, elites=4))
    assert isinstance(agent, Agent) and agent.learn(Experience(model)) == {} and not agent.needs.lacking(model)
    state = TensorDict(model.initial_state((2,)), [2])
    agent.dream_policy(state.clone())
    assert agent.dreamed_steps == 2 * 2 * 20 * 3  # rows, iterations, candidates, steps
    saved = agent.state_dict()
    expected = agent.dream_policy(state.clone())["action"]
    other = PlanningAgent(small(cem, model, elites=4))
    other.load_state_dict(saved)
    assert torch.equal(other.dream_policy(state.clone())["action"], expected)
    assert other.dreamed_steps == agent.dreamed_steps


def test_an_input_without_a_state_is_refused_with_the_remedy():
    with pytest.raises(KeyError, match="LatentPolicy"):
        small(cem, toy(), elites=4)(TensorDict({"z": torch.zeros(1, 8)}, [1]))


def test_a_model_is_trained_online_while_a_planner_acts():
    few = {"prefill": 20, "pretrain": 2, "batch_size": 2, "sequence_length": 4, "evaluate_every": 0}
    agent = DreamerV3Agent.tiny(
        "CartPole-v1", changes=few, progress=False, behaviour=lambda model: PlanningAgent(small(cem, model, elites=4))
    )
    before = [p.clone() for p in agent.model.parameters()]
    agent.train(30)
    assert agent.trainer.real_steps == 30 and agent.trainer.global_step == 4
    assert agent.dreamed_steps == 10 * 2 * 20 * 3  # planned steps, iterations, candidates, horizon
    assert any(not torch.equal(a, b) for a, b in zip(before, agent.model.parameters(), strict=True))
