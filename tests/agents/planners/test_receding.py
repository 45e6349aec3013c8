"""Receding horizon: several actions of each plan are executed before the next one."""

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded, Categorical, OneHot
from torchrl.envs import Compose, InitTracker, TransformedEnv
from torchrl.envs.libs.gym import GymWrapper

from tests.support.models import VECTOR
from tests.support.real import Counts
from wmcomponents.agents import PlanningAgent
from wmcomponents.agents.planners import RecedingHorizon, ShiftedPlan, cem, planet_cem
from wmcomponents.testing.toy import ToyWorldModel


def made(make=planet_cem, executed=2, spec=None, **options):
    model = ToyWorldModel(VECTOR, Bounded(-1, 1, (2,)) if spec is None else spec)
    small = {"horizon": 3, "candidates": 8, "elites": 2, "budget": 1, "seed": 0}
    return RecedingHorizon(make(model, **small, **options), executed)


def watched(policy):
    """The rows of every plan, and the plans."""
    rows, plans, plan = [], [], policy.planner.plan

    def seen(state, **options):
        plans.append(plan(state, **options))
        rows.append(plans[-1].action.shape[0] if plans[-1].action.ndim > 1 else 1)
        return plans[-1]

    policy.planner.plan = seen
    return rows, plans


def stepped(policy, td, is_init):
    after = policy(td.clone().set("is_init", torch.tensor(is_init)[:, None]))
    return after["action"], TensorDict({key: after[key] for key in td.keys() | set(policy.out_keys)}, td.batch_size)


def test_a_plan_is_executed_before_the_next_one_is_made():
    policy = made(executed=3)
    rows, plans = watched(policy)
    td, actions = TensorDict(policy.model.initial_state((2,)), [2]), []
    for _ in range(4):
        action, td = stepped(policy, td, [False, False])
        actions.append(action)
    assert rows == [2, 2]
    assert torch.equal(torch.stack(actions[:3], 1), plans[0].actions)
    assert torch.equal(actions[3], plans[1].action)


def test_only_rows_that_need_one_are_planned_for():
    policy = made(cem, warm_start=ShiftedPlan(steps=2))
    rows, plans = watched(policy)
    td, actions, starts = TensorDict(policy.model.initial_state((3,)), [3]), [], []
    for first in ([True] * 3, [False, True, False], [False] * 3):
        action, td = stepped(policy, td, first)
        actions.append(action)
        starts.append(td["plan_kept"].clone())
    assert rows == [3, 1, 2]  # a new episode in row 1, then the ends of the other rows' plans
    assert torch.equal(actions[1][[0, 2]], plans[0].actions[[0, 2], 1])
    assert torch.equal(actions[1][1], plans[1].action[0])
    assert torch.equal(actions[2][1], plans[1].actions[0, 1])
    assert torch.equal(actions[2][[0, 2]], plans[2].action)
    assert torch.equal(starts[1][[0, 2]], starts[0][[0, 2]]) and torch.equal(starts[2][1], starts[1][1])


@pytest.mark.parametrize("spec", [OneHot(3), Categorical(3), Bounded(-1, 1, (2,))], ids=["one-hot", "index", "numbers"])
def test_what_is_carried_is_of_the_actions_kind(spec):
    policy = made(spec=spec)
    out = policy(TensorDict(policy.model.initial_state((4,)), [4]))
    assert spec.is_in(out["action"][0])
    assert policy.carried_spec().expand(4).is_in(out.select(*policy.carried_spec().keys()))


def test_it_acts_in_an_environment_and_plans_anew_with_each_episode():
    policy = made()
    rows, _ = watched(policy)
    agent = PlanningAgent(policy)
    env = TransformedEnv(GymWrapper(Counts()), Compose(InitTracker(), agent.real_policy.make_tensordict_primer()))
    env.rollout(6, agent.real_policy, break_when_any_done=False)  # episodes of three steps
    assert len(rows) == 4  # steps 0, 2 and, in the next episode, 3, 5
    again = PlanningAgent(made())
    again.load_state_dict(agent.state_dict())
    assert again.dreamed_steps == agent.dreamed_steps > 0


def test_what_cannot_be_executed_is_refused():
    with pytest.raises(ValueError, match="3 actions, of which 4"):
        made(executed=4)
    with pytest.raises(ValueError, match=r"ShiftedPlan\(steps=2\)"):
        made(cem)
    with pytest.raises(ValueError, match="executed"):
        made(executed=0)
