"""What a newcomer does wrong in Python, and what each mistake answers: what was expected, what came, what to do."""

from functools import cached_property

import gymnasium
import pytest
import torch
from torchrl.data import Composite, OneHot, Unbounded

from wmcomponents.data import (
    action_spec,
    collect,
    make_env,
    make_replay,
    observation_spec,
)
from wmcomponents.dream import PriorStarts
from wmcomponents.integrations.gymnasium import DreamEnv, DreamVectorEnv
from wmcomponents.models import DreamerV3, DreamerV3Config
from wmcomponents.testing.toy import ToyWorldModel
from wmcomponents.training import Trainer


class World:
    """What the mistakes are made with, each part made when it is first asked for."""

    @cached_property
    def env(self):
        return make_env("CartPole-v1", seed=0)

    @cached_property
    def gym_env(self):
        return gymnasium.make("CartPole-v1")

    @cached_property
    def pendulum(self):
        return make_env("Pendulum-v1", seed=0)

    def buffer(self, env, frames):
        replay = make_replay(100, env, sequence_length=8, batch_size=2, seed=0, print_fn=None)
        if frames:
            collect(env, replay, frames, seed=0)
        return replay

    @cached_property
    def replay(self):
        return self.buffer(self.env, 60)

    @cached_property
    def empty(self):
        return self.buffer(self.env, 0)

    @cached_property
    def pendulum_replay(self):
        return self.buffer(self.pendulum, 60)

    @cached_property
    def specs(self):
        return observation_spec(self.env), action_spec(self.env)

    @cached_property
    def model(self):
        return DreamerV3(DreamerV3Config.tiny(deter=16, hidden=8, units=8), *self.specs)

    @cached_property
    def bare(self):
        return ToyWorldModel(Composite(observation=Unbounded(3)), OneHot(2), parts=())

    @property
    def states(self):
        return PriorStarts(self.model).sample(2, torch.Generator())

    def dream(self):
        dream = DreamEnv(self.model, horizon=5)
        dream.reset(seed=0)
        return dream

    def rows(self):
        rows = DreamVectorEnv(self.model, 3, horizon=5)
        rows.reset(seed=0)
        return rows

    def train(self, **changes):
        return Trainer(self.model, self.replay, progress=False, **changes)


@pytest.fixture(scope="module")
def world():
    return World()
