"""Success at goals, counted by hand on a line."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from torchrl.data import Bounded, Composite, Unbounded
from torchrl.envs import TensorDictPrimer

from wmcomponents.agents import PlanningAgent
from wmcomponents.agents.planners import GoalDistance, cem
from wmcomponents.data import make_env
from wmcomponents.data.random_policy import RandomPolicy
from wmcomponents.dream import GoalReward, GoalWorldModel
from wmcomponents.evaluation import GoalsReached, evaluate_goals, wilson_interval
from wmcomponents.world_model import Prediction, WorldModel


class Line(gymnasium.Env):
    """A point that begins at 0 and is moved; the goal is a whole number of moves away."""

    observation_space = spaces.Dict({key: spaces.Box(-99, 99, (1,)) for key in ("observation", "desired_goal")})
    action_space = spaces.Box(-1, 1, (1,))

    def __init__(self, ends=True):
        self.ends = ends

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.goal = 0.0, float(self.np_random.integers(1, 6)) * self.np_random.choice([-1, 1])
        return self.seen(), {}

    def step(self, action):
        self.at += float(action[0])
        near = abs(self.goal - self.at) < 0.5
        return self.seen(), -abs(self.goal - self.at), self.ends and near, False, {}

    def seen(self):
        both = {"observation": self.at, "desired_goal": self.goal}
        return {key: np.array([value], np.float32) for key, value in both.items()}


class LineModel(WorldModel):
    """The line as it is."""

    capabilities = frozenset({"features"})

    def __init__(self):
        super().__init__(
            observation_spec=Composite(observation=Unbounded(1)),
            action_spec=Bounded(-1, 1, (1,)),
            state_spec=Composite(at=Unbounded(1)),
        )

    def observe(self, state, action, observation, is_init, noise):
        return {"at": observation["observation"].clone()}

    def imagine(self, state, action, noise):
        return Prediction({"at": state["at"] + action}, None, None)

    def features(self, state):
        return state["at"].clone()


def straight(tensordict):
    gap = tensordict["desired_goal"] - tensordict["observation"]
    return tensordict.set("action", gap.clamp(-1, 1))


def gap(step):
    return (step["next", "desired_goal"] - step["next", "observation"]).abs()


def goals_of(seed, rows):
    return make_env(Line, num_envs=rows, seed=seed).reset()["desired_goal"].abs().flatten().tolist()


def test_a_policy_that_goes_straight_takes_as_many_steps_as_the_goal_is_far():
    asked = []

    def policy(tensordict):
        asked.append(tensordict.shape[0])
        return straight(tensordict)

    found = evaluate_goals(make_env(Line, num_envs=4), policy, 4, seed=3, distance=gap)
    far = [int(one) for one in goals_of(3, 4)]
    assert found.lengths == far and found.reached == [True] * 4 and found.distances == [0.0] * 4
    assert asked == [4] * max(far)  # it may keep something for each row


class Straight:
    """Carries what it needs in the TensorDict: the steps it took."""

    def __init__(self):
        self.asked = []

    def make_tensordict_primer(self):
        return TensorDictPrimer({"steps": Unbounded((1,))}, default_value=0.0, expand_specs=True)

    def __call__(self, tensordict):
        self.asked.append(tensordict["steps"].flatten().tolist())
        return straight(tensordict.set("steps", tensordict["steps"] + 1))


def test_a_policy_that_carries_its_state_is_asked_in_the_rows_that_run_alone():
    policy = Straight()
    found = evaluate_goals(make_env(Line, num_envs=4), policy, 4, seed=3)
    far = [int(one) for one in goals_of(3, 4)]
    assert found.lengths == far
    rows = [sum(length >= step for length in far) for step in range(1, max(far) + 1)]
    assert min(rows) < 4
    assert policy.asked == [[step] * row for step, row in enumerate(rows)]


def test_random_walks_that_keep_their_moves_are_played_until_the_last_of_them_is_over():
    env = make_env(Line, num_envs=4)
    walk = RandomPolicy(env.action_spec, 0.5, generator=torch.Generator().manual_seed(0))
    assert len(evaluate_goals(env, walk, 4, seed=3, max_steps=30)) == 4


def test_a_goal_that_is_not_reached_in_time_is_missed_and_told_how_far_it_was():
    found = evaluate_goals(make_env(Line, num_envs=4), straight, 4, seed=3, max_steps=2, distance=gap)
    far = goals_of(3, 4)
    assert min(far) <= 2 < max(far)
    assert found.reached == [one <= 2 for one in far]
    assert found.distances == [max(0.0, one - 2) for one in far]
    assert found.lengths == [min(2, int(one)) for one in far]


def test_more_episodes_than_rows_are_played_in_rounds_and_one_row_does():
    told = []
    found = evaluate_goals(make_env(Line, num_envs=2), straight, 5, seed=0, progress=told.append)
    assert len(found) == sum(told) == 5 and found.rate == 1.0 and found.distances == []
    alone = evaluate_goals(make_env(Line), straight, 2, seed=0)
    assert len(alone) == 2 and alone.rate == 1.0


def test_what_counts_as_reached_is_the_callers_to_say():
    env = make_env(Line, env_kwargs={"ends": False}, num_envs=3)
    assert evaluate_goals(env, straight, 3, seed=1, max_steps=9).rate == 0.0  # it never terminates
    found = evaluate_goals(env, straight, 3, seed=1, max_steps=9, reached=lambda step: gap(step) < 1.5)
    assert found.rate == 1.0 and found.lengths == [max(1, int(one) - 1) for one in goals_of(1, 3)]


def test_a_planner_in_a_world_model_reaches_goals_it_is_shown():
    model = GoalWorldModel(LineModel(), GoalReward(LineModel()))
    planner = cem(model, GoalDistance.of(GoalReward(model.model)), horizon=2, candidates=32, elites=4, budget=3, seed=0)
    agent = PlanningAgent(planner)
    found = evaluate_goals(make_env(Line, num_envs=3), agent.real_policy, 3, seed=2, max_steps=12)
    assert found.rate == 1.0


@given(st.integers(0, 60), st.integers(1, 60))
def test_wilsons_interval_solves_its_equation(successes, more):
    """Its bounds are the rates from which what was seen lies just 1.96 standard errors away."""
    trials = successes + more
    rate = successes / trials
    for bound in wilson_interval(successes, trials):
        assert 0.0 <= bound <= 1.0
        assert (rate - bound) ** 2 == pytest.approx(1.959964**2 * bound * (1 - bound) / trials, abs=1e-6)


def test_no_trials_have_no_interval():
    with pytest.raises(ValueError, match="some trials"):
        wilson_interval(0, 0)
    with pytest.raises(ValueError, match="got 3 of 2"):
        wilson_interval(3, 2)


def test_results_as_json():
    found = GoalsReached([True, False], [4, 10], [0.5, 3.0])
    assert found.to_json() == {
        "episodes": 2, "reached": 1, "interval": [0.0945, 0.9055], "rate": 0.5, "mean_length": 7.0,
        "mean_length_reached": 4.0, "mean_distance": 1.75,
    }  # fmt: skip
    assert GoalsReached([False], [3]).to_json()["mean_length_reached"] is None


def test_no_episodes_and_no_steps_are_refused():
    env = make_env(Line)
    with pytest.raises(ValueError, match="episodes"):
        evaluate_goals(env, straight, 0)
    with pytest.raises(ValueError, match="max_steps"):
        evaluate_goals(env, straight, 1, max_steps=0)
