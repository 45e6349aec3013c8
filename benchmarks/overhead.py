"""What the layers around a tiny world model cost, as ratios to a plain torch loop of the same maths in the same run."""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from wmcomponents.component import Component
from wmcomponents.dream.imagine import compiled_rollout, imagine
from wmcomponents.dream.simulator import Simulator
from wmcomponents.dream.starts import PoolStarts
from wmcomponents.integrations.gymnasium import DreamVectorEnv
from wmcomponents.integrations.sb3 import DreamVecEnv
from wmcomponents.integrations.torchrl import TorchRLDreamEnv
from wmcomponents.world_model import Prediction, State, WorldModel

LATENT, ACTION, HIDDEN = 32, 4, 64
STEPS = 15
"""Imagined steps in one timed call."""

TARGETS = {
    "simulator": (1.5, 1.3, 1.05),
    "gymnasium": (1.5, 1.3, 1.05),
    "sb3": (1.5, 1.3, 1.05),
    "imagine": (1.5, 1.4, 1.1),
    "imagine_compiled": (0.6, 0.7, 0.85),
    "imagine_compiled_cpp": (0.6, 0.7, 0.85),
    "imagine_cudagraph": (0.6, 0.7, 0.85),
    "torchrl": (5.0, 3.5, 1.8),
}
"""Ratios to the plain loop that are to be met, at batch 1, 64 and 1024."""


class TinyWorld(WorldModel):
    """A residual MLP on a latent vector with a linear reward: cheap enough that everything around it shows."""

    def __init__(self) -> None:
        super().__init__(
            observation_spec=Composite(observation=Unbounded(LATENT)),
            action_spec=Bounded(-1, 1, torch.Size([ACTION])),
            state_spec=Composite(z=Unbounded(LATENT)),
        )
        self.hidden = nn.Linear(LATENT + ACTION, HIDDEN)
        self.out = nn.Linear(HIDDEN, LATENT)
        self.reward = nn.Linear(LATENT, 1)

    @property
    def capabilities(self) -> frozenset[str]:
        """Latent view and reward; it never ends."""
        return frozenset({"features", "reward"})

    def transition(self, z: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """The maths that every variant runs: the next latent and its reward."""
        z = z + self.out(torch.tanh(self.hidden(torch.cat([z, action], -1))))
        return z, self.reward(z)

    def observe(self, state, action, observation, is_init, noise):
        """Not measured."""
        return {"z": observation["observation"].clone()}

    def imagine(self, state, action, noise):
        """One dream step."""
        z, reward = self.transition(state["z"], action)
        return Prediction({"z": z}, reward, None)

    def features(self, state):
        """The latent itself."""
        return state["z"]


class LeanPolicy(Component):
    """A policy with names."""

    def __init__(self, net: Callable[[Tensor], Tensor], key: str) -> None:
        super().__init__([key], ["action"])
        self.net = net

    def compute(self, latent: Tensor) -> Tensor:
        """The policy's action."""
        return self.net(latent)


@dataclass
class Subject:
    """What is stepped.

    Attributes:
        model: the world model.
        policy: from what is shown to actions, as the model's ``action_spec`` says.
        pool: states that dreams begin in, ``[N, ...]`` with N at least the batch.
        plain: ``STEPS`` steps of the same maths from given states, as one would write them without this library.
        key: what is shown: ``"latent"``, the features; or the one observation that the model decodes.
    """

    model: WorldModel
    policy: Callable[[Tensor], Tensor]
    pool: State
    plain: Callable[[State], Any]
    key: str = "latent"

    def look(self, state: State) -> Tensor:
        """What a state shows."""
        return self.model.features(state) if self.key == "latent" else self.model.decode(state)[self.key]


def tiny(batch: int, device: str = "cpu") -> Subject:
    """The tiny world under a linear policy."""
    world = TinyWorld().eval().to(device)
    policy = nn.Linear(LATENT, ACTION, device=device)

    def plain(start: State) -> tuple[Tensor, ...]:
        z, zs, actions, rewards = start["z"], [], [], []
        for _ in range(STEPS):
            action = policy(z)
            z, reward = world.transition(z, action)
            zs.append(z)
            actions.append(action)
            rewards.append(reward)
        return torch.stack(zs), torch.stack(actions), torch.stack(rewards)

    return Subject(world, policy, {"z": torch.randn(max(batch, 64), LATENT, device=device)}, plain)


def variants(
    batch: int, compiled: bool = True, device: str = "cpu", subject: Subject | None = None
) -> dict[str, Callable[[], Any]]:
    """One call of each is ``STEPS`` steps of ``batch`` rows; ``plain`` is what the others are measured against.

    Args:
        batch: rows.
        compiled: compiled imagination too.
        device: where the subject is.
        subject: what is stepped; the tiny world if not given.
    """
    subject = tiny(batch, device) if subject is None else subject
    world, policy, pool = subject.model, subject.policy, PoolStarts(subject.pool)
    start = {key: value[:batch].clone() for key, value in subject.pool.items()}
    # Long episodes: the horizon is checked at every step and reached at none that is timed.
    view, key = "latent" if subject.key == "latent" else "decoded", subject.key
    options: dict[str, Any] = {"starts": pool, "view": view, "termination": "off", "horizon": 1_000_000}

    simulator = Simulator(world, batch_size=batch, **options)
    first = simulator.reset()

    def simulated() -> None:
        shown = first[key]
        for _ in range(STEPS):
            shown = simulator.step(policy(shown)).observation[key]

    is_one_hot = isinstance(world.action_spec, OneHot)

    def decide(latent: Any) -> np.ndarray:
        seen = torch.from_numpy(latent)
        action = policy(seen if device == "cpu" else seen.to(device))
        action = action.argmax(-1) if is_one_hot else action
        return action.numpy() if device == "cpu" else action.cpu().numpy()

    vector = DreamVectorEnv(world, batch, **options)
    seen, _ = vector.reset(seed=0)

    def gymnasium() -> None:
        latent = seen
        for _ in range(STEPS):
            latent = vector.step(decide(latent))[0]

    vec = DreamVecEnv(world, batch, **options)
    shown = vec.reset()

    def sb3() -> None:
        latent = shown
        for _ in range(STEPS):
            latent = vec.step(decide(latent))[0]

    env = TorchRLDreamEnv(world, [batch], **options)
    lean = LeanPolicy(policy, key)

    def torchrl() -> TensorDictBase:
        return env.rollout(STEPS, lean, break_when_any_done=False)

    def act(state: State) -> Tensor:
        return policy(subject.look(state))

    noise = torch.Generator(device).manual_seed(0)
    runs: dict[str, Callable[[], Any]] = {
        "plain": lambda: subject.plain(start),
        "simulator": simulated,
        "gymnasium": gymnasium,
        "sb3": sb3,
        "imagine": lambda: imagine(world, act, start, STEPS, generator=noise),
        "torchrl": torchrl,
    }
    if compiled:
        scan = compiled_rollout()
        runs["imagine_compiled"] = lambda: imagine(world, act, start, STEPS, generator=noise, scan=scan)
        if device == "cpu":
            lean_scan = compiled_rollout(options={"cpp_wrapper": True})
            runs["imagine_compiled_cpp"] = lambda: imagine(world, act, start, STEPS, generator=noise, scan=lean_scan)
        else:
            graph_scan = compiled_rollout(mode="reduce-overhead")
            runs["imagine_cudagraph"] = lambda: imagine(world, act, start, STEPS, generator=noise, scan=graph_scan)
    return runs


def interleaved(
    runs: dict[str, Callable[[], Any]],
    repeats: int,
    clock: Callable[[], float],
    warmup: int = 5,
    wait: Callable[[], None] = lambda: None,
) -> dict[str, list[float]]:
    """Microseconds a step of every repeat; each repeat runs every variant, so that all see the same machine.

    A variant is run once untimed before it is timed: what the variant before it left in the caches is not its cost.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(-warmup, repeats):
        for name, run in runs.items():
            run()
            wait()
            begun = clock()
            run()
            wait()
            if repeat >= 0:
                times[name].append((clock() - begun) / STEPS * 1e6)
    return times


def measure(
    batches: tuple[int, ...] = (1, 64, 1024),
    repeats: int = 200,
    compiled: bool = True,
    cpu_time: bool = False,
    device: str = "cpu",
) -> dict[str, Any]:
    """The overhead table, one thread, no gradients.

    Args:
        batches: rows stepped at once.
        repeats: interleaved repeats; medians are reported.
        compiled: measure compiled imagination too, which needs a C++ compiler.
        cpu_time: count the process's own time instead of the clock's. On a machine with other work the clock is unfair
            to whatever runs longer than the scheduler's slice.
        device: ``"cpu"`` or ``"cuda"``.

    Returns:
        ``settings``, and for each batch (``"1"``, ``"64"``...) and variant ``us`` (median microseconds a step of the
        whole batch), ``range`` (the shortest and the longest), ``ratio`` (median over repeats of the ratio to the plain
        loop of the same repeat), and its ``target``.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        table: dict[str, Any] = {}
        for column, batch in enumerate(batches):
            torch.manual_seed(0)
            with torch.no_grad():
                clock = time.process_time if cpu_time else time.perf_counter
                wait = torch.cuda.synchronize if device == "cuda" else lambda: None
                times = interleaved(variants(batch, compiled, device), repeats, clock, wait=wait)
            plain = times["plain"]
            table[str(batch)] = {
                name: {
                    "us": round(statistics.median(values), 2),
                    "range": [round(min(values), 2), round(max(values), 2)],
                    "ratio": round(statistics.median(t / p for t, p in zip(values, plain, strict=True)), 3),
                    "target": TARGETS[name][column] if name in TARGETS and len(batches) == 3 else None,
                }
                for name, values in times.items()
            }
    finally:
        torch.set_num_threads(threads)
    return {"settings": settings(repeats) | {"clock": "cpu" if cpu_time else "wall"}, "steps": STEPS, "table": table}


def settings(repeats: int) -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "torch": torch.__version__,
        "threads": 1,
        "repeats": repeats,
        "device": "cpu",
        "dtype": "float32",
        "allocator": {
            name: os.environ.get(name, "default")
            for name in ("LD_PRELOAD", "MALLOC_CONF", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
        },
    }


def markdown(result: dict[str, Any]) -> str:
    """The table, one row a variant."""
    table = result["table"]
    lines = ["| | " + " | ".join(f"B={batch}" for batch in table) + " |", "|---" * (len(table) + 1) + "|"]
    for name in next(iter(table.values())):
        cells = []
        for batch in table:
            cell = table[batch][name]
            target = f", at most {cell['target']}" if cell["target"] else ""
            cells.append(f"{cell['us']:.1f} us (x{cell['ratio']:.2f}{target})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--no-compile", action="store_true", help="leave compiled imagination out")
    parser.add_argument("--cpu-time", action="store_true", help="count this process's own time: for a busy machine")
    parser.add_argument("--json", action="store_true", help="print JSON instead of Markdown")
    arguments = parser.parse_args()
    measured = measure(repeats=arguments.repeats, compiled=not arguments.no_compile, cpu_time=arguments.cpu_time)
    print(json.dumps(measured, indent=2) if arguments.json else markdown(measured))
