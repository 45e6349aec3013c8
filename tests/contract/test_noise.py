"""The luck of a dream through every adapter, for every model: the same noise, the same dream."""

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from tests.support.drive import actions, some_states, view_of
from wmcomponents.dream import MODE, FixedStarts, Simulator, StepNoise, draw_noise, imagine
from wmcomponents.integrations.gymnasium import DreamEnv, DreamVectorEnv
from wmcomponents.integrations.sb3 import DreamVecEnv
from wmcomponents.integrations.spaces import ObservationWriter
from wmcomponents.integrations.torchrl import TorchRLDreamEnv, TorchRLStatelessDreamEnv

ROWS, STEPS = 2, 3


def told(env, action):
    """A step of an adapter as tensors: rewards and ends ``[rows, 1]``."""
    if isinstance(env, (TorchRLDreamEnv, TorchRLStatelessDreamEnv)):
        following = env.step(env.now.set("action", action))["next"]
        env.now = following.exclude("reward")
        return following["reward"], following["terminated"]
    as_env = env.write({"action": action.numpy()})["action"]
    _, rewards, ends, *_ = env.step(as_env[0] if isinstance(env, DreamEnv) else as_env)
    if isinstance(env, DreamVecEnv):
        return torch.as_tensor(rewards).reshape(-1, 1), None
    return torch.as_tensor(rewards).reshape(-1, 1), torch.as_tensor(ends).reshape(-1, 1)


def adapters(model, rows, **options):
    """Every adapter over the same start states, begun; one row has the single environment too."""
    from torchrl.data import Composite

    states = some_states(model, rows)
    options = {"starts": FixedStarts(states), "view": view_of(model), **options}
    envs = {
        "DreamVectorEnv": DreamVectorEnv(model, rows, **options),
        "DreamVecEnv": DreamVecEnv(model, rows, **options),
        "TorchRLDreamEnv": TorchRLDreamEnv(model, [rows], **options),
        "TorchRLStatelessDreamEnv": TorchRLStatelessDreamEnv(model, **options),
    }
    if rows == 1:
        envs["DreamEnv"] = DreamEnv(model, **options)
    for env in envs.values():
        if isinstance(env, TorchRLStatelessDreamEnv):
            env.now = env.reset(TensorDict(batch_size=[rows]))
        elif isinstance(env, TorchRLDreamEnv):
            env.now = env.reset()
        else:
            env.reset()
            env.write = ObservationWriter(Composite(action=model.action_spec))
    return envs


def states_of(env, model):
    if isinstance(env, TorchRLStatelessDreamEnv):
        return {key: env.now[key] for key in model.state_spec.keys()}
    return env.simulator.state


@pytest.mark.parametrize("rows, luck", [(1, "given"), (ROWS, "given"), (ROWS, "mode")])
def test_the_same_noise_is_the_same_dream_through_every_adapter(model, rows, luck):
    given = draw_noise(model, STEPS, rows, torch.Generator().manual_seed(1))
    given = StepNoise(given.z, torch.full_like(given.end, 0.0))  # no row ends, so that none restarts
    noise = given if luck == "given" else "mode"
    options = {} if luck == "given" else {"termination": "off", "horizon": 9}
    simulator = Simulator(model, FixedStarts(some_states(model, rows)), batch_size=rows, view=view_of(model), **options)
    simulator.reset()
    envs = adapters(model, rows, noise=noise, **options)
    for step in range(STEPS):
        action = actions(model, rows, seed=step)
        at = StepNoise({key: value[step] for key, value in given.z.items()}, given.end[step])
        before = {key: value.clone() for key, value in simulator.state.items()}
        expected = simulator.step(action, noise=at if luck == "given" else MODE)
        after, reward, _ = simulator.predict(before, action, (rows,), noise=at if luck == "given" else MODE)
        torch.testing.assert_close(reward, expected.reward)
        for name, env in envs.items():
            rewards, ends = told(env, action)
            assert torch.equal(rewards, expected.reward), name
            assert ends is None or torch.equal(ends, expected.terminated), name
            for key, value in states_of(env, model).items():
                assert torch.equal(value, simulator.state[key]), (name, key)
                assert torch.equal(after[key], value), (name, key)


def test_a_seed_given_to_an_adapter_begins_its_noise_again(model):
    noise = draw_noise(model, 2, ROWS, torch.Generator().manual_seed(1))
    noise = StepNoise(noise.z, torch.zeros_like(noise.end))
    reset = {
        "DreamVectorEnv": lambda env: env.reset(seed=0),
        "DreamVecEnv": lambda env: (env.seed(0), env.reset()),
        "TorchRLDreamEnv": lambda env: (env.set_seed(0), setattr(env, "now", env.reset())),
    }
    for name, env in adapters(model, ROWS, noise=noise).items():
        if name in reset:
            first = [told(env, actions(model, ROWS, seed=step))[0] for step in range(2)]
            reset[name](env)
            again = [told(env, actions(model, ROWS, seed=step))[0] for step in range(2)]
            assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True)), name


def test_imagination_shares_the_noise(model):
    noise = draw_noise(model, STEPS, ROWS, torch.Generator().manual_seed(1))
    states = some_states(model, ROWS)
    simulator = Simulator(
        model, FixedStarts(states), batch_size=ROWS, view=view_of(model), termination="off", horizon=9, noise=noise
    )
    simulator.reset()
    taken = torch.stack([actions(model, ROWS, seed=step) for step in range(STEPS)])
    turns = iter(taken)
    with torch.no_grad():
        trajectory = imagine(model, lambda state: next(turns), states, STEPS, noise=noise.z)
    rewards = torch.stack([simulator.step(action).reward for action in taken], 1)
    np.testing.assert_allclose(trajectory["next", "reward"], rewards, rtol=1e-6, atol=1e-6)
