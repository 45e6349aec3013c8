"""Where dreaming pays: steps a second of dreams of CartPole through every adapter, beside real environments."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor
from torchrl.data import Composite, OneHot, Unbounded

from benchmarks.measuring import Setup, interleaved, row
from wmcomponents.component import Component
from wmcomponents.dream.starts import PoolStarts
from wmcomponents.integrations.gymnasium import DreamVectorEnv
from wmcomponents.integrations.sb3 import DreamVecEnv
from wmcomponents.integrations.torchrl import TorchRLDreamEnv
from wmcomponents.models import DreamerV3, DreamerV3Config

STEPS = 20
"""Environment steps in one timed call."""

CONFIGS = {"tiny": DreamerV3Config.tiny, "size1m": DreamerV3Config.size1m}


class Push(Component):
    """The same action for every row, whatever is seen."""

    def __init__(self, batch: int, device: str) -> None:
        super().__init__(["observation"], ["action"])
        self.action = torch.nn.functional.one_hot(torch.arange(batch, device=device) % 2, 2)

    def compute(self, observation: Tensor) -> Tensor:
        """The action."""
        return self.action


def dreams(config: str, batch: int, setup: Setup) -> dict[str, Callable[[], Any]]:
    """``STEPS`` steps of each adapter, with decoded observations; episodes of 500 steps, as in CartPole-v1."""
    torch.manual_seed(0)
    spec = Composite(observation=Unbounded(4))
    model = DreamerV3(CONFIGS[config](), spec, OneHot(2)).to(setup.device).eval()
    pool = PoolStarts({key: value for key, value in model.initial_state((256,), setup.device).items()})
    # Weights are random: episodes end by their horizon, as those of a good agent do.
    options: dict[str, Any] = {"starts": pool, "termination": "off", "horizon": 500}
    actions = np.arange(batch) % 2

    vector = DreamVectorEnv(model, batch, **options)
    vector.reset(seed=0)
    vec = DreamVecEnv(model, batch, **options)
    vec.reset()
    env = TorchRLDreamEnv(model, [batch], **options)
    policy = Push(batch, setup.device)

    def stepper(step: Callable[[Any], Any]) -> Callable[[], None]:
        def call() -> None:
            for _ in range(STEPS):
                step(actions)

        return call

    runs: dict[str, Callable[[], Any]] = {
        "DreamVectorEnv": stepper(vector.step),
        "DreamVecEnv": stepper(vec.step),
        "TorchRLDreamEnv": lambda: env.rollout(STEPS, policy, break_when_any_done=False),
    }
    if setup.compiled:
        swift = DreamVecEnv(model, batch, compile=True, **options)
        swift.reset()
        runs["DreamVecEnv, compiled"] = stepper(swift.step)
    return runs


def cartpoles(batch: int) -> dict[str, Callable[[], Any]]:
    """``STEPS`` steps of the real CartPole."""
    real = gymnasium.make_vec("CartPole-v1", num_envs=batch, vectorization_mode="vector_entry_point")
    real.reset(seed=0)
    actions = np.arange(batch) % 2

    def call() -> None:
        for _ in range(STEPS):
            real.step(actions)

    return {"real CartPole, NumPy vectorised": call}


def others() -> dict[str, Callable[[], Any]]:
    """``STEPS`` steps of other real environments, one at a time, where they are installed."""
    runs: dict[str, Callable[[], Any]] = {}
    if find_spec("ale_py"):
        import ale_py

        gymnasium.register_envs(ale_py)
        pong = gymnasium.make("ALE/Pong-v5")
        pong.reset(seed=0)

        def play() -> None:
            for _ in range(STEPS):
                _, _, terminated, truncated, _ = pong.step(0)
                if terminated or truncated:
                    pong.reset()

        runs["real ALE/Pong-v5, 210x160x3"] = play
    if find_spec("dm_control"):
        from dm_control import suite

        walker = suite.load("walker", "walk", task_kwargs={"random": 0})
        action = np.zeros(walker.action_spec().shape)

        def walk() -> None:
            for _ in range(STEPS):
                if walker.step(action).last():
                    walker.reset()

        walker.reset()
        runs["real dm_control walker-walk"] = walk
    return runs


def measure(
    setup: Setup, configs: tuple[str, ...] = ("tiny", "size1m"), batches: tuple[int, ...] = (1, 64, 1024)
) -> list[dict[str, Any]]:
    """One row for each batch, model and adapter, and one for each real environment."""
    rows = []
    with setup.threaded():
        for batch in batches:
            real = cartpoles(batch)
            runs = dict(real)
            for config in configs:
                torch.compiler.reset()
                runs |= {f"{name} ({config})": run for name, run in dreams(config, batch, setup).items()}
            times = interleaved(runs, setup)
            for name in runs:
                rivals = () if name in real else tuple(real)
                rows.append(
                    row(times, name, work=f"CartPole, B={batch}", config="", rivals=rivals, steps=STEPS * batch)
                )
        runs = others()
        times = interleaved(runs, setup)
        rows += [row(times, name, work="other environments, one at a time", config="", steps=STEPS) for name in runs]
    return rows
