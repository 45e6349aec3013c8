"""TD-MPC2 and PlaNet as whole agents: they plan, learn from sequences, know tasks, and go on with a run."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from tests.support.models import MODELS
from tests.support.online_runs import Drift
from tests.support.real import Counts
from wmcomponents.agents import Agent, PlaNetAgent, TDMPC2Agent
from wmcomponents.data import make_env
from wmcomponents.models import TDMPC2Config
from wmcomponents.world_model import CapabilityError

PLAN = {"candidates": 12, "elites": 3, "budget": 1, "horizon": 2}
FEW = {
    **{"prefill": 8, "pretrain": 2, "updates_per_step": 0.5, "steps_between": 2, "batch_size": 2, "evaluate_every": 16},
    **{"sequence_length": 3, "evaluate_episodes": 2, "capacity": 100},
}
SMALL = {
    TDMPC2Agent: {"latent": 32, "units": 16, "encoder_units": 16, "behaviour": {**PLAN, "proposals": 2}},
    PlaNetAgent: {"deter": 16, "hidden": 16, "stoch": 4, "units": 16, "depth": 2, "behaviour": PLAN},
}
KINDS = sorted(SMALL, key=lambda kind: kind.__name__)


def made(kind, env=Counts, **options):
    changes = {**FEW, **SMALL[kind], **options.pop("changes", {})}
    return kind.tiny(env, changes=changes, progress=False, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_it_plans_and_its_model_learns_from_the_steps(kind):
    agent = made(kind, num_envs=2)
    assert isinstance(agent, Agent) and agent.learns_from == "nothing"
    before = {name: p.clone() for name, p in agent.model.named_parameters()}
    metrics = agent.train(16)
    assert (agent.trainer.real_steps, agent.trainer.global_step) == (16, 6)
    assert agent.dreamed_steps > 0 and metrics["evaluation/return"] == 6.0  # 1 + 2 + 3, whatever is done
    trained = {name.partition(".")[0] for name, p in agent.model.named_parameters() if not p.equal(before[name])}
    assert {"encoder", "dynamics", "reward_head"} <= trained
    assert kind is PlaNetAgent or {"policy", "q", "target_q"} <= trained


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_in_pieces_is_the_run_in_one_piece_to_the_bit(kind, tmp_path):
    straight = made(kind, Drift)
    straight.train(19)
    made(kind, Drift, out=tmp_path).train(13)  # in the middle of an episode
    again = made(kind, Drift, out=tmp_path)
    assert again.trainer.real_steps == 13
    again.train(19)
    assert straight.trainer.evaluations == again.trainer.evaluations
    assert straight.trainer.episodes == again.trainer.episodes
    ours, theirs = (dict(one.model.state_dict()) for one in (straight, again))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


@pytest.mark.parametrize("kind", KINDS)
def test_it_acts_on_images(kind):
    shown = make_env(lambda: Counts(as_dict=True), image_size=64)
    agent = made(kind, shown, changes={"evaluate_every": 0, "channels" if kind is TDMPC2Agent else "depth": 2})
    agent.train(10)
    assert agent.trainer.global_step == 3


class TwoTasks(gymnasium.Env):
    """Shows which of two tasks the episode is of, whose actions have one and two entries."""

    observation_space = spaces.Dict(observation=spaces.Box(-1, 1, (3,), np.float32), task=spaces.Discrete(2))
    action_space = spaces.Box(-1, 1, (2,), np.float32)

    def _shown(self):
        return {"observation": np.full(3, 0.1 * self.clock, np.float32), "task": self.task}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.task, self.clock = int(self.np_random.integers(2)), 0
        return self._shown(), {}

    def step(self, action):
        self.clock += 1
        return self._shown(), float(action[0]), False, self.clock == 4, {}


def test_it_plans_for_the_task_that_the_environment_shows():
    tasks = {"task_size": 4, "action_sizes": (1, 2), "episode_lengths": (100, 500)}
    agent = made(TDMPC2Agent, TwoTasks, changes={**tasks, "evaluate_every": 0})
    agent.train(24)
    stored = agent.trainer.replay[:]
    planned = stored[8:]
    lacking = (planned["task"].argmax(-1) == 0).nonzero()[:, 0]
    assert 4 <= len(lacking) < len(planned) and (planned["action"][lacking, 1] == 0).all()
    assert agent.trainer.trainer.objective.discounts.tolist() == pytest.approx([0.95, 0.99])


def test_the_papers_numbers_are_beside_tiny():
    config = TDMPC2Agent._preset(TDMPC2Config.size5())
    times = config.schedule
    assert (config.batch_size, config.sequence_length, config.capacity) == (256, 3, 1_000_000)
    assert (times.prefill, times.pretrain, times.updates_per_step, times.steps_between) == (2500, 2500, 1.0, 1)
    assert config.lr is None and not config.behaviour


@pytest.mark.parametrize("kind", ["planet", "muzero-continuous"])
def test_another_model_is_refused_with_the_planner_that_would_do(kind):
    with pytest.raises(CapabilityError, match=r"planners.mppi|value"):
        TDMPC2Agent.behaviour_in(dict(MODELS)[kind]())
