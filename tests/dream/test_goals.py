"""Goals in dreams: what is compared, what is paid, where it ends; and every adapter that shows them."""

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import TimeLimit
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3 import DQN, HerReplayBuffer
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from wmcomponents.agents.planners import GoalDistance, planet_cem
from wmcomponents.dream import DecodedView, GoalReward, GoalStarts, GoalTerm, GoalWorldModel, Simulator
from wmcomponents.functional import euclidean, mean_absolute, mean_squared, summed_squared
from wmcomponents.integrations.gymnasium import DreamVectorEnv, GoalDreamEnv, GoalObservation
from wmcomponents.integrations.sb3 import GoalDreamVecEnv
from wmcomponents.testing import check_world_model
from wmcomponents.testing.toy import ToyWorldModel
from wmcomponents.world_model import CapabilityError, Prediction, WorldModel


class Line(WorldModel):
    """A point on a line that moves by the action; what it sees is where it is."""

    def __init__(self, action_spec=None):
        super().__init__(
            observation_spec=Composite(observation=Unbounded(1)),
            action_spec=Bounded(-1, 1, (1,)) if action_spec is None else action_spec,
            state_spec=Composite(at=Unbounded(1)),
        )

    @property
    def capabilities(self):
        return frozenset({"decode", "features"})

    def observe(self, state, action, observation, is_init, noise):
        return {"at": observation["observation"].clone()}

    def imagine(self, state, action, noise):
        move = action if action.shape[-1] == 1 else action[..., 1:].float() - action[..., :1].float()
        return Prediction({"at": state["at"] + move}, None, None)

    def decode(self, state):
        return {"observation": state["at"].clone()}

    def features(self, state):
        return state["at"].clone()


def goals(*numbers):
    return {"observation": torch.tensor([[float(one)] for one in numbers])}


@given(st.lists(st.floats(-5, 5, width=32), min_size=2, max_size=8))
def test_distances_are_what_their_formulas_say(numbers):
    one, other = torch.tensor(numbers), torch.tensor(numbers[::-1])
    gap = one - other
    expected = {
        mean_squared: gap.square().mean(), summed_squared: gap.square().sum(), mean_absolute: gap.abs().mean(),
        euclidean: gap.square().sum().sqrt(),
    }  # fmt: skip
    for distance, value in expected.items():
        torch.testing.assert_close(distance(one, other), value.reshape(1))
        assert float(distance(one, one)) == 0.0


def test_a_reward_is_minus_the_weighted_distance_of_its_terms_to_the_goal_of_each_row():
    model = Line()
    terms = [GoalTerm(model.features, weight=2.0), GoalTerm(DecodedView(model, "observation"), mean_absolute, 0.5)]
    reward = GoalReward(model, goals(1, -3), terms=terms)
    state, after = {"at": torch.zeros(2, 1)}, {"at": torch.tensor([[2.0], [-1.0]])}
    paid = reward(state, torch.zeros(2, 1), after)
    assert paid.tolist() == [[-(2 * 1 + 0.5 * 1)], [-(2 * 4 + 0.5 * 2)]]
    simulator = Simulator(model, batch_size=2, reward=reward, termination="off", seed=0)
    simulator.reset()
    simulator.state = {"at": torch.tensor([[0.0], [0.0]])}
    assert simulator.step(torch.tensor([[1.0], [-1.0]])).reward.tolist() == [[0.0], [-(2 * 4 + 0.5 * 2)]]


def test_a_sparse_reward_tells_arrival_alone():
    reward = GoalReward(Line(), success=0.3, sparse=True).toward({"observation": torch.tensor([1.0])})
    after = {"at": torch.tensor([[1.5], [1.6], [0.0]])}
    assert reward(after, torch.zeros(3, 1), after).tolist() == [[0.0], [-1.0], [-1.0]]


def test_goals_pass_the_conformance_kit():
    specs = Composite(observation=Unbounded(3), image=Bounded(0, 255, (4, 4, 3), dtype=torch.uint8)), OneHot(3)
    check_world_model(GoalWorldModel(ToyWorldModel(*specs, noise="normal")))
    blind = ToyWorldModel(*specs, parts=("features",))
    model = GoalWorldModel(blind, GoalReward(blind, success=0.1), ends=True)
    check_world_model(model)
    assert model.capabilities == {"features", "reward", "goal", "continue"}
    assert list(model.state_spec.keys()) == ["memory", "z", "goal"]  # no image is kept that is never shown


def test_a_dream_ends_where_it_arrives_and_its_goal_stays():
    inner = Line()
    model = GoalWorldModel(inner, GoalReward(inner, success=0.01), ends=True)
    simulator = Simulator(model, GoalStarts(model, goals(2.0), None), batch_size=1, view="goal", seed=0)
    simulator.reset()
    simulator.state = {**simulator.state, "at": torch.zeros(1, 1)}
    steps = [simulator.step(torch.ones(1, 1)) for _ in range(2)]
    assert [float(step.reward) for step in steps] == [-1.0, 0.0]
    assert [bool(step.terminated) for step in steps] == [False, True]
    assert {key: value.tolist() for key, value in steps[1].observation.items()} == {
        "observation": [[2.0]], "achieved_goal": [[2.0]], "desired_goal": [[2.0]],
    }  # fmt: skip


def test_goals_and_starts_are_drawn_apart_and_by_the_seed():
    model = GoalWorldModel(Line())
    starts = GoalStarts(model, goals(1, 2, 3))
    drawn = starts.sample(200, torch.Generator().manual_seed(0))
    assert set(drawn["goal"].flatten().tolist()) == {1.0, 2.0, 3.0}
    assert drawn["goal"].tolist() == starts.sample(200, torch.Generator().manual_seed(0))["goal"].tolist()
    assert drawn["goal_observation"].tolist() == drawn["goal"].tolist()


def test_a_planner_reaches_the_goal_of_a_state():
    model = GoalWorldModel(Line())
    planner = planet_cem(model, horizon=3, candidates=64, elites=8, budget=4)
    planner.objective = GoalDistance.of(model.reward, running=1.0)
    state = {"at": torch.zeros(2, 1), **model.goal_state(goals(2.5, -0.5))}
    found = GoalDistance.of(model.reward)
    assert found.keys == ("goal",)
    plan = planner.plan(state, generator=torch.Generator().manual_seed(0), given={"goal": state["goal"]})
    assert plan.actions[0].sum() == pytest.approx(2.5, abs=0.2) and plan.actions[1, 0] == pytest.approx(-0.5, abs=0.2)


def test_gymnasiums_goal_convention_holds_in_every_adapter():
    inner = Line(OneHot(2))
    model = GoalWorldModel(inner, GoalReward(inner, success=0.01, sparse=True), ends=True)
    options = {"starts": GoalStarts(model, goals(1, 2)), "horizon": 5}
    env = GoalDreamEnv(model, **options)
    check_env(env, skip_render_check=True)
    seen, _ = env.reset(seed=3)
    assert env.compute_reward(seen["achieved_goal"], seen["desired_goal"], {}) == -1.0
    many = env.compute_reward(np.zeros((3, 1), np.float32), np.array([[0], [1], [0]], np.float32), [{}] * 3)
    assert many.tolist() == [0.0, -1.0, 0.0]
    rows = DreamVectorEnv(model, 3, view="goal", **options)
    assert rows.reset(seed=0)[0]["desired_goal"].shape == (3, 1)
    learner = DQN(
        "MultiInputPolicy", GoalDreamVecEnv(model, 4, seed=0, **options), replay_buffer_class=HerReplayBuffer,
        learning_starts=40, buffer_size=400, batch_size=16, seed=0, device="cpu",
    )  # fmt: skip
    learner.learn(80)
    sample = learner.replay_buffer.sample(64)
    again = model.goal_reward(sample.next_observations["achieved_goal"], sample.next_observations["desired_goal"])
    assert torch.equal(sample.rewards, again) and (again == 0).any()


def test_an_agent_of_the_dream_sees_reality_in_the_same_form():
    from wmcomponents.data.two_rooms import TwoRooms

    image = Bounded(0, 255, (64, 64, 3), dtype=torch.uint8)
    inner = ToyWorldModel(Composite(pixels=image), Bounded(-2.45, 2.45, (2,)), parts=("features",))
    model = GoalWorldModel(inner)
    env = GoalObservation(TimeLimit(TwoRooms(goal=True), 5), model)
    dream = GoalDreamEnv(model, horizon=5, termination="off")
    assert env.observation_space == dream.observation_space
    seen, _ = env.reset(seed=0)
    after = env.step(np.zeros(2, np.float32))[0]
    assert np.array_equal(seen["desired_goal"], after["desired_goal"]) and seen["desired_goal"].any()
    assert env.compute_reward(seen["achieved_goal"], seen["achieved_goal"], {}) == 0.0


@pytest.mark.parametrize(
    ("goal", "said"),
    [
        ({}, "'observation' is missing"),
        ({"observation": torch.zeros(2)}, r"float32 \[..., 1\]; got torch.float32 \[2\]"),
        ({"observation": torch.zeros(1, dtype=torch.int64)}, "got torch.int64"),
    ],
)
def test_a_goal_of_another_space_is_refused(goal, said):
    with pytest.raises(ValueError, match=said):
        GoalReward(Line(), goal)


def test_what_goals_need_is_said_at_construction():
    blind = ToyWorldModel(Composite(observation=Unbounded(3)), OneHot(2), parts=())
    with pytest.raises(CapabilityError, match="terms="):
        GoalReward(blind)
    with pytest.raises(ValueError, match="at least one term"):
        GoalReward(Line(), terms=[])
    with pytest.raises(ValueError, match="pass success="):
        GoalReward(Line(), sparse=True)
    with pytest.raises(ValueError, match="success="):
        GoalWorldModel(Line(), ends=True)
    with pytest.raises(ValueError, match="no goal yet"):
        GoalReward(Line())({}, torch.zeros(1), {"at": torch.zeros(1, 1)})
    with pytest.raises(CapabilityError, match="GoalWorldModel"):
        GoalDreamEnv(Line(), horizon=3, termination="off")
    with pytest.raises(ValueError, match="at least one"):
        GoalStarts(GoalWorldModel(Line()), {"observation": torch.zeros(1)})
