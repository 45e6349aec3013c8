"""Planners towards goals: against the authors' numbers, and against the papers' loops written out."""

import pytest
import torch
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from tests.support.golden_vectors import load
from tests.support.linear_world import LinearWorld
from wmcomponents.agents.planners import (
    DeadZone,
    EqualElites,
    GoalDistance,
    MeanSequence,
    SamplingSearch,
    Uniform,
    dino_wm_cem,
    dino_wm_gradient,
    eb_jepa_mppi,
    jepa_wms_cem,
    lewm_cem,
    lewm_gradient,
    toward_goal,
    vjepa2_ac_cem,
)
from wmcomponents.agents.planners.planner import IterationNoise, PlanNoise
from wmcomponents.codecs import Standardize
from wmcomponents.dream import GoalReward, GoalWorldModel
from wmcomponents.functional.pose import pose_after
from wmcomponents.testing.toy import ToyWorldModel
from wmcomponents.world_model import CapabilityError, Prediction, WorldModel


class Arm(WorldModel):
    """The recorded toy world: a step moves all patches by one map, and the pose as a robot's."""

    def __init__(self, step, gain, high=1.0):
        patches, width = len(gain), step.shape[1]
        super().__init__(
            observation_spec=Composite(observation=Unbounded(1)),
            action_spec=Bounded(-high, high, (7,)),
            state_spec=Composite(frame=Unbounded(torch.Size([patches, width])), pose=Unbounded(7)),
        )
        self.map, self.gain = step, gain

    @property
    def capabilities(self):
        return frozenset({"features"})

    def observe(self, state, action, observation, is_init, noise):
        return state

    def imagine(self, state, action, noise):
        frame = state["frame"] + (action @ self.map).unsqueeze(-2) * self.gain[:, None]
        return Prediction({"frame": frame, "pose": pose_after(state["pose"], action)}, None, None)

    def features(self, state):
        return state["frame"].flatten(-2).clone()


SETTINGS = {
    "default_momenta": {"momentum_mean": 0.25, "momentum_std": 0.95, "longest": 0.05},
    "notebook_momenta": {"momentum_mean": 0.15, "momentum_std": 0.75, "longest": 0.075},
    "close_gripper": {"momentum_mean": 0.25, "momentum_std": 0.95, "longest": 0.05, "close_gripper": 1},
}


def drawn_as_recorded(candidates, horizon, iterations):
    """Each iteration and step draws position and gripper; the rotation is not drawn."""
    torch.manual_seed(0)
    noises = []
    for _ in range(iterations):
        z = torch.zeros(1, candidates, horizon, 7)
        for step in range(horizon):
            z[0, :, step, [0, 1, 2, 6]] = torch.randn(candidates, 4)
        noises.append(IterationNoise({"z": z}, None, {}))
    return PlanNoise({}, None, {}, noises.__getitem__)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("high", [1.0, 2.5])
def test_v_jepa_2_acs_planner_is_the_authors_whatever_the_bounds(name, high):
    info, tensors = load("vjepa2_ac_cem")
    model = Arm(tensors["in.A"], tensors["in.patch_gain"], high)
    planner = vjepa2_ac_cem(model, candidates=60, elites=10, budget=5, **SETTINGS[name])
    state = {"frame": tensors["in.context"][:, 0], "pose": tensors["in.pose"][:, 0]}
    found = planner.plan(state, noise=drawn_as_recorded(60, 2, 5), given={"goal": tensors["in.goal"][:, 0].flatten(1)})
    torch.testing.assert_close(found.actions, tensors[f"out.{name}"], **info["tolerance"])


def test_an_axis_is_held_in_all_candidates_and_in_the_plan():
    planner = vjepa2_ac_cem(Arm(torch.rand(7, 6), torch.rand(4), 2.0), candidates=12, elites=3, axis={1: 0.04})
    seen = []
    score = planner.score
    planner.score = lambda candidates, *rest: (seen.append(candidates), score(candidates, *rest))[1]
    state = planner.model.initial_state((3,))
    found = planner.plan(state, generator=torch.Generator(), given={"goal": torch.zeros(3, 24)})
    assert all((candidates[..., 1] == 0.02).all() for candidates in seen)
    torch.testing.assert_close(found.actions[..., 1], torch.full((3, 2), 0.04))
    assert (found.actions[..., 3:6] == 0).all()


def test_a_gripper_rests_where_it_would_hardly_move():
    search = SamplingSearch(Uniform(), EqualElites(1), 1)
    sequence = torch.tensor([[[0.1, -0.2], [0.3, 0.25], [-0.3, -0.26]]])
    kept = DeadZone(MeanSequence(), torch.tensor([0.0, 0.25])).sequence(search.begin(sequence), {})
    sequence[0, 0, 1] = 0.0
    assert torch.equal(kept, sequence)


def test_another_action_than_a_grippers_is_refused():
    for spec in (Bounded(-1, 1, (2,)), Bounded(0, 1, (7,)), OneHot(7)):
        with pytest.raises(ValueError, match="seven numbers"):
            vjepa2_ac_cem(ToyWorldModel(Composite(observation=Unbounded(3)), spec))


WORLD = LinearWorld()
START, GOAL = torch.tensor([[0.4, -0.1]]), torch.tensor([[-0.2, 0.3]])
SCALE = Standardize(1).fit(torch.tensor([[-0.4], [0.6]]))  # actions around 0.1 with a deviation of 0.5


def ahead(pushes):
    """All motions that pushes ``[N, H, 1]`` lead through, ``[N, H, 2]``."""
    motion, motions = START.expand(len(pushes), -1), []
    for push in pushes.unbind(1):
        motion = motion @ WORLD.step.T + push @ WORLD.push.T
        motions.append(motion)
    return torch.stack(motions, 1)


def planned(planner, generator):
    return planner.plan({"motion": START}, generator=generator, given={"goal": GOAL}).actions[0]


@pytest.mark.parametrize("squares", ["mean", "sum"])
def test_dino_wms_and_leworldmodels_cross_entropy_method_is_the_papers_loop(squares):
    make = {"mean": dino_wm_cem, "sum": lewm_cem}[squares]
    small = {"horizon": 3, "candidates": 16, "elites": 4, "budget": 4, "std": 0.2}
    found = planned(make(WORLD, scale=SCALE, **small), torch.Generator().manual_seed(3))
    generator, mean, std = torch.Generator().manual_seed(3), torch.zeros(3, 1), 0.2 * torch.ones(3, 1)
    for _ in range(4):
        sampled = mean + std * torch.randn(16, 3, 1, generator=generator)
        sampled[0] = mean
        cost = getattr((ahead(0.1 + 0.5 * sampled)[:, -1] - GOAL).square(), squares)(-1)
        best = sampled[cost.argsort()[:4]]
        mean, std = best.mean(0), best.std(0)
    torch.testing.assert_close(found, 0.1 + 0.5 * mean, rtol=1e-4, atol=1e-5)


def test_dino_wms_planner_by_gradient_is_the_papers_loop():
    planner = dino_wm_gradient(WORLD, horizon=3, lr=0.3, noise=0.01, scale=SCALE, budget=5)
    found = planned(planner, torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    actions = torch.randn(1, 3, 1, generator=generator).clamp(-2.2, 1.8)  # what the bounds are in these units
    for _ in range(5):
        actions.requires_grad_()
        cost = (ahead(0.1 + 0.5 * actions)[:, -1] - GOAL).square().mean()
        (slope,) = torch.autograd.grad(cost, actions)
        actions = actions.detach() - 0.3 * slope + 0.01 * torch.randn(1, 3, 1, generator=generator)
        actions = actions.clamp(-2.2, 1.8)
    torch.testing.assert_close(found, 0.1 + 0.5 * actions[0], rtol=1e-4, atol=1e-5)


def test_leworldmodels_planner_by_gradient_is_adamw_and_executes_where_the_last_step_led():
    planner = lewm_gradient(WORLD, horizon=3, starts=4, lr=0.02, budget=5)
    found = planned(planner, torch.Generator().manual_seed(5))
    drawn = torch.randn(3, 3, 1, generator=torch.Generator().manual_seed(5))
    actions = torch.cat([torch.zeros(1, 3, 1), drawn]).clamp(-1, 1).requires_grad_()
    optimizer = torch.optim.AdamW([actions], lr=0.02, weight_decay=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        cost = (ahead(actions)[:, -1] - GOAL).square().sum(-1)
        cost.sum().backward()
        optimizer.step()
        with torch.no_grad():
            actions.clamp_(-1, 1)
    torch.testing.assert_close(found, actions[cost.argmin()].detach(), rtol=1e-3, atol=1e-4)


def test_jepa_wms_cross_entropy_method_clips_and_mixes_in_the_old_distribution():
    small = {"horizon": 3, "candidates": 16, "elites": 4, "budget": 4, "limit": 0.75}
    planner = jepa_wms_cem(WORLD, momentum_mean=0.3, momentum_std=0.6, scale=SCALE, **small)
    found = planned(planner, torch.Generator().manual_seed(3))
    generator, mean, std = torch.Generator().manual_seed(3), torch.zeros(3, 1), torch.ones(3, 1)
    for _ in range(4):
        sampled = (mean + std * torch.randn(16, 3, 1, generator=generator)).clamp(-0.75, 0.75)
        best = sampled[(ahead(0.1 + 0.5 * sampled)[:, -1] - GOAL).square().mean(-1).argsort()[:4]]
        mean, std = 0.7 * best.mean(0) + 0.3 * mean, 0.4 * best.std(0) + 0.6 * std
    torch.testing.assert_close(found, 0.1 + 0.5 * mean, rtol=1e-4, atol=1e-5)


def test_eb_jepas_path_integral_control_weighs_the_best_by_the_cost_of_the_whole_way():
    planner = eb_jepa_mppi(WORLD, horizon=3, candidates=16, elites=4, inverse_temperature=2.0, std=0.3, budget=3)
    generator = torch.Generator().manual_seed(3)
    noise = planner.draw((1,), generator)
    iterations = [noise.iterations(i) for i in range(3)]
    noise = noise._replace(iterations=iterations.__getitem__)
    found = planner.plan({"motion": START}, noise=noise, given={"goal": GOAL}, explore=True)
    mean, std = torch.zeros(3, 1), 0.3 * torch.ones(3, 1)
    for one in iterations:
        sampled = mean + std * one.search["z"][0]
        cost = (ahead(sampled) - GOAL).square().mean(-1).sum(1)
        order = cost.argsort()[:4]
        best, weight = sampled[order], torch.exp(2.0 * (cost.min() - cost[order]))
        weight = (weight / weight.sum())[:, None, None]
        mean = (weight * best).sum(0)
        std = (weight * (best - mean).square()).sum(0).sqrt()
    drawn = (weight[:, 0, 0].log() - noise.choice["exponential"][0].log()).argmax()
    torch.testing.assert_close(found.actions[0], best[drawn], rtol=1e-4, atol=1e-5)
    first = best[drawn, 0] + std[0] * noise.choice["explore"][0]
    torch.testing.assert_close(found.action[0], first, rtol=1e-4, atol=1e-5)


def test_a_goal_comes_from_the_state_or_from_the_entry_beside_it():
    toy = ToyWorldModel(Composite(observation=Unbounded(3)), Bounded(-1, 1, (2,)))
    assert toward_goal(toy).keys == ("goal",)
    small = {"horizon": 2, "candidates": 8, "elites": 2, "budget": 2}
    with_goals = GoalWorldModel(toy, GoalReward(toy))
    state = {**toy.initial_state((2,)), **with_goals.goal_state({"observation": torch.rand(2, 3)})}
    inside = dino_wm_cem(with_goals, **small).plan(state, generator=torch.Generator().manual_seed(1))
    beside = dino_wm_cem(toy, **small).plan(
        toy.initial_state((2,)), generator=torch.Generator().manual_seed(1), given={"goal": state["goal"]}
    )
    assert torch.equal(inside.actions, beside.actions) and inside.actions.abs().sum() > 0


def test_a_model_without_features_needs_an_objective():
    blind = ToyWorldModel(Composite(observation=Unbounded(3)), Bounded(-1, 1, (2,)), parts=("reward", "decode"))
    with pytest.raises(CapabilityError, match="objective"):
        dino_wm_cem(blind)
    observed = GoalDistance.observation(blind, "observation", torch.zeros(3))
    assert dino_wm_cem(blind, observed).objective is observed


def test_choices_are_planned_for_towards_goals():
    toy = ToyWorldModel(Composite(observation=Unbounded(3)), OneHot(3))
    state, goal = toy.initial_state((2,)), {"goal": toy.features(toy.initial_state((2,)))}
    for make in (dino_wm_cem, lewm_cem, jepa_wms_cem, eb_jepa_mppi):
        planner = make(toy, horizon=2, candidates=8, elites=2, budget=2)
        found = planner.plan(state, generator=torch.Generator(), given=goal)
        assert found.actions.shape == (2, 2, 3) and (found.actions.sum(-1) == 1).all()
    with pytest.raises(ValueError, match="numbers"):
        dino_wm_gradient(toy)
