"""NWM's planner: straight lines over the ground, against its authors' numbers and its loop written out."""

import math

import pytest
import torch
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from tests.support.golden_vectors import load
from wmcomponents.agents.planners import NWM_LINES, StraightLine, nwm_cem
from wmcomponents.codecs import ActionVector
from wmcomponents.functional import poses_along
from wmcomponents.models import nwm_action_spec
from wmcomponents.world_model import Prediction, WorldModel


class Ground(WorldModel):
    """Poses that a robot's steps lead through, or places of moves; the goal is a place."""

    def __init__(self, spec):
        super().__init__(
            observation_spec=Composite(observation=Unbounded(1)),
            action_spec=spec,
            state_spec=Composite(pose=Unbounded(spec.shape[-1])),
        )

    @property
    def capabilities(self):
        return frozenset({"features"})

    def observe(self, state, action, observation, is_init, noise):
        return state

    def imagine(self, state, action, noise):
        pose = state["pose"]
        if pose.shape[-1] == 2:
            return Prediction({"pose": pose + action}, None, None)
        yaw, (forward, left, turn) = pose[..., 2], action.unbind(-1)
        step = [forward * yaw.cos() - left * yaw.sin(), forward * yaw.sin() + left * yaw.cos(), turn]
        return Prediction({"pose": pose + torch.stack(step, -1)}, None, None)

    def features(self, state):
        return state["pose"].clone()


ROBOT, MAP = Ground(nwm_action_spec()), Ground(Bounded(-2.0, 2.0, (2,)))


def test_published_lines_are_the_authors():
    info, tensors = load("nwm_action_utils")
    spec, vector = nwm_action_spec(), ActionVector(nwm_action_spec())
    line = torch.cat([tensors["in/plan_delta_xy_normalised"], torch.zeros(2, 1)], -1)
    plan = vector.inverse(StraightLine(spec, (1, 1, 1), as_published=True).sequence(line, 8))
    close = {key: max(value, 1e-5) for key, value in info["tolerance"].items()}
    torch.testing.assert_close(plan[..., :2], tensors["out/plan_unnormalised"], **close)
    torch.testing.assert_close(plan[..., 2:], tensors["out/plan_delta_yaw"], **close)


def test_a_robot_goes_straight_in_its_own_axes_and_turns_at_the_end():
    vector = ActionVector(nwm_action_spec())
    line = torch.tensor([[0.1, 0.05, 0.25], [-0.6, -0.2, -0.5]])
    plan = vector.inverse(StraightLine(nwm_action_spec(), (1, 1, 1)).sequence(line, 5))
    poses = poses_along(plan)
    steps = poses[:, 1:, :2] - poses[:, :-1, :2]
    first = vector.inverse(torch.cat([line[:, :2], torch.zeros(2, 1)], -1))[:, :2]
    torch.testing.assert_close(steps, first.unsqueeze(1).expand_as(steps), atol=1e-5, rtol=0)
    heading = torch.atan2(first[:, 1], first[:, 0])
    torch.testing.assert_close(poses[:, 1:-1, 2], heading.unsqueeze(1).expand(2, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(poses[:, -1, 2] - heading, math.pi * line[:, 2], atol=1e-5, rtol=0)


@pytest.mark.parametrize("as_published", [False, True])
def test_the_plan_is_the_papers_loop(as_published):
    """Two iterations, in which the turn that elites end with is taken times π twice in the published form."""
    goal = torch.tensor([3.0, 0.5, 0.4])
    planner = nwm_cem(ROBOT, horizon=4, candidates=12, elites=3, repeats=2, budget=2, as_published=as_published)
    state = {"pose": torch.zeros(1, 3)}
    found = planner.plan(state, generator=torch.Generator().manual_seed(0), given={"goal": goal.unsqueeze(0)})

    generator = torch.Generator().manual_seed(0)
    mean, std = (torch.tensor(numbers) for numbers in NWM_LINES["recon"])
    low, high = torch.tensor([-2.5, -4.0]), torch.tensor([5.0, 4.0])

    def steps(line):
        x, y = ((line[:2] + 1) / 2 * (high - low) + low).tolist()
        turns = [math.atan2(y, x), 0.0, 0.0, math.pi * float(line[2])]
        later = (x, y) if as_published else (math.hypot(x, y), 0.0)
        return torch.tensor([[*((x, y) if k == 0 else later), turns[k]] for k in range(4)])

    for _ in range(2):
        lines = mean + std * torch.randn(12, 3, generator=generator)
        costs = []
        for line in lines:
            pose = {"pose": torch.zeros(3)}
            for step in steps(line):
                pose = ROBOT.imagine(pose, step, None).state
            costs.append((pose["pose"] - goal).square().mean())
        best = lines[torch.stack(costs).argsort()[:3]]
        if as_published:
            best = best * torch.tensor([1.0, 1.0, math.pi])
        mean, std = best.mean(0), best.std(0)
    torch.testing.assert_close(found.actions[0], steps(mean), atol=1e-4, rtol=0)


def test_moves_on_a_map_are_repeated_and_come_nearer_to_the_goal():
    goal = torch.tensor([[4.0, -3.0], [-2.0, 5.0]])
    planner = nwm_cem(MAP, horizon=5, candidates=200, mean=(0.0, 0.0), std=(0.5, 0.5), budget=3)
    start = {"pose": torch.zeros(2, 2)}
    found = planner.plan(start, generator=torch.Generator().manual_seed(0), given={"goal": goal})
    assert torch.equal(found.actions, found.actions[:, :1].expand(-1, 5, -1))
    torch.testing.assert_close(found.actions.sum(1), goal, atol=0.5, rtol=0)
    assert planner.particles == 3 and planner.dreamed_steps == 2 * 5 * 200 * 3 * 3


def test_a_plan_of_one_step_turns_to_where_it_goes_and_at_its_end():
    proposal = StraightLine(nwm_action_spec(), (0.1, 0.1, 0.1))
    line = torch.tensor([0.2, 0.1, 0.3])
    sequence = proposal.sequence(line, 1)
    torch.testing.assert_close(proposal.fit({}, sequence.expand(2, 1, 3), torch.full((2,), 0.5))["line"], line)


def test_other_actions_and_numbers_are_refused():
    for spec in (OneHot(3), Bounded(-1.0, 1.0, (4,)), Unbounded(2)):
        with pytest.raises(ValueError, match="two numbers"):
            StraightLine(spec, (1.0, 1.0))
    with pytest.raises(ValueError, match="as many deviations"):
        nwm_cem(MAP, std=(0.1,))
    with pytest.raises(ValueError, match="as many means"):
        nwm_cem(ROBOT, mean=(0.1, 0.1))
