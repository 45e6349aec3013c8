"""The luck of a demo's rollouts."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch


def test_dreams_and_actions_of_a_rollout_draw_different_numbers_that_depend_on_the_rollout_alone():
    pytest.importorskip("stable_baselines3")
    from wmcomponents.cli.demo_agent import DreamAgent

    def drawn(number, steps):
        agent, dream = DreamAgent(0, None), torch.Generator()
        agent._ppo = SimpleNamespace(num_timesteps=steps)
        agent._begin(number, SimpleNamespace(simulator=SimpleNamespace(seed=dream.manual_seed)))
        return torch.rand((), generator=dream).item(), torch.rand(()).item(), np.random.rand()

    with torch.random.fork_rng(devices=[]):
        rollouts = [drawn(number, steps) for number in (0, 1) for steps in (0, 1024)]
        assert rollouts[2] == drawn(1, 0)
    assert len({value for rollout in rollouts for value in rollout}) == 12
